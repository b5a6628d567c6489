// SPDX-License-Identifier: Apache-2.0
/** QUIC (RFC 9000), which is UDP at its most demanding: a handshake of full-size datagrams, path MTU probes, bursts, GSO. */
import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Guest, type Lab, makeLab, NET } from '../support/lab.mjs';
import { waitFor } from '../support/process.mjs';
import { FAMILIES } from '../support/programs.ts';

const PORT = 4433;
const FILE_BYTES = 20_000_000;
const DOWNLOADS = 4;

const hashOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
/** Bytes that are the same in each run and compress to nothing. */
const numbered = (): Buffer => {
  const blocks = Array.from({ length: Math.ceil(FILE_BYTES / 32) }, (_, i) =>
    createHash('sha256').update(String(i)).digest(),
  );
  return Buffer.concat(blocks).subarray(0, FILE_BYTES);
};

describe('QUIC', () => {
  let lab: Lab;
  let guest: Guest;
  let expected = '';

  beforeAll(async () => {
    lab = await makeLab({ mtu: 1500 });
    const [key, certificate, docs] = ['key.pem', 'certificate.pem', 'docs'].map((name) => join(lab.dir, name)) as [
      string,
      string,
      string,
    ];
    const request = ['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
    await lab.remote.run([...request, '-keyout', key, '-out', certificate, '-days', '2', '-subj', `/CN=${NET.name}`]);
    mkdirSync(docs);
    const file = numbered();
    expected = hashOf(file);
    writeFileSync(join(docs, 'file'), file);
    for (const { server } of FAMILIES) {
      lab.remote.spawn(['gtlsserver', '-q', '-d', docs, server, String(PORT), key, certificate]);
      await waitFor(async () => (await lab.remote.run(['ss', '-Hlun', 'sport', '=', String(PORT)])).includes(server), {
        what: `the QUIC server on ${server}`,
      });
    }
    guest = await lab.guest(['--config-net']);
  });
  afterAll(() => lab.cleanup());

  const download = async (server: string, into: string): Promise<string> => {
    mkdirSync(into);
    // The guest's user is not ours.
    chmodSync(into, 0o777);
    const url = `https://${NET.name}:${PORT}/file`;
    const options = ['-q', '--exit-on-all-streams-close', `--download=${into}`];
    await guest.run(['gtlsclient', ...options, server, String(PORT), url], { timeoutMs: 60_000 });
    return hashOf(readFileSync(join(into, 'file')));
  };

  it.each(FAMILIES)('a download arrives whole over $family', async ({ family, server }) => {
    expect(await download(server, join(lab.dir, `one-${family}`))).toBe(expected);
  });

  it.each(FAMILIES)('several at once do, too, over $family', async ({ family, server }) => {
    const all = Array.from({ length: DOWNLOADS }, (_, i) => download(server, join(lab.dir, `${i}-${family}`)));
    expect(new Set(await Promise.all(all))).toEqual(new Set([expected]));
  });
});
