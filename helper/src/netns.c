/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The broker's way into the target namespaces: joined by PID, path or name, or newly created; and how it notices
 * that given ones have gone away.
 */
#include "helper.h"

#include <limits.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <poll.h>
#include <sched.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

/* ---- watching ---- */

/* Readable when the process has ended; -1 where the kernel has none. */
static int pidfd_of(const struct netns_watch *watch, pid_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);

    if (fd < 0 && errno == ESRCH)
        die("Couldn't open network namespace %s: %s", watch->shown, errno_text(ENOENT));
    return fd;
}

static void watch_pid(struct netns_watch *watch, pid_t pid)
{
    watch->fd = pidfd_of(watch, pid);
    if (watch->fd >= 0)
        watch->kind = WATCH_PID;
}

/*
 * An instance whose lock file was removed is one that nobody finds any more: it ends, as if its namespace had gone. Another
 * inotify for that would halve how many instances a user may have; without one (a namespace of a PID) there is the end of the process.
 */
static void watch_lock_file(struct netns_watch *watch)
{
    char link[64], path[PATH_MAX];

    if (hold_fd() < 0)
        return;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", hold_fd());
    ssize_t length = readlink(link, path, sizeof(path) - 1);
    if (length < 0)
        return;
    path[length] = '\0';
    int directory = open_parent(path, O_RDONLY, watch->lock_name, sizeof(watch->lock_name));
    if (directory < 0)
        return;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", directory);
    const int added = inotify_add_watch(watch->fd, link, IN_DELETE | IN_MOVED_FROM | IN_ONLYDIR | IN_MASK_CREATE);
    watch->lock_watch = added > 0 ? added : 0;
    close(directory);
    if (access(path, F_OK) != 0 && errno == ENOENT)
        die("The lock file of --lock-fd %d was removed", hold_fd()); /* while we began to watch */
}

static void watch_path(struct netns_watch *watch, const char *path)
{
    char link[64];
    int directory = open_parent(path, O_RDONLY, watch->name, sizeof(watch->name));

    if (directory < 0)
        return;
    watch->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    snprintf(link, sizeof(link), "/proc/self/fd/%d", directory);
    if (watch->fd >= 0 && inotify_add_watch(watch->fd, link, IN_DELETE | IN_MOVED_FROM | IN_ONLYDIR) >= 0) {
        watch->kind = WATCH_DIRECTORY;
        close(directory);
        watch_lock_file(watch);
        return;
    }
    /* A user has few inotify instances (128 by default): look once a second, then. */
    if (watch->fd >= 0)
        close(watch->fd);
    watch->fd = directory;
    watch->kind = WATCH_POLL;
}

/* /proc/PID/… lives as long as the process does, and is never reported by inotify. */
static void watch_target(struct netns_watch *watch, const char *path)
{
    char resolved[4096], *end;
    struct statfs where;
    const char *directory_end = strrchr(path, '/');
    const char *number = strncmp(path, "/proc/", 6) == 0 ? path + 6 : "";
    long pid = strtol(number, &end, 10);

    if (end == number || *end != '/')
        pid = 0;

    snprintf(resolved, sizeof(resolved), "%.*s", directory_end ? (int)(directory_end - path + 1) : 0, path);
    if (statfs(resolved, &where) == 0 && where.f_type == PROC_SUPER_MAGIC) {
        if (pid > 0)
            watch_pid(watch, (pid_t)pid);
        return;
    }
    watch_path(watch, path);
    if (pid > 0) /* /proc/PID/root/…: a mount that is that process's alone ends with it, and its directory says nothing */
        watch->owner = pidfd_of(watch, (pid_t)pid);
    if (watch->kind != WATCH_NONE && access(path, F_OK) != 0)
        die_errno("Couldn't open network namespace %s", path); /* it went away while we began to watch */
}

