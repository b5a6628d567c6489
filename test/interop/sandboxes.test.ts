// SPDX-License-Identifier: Apache-2.0
/** The recipes of docs/SANDBOXES.md, run as they are written there, with the real bubblewrap, by an ordinary user. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { descendants, type Lab, makeLab, NET, REPOSITORY, type Side } from '../support/lab.mjs';
import { isAlive, type Started, searchPath, status, waitFor } from '../support/process.mjs';

const HTTP_PORT = 8080;
const HOST_PORT = 8300;
/** Of 100 octets, as http.mjs sends them: it is a server that answers any other path, too. */
const PAGE = '/download/100';

/** Blocks of commands in the text, by the heading above them. */
const recipes = new Map<string, string>();
let heading = '';
for (const [, title, block] of readFileSync(join(REPOSITORY, 'docs/SANDBOXES.md'), 'utf8').matchAll(
  /^#+ (.+)$|^```sh\n([\s\S]*?)^```$/gm,
)) {
  if (title !== undefined) heading = title;
  else if (block !== undefined) recipes.set(heading, block);
}

let lab: Lab;
let page: string;
const serve = async (side: Side, address: string, port: number): Promise<void> => {
  const server = side.spawn([process.execPath, join(REPOSITORY, 'test/support/http.mjs'), 'serve', address, `${port}`]);
  await waitFor(() => server.out().includes('listening') || server.child.exitCode !== null, { what: 'a server' });
  expect(server.err()).toBe('');
};
beforeAll(async () => {
  lab = await makeLab();
  await Promise.all([
    serve(lab.remote, NET.server4, HTTP_PORT),
    serve(lab.host, NET.host4, HOST_PORT),
    serve(lab.host, '127.0.0.1', HOST_PORT + 1),
  ]);
  page = await lab.host.run(['curl', '-sS', `http://${NET.host4}:${HOST_PORT}${PAGE}`]);
});
afterAll(async () => lab?.cleanup());

/** The recipe below a heading, asking our server for the page. */
const recipe = (name: string): string => {
  const block = recipes.get(name);
  if (block === undefined) throw new Error(`docs/SANDBOXES.md has no commands below ${name}`);
  return block
    .replace('http://example.org/', `http://${NET.name}:${HTTP_PORT}${PAGE}`)
    .replace(`http://192.0.2.2:8300/`, `http://${NET.host4}:${HOST_PORT}${PAGE}`)
    .replaceAll('192.0.2.2', NET.host4);
};
const env = (more: Record<string, string> = {}): Record<string, string> => ({
  PATH: `${dirname(lab.binary)}:${searchPath()}`,
  ...more,
});
const attempt = (script: string, more?: Record<string, string>) =>
  lab.user.attempt(['sh', '-c', script], { env: env(more), timeoutMs: 20_000 });

describe('bubblewrap', () => {
  it.each(['pasta first', 'bwrap first', 'One port of the host'])('%s', async (name) => {
    const before = new Set(lab.processes());
    const done = await attempt(recipe(name));
    expect(done).toMatchObject({ status: 0, stdout: page, timedOut: false });
    await waitFor(() => !lab.processes().some((pid) => !before.has(pid)), { what: 'the end of all' });
  });

  it.each([
    ['pasta first', NET.host4, HOST_PORT],
    ['bwrap first', NET.gateway4, HOST_PORT + 1],
    ['One port of the host', NET.host4, HOST_PORT + 1],
    ['pasta first', '127.0.0.1', HOST_PORT + 1],
  ])('%s: not to %s, port %i', async (name, address, port) => {
    const url = `--max-time 3 http://${address}:${port}${PAGE}`;
    const script = recipe(name).replace(/http:\S+/, url);
    expect([7, 28]).toContain((await attempt(script)).status);
  });

  it('with pasta first, the program has no right to its network', async () => {
    const script = recipe('pasta first').replace(/curl .*/, 'ip link set lo down');
    expect((await attempt(script)).stderr).toContain('Operation not permitted');
  });

  it('bwrap first: does not run the program without a network', async () => {
    const script = recipe('bwrap first')
      .replace('--config-net', '--config-net --mtu 1')
      .replace(/curl -sS \S+/, 'echo ran');
    const done = await attempt(script);
    expect(done.stdout).toBe('');
    expect(done.status).not.toBe(0);
    expect(done.timedOut).toBe(false);
  });

  it('A server in a sandbox', async () => {
    const server = lab.user.spawn(['sh', '-c', recipe('A server in a sandbox')], { env: env() });
    const answer = await waitFor(
      async () => (await lab.host.attempt(['busybox', 'nc', '-w', '2', '127.0.0.1', '8081'])).stdout,
      { what: 'an answer' },
    );
    expect(answer).toBe('served\n');
    await server.closed;
  });
});

/** A namespace held by a process of the ordinary user, and that process as the lab sees it. */
const target = async (): Promise<{ holder: Started; pid: string; inside: Side }> => {
  const holder = lab.user.spawn(['unshare', '--user', '--map-root-user', '--net', 'sh', '-c', 'echo made; exec cat'], {
    stdin: 'pipe',
  });
  await waitFor(() => holder.out().includes('made'), { what: 'a target namespace' });
  const pid = status(holder.pid())['NSpid']?.split(/\s+/)[1] ?? '';
  return { holder, pid, inside: lab.into(pid) };
};

describe('nsjail', () => {
  it.each(['the jail', 'nsjail'])('its command line gives a network, until %s ends', async (which) => {
    const { holder, pid, inside } = await target();
    const started = `exec setpriv --pdeathsig KILL sh -c '${recipe('nsjail')}' </dev/null >/dev/null 2>&1 & echo on; read end`;
    const nsjail = lab.user.spawn(['sh', '-c', started], { env: env({ pid }), stdin: 'pipe' });
    const address = await waitFor(
      async () =>
        /inet (10\.255\.255\.2\/24) /.exec((await inside.attempt(['ip', 'address', 'show', 'eth0'])).stdout)?.[1],
      { what: 'the address' },
    );
    expect(address).toBe('10.255.255.2/24');
    const url = `http://${NET.server4}:${HTTP_PORT}${PAGE}`;
    expect(await inside.run(['curl', '-sS', '--retry', '5', '--retry-all-errors', url])).toBe(page);
    const all = descendants(nsjail.pid());
    expect(all.length).toBeGreaterThan(1);
    if (which === 'nsjail') nsjail.kill('SIGKILL');
    else holder.child.stdin?.end();
    await waitFor(() => !all.some(isAlive), { what: 'the end of pasta' });
    holder.child.stdin?.end();
    nsjail.child.stdin?.end();
    await Promise.all([holder.closed, nsjail.closed]);
  });
});

it('unshare', async () => {
  expect(await attempt(recipe('unshare, or anything with a process'))).toMatchObject({
    status: 0,
    stdout: page,
    timedOut: false,
  });
});
