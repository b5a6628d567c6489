// SPDX-License-Identifier: Apache-2.0
/**
 * slirp4netns' command line → {@link SlirpSettings}. The helper has read it before and answered what is wrong with it, but for the
 * network, the MAC address and the outbound addresses; the sentences about those are the ones that callers know.
 */
import { parseAddress } from '../../host/address.ts';
import { parseIpv4 } from '../../host/address-text.ts';
import { ipv4Mask } from '../../wire/addr.ts';
import { UsageError } from '../errors.ts';
import { getoptOf } from '../getopt.ts';
import { MTU_MAX, readMac } from '../values.ts';
import { SLIRP_ROWS, type SlirpOptionName } from './options.ts';

/** What a socket leaves by: an address, or the first one of an interface. */
export interface Outbound {
  readonly address: string | null;
  readonly interface: string | null;
}

export interface SlirpSettings {
  readonly personality: 'slirp4netns';
  /** Set up the namespace. */
  readonly configure: boolean;
  readonly mtu: number;
  readonly ipv6: boolean;
  /** Path of the API's socket. */
  readonly api: string | null;
  /** int32, its host bits 0. */
  readonly network: number;
  readonly prefix: number;
  readonly hostLoopback: boolean;
  readonly dns: boolean;
  readonly outbound4: Outbound | null;
  readonly outbound6: Outbound | null;
  readonly mac: string | null;
  /** Where the guest is: a namespace, behind a tap that was inherited, or a socket for one frame a packet. */
  readonly target: 'netns' | 'tapfd' | 'bess';
}

const MTU_DEFAULT = 1500;
const CIDR_DEFAULT = '10.0.2.0/24';
/** The guest is the network's address 100. */
const PREFIX_MAX = 25;

const fault = (message: string): UsageError => new UsageError('invalid-value', message);

/** Throws {@link UsageError}. */
const readCidr = (text: string): { network: number; prefix: number } => {
  const parts = /^([0-9]+\.[0-9]+\.[0-9]+\.[0-9]+)\/([0-9]+)$/.exec(text);
  if (parts === null) throw fault(`invalid CIDR: ${text}`);
  const [, address = '', length = ''] = parts;
  if (parseAddress(address) === null) throw fault(`invalid network address: ${address}`);
  const prefix = Number(length);
  if (prefix < 1 || prefix > PREFIX_MAX) throw fault(`prefix length needs to be 1-${PREFIX_MAX}`);
  const network = parseIpv4(address);
  if ((network & ~ipv4Mask(prefix)) !== 0)
    throw fault('CIDR needs to be a network address like 10.0.2.0/24, not like 10.0.2.100/24');
  return { network, prefix };
};

const readOutbound = (text: string, family: 4 | 6): Outbound => {
  const parsed = parseAddress(text);
  if (parsed?.family === family) return { address: parsed.address, interface: null };
  if (/^[!-.0-9;-~]{1,15}$/.test(text)) return { address: null, interface: text };
  throw outboundFault(family);
};
/** The sentence about what is neither an address nor an interface that has one. */
export const outboundFault = (family: 4 | 6): UsageError =>
  fault(`outbound-addr${family === 6 ? '6' : ''} has to be valid ipv${family} address or interface name.`);

const readMacAddress = (text: string): string => {
  try {
    return readMac(text, '--macaddress');
  } catch {
    throw fault(
      `"${text}" is an invalid MAC address. macaddress has to be a valid MAC address (hex string, 6 bytes, each byte separated by a ':').`,
    );
  }
};

const readMtu = (text: string): number => {
  const mtu = /^[0-9]{1,6}$/.test(text) ? Number(text) : 0;
  if (mtu >= 1 && mtu <= MTU_MAX) return mtu;
  throw fault('MTU must be a positive integer (< 65522)');
};

type Draft = { -readonly [K in keyof SlirpSettings]: SlirpSettings[K] };
const APPLY: Partial<Record<SlirpOptionName, (s: Draft, value: string) => void>> = {
  configure: (s) => {
    s.configure = true;
  },
  mtu: (s, value) => {
    s.mtu = readMtu(value);
  },
  'enable-ipv6': (s) => {
    s.ipv6 = true;
  },
  'api-socket': (s, value) => {
    s.api = value;
  },
  cidr: (s, value) => {
    Object.assign(s, readCidr(value));
  },
  'disable-host-loopback': (s) => {
    s.hostLoopback = false;
  },
  'no-host-loopback': (s) => {
    s.hostLoopback = false;
  },
  'outbound-addr': (s, value) => {
    s.outbound4 = readOutbound(value, 4);
  },
  'outbound-addr6': (s, value) => {
    s.outbound6 = readOutbound(value, 6);
  },
  'disable-dns': (s) => {
    s.dns = false;
  },
  macaddress: (s, value) => {
    s.mac = readMacAddress(value);
  },
  'netns-type': (s, value) => {
    if (s.target !== 'bess') s.target = value === 'tapfd' ? 'tapfd' : 'netns';
  },
  'target-type': (s, value) => {
    if (value !== 'netns' && value !== 'bess') throw fault('--target-type must be either "netns" or "bess"');
    if (value === 'bess') s.target = value;
  },
};

/** Later options override earlier ones. What the helper alone acts upon is not looked at. Throws {@link UsageError}. */
export const parseSlirp = (args: readonly string[]): SlirpSettings => {
  const settings: Draft = {
    personality: 'slirp4netns',
    configure: false,
    mtu: MTU_DEFAULT,
    ipv6: false,
    api: null,
    ...readCidr(CIDR_DEFAULT),
    hostLoopback: true,
    dns: true,
    outbound4: null,
    outbound6: null,
    mac: null,
    target: 'netns',
  };
  for (const { name, value } of getoptOf(SLIRP_ROWS, args, true).options)
    APPLY[name as SlirpOptionName]?.(settings, value);
  if (settings.mac !== null && !settings.configure)
    throw fault('--macaddr cannot be specified when --configure or -c is not specified');
  return Object.freeze(settings);
};
