// SPDX-License-Identifier: Apache-2.0
import type { GENERAL as ROWS } from '../options/general.ts';
import type { Manual } from './manual.ts';

export const GENERAL: Readonly<Record<keyof typeof ROWS, Manual>> = {
  help: 'Show the options on standard output and exit with status 0.',
  version:
    'Show the version on standard output and exit with status 0. The second word of the first line is the version.',
  debug:
    'Log what happens to each flow. With `--foreground`, the log goes to standard error and stays there; otherwise to the log file or the system log. Of `-d`, `-q` and `--trace`, the last one counts.',
  trace: 'What `--debug` logs, and one line for each packet. Slow.',
  quiet: 'Log warnings and errors only.',
  foreground: {
    pasta:
      'Do not go to the background. Without this option, and with a `PID` or `--netns`, the process that was started ends with status 0 as soon as the network works, and another one stays. When a command is run it is always in the foreground.',
    passt:
      'Do not go to the background. Without this option the process that was started ends with status 0 as soon as the socket listens, and another one stays.',
  },
  stderr:
    'Deprecated, and without effect but for a warning: messages go to standard error until the network is ready, and stay there with `-f -d`.',
  'log-file':
    'Write the log to this file, which is emptied first (mode 0600), instead of the system log. The file stays below `--log-size`: when it is full, its oldest lines go.',
  'log-size': 'The size in bytes below which the log file stays: 40960 or more, by default 1048576 (1 MiB).',
  runas:
    'When started as root: change to this user and group, given as numbers or names, before any namespace is joined. The default is nobody. Without a group it is that of the user. `--runas 0` stays root, which joining a namespace that root has made needs.',
  pcap: 'Write every frame of the guest, both ways, to this file, in the format that tcpdump(8) and Wireshark read.',
  pid: 'Write the process ID of the process that stays to this file, once the network works; an orderly end removes it.',
  'lock-fd':
    'Keep this inherited descriptor (3 or more) open until the end. Whoever holds a lock on it so knows that the instance lives (flock(2)). For programs that manage instances.',
  socket:
    'Listen for QEMU at this UNIX socket. The default is the first of `/tmp/passt_1.socket` to `/tmp/passt_64.socket` at which nobody listens; which one it is, is told at start. A socket that was left behind is replaced; one that is served, and what is no socket, is refused. Who may connect is decided by the mode of the socket, which is what the umask leaves, and by its directory.',
  'socket-path': 'The older name of `--socket`.',
  fd: 'Use this inherited descriptor (3 or more), a connected UNIX stream socket, instead of listening for a guest. Implies `--one-off`.',
  'one-off':
    'End with status 0 when the guest has disconnected. Without it passt waits for the next connection, and connections through it go on.',
  'vhost-user':
    'Speak vhost-user at the socket: frames are read from and written to the memory of the guest, which must be shared (`-object memory-backend-memfd,…,share=on`). Checksum and segmentation offload are what the driver of the guest offers.',
  'print-capabilities':
    'Show, as JSON, what management tools ask of a vhost-user program (for a network device: its type), and exit.',
  stats: 'Not supported: refused.',
  'chroot-fallback': 'Not supported: refused.',
  'repair-path':
    'Not supported, but for `none`, which asks for nothing: connections are not migrated to another host. Refused, as is any option of a migration.',
  'migrate-exit': 'Not supported: refused.',
  'migrate-no-linger': 'Not supported: refused.',
};
