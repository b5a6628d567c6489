/* SPDX-License-Identifier: Apache-2.0 */
/* The table of methods, each with its sides, stages and parameters: what the schemas of shared/rpc/methods.ts say. */
#include "methods.h"

#define PROTOCOL_VERSION 1

const char *const NETLINK_PROTOCOLS[] = {"route", "sock_diag", NULL};
static const char *const FILE_KINDS[] = {[FILE_LOG] = "log", [FILE_PCAP] = "pcap", NULL};
static const char *const FLOW_PROTOCOLS[] = {[FLOW_TCP] = "tcp", [FLOW_UDP] = "udp", [FLOW_ICMP] = "icmp", NULL};
static const char *const PORT_PROTOCOLS[] = {[FLOW_TCP] = "tcp", [FLOW_UDP] = "udp", NULL};
static const char *const GROUP_ROLES[] = {
    [GROUP_SEND] = "send", [GROUP_ANSWERS] = "answers", [GROUP_JOIN] = "group", NULL};
const char *const UNIX_KINDS[] = {"conf", "control", "api", NULL};

#define AT(member) .at = offsetof(union params, member)
#define ADDRESS .type = FIELD_STRING, .min = 2, .max = 45
#define IFNAME .type = FIELD_STRING, .min = 1, .max = 15, .text = TEXT_IFNAME
#define PREFIX .type = FIELD_INT, .min = 0, .max = 128
#define PORT .type = FIELD_INT, .min = 0, .max = 65535

