/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets that listen, for connections and datagrams from outside. A TCP listener is all that TCP needs: the controller
 * accepts. A datagram must be answered from the address it came to, to whoever sent it, who may be on the host's own
 * loopback, where the floor lets no flow go. So we keep a copy of each listener and look for ourselves who waits for an
 * answer: what the controller gets is connected to that one, and to nobody that it could name.
 *
 * The copy also keeps the port ours: the floor lets flows pass to an address and port of the host's own at which one of
 * these listens (hairpin), and a port that the controller has closed may be another's the moment after.
 */
#include "sock.h"

#include <linux/filter.h>

/* Of lo, in every network namespace. */
#define LOOPBACK_INDEX 1
/* A filter takes the kernel 20 µs and a page, which is too much for each of tens of thousands. */
#define FILTERS_MAX 4096

/* Once sealed, these ports only. */
static struct {
    bool is_sealed, freebind;
    int count;
    struct window windows[LISTEN_WINDOWS_MAX];
} __attribute__((aligned(PAGE_BYTES_MAX))) frozen;

struct listener {
    int fd;        /* 0: free */
    int next;      /* of the same port: number + 1 */
    struct ip ip;  /* family 0: both versions */
    uint16_t protocol, port;
    bool is_any, freebind, filtered;
    char interface[IFNAMSIZ];
};
static struct listener table[LISTENERS_MAX];
static int by_port[2][65536]; /* number + 1; untouched pages cost nothing */
static int lowest_free, filters;
/* Ports at our own addresses to which a grant let UDP flows go when no listener of ours was there. */
static bool led_here[65536];
static_assert(FLOW_TCP == 0 && FLOW_UDP == 1, "they count the rows of by_port");

void listen_freeze(const struct window *windows, int count, bool freebind)
{
    memcpy(frozen.windows, windows, sizeof(*windows) * (size_t)count);
    frozen.count = count;
    frozen.is_sealed = true;
    frozen.freebind = freebind;
    seal_freeze(&frozen, sizeof(frozen));
}

bool listen_allows(enum flow_protocol protocol, int port, bool freebind)
{
    for (int i = 0; i < frozen.count && (frozen.freebind || !freebind); i++)
        if (frozen.windows[i].protocol == protocol && port >= frozen.windows[i].first && port <= frozen.windows[i].last)
            return true;
    return !frozen.is_sealed;
}

/* ---- the table ---- */

static bool is_any(const struct ip *ip)
{
    static const uint8_t zero[16];

    return memcmp(ip->bytes, zero, sizeof(zero)) == 0;
}

/* The lowest free number, or -1. */
static int take_number(void)
{
    while (lowest_free < LISTENERS_MAX && table[lowest_free].fd != 0)
        lowest_free++;
    return lowest_free < LISTENERS_MAX ? lowest_free : -1;
}

static void remember(int number, int copy, const struct listen_wish *wish, bool filtered)
{
    struct listener *l = &table[number];
    int *head = &by_port[wish->protocol][wish->port];

    *l = (struct listener){
        .fd = copy, .next = *head, .ip = wish->ip, .protocol = (uint16_t)wish->protocol, .port = (uint16_t)wish->port,
        .is_any = is_any(&wish->ip), .freebind = wish->freebind, .filtered = filtered,
    };
    snprintf(l->interface, sizeof(l->interface), "%s", wish->interface);
    *head = number + 1;
    filters += filtered;
}

bool listen_forget(int number)
{
    struct listener *l = &table[number];
    int *at = &by_port[l->protocol][l->port];

    if (l->fd == 0)
        return false;
    while (*at != number + 1)
        at = &table[*at - 1].next;
    *at = l->next;
    close(l->fd);
    l->fd = 0;
    filters -= l->filtered;
    if (number < lowest_free)
        lowest_free = number;
    return true;
}

static bool is_there(enum flow_protocol protocol, const struct ip *ip, int port, bool any_interface)
{
    if (protocol != FLOW_TCP && protocol != FLOW_UDP)
        return false;
    for (int at = by_port[protocol][port]; at != 0; at = table[at - 1].next) {
        const struct listener *l = &table[at - 1];

        if ((any_interface || *l->interface == '\0') && (l->ip.family == 0 || l->ip.family == ip->family) &&
            (l->is_any || memcmp(l->ip.bytes, ip->bytes, sizeof(ip->bytes)) == 0))
            return true;
    }
    return false;
}