static bool directory_event_is_ours(struct netns_watch *watch)
{
    char buffer[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
    /* #syscalls:setup,host,netns read — signals; events of the directory that holds the name; the host side */
    ssize_t length = read(watch->fd, buffer, sizeof(buffer));

    for (char *at = buffer; length > 0 && at < buffer + length;) {
        struct inotify_event *event = (struct inotify_event *)(void *)at;
        const char *name = watch->lock_watch > 0 && event->wd == watch->lock_watch ? watch->lock_name : watch->name;

        if ((event->mask & IN_IGNORED) || (event->len > 0 && strcmp(event->name, name) == 0))
            return true;
        at += sizeof(*event) + event->len;
    }
    return false;
}

bool netns_gone(struct netns_watch *watch)
{
    switch (watch->kind) {
    case WATCH_PID: return true; /* only asked when it is readable */
    case WATCH_DIRECTORY: return directory_event_is_ours(watch);
    case WATCH_POLL:
        /* #syscalls:setup,netns faccessat(*, *, F_OK) — is the namespace's name still there, when inotify was not to be had */
        return syscall(SYS_faccessat, watch->fd, watch->name, F_OK) != 0 && errno == ENOENT;
    case WATCH_NONE: break;
    }
    return false;
}

/* ---- joining ---- */

static bool same_file(int fd, const char *path)
{
    struct stat a, b;

    return fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

bool netns_is_own(int fd)
{
    return same_file(fd, "/proc/self/ns/net");
}

/* NAME below the directory of named namespaces, or a path. */
static void netns_path(const struct settings *s, char *path, size_t bytes)
{
    int length = s->personality == SLIRP4NETNS || strchr(s->netns, '/') ? snprintf(path, bytes, "%s", s->netns)
                                       : snprintf(path, bytes, "%s/%s", s->netns_dir, s->netns);
    if (length >= (int)bytes)
        die("Network namespace name/path %s too long", s->netns);
}

/*
 * A process's network namespace may belong to another user namespace than the process is in by now: bubblewrap makes a second
 * one when all else is made. Only the owner's is of use. -1: not to be had, and the process's own has to do.
 */
static int owner_of(const struct settings *s, int net_fd)
{
    if (!s->target_pid || s->userns || s->personality == SLIRP4NETNS)
        return -1;
    /* #syscalls:setup ioctl(*, NS_GET_USERNS) — which user namespace a process's network belongs to */
    return net_fd < 0 ? -1 : ioctl(net_fd, NS_GET_USERNS);
}

static int open_user_namespace(const struct settings *s, int net_fd, const char *path)
{
    int fd = owner_of(s, net_fd);

    if (fd < 0)
        fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && s->personality == SLIRP4NETNS)
        die_errno("%s", path);
    if (fd < 0)
        die_errno("Couldn't open user namespace %s", path);
    if (same_file(fd, "/proc/self/ns/user")) { /* entering one's own is an error: setns(2) */
        close(fd);
        return -1;
    }
    return fd;
}

void netns_join(const struct settings *s, struct netns_watch *watch)
{
    char user[4096] = "", net[4096];

    /* A named or mounted namespace has no user namespace to look up: --userns names it, else it is ours. */
    if (s->target_pid) {
        snprintf(net, sizeof(net), "/proc/%d/ns/net", (int)s->target_pid);
        if (!s->netns_only)
            snprintf(user, sizeof(user), "/proc/%d/ns/user", (int)s->target_pid);
    } else {
        netns_path(s, net, sizeof(net));
    }
    if (s->userns && !s->netns_only && snprintf(user, sizeof(user), "%s", s->userns) >= (int)sizeof(user))
        die("Invalid userns: %s", s->userns);
    snprintf(watch->shown, sizeof(watch->shown), "%s", net);

    int user_fd = -1, net_fd = open(net, O_RDONLY | O_CLOEXEC);
    if (net_fd < 0 && s->personality == SLIRP4NETNS)
        die_errno("%s", net);
    /* The network that an instance is the way out to cannot be the one that it serves; with a lock file nobody asked for that. */
    if (net_fd >= 0 && s->lock_fd >= 0 && netns_is_own(net_fd))
        die("Network namespace %s is pasta's own", net);
    if (*user && (net_fd >= 0 || access(user, F_OK) != 0))
        user_fd = open_user_namespace(s, net_fd, user);
    if (net_fd < 0)
        die_errno("Couldn't open network namespace %s", net);
    if (s->netns_quit)
        watch_target(watch, net);
    /* What may be root's alone is open; inside, our own ID may have no number to be named by. */
    if (user_fd >= 0)
        files_as_ourselves();
    /* slirp4netns: one that cannot be entered may be one that need not be, which the next call tells. */
    if (user_fd >= 0 && setns(user_fd, CLONE_NEWUSER) != 0 && s->personality != SLIRP4NETNS)
        die_errno("Couldn't enter user namespace %s", user);
    /* The service manager may have put us there: that takes a right which we then need not have. */
    if (!netns_is_own(net_fd) && setns(net_fd, CLONE_NEWNET) != 0)
        s->personality == SLIRP4NETNS ? die_errno("setns(CLONE_NEWNET)") :
        die_errno("Couldn't switch to pasta namespaces: %s", net);
    if (user_fd >= 0)
        close(user_fd);
    close(net_fd);
}

/* ---- creating ---- */

void write_setting(const char *path, const char *text, bool must)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t length = (ssize_t)strlen(text);

    if ((fd < 0 || write(fd, text, (size_t)length) != length) && must)
        die_errno("Couldn't write %s", path);
    if (fd >= 0)
        close(fd);
}

void netns_create(const struct settings *s)
{
    char map[64];
    uid_t uid = geteuid();
    gid_t gid = getegid();

    if (!s->netns_only) {
        if (unshare(CLONE_NEWUSER) != 0)
            die_errno("Couldn't create a user namespace");
        snprintf(map, sizeof(map), "0 %u 1\n", uid);
        write_setting("/proc/self/uid_map", map, true);
        /* Without this, an unprivileged process may not write gid_map: user_namespaces(7). */
        write_setting("/proc/self/setgroups", "deny", true);
        snprintf(map, sizeof(map), "0 %u 1\n", gid);
        write_setting("/proc/self/gid_map", map, true);
    }
    if (unshare(CLONE_NEWNET) != 0)
        die_errno("Couldn't create a network namespace");
    /* Group 0 of the namespace may use ping sockets there; an old kernel without them is no reason to stop. */
    write_setting("/proc/sys/net/ipv4/ping_group_range", "0 0", false);
}