static const struct field NO_FIELDS[] = {{.type = FIELD_END}};
static const struct field HELLO_FIELDS[] = {
    {"protocol", .type = FIELD_INT, .min = PROTOCOL_VERSION, .max = PROTOCOL_VERSION, AT(choice)},
    {.type = FIELD_END},
};
static const struct field NETLINK_FIELDS[] = {
    {"protocol", .type = FIELD_ENUM, .names = NETLINK_PROTOCOLS, AT(choice)},
    {.type = FIELD_END},
};
static const struct field READABLE_FIELDS[] = {
    {"name", .type = FIELD_ENUM, .names = READABLE_NAMES, AT(choice)},
    {.type = FIELD_END},
};
static const struct field CREATE_FIELDS[] = {
    {"kind", .type = FIELD_ENUM, .names = FILE_KINDS, AT(file.kind)},
    {"path", .type = FIELD_STRING, .min = 1, .max = 4095, AT(file.path)},
    {.type = FIELD_END},
};
static const struct field UNIX_FIELDS[] = {
    {"kind", .type = FIELD_ENUM, .names = UNIX_KINDS, AT(file.kind)},
    {"path", .type = FIELD_STRING, .min = 1, .max = 107, AT(file.path)},
    {.type = FIELD_END},
};
static const struct field ACCEPT_FIELDS[] = {
    {"kind", .type = FIELD_ENUM, .names = UNIX_KINDS, AT(choice)},
    {.type = FIELD_END},
};
static const struct field TAP_FIELDS[] = {{"name", IFNAME, AT(name)}, {.type = FIELD_END}};
static const struct field LINK_FIELDS[] = {
    {"name", IFNAME, AT(link.name)},
    {"up", .type = FIELD_BOOL, .flags = OPTIONAL, AT(link.up)},
    {"mac", .type = FIELD_STRING, .flags = OPTIONAL, .min = 17, .max = 17, .text = TEXT_MAC, AT(link.mac)},
    {"mtu", .type = FIELD_INT, .flags = OPTIONAL, .min = 68, .max = 65535, AT(link.mtu)},
    {"arp", .type = FIELD_BOOL, .flags = OPTIONAL, AT(link.arp)},
    {.type = FIELD_END},
};
static const struct field ADDRESS_FIELDS[] = {
    {"name", IFNAME, AT(route.name)},
    {"address", ADDRESS, AT(route.destination)},
    {"prefix", PREFIX, AT(route.prefix)},
    {.type = FIELD_END},
};
static const struct field ROUTE_FIELDS[] = {
    {"name", IFNAME, AT(route.name)},
    {"destination", ADDRESS, AT(route.destination)},
    {"prefix", PREFIX, AT(route.prefix)},
    {"gateway", ADDRESS, .flags = NULLABLE, AT(route.gateway)},
    {"metric", .type = FIELD_INT, .min = 0, .max = INT_MAX, AT(route.metric)},
    {.type = FIELD_END},
};
static const struct field CONNECT_FIELDS[] = {
    {"protocol", .type = FIELD_ENUM, .names = FLOW_PROTOCOLS, AT(connect.protocol)},
    {"address", ADDRESS, AT(connect.address)},
    {"port", PORT, AT(connect.port)},
    {"sourcePort", PORT, AT(connect.source_port)},
    {"hopLimit", .type = FIELD_INT, .flags = OPTIONAL, .min = 1, .max = 255, AT(connect.hop_limit)},
    {.type = FIELD_END},
};
static const struct field GROUP_FIELDS[] = {
    {"role", .type = FIELD_ENUM, .names = GROUP_ROLES, AT(group.role)},
    {"address", ADDRESS, AT(group.address)},
    {"port", PORT, AT(group.port)},
    {"sourcePort", PORT, AT(group.source_port)},
    {.type = FIELD_END},
};
static const struct field LISTEN_FIELDS[] = {
    {"protocol", .type = FIELD_ENUM, .names = PORT_PROTOCOLS, AT(listen.protocol)},
    {"address", ADDRESS, .flags = OR_EMPTY, AT(listen.address)},
    {"port", .type = FIELD_INT, .min = 1, .max = 65535, AT(listen.port)},
    {"interface", IFNAME, .flags = OR_EMPTY, AT(listen.interface)},
    {"freebind", .type = FIELD_BOOL, AT(listen.freebind)},
    {.type = FIELD_END},
};
static const struct field LISTENER_FIELDS[] = {
    {"listener", .type = FIELD_INT, .min = 0, .max = LISTENERS_MAX - 1, AT(choice)},
    {.type = FIELD_END},
};
static const struct field DENY_FIELDS[] = { /* relative to one entry */
    {"address", ADDRESS, .at = offsetof(struct deny_entry, address)},
    {"prefix", PREFIX, .at = offsetof(struct deny_entry, prefix)},
    {.type = FIELD_END},
};
static const struct field GRANT_FIELDS[] = { /* relative to one entry */
    {"address", ADDRESS, .at = offsetof(struct grant_entry, address)},
    {"port", PORT, .at = offsetof(struct grant_entry, port)},
    {"last", PORT, .flags = OPTIONAL, .absent = -1, .at = offsetof(struct grant_entry, last)},
    {"prefix", PREFIX, .flags = OPTIONAL, .absent = -1, .at = offsetof(struct grant_entry, prefix)},
    {"protocol", .type = FIELD_ENUM, .names = PORT_PROTOCOLS, .flags = OPTIONAL, .absent = -1,
     .at = offsetof(struct grant_entry, protocol)},
    {.type = FIELD_END},
};
static const struct field WINDOW_FIELDS[] = { /* relative to one entry */
    {"protocol", .type = FIELD_ENUM, .names = PORT_PROTOCOLS, .at = offsetof(struct window_entry, protocol)},
    {"first", .type = FIELD_INT, .min = 1, .max = 65535, .at = offsetof(struct window_entry, first)},
    {"last", .type = FIELD_INT, .min = 1, .max = 65535, .at = offsetof(struct window_entry, last)},
    {.type = FIELD_END},
};
static const struct field OUTBOUND_FIELDS[] = {
    {"address4", ADDRESS, .flags = OR_EMPTY, AT(seal.address4)},
    {"address6", ADDRESS, .flags = OR_EMPTY, AT(seal.address6)},
    {"interface4", IFNAME, .flags = OR_EMPTY, AT(seal.interface4)},
    {"interface6", IFNAME, .flags = OR_EMPTY, AT(seal.interface6)},
    {.type = FIELD_END},
};
static const struct field SEAL_FIELDS[] = {
    {"deny", .type = FIELD_LIST, .max = DENY_MAX, .fields = DENY_FIELDS, AT(seal.deny),
     .count_at = offsetof(union params, seal.deny_count), .stride = sizeof(struct deny_entry)},
    {"grant", .type = FIELD_LIST, .max = GRANTS_MAX, .fields = GRANT_FIELDS, AT(seal.grant),
     .count_at = offsetof(union params, seal.grant_count), .stride = sizeof(struct grant_entry)},
    {"listen", .type = FIELD_LIST, .flags = OPTIONAL, .max = LISTEN_WINDOWS_MAX, .fields = WINDOW_FIELDS,
     AT(seal.windows), .count_at = offsetof(union params, seal.window_count), .stride = sizeof(struct window_entry)},
    {"outbound", .type = FIELD_OBJECT, .fields = OUTBOUND_FIELDS},
    {"multicast", .type = FIELD_BOOL, .flags = OPTIONAL, AT(seal.multicast)},
    {"freebind", .type = FIELD_BOOL, .flags = OPTIONAL, AT(seal.freebind)},
    {.type = FIELD_END},
};

