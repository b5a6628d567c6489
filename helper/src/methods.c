/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the controller may ask for: a function of a few lines for each method of method-table.c. A system call that failed is
 * an ordinary error reply. Why each method is safe to offer to a controller that was taken over: docs/SECURITY.md.
 */
#include "methods.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <sys/prctl.h>

static struct session session;

__attribute__((format(printf, 3, 4))) static void fail(struct outcome *o, int errnum, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    int used = vsnprintf(o->text, sizeof(o->text), format, args);
    va_end(args);
    if (used < (int)sizeof(o->text))
        snprintf(o->text + used, sizeof(o->text) - (size_t)used, ": %s", errno_text(errnum));
    o->code = ERROR_SYSTEM;
    o->errnum = errnum;
}

static void refuse(struct outcome *o, int errnum, const char *what)
{
    fail(o, errnum, "%s", what);
    o->code = ERROR_REFUSED;
}

static void give(struct outcome *o, int fd, const char *what)
{
    o->fd = fd;
    if (fd < 0)
        fail(o, errno, "open %s", what);
}

/* ---- the methods ---- */

void run_hello(const union params *p, struct outcome *o)
{
    const struct settings *s = session.settings;

    (void)p;
    snprintf(o->text, sizeof(o->text),
             ",\"version\":\"%s\",\"side\":\"%s\",\"spawn\":%s,\"foreground\":%s,\"tap\":\"%s\",\"template\":\"%s\","
             "\"startedAsRoot\":%s",
             s->version, session.side == SIDE_HOST ? "host" : "netns", s->spawn ? "true" : "false",
             s->foreground ? "true" : "false", session.start->tap_name, session.start->template_name,
             session.start->started_as_root ? "true" : "false");
}

void run_netlink_open(const union params *p, struct outcome *o)
{
    give(o, netlink_open(p->choice == 1), NETLINK_PROTOCOLS[p->choice]);
}

void run_file_open(const union params *p, struct outcome *o)
{
    give(o, file_open_readable(p->choice), READABLE_NAMES[p->choice]);
}

void run_file_create(const union params *p, struct outcome *o)
{
    if (!is_on_command_line(session.settings, p->file.path)) {
        fail(o, EPERM, "create %s, which is not on the command line", p->file.path);
        o->code = ERROR_REFUSED;
        return;
    }
    int fd = file_create(p->file.path, p->file.kind == FILE_LOG);

    if (fd < 0 && errno == EINVAL)
        fail(o, EINVAL, "%s is not a regular file with one name", p->file.path);
    else if (fd < 0)
        fail(o, errno, "Couldn't open %s file %s", p->file.kind == FILE_LOG ? "log" : "pcap", p->file.path);
    else
        o->fd = fd;
}

void run_resolver_open(const union params *p, struct outcome *o)
{
    (void)p;
    errno = ENOENT;
    give(o, session.resolver, "the reader of resolv.conf");
    session.resolver = -1;
}

void run_syslog_open(const union params *p, struct outcome *o)
{
    (void)p;
    give(o, syslog_open(), "/dev/log");
}

void run_tap_open(const union params *p, struct outcome *o)
{
    struct tap *tap = &session.tap;

    if (strcmp(p->name, tap->name) != 0 || tap->fd < 0) {
        fail(o, ENODEV, "tap %s", p->name);
        return;
    }
    o->fd = tap->fd;
    tap->fd = -1; /* channel_send() closes ours: the tap lives as long as the controller */
    snprintf(o->text, sizeof(o->text),
             ",\"index\":%u,\"mac\":\"%02x:%02x:%02x:%02x:%02x:%02x\",\"vnetHeaderBytes\":%d,\"tso\":%s,\"uso\":%s",
             tap->index, tap->mac[0], tap->mac[1], tap->mac[2], tap->mac[3], tap->mac[4], tap->mac[5],
             tap->vnet_header_bytes, tap->tso ? "true" : "false", tap->uso ? "true" : "false");
}

/* The index of the tap or of lo; 0, with the reply filled in, for any other interface of the namespace. */
static unsigned own_link(const char *name, struct outcome *o)
{
    if (strcmp(name, session.tap.name) == 0)
        return session.tap.index;
    if (strcmp(name, "lo") == 0)
        return session.lo_index;
    fail(o, EPERM, "change interface %s", name);
    o->code = ERROR_REFUSED;
    return 0;
}

