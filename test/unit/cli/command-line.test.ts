// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { UsageError } from '../../../controller/cli/errors.ts';
import { getopt } from '../../../controller/cli/getopt.ts';
import { PERSONALITIES } from '../../../controller/cli/options/row.ts';
import { EARLY_ENUM, helpText, OPTION_ROWS, versionText } from '../../../controller/cli/options.ts';
import { parseCommandLine } from '../../../controller/cli/parse.ts';
import type { Settings } from '../../../controller/cli/settings.ts';
import { SLIRP_ROWS } from '../../../controller/cli/slirp/options.ts';

const words = (line: string): string[] => line.split(' ').filter((word) => word !== '');
const parse = (line: string): Settings => parseCommandLine('pasta', words(line));

describe('accepted', () => {
  it.each<[string, Partial<Settings>]>([
    ['', { level: null, mtu: 65_520, family: 'both', tcp: true, ra: true, operands: [], netnsQuit: true }],
    ['-d -q', { level: 'quiet' }],
    ['-q --trace', { level: 'trace' }],
    ['-fdq', { foreground: true, level: 'quiet' }],
    ['-m1500', { mtu: 1500 }],
    ['-fm 1500', { foreground: true, mtu: 1500 }],
    ['--mtu=1500', { mtu: 1500 }],
    ['--mtu 1500 -m 0', { mtu: 0 }],
    ['--mt 9000', { mtu: 9000 }],
    ['--no-dhcpv', { dhcpv6: false }],
    ['--no-dhcp', { dhcp: false, dhcpv6: true }],
    ['--netns /x', { netns: '/x', netnsOnly: false }],
    ['-4 -6', { family: 6 }],
    ['--ipv6-only --ipv4-only', { family: 4 }],
    ['-a 10.0.0.2', { addresses: [{ family: 4, address: '10.0.0.2', prefix: null }] }],
    [
      '-a 10.0.0.2/8 -a 2001:DB8::0:2/48',
      {
        addresses: [
          { family: 4, address: '10.0.0.2', prefix: 8 },
          { family: 6, address: '2001:db8::2', prefix: 48 },
        ],
      },
    ],
    ['-n 255.255.0.0', { netmask: 16 }],
    ['-n 24', { netmask: 24 }],
    ['-g 10.0.0.1 -g fe80::1', { gateway4: '10.0.0.1', gateway6: 'fe80::1' }],
    ['-M 9A:55:00:00:00:01', { mac: '9a:55:00:00:00:01' }],
    ['-D 192.0.2.1 -D ::1', { dns: ['192.0.2.1', '::1'] }],
    ['-D 192.0.2.1 -D none', { dns: 'none' }],
    ['-D none -D 192.0.2.1', { dns: ['192.0.2.1'] }],
    ['-S a.example -S b.example.', { search: ['a.example', 'b.example'] }],
    ['-S none', { search: 'none' }],
    ['-H box --fqdn box.example.org.', { hostname: 'box', fqdn: 'box.example.org' }],
    ['-o 192.0.2.7 -o 2001:db8::7', { outbound4: '192.0.2.7', outbound6: '2001:db8::7' }],
    [
      '--host-access 192.0.2.2 --host-access=2001:DB8::2/8080',
      {
        hostAccess: [
          { address: '192.0.2.2', port: 0 },
          { address: '2001:db8::2', port: 8080 },
        ],
      },
    ],
    ['--outbound-if4 eth1 --outbound-if6=eth2', { outboundInterface4: 'eth1', outboundInterface6: 'eth2' }],
    ['-t none -u none -T none -U none --map-guest-addr none --map-host-loopback none --no-map-gw', { warnings: [] }],
    ['-t none -t 22', { splice: true, mapGateway: true }],
    ['--no-map-gw --map-gw', { mapGateway: true }],
    ['--no-map-gw', { mapGateway: false, hostLoopback4: null }],
    [
      '--map-host-loopback 10.0.0.3 --map-host-loopback fe80::9',
      { hostLoopback4: '10.0.0.3', hostLoopback6: 'fe80::9' },
    ],
    ['--map-host-loopback 10.0.0.3 --map-host-loopback none', { hostLoopback4: null, mapGateway: false }],
    [
      '--map-guest-addr 169.254.1.2 --map-guest-addr fd00::2 --map-guest-addr 169.254.1.3',
      {
        guestAddr4: '169.254.1.3',
        guestAddr6: 'fd00::2',
        warnings: ['--map-guest-addr 169.254.1.2 has no effect: 169.254.1.3 was given after it'],
      },
    ],
    [
      '--map-host-loopback 10.0.0.3 --map-host-loopback none --map-host-loopback 10.0.0.4',
      { hostLoopback4: '10.0.0.4', warnings: [] },
    ],
    ['--dns-forward 10.0.0.3 --dns-forward 10.0.0.3 --dns-forward fd00::1', { dnsForward4: '10.0.0.3', warnings: [] }],
    ['--dns-forward FD00::1 --dns-host ::1 --dns-host 127.0.0.53', { dnsForward6: 'fd00::1', dnsHost4: '127.0.0.53' }],
    ['--dns-forward 10.0.0.3 --dns-forward none', { dnsForward4: null }],
    ['--splice-only', { spliceOnly: true, loopbackToLoopback: true, splice: true }],
    ['--no-splice --freebind', { splice: false, freebind: true }],
    ['--host-lo-to-ns-lo -c /c --control /d', { loopbackToLoopback: true, conf: '/c', control: '/d' }],
    [
      '-t auto --tcp-ports=22 -U 53',
      {
        forwards: [
          { protocol: 'tcp', direction: 'host', spec: 'auto', spelling: '-t' },
          { protocol: 'tcp', direction: 'host', spec: '22', spelling: '--tcp-ports' },
          { protocol: 'udp', direction: 'splice', spec: '53', spelling: '-U' },
        ],
      },
    ],
    ['--repair-path none', { warnings: [] }],
    ['--config-net --no-copy-routes', { configNet: true, copyRoutes: false }],
    ['-l /tmp/log --log-size 40960', { logFile: '/tmp/log', logSize: 40_960 }],
    ['--netns-only --netns-dir /n 12', { netnsOnly: true, netnsDir: '/n', operands: ['12'] }],
    ['-f ls -d --bogus', { foreground: true, level: null, operands: ['ls', '-d', '--bogus'] }],
    ['-f -- -d', { foreground: true, operands: ['-d'] }],
    ['- -f', { foreground: false, operands: ['-', '-f'] }],
  ])('%s', (line, expected) => {
    expect(parse(line)).toMatchObject(expected);
  });

  it('what RootlessKit passes', () => {
    const line =
      '--stderr --ns-ifname=tap0 --mtu=65520 --config-net --address=10.0.2.100 --netmask=24 --gateway=10.0.2.2 --dns-forward=10.0.2.3 --no-map-gw --ipv4-only --tcp-ports=auto --udp-ports=none --host-lo-to-ns-lo 4711';
    const settings = parse(line);
    expect(settings).toMatchObject({
      nsIfname: 'tap0',
      netmask: 24,
      gateway4: '10.0.2.2',
      family: 4,
      dnsForward4: '10.0.2.3',
      mapGateway: false,
      loopbackToLoopback: true,
      operands: ['4711'],
    });
    expect(settings.warnings).toEqual([expect.stringMatching(/^--stderr is deprecated/)]);
  });

  it('what Podman passes', () => {
    const line =
      '--config-net -t 127.0.0.1/8080-8081:80-81 -t [::1]/8443:443 -u 5353:53 --dns-forward 169.254.1.1 -T none -U none --no-map-gw --quiet --netns /run/user/1000/netns/x --map-guest-addr 169.254.1.2';
    const settings = parse(line);
    expect(settings.forwards.map(({ spelling, spec }) => `${spelling} ${spec}`)).toEqual([
      '-t 127.0.0.1/8080-8081:80-81',
      '-t [::1]/8443:443',
      '-u 5353:53',
      '-T none',
      '-U none',
    ]);
    expect(settings).toMatchObject({ guestAddr4: '169.254.1.2', dnsForward4: '169.254.1.1', warnings: [] });
    const bridge = '-t none -u none -T none -U none -c /run/user/1000/containers/networks/rootless-netns/pasta.sock';
    expect(parse(bridge).conf).toMatch(/pasta\.sock$/);
  });

  it('empty words and spaces within one', () => {
    expect(parseCommandLine('pasta', ['-S', ' a.example  b.example ']).search).toEqual(['a.example', 'b.example']);
    expect(parseCommandLine('pasta', ['']).operands).toEqual(['']);
  });

  it('is frozen', () => {
    const settings = parse('-a 10.0.0.2');
    expect(Object.isFrozen(settings)).toBe(true);
    expect(Object.isFrozen(settings.addresses)).toBe(true);
  });
});

