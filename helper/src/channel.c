/* SPDX-License-Identifier: Apache-2.0 */
/* The channel to the controller: datagrams in, datagrams with descriptors out. Nothing here blocks. */
#include "helper.h"

enum channel_result channel_receive(int fd, char *buffer, size_t *length)
{
    /* Room to see a descriptor that was sent to us, which nobody may do. */
    union { char bytes[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } control;
    struct iovec iov = {.iov_base = buffer, .iov_len = MESSAGE_BYTES_MAX};
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes),
    };
    /* #syscalls:setup,host,netns recvmsg(*, *, MSG_DONTWAIT+MSG_CMSG_CLOEXEC) — requests of the controller */
    ssize_t n = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return CHANNEL_NONE;
    if (n <= 0)
        return CHANNEL_CLOSED;
    if (message.msg_controllen != 0 || (message.msg_flags & MSG_CTRUNC))
        die("The controller sent a descriptor, which no request has");
    if (message.msg_flags & MSG_TRUNC)
        die("The controller sent more than %d bytes", MESSAGE_BYTES_MAX);
    *length = (size_t)n;
    return CHANNEL_MESSAGE;
}

bool channel_send(int fd, const char *buffer, size_t length, int *fds, int fd_count)
{
    union { char bytes[CMSG_SPACE(sizeof(int) * FDS_PER_MESSAGE_MAX)]; struct cmsghdr align; } control;
    struct iovec iov = {.iov_base = (void *)(uintptr_t)buffer, .iov_len = length};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

    if (fd_count > 0) {
        size_t bytes = sizeof(int) * (size_t)fd_count;

        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(bytes);
        memset(control.bytes, 0, message.msg_controllen);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(bytes);
        memcpy(CMSG_DATA(header), fds, bytes);
    }
    /* #syscalls:setup,host,netns sendmsg(*, *, MSG_DONTWAIT+MSG_NOSIGNAL) — replies, with their descriptors */
    if (sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        /* ETOOMANYREFS: it has not yet received as many descriptors as its limit of open files. */
        if (errno == EAGAIN || errno == EINTR || errno == ENOBUFS || errno == ENOMEM || errno == ETOOMANYREFS)
            return false;
        /* It is gone: the descriptors are of no use, and the next receive says so. */
    }
    for (int i = 0; i < fd_count; i++)
        close(fds[i]);
    return true;
}