void run_link_set(const union params *p, struct outcome *o)
{
    struct link_change change = {.up = p->link.up, .arp = p->link.arp, .mtu = p->link.mtu};
    unsigned index = own_link(p->link.name, o);

    if (index == 0)
        return;
    if (p->link.mac) { /* the pattern has been checked */
        change.set_mac = true;
        for (int i = 0; i < 6; i++)
            change.mac[i] = (uint8_t)strtoul(p->link.mac + 3 * i, NULL, 16);
    }
    int errnum = link_set(session.route, index, &change);
    if (errnum != 0)
        fail(o, errnum, "set link %s", p->link.name);
}

void run_address_add(const union params *p, struct outcome *o)
{
    struct ip ip;
    unsigned index = own_link(p->route.name, o);

    if (index == 0)
        return;
    int errnum = ip_parse(p->route.destination, &ip) ? address_add(session.route, index, &ip, p->route.prefix) : EINVAL;
    if (errnum != 0)
        fail(o, errnum, "add address %s/%d to %s", p->route.destination, p->route.prefix, p->route.name);
}

void run_route_add(const union params *p, struct outcome *o)
{
    struct ip destination, gateway;
    unsigned index = own_link(p->route.name, o);
    int errnum = EINVAL;

    if (index == 0)
        return;
    if (ip_parse(p->route.destination, &destination) && (!p->route.gateway || ip_parse(p->route.gateway, &gateway)))
        errnum = route_add(session.route, index, &destination, p->route.prefix, p->route.gateway ? &gateway : NULL,
                           p->route.metric);
    if (errnum != 0)
        fail(o, errnum, "add route to %s/%d by %s", p->route.destination, p->route.prefix, p->route.name);
}

void run_socket_connect(const union params *p, struct outcome *o)
{
    enum flow_protocol protocol = (enum flow_protocol)p->connect.protocol;
    const char *what;
    struct ip ip;
    int errnum;

    if (!ip_parse(p->connect.address, &ip)) {
        fail(o, EINVAL, "connect %s", p->connect.address);
        return;
    }
    /* A namespace has no ping sockets of ours. */
    if (session.side == SIDE_NETNS)
        errnum = protocol == FLOW_ICMP ? EACCES : floor_denies_elsewhere(&ip);
    else
        errnum = floor_denies(protocol, &ip, p->connect.port);
    if (errnum == EACCES)
        refuse(o, errnum, p->connect.address);
    else if (errnum != 0)
        fail(o, errnum, "look up a route to %s", p->connect.address);
    if (errnum != 0)
        return;
    if (protocol == FLOW_UDP && session.side == SIDE_HOST && floor_grants(protocol, &ip, p->connect.port) &&
        !listen_hears(protocol, &ip, p->connect.port))
        listen_beware(p->connect.port);
    o->fd = flow_connect(protocol, &ip, p->connect.port, p->connect.source_port, p->connect.hop_limit,
                         &errnum, &what);
    if (o->fd < 0)
        fail(o, errnum, "%s %s port %d", what, p->connect.address, p->connect.port);
}

void run_socket_multicast(const union params *p, struct outcome *o)
{
    enum group_role role = (enum group_role)p->group.role;
    struct ip ip;
    int errnum = EINVAL;

    if (!ip_parse(p->group.address, &ip)) {
        fail(o, EINVAL, "join %s", p->group.address);
        return;
    }
    if (!group_allowed(role, &ip)) {
        refuse(o, EACCES, p->group.address);
        return;
    }
    o->fd = group_open(role, &ip, p->group.port, p->group.source_port, &errnum);
    if (o->fd < 0)
        fail(o, errnum, "open a socket for %s port %d", p->group.address, p->group.port);
}

/*
 * Once sealed, at no group and no broadcast. The broker's listeners are for the namespace itself: on lo, at an address that is
 * not one of the tap.
 */
static bool may_listen(const struct listen_wish *wish)
{
    static const uint8_t zero[16];
    const struct ip *ip = &wish->ip;

    const bool is_any = memcmp(ip->bytes, zero, 16) == 0;

    if (!listen_allows(wish->protocol, wish->port, wish->freebind))
        return false;
    if (session.stage == STAGE_SEALED && !is_any && (floor_never(ip) || own_is_group(ip)))
        return false;
    return session.side == SIDE_HOST ||
           (strcmp(wish->interface, "lo") == 0 &&
            (is_any ||
             (ip->family == AF_INET ? ip->bytes[0] == 127 : memcmp(ip->bytes, &in6addr_loopback, 16) == 0)));
}

