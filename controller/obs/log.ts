// SPDX-License-Identifier: Apache-2.0
/**
 * The log: one line a message, to stderr, the system log or a file. Until `openLog` everything goes to stderr, since that is
 * where callers look for why a start failed.
 *
 * In the packet path ask first, so that nothing is formatted in vain: `if (log.debugEnabled) log.debug(…)`, and warnings
 * about what a guest can cause at will only through a {@link Site}.
 */
import { writeSync } from 'node:fs';
import { type LogFile, openLogFile } from './log-file.ts';

export type Level = 'quiet' | 'info' | 'debug' | 'trace';

/** Live bindings: importers see the current values. */
export let infoEnabled = true;
export let debugEnabled = false;
export let traceEnabled = false;

interface Kind {
  /** Prefix in files and on stderr, one width. */
  readonly label: string;
  /** RFC 5424 §6.2.1 severity. */
  readonly severity: number;
}
const ERROR: Kind = { label: 'ERROR:   ', severity: 3 };
const WARNING: Kind = { label: 'WARNING: ', severity: 4 };
const INFO: Kind = { label: 'info:    ', severity: 6 };
const DEBUG: Kind = { label: '         ', severity: 7 };

/** RFC 5424 §6.2.1: system daemons. */
const FACILITY_DAEMON = 3 << 3;
const LINE_CHARS_MAX = 4096;
const STDERR = 2;

/** The journal reads stderr (the helper looked): each line has its priority in front, sd-daemon(3). */
const inJournal = process.env['PASTICHE_STDERR'] === 'journal';

let stderr = true;
/** With time and label, as a log; without, as messages to the caller. */
let stamped = false;
let syslog = -1;
let file: LogFile | null = null;
let ident = 'pasta';
let pid = 0;

/** Seconds since start, to a tenth of a millisecond. */
const stamp = (): string => (performance.now() / 1000).toFixed(4);

/** Control characters would let a guest forge lines or steer a terminal. */
const printable = (text: string): string =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  text.slice(0, LINE_CHARS_MAX).replace(/[\u0000-\u001f\u007f-\u009f]/g, '?');

const send = (fd: number, text: string): void => {
  try {
    /* #syscalls:controller write — log lines to stderr and the system log */
    writeSync(fd, text);
  } catch {
    // A full or closed stderr, or a log daemon that is gone, must not end the network.
  }
};

const emit = (kind: Kind, message: string): void => {
  const text = printable(message);
  const time = stamp();
  const line = `${time}: ${kind.label}${text}`;
  if (stderr) send(STDERR, `${inJournal ? `<${kind.severity}>` : ''}${stamped ? line : text}\n`);
  // The journal is the system log, too: one line of each is enough.
  const isTold = stderr && inJournal;
  if (syslog >= 0 && kind !== DEBUG && !isTold)
    send(syslog, `<${FACILITY_DAEMON | kind.severity}>${ident}[${pid}]: ${text}`);
  file?.append(line, time);
};

export const error = (text: string): void => emit(ERROR, text);
export const warn = (text: string): void => emit(WARNING, text);
export const info = (text: string): void => {
  if (infoEnabled) emit(INFO, text);
};
export const debug = (text: string): void => {
  if (debugEnabled) emit(DEBUG, text);
};
export const trace = (text: string): void => {
  if (traceEnabled) emit(DEBUG, text);
};

export const setLevel = (level: Level): void => {
  infoEnabled = level !== 'quiet';
  debugEnabled = level === 'debug' || level === 'trace';
  traceEnabled = level === 'trace';
  stamped = debugEnabled;
};

export interface LogSinks {
  /** Name in the system log and in the file's header. */
  readonly program: string;
  readonly version: string;
  /** That of the PID file: by which users know us. */
  readonly pid: number;
  /** Datagram socket connected to /dev/log, or -1. */
  readonly syslogFd: number;
  /** Read-write, without O_APPEND, empty. `size` in bytes. */
  readonly file: { readonly fd: number; readonly size: number } | null;
}

/** From here on messages also go to these sinks. Stderr stays until {@link leaveStderr}. */
export const openLog = (sinks: LogSinks): void => {
  ident = sinks.program;
  pid = sinks.pid;
  syslog = sinks.syslogFd;
  const header = `${sinks.program} ${sinks.version}: pastiche (${pid})`;
  file = sinks.file === null ? null : openLogFile(sinks.file.fd, sinks.file.size, header);
};

/** The network is ready and stderr belongs to the caller again. */
export const leaveStderr = (): void => {
  stderr = false;
};

/** How a message about one flow starts: "Flow 17 (TCP, from tap): …". `what` names protocol and direction. */
export const flowLine = (index: number, what: string, text: string): string => `Flow ${index} (${what}): ${text}`;

/** The limit of the original, which log watchers are tuned to. */
const SITE_LINES_MAX = 5;
const SITE_WINDOW_MS = 1000;

/** One place in the packet path that may warn: at most five lines a second, and then how many it kept to itself. */
export interface Site {
  readonly what: string;
  windowStart: number;
  lines: number;
  suppressed: number;
}
/** `what` names the warning where its suppressed occurrences are counted: "IPv4 fragments". */
export const site = (what: string): Site => ({ what, windowStart: Number.NEGATIVE_INFINITY, lines: 0, suppressed: 0 });

/** Whether this call may warn now; counts either way and allocates nothing unless it reports what was suppressed. */
export const allow = (s: Site, nowMs: number): boolean => {
  if (nowMs - s.windowStart >= SITE_WINDOW_MS) {
    if (s.suppressed > 0) warn(`${s.what}: ${s.suppressed} more not logged`);
    s.windowStart = nowMs;
    s.lines = 0;
    s.suppressed = 0;
  }
  if (s.lines < SITE_LINES_MAX) {
    s.lines++;
    return true;
  }
  s.suppressed++;
  return false;
};
/** {@link warn} within the site's limit. `text` should be a constant: build one only after {@link allow}. */
export const warnAt = (s: Site, nowMs: number, text: string): void => {
  if (allow(s, nowMs)) warn(text);
};
/** {@link info}, likewise. */
export const infoAt = (s: Site, nowMs: number, text: string): void => {
  if (infoEnabled && allow(s, nowMs)) info(text);
};
