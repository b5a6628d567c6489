// SPDX-License-Identifier: Apache-2.0
/** The Debian package: dpkg-deb(1) over a stage and a control directory of our own. */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { apparmorProfile } from './layout.mjs';
import { at } from './paths.mjs';
import { filesBelow, isLink, MAINTAINER, run, script, stageSystem, symbolVersions, version } from './stage.mjs';

const ARCHITECTURES = {
  x64: 'amd64',
  arm64: 'arm64',
  arm: 'armhf',
  ppc64: 'ppc64el',
  riscv64: 'riscv64',
  s390x: 's390x',
};
/** GCC's libstdc++ by the newest symbol version of it: https://gcc.gnu.org/onlinedocs/libstdc++/manual/abi.html */
const LIBSTDCXX = [
  [21, '5'],
  [28, '9'],
  [29, '11'],
  [30, '12'],
  [32, '13'],
  [33, '14'],
];

const libstdcxx = (versions) => {
  const minor = Number(versions.GLIBCXX?.split('.')[2] ?? 0);
  return LIBSTDCXX.find(([newest]) => minor <= newest)?.[1] ?? '15';
};

const control = (architecture, kibibytes) => {
  const versions = symbolVersions();
  return `Package: pastiche
Version: ${version}
Architecture: ${architecture}
Maintainer: ${MAINTAINER}
Installed-Size: ${kibibytes}
Depends: libc6 (>= ${versions.GLIBC}), libstdc++6 (>= ${libstdcxx(versions)}), nodejs (>= 20.19)
Recommends: iproute2
Suggests: podman, rootlesskit, qemu-system, containernetworking-plugins
Section: net
Priority: optional
Description: user-mode networking for containers, sandboxes and virtual machines
 A network namespace or a QEMU guest gets TCP, UDP and ping over IPv4 and
 IPv6, with no privilege and no bridge. The command lines are those of pasta,
 passt, pesto, qrap and slirp4netns, and there are a CNI and a netavark
 plugin.
 .
 The drop-in names are in /usr/libexec/pastiche, which is on no PATH by
 itself: the packages passt and slirp4netns may be installed beside it.
`;
};

/** A maintainer script: `body` when it is called as `when`. */
const maintainer = (path, when, body) =>
  writeFileSync(path, `#!/bin/sh\nset -e\ncase "$1" in\n${when})\n${body}\n;;\nesac\nexit 0\n`, { mode: 0o755 });

const CHANGES = (date) => `pastiche (${version}) unstable; urgency=medium

  * See CHANGELOG.md beside this file.

 -- ${MAINTAINER}  ${new Date(date * 1000).toUTCString().replace('GMT', '+0000')}
`;

const writeTexts = (stage, d, date) => {
  const doc = stage + d.DOCDIR;
  rmSync(join(doc, 'LICENSES'), { recursive: true }); // Debian has the text
  writeFileSync(join(doc, 'copyright'), readFileSync(at('scripts', 'packaging', 'copyright')), { mode: 0o644 });
  // A package without a Debian revision is native to dpkg: one change log, of this name.
  writeFileSync(join(doc, 'changelog'), CHANGES(date), { mode: 0o644 });
  run('gzip', ['-9n', join(doc, 'changelog')]);
  const overrides = join(stage, 'usr', 'share', 'lintian', 'overrides');
  mkdirSync(overrides, { recursive: true });
  writeFileSync(join(overrides, 'pastiche'), readFileSync(at('scripts', 'packaging', 'lintian-overrides')), {
    mode: 0o644,
  });
};

const writeControl = (stage, d, architecture) => {
  const files = filesBelow(stage).filter((path) => !isLink(stage + path));
  const kibibytes = files.reduce((sum, path) => sum + Math.ceil(statSync(stage + path).size / 1024), 0);
  const conffile = apparmorProfile(d);
  const directory = join(stage, 'DEBIAN');
  mkdirSync(directory, { mode: 0o755 });
  const put = (name, text) => writeFileSync(join(directory, name), text, { mode: 0o644 });
  const digest = (path) =>
    createHash('md5')
      .update(readFileSync(stage + path))
      .digest('hex');
  put('control', control(architecture, kibibytes));
  put('conffiles', `${conffile}\n`);
  put(
    'md5sums',
    files
      .filter((path) => path !== conffile)
      .map((path) => `${digest(path)}  ${path.slice(1)}\n`)
      .join(''),
  );
  put('triggers', 'interest-noawait /usr/bin/node\n');
  maintainer(
    join(directory, 'postinst'),
    'configure|triggered|abort-upgrade|abort-remove|abort-deconfigure',
    script('postinst.sh'),
  );
  maintainer(join(directory, 'prerm'), 'remove|deconfigure', script('prerm.sh'));
  maintainer(join(directory, 'postrm'), 'purge', script('postrm.sh'));
};

/** Builds below `scratch`; returns the name of the file in `output`. */
export const packageDeb = ({ scratch, output, date }) => {
  const architecture = ARCHITECTURES[process.arch];
  if (architecture === undefined) throw new Error(`Debian has no architecture for ${process.arch}`);
  const stage = join(scratch, 'deb');
  mkdirSync(stage, { mode: 0o755 });
  const d = stageSystem(stage, { ZSHDIR: '/usr/share/zsh/vendor-completions' });
  writeTexts(stage, d, date);
  writeControl(stage, d, architecture);
  const name = `pastiche_${version}_${architecture}.deb`;
  run('dpkg-deb', ['--root-owner-group', '-Zxz', '--threads-max=1', '--build', stage, join(output, name)], {
    env: { ...process.env, SOURCE_DATE_EPOCH: `${date}` },
  });
  return name;
};