void run_socket_listen(const union params *p, struct outcome *o)
{
    struct listen_wish wish = {
        .protocol = (enum flow_protocol)p->listen.protocol, .port = p->listen.port, .interface = p->listen.interface,
        .freebind = p->listen.freebind > 0,
    };
    const char *what;
    int number, errnum;

    if (*p->listen.address != '\0' && !ip_parse(p->listen.address, &wish.ip)) {
        fail(o, EINVAL, "listen on %s", p->listen.address);
        return;
    }
    if (!may_listen(&wish)) {
        refuse(o, EACCES, "listen");
        return;
    }
    o->fd = listen_open(&wish, &number, &errnum, &what);
    if (o->fd < 0)
        fail(o, errnum, "%s %s port %d", what, *p->listen.address ? p->listen.address : "any address", wish.port);
    else
        snprintf(o->text, sizeof(o->text), ",\"listener\":%d", number);
}

void run_socket_answer(const union params *p, struct outcome *o)
{
    char peer[INET6_ADDRSTRLEN], local[INET6_ADDRSTRLEN];
    struct answer answer;
    const char *what;
    int errnum;

    o->fd = listen_answer(p->choice, &answer, &errnum, &what);
    if (o->fd < 0) {
        fail(o, errnum, "%s listener %d", what, p->choice);
        return;
    }
    inet_ntop(answer.peer.family, answer.peer.bytes, peer, sizeof(peer));
    inet_ntop(answer.local.family, answer.local.bytes, local, sizeof(local));
    snprintf(o->text, sizeof(o->text), ",\"address\":\"%s\",\"port\":%d,\"local\":\"%s\"", peer, answer.port, local);
}

void run_socket_unlisten(const union params *p, struct outcome *o)
{
    if (!listen_forget(p->choice))
        fail(o, EBADF, "forget listener %d", p->choice);
}

static bool optional_ip(const char *text, int family, struct ip *ip)
{
    memset(ip, 0, sizeof(*ip));
    return *text == '\0' || (ip_parse(text, ip) && ip->family == family);
}

static bool read_outbound(const union params *p, struct outbound *outbound)
{
    snprintf(outbound->interface4, sizeof(outbound->interface4), "%s", p->seal.interface4);
    snprintf(outbound->interface6, sizeof(outbound->interface6), "%s", p->seal.interface6);
    outbound->index4 = *outbound->interface4 ? interface_index(outbound->interface4) : 0;
    outbound->scope6 = session.start->scope6;
    if (*outbound->interface6)
        outbound->scope6 = interface_index(outbound->interface6);
    outbound->multicast = p->seal.multicast > 0;
    if (outbound->multicast) {
        const char *template = session.start->template_name;

        snprintf(outbound->multicast4, IFNAMSIZ, "%s", *outbound->interface4 ? outbound->interface4 : template);
        snprintf(outbound->multicast6, IFNAMSIZ, "%s", *outbound->interface6 ? outbound->interface6 : template);
        outbound->multicast_index4 = interface_index(outbound->multicast4);
        outbound->multicast_index6 = interface_index(outbound->multicast6);
    }
    return optional_ip(p->seal.address4, AF_INET, &outbound->address4) &&
           optional_ip(p->seal.address6, AF_INET6, &outbound->address6);
}

static bool read_net(const char *address, int prefix, struct net *net)
{
    if (!ip_parse(address, &net->ip))
        return false;
    const int bits = net->ip.family == AF_INET ? 32 : 128;

    net->prefix = prefix < 0 ? bits : prefix;
    return net->prefix <= bits;
}

static bool read_grant(const struct grant_entry *entry, struct grant *grant)
{
    grant->port = entry->port;
    grant->last = entry->last < 0 ? entry->port : entry->last;
    grant->protocol = entry->protocol;
    /* A range that begins with 0 would be every port. */
    return read_net(entry->address, entry->prefix, &grant->net) && grant->last >= grant->port &&
           (grant->port != 0 || grant->last == 0);
}

static bool read_window(const struct window_entry *entry, struct window *window)
{
    window->protocol = (uint16_t)entry->protocol;
    window->first = (uint16_t)entry->first;
    window->last = (uint16_t)entry->last;
    return window->last >= window->first;
}

