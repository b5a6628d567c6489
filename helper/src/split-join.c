/* SPDX-License-Identifier: Apache-2.0 */
/* `pastiche controller` and `pastiche broker`: what they are told by the host side (split.c), and what becomes of them. */
#include "helper.h"

#include <sys/un.h>

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct timeval limit = {.tv_sec = SPLIT_PARTNER_MS / 1000};

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

/* What split_greet() sent; `fds` is filled with -1 behind what came. */
static size_t receive_greeting(int fd, char *text, size_t bytes, int fds[2])
{
    union { char bytes[CMSG_SPACE(2 * sizeof(int))]; struct cmsghdr align; } control;
    struct iovec iov = {.iov_base = text, .iov_len = bytes};
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes),
    };
    ssize_t length = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    const struct cmsghdr *header = length > 0 ? CMSG_FIRSTHDR(&message) : NULL;

    if (length == 0)
        die("The helper ended before it began: its own unit has the reason");
    if (length < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        die("The helper says nothing for %d s", SPLIT_PARTNER_MS / 1000);
    if (length < 0)
        die_errno("Can't hear the helper");
    if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) || text[length - 1] != '\0')
        die("What listens there is no helper of ours");
    fds[0] = fds[1] = -1;
    if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
        memcpy(fds, CMSG_DATA(header), header->cmsg_len - CMSG_LEN(0));
    return (size_t)length;
}

/* The words of the message, with a NULL at their end. */
static char **words_of(char *text, size_t length)
{
    char **words = calloc(length + 1, sizeof(*words));
    size_t count = 0;

    if (!words)
        die("Out of memory");
    for (char *at = text; at < text + length; at += strlen(at) + 1)
        words[count++] = at;
    if (count < SPLIT_WORDS_MIN || strcmp(words[0], version_word()) != 0)
        die("The helper is of version %.32s, this program of %s", text, version_word());
    return words;
}

void split_join(int *argc, char ***argv, struct split *split)
{
    static char text[MESSAGE_BYTES_MAX];
    const bool is_controller = strcmp((*argv)[1], "controller") == 0;
    struct controller_paths paths;
    struct rlimit limit;
    int fds[2];

    if (*argc != 3 || (*argv)[2][0] == '-')
        die("Usage: pastiche %s SOCKET", (*argv)[1]);
    close_inherited(NULL, -1);
    if (is_controller)
        find_controller(&paths);
    int fd = connect_to((*argv)[2]);
    char **words = words_of(text, receive_greeting(fd, text, sizeof(text), fds));
    if (is_controller) {
        /* Each flow is a descriptor here, as in main.c. */
        if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
            limit.rlim_cur = limit.rlim_max;
            setrlimit(RLIMIT_NOFILE, &limit);
        }
        become_controller(&paths, words[1], words + SPLIT_WORDS_MIN, 0, fd, fds[0]);
    }
    if (fds[1] < 0)
        die("What listens there is no helper of ours");
    close(fd); /* from now on it is the link that says who lives */
    split->is_broker = true;
    split->channel = fds[0];
    split->link = fds[1];
    split->tap_name = words[2];
    /* The personality and its arguments, as main() has them. */
    words[2] = words[1];
    *argv = words + 2;
    for (*argc = 0; (*argv)[*argc]; ++*argc) {
    }
}
