/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The native helper: what its files offer each other.
 *
 * Theory of operation. main.c runs the stages in order. The process that was launched becomes the HOST side (after a
 * fork to the background, the survivor does). It starts Node first, because Node's boot is the longest wait, as the
 * CONTROLLER: unprivileged, in empty namespaces, holding two channels. Then it forks the NETNS BROKER, which joins or
 * creates the target namespaces and makes the tap while Node boots. From then on both sides only answer requests of
 * the controller (rpc.c), first with the methods of `setup`, after `seal` with the few of `sealed`. The controller is
 * trusted until it seals, and is the enemy afterwards: it may have been taken over by the packets it reads.
 *
 *   host side ── SOCK_SEQPACKET ── controller        requests; descriptors in the replies
 *   broker    ── SOCK_SEQPACKET ── controller        the same, for what lies in the target namespace
 *   host side ── SOCK_SEQPACKET ── broker            "link": one byte a message, see supervise.c
 *
 * passt has no namespace of a guest's, so no broker and no link: the host side opens the socket that the guest's
 * hypervisor connects to (guest.c) and hands its connections to the controller.
 *
 * No process outlives another: PR_SET_PDEATHSIG downwards, end of file on the sockets, SIGCHLD upwards.
 */
#ifndef PASTICHE_HELPER_H
#define PASTICHE_HELPER_H

/* What nearly every file needs. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

enum side { SIDE_HOST = 1, SIDE_NETNS = 2 };
enum stage { STAGE_SETUP = 1, STAGE_SEALED = 2 };

enum personality {
    PASTA,
    PASST,      /* a virtual machine at a UNIX socket */
    SLIRP4NETNS /* a namespace, as pasta, or --target-type=bess: as passt, or --netns-type=tapfd: an inherited tap */
};

/* The command line as far as the helper needs it before the controller is up; written once, by early.c and slirp.c. */
struct settings {
    enum personality personality;
    const char *name; /* of the personality: "pasta", "passt", "slirp4netns" */
    const char *version;
    bool alone;   /* the guest is at a socket or an inherited tap: no broker, no namespace to join, no tap of ours */
    bool one_off; /* a guest at a socket: the end of its connection is ours */
    bool vhost_user;
    int guest_fd;  /* passt: the guest's connection, inherited; -1: none */
    int lock_fd;   /* pasta: a lock file to be held, inherited; -1: none */
    const char *socket; /* passt, bess: where the guest connects to; NULL: a default name */
    bool bess;          /* slirp4netns: the guest is User Mode Linux, one frame a packet */
    bool sandbox;       /* slirp4netns --enable-sandbox */
    int tap_fd;         /* slirp4netns --netns-type=tapfd: inherited; -1: none */
    int ready_fd;       /* slirp4netns: is told "1" when ready; -1: none */
    int exit_fd;        /* slirp4netns: its hang-up is our end; -1: none */
    bool exit_when_ready; /* slirp4netns: the exit-fd is not open, which counts as hung up */
    bool foreground;
    bool spawn; /* run a command in new namespaces, rather than join given ones */
    bool quiet;
    bool debug; /* also --trace: in the foreground, the host side keeps stderr */
    bool netns_only;
    bool netns_quit;
    bool splice_only; /* no tap */
    bool want4, want6;
    const char *pid_file; /* NULL: none */
    const char *netns;    /* path or name, NULL: none given */
    const char *userns;
    const char *netns_dir;
    const char *ns_ifname;
    const char *interface;
    const char *runas;
    const char *hostname;
    pid_t target_pid;      /* 0: none given */
    char *const *command;  /* NULL: the user's shell */
    char *const *argv;     /* what the controller gets: everything after the program's name */
};

/* What the host side found out before the broker is forked. */
struct start {
    bool started_as_root;
    char template_name[IFNAMSIZ]; /* "": none, local mode */
    unsigned scope6; /* interface of link-local destinations */
    char tap_name[IFNAMSIZ]; /* "": none */
    sigset_t caller_mask; /* given back to the spawned command, like the limit below */
    struct rlimit caller_nofile;
};