describe('refused, with one clear sentence', () => {
  it.each<[string, string]>([
    ['--bogus', "unrecognized option '--bogus'"],
    ['--bogus=3', "unrecognized option '--bogus'"],
    ['-z', "invalid option -- 'z'"],
    ['-fz', "invalid option -- 'z'"],
    ['-Z', "invalid option -- 'Z'"],
    ['-s /x', '-s is for passt mode only'],
    [
      '--ma',
      "option '--ma' is ambiguous; possibilities: '--mac-addr' '--map-host-loopback' '--map-guest-addr' '--map-gw'",
    ],
    ['--mtu', "option '--mtu' requires an argument"],
    ['-m', "option requires an argument -- 'm'"],
    ['--debug=1', "option '--debug' doesn't allow an argument"],
    ['-m 67', 'Invalid MTU: 67 (-m takes 0 or 68 to 65521)'],
    ['-m abc', 'Invalid MTU: abc (-m takes 0 or 68 to 65521)'],
    ['--mtu=65522', 'Invalid MTU: 65522 (--mtu takes 0 or 68 to 65521)'],
    ['-m -1', 'Invalid MTU: -1 (-m takes 0 or 68 to 65521)'],
    ['-m 0x600', 'Invalid MTU: 0x600 (-m takes 0 or 68 to 65521)'],
    ['--mtu=', 'Invalid MTU:  (--mtu takes 0 or 68 to 65521)'],
    ['--log-size 40959', 'Invalid --log-size: 40959 (--log-size takes 40960 bytes or more)'],
    ['-M 01:00:00:00:00:00', 'Invalid MAC address: 01:00:00:00:00:00'],
    ['-M 9a:55:9a:55:9a', 'Invalid MAC address: 9a:55:9a:55:9a '],
    ['-a 127.0.0.1', 'Invalid guest address: 127.0.0.1'],
    ['-a 224.0.0.1', 'Invalid guest address: 224.0.0.1'],
    ['-a 0.0.0.0', 'Invalid guest address: 0.0.0.0'],
    ['-a 255.255.255.255', 'Invalid guest address: 255.255.255.255'],
    ['-a ::ffff:10.0.0.1', 'Invalid guest address: ::ffff:10.0.0.1'],
    ['-a 010.0.0.1', 'Invalid guest address: 010.0.0.1'],
    ['-a 10.1', 'Invalid guest address: 10.1'],
    ['-a host', 'Invalid guest address: host'],
    ['-a 10.0.0.1/33', 'Invalid prefix length: 10.0.0.1/33 (-a takes /1 to /32)'],
    ['-a fd00::1/129', 'Invalid prefix length: fd00::1/129 (-a takes /1 to /128)'],
    ['-a 10.0.0.1/', 'Invalid prefix length: 10.0.0.1/ '],
    ['-a 10.0.0.1/24 -n 24', 'Redundant prefix length specification: --netmask and --address 10.0.0.1/24'],
    ['-n 24 -a 10.0.0.1/24', 'Redundant prefix length specification'],
    ['-n foo', 'Invalid netmask: foo'],
    ['-n 255.0.255.0', 'Invalid netmask: 255.0.255.0'],
    ['-n 33', 'Invalid netmask: 33'],
    ['-g 224.0.0.1', 'Invalid gateway address: 224.0.0.1'],
    ['-I a/b', 'Invalid interface name: a/b'],
    ['-i 0123456789abcdef', 'Invalid interface name: 0123456789abcdef'],
    ['--host-access 127.0.0.1', 'Invalid host address: 127.0.0.1'],
    ['--host-access ::1/80', 'Invalid host address: ::1/80'],
    ['--host-access 192.0.2.2/0', 'Invalid host address: 192.0.2.2/0'],
    ['--host-access 192.0.2.2/65536', 'Invalid host address: 192.0.2.2/65536'],
    [
      Array.from({ length: 11 }, () => '--host-access 192.0.2.2').join(' '),
      '--host-access can be given at most 10 times',
    ],
    ['-o ::', 'Invalid or redundant outbound address: ::'],
    ['-D example.org', 'Cannot use DNS address example.org'],
    ['-D 0.0.0.0', 'Cannot use DNS address 0.0.0.0'],
    ['-S a..b', 'Cannot use DNS search domain a..b'],
    ['-S a -S b -S c -S d -S e -S f -S g', 'Cannot use DNS search domain g'],
    ['-H -x-', 'Invalid hostname: -x-'],
    ['-t 80-x', 'Invalid port specifier 80-x: a port is expected (character 4, "x") in -t'],
    ['--udp-ports=', 'is expected (at the end) in --udp-ports'],
    ['-T 127.0.0.1/80', 'Listening address not allowed'],
    ['-4 -u ::1/53', 'IPv6 forward, but IPv6 not enabled: ::1/53 (character 1, ":") in -u'],
    ['-t 22 -t none', '-t none conflicts with previous options'],
    ['--no-tcp -t 22', 'TCP port forwarding requested but TCP is disabled: -t 22'],
    ['-U auto --no-udp', 'UDP port forwarding requested but UDP is disabled: -U auto'],
    ['--host-lo-to-ns-lo --no-splice', 'Both --host-lo-to-ns-lo and --no-splice given'],
    ['--no-splice --splice-only', 'Both --splice-only and --no-splice given'],
    ['--map-host-loopback 127.0.0.1', 'Invalid address to remap to host: 127.0.0.1 (--map-host-loopback takes'],
    ['--map-guest-addr ::', 'Invalid address to remap to host: :: (--map-guest-addr takes'],
    ['--dns-forward 224.0.0.251', 'Invalid DNS forwarding address: 224.0.0.251 '],
    ['--dns-forward 10.0.0.3 --dns-forward 10.0.0.4', 'Two IPv4 addresses for --dns-forward: 10.0.0.3 and 10.0.0.4'],
    ['--dns-host fd00::3 --dns-host=fd00::4', 'Two IPv6 addresses for --dns-host: fd00::3 and fd00::4'],
    ['--dns-host x', 'Invalid host nameserver address: x '],
    [`-c /${'x'.repeat(107)}`, 'Invalid configuration path /xxx'],
    ['--control=', 'Invalid control socket path  (--control takes a path of 1 to 107 bytes)'],
    ['--one-off', '--one-off is for passt mode only'],
    ['--no-dhcp-dns', '--no-dhcp-dns is for passt mode only'],
    ['--repair-path /x', '--repair-path is for vhost-user mode only'],
    ['--no-copy-addrs', '--no-copy-addrs needs --config-net'],
    ['--userns /x --netns-only', 'Both --userns and --netns-only given'],
    ['--netns /x true', 'Both --netns and PID or command given'],
    ['--netns /x 12', 'Both --netns and PID or command given'],
    ['99999999999', 'Invalid PID 99999999999'],
    ['-4 -a fd00::2', 'Address fd00::2 given, but IPv6 is not enabled'],
    ['-6 -n 24', 'Netmask 24 given, but IPv4 is not enabled'],
  ])('%s', (line, message) => {
    const attempt = (): Settings => parse(line);
    expect(attempt).toThrow(UsageError);
    expect(attempt).toThrow(message);
  });

  it('every option that takes a value names itself and the value when it refuses one', () => {
    const bad = `${'x'.repeat(5000)}/`;
    // Their values are read by the helper, or any text is one.
    const freeText = new Set(['runas']);
    for (const [name, row] of OPTION_ROWS) {
      if (row.argument === null || freeText.has(name)) continue;
      expect(() => parseCommandLine('pasta', [`--${name}=${bad}`]), name).toThrow(new RegExp(`--${name}`));
    }
  });
});

