/* SPDX-License-Identifier: Apache-2.0 */
/*
 * passt: the socket that the guest's hypervisor connects to. It is opened at once, like the PID file: by whoever started
 * us, before root is given up, so that the caller's directory and the caller's hypervisor are what it is for. What comes
 * over a connection is for the controller alone: no byte of it, and no descriptor, is ever received here.
 */
#include "helper.h"

#include <sys/file.h>

#define DEFAULT_PATH "/tmp/passt_%d.socket"
/* As in passt(1), where qrap looks for them, too. */
#define DEFAULT_PATHS 64
/* Above what any user may have: the kernel grants net.core.wmem_max and rmem_max. */
#define BUFFER_BYTES (64 << 20)
#define LOCK_MS 200

static struct {
    int fd; /* -1: none, or given away */
    bool listens, given;
    char path[UNIX_PATH_BYTES + 1];
} guest = {.fd = -1};

/* Frames are up to 64 KiB: with the default of 208 KiB three of them stop a sender that nobody reads from at the moment. */
static void raise_buffers(int fd)
{
    const int bytes = BUFFER_BYTES;

    /* #syscalls:setup,host setsockopt(*, SOL_SOCKET, SO_SNDBUF, *, *) — passt: room for frames to the guest */
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
    /* #syscalls:setup,host setsockopt(*, SOL_SOCKET, SO_RCVBUF, *, *) — passt: and from it, where --fd is no UNIX socket */
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
}

/*
 * Two instances that start at the same time must not both take a socket for stale that one of them has just bound or
 * replaced: who looks holds a lock on the directory. It is no authority, anybody may hold it: so it is not waited for long.
 */
static int lock_directory(const char *path)
{
    char name[256];
    int directory = open_parent(path, O_RDONLY, name, sizeof(name));

    for (int64_t start = now_ms(); directory >= 0 && flock(directory, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;) {
        if (now_ms() - start >= LOCK_MS)
            break;
        usleep(1000);
    }
    return directory;
}

static int listen_at(const char *path, enum unix_use use)
{
    int fd = unix_open_listener(path, use);

    if (fd >= 0)
        snprintf(guest.path, sizeof(guest.path), "%s", path);
    return fd;
}

/* errno as it was */
static void unlock(int lock)
{
    int errnum = errno;

    if (lock >= 0)
        close(lock);
    errno = errnum;
}

static int listen_by_default(void)
{
    char path[UNIX_PATH_BYTES + 1];
    int lock = -1, fd = -1; /* the names have one directory, waited for once */

    for (int i = 1; i <= DEFAULT_PATHS && fd < 0; i++) {
        snprintf(path, sizeof(path), DEFAULT_PATH, i);
        if (i == 1)
            lock = lock_directory(path);
        fd = listen_at(path, UNIX_GUEST_DEFAULT);
        if (fd < 0 && errno != EADDRINUSE && errno != ENOTSOCK)
            die_errno("Failed to bind UNIX domain socket %s", path);
    }
    unlock(lock);
    if (fd < 0)
        die("All of /tmp/passt_1.socket to /tmp/passt_%d.socket are in use: --socket names another path", DEFAULT_PATHS);
    return fd;
}

/* User Mode Linux: the words are those that callers of slirp4netns know. */
static int listen_for_packets(const char *path)
{
    int fd = listen_at(path, UNIX_PACKETS);

    if (fd < 0 && errno == ENOTSOCK)
        die("bind: %s exists and is not a socket", path);
    if (fd < 0)
        die_errno("bind: %s", path);
    notice("Waiting for connection to %s", path);
    return fd;
}

static int listen_as_told(const char *path)
{
    int lock = lock_directory(path), fd = listen_at(path, UNIX_GUEST);

    unlock(lock);
    if (fd >= 0)
        return fd;
    switch (errno) {
    case ENAMETOOLONG: die("Invalid socket path: %s (it has 1 to %d bytes)", path, UNIX_PATH_BYTES);
    case EADDRINUSE: die("Socket path %s already in use", path);
    case ENOTSOCK: die("Failed to bind UNIX domain socket: %s exists and is not a socket", path);
    default: die_errno("Failed to bind UNIX domain socket %s", path);
    }
}

/* What the caller connected for us; its descriptor's flags are ours to change. */
static int take_inherited(const struct settings *s)
{
    struct sockaddr_storage peer;
    socklen_t bytes = sizeof(peer), length = sizeof(int);
    int type = 0;

    if (fcntl(s->guest_fd, F_GETFD) < 0)
        die("Invalid --fd: %d is not open", s->guest_fd);
    if (getsockopt(s->guest_fd, SOL_SOCKET, SO_TYPE, &type, &length) != 0 || type != SOCK_STREAM ||
        getpeername(s->guest_fd, (struct sockaddr *)&peer, &bytes) != 0)
        die("Invalid --fd: %d is not a connected stream socket", s->guest_fd);
    if (s->vhost_user && peer.ss_family != AF_UNIX)
        die("Invalid --fd: %d is not a UNIX socket, which vhost-user needs", s->guest_fd);
    int fd = fcntl(s->guest_fd, F_DUPFD_CLOEXEC, 3);
    if (fd < 0 || fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0)
        die_errno("Can't use descriptor %d", s->guest_fd);
    close(s->guest_fd);
    raise_buffers(fd);
    return fd;
}

void guest_prepare(const struct settings *s)
{
    guest.listens = s->guest_fd < 0;
    guest.fd = s->bess ? listen_for_packets(s->socket) : !guest.listens ? take_inherited(s) : s->socket ? listen_as_told(s->socket) : listen_by_default();
}

/* For the reader of a log: what is not printable ASCII is not repeated. */
static void show_path(char shown[UNIX_PATH_BYTES + 1])
{
    size_t i = 0;

    for (; guest.path[i]; i++) {
        char c = guest.path[i];
        shown[i] = c < ' ' || c > '~' || c == '"' || c == '\\' ? '?' : c;
    }
    shown[i] = '\0';
}

bool guest_is_awaited(void)
{
    return guest.given && guest.listens;
}

int guest_open(bool *listens, char path[UNIX_PATH_BYTES + 1])
{
    errno = guest.given ? EALREADY : ENOTSOCK;
    if (guest.given || guest.fd < 0)
        return -1;
    *listens = guest.listens;
    show_path(path);
    int fd = guest.fd;
    if (guest.listens)
        fd = fcntl(guest.fd, F_DUPFD_CLOEXEC, 3); /* #syscalls:setup fcntl(*, F_DUPFD_CLOEXEC, *) — the controller's copy, to wait for guests */
    else
        guest.fd = -1; /* channel_send() closes ours: the connection lives as long as the controller's */
    guest.given = fd >= 0;
    return fd;
}

int guest_accept(pid_t *pid)
{
    struct ucred peer = {.pid = 0};
    socklen_t length = sizeof(peer);

    errno = EBADF;
    if (guest.fd < 0 || !guest.given)
        return -1;
    /* #syscalls:setup,host accept4(*, 0, 0, SOCK_CLOEXEC+SOCK_NONBLOCK) — passt: the guest's hypervisor */
    int fd = accept4(guest.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return -1;
    /* For the log only: who may connect is said by the socket's mode. */
    /* #syscalls:setup,host getsockopt(*, SOL_SOCKET, SO_PEERCRED, *, *) — passt: which process that is */
    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length);
    raise_buffers(fd);
    *pid = peer.pid;
    return fd;
}
