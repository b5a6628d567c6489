/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two sockets over which a running instance is spoken to: -c (upstream's protocol) and our own. Who is let in is for
 * this side to see: the controller has no user IDs of ours to compare with. The mode keeps others from connecting;
 * SO_PEERCRED is for file systems that do not, and for a mode that was changed.
 */
#include "helper.h"

#include <sys/stat.h>
#include <sys/un.h>

#define KINDS 2

static int listeners[KINDS] = {-1, -1};
static uid_t own_uid;

static int unix_socket(void)
{
    /* #syscalls:setup socket(AF_UNIX, SOCK_STREAM+SOCK_CLOEXEC+SOCK_NONBLOCK, 0) — the sockets of -c and --control */
    return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

/* From the first moment on, it is for us alone. */
static int bind_private(int fd, const struct sockaddr_un *address)
{
    /* #syscalls:setup umask — a socket's mode is what its bind() leaves of 0777 */
    mode_t before = umask(0177);
    int result = bind(fd, (const struct sockaddr *)address, sizeof(*address));

    umask(before);
    return result;
}

/* A socket that nobody listens at: its process ended without removing it. false: errno. */
static bool is_stale(const struct sockaddr_un *address)
{
    int fd = unix_socket();
    bool refused = fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) != 0 && errno == ECONNREFUSED;

    if (fd >= 0)
        close(fd);
    errno = EADDRINUSE;
    return refused;
}

static int bind_or_replace(int fd, const struct sockaddr_un *address)
{
    struct stat status;

    if (bind_private(fd, address) == 0)
        return 0;
    if (errno != EADDRINUSE)
        return -1;
    /* What is no socket refuses, too. */
    if (fstatat(AT_FDCWD, address->sun_path, &status, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISSOCK(status.st_mode)) {
        errno = ENOTSOCK;
        return -1;
    }
    if (!is_stale(address))
        return -1;
    return unlinkat(AT_FDCWD, address->sun_path, 0) == 0 ? bind_private(fd, address) : -1;
}

int unix_listen(int kind, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd, errnum;

    errno = EALREADY;
    if (listeners[kind] >= 0)
        return -1;
    errno = ENAMETOOLONG;
    if (snprintf(address.sun_path, sizeof(address.sun_path), "%s", path) >= (int)sizeof(address.sun_path))
        return -1;
    fd = unix_socket();
    if (fd < 0)
        return -1;
    errnum = bind_or_replace(fd, &address) == 0 ? 0 : errno;
    if (errnum == 0)
        leave_behind(path);
    if (errnum == 0 && listen(fd, SOMAXCONN) == 0 && (listeners[kind] = fcntl(fd, F_DUPFD_CLOEXEC, 3)) >= 0) {
        /* #syscalls:setup geteuid — who we are, for whom comes */
        own_uid = geteuid();
        return fd;
    }
    errnum = errnum != 0 ? errnum : errno;
    close(fd);
    errno = errnum;
    return -1;
}

bool unix_is_open(void)
{
    return listeners[0] >= 0 || listeners[1] >= 0;
}

int unix_accept(int kind, pid_t *pid)
{
    struct ucred peer = {.uid = (uid_t)-1};
    socklen_t length = sizeof(peer);

    errno = EBADF;
    if (listeners[kind] < 0)
        return -1;
    /* #syscalls:setup,host accept4(*, 0, 0, SOCK_CLOEXEC+SOCK_NONBLOCK) — clients of -c and --control */
    int fd = accept4(listeners[kind], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return -1;
    /* #syscalls:setup,host getsockopt(*, SOL_SOCKET, SO_PEERCRED, *, *) — who it is */
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && (peer.uid == own_uid || peer.uid == 0)) {
        *pid = peer.pid;
        return fd;
    }
    close(fd);
    errno = EACCES;
    return -1;
}
