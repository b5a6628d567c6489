/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader of resolv.conf, for slirp4netns: the file changes while we run, mostly by another one taking its name, and the sealed host
 * side may open nothing. So this is a process of its own. A byte of the controller's is answered by what the file says now, in one message;
 * it takes no path and no other word, has no capability, and its list of system calls is its own.
 */
#include "helper.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#define RESOLV_CONF "/etc/resolv.conf"
/* More than a resolver reads of it. */
#define FILE_BYTES_MAX 16384

static char text[FILE_BYTES_MAX];

/* Empty: there is no such file, or nothing in it. One zero byte: it cannot be read, and so nothing is known of it. */
static size_t read_file(void)
{
    size_t length = 0;

    text[0] = 0;
    /* #syscalls:resolver openat(AT_FDCWD, *, O_RDONLY+O_NONBLOCK+O_NOCTTY+O_CLOEXEC) — resolv.conf, whatever has that name now */
    int fd = open(RESOLV_CONF, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

    if (fd < 0)
        return errno == ENOENT ? 0 : 1;
    while (length < sizeof(text)) {
        /* #syscalls:resolver read — a question, and the file */
        ssize_t n = read(fd, text + length, sizeof(text) - length);

        if (n <= 0)
            break;
        length += (size_t)n;
    }
    /* #syscalls:resolver close(*) — the file, each time it was read */
    close(fd);
    return length;
}

static _Noreturn void serve(int channel)
{
    char byte;

    while (read(channel, &byte, 1) == 1) {
        size_t length = read_file();

        /* No message is empty: that would be the end. */
        if (length == 0)
            text[length++] = '\n';
        /* #syscalls:resolver write — the answer */
        if (write(channel, text, length) < 0)
            break;
    }
    /* #syscalls:resolver exit_group — nobody asks any more */
    _exit(0);
}

int resolver_start(void)
{
    int pair[2];
    const pid_t parent = getpid();

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        die_errno("Can't make a socket pair");
    pid_t reader = fork();
    if (reader < 0)
        die_errno("Can't fork the reader of resolv.conf");
    if (reader > 0) {
        close(pair[1]);
        return pair[0];
    }
    die_hook(NULL);
    pid_file_leave();
    files_as_ourselves();
    die_with_parent(parent, SIGKILL);
    /* Of the caller's descriptors none stays: who waits for the end of its output would wait for us. */
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (null < 0 || dup2(null, fd) < 0)
            _exit(1);
    const int channel = STDERR_FILENO + 1;
    if ((pair[1] != channel && dup2(pair[1], channel) < 0) || close_range((unsigned)channel + 1, ~0U, 0) != 0)
        _exit(1);
    drop_capabilities(false);
    no_new_privileges();
    prctl(PR_SET_DUMPABLE, 0);
    seal_install(PROFILE_RESOLVER);
    serve(channel);
}
