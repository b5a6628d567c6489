/* SPDX-License-Identifier: Apache-2.0 */
/*
 * New flows: a connected socket for an address that the floor lets pass. This is all that a sealed helper does for
 * the controller, up to 128 times a request, so each takes as few system calls as it can.
 */
#include "sock.h"

/* Newer than Debian 12's headers: uapi/linux/in.h, kernel 4.2 */
#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif
/* What can have been queued in the microseconds between bind() and connect(); a peer that floods does not hold us. */
#define DRAIN_MAX 64

static union {
    struct outbound outbound;
    char page[PAGE_BYTES_MAX];
} frozen __attribute__((aligned(PAGE_BYTES_MAX)));

void outbound_freeze(const struct outbound *o)
{
    frozen.outbound = *o;
    seal_freeze(&frozen, sizeof(frozen));
}

unsigned outbound_interface(const struct ip *ip)
{
    struct in6_addr address;

    if (ip->family == AF_INET)
        return frozen.outbound.index4;
    memcpy(&address, ip->bytes, sizeof(address));
    return *frozen.outbound.interface6 || IN6_IS_ADDR_LINKLOCAL(&address) ? frozen.outbound.scope6 : 0;
}

const struct outbound *outbound_settings(void)
{
    return &frozen.outbound;
}

socklen_t address_fill(union address *to, const struct ip *ip, int family, int port)
{
    memset(to, 0, sizeof(*to));
    if (family == AF_INET) {
        to->in.sin_family = AF_INET;
        to->in.sin_port = htons((uint16_t)port);
        memcpy(&to->in.sin_addr, ip->bytes, 4);
        return sizeof(to->in);
    }
    to->in6.sin6_family = AF_INET6;
    to->in6.sin6_port = htons((uint16_t)port);
    memcpy(&to->in6.sin6_addr, ip->bytes, 16);
    if (IN6_IS_ADDR_LINKLOCAL(&to->in6.sin6_addr))
        to->in6.sin6_scope_id = frozen.outbound.scope6;
    return sizeof(to->in6);
}

int flow_socket(enum flow_protocol protocol, int family)
{
    const int flags = SOCK_CLOEXEC | SOCK_NONBLOCK;

    switch (protocol) {
    case FLOW_TCP:
        /* #syscalls:setup,host,netns socket(AF_INET|AF_INET6, SOCK_STREAM+SOCK_CLOEXEC+SOCK_NONBLOCK, IPPROTO_TCP) — TCP flows */
        return socket(family, SOCK_STREAM | flags, IPPROTO_TCP);
    case FLOW_UDP:
        /* #syscalls:setup,host,netns socket(AF_INET|AF_INET6, SOCK_DGRAM+SOCK_CLOEXEC+SOCK_NONBLOCK, IPPROTO_UDP) — UDP flows */
        return socket(family, SOCK_DGRAM | flags, IPPROTO_UDP);
    case FLOW_ICMP: break;
    }
    /* #syscalls:setup,host socket(AF_INET, SOCK_DGRAM+SOCK_CLOEXEC+SOCK_NONBLOCK, IPPROTO_ICMP) — ping sockets: icmp(7) */
    /* #syscalls:setup,host socket(AF_INET6, SOCK_DGRAM+SOCK_CLOEXEC+SOCK_NONBLOCK, IPPROTO_ICMPV6) — ping sockets for IPv6 */
    return socket(family, SOCK_DGRAM | flags, family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6);
}

int socket_enable(int fd, int level, int option)
{
    int one = 1;

    return setsockopt(fd, level, option, &one, sizeof(one));
}

/*
 * What a datagram must tell beside its bytes: how many hops it has left, its traffic class. An old kernel that lacks one
 * of them still gives a working flow.
 */
void report_header(int fd, int family)
{
    if (family == AF_INET) {
        /* #syscalls:setup,host,netns setsockopt(*, IPPROTO_IP, IP_RECVERR|IP_RECVTTL|IP_RECVTOS, *, *) — errors, TTL and TOS of datagrams */
        socket_enable(fd, IPPROTO_IP, IP_RECVTTL);
        socket_enable(fd, IPPROTO_IP, IP_RECVTOS);
    } else {
        /* #syscalls:setup,host,netns setsockopt(*, IPPROTO_IPV6, IPV6_RECVERR|IPV6_RECVHOPLIMIT|IPV6_RECVTCLASS, *, *) — the same for IPv6 */
        socket_enable(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT);
        socket_enable(fd, IPPROTO_IPV6, IPV6_RECVTCLASS);
    }
}

/* Errors of the path: for port unreachable, traceroute, path MTU. Only what sends can have any. */
void report_errors(int fd, int family)
{
    if (family == AF_INET)
        socket_enable(fd, IPPROTO_IP, IP_RECVERR);
    else
        socket_enable(fd, IPPROTO_IPV6, IPV6_RECVERR);
}

