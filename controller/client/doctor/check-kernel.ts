// SPDX-License-Identifier: Apache-2.0
/** Checks: the kernel, what it lets an ordinary user do, and Node. */
import { type Finding, failure, type Look, ok, sysctl, warning } from './finding.ts';
import type { World } from './world.ts';

/** close_range(2), without which no descriptor of the caller's can be kept from the controller. */
const KERNEL_MIN = [5, 9] as const;
/** What a start needs: one for the guest and one for the controller, nested nowhere. */
const NAMESPACES_MIN = 2;

const kernel: Look = ({ read }) => {
  const release = read('/proc/sys/kernel/osrelease')?.trim() ?? '';
  const [, major, minor] = /^(\d+)\.(\d+)/.exec(release) ?? [];
  if (major === undefined || minor === undefined)
    return warning(
      release === '' ? '/proc/sys/kernel/osrelease cannot be read' : `release ${release}`,
      'which features the kernel has is not known; /proc may be hidden',
      'mount -t proc proc /proc',
    );
  const old = Number(major) < KERNEL_MIN[0] || (Number(major) === KERNEL_MIN[0] && Number(minor) < KERNEL_MIN[1]);
  if (!old) return ok(`Linux ${release}`);
  return failure(`Linux ${release}`, `nothing starts before Linux ${KERNEL_MIN.join('.')}`, 'install a newer kernel');
};

/** What is known to forbid user namespaces, most common first. */
const forbidder = (world: World): readonly [found: string, remedy: string] => {
  const limit = sysctl(world, 'user.max_user_namespaces');
  if (limit !== null && limit < NAMESPACES_MIN)
    return [`user.max_user_namespaces is ${limit}`, 'sudo sysctl -w user.max_user_namespaces=15000'];
  const networks = sysctl(world, 'user.max_net_namespaces');
  if (networks !== null && networks < NAMESPACES_MIN)
    return [`user.max_net_namespaces is ${networks}`, 'sudo sysctl -w user.max_net_namespaces=15000'];
  if (sysctl(world, 'kernel.unprivileged_userns_clone') === 0)
    return ['kernel.unprivileged_userns_clone is 0', 'sudo sysctl -w kernel.unprivileged_userns_clone=1'];
  if (sysctl(world, 'kernel.apparmor_restrict_unprivileged_userns') === 1)
    return [
      'AppArmor forbids them to programs without a profile (kernel.apparmor_restrict_unprivileged_userns is 1)',
      'sudo apparmor_parser -r /etc/apparmor.d/pastiche (docs/INSTALL.md), or for every program: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0',
    ];
  return [
    'no setting of the kernel is known to forbid it',
    'inside a container, let it make user namespaces (podman, docker: --security-opt seccomp=unconfined --security-opt apparmor=unconfined)',
  ];
};

const userNamespaces: Look = (world) => {
  const { namespaces } = world.native;
  const limit = sysctl(world, 'user.max_user_namespaces');
  if (namespaces === null)
    return ok(`made one${limit === null ? '' : `, ${limit} allowed (user.max_user_namespaces)`}`);
  const [found, remedy] = forbidder(world);
  return failure(
    `${namespaces}; ${found}`,
    'pasta cannot make a namespace for a command; joining one that is there needs the other checks only',
    remedy,
  );
};

const controllerNamespaces: Look = (world) => {
  const { controllerNamespaces: fault } = world.native;
  if (fault === null) return ok('made a user, net, ipc, uts and mount namespace');
  const [found, remedy] = forbidder(world);
  return failure(
    `${fault}; ${found}`,
    'nothing starts, not even passt: the part that reads packets runs in empty namespaces of its own',
    remedy,
  );
};

const TUN_NEEDED = 'pasta and slirp4netns have no interface to offer; passt and --splice-only need none';

const tunDevice: Look = ({ native: { tunDevice: fault, tunOpen } }) => {
  if (fault !== null)
    return failure(
      `/dev/net/tun: ${fault}`,
      TUN_NEEDED,
      'sudo modprobe tun; inside a container: podman run --device /dev/net/tun',
    );
  if (tunOpen === null) return ok('/dev/net/tun can be opened');
  const denied = /denied|not permitted/.test(tunOpen);
  return failure(
    `/dev/net/tun: ${tunOpen}`,
    TUN_NEEDED,
    denied
      ? 'sudo chmod 0666 /dev/net/tun, which is what udev does; it gives no access to the host (inside a container: podman run --device /dev/net/tun)'
      : 'sudo modprobe tun',
  );
};

const tap: Look = ({ native: { namespaces, tunDevice: device, tunOpen, tap: fault } }) => {
  if (namespaces !== null || device !== null || tunOpen !== null) return null;
  if (fault === null) return ok('made one in a namespace');
  return failure(fault, TUN_NEEDED, 'a security module may forbid it: sudo dmesg | grep -i -e apparmor -e avc');
};

const offload: Look = ({ native: { tap: fault, tapOffload } }) => {
  if (fault !== null) return null;
  if (tapOffload.uso) return ok('TCP and UDP segments up to 64 KiB (TSO, USO)');
  const meaning = tapOffload.tso
    ? 'bulk UDP towards the guest goes frame by frame, at several times the processor time'
    : 'bulk traffic goes frame by frame, at several times the processor time';
  return warning(tapOffload.tso ? 'TCP segments only (TSO): no USO' : 'none', meaning, 'use Linux 6.2 or newer');
};

const seccomp: Look = ({ native: { filter }, read }) => {
  const actions = read('/proc/sys/kernel/seccomp/actions_avail')?.trim();
  if (filter === null) return ok(actions === undefined ? 'filters can be installed' : `filters; actions: ${actions}`);
  return failure(
    filter,
    'nothing starts: every process that is sealed needs its allowlist',
    'use a kernel with CONFIG_SECCOMP_FILTER=y; inside a container, let it call seccomp(2)',
  );
};

const peekOffset: Look = ({ native }) =>
  native.peekOffset
    ? ok('SO_PEEK_OFF for TCP')
    : warning(
        'no SO_PEEK_OFF for TCP',
        'data that the guest has not acknowledged is read again from its start, which costs processor time on fast connections',
        'use Linux 6.9 or newer',
      );

const inotify: Look = (world) => {
  if (world.native.inotify === null) return ok('an instance could be made');
  const most = sysctl(world, 'fs.inotify.max_user_instances');
  return warning(
    `${world.native.inotify}${most === null ? '' : `; fs.inotify.max_user_instances is ${most}`}`,
    'that a named namespace has gone is noticed within a second instead of at once',
    'sudo sysctl -w fs.inotify.max_user_instances=1024',
  );
};

const node = ({ native }: World): Finding => ok(`${native.node.path} is ${native.node.version}`);

/** That it cannot be read is said by helper/src/doctor.c: this would not run. */
const installation = ({ native }: World): Finding => ok(native.executable);

export const KERNEL = {
  installation,
  node,
  kernel,
  seccomp,
  'user-namespaces': userNamespaces,
  'controller-namespaces': controllerNamespaces,
  'tun-device': tunDevice,
  tap,
  offload,
  'peek-offset': peekOffset,
  inotify,
} as const satisfies Record<string, Look>;
