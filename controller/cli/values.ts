// SPDX-License-Identifier: Apache-2.0
/** One reader for each kind of option value. Each returns the value or throws the {@link UsageError} that names option and value. */
import ipaddr from 'ipaddr.js';
import { addressKind, type ParsedAddress, parseAddress } from '../host/address.ts';
import { invalid } from './errors.ts';
import type { GivenAddress } from './settings.ts';

/** IFNAMSIZ - 1 */
const IFNAME_CHARS_MAX = 15;
/** PATH_MAX - 1 */
const PATH_BYTES_MAX = 4095;
/** Largest MTU of a tap: 65535 less its Ethernet header. */
export const MTU_MAX = 65_521;
/** RFC 791 §3.2: every host must be able to forward 68 octets unfragmented. */
export const MTU_MIN = 68;
/** At least ten cuts of 4 KiB fit: below, a log would be mostly its own header. */
export const LOG_SIZE_MIN = 40_960;
const LOG_SIZE_MAX = 0x7fff_ffff;

/** Plain decimal digits: no sign, no blanks, no hexadecimal. NaN otherwise. */
const decimal = (text: string): number => (/^[0-9]{1,10}$/.test(text) ? Number(text) : Number.NaN);

export const readMtu = (value: string, option: string): number => {
  const n = decimal(value);
  if (n === 0 || (n >= MTU_MIN && n <= MTU_MAX)) return n;
  throw invalid('Invalid MTU:', value, option, `0 or ${MTU_MIN} to ${MTU_MAX}`);
};

export const readLogSize = (value: string, option: string): number => {
  const n = decimal(value);
  if (n >= LOG_SIZE_MIN && n <= LOG_SIZE_MAX) return n;
  throw invalid('Invalid --log-size:', value, option, `${LOG_SIZE_MIN} bytes or more`);
};

export const readMac = (value: string, option: string): string => {
  const mac = value.toLowerCase();
  // The group bit would make it a multicast address (IEEE 802 §8.2), which no station can have.
  const unicast = /^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/.test(mac) && mac !== '00:00:00:00:00:00';
  if (unicast) return mac;
  throw invalid('Invalid MAC address:', value, option, 'a unicast address of the form xx:xx:xx:xx:xx:xx');
};

export const readIfname = (value: string, option: string): string => {
  // dev_valid_name() of the kernel; control characters and non-ASCII refused as well, since the name appears in logs.
  const valid = /^[!-.0-9;-~]+$/.test(value) && value.length <= IFNAME_CHARS_MAX && value !== '.' && value !== '..';
  if (valid) return value;
  throw invalid(
    'Invalid interface name:',
    value,
    option,
    `1 to ${IFNAME_CHARS_MAX} printable characters without "/" and ":"`,
  );
};

const path =
  (what: string) =>
  (value: string, option: string): string => {
    if (value.length > 0 && Buffer.byteLength(value) <= PATH_BYTES_MAX) return value;
    throw invalid(what, value, option, `a path of 1 to ${PATH_BYTES_MAX} bytes`);
  };
export const readPcapPath = path('Invalid pcap path:');
export const readPidPath = path('Invalid PID file:');
export const readLogPath = path('Invalid log file:');
export const readUserns = path('Invalid userns:');
export const readNetns = path('Invalid network namespace:');
export const readNetnsDir = path('Invalid directory of network namespaces:');

/** An address one host can have and others can reach. */
const unicast = (text: string): ParsedAddress | null => {
  const parsed = parseAddress(text);
  if (parsed === null) return null;
  const kind = addressKind(parsed.address);
  return kind === 'unicast' || kind === 'link-local' ? parsed : null;
};

export const readGuestAddress = (value: string, option: string): GivenAddress => {
  const slash = value.indexOf('/');
  const parsed = unicast(slash < 0 ? value : value.slice(0, slash));
  if (parsed === null) throw invalid('Invalid guest address:', value, option, 'a unicast ADDRESS[/PREFIX]');
  if (slash < 0) return { ...parsed, prefix: null };
  const prefix = decimal(value.slice(slash + 1));
  const max = parsed.family === 4 ? 32 : 128;
  if (!(prefix >= 1 && prefix <= max)) throw invalid('Invalid prefix length:', value, option, `/1 to /${max}`);
  return { ...parsed, prefix };
};

export const readGateway = (value: string, option: string): ParsedAddress => {
  const parsed = unicast(value);
  if (parsed === null) throw invalid('Invalid gateway address:', value, option, 'a unicast address');
  return parsed;
};

/** 'none' for null. A loopback resolver is one that runs inside the namespace, so it is allowed. */
export const readResolver = (value: string, option: string): string | null => {
  if (value === 'none') return null;
  const parsed = parseAddress(value);
  const kind = parsed === null ? 'multicast' : addressKind(parsed.address);
  if (parsed === null || kind === 'unspecified' || kind === 'multicast' || kind === 'broadcast' || kind === 'mapped') {
    throw invalid('Cannot use DNS address', value, option, 'a unicast address or "none"');
  }
  return parsed.address;
};

