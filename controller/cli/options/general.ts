// SPDX-License-Identifier: Apache-2.0
/** Process, logs and files. */
import { UsageError } from '../errors.ts';
import * as values from '../values.ts';
import { notYet, type OptionRow, onlyFor, row } from './row.ts';

const group = 'General';
const answeredByHelper = (_raw: unknown, _value: string, option: string): void => {
  throw new UsageError('unexpected-argument', `${option} is answered by the native helper, not by the controller`);
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
  fd: notYet('F', 'FD', group),
  'chroot-fallback': notYet(null, null, group),
  socket: onlyFor('passt', 'PATH', group),
  'socket-path': onlyFor('passt', 'PATH', group),
  'vhost-user': onlyFor('passt', null, group),
  'print-capabilities': onlyFor('passt', null, group),
  'one-off': onlyFor('passt', null, group),
  'repair-path': row({
    argument: 'PATH',
    group,
    help: null,
    apply: (_raw, value, option) => {
      if (value !== 'none') throw new UsageError('wrong-mode', `${option} is for vhost-user mode only`);
    },
  }),
  'migrate-exit': onlyFor('vhost-user', null, group),
  'migrate-no-linger': onlyFor('vhost-user', null, group),
} as const satisfies Record<string, OptionRow>;
