// SPDX-License-Identifier: Apache-2.0
/** Process, logs and files. */
import { UsageError } from '../errors.ts';
import * as values from '../values.ts';
import { notYet, type OptionRow, row } from './row.ts';

const group = 'General';
const answeredByHelper = (_raw: unknown, _value: string, option: string): void => {
  throw new UsageError('unexpected-argument', `${option} is answered by the native helper, not by the controller`);
};

const socketRow = (short: string | null): OptionRow =>
  row({
    short,
    argument: 'PATH',
    group,
    only: 'passt',
    state: short === null ? 'deprecated' : 'supported',
    help: short === null ? null : 'UNIX socket for QEMU, default: the first free /tmp/passt_N.socket',
    early: 'EARLY_SOCKET',
    apply: (raw, value, option) => {
      raw.socket = values.readSocketPath(value, option);
    },
  });
/** Options of live migration, which there is none of: judged when the mode is known. */
const migration = (argument: string | null): OptionRow =>
  row({
    argument,
    group,
    help: null,
    state: 'unsupported',
    apply: (raw, value, option) => {
      if (argument === null || value !== 'none') raw.migration.push(option);
    },
  });

export const GENERAL = {
  help: row({ short: 'h', group, help: 'show this text and exit', early: 'EARLY_HELP', apply: answeredByHelper }),
  version: row({ group, help: 'show the version and exit', early: 'EARLY_VERSION', apply: answeredByHelper }),
  debug: row({
    short: 'd',
    group,
    help: 'log what happens to each flow; to stderr in the foreground',
    early: 'EARLY_DEBUG',
    apply: (raw) => {
      raw.level = 'debug';
    },
  }),
  trace: row({
    group,
    help: 'like --debug, and log one line for each packet',
    early: 'EARLY_TRACE',
    apply: (raw) => {
      raw.level = 'trace';
    },
  }),
  quiet: row({
    short: 'q',
    group,
    help: 'log warnings and errors only',
    early: 'EARLY_QUIET',
    apply: (raw) => {
      raw.level = 'quiet';
    },
  }),
  foreground: row({
    short: 'f',
    group,
    help: { pasta: 'stay in the foreground; implied when running COMMAND', passt: 'stay in the foreground' },
    early: 'EARLY_FOREGROUND',
    apply: (raw) => {
      raw.foreground = true;
    },
  }),
  stderr: row({
    short: 'e',
    group,
    help: null,
    state: 'deprecated',
    apply: (raw) => {
      raw.warnings.push(
        '--stderr is deprecated: messages go to stderr until the network is ready, and after that with -f -d',
      );
    },
  }),
  'log-file': row({
    short: 'l',
    argument: 'PATH',
    group,
    help: 'log to this file instead of the system log',
    apply: (raw, value, option) => {
      raw.logFile = values.readLogPath(value, option);
    },
  }),
  'log-size': row({
    argument: 'BYTES',
    group,
    help: 'keep the log file below this size, default 1048576',
    apply: (raw, value, option) => {
      raw.logSize = values.readLogSize(value, option);
    },
  }),
  runas: row({
    argument: 'UID[:GID]|LOGIN[:GROUP]',
    group,
    help: 'user and group to run as when started as root, default nobody',
    early: 'EARLY_RUNAS',
    apply: (raw, value) => {
      raw.runas = value;
    },
  }),
  pcap: row({
    short: 'p',
    argument: 'FILE',
    group,
    help: 'write every frame to this capture file',
    apply: (raw, value, option) => {
      raw.pcap = values.readPcapPath(value, option);
    },
  }),
  pid: row({
    short: 'P',
    argument: 'FILE',
    group,
    help: 'write the process ID to this file once the network is ready',
    early: 'EARLY_PID_FILE',
    apply: (raw, value, option) => {
      raw.pidFile = values.readPidPath(value, option);
    },
  }),
  'lock-fd': row({
    argument: 'FD',
    group,
    only: 'pasta',
    help: 'a lock file, inherited, that is held for as long as a process of this instance lives',
    early: 'EARLY_LOCK_FD',
    apply: (_raw, value, option) => {
      values.readFd(value, option, '--lock-fd');
    },
  }),
  socket: socketRow('s'),
  'socket-path': socketRow(null),
  fd: row({
    short: 'F',
    argument: 'FD',
    group,
    only: 'passt',
    help: 'the connected socket of the guest, instead of --socket; implies --one-off',
    early: 'EARLY_FD',
    conflicts: ['socket', 'socket-path'],
    apply: (raw, value, option) => {
      raw.fd = values.readFd(value, option);
      raw.oneOff = true;
    },
  }),
  'one-off': row({
    short: '1',
    group,
    only: 'passt',
    help: 'end when the guest has gone, instead of waiting for the next one',
    early: 'EARLY_ONE_OFF',
    apply: (raw) => {
      raw.oneOff = true;
    },
  }),
  'vhost-user': row({
    group,
    only: 'passt',
    help: 'the socket speaks vhost-user: the rings of the guest are in shared memory',
    early: 'EARLY_VHOST_USER',
    apply: (raw) => {
      raw.vhostUser = true;
    },
  }),
  'print-capabilities': row({
    group,
    only: 'passt',
    help: 'show what vhost-user management tools ask for, as JSON, and exit',
    early: 'EARLY_PRINT_CAPABILITIES',
    apply: answeredByHelper,
  }),
  stats: notYet(null, 'DELAY', group),
  'chroot-fallback': notYet(null, null, group),
  'repair-path': migration('PATH'),
  'migrate-exit': migration(null),
  'migrate-no-linger': migration(null),
} as const satisfies Record<string, OptionRow>;
