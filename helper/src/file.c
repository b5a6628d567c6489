/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files. What the controller may read is named, never given by path; what it may create are the paths that its own
 * command line names, before it is sealed. The PID file is ours.
 */
#include "helper.h"

#include <ctype.h>
#include <linux/magic.h>
#include <linux/netlink.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/un.h>

/* READABLE_FILES of shared/rpc/methods.ts. Opened in the namespace of the side that is asked, and bound to it. */
const char *const READABLE_NAMES[] = {
    "net/tcp", "net/tcp6", "net/udp", "net/udp6", "ip_local_port_range", "nf_conntrack_udp_timeout",
    "nf_conntrack_udp_timeout_stream", "tcp_syn_retries", "tcp_rto_max_ms", "resolv.conf", "null", NULL,
};
static const char *const READABLE_PATHS[] = {
    "/proc/self/net/tcp", "/proc/self/net/tcp6", "/proc/self/net/udp", "/proc/self/net/udp6",
    "/proc/sys/net/ipv4/ip_local_port_range", "/proc/sys/net/netfilter/nf_conntrack_udp_timeout",
    "/proc/sys/net/netfilter/nf_conntrack_udp_timeout_stream", "/proc/sys/net/ipv4/tcp_syn_retries",
    "/proc/sys/net/ipv4/tcp_rto_max_ms", "/etc/resolv.conf", "/dev/null",
};
static_assert(ARRAY_SIZE(READABLE_NAMES) == ARRAY_SIZE(READABLE_PATHS) + 1, "a path for each name");

/* Read-only, but for /dev/null, which the controller puts over its own stdin, stdout and stderr. */
int file_open_readable(int index)
{
    bool is_null = strcmp(READABLE_NAMES[index], "null") == 0;

    /* #syscalls:setup openat(AT_FDCWD, *, O_RDONLY+O_CLOEXEC|O_RDWR+O_CLOEXEC) — the files named above */
    return open(READABLE_PATHS[index], (is_null ? O_RDWR : O_RDONLY) | O_CLOEXEC);
}

/* The controller writes the log by position, to cut it in place. The line about its end is ours to append. */
static int open_to_append(int fd)
{
    char path[32];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    /* #syscalls:setup openat(AT_FDCWD, *, O_WRONLY+O_APPEND+O_NONBLOCK+O_CLOEXEC) — the log file, for our last line */
    return open(path, O_WRONLY | O_APPEND | O_NONBLOCK | O_CLOEXEC);
}

/*
 * A regular file with one name, on a file system that holds data: not a FIFO (whose open would wait for a reader), a
 * device, or /proc/self/mem. Only then it is emptied.
 */
static bool is_plain(int fd)
{
    static const long NOT_DATA[] = {
        PROC_SUPER_MAGIC, SYSFS_MAGIC,    CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, DEBUGFS_MAGIC, TRACEFS_MAGIC,
        SECURITYFS_MAGIC, EFIVARFS_MAGIC, BPF_FS_MAGIC,       SELINUX_MAGIC,       PSTOREFS_MAGIC,
    };
    struct stat status;
    struct statfs system;

    /* #syscalls:setup newfstatat|fstat — what kind of file we were given */
    /* #syscalls:setup fstatfs — and on what kind of file system */
    if (fstat(fd, &status) != 0 || fstatfs(fd, &system) != 0)
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(NOT_DATA); i++)
        if (system.f_type == NOT_DATA[i])
            return false;
    return S_ISREG(status.st_mode) && status.st_nlink == 1;
}

static int create_plain(const char *path, int access)
{
    /* #syscalls:setup openat(AT_FDCWD, *, O_RDWR+O_CREAT+O_NONBLOCK+O_NOCTTY+O_NOFOLLOW+O_CLOEXEC|O_WRONLY+O_CREAT+O_NONBLOCK+O_NOCTTY+O_NOFOLLOW+O_CLOEXEC, 0600) — log, capture */
    int fd = open(path, access | O_CREAT | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC, 0600);

    if (fd < 0)
        return -1;
    errno = EINVAL;
    /* #syscalls:setup ftruncate(*, 0) — a file that was there before */
    if (is_plain(fd) && ftruncate(fd, 0) == 0)
        return fd;
    int errnum = errno;
    close(fd);
    errno = errnum;
    return -1;
}

static bool is_value_in(const char *argument, const char *path)
{
    if (strcmp(argument, path) == 0)
        return true;
    if (strncmp(argument, "--", 2) == 0) {
        const char *equals = strchr(argument, '=');
        return equals && strcmp(equals + 1, path) == 0;
    }
    if (*argument == '-')
        for (const char *option = argument + 1; isalnum((unsigned char)*option); option++)
            if (strcmp(option + 1, path) == 0)
                return true;
    return false;
}

