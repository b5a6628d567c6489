/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --multicast: sockets for groups and broadcast, on one interface. Frozen off, unless the seal said otherwise. Three
 * kinds, none of which can be aimed or answered with: the controller's filter has no call that takes an address.
 *
 *   send     connected to the group. It is bound to the group's address, too, which is no address of ours, so that it
 *            shares a port with the host's own services (mDNS) and takes none of their datagrams.
 *   answers  bound to the address and port that the guest's datagrams leave from, a port that nobody has: what hosts of
 *            the link answer by unicast.
 *   group    bound to the group (so that it takes no unicast datagram) and a port, and joined: what hosts of the link
 *            send to it.
 *
 * Which groups: those that stay on the link or the site, and addresses that the kernel calls broadcast.
 */
#include "sock.h"

/* 224.0.0.0/24 is never routed (RFC 5771 4), 239.0.0.0/8 stays within the site or organisation (RFC 2365). */
static bool is_local_group4(const uint8_t *a)
{
    return (a[0] == 224 && a[1] == 0 && a[2] == 0) || a[0] == 239;
}

/* Link-, realm-, admin- and site-local scope. RFC 7346 2 */
static bool is_local_group6(const uint8_t *a)
{
    return a[0] == 0xff && (a[1] & 15) >= 2 && (a[1] & 15) <= 5;
}

static bool is_group(const struct ip *ip)
{
    return ip->family == AF_INET ? is_local_group4(ip->bytes) : is_local_group6(ip->bytes);
}

static bool is_any_group(const struct ip *ip)
{
    return ip->family == AF_INET ? ip->bytes[0] >> 4 == 14 : ip->bytes[0] == 0xff;
}

static int disable(int fd, int level, int option)
{
    int zero = 0;

    return setsockopt(fd, level, option, &zero, sizeof(zero));
}

static const char *interface_of(int family)
{
    const struct outbound *o = outbound_settings();

    return family == AF_INET ? o->multicast4 : o->multicast6;
}

static int bind_to(int fd, const struct ip *ip, int family, int port)
{
    union address address;
    socklen_t length = address_fill(&address, ip, family, port);

    return bind(fd, &address.any, length);
}

/* A port that is taken, or privileged, is given up: the datagram matters more. */
static int bind_or_any_port(int fd, const struct ip *ip, int family, int port)
{
    if (port != 0 && bind_to(fd, ip, family, port) == 0)
        return 0;
    if (port != 0 && errno != EADDRINUSE && errno != EACCES)
        return -1;
    return bind_to(fd, ip, family, 0);
}

/* No copy for the host's own sockets: the guest has no way to the host's services, and would hear itself. Broadcast has no such option. */
static void quiet(int fd, int family)
{
    if (family == AF_INET)
        /* #syscalls:setup,host setsockopt(*, IPPROTO_IP, IP_MULTICAST_LOOP|IP_MULTICAST_ALL, *, *) — --multicast: not to ourselves, only what was joined */
        disable(fd, IPPROTO_IP, IP_MULTICAST_LOOP);
    else
        /* #syscalls:setup,host setsockopt(*, IPPROTO_IPV6, IPV6_MULTICAST_LOOP|IPV6_MULTICAST_ALL, *, *) — the same for IPv6 */
        disable(fd, IPPROTO_IPV6, IPV6_MULTICAST_LOOP);
}

/* Without membership a socket hears every group that anybody on the host has joined, unless told not to. */
static void hear_nothing_else(int fd, int family)
{
    if (family == AF_INET)
        disable(fd, IPPROTO_IP, IP_MULTICAST_ALL);
    else
        disable(fd, IPPROTO_IPV6, IPV6_MULTICAST_ALL);
}

static int connect_broadcast(int fd, const union address *address, socklen_t length)
{
    /* The kernel knows which addresses are broadcast: those that it refuses to sockets that were not told. */
    if (connect(fd, &address->any, length) == 0) {
        errno = EACCES;
        return -1;
    }
    if (errno != EACCES)
        return -1;
    /* #syscalls:setup,host setsockopt(*, SOL_SOCKET, SO_BROADCAST, *, *) — --multicast: only for an address that the kernel says is one */
    socket_enable(fd, SOL_SOCKET, SO_BROADCAST);
    return connect(fd, &address->any, length);
}

static int connect_any(int fd, const struct ip *ip, const union address *address, socklen_t length)
{
    return is_any_group(ip) ? connect(fd, &address->any, length) : connect_broadcast(fd, address, length);
}

static int make_send(int fd, const struct ip *ip, int port, int source_port)
{
    union address address;
    socklen_t length = address_fill(&address, ip, ip->family, port);

    /* #syscalls:setup,host setsockopt(*, SOL_SOCKET, SO_REUSEADDR, *, *) — --multicast: bound to a group, which takes nobody's datagrams */
    socket_enable(fd, SOL_SOCKET, SO_REUSEADDR);
    /* Not SO_REUSEPORT: it would let a service of our user in, past the socket that hears answers at that port. */
    quiet(fd, ip->family);
    if (bind_or_any_port(fd, ip, ip->family, source_port) != 0)
        return -1;
    return connect_any(fd, ip, &address, length);
}

