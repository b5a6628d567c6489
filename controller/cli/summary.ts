// SPDX-License-Identifier: Apache-2.0
/** What the log says at start: the decisions of the plan that an administrator would otherwise have to guess. */
import { printRule, type Rule } from '../fwd/rule.ts';
import type { Plan } from './plan-schema.ts';

const listed = (items: readonly string[]): string => items.join(', ');
const cidr = ({ address, prefix }: { address: string; prefix: number }): string => `${address}/${prefix}`;

const outboundLine = ({ outbound }: Plan): string | null => {
  const parts = [outbound.address4, outbound.address6, outbound.interface4, outbound.interface6].filter(
    (p) => p !== '',
  );
  return parts.length === 0 ? null : `Outbound: ${listed(parts)}`;
};

const templateLine = ({ templates, network }: Plan): string => {
  const of = (family: string, name: string | null): string => `${name ?? 'none, local mode'} (${family})`;
  const parts = [network.v4 && of('IPv4', templates.v4), network.v6 && of('IPv6', templates.v6)];
  return `Template interface: ${listed(parts.filter((part) => part !== null))}`;
};

const natLines = ({ nat }: Plan): string[] => {
  const lines: string[] = [];
  const add = (text: string, from: string | null, to: string | null): void => {
    if (from !== null && to !== null) lines.push(`${text} ${to}: ${from}`);
  };
  add('NAT to host', nat.hostLoopback4, '127.0.0.1');
  add('NAT to host', nat.hostLoopback6, '::1');
  add('NAT to host', nat.guestAddr4, nat.host4);
  add('NAT to host', nat.guestAddr6, nat.host6);
  add('DNS forwarding to', nat.dnsForward4, nat.dnsHost4);
  add('DNS forwarding to', nat.dnsForward6, nat.dnsHost6);
  return lines;
};

const ruleLines = (title: string, rules: readonly Rule[]): string[] =>
  rules.length === 0 ? [] : [title, ...rules.map((rule) => `    ${printRule(rule)}`)];

const interfaceLine = ({ personality, ifname, network }: Plan): string => {
  const mtu = `MTU ${network.mtu === 0 ? 'not told' : network.mtu}`;
  return personality === 'passt' ? `Guest: ${mtu}` : `Namespace interface: ${ifname}, MAC ${network.guestMac}, ${mtu}`;
};

/** Where the hypervisor of the guest comes in, and how; `path`: as the helper chose it, '' where it was connected from the start. */
export const guestSummary = ({ guest }: Plan, path: string): readonly string[] => {
  if (guest === null || path === '') return [];
  const device = '-device virtio-net-pci,netdev=s';
  const qemu =
    guest.kind === 'vhost-user'
      ? `-chardev socket,id=c,path=${path} -netdev vhost-user,id=s,chardev=c ${device}`
      : `${device} -netdev stream,id=s,server=off,addr.type=unix,addr.path=${path}`;
  const memory = '-m SIZE -object memory-backend-memfd,id=m,size=SIZE,share=on -numa node,memdev=m';
  return [
    `UNIX domain socket bound at ${path}`,
    'Start QEMU with:',
    `    ${qemu}`,
    ...(guest.kind === 'vhost-user' ? [`    ${memory}`] : []),
  ];
};

/** One line each, without level or time. */
export const planSummary = (plan: Plan): readonly string[] => {
  const rules = [
    ...ruleLines('Inbound forwarding rules (HOST):', plan.forward.tables.host),
    ...ruleLines('Outbound forwarding rules (SPLICE):', plan.forward.tables.splice),
  ];
  if (plan.forward.spliceOnly) return ['No interface in the namespace: from loopback to loopback only', ...rules];
  const { network } = plan;
  const { v4, v6 } = network;
  const dns = [...(v4?.dns ?? []), ...(v6?.dns ?? [])];
  const lines: (string | null)[] = [
    templateLine(plan),
    outboundLine(plan),
    interfaceLine(plan),
    `Our MAC: ${network.ourMac}`,
    v4 && `IPv4: ${listed(v4.addresses.map(cidr))}, router ${v4.gateway}${network.enable.dhcp ? ', DHCP' : ''}`,
    v6 &&
      `IPv6: ${v6.addresses.length > 0 ? listed(v6.addresses.map(cidr)) : 'link-local only'}, router ${v6.gateway}, ` +
        `our link-local ${v6.ourLinkLocal}${network.enable.ra ? ', RA' : ''}${network.enable.dhcpv6 ? ', DHCPv6' : ''}`,
    ...natLines(plan),
    network.tellDns && dns.length > 0 ? `DNS: ${listed(dns)}` : null,
    network.tellSearch && network.search.length > 0 ? `DNS search list: ${listed(network.search)}` : null,
    ...rules,
  ];
  return lines.filter((line) => line !== null);
};