/* At one interface alone, it would leave the port to others at the rest. */
bool listen_has(enum flow_protocol protocol, const struct ip *ip, int port)
{
    return is_there(protocol, ip, port, false);
}

bool listen_hears(enum flow_protocol protocol, const struct ip *ip, int port)
{
    return is_there(protocol, ip, port, true);
}

void listen_beware(int port)
{
    led_here[port] = true;
}

/* ---- listening ---- */

static int family_of(const struct listen_wish *wish)
{
    return wish->ip.family == AF_INET ? AF_INET : AF_INET6;
}

static int set_freebind(int fd, int family)
{
    if (family == AF_INET)
        /* #syscalls:setup,host,netns setsockopt(*, IPPROTO_IP, IP_FREEBIND, *, *) — --freebind */
        return socket_enable(fd, IPPROTO_IP, IP_FREEBIND);
    /* #syscalls:setup,host,netns setsockopt(*, IPPROTO_IPV6, IPV6_FREEBIND, *, *) — the same for IPv6 */
    return socket_enable(fd, IPPROTO_IPV6, IPV6_FREEBIND);
}

/*
 * A datagram from an address of ours to the same is the host's own only if it came by lo: IPv6 has no rule against such
 * sources from outside. What is said of it later is the interface of the address, so that it has to be dropped here.
 */
static int drop_forged(int fd)
{
#define LOAD(size, at) BPF_STMT(BPF_LD | (size) | BPF_ABS, (uint32_t)(at))
#define SAME_WORD(source, destination, otherwise) \
    LOAD(BPF_W, SKF_NET_OFF + (source)), BPF_STMT(BPF_MISC | BPF_TAX, 0), LOAD(BPF_W, SKF_NET_OFF + (destination)), \
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_X, 0, 0, otherwise)
    static struct sock_filter code[] = {
        LOAD(BPF_W, SKF_AD_OFF + SKF_AD_IFINDEX),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, LOOPBACK_INDEX, 25, 0),
        LOAD(BPF_B, SKF_NET_OFF),
        BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 4, 0, 5),
        SAME_WORD(12, 16, 18),
        BPF_STMT(BPF_RET | BPF_K, 0),
        SAME_WORD(8, 24, 13),
        SAME_WORD(12, 28, 9),
        SAME_WORD(16, 32, 5),
        SAME_WORD(20, 36, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
    };
    static const struct sock_fprog program = {.len = ARRAY_SIZE(code), .filter = code};

    /* #syscalls:setup,host,netns setsockopt(*, SOL_SOCKET, SO_ATTACH_FILTER, *, *) — no forged source of our own address */
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
}

/* Which of our addresses a datagram came to, and all that flows report, but errors: it never sends, so they would be forged. */
static void prepare_datagrams(int fd, int family, bool both)
{
    report_header(fd, family);
    if (both)
        report_header(fd, AF_INET);
    if (family == AF_INET || both)
        /* #syscalls:setup,host,netns setsockopt(*, IPPROTO_IP, IP_PKTINFO, *, *) — the destination of each datagram */
        socket_enable(fd, IPPROTO_IP, IP_PKTINFO);
    if (family == AF_INET6)
        /* #syscalls:setup,host,netns setsockopt(*, IPPROTO_IPV6, IPV6_RECVPKTINFO, *, *) — the same for IPv6 */
        socket_enable(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO);
    socket_enable(fd, IPPROTO_UDP, UDP_GRO);
}

static void prepare_connections(int fd)
{
    /* #syscalls:setup,host,netns setsockopt(*, SOL_SOCKET, SO_REUSEADDR, *, *) — past connections in TIME-WAIT */
    socket_enable(fd, SOL_SOCKET, SO_REUSEADDR);
    socket_enable(fd, SOL_SOCKET, SO_OOBINLINE); /* what is accepted inherits it */
}