/** Limit of the original, so that both refuse the same lists. */
export const SEARCH_DOMAINS_MAX = 6;
/** RFC 1035 §2.3.4, without the length octets of the root. */
const DOMAIN_CHARS_MAX = 253;
/** Labels of 1 to 63 (RFC 1035 §2.3.4); underscores are common in practice (RFC 8552). */
const DOMAIN = /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$/i;
export const isDomain = (name: string): boolean => name.length <= DOMAIN_CHARS_MAX && DOMAIN.test(name);

/** One or several names separated by blanks, without their trailing dot; null for 'none'. */
export const readSearch = (value: string, option: string): string[] | null => {
  if (value === 'none') return null;
  const names = value
    .split(/\s+/)
    .filter((name) => name !== '')
    .map((name) => name.replace(/\.$/, ''));
  if (names.length === 0 || !names.every(isDomain)) {
    throw invalid('Cannot use DNS search domain', value, option, 'domain names or "none"');
  }
  return names;
};

/** HOST_NAME_MAX: it becomes the UTS host name of a spawned command. */
const HOSTNAME_CHARS_MAX = 64;
export const readHostname = (value: string, option: string): string => {
  if (value.length <= HOSTNAME_CHARS_MAX && isDomain(value)) return value;
  throw invalid('Invalid hostname:', value, option, `a host name of 1 to ${HOSTNAME_CHARS_MAX} characters`);
};
export const readFqdn = (value: string, option: string): string => {
  const name = value.replace(/\.$/, '');
  if (isDomain(name)) return name;
  throw invalid('Invalid FQDN:', value, option, `a domain name of 1 to ${DOMAIN_CHARS_MAX} characters`);
};

/** A dotted mask with contiguous ones, or 1 to 32, as a prefix length. */
export const readNetmask = (value: string, option: string): number => {
  const length = decimal(value);
  const prefix =
    Number.isNaN(length) && parseAddress(value)?.family === 4
      ? ipaddr.IPv4.parse(value).prefixLengthFromSubnetMask()
      : length;
  if (prefix !== null && prefix >= 1 && prefix <= 32) return prefix;
  throw invalid('Invalid netmask:', value, option, '1 to 32 or a dotted mask');
};

export const readOutbound = (value: string, option: string): ParsedAddress => {
  const parsed = unicast(value);
  if (parsed === null)
    throw invalid('Invalid or redundant outbound address:', value, option, 'one unicast address per IP version');
  return parsed;
};

/** With the resolvers of both IP versions, what the helper takes. */
export const HOST_ACCESS_MAX = 10;
export const PORT_MAX = 65_535;

export const readHostAccess = (value: string, option: string): { address: string; port: number } => {
  const slash = value.indexOf('/');
  const parsed = unicast(slash < 0 ? value : value.slice(0, slash));
  const port = slash < 0 ? 0 : decimal(value.slice(slash + 1));
  if (parsed !== null && (slash < 0 || (port >= 1 && port <= PORT_MAX))) return { address: parsed.address, port };
  throw invalid('Invalid host address:', value, option, 'ADDRESS[/PORT], a unicast address that is not loopback');
};

/** An address that the guest sees and that stands for another; 'none' for null. */
const standIn =
  (what: string) =>
  (value: string, option: string): ParsedAddress | null => {
    if (value === 'none') return null;
    const parsed = unicast(value);
    if (parsed === null) throw invalid(what, value, option, 'a unicast address that is not loopback, or "none"');
    return parsed;
  };
export const readMapped = standIn('Invalid address to remap to host:');
export const readDnsForward = standIn('Invalid DNS forwarding address:');

/** A resolver that the host reaches, on its loopback perhaps; 'none' for null. */
export const readDnsHost = (value: string, option: string): ParsedAddress | null => {
  if (value === 'none') return null;
  const parsed = parseAddress(value);
  const kind = parsed === null ? 'multicast' : addressKind(parsed.address);
  if (parsed !== null && (kind === 'unicast' || kind === 'link-local' || kind === 'loopback')) return parsed;
  throw invalid('Invalid host nameserver address:', value, option, 'a unicast address or "none"');
};

/** 0 to 2 are stdin, stdout and stderr. */
export const readFd = (value: string, option: string, name = '--fd'): number => {
  const fd = decimal(value);
  if (fd >= 3 && fd <= 0x7fff_ffff) return fd;
  throw invalid(`Invalid ${name}:`, value, option, 'the number of an open descriptor, 3 or more');
};

/** sun_path of unix(7), without its NUL. */
const SOCKET_PATH_BYTES_MAX = 107;
const socketPath =
  (what: string) =>
  (value: string, option: string): string => {
    if (value.length > 0 && Buffer.byteLength(value) <= SOCKET_PATH_BYTES_MAX) return value;
    throw invalid(what, value, option, `a path of 1 to ${SOCKET_PATH_BYTES_MAX} bytes`);
  };
export const readConfPath = socketPath('Invalid configuration path');
export const readSocketPath = socketPath('Invalid socket path:');
export const readControlPath = socketPath('Invalid control socket path');