void report_metadata(int fd, enum flow_protocol protocol, int family)
{
    report_header(fd, family);
    report_errors(fd, family);
    if (protocol == FLOW_UDP)
        /* #syscalls:setup,host,netns setsockopt(*, IPPROTO_UDP, UDP_GRO, *, *) — several datagrams in one read */
        socket_enable(fd, IPPROTO_UDP, UDP_GRO);
}

/* What must be so before the first segment leaves. */
static void prepare_stream(int fd, const struct ip *ip)
{
    /* Out of line, an urgent byte would put the controller's peek offset out of step with what it discards. */
    /* #syscalls:setup,host,netns setsockopt(*, SOL_SOCKET, SO_OOBINLINE, *, *) — urgent data stays in the stream (RFC 6093) */
    socket_enable(fd, SOL_SOCKET, SO_OOBINLINE);
    /* Who said that the SYN could not get there, and how (Linux 5.8); the controller ends it when the connection stands. */
    if (!is_loopback(ip)) /* where nobody is in between */
        report_errors(fd, ip->family);
}

/* Best effort: a host that does not let us leaves its default. */
static void limit_hops(int fd, int family, int hops)
{
    /* #syscalls:setup,host,netns setsockopt(*, IPPROTO_IP, IP_TTL, *, *) — the guest's TTL is on the SYN already: traceroute */
    /* #syscalls:setup,host,netns setsockopt(*, IPPROTO_IPV6, IPV6_UNICAST_HOPS, *, *) — the same over IPv6 */
    if (family == AF_INET)
        setsockopt(fd, IPPROTO_IP, IP_TTL, &hops, sizeof(hops));
    else
        setsockopt(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, &hops, sizeof(hops));
}

/*
 * The first socket of the host with UDP_GRO, and the end of the last, rewrite kernel code on every core (a static
 * key), which takes 50 µs: longer than anything else here. Two idle sockets keep it from happening for each lookup.
 */
void flow_warm_up(void)
{
    static const int FAMILIES[] = {AF_INET, AF_INET6};

    for (size_t i = 0; i < ARRAY_SIZE(FAMILIES); i++) {
        int fd = flow_socket(FLOW_UDP, FAMILIES[i]);
        if (fd >= 0)
            socket_enable(fd, IPPROTO_UDP, UDP_GRO);
    }
}

/* Fails closed: a flow that was to leave by an interface does not leave by another. */
int socket_bind_interface(int fd, const char *name)
{
    if (*name == '\0')
        return 0;
    /* #syscalls:setup,host,netns setsockopt(*, SOL_SOCKET, SO_BINDTODEVICE, *, *) — --outbound-if4, --outbound-if6; -t %INTERFACE; -T */
    return setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, (socklen_t)strlen(name));
}

/* What stays on the host leaves by no interface, and from no address of one. */
static const struct outbound *outbound_for(const struct ip *ip, bool hairpin)
{
    static const struct outbound none;

    return hairpin || is_loopback(ip) ? &none : &frozen.outbound;
}

static int try_bind(int fd, int family, int port, const struct outbound *o)
{
    static const struct ip unspecified;
    const struct ip *source = family == AF_INET ? &o->address4 : &o->address6;
    union address address;
    socklen_t length = address_fill(&address, source->family == family ? source : &unspecified, family, port);

    /* #syscalls:setup,host,netns bind — source address and port of a flow, before it is connected */
    return bind(fd, &address.any, length);
}

int socket_connect(int fd, const union address *peer)
{
    socklen_t length = peer->any.sa_family == AF_INET ? sizeof(peer->in) : sizeof(peer->in6);

    /* #syscalls:setup,host,netns connect — new flows, to addresses that the floor lets pass */
    return connect(fd, &peer->any, length);
}

/* Source address and port; a port that is taken, or below the privileged ones, is given up: the flow matters more. */
static int bind_source(int fd, int family, int port, const struct outbound *o)
{
    const struct ip *source = family == AF_INET ? &o->address4 : &o->address6;

    if (port != 0) {
        if (try_bind(fd, family, port, o) == 0)
            return 0;
        if (errno != EADDRINUSE && errno != EACCES)
            return -1;
    }
    if (source->family != family)
        return 0;
    /* #syscalls:setup,host setsockopt(*, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, *, *) — the port is chosen with the destination known: ip(7) */
    socket_enable(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT);
    return try_bind(fd, family, 0, o);
}

int socket_share(int fd)
{
    /* #syscalls:setup,host,netns setsockopt(*, SOL_SOCKET, SO_REUSEPORT, *, *) — one UDP source port, several peers */
    return socket_enable(fd, SOL_SOCKET, SO_REUSEPORT);
}

