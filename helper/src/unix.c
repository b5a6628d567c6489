/* SPDX-License-Identifier: Apache-2.0 */
/*
 * UNIX sockets that listen at a path, and the three over which a running instance is spoken to: -c (upstream's protocol), our own and
 * that of slirp4netns. Who is let in there is for this side to see: the controller has no user IDs of ours to compare with. The mode
 * keeps others from connecting; SO_PEERCRED is for file systems that do not, and for a mode that was changed.
 */
#include "helper.h"

#include <sys/stat.h>
#include <sys/un.h>

enum { CONF, CONTROL, API, KINDS }; /* UNIX_KINDS of method-table.c */

static int listeners[KINDS] = {-1, -1, -1};
static uid_t own_uid;

static int unix_socket(enum unix_use use)
{
    if (use == UNIX_PACKETS)
        return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0); /* before the first filter */
    /* #syscalls:setup socket(AF_UNIX, SOCK_STREAM+SOCK_CLOEXEC+SOCK_NONBLOCK, 0) — the sockets of -c and --control */
    return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

/*
 * From the first moment on, it is for us alone; passt's is for whom the caller's umask lets in, as the original's. So is that of
 * slirp4netns, but for writing, which connecting needs: 0755 less the umask.
 */
static int bind_as(int fd, const struct sockaddr_un *address, enum unix_use use)
{
    if (use == UNIX_GUEST || use == UNIX_GUEST_DEFAULT || use == UNIX_PACKETS)
        return bind(fd, (const struct sockaddr *)address, sizeof(*address));
    /* #syscalls:setup umask — a socket's mode is what its bind() leaves of 0777 */
    mode_t before = umask(0177);
    if (use == UNIX_API)
        umask(before | 022);
    int result = bind(fd, (const struct sockaddr *)address, sizeof(*address));

    umask(before);
    return result;
}

/*
 * A file that no socket is bound to: its process ended without removing it. A datagram socket that asks to be connected to one
 * of another type is told so (EPROTOTYPE) and leaves no connection behind: to an instance with --one-off that waits for its
 * guest, that would be the guest, and its end the end of the instance. It finds sockets by file: whatever name, of whatever
 * network namespace, they were bound by.
 */
static bool is_stale(const struct sockaddr_un *address)
{
    /* #syscalls:setup socket(AF_UNIX, SOCK_DGRAM+SOCK_CLOEXEC+SOCK_NONBLOCK, 0) — what is asked with */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* #syscalls:setup connect — the question; never a connection, but to a live socket of datagrams */
    bool refused = fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) != 0 && errno == ECONNREFUSED;

    if (fd >= 0)
        close(fd);
    errno = EADDRINUSE;
    return refused;
}

static int bind_or_replace(int fd, const struct sockaddr_un *address, enum unix_use use)
{
    struct stat status;

    if (bind_as(fd, address, use) == 0)
        return 0;
    if (errno != EADDRINUSE)
        return -1;
    if (fstatat(AT_FDCWD, address->sun_path, &status, AT_SYMLINK_NOFOLLOW) != 0)
        return -1;
    /* What is no socket refuses, too. */
    errno = ENOTSOCK;
    if (!S_ISSOCK(status.st_mode))
        return -1;
    /* A default name in a directory for everybody: what another user left there is not ours to remove, were we root. */
    errno = EADDRINUSE;
    if (use == UNIX_GUEST_DEFAULT && status.st_uid != geteuid())
        return -1;
    /* Callers of slirp4netns count on it that a path is theirs: an instance of theirs that lives on has lost it. */
    if (use != UNIX_API && use != UNIX_PACKETS && !is_stale(address))
        return -1;
    return unlinkat(AT_FDCWD, address->sun_path, 0) == 0 ? bind_as(fd, address, use) : -1;
}

int unix_open_listener(const char *path, enum unix_use use)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd, errnum;

    static_assert(sizeof(address.sun_path) == UNIX_PATH_BYTES + 1, "a path and its NUL");
    errno = ENAMETOOLONG;
    if (*path == '\0' || snprintf(address.sun_path, sizeof(address.sun_path), "%s", path) > UNIX_PATH_BYTES)
        return -1;
    fd = unix_socket(use);
    if (fd < 0)
        return -1;
    errnum = bind_or_replace(fd, &address, use) == 0 ? 0 : errno;
    if (errnum == 0)
        leave_behind(path);
    if (errnum == 0 && listen(fd, SOMAXCONN) == 0)
        return fd;
    errnum = errnum != 0 ? errnum : errno;
    close(fd);
    errno = errnum;
    return -1;
}

int unix_listen(int kind, const char *path)
{
    errno = EALREADY;
    if (listeners[kind] >= 0)
        return -1;
    int fd = unix_open_listener(path, kind == API ? UNIX_API : UNIX_PRIVATE);
    if (fd < 0)
        return -1;
    listeners[kind] = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (listeners[kind] < 0) {
        int errnum = errno;

        close(fd);
        errno = errnum;
        return -1;
    }
    /* #syscalls:setup geteuid — who we are, for whom comes */
    own_uid = geteuid();
    return fd;
}

bool unix_is_open(void)
{
    return listeners[CONF] >= 0 || listeners[CONTROL] >= 0;
}

int unix_accept(int kind, pid_t *pid)
{
    struct ucred peer = {.uid = (uid_t)-1};
    socklen_t length = sizeof(peer);

    errno = EBADF;
    if (listeners[kind] < 0)
        return -1;
    /* #syscalls:setup,host accept4(*, 0, 0, SOCK_CLOEXEC+SOCK_NONBLOCK) — clients of -c, --control and --api-socket */
    int fd = accept4(listeners[kind], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return -1;
    /* #syscalls:setup,host getsockopt(*, SOL_SOCKET, SO_PEERCRED, *, *) — who it is */
    /* That of slirp4netns is for whom its mode lets in: callers in user namespaces of theirs have other IDs there. */
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && (kind == API || peer.uid == own_uid || peer.uid == 0)) {
        *pid = peer.pid;
        return fd;
    }
    close(fd);
    errno = EACCES;
    return -1;
}