/* die.c: one clear line, then the end. */
void notice(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void die_errno(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Runs before die() ends the process (the host side removes what it made); NULL: nothing. */
void die_hook(void (*hook)(void));
/* Lines go to stderr; from this call on to the log file, if there is one, and to syslog (-1: none) instead of stderr. */
void notice_to_logs(int syslog, const char *name, bool keep_stderr);
void notice_log_file(int fd);
/* stderr is read by the journal: each line has its priority in front. */
void notice_to_journal(void);
const char *errno_text(int errnum);
int64_t now_ms(void);

/* kernel-log.c: which system call a process was killed for. */
void kernel_log_open(void);
/* One sentence; false: the log has no record of it. */
bool kernel_log_describe(const char *who, pid_t pid, char *text, size_t bytes);

/* early.c, and slirp.c for the command line of slirp4netns */
bool is_ifname_text(const char *text); /* json.c */
const char *version_word(void);
void early_parse(int argc, char **argv, struct settings *s);
void slirp_parse(int argc, char **argv, struct settings *s);

/* launch.c */
/* Descriptors 0 to 2 exist, so that no other file takes their place. */
void fill_stdio(void);
/* Of the others none but `channel` (-1: none) and those of the settings (NULL: none) goes on. */
void close_inherited(const struct settings *s, int channel);
/* A number or a name of /etc/passwd, /etc/group; false: neither. */
bool find_user(const char *text, uid_t *uid);
bool find_group(const char *text, gid_t *gid);
/* What the executable's file gives us beyond our caller. First of all, and never for more than low ports. */
void take_file_capability(void);
/* The signal for our end, with that of the process that started us, which is forgotten when credentials change. */
void remember_caller(void);
void stay_with_caller(void);
void files_as_ourselves(void); /* children of slirp4netns started by root: its ID for files is the host side's alone */
bool take_identity(const struct settings *s); /* true: was root in the initial user namespace */
int background(void);                         /* in the survivor: descriptor that tells the launched process */
struct controller_paths { char node[PATH_MAX], bundle[PATH_MAX]; };
void find_controller(struct controller_paths *paths);
/* pesto, `pastiche ports`: this process becomes Node with the client's bundle. */
/* Node's path, as a start finds it, to standard output; dies of what a start would die of. */
void controller_paths_print(void);
/* The controller's empty namespaces: this process enters them. */
void controller_namespaces(void);
_Noreturn void exec_client(const char *which, char *const *args);
/* The rest of the controller's start, in its own process: it becomes Node, with nothing but its channels. `parent` 0: it has none of ours. */
_Noreturn void become_controller(const struct controller_paths *paths, const char *name, char *const *args, pid_t parent, int host_channel, int netns_channel);
pid_t start_controller(const struct settings *s, const struct controller_paths *paths, int host_channel, int netns_channel);
void die_with_parent(pid_t parent, int signum);

/* hold.c: the lock file of --lock-fd, held by every process of an instance; without one, nothing. */
void hold_begin(int fd); /* in the launched process, before anything is forked */
void hold_for_caller(void);
void hold_mark(void); /* in each process, after the fork */
void hold_at(int fd); /* another number, the only one left */
int hold_fd(void);
/* keeper.c: the other side of it, for our plugins */
_Noreturn void keeper_main(char *const *words);

/* netns.c: how the broker gets into the target namespaces, and notices that they are gone. */
enum watch_kind { WATCH_NONE, WATCH_PID, WATCH_DIRECTORY, WATCH_POLL };
struct netns_watch {
    enum watch_kind kind;
    int fd;           /* pidfd, inotify, or the directory itself for WATCH_POLL */
    int owner;        /* of a path: pidfd of the process in whose files it is, or -1 */
    char name[256];   /* the entry of the directory */
    int lock_watch;   /* of the same inotify: the directory of the lock file of --lock-fd; 0: none */
    char lock_name[256];
    char shown[4096]; /* for the message */
};
/* Whether it is the network namespace that this process is in. */
bool netns_is_own(int fd);
void netns_join(const struct settings *s, struct netns_watch *watch);
void netns_create(const struct settings *s);
bool netns_gone(struct netns_watch *watch);
/* A file of /proc; `must`: it dies where that fails. */
void write_setting(const char *path, const char *text, bool must);

/* command.c: the command in its own pid, ipc, uts and mount namespaces. */
struct command { pid_t pid; int gate; };
struct command command_fork(const struct settings *s, const struct start *start);
bool command_release(struct command *command);

/* link.c: rtnetlink. Functions return 0 or an errno value. */
int route_socket(void);
unsigned interface_index(const char *name); /* 0: no such device */
bool interface_name(unsigned index, char name[IFNAMSIZ]);
bool find_default_interface(int family, unsigned *index);
struct link_change {
    int up, arp; /* 1: on, -1: off, 0: as it is */
    int mtu;     /* 0: as it is */
    bool set_mac;
    uint8_t mac[6];
};
struct ip { int family; uint8_t bytes[16]; }; /* AF_INET: first four bytes */
bool ip_parse(const char *text, struct ip *ip);
int link_set(int fd, unsigned index, const struct link_change *change);
int address_add(int fd, unsigned index, const struct ip *ip, int prefix);
int route_add(int fd, unsigned index, const struct ip *destination, int prefix, const struct ip *gateway, int metric);

/* tap.c */
struct tap {
    int fd; /* -1: none, or handed over */
    char name[IFNAMSIZ];
    unsigned index;
    uint8_t mac[6];
    int vnet_header_bytes;
    bool tso, uso;
};
void tap_make(struct tap *tap, const char *name);
/* An inherited one: its name tells what it is called, wherever it is. */
void tap_take(struct tap *tap, int fd);

/* floor.c: where no socket may be connected to. */
enum flow_protocol { FLOW_TCP, FLOW_UDP, FLOW_ICMP };
struct net { struct ip ip; int prefix; };
struct grant {
    struct net net;
    int port, last; /* port 0: every port */
    int protocol;   /* -1: all */
};
#define DENY_MAX 64
#define GRANTS_MAX 256
void floor_add(const struct net *net);
void floor_grant(const struct grant *grant);
void floor_freeze(void);
/* 0, or why no socket may be connected there: EACCES, or what the look-up in the kernel's routes ended with. */
int floor_denies(enum flow_protocol protocol, const struct ip *ip, int port);
bool floor_grants(enum flow_protocol protocol, const struct ip *ip, int port);
/* The same for the broker: everywhere but to the namespace's own addresses. */
int floor_denies_elsewhere(const struct ip *ip);
/* No address of one host at all: unspecified, multicast, reserved, another spelling of one. */
bool floor_never(const struct ip *ip);
bool is_loopback(const struct ip *ip);

/* own.c: the host's own addresses, which are denied, too, but for what was granted. */
void own_freeze(void);
/* interface: the one that the socket will be bound to, 0: any. Result as of floor_denies(). */
int own_denies(const struct ip *ip, unsigned interface);
int own_requires(const struct ip *ip);
/* Broadcast or multicast, to the kernel. */
bool own_is_group(const struct ip *ip);
void own_forget(void); /* with each datagram of requests: what was looked up for the last one may have changed */

/* listen.c: sockets that listen, and answers from them. Errors: -1, *errnum and *what set. */
#define LISTENERS_MAX 65536
#define LISTEN_WINDOWS_MAX 256
struct window { uint16_t protocol, first, last; };
void listen_freeze(const struct window *windows, int count, bool freebind);
bool listen_allows(enum flow_protocol protocol, int port, bool freebind);
struct listen_wish {
    enum flow_protocol protocol;
    struct ip ip; /* family 0: every address of both versions */
    int port;
    const char *interface; /* "": any */
    bool freebind;
};
/* The descriptor for the controller; *number is the listener's. */
int listen_open(const struct listen_wish *wish, int *number, int *errnum, const char **what);
bool listen_forget(int number);
/* Whether a listener of ours is what is reached at this address from the host itself. */
bool listen_has(enum flow_protocol protocol, const struct ip *ip, int port);
/* Whether one may hear what is sent there, be it bound to an interface. */
bool listen_hears(enum flow_protocol protocol, const struct ip *ip, int port);
/* A granted UDP flow goes to this port of ours: if a listener is opened there, what waits in it may be that flow's. */
void listen_beware(int port);
struct answer { struct ip peer, local; int port; };
int listen_answer(int number, struct answer *answer, int *errnum, const char **what);

/* sock.c: new flows. Errors: *errnum set and -1 returned. */
struct outbound {
    struct ip address4, address6; /* family 0: the kernel chooses */
    char interface4[IFNAMSIZ], interface6[IFNAMSIZ];
    unsigned index4, scope6; /* of interface4, 0: none; of interface6, or of link-local destinations */
    bool multicast;  /* --multicast; where it leaves: */
    char multicast4[IFNAMSIZ], multicast6[IFNAMSIZ];
    unsigned multicast_index4, multicast_index6;
};
void outbound_freeze(const struct outbound *o);
/* The index of the interface that a socket for this address is bound to; 0: none. */
unsigned outbound_interface(const struct ip *ip);
void flow_warm_up(void);
int flow_connect(enum flow_protocol protocol, const struct ip *ip, int port, int source_port, int hop_limit,
                 int *errnum, const char **what);

void tuple_freeze(void); /* tuple.c */

/* group.c: --multicast */
enum group_role { GROUP_SEND, GROUP_ANSWERS, GROUP_JOIN };
bool group_allowed(enum group_role role, const struct ip *ip);
int group_open(enum group_role role, const struct ip *ip, int port, int source_port, int *errnum);

/* file.c: files by name (never by path but for the ones the user named) and the PID file. */
bool read_byte(int fd, char *byte); /* waits; false: end of file or an error */
/* The directory of `path`, opened with `flags`, and the entry's name; -1 with errno: no such directory, too long. */
int open_parent(const char *path, int flags, char *name, size_t name_bytes);
extern const char *const READABLE_NAMES[]; /* ends with NULL */
int file_open_readable(int index);
bool is_on_command_line(const struct settings *s, const char *path);
int file_create(const char *path, bool is_log);
int syslog_open(void);
int netlink_open(bool sock_diag);
/* Removed at the end, if it is still what is there now. */
void leave_behind(const char *path);
void remove_left_behind(void);
void pid_file_open(const char *path);
void pid_file_leave(void); /* not ours to write: we only remove it, should its owner be killed */
bool pid_file_write(void);
/* unix.c: sockets that listen at a path, for one of these uses; errno set: EADDRINUSE live, ENOTSOCK something else. */
#define UNIX_PATH_BYTES 107 /* unix(7): sun_path without its NUL */
enum unix_use {
    UNIX_PRIVATE,       /* for our own user alone */
    UNIX_GUEST,         /* passt: for whom the umask lets in */
    UNIX_GUEST_DEFAULT, /* the same at a name that is nobody's in particular */
    UNIX_PACKETS,       /* bess: as UNIX_GUEST, each frame a packet; any socket at the path is replaced */
    UNIX_API,           /* slirp4netns: for whom the umask lets in, our own user at most; any socket at the path is replaced */
};
/* Removed at the end, if it is still what is there. */
int unix_open_listener(const char *path, enum unix_use use);
/* The sockets of -c, of --control, and of --api-socket, in this order. */
int unix_listen(int kind, const char *path);
int unix_accept(int kind, pid_t *pid);
/* Of the sockets whose clients are told apart by their user. */
bool unix_is_open(void);

/* guest.c: passt's socket. Before the first filter; dies of what is wrong. */
void guest_prepare(const struct settings *s);
/* For the controller: the listening socket, or the connected one. Once; -1 and errno: EALREADY, or there is none. */
int guest_open(bool *listens, char path[UNIX_PATH_BYTES + 1]);
/* It was, and nothing is known of the guest. */
bool guest_is_awaited(void);
/* The next connection. -1 and errno: EAGAIN nobody waits, EBADF nothing listens. */
int guest_accept(pid_t *pid);

/* resolver.c: starts the reader of resolv.conf, before any filter; gives the end to ask at. Dies of what is wrong. */
int resolver_start(void);

/* doctor.c: `pastiche doctor`, with the arguments after the word. */
_Noreturn void doctor(char *const *args);

/* seal.c */
enum profile { PROFILE_SETUP, PROFILE_SANDBOX, PROFILE_HOST, PROFILE_NETNS, PROFILE_RESOLVER };
void no_new_privileges(void);
/* CAP_NET_BIND_SERVICE: for ports below the privileged ones. */
bool holds_low_ports(void);
/* From the permitted set to the effective one, if it is there. */
void raise_low_ports(void);
bool holds_capability(unsigned capability);
void raise_capabilities(void); /* those that are permitted, after a change of users */
void keep_low_ports_only(void);
void drop_capabilities(bool keep_low_ports);
/* keep_ids: only where no other user namespace is needed for it. */
void enter_empty_root(bool keep_ids);
/* sandbox.c: slirp4netns --enable-sandbox. Before the first filter, and at the seal. */
void sandbox_prepare(void);
void sandbox_enter(void);
void seal_install(enum profile profile);
/* Whole pages become read-only: what holds the floor and the outbound settings has pages of its own. */
#if defined(__x86_64__) || defined(__i386__)
#define PAGE_BYTES_MAX 4096
#else
#define PAGE_BYTES_MAX 65536
#endif
void seal_freeze(void *memory, size_t bytes);
const char *audit_text(bool json);

/* notify.c: the service manager (systemd), where it started this process itself. */
bool stderr_is_journal(void);
void notify_open(const struct settings *s);
/* false, with errno: it could not be told. */
bool notify_ready(const char *status);
void notify_stopping(const char *why); /* "": in order */

/* split.c: the processes as units of the service manager, which starts each. */
#define SPLIT_PARTNER_MS 30000 /* how long one waits for the other to begin; the units start at the same time */
#define SPLIT_WORDS_MIN 3      /* version, personality, tap */
struct split {
    int channel;   /* host side: to the controller; -1: that is our child, as elsewhere */
    int broker;    /* host side: to the broker; -1: the same */
    bool is_broker; /* this is the broker, `channel` its own to the controller, and: */
    int link;
    const char *tap_name;
};
/* `pastiche helper`, `pastiche broker`: leaves the command line of the personality. `pastiche controller` does not come back. */
void split_begin(int *argc, char ***argv, struct split *split);
/* Dies of what such an instance cannot have. */
void split_check(const struct split *split, struct settings *s);
/* The first message over a connection; fds, two at most, stay the caller's. */
void split_greet(int channel, const struct settings *s, const char *tap_name, const int *fds, int fd_count);
void split_join(int *argc, char ***argv, struct split *split); /* split-join.c */

/* channel.c: one datagram at a time; never blocks. */
#define MESSAGE_BYTES_MAX 65536
#define FDS_PER_MESSAGE_MAX 253
enum channel_result { CHANNEL_NONE, CHANNEL_MESSAGE, CHANNEL_CLOSED };
enum channel_result channel_receive(int fd, char *buffer, size_t *length);
/* false: the peer's queue is full, try again when it drains; descriptors are closed once they are sent. */
bool channel_send(int fd, const char *buffer, size_t length, int *fds, int fd_count);

/* supervise.c */
/* passt has no broker and no link to one: both are -1. */
struct host {
    const struct settings *settings;
    pid_t controller, broker;
    int channel, link, launcher, syslog;
    bool is_split;        /* the controller is no child of ours: `controller` is -1 all the time */
    bool is_broker_apart; /* the same for the broker */
};
struct broker {
    const struct settings *settings;
    struct command command;
    struct netns_watch watch;
    pid_t host;
    int channel, link, syslog;
};
struct pollfd;
/* timeout_ms -1: for ever. Interruptions count as "nothing happened". */
void wait_for(struct pollfd *set, size_t count, int timeout_ms);
_Noreturn void supervise_host(struct host *host);
_Noreturn void supervise_broker(struct broker *broker);
void block_signals(sigset_t *before);
void signals_open(bool spawn);
/* For rpc.c: what `ready`, `command.start` and `seal` do to the process. */
int host_ready(void);
int broker_start_command(void);

/* methods.c, rpc.c */
struct session {
    const struct settings *settings;
    const struct start *start;
    enum side side;
    enum stage stage;
    struct tap tap; /* broker */
    int route;      /* broker: rtnetlink socket in the target namespace */
    unsigned lo_index;
    int resolver; /* host side: the controller's end to the reader of resolv.conf; -1: there is none, or it was given */
};
void rpc_start(const struct session *session);
/* Answers one datagram: the reply lies in *reply, its descriptors in fds (room for FDS_PER_MESSAGE_MAX). */
size_t rpc_answer(const char *request, size_t length, const char **reply, int *fds, int *fd_count);

#endif