/* The port is in use. Connected from another: 0; free to be shared, and the socket as it was: 1; an error: -1. */
static int connect_if_twin(int fd, const union address *peer, int port, const struct outbound *o)
{
    static const union address nobody = {.any = {.sa_family = AF_UNSPEC}};
    const unsigned interface = peer->any.sa_family == AF_INET ? o->index4 : o->scope6;
    union address local;
    socklen_t length = sizeof(local);

    /* #syscalls:setup,host,netns getsockname — the source address that the kernel chose */
    if (socket_connect(fd, peer) != 0 || getsockname(fd, &local.any, &length) != 0)
        return -1;
    if (local.any.sa_family == AF_INET)
        local.in.sin_port = htons((uint16_t)port);
    else
        local.in6.sin6_port = htons((uint16_t)port);
    if (tuple_taken(&local, peer, interface))
        return 0;
    return connect(fd, &nobody.any, sizeof(nobody.any)) == 0 ? 1 : -1;
}

/*
 * Guests reach several peers from one UDP port, so the port is shared among our sockets: by SO_REUSEPORT, which the
 * kernel allows within one user only. SO_REUSEADDR would also share it with other users' services that set it (mDNS),
 * and take the datagrams of the flow's peer away from them. But not even our own may have the same peer (tuple.c). The
 * first socket is bound alone: nobody else has the port then, and there is nothing to ask.
 */
static int connect_udp(int fd, int family, const union address *peer, int port, const struct outbound *o)
{
    if (family == AF_INET6)
        /* #syscalls:setup,host,netns setsockopt(*, IPPROTO_IPV6, IPV6_V6ONLY, *, *) — a source port in IPv6 leaves it free in IPv4 */
        socket_enable(fd, IPPROTO_IPV6, IPV6_V6ONLY);
    if (port != 0 && try_bind(fd, family, port, o) == 0) {
        socket_share(fd);
        return socket_connect(fd, peer);
    }
    if (port != 0 && errno == EADDRINUSE) {
        int free = bind_source(fd, family, 0, o) == 0 ? connect_if_twin(fd, peer, port, o) : -1;

        if (free <= 0)
            return free;
        socket_share(fd);
        return bind_source(fd, family, port, o) == 0 ? socket_connect(fd, peer) : -1;
    }
    if (port != 0 && errno != EACCES)
        return -1;
    return bind_source(fd, family, 0, o) == 0 ? socket_connect(fd, peer) : -1;
}

/* Between bind() and connect() anybody's datagrams may have been queued: they are not from the peer. */
static void drain(int fd)
{
    char byte;

    /* #syscalls:setup,host,netns recvfrom(*, *, 1, MSG_DONTWAIT+MSG_TRUNC, 0, *) — datagrams that came before the socket was connected */
    for (int i = 0; i < DRAIN_MAX; i++)
        if (recvfrom(fd, &byte, 1, MSG_DONTWAIT | MSG_TRUNC, NULL, NULL) < 0 && errno != EINTR)
            return;
}

int flow_connect(enum flow_protocol protocol, const struct ip *ip, int port, int source_port, int hop_limit,
                 int *errnum, const char **what)
{
    const bool hairpin = protocol != FLOW_ICMP && listen_hears(protocol, ip, port);
    const struct outbound *o = outbound_for(ip, hairpin);
    union address address;
    int fd = flow_socket(protocol, ip->family);

    address_fill(&address, ip, ip->family, protocol == FLOW_ICMP ? 0 : port);
    *what = "open a socket for";
    if (fd < 0) {
        *errnum = errno;
        return -1;
    }
    if (hop_limit != 0)
        limit_hops(fd, ip->family, hop_limit);
    if (protocol == FLOW_TCP)
        prepare_stream(fd, ip);
    else
        report_metadata(fd, protocol, ip->family);
    *what = "bind a socket for";
    /* A TCP port in use by one peer is not free for another: the kernel chooses. */
    if (socket_bind_interface(fd, ip->family == AF_INET ? o->interface4 : o->interface6) != 0 ||
        (protocol != FLOW_UDP && bind_source(fd, ip->family, protocol == FLOW_TCP ? 0 : source_port, o) != 0))
        goto failed;
    *what = "connect";
    if (protocol == FLOW_UDP && hairpin) {
        if (hairpin_connect(fd, &address) != 0)
            goto failed;
    } else if (protocol == FLOW_UDP ? connect_udp(fd, ip->family, &address, source_port, o) != 0
                                    : socket_connect(fd, &address) != 0 && errno != EINPROGRESS) {
        goto failed;
    }
    if (protocol != FLOW_TCP)
        drain(fd);
    return fd;
failed:
    *errnum = errno;
    /* #syscalls:setup,host,netns close — descriptors that were handed over, or failed */
    close(fd);
    return -1;
}
