// SPDX-License-Identifier: Apache-2.0
/** The readable and exchangeable forms of compiled profiles. All are pure: profiles in, text out. */

const ALL_BITS = '18446744073709551615';
const OCI_ARCHITECTURES = {
  x64: 'SCMP_ARCH_X86_64',
  ia32: 'SCMP_ARCH_X86',
  arm64: 'SCMP_ARCH_AARCH64',
  arm: 'SCMP_ARCH_ARM',
  ppc64: 'SCMP_ARCH_PPC64LE',
  riscv64: 'SCMP_ARCH_RISCV64',
  s390x: 'SCMP_ARCH_S390X',
};

/** The annotation's own words for the call: constants by name, as the author wrote them. */
const callOf = (rule) => rule.from.call.replace(/^[a-z0-9_]+:/, '').replace(/^[a-z0-9_|]+/, rule.name);
const placeOf = (rule) => `${rule.from.file}:${rule.from.line}`;

/** One row an annotation, though alternatives make several rules of it. */
const rowsOf = (profile) => {
  const seen = new Set();
  return profile.rules.filter((rule) => {
    const key = `${rule.annotation} ${rule.name}`;
    return !seen.has(key) && seen.add(key);
  });
};

/** CALL, then why and where from, aligned. */
const listingRows = (profile) => {
  const rows = rowsOf(profile).map((rule) => [callOf(rule), `${rule.from.reason} (${placeOf(rule)})`]);
  const width = Math.min(56, Math.max(0, ...rows.map(([call]) => call.length)));
  return rows.map(([call, why]) => `  ${call.padEnd(width)}  ${why}`);
};

export const listing = (profile) =>
  [
    `profile ${profile.name}: ${profile.instructions} instructions, SHA-256 ${profile.sha256}`,
    '  anything else, another architecture, an x32 number: the process is killed',
    ...listingRows(profile),
    '',
  ].join('\n');

export const auditText = (profiles) =>
  [
    `System-call allowlists of this build (${process.arch}), one a stage and process.`,
    'setup: helper and broker before the seal, sandbox: the helper of slirp4netns --enable-sandbox then; host, netns: after it; controller: Node, sealed; resolver: the reader of resolv.conf.',
    '',
    ...profiles.map(listing),
  ].join('\n');

export const auditJson = (profiles) =>
  JSON.stringify({
    architecture: process.arch,
    defaultAction: 'kill-process',
    profiles: profiles.map((profile) => ({
      name: profile.name,
      instructions: profile.instructions,
      sha256: profile.sha256,
      rules: profile.rules.map((rule) => ({
        call: rule.name,
        number: rule.number,
        action: rule.errno === 0 ? 'allow' : { errno: rule.errno },
        annotation: rule.from.call,
        // 64-bit values do not fit a JSON number that every reader takes.
        arguments: rule.args.map(({ arg, mask, value }) => ({
          index: arg,
          ...(mask === ALL_BITS ? {} : { mask }),
          value,
        })),
        reason: rule.from.reason,
        source: placeOf(rule),
      })),
    })),
  }).replace(/(\{"name":|\{"call":)/g, '\n$1');

/** A number literal for JSON that Go's uint64 reads exactly; JSON.stringify would round it. */
const OCI_NUMBER = /"u64:([0-9]+)"/g;
const ociArgument = ({ arg, mask, value }) =>
  mask === ALL_BITS
    ? { index: arg, value: `u64:${value}`, op: 'SCMP_CMP_EQ' }
    : { index: arg, value: `u64:${mask}`, valueTwo: `u64:${value}`, op: 'SCMP_CMP_MASKED_EQ' };

/** OCI runtime specification, config-linux.md, "Seccomp". */
export const ociProfile = (profile) => {
  const plain = profile.rules.filter((rule) => rule.args.length === 0 && rule.errno === 0);
  const others = profile.rules.filter((rule) => !plain.includes(rule));
  const document = {
    defaultAction: 'SCMP_ACT_KILL_PROCESS',
    architectures: [OCI_ARCHITECTURES[process.arch]],
    syscalls: [
      { names: [...new Set(plain.map((rule) => rule.name))], action: 'SCMP_ACT_ALLOW' },
      ...others.map((rule) => ({
        names: [rule.name],
        action: rule.errno === 0 ? 'SCMP_ACT_ALLOW' : 'SCMP_ACT_ERRNO',
        ...(rule.errno === 0 ? {} : { errnoRet: rule.errno }),
        args: rule.args.map(ociArgument),
      })),
    ].filter((entry) => entry.names.length > 0),
  };
  return `${JSON.stringify(document, null, 2).replace(OCI_NUMBER, '$1')}\n`;
};

/**
 * For the units: what runs in each, by profile. systemd's filter is in force from exec on, over Node's start, too, and knows no
 * arguments: it is the outer fence, the processes' own filters the inner ones.
 */
const ALL = { profiles: ['setup', 'host', 'netns', 'controller'], without: [] };
/** Where the unit is the empty root: none is made, and namespaces are refused before these are asked for. */
const ROOT_CALLS = ['mount', 'umount2', 'pivot_root', 'unshare'];
export const DROP_INS = {
  'system/pastiche@.service': { profiles: ['setup', 'host'], without: [] },
  'system/pastiche-broker@.service': { profiles: ['setup', 'netns'], without: ROOT_CALLS },
  'system/pastiche-controller@.service': { profiles: ['controller'], without: [] },
  'system/passt@.service': ALL,
  'user/pastiche@.service': ALL,
  'user/passt@.service': ALL,
};

/**
 * Programs that start (Node, a static program) are an ordinary service's; what asks for root's rights, or is about other processes'
 * share of the machine, they do without. Then every call of the allowlists: some of these are of the groups that were taken away.
 */
export const systemdDropIn = (profiles, { profiles: wanted, without }) => {
  const inside = profiles.filter((profile) => wanted.includes(profile.name));
  const all = new Set(inside.flatMap((profile) => profile.rules.map((rule) => rule.name)));
  const names = [...all].filter((name) => !without.includes(name)).sort();
  const lines = [];
  for (const name of names) {
    if (lines.length === 0 || lines[lines.length - 1].length + name.length > 100) lines.push('SystemCallFilter=');
    lines[lines.length - 1] += `${lines[lines.length - 1].endsWith('=') ? '' : ' '}${name}`;
  }
  return [
    '# SPDX-License-Identifier: Apache-2.0',
    '# Generated by seccomp/emit.mjs: what programs need to start, then every call of these allowlists:',
    `# ${wanted.join(', ')}.`,
    '[Service]',
    'SystemCallArchitectures=native',
    'SystemCallFilter=@system-service',
    'SystemCallFilter=~@privileged @resources @keyring',
    // Before any filter of ours is in force: setns and unshare are an ordinary service's, these are not (V8 asks for protection keys).
    'SystemCallFilter=capset seccomp setfsuid @pkey',
    ...lines,
    '',
  ].join('\n');
};