describe('whatever the arguments', () => {
  const word = fc.oneof(
    fc.constantFrom(...OPTION_ROWS.map(([name]) => `--${name}`)),
    fc.constantFrom(...OPTION_ROWS.map(([name]) => `--${name.slice(0, 4)}`)),
    fc.constantFrom(...OPTION_ROWS.flatMap(([, { short }]) => (short === null ? [] : [`-${short}`]))),
    fc.constantFrom('none', 'auto', '1500', '10.0.0.1', 'fd00::1/64', 'eth0', '/x', '--', '-', ''),
    fc.string(),
  );

  it('settings or a one-line UsageError come back', () => {
    fc.assert(
      fc.property(fc.array(word, { maxLength: 8 }), (args) => {
        try {
          parseCommandLine('pasta', args);
        } catch (error) {
          expect(error).toBeInstanceOf(UsageError);
          expect((error as Error).message.length).toBeGreaterThan(0);
        }
      }),
      { numRuns: 2000 },
    );
  });

  it('nothing is lost: options, values and operands account for every argument', () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom('-f', '-m', '--mtu', '--mtu=1', 'ls', '-d', '--'), { maxLength: 8 }),
        (args) => {
          try {
            const { operands } = getopt(args);
            expect(args.slice(args.length - operands.length)).toEqual(operands);
          } catch (error) {
            expect((error as UsageError).code).toBe('missing-argument');
          }
        },
      ),
    );
  });
});

