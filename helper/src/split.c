/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Helper and controller as two units of the service manager, so that each has a user, limits and a view of its own:
 *
 *   pastiche helper [--user USER] [--group GROUP] pasta|passt|… ARGS…    socket-activated (sd_listen_fds(3)), with privilege
 *   pastiche controller SOCKET                                           with none
 *
 * The socket is SOCK_SEQPACKET; the connection that the helper accepts becomes the host side's channel. The command line is the
 * helper's: what runs without privilege chooses nothing. One message goes over before the first request, from the helper:
 * its version, the personality and the arguments, each ended by a NUL, with the broker's channel as a descriptor.
 *
 * Who may connect is said by the socket's mode and group; --user and --group say it again, by SO_PEERCRED, for a mode that was
 * changed. One connection an instance: the helper closes its copy of the listening socket, and who comes later waits for the next helper.
 */
#include "helper.h"

#include <ctype.h>
#include <poll.h>
#include <sys/un.h>

#define LISTEN_FD 3 /* sd_listen_fds(3): SD_LISTEN_FDS_START */
/* How long one half waits for the other to begin; the units start at the same time. */
#define PARTNER_MS 30000

struct expected { const char *user, *group; uid_t uid; gid_t gid; };

/* ---- the helper ---- */

static long number_in(const char *variable)
{
    const char *text = getenv(variable);
    char *end;

    if (!text || !isdigit((unsigned char)*text))
        return -1;
    errno = 0;
    long value = strtol(text, &end, 10);
    return *end || errno != 0 ? -1 : value;
}

static int option_of(int fd, int option)
{
    int value = -1;
    socklen_t length = sizeof(value);

    return getsockopt(fd, SOL_SOCKET, option, &value, &length) == 0 ? value : -1;
}

/* The descriptor that the service manager passed: a socket that listens, or (Accept=yes) a connection. */
static int take_passed(bool *listens)
{
    if (number_in("LISTEN_PID") != getpid() || number_in("LISTEN_FDS") < 1)
        die("No socket was passed: \"pastiche helper\" is started by a socket unit (LISTEN_PID, LISTEN_FDS)");
    if (number_in("LISTEN_FDS") != 1)
        die("%ld sockets were passed: \"pastiche helper\" takes one", number_in("LISTEN_FDS"));
    unsetenv("LISTEN_PID"), unsetenv("LISTEN_FDS"), unsetenv("LISTEN_FDNAMES");
    if (option_of(LISTEN_FD, SO_DOMAIN) != AF_UNIX || option_of(LISTEN_FD, SO_TYPE) != SOCK_SEQPACKET)
        die("The socket that was passed is not a UNIX socket of sequential packets (ListenSequentialPacket=)");
    fcntl(LISTEN_FD, F_SETFD, FD_CLOEXEC);
    *listens = option_of(LISTEN_FD, SO_ACCEPTCONN) == 1;
    return LISTEN_FD;
}

static bool is_expected(int fd, const struct expected *expected)
{
    struct ucred peer = {.uid = (uid_t)-1, .gid = (gid_t)-1};
    socklen_t length = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && (!expected->user || peer.uid == expected->uid) &&
        (!expected->group || peer.gid == expected->gid))
        return true;
    notice("Refused the connection of process %d, user %d, group %d, which is no controller of ours", (int)peer.pid, (int)peer.uid,
           (int)peer.gid);
    return false;
}

static int accept_controller(int listener, const struct expected *expected)
{
    for (int64_t start = now_ms(), left; (left = start + PARTNER_MS - now_ms()) > 0;) {
        struct pollfd set[] = {{.fd = listener, .events = POLLIN}};

        wait_for(set, ARRAY_SIZE(set), (int)left);
        if (!set[0].revents)
            continue;
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0 && is_expected(fd, expected)) {
            close(listener);
            return fd;
        }
        if (fd >= 0)
            close(fd);
    }
    die("No controller connected for %d s", PARTNER_MS / 1000);
}

static void parse_expected(int *argc, char ***argv, struct expected *expected)
{
    for (; *argc > 2 && (*argv)[0][0] == '-'; *argc -= 2, *argv += 2) {
        if (strcmp((*argv)[0], "--user") == 0)
            expected->user = (*argv)[1];
        else if (strcmp((*argv)[0], "--group") == 0)
            expected->group = (*argv)[1];
        else
            break;
    }
    if (*argc < 1 || (*argv)[0][0] == '-')
        die("Usage: pastiche helper [--user USER] [--group GROUP] pasta|passt ARGUMENT...");
    if (expected->user && !find_user(expected->user, &expected->uid))
        die("Invalid --user: %s is neither a number nor in /etc/passwd", expected->user);
    if (expected->group && !find_group(expected->group, &expected->gid))
        die("Invalid --group: %s is neither a number nor in /etc/group", expected->group);
}

