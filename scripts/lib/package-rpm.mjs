// SPDX-License-Identifier: Apache-2.0
/** The RPM package: rpmbuild(8) over a stage, with a specification that only lists what is there. */
import { mkdirSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { apparmorProfile } from './layout.mjs';
import { filesBelow, run, script, stageSystem, symbolVersions, version } from './stage.mjs';

const ARCHITECTURES = { x64: 'x86_64', arm64: 'aarch64', ppc64: 'ppc64le', riscv64: 'riscv64', s390x: 's390x' };

/** Directories of which all is ours. */
const OWN = ['/usr/lib/pastiche', '/usr/libexec/pastiche', '/usr/share/doc/pastiche'];
/** In a specification's body, a percent sign begins a macro. */
const literal = (text) => text.replaceAll('%', '%%');

const specification = (files, profile, versions) => {
  const owned = (path) => OWN.some((directory) => path.startsWith(`${directory}/`));
  const listed = files.filter((path) => !owned(path) && path !== profile);
  // Of additions to units: their directories go with them.
  const dropIns = [...new Set(listed.map(dirname))].filter((path) => /\.(service|socket)\.d$/.test(path));
  return `Name: pastiche
Version: ${version}
Release: 1
Summary: User-mode networking for containers, sandboxes and virtual machines
License: Apache-2.0
AutoReqProv: no
Requires: (nodejs(engine) >= 20.19 or nodejs >= 20.19)
Requires: libc.so.6(GLIBC_${versions.GLIBC})(64bit)
Requires: libstdc++.so.6(GLIBCXX_${versions.GLIBCXX})(64bit)
Recommends: iproute
%description
A network namespace or a QEMU guest gets TCP, UDP and ping over IPv4 and
IPv6, with no privilege and no bridge. The command lines are those of pasta,
passt, pesto, qrap and slirp4netns, and there are a CNI and a netavark
plugin.

The drop-in names are in /usr/libexec/pastiche, which is on no PATH by
itself: the packages passt and slirp4netns may be installed beside it.
%files
${OWN.join('\n')}
%config(noreplace) ${profile}
${dropIns.map((path) => `%dir ${path}\n`).join('')}${listed.join('\n')}
%post
${literal(script('postinst.sh'))}
exit 0
%preun
[ "$1" = 0 ] || exit 0
${literal(script('prerm.sh'))}
exit 0
%postun
[ "$1" = 0 ] || exit 0
${literal(script('postrm.sh'))}
exit 0
%transfiletriggerin -- /usr/bin/node
${literal(script('postinst.sh'))}
exit 0
`;
};

/** Of the same stage the same bytes, whoever builds, where and when. */
const MACROS = {
  _build_id_links: 'none',
  __os_install_post: '%{nil}',
  __debug_package: '%{nil}',
  debug_package: '%{nil}',
  _buildhost: 'reproducible',
  use_source_date_epoch_as_buildtime: '1',
  clamp_mtime_to_source_date_epoch: '1',
  _binary_payload: 'w6.xzdio',
  _source_payload: 'w6.xzdio',
  // Debian's rpmbuild asks dpkg otherwise.
  _build_name_fmt: '%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm',
};

export const packageRpm = ({ scratch, output, date }) => {
  const architecture = ARCHITECTURES[process.arch];
  if (architecture === undefined) throw new Error(`there is no RPM architecture for ${process.arch}`);
  const top = join(scratch, 'rpm');
  const stage = join(top, 'stage');
  const results = join(top, 'results');
  for (const directory of [top, stage, results]) mkdirSync(directory, { mode: 0o755 });
  const d = stageSystem(stage);
  const spec = join(top, 'pastiche.spec');
  writeFileSync(spec, specification(filesBelow(stage), apparmorProfile(d), symbolVersions()));
  const macros = { ...MACROS, _topdir: top, _rpmdir: results, _dbpath: join(top, 'db') };
  const defines = Object.entries(macros).flatMap(([name, value]) => ['--define', `${name} ${value}`]);
  run('rpmbuild', ['-bb', '--noclean', '--target', architecture, '--buildroot', stage, ...defines, spec], {
    env: { PATH: process.env['PATH'], HOME: top, LC_ALL: 'C', SOURCE_DATE_EPOCH: `${date}` },
  });
  const [name] = readdirSync(results).filter((file) => file.endsWith('.rpm'));
  if (name === undefined) throw new Error('rpmbuild made no package');
  renameSync(join(results, name), join(output, name));
  return name;
};