/* The address from which the interface sends there: a socket's that is connected for that, as disconnecting leaves traces. */
static int source_to(const struct ip *ip, int port, const char *interface, union address *source)
{
    socklen_t length = address_fill(source, ip, ip->family, port);
    int fd = flow_socket(FLOW_UDP, ip->family), result, errnum;

    if (fd < 0)
        return -1;
    result = setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, interface, (socklen_t)strlen(interface));
    if (result == 0)
        result = connect_any(fd, ip, source, length);
    if (result == 0)
        result = getsockname(fd, &source->any, &length);
    errnum = errno;
    close(fd);
    errno = errnum;
    return result;
}

static int bind_port(int fd, union address *address, int port)
{
    if (address->any.sa_family == AF_INET) {
        address->in.sin_port = htons((uint16_t)port);
        return bind(fd, &address->any, sizeof(address->in));
    }
    address->in6.sin6_port = htons((uint16_t)port);
    return bind(fd, &address->any, sizeof(address->in6));
}

/*
 * Bound to the address that the datagram will leave from, and shared with nobody, neither now nor later: being bound to
 * an interface, it would outdo every service of our user that has the port of every address, and take its datagrams. The
 * socket that sends has the group's address, and so the same port all the same. A group's own port (mDNS) is left to the
 * host's services, which may come later.
 */
static int make_answers(int fd, const struct ip *ip, int port, int source_port, const char *interface)
{
    union address address;

    hear_nothing_else(fd, ip->family);
    if (source_to(ip, port, interface, &address) != 0)
        return -1;
    if (source_port != 0 && !(is_any_group(ip) && source_port == port)) {
        if (bind_port(fd, &address, source_port) == 0)
            return 0;
        if (errno != EADDRINUSE && errno != EACCES)
            return -1;
    }
    return bind_port(fd, &address, 0);
}

static int make_group(int fd, const struct ip *ip, int port)
{
    const struct outbound *o = outbound_settings();
    struct ip_mreqn join4 = {.imr_ifindex = (int)o->multicast_index4};
    struct ipv6_mreq join6 = {.ipv6mr_interface = o->multicast_index6};

    socket_enable(fd, SOL_SOCKET, SO_REUSEADDR);
    hear_nothing_else(fd, ip->family);
    if (bind_to(fd, ip, ip->family, port) != 0)
        return -1;
    if (ip->family == AF_INET) {
        memcpy(&join4.imr_multiaddr, ip->bytes, 4);
        /* #syscalls:setup,host setsockopt(*, IPPROTO_IP, IP_ADD_MEMBERSHIP, *, *) — --multicast: the groups that the guest joined */
        return setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &join4, sizeof(join4));
    }
    memcpy(&join6.ipv6mr_multiaddr, ip->bytes, 16);
    /* #syscalls:setup,host setsockopt(*, IPPROTO_IPV6, IPV6_JOIN_GROUP, *, *) — the same for IPv6 */
    return setsockopt(fd, IPPROTO_IPV6, IPV6_JOIN_GROUP, &join6, sizeof(join6));
}

bool group_allowed(enum group_role role, const struct ip *ip)
{
    if (!outbound_settings()->multicast)
        return false;
    /* Whether it is broadcast, the kernel will say. */
    return is_group(ip) || (role != GROUP_JOIN && ip->family == AF_INET && !is_any_group(ip));
}

int group_open(enum group_role role, const struct ip *ip, int port, int source_port, int *errnum)
{
    const char *interface = interface_of(ip->family);
    int fd = flow_socket(FLOW_UDP, ip->family), result = -1;

    if (fd < 0) {
        *errnum = errno;
        return -1;
    }
    report_header(fd, ip->family);
    /* What never sends can have no errors: anybody could queue forged ones. */
    if (role == GROUP_SEND)
        report_errors(fd, ip->family);
    if (ip->family == AF_INET6)
        socket_enable(fd, IPPROTO_IPV6, IPV6_V6ONLY);
    errno = ENETUNREACH; /* no interface to send from */
    if (*interface != '\0' &&
        setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, interface, (socklen_t)strlen(interface)) == 0) {
        switch (role) {
        case GROUP_SEND: result = make_send(fd, ip, port, source_port); break;
        case GROUP_ANSWERS: result = make_answers(fd, ip, port, source_port, interface); break;
        case GROUP_JOIN: result = make_group(fd, ip, port); break;
        }
    }
    if (result == 0)
        return fd;
    *errnum = errno;
    close(fd);
    return -1;
}