static const struct method METHODS[] = {
    {"session.hello", SIDE_HOST | SIDE_NETNS, STAGE_SETUP, HELLO_FIELDS, run_hello},
    {"netlink.open", SIDE_HOST | SIDE_NETNS, STAGE_SETUP, NETLINK_FIELDS, run_netlink_open},
    {"file.open", SIDE_HOST | SIDE_NETNS, STAGE_SETUP, READABLE_FIELDS, run_file_open},
    {"file.create", SIDE_HOST, STAGE_SETUP, CREATE_FIELDS, run_file_create},
    {"syslog.open", SIDE_HOST, STAGE_SETUP, NO_FIELDS, run_syslog_open},
    {"resolver.open", SIDE_HOST, STAGE_SETUP, NO_FIELDS, run_resolver_open},
    {"tap.open", SIDE_HOST | SIDE_NETNS, STAGE_SETUP, TAP_FIELDS, run_tap_open},
    {"link.set", SIDE_NETNS, STAGE_SETUP, LINK_FIELDS, run_link_set},
    {"address.add", SIDE_NETNS, STAGE_SETUP, ADDRESS_FIELDS, run_address_add},
    {"route.add", SIDE_NETNS, STAGE_SETUP, ROUTE_FIELDS, run_route_add},
    {"socket.connect", SIDE_HOST | SIDE_NETNS, STAGE_SEALED, CONNECT_FIELDS, run_socket_connect},
    {"socket.multicast", SIDE_HOST, STAGE_SEALED, GROUP_FIELDS, run_socket_multicast},
    {"socket.listen", SIDE_HOST | SIDE_NETNS, STAGE_SETUP | STAGE_SEALED, LISTEN_FIELDS, run_socket_listen},
    {"socket.answer", SIDE_HOST | SIDE_NETNS, STAGE_SEALED, LISTENER_FIELDS, run_socket_answer},
    {"socket.unlisten", SIDE_HOST | SIDE_NETNS, STAGE_SETUP | STAGE_SEALED, LISTENER_FIELDS, run_socket_unlisten},
    {"unix.listen", SIDE_HOST, STAGE_SETUP, UNIX_FIELDS, run_unix_listen},
    {"unix.accept", SIDE_HOST, STAGE_SEALED, ACCEPT_FIELDS, run_unix_accept},
    {"guest.open", SIDE_HOST, STAGE_SETUP, NO_FIELDS, run_guest_open},
    {"guest.accept", SIDE_HOST, STAGE_SEALED, NO_FIELDS, run_guest_accept},
    {"command.start", SIDE_NETNS, STAGE_SEALED, NO_FIELDS, run_command_start},
    {"seal", SIDE_HOST | SIDE_NETNS, STAGE_SETUP, SEAL_FIELDS, run_seal},
    {"ready", SIDE_HOST, STAGE_SEALED, NO_FIELDS, run_ready},
};

const struct method *method_find(const char *name, const char **why)
{
    for (size_t i = 0; i < ARRAY_SIZE(METHODS); i++) {
        if (strcmp(METHODS[i].name, name) != 0)
            continue;
        *why = "which is not for this stage or side";
        return method_is_for_now(&METHODS[i]) ? &METHODS[i] : NULL;
    }
    *why = "which does not exist";
    return NULL;
}
