// SPDX-License-Identifier: Apache-2.0
/*
 * libFuzzer on what the helper does with a datagram of a controller that was taken over: JSON, schema, method, reply.
 * json.c, rpc.c, methods.c, floor.c and link.c are those of the helper; what they would do to the system is done here by
 * stand-ins that hold their callers to what the helper promises. The first byte of an input says which side and stage.
 */
#include <setjmp.h>
#include <stdarg.h>

#include "../../../helper/src/json.h"
#include "../../../helper/src/helper.h"

#define FDS_FROM 1000

static jmp_buf ended;
static int next_fd;
static char last_words[1024];

static void promise(bool kept, const char *what)
{
    if (kept)
        return;
    fprintf(stderr, "rpc-fuzzer: %s\n", what);
    abort();
}

/* die.c: the end of this input. What is said is one printable line, as whoever reads the log expects. */
_Noreturn void die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(last_words, sizeof(last_words), format, args);
    va_end(args);
    for (const char *c = last_words; *c; c++)
        promise((unsigned char)*c >= 0x20 && (unsigned char)*c < 0x7f, "the last words hold what is not printable");
    longjmp(ended, 1);
}
_Noreturn void die_errno(const char *format, ...)
{
    (void)format;
    longjmp(ended, 1);
}
void notice(const char *format, ...) { (void)format; }
const char *errno_text(int errnum)
{
    promise(errnum > 0, "an error without a number");
    return "an \"error\"";
}

/* A stand-in for every descriptor that a method gives; every third call fails. */
static int some_fd(void)
{
    if (++next_fd % 3 == 0) {
        errno = ENOENT;
        return -1;
    }
    return FDS_FROM + next_fd;
}
const char *const READABLE_NAMES[] = {"net/tcp", "resolv.conf", "null", NULL};
int file_open_readable(int index)
{
    promise(index >= 0 && index < 3, "a file outside the table");
    return some_fd();
}
bool is_on_command_line(const struct settings *s, const char *path)
{
    promise(s != NULL && *path != '\0' && strlen(path) <= 4095 * 3, "a path that the schema refuses");
    return path[0] == '/';
}
int file_create(const char *path, bool is_log)
{
    promise(path[0] == '/', "a file that is not on the command line");
    (void)is_log;
    return some_fd();
}
int syslog_open(void) { return some_fd(); }
int netlink_open(bool sock_diag)
{
    (void)sock_diag;
    return some_fd();
}

void seal_freeze(void *memory, size_t bytes)
{
    static const char *const ASKED[] = {
        "0.0.0.0", "224.0.0.1", "255.255.255.255", "64:ff9b::7f00:1", "2002:7f00:1::", "::", "::ffff:127.0.0.1", "::127.0.0.1",
    };

    for (size_t i = 0; i < ARRAY_SIZE(ASKED); i++) {
        struct ip ip;

        promise(ip_parse(ASKED[i], &ip), "an address that is none");
        /* Whatever was granted. */
        promise(floor_denies(FLOW_TCP, &ip, 443) == EACCES, "the floor does not hold");
    }
    /* For the next input. */
    memset(memory, 0, bytes);
}
void outbound_freeze(const struct outbound *o)
{
    promise(strlen(o->interface4) < IFNAMSIZ && strlen(o->interface6) < IFNAMSIZ, "an interface name too long");
    promise(is_ifname_text(o->interface4) && is_ifname_text(o->interface6), "no interface name");
    promise(o->address4.family == 0 || o->address4.family == AF_INET, "an outbound address of the other family");
    promise(o->address6.family == 0 || o->address6.family == AF_INET6, "an outbound address of the other family");
}
unsigned outbound_interface(const struct ip *ip) { return ip->family == AF_INET ? 0 : 2; }
/* own.c: one address is the host's, and one cannot be looked up. */
int own_denies(const struct ip *ip, unsigned interface)
{
    promise(ip->family == AF_INET || ip->family == AF_INET6, "an address of no family");
    (void)interface;
    return ip->bytes[3] == 99 ? EACCES : ip->bytes[3] == 98 ? ENOBUFS : 0;
}
bool own_is_group(const struct ip *ip) { return ip->bytes[3] == 96; }
int own_requires(const struct ip *ip) { return ip->bytes[3] == 97 ? 0 : own_denies(ip, 0); }

