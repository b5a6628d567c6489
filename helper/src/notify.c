/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sd_notify(3): the service manager is told that the network is ready, and that it ends. Only the process that the manager
 * itself started speaks: the variables are inherited, and a pasta that Podman starts in somebody's unit must not say that the unit
 * is ready. Where a command is run, NOTIFY_SOCKET is the command's; a tool that goes to the background has nobody's ear
 * (NotifyAccess=main), and its unit is Type=forking.
 */
#include "helper.h"

#include <sys/stat.h>
#include <sys/un.h>

/* How long a manager that does not read may hold the start up. */
#define SEND_MS 5000

static int manager = -1;

/* Since systemd 248 the manager says whom it started. One that does not may mean us, unless we are a tool that other tools start. */
static bool is_started_by_manager(const struct settings *s)
{
    const char *started = getenv("SYSTEMD_EXEC_PID");

    return started ? strtoul(started, NULL, 10) == (unsigned long)getpid() : strcmp(s->name, "slirp4netns") != 0;
}

static int open_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct timeval limit = {.tv_sec = SEND_MS / 1000};
    const size_t length = strlen(path);

    errno = EINVAL;
    if ((*path != '/' && *path != '@') || length < 2 || length > sizeof(address.sun_path) - 1)
        return -1;
    memcpy(address.sun_path, path, length);
    if (*path == '@')
        address.sun_path[0] = '\0'; /* abstract: its name is exactly as long as that */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (connect(fd, (const struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) == 0)
        return fd;
    int errnum = errno;
    close(fd);
    errno = errnum;
    return -1;
}

void notify_open(const struct settings *s)
{
    const char *path = getenv("NOTIFY_SOCKET");

    if (!path || !*path || s->spawn)
        return;
    if (s->foreground && is_started_by_manager(s)) {
        manager = open_socket(path);
        if (manager < 0)
            notice("Can't reach the service manager at NOTIFY_SOCKET=%s: %s", path, errno_text(errno));
    }
    unsetenv("NOTIFY_SOCKET");
}

bool notify_ready(const char *status)
{
    char text[320];

    if (manager < 0)
        return true;
    int length = snprintf(text, sizeof(text), "READY=1\nSTATUS=%s", status);
    return write(manager, text, (size_t)length) == length;
}

/* Nothing waits for this to arrive: the end is not held up. */
void notify_stopping(const char *why)
{
    char text[320];
    struct iovec iov = {.iov_base = text};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

    if (manager < 0)
        return;
    iov.iov_len = (size_t)snprintf(text, sizeof(text), *why ? "STOPPING=1\nSTATUS=%s" : "STOPPING=1", why);
    /* The same call, with the same flags, as channel_send()'s. */
    if (sendmsg(manager, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return;
}

/* systemd.exec(5), "JOURNAL_STREAM": the journal reads our stderr, line by line, each with its priority in front. */
bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat status;

    return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &status) == 0 &&
           status.st_dev == device && status.st_ino == inode;
}
