// SPDX-License-Identifier: Apache-2.0
/** Process, logs and files. */
import { UsageError } from '../errors.ts';
import type { RawSettings } from '../settings.ts';
import * as values from '../values.ts';
import { notYet, type OptionRow, onlyForVhostUser, row } from './row.ts';

const group = 'General';
const answeredByHelper = (_raw: unknown, _value: string, option: string): void => {
  throw new UsageError('unexpected-argument', `${option} is answered by the native helper, not by the controller`);
};

const setSocket = (raw: RawSettings, value: string, option: string): void => {
  raw.socket = values.readSocketPath(value, option);
};

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
    help: 'stay in the foreground; implied when running COMMAND',
    early: 'EARLY_FOREGROUND',
    apply: (raw) => {
      raw.foreground = true;
    },
  }),
  stderr: row({
    short: 'e',
    group,
    help: null,
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
  stats: notYet(null, 'DELAY', group),
  'chroot-fallback': notYet(null, null, group),
  socket: row({
    short: 's',
    argument: 'PATH',
    group,
    help: 'UNIX socket for the hypervisor, default the first free /tmp/passt_N.socket',
    early: 'EARLY_SOCKET',
    only: 'passt',
    conflicts: ['fd'],
    apply: setSocket,
  }),
  'socket-path': row({
    argument: 'PATH',
    group,
    help: null,
    early: 'EARLY_SOCKET',
    only: 'passt',
    conflicts: ['fd'],
    apply: setSocket,
  }),
  fd: row({
    short: 'F',
    argument: 'FD',
    group,
    help: 'descriptor of a socket that is connected to the hypervisor already; implies --one-off',
    early: 'EARLY_FD',
    only: 'passt',
    apply: (raw, value, option) => {
      raw.fd = values.readFd(value, option);
      raw.oneOff = true;
    },
  }),
  'one-off': row({
    short: '1',
    group,
    help: 'end when the guest has hung up, instead of waiting for the next one',
    early: 'EARLY_ONE_OFF',
    only: 'passt',
    apply: (raw) => {
      raw.oneOff = true;
    },
  }),
  'vhost-user': row({
    group,
    help: "share the guest's memory, instead of sending it frames",
    early: 'EARLY_VHOST_USER',
    only: 'passt',
    apply: (raw) => {
      raw.vhostUser = true;
    },
  }),
  'print-capabilities': row({
    group,
    help: 'print what a vhost-user front-end wants to know, and exit',
    early: 'EARLY_PRINT_CAPABILITIES',
    only: 'passt',
    apply: answeredByHelper,
  }),
  'repair-path': row({
    argument: 'PATH',
    group,
    help: null,
    apply: (_raw, value, option) => {
      if (value !== 'none') throw new UsageError('wrong-mode', `${option} is for vhost-user mode only`);
    },
  }),
  'migrate-exit': onlyForVhostUser(null, group),
  'migrate-no-linger': onlyForVhostUser(null, group),
} as const satisfies Record<string, OptionRow>;
