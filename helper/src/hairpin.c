/* SPDX-License-Identifier: Apache-2.0 */
/*
 * UDP flows that lead to one of our own listeners. A datagram can lie in a listener's queue after its sender has gone, and
 * listen_answer() connects to where it came from: were the source port the controller's to choose, it could leave datagrams from
 * ports at which services of the host start later. So these flows leave from a few ports that we hold for as long as we live.
 */
#include "sock.h"

#include <linux/filter.h>

/* Flows to one listener at one time: each has another port. */
#define PORTS_MAX 256

static int ports[PORTS_MAX], count, last;

/* A port of both IP versions, or of IPv4; 0: errno. What is sent there but to a flow is dropped. */
static int hold_port(void)
{
    struct sock_filter none = BPF_STMT(BPF_RET | BPF_K, 0);
    struct sock_fprog drop = {.len = 1, .filter = &none};
    union address self = {.in6 = {.sin6_family = AF_INET6}};
    socklen_t length = sizeof(self.in6);
    int off = 0, fd = flow_socket(FLOW_UDP, AF_INET6);

    if (fd < 0) {
        self = (union address){.in = {.sin_family = AF_INET}};
        length = sizeof(self.in);
        fd = flow_socket(FLOW_UDP, AF_INET);
    } else {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    }
    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &drop, sizeof(drop)) == 0 &&
        bind(fd, &self.any, length) == 0 && socket_share(fd) == 0 && getsockname(fd, &self.any, &length) == 0)
        return ntohs(self.any.sa_family == AF_INET ? self.in.sin_port : self.in6.sin6_port); /* and never closed */
    if (fd >= 0)
        close(fd);
    return 0;
}

static void set_port(union address *a, int port)
{
    if (a->any.sa_family == AF_INET)
        a->in.sin_port = htons((uint16_t)port);
    else
        a->in6.sin6_port = htons((uint16_t)port);
}

/* The address that the kernel gives it, and the socket as it was. */
static int find_source(int fd, const union address *peer, union address *local)
{
    static const union address nobody = {.any = {.sa_family = AF_UNSPEC}};
    socklen_t length = sizeof(*local);

    if (socket_connect(fd, peer) != 0 || getsockname(fd, &local->any, &length) != 0)
        return -1;
    return connect(fd, &nobody.any, sizeof(nobody.any));
}

static int free_port(union address *local, const union address *peer)
{
    for (int i = 0; i < count; i++) {
        last = (last + 1) % count;
        set_port(local, ports[last]);
        if (!tuple_taken(local, peer, 0))
            return ports[last];
    }
    errno = EADDRNOTAVAIL;
    if (count == PORTS_MAX)
        return 0;
    last = count;
    ports[count] = hold_port();
    return ports[last] == 0 ? 0 : ports[count++];
}

int hairpin_connect(int fd, const union address *peer)
{
    union address local;
    int port = find_source(fd, peer, &local) == 0 ? free_port(&local, peer) : 0;

    if (port == 0)
        return -1;
    set_port(&local, port);
    if (socket_share(fd) != 0 ||
        bind(fd, &local.any, local.any.sa_family == AF_INET ? sizeof(local.in) : sizeof(local.in6)) != 0)
        return -1;
    return socket_connect(fd, peer);
}
