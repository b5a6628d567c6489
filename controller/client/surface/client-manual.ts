// SPDX-License-Identifier: Apache-2.0
/** What the manual pages say of the options of slirp4netns and of the programs in Node. The markup is that of controller/cli/manual. */
import type { SlirpOptionName } from '../../cli/slirp/options.ts';

export const SLIRP: Readonly<Record<SlirpOptionName, string>> & Readonly<Record<string, string>> = {
  configure:
    'Configure the interface in the namespace: lo and the tap are up, the tap has the hundredth address of the network (10.0.2.100), its mask, the MTU and a default route by the second one (10.0.2.2).',
  'exit-fd':
    'End, with status 0, as soon as the other end of this inherited descriptor is closed; what can be read from it does not count. A descriptor that is not open ends the program at once.',
  'ready-fd': 'Write "1", one byte, to this inherited descriptor when everything works, and close it.',
  mtu: 'MTU of the tap in bytes, 1 to 65521, default 1500.',
  'enable-ipv6':
    'IPv6 as well: the network fd00::/64, with fd00::2 as the host and fd00::3 as the resolver; the guest configures itself by router advertisements.',
  'api-socket':
    'Listen at this UNIX socket (107 bytes at most) for requests in JSON, `add_hostfwd`, `list_hostfwd` and `remove_hostfwd`; see `API SOCKET`.',
  cidr: 'The IPv4 network: a network address with a prefix of 1 to 25, default 10.0.2.0/24.',
  'disable-host-loopback':
    'The second address of the network (10.0.2.2) does not lead to the host’s 127.0.0.1. Without this option every service there is open to the guest.',
  'netns-type':
    'What the first argument is: `pid`, the default; `path`, of a network namespace; or `tapfd`, the number of an inherited descriptor of a tap.',
  'userns-path': 'The user namespace to join; it must exist. The default is that of `PID`, else none is joined.',
  'enable-sandbox':
    'The process that was started sees an empty root with /etc and /run, read-only, and keeps no capability but CAP_NET_BIND_SERVICE.',
  'enable-seccomp': 'Accepted. Every process has a system-call allowlist, with this option and without it.',
  'outbound-addr':
    'IPv4 address that connections leave the host from: an address of the host’s, or an interface, whose first one is taken.',
  'outbound-addr6':
    'IPv6 address that connections leave the host from: an address of the host’s, or an interface, whose first one is taken.',
  'disable-dns':
    'The third address of the network (10.0.2.3) is an ordinary one: nothing there leads to the host’s resolver.',
  macaddress: 'MAC address of the tap, only together with `--configure`. Default: random.',
  'target-type':
    '`netns`, the default, or `bess`: a guest at a UNIX socket of sequential packets, one frame a packet, as User Mode Linux has it (`vec0:transport=bess,dst=PATH`). The one argument is the socket’s path, then.',
  help: 'Show the options on standard output and exit with status 0.',
  version:
    'Show, on standard output, the version of slirp4netns that this is compatible with, and which pastiche it is; exit with status 0.',
  'no-host-loopback': 'The older name of `--disable-host-loopback`; warned about.',
  'create-sandbox': 'The older name of `--enable-sandbox`; warned about.',
};

const SPECS = {
  'tcp-ports': 'TCP ports of the host, in the form of pasta(1).',
  'udp-ports': 'UDP ports of the host.',
  'tcp-ns': 'TCP ports of the namespace’s loopback that lead to the host’s.',
  'udp-ns': 'UDP ports of the namespace’s loopback that lead to the host’s.',
};
const COMMON = {
  help: 'Show the options and exit with status 0.',
  version: 'Show the version and exit with status 0.',
};

/** By program. */
export const CLIENTS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  pesto: {
    ...SPECS,
    ...COMMON,
    add: 'Port specifications that follow are added. One that is there already is an error.',
    delete:
      'Port specifications that follow are deleted. Each must match a rule exactly: address, interface, ports and target.',
    clear: 'Delete all rules of a table: `HOST` (towards the namespace) or `SPLICE` (towards the host).',
    show: 'Show the rules before and after the change.',
    debug: 'Say on standard error what is done.',
  },
  'pastiche ports': {
    ...SPECS,
    ...COMMON,
    json: 'Write the answer, errors included, as one line of JSON to standard output.',
  },
  'pastiche doctor': { ...COMMON, json: 'Write the report as one line of JSON; see `OUTPUT OF DOCTOR`.' },
  'pastiche capabilities': { ...COMMON, json: 'Write what there is as one line of JSON.' },
  'pastiche audit': { json: 'As JSON.' },
  'pastiche helper': {
    user: 'Take a connection of this user only, given as name or number.',
    group: 'Take a connection of this group only, given as name or number.',
  },
  'pastiche broker': {},
  'pastiche controller': {},
  qrap: { help: 'Show the two forms of the command line and exit.', version: 'Show the version and exit.' },
};