/*
 * Whether the user wrote this path: as an argument, after the '=' of a long option, or after a cluster of short ones
 * ("-fl/tmp/log"). Which option takes it is the controller's to know. The command's arguments are not looked at.
 */
bool is_on_command_line(const struct settings *s, const char *path)
{
    for (char *const *argument = s->argv; *argument && argument != s->command; argument++)
        if (is_value_in(*argument, path))
            return true;
    return false;
}

/* Relative paths start from the caller's directory: we leave it when we seal. EINVAL: not a regular file. */
int file_create(const char *path, bool is_log)
{
    int fd = create_plain(path, is_log ? O_RDWR : O_WRONLY);

    if (is_log && fd >= 0)
        notice_log_file(open_to_append(fd));
    return fd;
}

int syslog_open(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
    /* #syscalls:setup socket(AF_UNIX, SOCK_DGRAM+SOCK_CLOEXEC+SOCK_NONBLOCK, 0) — the system log */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -1;
    /* #syscalls:setup connect — to /dev/log */
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        int errnum = errno;
        close(fd);
        errno = errnum;
        return -1;
    }
    return fd;
}

int netlink_open(bool sock_diag)
{
    /* #syscalls:setup socket(AF_NETLINK, SOCK_RAW+SOCK_CLOEXEC+SOCK_NONBLOCK, NETLINK_ROUTE|NETLINK_SOCK_DIAG) — for the controller to read routes and sockets */
    return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, sock_diag ? NETLINK_SOCK_DIAG : NETLINK_ROUTE);
}

bool read_byte(int fd, char *byte)
{
    ssize_t n;

    do
        n = read(fd, byte, 1);
    while (n < 0 && errno == EINTR);
    return n == 1;
}

int open_parent(const char *path, int flags, char *name, size_t name_bytes)
{
    char directory[PATH_MAX];
    const char *slash = strrchr(path, '/');
    int length = slash ? (int)(slash - path) + 1 : 0; /* with the slash, so that "/" is one, too */

    if (snprintf(name, name_bytes, "%s", path + length) >= (int)name_bytes || length >= PATH_MAX) {
        errno = ENAMETOOLONG;
        return -1;
    }
    snprintf(directory, sizeof(directory), "%.*s", slash ? length : 1, slash ? path : ".");
    return open(directory, flags | O_DIRECTORY | O_CLOEXEC);
}

/* ---- what is removed at the end ---- */

static struct { int directory; char name[256]; dev_t device; ino_t inode; } left[4]; /* PID file, guest's socket, two control sockets */
static size_t left_count;

void leave_behind(const char *path)
{
    struct stat status;

    if (left_count >= ARRAY_SIZE(left) || fstatat(AT_FDCWD, path, &status, AT_SYMLINK_NOFOLLOW) != 0)
        return;
    left[left_count].device = status.st_dev;
    left[left_count].inode = status.st_ino;
    /* #syscalls:setup openat(AT_FDCWD, *, O_PATH+O_DIRECTORY+O_CLOEXEC) — no path leads there any more at the end */
    left[left_count].directory = open_parent(path, O_PATH, left[left_count].name, sizeof(left[left_count].name));
    left_count += left[left_count].directory >= 0;
}

void remove_left_behind(void)
{
    struct stat status;

    for (size_t i = 0; i < left_count; i++)
        /* Another instance may have made its own there since: that one is not ours to remove. */
        /* #syscalls:setup,host,netns newfstatat(*, *, *, AT_SYMLINK_NOFOLLOW) — whether it is the one we made */
        if (fstatat(left[i].directory, left[i].name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
            status.st_dev == left[i].device && status.st_ino == left[i].inode)
            /* #syscalls:setup,host,netns unlinkat(*, *, 0) — the PID file and sockets, at the end */
            unlinkat(left[i].directory, left[i].name, 0);
}

/* ---- the PID file ---- */

static int pid_file_fd = -1;

/* Opened at once, before identities and directories change; written when ready: its content means "ready". */
void pid_file_open(const char *path)
{
    pid_file_fd = create_plain(path, O_WRONLY);
    if (pid_file_fd < 0)
        die_errno("Couldn't open PID file %s", path);
    leave_behind(path);
}

void pid_file_leave(void)
{
    if (pid_file_fd >= 0)
        close(pid_file_fd);
    pid_file_fd = -1;
}

bool pid_file_write(void)
{
    char text[16];
    int length;

    if (pid_file_fd < 0)
        return true;
    /* #syscalls:setup,host getpid — what the PID file says */
    length = snprintf(text, sizeof(text), "%d\n", (int)getpid());
    return write(pid_file_fd, text, (size_t)length) == length;
}
