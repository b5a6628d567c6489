/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rtnetlink: the host's default route (for the tap's name), and the target namespace's links, addresses and routes.
 * One request at a time, each answered by an acknowledgement or a dump. Layout: rtnetlink(7), netlink(7).
 */
#include "helper.h"

#include <arpa/inet.h>
#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/ioctl.h>

#define REQUEST_BYTES 512

struct request {
    struct nlmsghdr header;
    char body[REQUEST_BYTES];
};

static void *body_start(struct request *r, uint16_t type, uint16_t flags, size_t body_bytes)
{
    memset(r, 0, sizeof(*r));
    r->header.nlmsg_type = type;
    r->header.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
    r->header.nlmsg_len = (uint32_t)NLMSG_LENGTH(body_bytes);
    return NLMSG_DATA(&r->header);
}

/* All callers' attributes together are far below REQUEST_BYTES; more would be a programming error. */
static void attribute(struct request *r, uint16_t type, const void *data, size_t bytes)
{
    size_t at = NLMSG_ALIGN(r->header.nlmsg_len);

    if (at + RTA_SPACE(bytes) > sizeof(*r))
        die("A netlink request is too long");
    struct rtattr *attr = (struct rtattr *)(void *)((char *)r + at);
    attr->rta_type = type;
    attr->rta_len = (uint16_t)RTA_LENGTH(bytes);
    memcpy(RTA_DATA(attr), data, bytes);
    r->header.nlmsg_len = (uint32_t)(at + RTA_SPACE(bytes));
}

static size_t ip_bytes(int family)
{
    return family == AF_INET ? 4 : 16;
}

/* Sends and waits for the kernel's verdict, which it gives before sendto() returns: 0 or an errno value. */
static int acknowledged(int fd, struct request *r)
{
    char answer[1024] __attribute__((aligned(NLMSG_ALIGNTO)));
    struct nlmsghdr *header = (struct nlmsghdr *)(void *)answer;
    static uint32_t sequence;

    r->header.nlmsg_seq = ++sequence;
    r->header.nlmsg_flags |= NLM_F_ACK;
    /* #syscalls:setup sendto(*, *, *, 0, 0, 0) — rtnetlink requests: link, address, route */
    if (sendto(fd, r, r->header.nlmsg_len, 0, NULL, 0) < 0)
        return errno;
    for (;;) {
        /* #syscalls:setup recvfrom(*, *, *, 0, 0, 0) — the kernel's answers */
        ssize_t length = recv(fd, answer, sizeof(answer), 0);

        if (length < 0 && errno == EINTR)
            continue;
        if (length < 0)
            return errno;
        if (NLMSG_OK(header, length) && header->nlmsg_type == NLMSG_ERROR && header->nlmsg_seq == sequence)
            return -((struct nlmsgerr *)NLMSG_DATA(header))->error;
    }
}

int route_socket(void)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

    if (fd < 0)
        die_errno("Can't open a netlink socket");
    return fd;
}

static int ask_interface(unsigned long request, struct ifreq *ifr)
{
    /* #syscalls:setup socket(AF_INET, SOCK_DGRAM+SOCK_CLOEXEC, 0) — only to ask for an interface's index */
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    /* #syscalls:setup ioctl(*, SIOCGIFINDEX, *) — the index of --outbound-if6 */
    int result = ioctl(fd, request, ifr);
    close(fd);
    return result;
}

unsigned interface_index(const char *name)
{
    struct ifreq ifr = {0};

    snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
    return ask_interface(SIOCGIFINDEX, &ifr) == 0 ? (unsigned)ifr.ifr_ifindex : 0;
}

bool interface_name(unsigned index, char name[IFNAMSIZ])
{
    struct ifreq ifr = {.ifr_ifindex = (int)index};

    if (ask_interface(SIOCGIFNAME, &ifr) != 0)
        return false;
    snprintf(name, IFNAMSIZ, "%s", ifr.ifr_name);
    return true;
}

/* ---- the default route of the host ---- */

struct route_choice { bool found; unsigned index, metric; };

static unsigned u32_of(const struct rtattr *attr)
{
    unsigned value;

    memcpy(&value, RTA_DATA(attr), sizeof(value));
    return value;
}

static void consider_route(struct nlmsghdr *header, struct route_choice *choice)
{
    struct rtmsg *route = NLMSG_DATA(header);
    unsigned index = 0, metric = 0, table = route->rtm_table;
    int left = (int)RTM_PAYLOAD(header);

    for (struct rtattr *attr = RTM_RTA(route); RTA_OK(attr, left); attr = RTA_NEXT(attr, left)) {
        switch (attr->rta_type) {
        case RTA_OIF: index = u32_of(attr); break;
        case RTA_PRIORITY: metric = u32_of(attr); break;
        case RTA_TABLE: table = u32_of(attr); break;
        case RTA_MULTIPATH: /* the first next hop is as good as another */
            if (RTA_PAYLOAD(attr) >= sizeof(struct rtnexthop))
                index = (unsigned)((struct rtnexthop *)RTA_DATA(attr))->rtnh_ifindex;
            break;
        default: break;
        }
    }
    if (route->rtm_dst_len != 0 || route->rtm_type != RTN_UNICAST || table != RT_TABLE_MAIN || index == 0)
        return;
    if (!choice->found || metric < choice->metric)
        *choice = (struct route_choice){.found = true, .index = index, .metric = metric};
}

