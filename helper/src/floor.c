/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The deny floor: destinations that no socket is ever connected to, whatever the controller asks for. The built-in
 * part keeps a compromised controller from the host's own services, on its loopback and its other addresses (own.c), in
 * every spelling; `seal` adds to it, and then nothing can be taken away (the memory becomes read-only).
 */
#include "helper.h"

static union {
    struct {
        int count;
        struct net added[DENY_MAX];
    };
    char page[PAGE_BYTES_MAX];
} frozen __attribute__((aligned(PAGE_BYTES_MAX)));

static const struct { uint8_t bytes[4]; int prefix; } DENY4[] = {
    {{0}, 8},         /* "this network": Linux connects 0.0.0.0 to its own loopback. RFC 1122 3.2.1.3 */
    {{127}, 8},       /* loopback. RFC 1122 3.2.1.3 */
    {{224}, 4},       /* multicast: no connected flows. RFC 5771 */
    {{240}, 4},       /* reserved, and limited broadcast. RFC 1112 4, RFC 919 7 */
};
static const struct { uint8_t bytes[16]; int prefix; } DENY6[] = {
    {{0}, 96},        /* ::, ::1 and the IPv4-compatible ::a.b.c.d. RFC 4291 2.5.2, 2.5.3, 2.5.5.1 */
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

static bool denies4(const uint8_t *address)
{
    for (size_t i = 0; i < ARRAY_SIZE(DENY4); i++)
        if (matches(address, DENY4[i].bytes, DENY4[i].prefix))
            return true;
    return added_denies(AF_INET, address);
}

static bool denies6(const uint8_t *address)
{
    for (size_t i = 0; i < ARRAY_SIZE(DENY6); i++)
        if (matches(address, DENY6[i].bytes, DENY6[i].prefix))
            return true;
    return added_denies(AF_INET6, address);
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

int floor_denies(const struct ip *ip, int port)
{
    struct ip inside;

    if (ip->family == AF_INET ? denies4(ip->bytes) : denies6(ip->bytes))
        return EACCES;
    int errnum = own_denies(ip, port, outbound_interface(ip));
    return errnum == 0 && embedded4(ip, &inside) ? floor_denies(&inside, port) : errnum;
}

void floor_freeze(void)
{
    seal_freeze(&frozen, sizeof(frozen));
}