static int bind_to(int fd, const struct listen_wish *wish)
{
    const int family = family_of(wish);
    union address address;
    socklen_t length = address_fill(&address, &wish->ip, family, wish->port);

    if (family == AF_INET6 && *wish->interface != '\0')
        address.in6.sin6_scope_id = 0; /* the interface that the socket is bound to */
    return bind(fd, &address.any, length);
}

static int make(int fd, const struct listen_wish *wish, bool filtered, const char **what)
{
    const int family = family_of(wish);
    const bool both = wish->ip.family == 0;
    int v6only = !both;

    if (family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only)) != 0)
        return -1;
    if (wish->protocol == FLOW_TCP)
        prepare_connections(fd);
    else if (!filtered || drop_forged(fd) == 0)
        prepare_datagrams(fd, family, both);
    else
        return -1;
    *what = "bind to an interface for";
    if (socket_bind_interface(fd, wish->interface) != 0)
        return -1;
    *what = "bind";
    if ((wish->freebind && set_freebind(fd, family) != 0) || bind_to(fd, wish) != 0)
        return -1;
    *what = "listen on";
    /* #syscalls:setup,host,netns listen(*, SOMAXCONN) — forwarded ports */
    return wish->protocol == FLOW_TCP ? listen(fd, SOMAXCONN) : socket_share(fd); /* alone until here */
}

int listen_open(const struct listen_wish *wish, int *number, int *errnum, const char **what)
{
    *what = "open a socket for";
    *number = take_number();
    if (*number < 0) {
        *errnum = ENFILE;
        return -1;
    }
    const bool filtered = wish->protocol == FLOW_UDP && filters < FILTERS_MAX;
    int fd = flow_socket(wish->protocol, family_of(wish));
    if (fd >= 0 && make(fd, wish, filtered, what) == 0) {
        /* #syscalls:setup,host,netns fcntl(*, F_DUPFD_CLOEXEC, *) — our copy of a listener */
        int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

        if (copy >= 0) {
            remember(*number, copy, wish, filtered);
            return fd;
        }
        *what = "keep a socket for";
    }
    *errnum = errno;
    if (fd >= 0)
        close(fd);
    return -1;
}

/* ---- answering ---- */

struct ends {
    union address peer, local;
    socklen_t bytes; /* of either */
    unsigned interface;
};

static void read_destination(struct cmsghdr *c, struct ends *ends)
{
    if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
        struct in_pktinfo info;

        memcpy(&info, CMSG_DATA(c), sizeof(info));
        /* Of a broadcast, the address of ours that an answer leaves from; else the destination itself. */
        ends->local = (union address){.in = {.sin_family = AF_INET, .sin_addr = info.ipi_spec_dst}};
        ends->interface = (unsigned)info.ipi_ifindex;
    } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO && ends->local.any.sa_family != AF_INET) {
        struct in6_pktinfo info;

        memcpy(&info, CMSG_DATA(c), sizeof(info));
        ends->local = (union address){.in6 = {.sin6_family = AF_INET6, .sin6_addr = info.ipi6_addr}};
        ends->interface = info.ipi6_ifindex;
        if (IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr))
            ends->local.in6.sin6_scope_id = info.ipi6_ifindex;
    }
}

/* A peer of IPv4 has an IPv4-mapped address on a socket of both versions. */
static void unmap(union address *a)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = a->in6.sin6_port};

    if (a->any.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr)) {
        memcpy(&in.sin_addr, &a->in6.sin6_addr.s6_addr[12], 4);
        a->in = in;
    }
}

static struct ip ip_of(const union address *a)
{
    struct ip ip = {.family = a->any.sa_family};

    if (ip.family == AF_INET)
        memcpy(ip.bytes, &a->in.sin_addr, 4);
    else
        memcpy(ip.bytes, &a->in6.sin6_addr, 16);
    return ip;
}