describe('the table', () => {
  it('has no letter twice and no name that another one hides', () => {
    const letters = OPTION_ROWS.flatMap(([, { short }]) => (short === null ? [] : [short]));
    expect(new Set(letters).size).toBe(letters.length);
    for (const [name, { short }] of OPTION_ROWS) {
      expect(name).toMatch(/^[a-z0-9][a-z0-9-]+$/);
      if (short !== null) expect(short).toMatch(/^[A-Za-z0-9]$/);
    }
  });

  it('names only existing options as conflicts and needs, and only known early ids', () => {
    const names = new Set(OPTION_ROWS.map(([name]) => name));
    for (const [, { conflicts, needs, early }] of OPTION_ROWS) {
      for (const other of conflicts) expect(names.has(other)).toBe(true);
      if (needs !== null) expect(names.has(needs)).toBe(true);
      expect(EARLY_ENUM).toContain(early);
    }
    const used = OPTION_ROWS.map(([, { early }]) => early).filter((id) => id !== 'EARLY_OTHER');
    // --socket-path is another name of --socket.
    expect(new Set(used).size).toBe(used.length - 1);
    const slirps = SLIRP_ROWS.map(([, { early }]) => early);
    expect(new Set([...used, ...slirps, 'EARLY_OTHER'])).toEqual(new Set(EARLY_ENUM));
  });

  it.each(PERSONALITIES)(
    '--help of %s shows every option it offers, on lines of at most 120 characters, in ASCII',
    (mode) => {
      const text = helpText(mode);
      for (const [name, { help, only }] of OPTION_ROWS)
        expect(new RegExp(`^  (?:-.,|   ) --${name}[ \\n]`, 'm').test(text), name).toBe(
          help !== null && (only ?? mode) === mode,
        );
      for (const line of text.split('\n')) expect(line).toMatch(/^[ -~]{0,120}$/);
    },
  );

  it('--version begins with program and version', () => {
    expect(versionText('pasta', '1.2.3').split('\n')[0]).toMatch(/^pasta 1\.2\.3/);
  });
});
