// SPDX-License-Identifier: Apache-2.0
/** Rootless Docker of Debian 13, unmodified, whose dockerd-rootless.sh finds our slirp4netns on PATH. */
import { readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TREES } from '../../scripts/lib/debian-tree.mjs';
import { commandName, descendants, type Lab, makeLab, NET, REPOSITORY } from '../support/lab.mjs';
import { type Started, waitFor } from '../support/process.mjs';
import { allGone } from '../support/rootlesskit.ts';
import { noTreeMachine, type TreeMachine, treeMachine } from '../support/tree-machine.ts';

const BYTES = 1 << 20;
const HTTP_PORT = 8080;
const PUBLISHED = 18_988;
const API = '/run/user/1000/docker.sock';

const why = noTreeMachine();
if (why) console.log(`rootless Docker is not tested: ${why}`);

describe.skipIf(why)('rootless Docker', () => {
  let lab: Lab;
  let machine: TreeMachine;
  let docker: Started;
  let hash: string;

  const api = async (path: string, ...args: readonly string[]): Promise<string> => {
    const json = ['-H', 'Content-Type: application/json', '--max-time', '30'];
    return machine.user.run([
      'curl',
      '-sS',
      '--fail-with-body',
      '--unix-socket',
      API,
      ...json,
      ...args,
      `http://docker${path}`,
    ]);
  };
  const run = async (name: string, config: object): Promise<void> => {
    await api(`/containers/create?name=${name}`, '-d', JSON.stringify({ Image: 'scratch-busybox', ...config }));
    await api(`/containers/${name}/start`, '-X', 'POST');
  };

  beforeAll(async () => {
    lab = await makeLab();
    machine = await treeMachine(lab, {}, TREES.docker);
    const http = [process.execPath, join(REPOSITORY, 'test/support/http.mjs'), 'serve', NET.server4, `${HTTP_PORT}`];
    const server = lab.remote.spawn(http);
    docker = machine.user.spawn(['/usr/share/docker.io/contrib/dockerd-rootless.sh', '--storage-driver=vfs']);
    await waitFor(() => server.out().includes('listening'), { what: 'the server' });
    const url = `http://${NET.server4}:${HTTP_PORT}/download/${BYTES}`;
    hash = (await lab.host.run(['sh', '-c', `curl -sS ${url} | sha256sum`])).slice(0, 64);
    await waitFor(async () => (await machine.user.attempt(['test', '-S', API])).status === 0, {
      what: `the daemon: ${docker.err().slice(-2000)}`,
      timeoutMs: 30_000,
    });
    const tar = 'mkdir -p /tmp/image/bin && cd /tmp/image && cp /bin/busybox bin/ && tar -c . >/tmp/image.tar';
    await machine.user.run(['sh', '-c', tar]);
    const type = ['-H', 'Content-Type: application/x-tar', '--data-binary', '@/tmp/image.tar'];
    await api('/images/create?fromSrc=-&repo=scratch-busybox', ...type);
  });
  afterAll(async () => lab?.cleanup());

  it('runs on our slirp4netns', () => {
    const tool = descendants(docker.pid()).find((pid) => commandName(pid) === 'slirp4netns');
    expect(readlinkSync(`/proc/${tool}/exe`)).toBe('/pastiche/dist/bin/pasta');
  });

  it('gives containers names and the network', async () => {
    const script = `/bin/busybox wget -qO- http://${NET.name}:${HTTP_PORT}/download/${BYTES} | /bin/busybox sha256sum`;
    await run('ask', { Tty: true, Cmd: ['/bin/busybox', 'sh', '-c', script] });
    expect(JSON.parse(await api('/containers/ask/wait', '-X', 'POST'))).toMatchObject({ StatusCode: 0 });
    expect(await api('/containers/ask/logs?stdout=1&stderr=1')).toContain(hash);
  });

  it('publishes ports of containers, until they are removed', async () => {
    const port = { PortBindings: { '80/tcp': [{ HostIp: '127.0.0.1', HostPort: `${PUBLISHED}` }] } };
    const serve = ['/bin/busybox', 'httpd', '-f', '-p', '80', '-h', '/bin'];
    await run('web', { Cmd: serve, ExposedPorts: { '80/tcp': {} }, HostConfig: port });
    const url = `http://127.0.0.1:${PUBLISHED}/busybox`;
    const published = () => lab.host.attempt(['sh', '-c', `curl -sS --fail ${url} | sha256sum`]);
    const [sum = ''] = (await machine.user.run(['sha256sum', '/bin/busybox'])).split(' ');
    await waitFor(async () => (await published()).stdout.startsWith(sum), { what: 'the published port' });
    await api('/containers/web?force=1', '-X', 'DELETE');
    expect((await lab.host.attempt(['curl', '-s', url])).status).toBe(7);
  });

  it('leaves nothing when it ends', async () => {
    const all = [docker.pid(), ...descendants(docker.pid())];
    expect(all.length).toBeGreaterThan(5);
    docker.kill('SIGTERM');
    await docker.closed;
    await allGone(all);
  });
});