/* listen.c: numbers count up; every third listener is not there. */
static bool is_sealed;
void listen_freeze(const struct window *windows, int count, bool freebind)
{
    (void)freebind;
    promise(count >= 0 && count <= LISTEN_WINDOWS_MAX, "more windows than there is room for");
    for (int i = 0; i < count; i++)
        promise(windows[i].first >= 1 && windows[i].last >= windows[i].first && windows[i].protocol <= FLOW_UDP,
                "a window that is none");
    is_sealed = true;
}
bool listen_allows(enum flow_protocol protocol, int port, bool freebind)
{
    (void)freebind;
    promise((protocol == FLOW_TCP || protocol == FLOW_UDP) && port >= 1 && port <= 65535, "no port to listen at");
    return !is_sealed || port > 1023;
}
int listen_open(const struct listen_wish *wish, int *number, int *errnum, const char **what)
{
    promise(listen_allows(wish->protocol, wish->port, wish->freebind), "a port outside the windows");
    promise(wish->ip.family == 0 || wish->ip.family == AF_INET || wish->ip.family == AF_INET6, "an address of no family");
    promise(strlen(wish->interface) < IFNAMSIZ && is_ifname_text(wish->interface), "no interface name");
    *number = next_fd;
    *errnum = EADDRINUSE;
    *what = "bind";
    return some_fd();
}
bool listen_forget(int number)
{
    promise(number >= 0 && number < LISTENERS_MAX, "a listener outside the table");
    return number % 3 != 0;
}
bool listen_has(enum flow_protocol protocol, const struct ip *ip, int port)
{
    (void)protocol, (void)port;
    return ip->bytes[0] == 198;
}
bool listen_hears(enum flow_protocol protocol, const struct ip *ip, int port) { return listen_has(protocol, ip, port); }
void listen_beware(int port) { promise(port >= 0 && port <= 65535, "a port out of range"); }
int listen_answer(int number, struct answer *answer, int *errnum, const char **what)
{
    promise(number >= 0 && number < LISTENERS_MAX, "a listener outside the table");
    *answer = (struct answer){.peer = {.family = AF_INET6, .bytes = {0xfe, 0x80}}, .local = {.family = AF_INET}, .port = 1};
    *errnum = EAGAIN;
    *what = "answer from";
    return some_fd();
}
int unix_listen(int kind, const char *path)
{
    promise((kind == 0 || kind == 1) && path[0] == '/', "a socket that is not on the command line");
    return some_fd();
}
int unix_accept(int kind, pid_t *pid)
{
    promise(kind == 0 || kind == 1, "a kind outside the table");
    *pid = 4711;
    return some_fd();
}
bool unix_is_open(void) { return next_fd % 2; }
int guest_open(bool *listens, char path[UNIX_PATH_BYTES + 1])
{
    *listens = next_fd % 2;
    memset(path, '?', UNIX_PATH_BYTES);
    path[UNIX_PATH_BYTES] = '\0';
    return some_fd();
}
int guest_accept(pid_t *pid)
{
    *pid = INT_MAX;
    return some_fd();
}
bool holds_low_ports(void) { return next_fd % 2; }
void own_freeze(void) {}
void own_forget(void) {}
void tuple_freeze(void) {}
void flow_warm_up(void) {}
int flow_connect(enum flow_protocol protocol, const struct ip *ip, int port, int source_port, int hop_limit,
                 int *errnum, const char **what)
{
    promise(protocol == FLOW_TCP || protocol == FLOW_UDP || protocol == FLOW_ICMP, "a protocol outside the table");
    promise(ip->family == AF_INET || ip->family == AF_INET6, "an address of no family");
    promise(floor_denies(protocol, ip, port) == 0 || floor_denies_elsewhere(ip) == 0, "a connection below the floor");
    promise(port >= 0 && port <= 65535 && source_port >= 0 && source_port <= 65535, "a port out of range");
    promise(hop_limit >= 0 && hop_limit <= 255, "a hop limit out of range");
    *errnum = ECONNREFUSED;
    *what = "connect";
    return some_fd();
}
bool group_allowed(enum group_role role, const struct ip *ip)
{
    promise(role == GROUP_SEND || role == GROUP_ANSWERS || role == GROUP_JOIN, "a role outside the table");
    return ip->bytes[0] == 224 || ip->bytes[0] == 0xff;
}
int group_open(enum group_role role, const struct ip *ip, int port, int source_port, int *errnum)
{
    promise(group_allowed(role, ip), "a group that is not allowed");
    promise(port >= 0 && port <= 65535 && source_port >= 0 && source_port <= 65535, "a port out of range");
    *errnum = EADDRNOTAVAIL;
    return some_fd();
}
void enter_empty_root(bool keep_ids) { (void)keep_ids; }
void drop_capabilities(bool keep_low_ports) { (void)keep_low_ports; }
void seal_install(enum profile profile) { promise(profile != PROFILE_SETUP, "sealed with the filter of set-up"); }
int host_ready(void) { return next_fd % 2 ? EIO : 0; }
int broker_start_command(void) { return next_fd % 2 ? EIO : 0; }

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    return 0;
}

static struct settings settings = {.name = "pasta", .version = "0.0.0"};
static struct start start = {.template_name = "eth0", .tap_name = "eth0"};

static void answer(const char *request, size_t length)
{
    static int fds[FDS_PER_MESSAGE_MAX];
    static char copy[MESSAGE_BYTES_MAX];
    const char *reply, *why;
    int fd_count = 0;

    if (setjmp(ended) != 0)
        return;
    size_t used = rpc_answer(request, length, &reply, fds, &fd_count);
    promise(used > 0 && used <= MESSAGE_BYTES_MAX, "a reply of no possible length");
    promise(fd_count >= 0 && fd_count <= FDS_PER_MESSAGE_MAX, "more descriptors than a message takes");
    for (int i = 0; i < fd_count; i++)
        promise(fds[i] > FDS_FROM, "a descriptor that no method gave");
    memcpy(copy, reply, used);
    promise(json_read(copy, used, &why) != NULL, "a reply that is no JSON");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > MESSAGE_BYTES_MAX)
        return 0;
    struct session session = {
        .settings = &settings,
        .start = &start,
        .side = data[0] & 1 ? SIDE_NETNS : SIDE_HOST,
        .stage = data[0] & 2 ? STAGE_SEALED : STAGE_SETUP,
        .tap = {.fd = FDS_FROM + 5000, .name = "eth0", .index = 2, .vnet_header_bytes = 12},
        .route = -1,
        .lo_index = 1,
    };
    next_fd = data[0] >> 2;
    is_sealed = session.stage == STAGE_SEALED;
    rpc_start(&session);
    /* Exactly as long as the message, so that a byte beyond it is found. */
    char *request = malloc(size - 1 ? size - 1 : 1);
    memcpy(request, data + 1, size - 1);
    answer(request, size - 1);
    free(request);
    return 0;
}