/* Both ends of the first datagram in the queue, of which not a byte is read. false: errno. */
static bool look(const struct listener *l, struct ends *ends)
{
    union { char bytes[512]; struct cmsghdr align; } control;
    struct msghdr message = {
        .msg_name = &ends->peer, .msg_namelen = sizeof(ends->peer), .msg_control = control.bytes,
        .msg_controllen = sizeof(control.bytes),
    };

    memset(ends, 0, sizeof(*ends));
    /* #syscalls:setup,host,netns recvmsg(*, *, MSG_PEEK+MSG_DONTWAIT+MSG_TRUNC) — who sent the datagram that waits, without its payload */
    if (recvmsg(l->fd, &message, MSG_PEEK | MSG_DONTWAIT | MSG_TRUNC) < 0)
        return false;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c))
        read_destination(c, ends);
    unmap(&ends->peer);
    unmap(&ends->local);
    errno = EADDRNOTAVAIL;
    if (ends->peer.any.sa_family != ends->local.any.sa_family)
        return false;
    if (ends->peer.any.sa_family == AF_INET) {
        ends->local.in.sin_port = htons(l->port);
        ends->bytes = sizeof(ends->local.in);
    } else {
        ends->local.in6.sin6_port = htons(l->port);
        ends->bytes = sizeof(ends->local.in6);
    }
    return true;
}

/* The peer's address is one of ours: then it was sent on this host, and is not forged. Where that is not certain, no answer. */
static bool is_from_here_if_ours(const struct listener *l, const struct ends *ends, const struct answer *a)
{
    /* Of those from the same address, drop_forged() let none in from outside. */
    const bool same = memcmp(a->peer.bytes, a->local.bytes, sizeof(a->peer.bytes)) == 0;
    const bool from_here = ends->interface == LOOPBACK_INDEX || (same && l->filtered);

    if (!from_here && !same && own_denies(&a->peer, ends->interface) == 0)
        return true;
    /* It may be one of our own flows that left it, from a port of the controller's choice: see hairpin.c. */
    if (led_here[l->port] && floor_denies(FLOW_UDP, &a->peer, a->port) != 0)
        return false;
    /* From one of our addresses to another, or without a filter: by a connected socket, which asks us and no other. */
    return from_here || tuple_taken(&ends->peer, &ends->local, 0);
}

/* To somebody, and from an address that the listener has: of one that is bound to a group or a broadcast, it would be another. */
static bool is_answerable(const struct listener *l, const struct ends *ends, const struct answer *a)
{
    return a->port != 0 && !floor_never(&a->peer) && !floor_never(&a->local) &&
           (l->is_any || memcmp(l->ip.bytes, a->local.bytes, sizeof(a->local.bytes)) == 0) &&
           is_from_here_if_ours(l, ends, a);
}

/*
 * Between bind() and connect() datagrams of others may come to this socket rather than to the listener. They are left in it:
 * the controller reads who sent each of the first ones, and loses none.
 */
static int connect_answer(const struct listener *l, const struct ends *ends)
{
    const int family = ends->peer.any.sa_family;
    int fd = flow_socket(FLOW_UDP, family), errnum;

    if (fd < 0)
        return -1;
    report_metadata(fd, FLOW_UDP, family);
    if (family == AF_INET6)
        socket_enable(fd, IPPROTO_IPV6, IPV6_V6ONLY);
    if (l->freebind)
        set_freebind(fd, family);
    if (socket_bind_interface(fd, l->interface) == 0 && socket_share(fd) == 0 &&
        bind(fd, &ends->local.any, ends->bytes) == 0 && socket_connect(fd, &ends->peer) == 0)
        return fd;
    errnum = errno;
    close(fd);
    errno = errnum;
    return -1;
}

int listen_answer(int number, struct answer *answer, int *errnum, const char **what)
{
    const struct listener *l = &table[number];
    struct ends ends;
    int fd = -1;

    *what = "answer from";
    errno = EBADF;
    if (l->fd != 0 && l->protocol == FLOW_UDP && look(l, &ends)) {
        const bool is4 = ends.peer.any.sa_family == AF_INET;

        *answer = (struct answer){
            .peer = ip_of(&ends.peer), .local = ip_of(&ends.local),
            .port = ntohs(is4 ? ends.peer.in.sin_port : ends.peer.in6.sin6_port),
        };
        errno = EADDRNOTAVAIL;
        if (is_answerable(l, &ends, answer)) {
            errno = EADDRINUSE; /* it has its socket, and a second one would get its datagrams */
            if (!tuple_taken(&ends.local, &ends.peer, ends.interface))
                fd = connect_answer(l, &ends);
        }
    }
    *errnum = errno;
    return fd;
}
