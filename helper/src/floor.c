/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The deny floor: destinations that no socket is ever connected to, whatever the controller asks for. The built-in
 * part keeps a compromised controller from the host's own services, on its loopback and its other addresses (own.c), in
 * every spelling. `seal` adds to it, and grants exceptions for the host's own addresses, loopback included; then neither
 * can be changed (the memory becomes read-only). Where one of our own sockets listens is no service of the host's.
 */
#include "helper.h"

static struct {
    int count, grant_count;
    struct net added[DENY_MAX];
    struct grant grants[GRANTS_MAX];
} __attribute__((aligned(PAGE_BYTES_MAX))) frozen;

/* Nothing lifts these. */
static const struct { uint8_t bytes[4]; int prefix; } NEVER4[] = {
    {{0}, 8},         /* "this network": Linux connects 0.0.0.0 to its own loopback. RFC 1122 3.2.1.3 */
    {{224}, 4},       /* multicast: no connected flows. RFC 5771 */
    {{240}, 4},       /* reserved, and limited broadcast. RFC 1112 4, RFC 919 7 */
};
static const struct { uint8_t bytes[16]; int prefix; } NEVER6[] = {
    {{0}, 96},        /* :: and the IPv4-compatible ::a.b.c.d; for ::1 see below. RFC 4291 2.5.2, 2.5.5.1 */
    {{[10] = 0xff, 0xff}, 96}, /* IPv4-mapped: a socket of the other family. RFC 4291 2.5.5.2 */
    {{0xff}, 8},      /* multicast. RFC 4291 2.7 */
};
/* An IPv6 address that a translator turns into the IPv4 address inside it. */
static const struct { uint8_t bytes[16]; int prefix, at; } EMBEDDING[] = {
    {{0x00, 0x64, 0xff, 0x9b}, 96, 12}, /* NAT64. RFC 6052 2.1 */
    {{[8] = 0xff, 0xff}, 96, 12},       /* IPv4-translated, ::ffff:0:a.b.c.d. RFC 2765 2.1 */
    {{0x20, 0x02}, 16, 2},              /* 6to4. RFC 3056 2 */
};

static bool matches(const uint8_t *address, const uint8_t *net, int prefix)
{
    int whole = prefix / 8, rest = prefix % 8;

    if (memcmp(address, net, (size_t)whole) != 0)
        return false;
    return rest == 0 || ((address[whole] ^ net[whole]) >> (8 - rest)) == 0;
}

static bool added_denies(int family, const uint8_t *address)
{
    for (int i = 0; i < frozen.count; i++)
        if (frozen.added[i].ip.family == family && matches(address, frozen.added[i].ip.bytes, frozen.added[i].prefix))
            return true;
    return false;
}

/* Loopback. RFC 1122 3.2.1.3, RFC 4291 2.5.3 */
bool is_loopback(const struct ip *ip)
{
    return ip->family == AF_INET ? ip->bytes[0] == 127 : memcmp(ip->bytes, &in6addr_loopback, 16) == 0;
}

bool floor_never(const struct ip *ip)
{
    if (ip->family == AF_INET) {
        for (size_t i = 0; i < ARRAY_SIZE(NEVER4); i++)
            if (matches(ip->bytes, NEVER4[i].bytes, NEVER4[i].prefix))
                return true;
        return false;
    }
    for (size_t i = 0; i < ARRAY_SIZE(NEVER6); i++)
        if (matches(ip->bytes, NEVER6[i].bytes, NEVER6[i].prefix))
            return !is_loopback(ip);
    return false;
}

/* A grant of a larger network than loopback's own means the host's other addresses. */
static bool is_granted(enum flow_protocol protocol, const struct ip *ip, int port)
{
    const int loopback_prefix = ip->family == AF_INET ? 8 : 128;

    for (int i = 0; i < frozen.grant_count; i++) {
        const struct grant *grant = &frozen.grants[i];

        if (grant->net.ip.family == ip->family && matches(ip->bytes, grant->net.ip.bytes, grant->net.prefix) &&
            (grant->port == 0 || (port >= grant->port && port <= grant->last)) &&
            (grant->protocol < 0 || grant->protocol == (int)protocol) &&
            (grant->net.prefix >= loopback_prefix || !is_loopback(ip)))
            return true;
    }
    return false;
}

/* false: there is none inside. */
static bool embedded4(const struct ip *ip, struct ip *inside)
{
    for (size_t i = 0; i < ARRAY_SIZE(EMBEDDING); i++) {
        if (ip->family == AF_INET6 && matches(ip->bytes, EMBEDDING[i].bytes, EMBEDDING[i].prefix)) {
            *inside = (struct ip){.family = AF_INET};
            memcpy(inside->bytes, ip->bytes + EMBEDDING[i].at, 4);
            return true;
        }
    }
    return false;
}

void floor_add(const struct net *net)
{
    if (frozen.count >= DENY_MAX)
        die("More than %d networks to deny", DENY_MAX);
    frozen.added[frozen.count++] = *net;
}

void floor_grant(const struct grant *grant)
{
    if (frozen.grant_count >= GRANTS_MAX)
        die("More than %d grants", GRANTS_MAX);
    frozen.grants[frozen.grant_count++] = *grant;
}

static int denies(enum flow_protocol protocol, const struct ip *ip, int port, bool is_inside)
{
    struct ip inside;

    if (floor_never(ip) || added_denies(ip->family, ip->bytes))
        return EACCES;
    if (is_loopback(ip))
        return !is_inside && is_granted(protocol, ip, port) ? 0 : EACCES;
    int errnum = is_granted(protocol, ip, port) ? 0 : own_denies(ip, outbound_interface(ip));
    if (errnum == EACCES && !is_inside && listen_has(protocol, ip, port))
        errnum = 0;
    return errnum == 0 && embedded4(ip, &inside) ? denies(protocol, &inside, port, true) : errnum;
}

int floor_denies(enum flow_protocol protocol, const struct ip *ip, int port)
{
    return denies(protocol, ip, port, false);
}

bool floor_grants(enum flow_protocol protocol, const struct ip *ip, int port)
{
    return is_granted(protocol, ip, port);
}

int floor_denies_elsewhere(const struct ip *ip)
{
    return floor_never(ip) ? EACCES : own_requires(ip);
}

void floor_freeze(void)
{
    seal_freeze(&frozen, sizeof(frozen));
}
