/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The processes as units of the service manager, so that each has a user, capabilities, limits and a view of its own:
 *
 *   pastiche helper [--user USER] [--group GROUP] pasta|passt|… ARGS…    the host side; socket-activated (sd_listen_fds(3))
 *   pastiche controller SOCKET                                           with no right at all
 *   pastiche broker SOCKET                                               started in the namespace, with CAP_NET_ADMIN there
 *
 * The sockets are SOCK_SEQPACKET, the controller's first. With one, the broker is the host side's child, as elsewhere, or there is
 * none (passt). The command line is the host side's alone: whoever comes chooses nothing. What the host side accepts from the controller
 * becomes its channel. One message goes over each connection before anything else, from the host side (split-join.c receives it):
 * version, personality, name of the tap and the arguments, each ended by a NUL; with it, as descriptors, the broker's channel to the
 * controller, and to the broker its ends of that and of the link.
 *
 * Who may connect is said by the sockets' mode and group; --user and --group say it again, by SO_PEERCRED, for a mode that was
 * changed. One connection each: the host side closes its copies of the listening sockets, and who comes later waits for the next one.
 */
#include "helper.h"

#include <ctype.h>
#include <poll.h>
#include <sys/un.h>

#define LISTEN_FD 3 /* sd_listen_fds(3): SD_LISTEN_FDS_START */
#define SOCKETS_MAX 2
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

/* The sockets that the service manager passed: how many. */
static int take_passed(void)
{
    const long count = number_in("LISTEN_FDS");

    if (number_in("LISTEN_PID") != getpid() || count < 1)
        die("No socket was passed: \"pastiche helper\" is started by a socket unit (LISTEN_PID, LISTEN_FDS)");
    if (count > SOCKETS_MAX)
        die("%ld sockets were passed: \"pastiche helper\" takes the controller's and the broker's", count);
    unsetenv("LISTEN_PID"), unsetenv("LISTEN_FDS"), unsetenv("LISTEN_FDNAMES");
    for (int fd = LISTEN_FD; fd < LISTEN_FD + count; fd++) {
        if (option_of(fd, SO_DOMAIN) != AF_UNIX || option_of(fd, SO_TYPE) != SOCK_SEQPACKET)
            die("The socket that was passed is not a UNIX socket of sequential packets (ListenSequentialPacket=)");
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
    return (int)count;
}

static bool is_expected(int fd, const struct expected *expected)
{
    struct ucred peer = {.uid = (uid_t)-1, .gid = (gid_t)-1};
    socklen_t length = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && (!expected->user || peer.uid == expected->uid) &&
        (!expected->group || peer.gid == expected->gid))
        return true;
    notice("Refused the connection of process %d, user %d, group %d, which is none of ours", (int)peer.pid, (int)peer.uid,
           (int)peer.gid);
    return false;
}

/* `socket` listens, or is a connection already (Accept=yes). */
static int accept_from(int socket, const char *who, const struct expected *expected)
{
    if (option_of(socket, SO_ACCEPTCONN) != 1) {
        if (is_expected(socket, expected))
            return socket;
        _exit(1);
    }
    for (int64_t start = now_ms(), left; (left = start + SPLIT_PARTNER_MS - now_ms()) > 0;) {
        struct pollfd set[] = {{.fd = socket, .events = POLLIN}};

        wait_for(set, ARRAY_SIZE(set), (int)left);
        if (!set[0].revents)
            continue;
        int fd = accept4(socket, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0 && is_expected(fd, expected)) {
            close(socket);
            return fd;
        }
        if (fd >= 0)
            close(fd);
    }
    die("No %s connected for %d s", who, SPLIT_PARTNER_MS / 1000);
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

static void begin_helper(int *argc, char ***argv, struct split *split)
{
    struct expected expected = {0};
    int passed = take_passed();

    parse_expected(argc, argv, &expected);
    /* First, so that who comes to a helper that then fails is hung up on, and not left in the queue to start another. */
    if (close_range(LISTEN_FD + (unsigned)passed, ~0U, 0) != 0)
        die_errno("Can't close inherited descriptors");
    split->channel = accept_from(LISTEN_FD, "controller", &expected);
    if (passed > 1)
        split->broker = accept_from(LISTEN_FD + 1, "broker", &expected);
}

void split_check(const struct split *split, struct settings *s)
{
    if (split->channel < 0)
        return;
    if (s->spawn)
        die("\"pastiche helper\" runs no command: --netns or a PID says whose network it is");
    if (s->personality == SLIRP4NETNS)
        die("\"pastiche helper\" is for pasta and passt");
    if (s->alone && split->broker >= 0)
        die("passt has no broker: one socket is enough");
    if (s->guest_fd >= 0 || s->lock_fd >= 0)
        die("\"pastiche helper\" takes no --fd and no --lock-fd");
    s->foreground = true; /* the manager watches the process that it started */
}

void split_greet(int channel, const struct settings *s, const char *tap_name, const int *fds, int fd_count)
{
    static char text[MESSAGE_BYTES_MAX];
    const char *const FIRST[] = {s->version, s->name, tap_name};
    const int first = ARRAY_SIZE(FIRST);
    size_t used = 0, copied;
    int copies[2];

    for (int i = 0; i < first || s->argv[i - first]; i++) {
        const char *word = i < first ? FIRST[i] : s->argv[i - first];

        copied = strlen(word) + 1;
        if (copied > sizeof(text) - used)
            die("The command line is too long: at most %d bytes can be passed on", MESSAGE_BYTES_MAX);
        memcpy(text + used, word, copied);
        used += copied;
    }
    /* What is sent is closed; the caller closes its own. */
    for (int i = 0; i < fd_count; i++)
        if ((copies[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3)) < 0)
            die_errno("Can't pass a descriptor on");
    if (!channel_send(channel, text, used, copies, fd_count))
        die("Who has just connected takes no message");
}

void split_begin(int *argc, char ***argv, struct split *split)
{
    const char *name = *argc > 0 ? strrchr((*argv)[0], '/') : NULL;

    *split = (struct split){.channel = -1, .broker = -1, .link = -1};
    name = name ? name + 1 : *argc > 0 ? (*argv)[0] : "";
    if (!strstr(name, "pastiche") || *argc < 2)
        return;
    if (strcmp((*argv)[1], "controller") == 0 || strcmp((*argv)[1], "broker") == 0) {
        split_join(argc, argv, split);
    } else if (strcmp((*argv)[1], "helper") == 0) {
        *argc -= 2, *argv += 2;
        begin_helper(argc, argv, split);
    }
}