/* Interface of the default route with the lowest metric in the main table. */
bool find_default_interface(int family, unsigned *index)
{
    static char answer[32768] __attribute__((aligned(NLMSG_ALIGNTO)));
    struct route_choice choice = {0};
    struct request request;
    int one = 1, fd = route_socket();

    /* With strict checking the kernel filters by table, which spares us a router's full table. */
    setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &one, sizeof(one));
    struct rtmsg *route = body_start(&request, RTM_GETROUTE, NLM_F_DUMP, sizeof(*route));
    route->rtm_family = (unsigned char)family;
    route->rtm_table = RT_TABLE_MAIN;
    if (sendto(fd, &request, request.header.nlmsg_len, 0, NULL, 0) < 0)
        goto out;
    for (;;) {
        ssize_t length = recv(fd, answer, sizeof(answer), 0);

        if (length < 0 && errno == EINTR)
            continue;
        if (length <= 0)
            goto out;
        int left = (int)length;
        for (struct nlmsghdr *h = (struct nlmsghdr *)(void *)answer; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
            if (h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR)
                goto out;
            if (h->nlmsg_type == RTM_NEWROUTE)
                consider_route(h, &choice);
        }
    }
out:
    close(fd);
    *index = choice.index;
    return choice.found;
}

/* ---- the target namespace ---- */

bool ip_parse(const char *text, struct ip *ip)
{
    memset(ip, 0, sizeof(*ip));
    ip->family = strchr(text, ':') ? AF_INET6 : AF_INET;
    return inet_pton(ip->family, text, ip->bytes) == 1;
}

int link_set(int fd, unsigned index, const struct link_change *change)
{
    struct request request;
    struct ifinfomsg *link = body_start(&request, RTM_SETLINK, 0, sizeof(*link));

    link->ifi_family = AF_UNSPEC;
    link->ifi_index = (int)index;
    if (change->up != 0) {
        link->ifi_change |= IFF_UP;
        link->ifi_flags |= change->up > 0 ? IFF_UP : 0;
    }
    if (change->arp != 0) {
        link->ifi_change |= IFF_NOARP;
        link->ifi_flags |= change->arp > 0 ? 0 : IFF_NOARP;
    }
    if (change->set_mac)
        attribute(&request, IFLA_ADDRESS, change->mac, sizeof(change->mac));
    if (change->mtu > 0) {
        uint32_t mtu = (uint32_t)change->mtu;
        attribute(&request, IFLA_MTU, &mtu, sizeof(mtu));
    }
    return acknowledged(fd, &request);
}

/* Adding what is there already changes it: callers may repeat themselves. No duplicate address detection: the tap has
 * one station, us, and the first packets must not wait a second for it. */
int address_add(int fd, unsigned index, const struct ip *ip, int prefix)
{
    struct request request;
    struct ifaddrmsg *address = body_start(&request, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*address));

    if (prefix > (int)ip_bytes(ip->family) * CHAR_BIT)
        return EINVAL;
    address->ifa_family = (unsigned char)ip->family;
    address->ifa_prefixlen = (unsigned char)prefix;
    address->ifa_flags = ip->family == AF_INET6 ? IFA_F_NODAD : 0;
    address->ifa_scope = RT_SCOPE_UNIVERSE;
    address->ifa_index = index;
    attribute(&request, IFA_LOCAL, ip->bytes, ip_bytes(ip->family));
    attribute(&request, IFA_ADDRESS, ip->bytes, ip_bytes(ip->family));
    return acknowledged(fd, &request);
}

/* gateway NULL: on link. metric 0: the kernel's default. */
int route_add(int fd, unsigned index, const struct ip *destination, int prefix, const struct ip *gateway, int metric)
{
    struct request request;
    struct rtmsg *route = body_start(&request, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*route));
    uint32_t priority = (uint32_t)metric;
    size_t bytes = ip_bytes(destination->family);

    if (prefix > (int)bytes * CHAR_BIT || (gateway && gateway->family != destination->family))
        return EINVAL;
    route->rtm_family = (unsigned char)destination->family;
    route->rtm_dst_len = (unsigned char)prefix;
    route->rtm_table = RT_TABLE_MAIN;
    route->rtm_protocol = RTPROT_STATIC;
    route->rtm_type = RTN_UNICAST;
    route->rtm_scope = !gateway && destination->family == AF_INET ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
    if (prefix > 0)
        attribute(&request, RTA_DST, destination->bytes, bytes);
    attribute(&request, RTA_OIF, &index, sizeof(index));
    if (gateway)
        attribute(&request, RTA_GATEWAY, gateway->bytes, bytes);
    if (metric > 0)
        attribute(&request, RTA_PRIORITY, &priority, sizeof(priority));
    return acknowledged(fd, &request);
}