/* All of it is checked before any of it is frozen. */
static bool freeze(const union params *p)
{
    struct outbound outbound = {0};
    struct net deny[DENY_MAX];
    struct grant grant[GRANTS_MAX];
    struct window windows[LISTEN_WINDOWS_MAX];

    for (int i = 0; i < p->seal.deny_count; i++)
        if (!read_net(p->seal.deny[i].address, p->seal.deny[i].prefix, &deny[i]))
            return false;
    for (int i = 0; i < p->seal.grant_count; i++)
        if (!read_grant(&p->seal.grant[i], &grant[i]))
            return false;
    for (int i = 0; i < p->seal.window_count; i++)
        if (!read_window(&p->seal.windows[i], &windows[i]))
            return false;
    if (!read_outbound(p, &outbound))
        return false;
    /* The namespace's own link-local addresses are the tap's; nothing else of this is about the namespace. */
    if (session.side == SIDE_NETNS)
        outbound = (struct outbound){.scope6 = session.tap.index};
    for (int i = 0; i < p->seal.deny_count; i++)
        floor_add(&deny[i]);
    for (int i = 0; i < p->seal.grant_count; i++)
        floor_grant(&grant[i]);
    floor_freeze();
    listen_freeze(windows, p->seal.window_count, p->seal.freebind > 0);
    outbound_freeze(&outbound);
    return true;
}

void run_seal(const union params *p, struct outcome *o)
{
    if (!freeze(p)) {
        fail(o, EINVAL, "seal");
        return;
    }
    if (session.side == SIDE_NETNS) {
        close(session.route);
        if (session.tap.fd >= 0)
            close(session.tap.fd);
    } else {
        flow_warm_up();
    }
    if (session.side == SIDE_HOST && session.resolver >= 0)
        close(session.resolver);
    own_freeze();
    tuple_freeze();
    const bool sandbox = session.side == SIDE_HOST && session.settings->sandbox;
    const bool low_ports = (sandbox || p->seal.window_count > 0) && holds_low_ports();
    if (sandbox)
        sandbox_enter();
    else
        enter_empty_root(low_ports || unix_is_open());
    drop_capabilities(low_ports);
    if (session.side == SIDE_HOST)
        stay_with_caller();
    /* #syscalls:setup prctl(PR_SET_DUMPABLE, 0) — nobody of the same user looks into a sealed process */
    prctl(PR_SET_DUMPABLE, 0);
    seal_install(session.side == SIDE_HOST ? PROFILE_HOST : PROFILE_NETNS);
    session.stage = STAGE_SEALED;
}

void run_unix_listen(const union params *p, struct outcome *o)
{
    if (!is_on_command_line(session.settings, p->file.path)) {
        fail(o, EPERM, "create %s, which is not on the command line", p->file.path);
        o->code = ERROR_REFUSED;
        return;
    }
    o->fd = unix_listen(p->file.kind, p->file.path);
    if (o->fd >= 0)
        return;
    fail(o, errno, session.settings->personality == SLIRP4NETNS ? "api_bindlisten: bind" : "listen at %s", p->file.path);
    if (o->errnum == EADDRINUSE)
        snprintf(o->text, sizeof(o->text), "Socket path %s already in use", p->file.path);
    else if (o->errnum == ENOTSOCK)
        snprintf(o->text, sizeof(o->text), "%s exists and is not a socket", p->file.path);
}

void run_unix_accept(const union params *p, struct outcome *o)
{
    pid_t pid;

    o->fd = unix_accept(p->choice, &pid);
    if (o->fd >= 0)
        snprintf(o->text, sizeof(o->text), ",\"pid\":%d", (int)pid);
    else if (errno == EACCES)
        refuse(o, EACCES, "a client of another user");
    else
        fail(o, errno, "accept at socket %s", UNIX_KINDS[p->choice]);
}

void run_guest_open(const union params *p, struct outcome *o)
{
    char path[UNIX_PATH_BYTES + 1];
    bool listens;

    (void)p;
    o->fd = guest_open(&listens, path);
    if (o->fd < 0)
        fail(o, errno, "open the guest's socket");
    else
        snprintf(o->text, sizeof(o->text), ",\"listening\":%s,\"path\":\"%s\"", listens ? "true" : "false", path);
}

void run_guest_accept(const union params *p, struct outcome *o)
{
    pid_t pid;

    (void)p;
    o->fd = guest_accept(&pid);
    if (o->fd < 0)
        fail(o, errno, "accept at the guest's socket");
    else
        snprintf(o->text, sizeof(o->text), ",\"pid\":%d", (int)pid);
}

void run_ready(const union params *p, struct outcome *o)
{
    int errnum = host_ready();

    (void)p;
    if (errnum != 0)
        fail(o, errnum, "write the PID file");
}

void run_command_start(const union params *p, struct outcome *o)
{
    int errnum = broker_start_command();

    (void)p;
    if (errnum != 0)
        fail(o, errnum, "start the command");
}

void methods_start(const struct session *initial)
{
    session = *initial;
}

bool method_is_for_now(const struct method *method)
{
    if (method->run == run_tap_open && session.side == SIDE_HOST && session.settings->tap_fd < 0)
        return false; /* no tap was inherited */
    return (method->sides & session.side) && (method->stages & session.stage);
}