static int begin_helper(int *argc, char ***argv)
{
    struct expected expected = {0};
    bool listens;

    /* First, so that the controller of a helper that fails is hung up on, and not left in the queue to start another. */
    int passed = take_passed(&listens);
    parse_expected(argc, argv, &expected);
    if (listens)
        return accept_controller(passed, &expected);
    if (!is_expected(passed, &expected))
        exit(1);
    return passed;
}

void split_check(const struct split *split, struct settings *s)
{
    if (split->channel < 0)
        return;
    if (s->spawn)
        die("\"pastiche helper\" runs no command: --netns or a PID says whose network it is");
    if (s->guest_fd >= 0)
        die("\"pastiche helper\" takes no --fd");
    s->foreground = true; /* the manager watches the process that it started */
}

void split_greet(const struct split *split, const struct settings *s, int netns_channel)
{
    static char text[MESSAGE_BYTES_MAX];
    size_t used = 0, copied;

    for (int i = -2; i < 0 || s->argv[i]; i++) {
        const char *word = i == -2 ? s->version : i == -1 ? s->name : s->argv[i];

        copied = strlen(word) + 1;
        if (copied > sizeof(text) - used)
            die("The command line is too long: the controller takes %d bytes", MESSAGE_BYTES_MAX);
        memcpy(text + used, word, copied);
        used += copied;
    }
    /* It closes what it sends; the other numbers' owner does not expect that. */
    int copy = netns_channel < 0 ? -1 : fcntl(netns_channel, F_DUPFD_CLOEXEC, 3);
    if (netns_channel >= 0 && copy < 0)
        die_errno("Can't give the controller its channel");
    if (!channel_send(split->channel, text, used, &copy, copy >= 0))
        die("The controller takes no message");
}

/* ---- the controller ---- */

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct timeval limit = {.tv_sec = PARTNER_MS / 1000};

    if (*path == '\0' || snprintf(address.sun_path, sizeof(address.sun_path), "%s", path) > UNIX_PATH_BYTES)
        die("Invalid socket path: %s (it has 1 to %d bytes)", path, UNIX_PATH_BYTES);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die_errno("Can't make a socket");
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0)
        die_errno("Can't connect to the helper at %s", path);
    return fd;
}

/* What split_greet() sent. */
static size_t receive_greeting(int fd, char *text, size_t bytes, int *netns_channel)
{
    union { char bytes[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } control;
    struct iovec iov = {.iov_base = text, .iov_len = bytes};
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes),
    };
    ssize_t length = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    const struct cmsghdr *header = length > 0 ? CMSG_FIRSTHDR(&message) : NULL;

    if (length == 0)
        die("The helper ended before it began: its own unit has the reason");
    if (length < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        die("The helper says nothing for %d s", PARTNER_MS / 1000);
    if (length < 0)
        die_errno("Can't hear the helper");
    if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) || text[length - 1] != '\0')
        die("What listens there is no helper of ours");
    *netns_channel = -1;
    if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
        memcpy(netns_channel, CMSG_DATA(header), sizeof(int));
    return (size_t)length;
}

static _Noreturn void begin_controller(int argc, char *const *argv)
{
    static char text[MESSAGE_BYTES_MAX];
    struct controller_paths paths;
    struct rlimit limit;
    char **words;
    int netns_channel;
    size_t count = 0;

    if (argc != 1 || argv[0][0] == '-')
        die("Usage: pastiche controller SOCKET");
    close_inherited(NULL, -1);
    find_controller(&paths);
    /* Each flow is a descriptor here, as in main.c. */
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    int fd = connect_to(argv[0]);
    size_t length = receive_greeting(fd, text, sizeof(text), &netns_channel);
    words = calloc(length + 1, sizeof(*words));
    if (!words)
        die("Out of memory");
    for (char *at = text; at < text + length; at += strlen(at) + 1)
        words[count++] = at;
    if (count < 2 || strcmp(words[0], version_word()) != 0)
        die("The helper is of version %.32s, this program of %s", text, version_word());
    become_controller(&paths, words[1], words + 2, 0, fd, netns_channel);
}

void split_begin(int *argc, char ***argv, struct split *split)
{
    const char *name = *argc > 0 ? strrchr((*argv)[0], '/') : NULL;

    split->channel = -1;
    name = name ? name + 1 : *argc > 0 ? (*argv)[0] : "";
    if (!strstr(name, "pastiche") || *argc < 2)
        return;
    if (strcmp((*argv)[1], "controller") == 0)
        begin_controller(*argc - 2, *argv + 2);
    if (strcmp((*argv)[1], "helper") != 0)
        return;
    *argc -= 2, *argv += 2;
    split->channel = begin_helper(argc, argv);
}
