/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `pastiche doctor`: what only a native program can find out, tried rather than guessed. Every trial is a child that does what
 * a start does, with the code of a start, so that its message is the one that pasta would give. The answers are one JSON
 * object, handed to the program in Node (controller/client/doctor) that reads the rest from /proc and says what it means.
 * Without a Node that can run it, this file says that much itself.
 */
#include "helper.h"

#include <ctype.h>
#include <linux/seccomp.h>
#include <linux/filter.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <jansson.h>

#include "sock.h"

#define TRIAL_MS 10000
/* A path at least. */
#define OUTPUT_BYTES_MAX (PATH_MAX + 256)
/* The oldest Node that the programs are built for: package.json, "engines". */
#define NODE_MAJOR_MIN 20
#define NODE_MINOR_MIN 19
/* main.c; Node ends with a signal, and no word, where it finds half of these */
#define NOFILE_MIN 128

struct output { char text[OUTPUT_BYTES_MAX]; bool ok; };

/* Runs `trial` in a child, whose standard output and standard error are read to their end; ok: it ended with status 0, in time. */
static struct output attempt(void (*trial)(const void *), const void *argument)
{
    struct output output = {0};
    size_t used = 0;
    int pair[2], status = -1;

    if (pipe2(pair, O_CLOEXEC) != 0)
        die_errno("Can't make a pipe");
    fflush(NULL);
    pid_t child = fork();
    if (child < 0)
        die_errno("Can't fork");
    if (child == 0) {
        setpgid(0, 0);
        dup2(pair[1], STDOUT_FILENO);
        dup2(pair[1], STDERR_FILENO);
        trial(argument);
        _exit(0);
    }
    close(pair[1]);
    for (int64_t end = now_ms() + TRIAL_MS;;) {
        struct pollfd set = {.fd = pair[0], .events = POLLIN};
        const int64_t left = end - now_ms();
        ssize_t n = left > 0 && poll(&set, 1, (int)left) > 0 ? read(pair[0], output.text + used, sizeof(output.text) - 1 - used) : -1;

        if (n <= 0) {
            if (n < 0)
                kill(-child, SIGKILL), kill(child, SIGKILL);
            break;
        }
        used += (size_t)n;
    }
    close(pair[0]);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    output.text[used] = '\0';
    while (used > 0 && output.text[used - 1] == '\n')
        output.text[--used] = '\0';
    output.ok = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    return output;
}

/* ---- trials ---- */

static void try_namespaces(const void *settings)
{
    netns_create(settings);
}

static void try_controller_namespaces(const void *settings)
{
    (void)settings;
    controller_namespaces();
}

static void try_tap(const void *settings)
{
    struct tap tap;

    netns_create(settings);
    tap_make(&tap, "tap0");
    printf("%d %d %d\n", tap.tso, tap.uso, tap.vnet_header_bytes > 0);
    fflush(stdout);
}

/* As the group that a command is in: the range is written when the namespace is made. */
static void try_guest_ping(const void *settings)
{
    netns_create(settings);
    if (socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP) < 0)
        die_errno("Couldn't open a ping socket in the namespace");
}

static void try_filter(const void *unused)
{
    struct sock_filter program[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog filter = {.len = ARRAY_SIZE(program), .filter = program};
    const uint32_t kill_process = SECCOMP_RET_KILL_PROCESS;

    (void)unused;
    no_new_privileges();
    if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &kill_process) != 0)
        die_errno("The kernel can't kill a whole process for a system call");
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) != 0)
        die_errno("Can't install a system call filter");
}

static void try_paths(const void *unused)
{
    (void)unused;
    controller_paths_print();
}

static void try_node(const void *node)
{
    execl(node, "node", "--version", (char *)NULL);
    die_errno("Can't start Node.js (%s)", (const char *)node);
}

/* ---- sockets and the like of this process ---- */

static int socket_errnum(int family, int type, int protocol)
{
    int fd = socket(family, type | SOCK_CLOEXEC, protocol);
    int errnum = fd < 0 ? errno : 0;

    if (fd >= 0)
        close(fd);
    return errnum;
}

static bool has_option(int type, int level, int name)
{
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0), one = 1;
    bool has = fd >= 0 && setsockopt(fd, level, name, &one, sizeof(one)) == 0;

    if (fd >= 0)
        close(fd);
    return has;
}

static int inotify_errnum(void)
{
    int fd = inotify_init1(IN_CLOEXEC);
    int errnum = fd < 0 ? errno : 0;

    if (fd >= 0)
        close(fd);
    return errnum;
}

static int open_errnum(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK);
    int errnum = fd < 0 ? errno : 0;

    if (fd >= 0)
        close(fd);
    return errnum;
}

static json_t *reason(int errnum)
{
    return errnum == 0 ? json_null() : json_string(errno_text(errnum));
}

static json_t *default_interface(int family)
{
    unsigned index = 0;
    char name[IFNAMSIZ] = "";

    if (!find_default_interface(family, &index) || index == 0 || !interface_name(index, name))
        return json_null();
    return json_string(name);
}

static json_t *outcome(struct output output)
{
    return output.ok ? json_null() : json_string(*output.text ? output.text : "it was killed, or did not end in time");
}

static void put(json_t *facts, const char *name, json_t *value)
{
    if (!value || json_object_set_new(facts, name, value) != 0)
        die("Out of memory");
}

static json_t *executable(void)
{
    char path[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);

    path[length < 0 ? 0 : length] = '\0';
    return json_string(path);
}

static void probe_namespaces(json_t *facts, const struct settings *s)
{
    struct output output = attempt(try_namespaces, s);
    int tso = 0, uso = 0, header = 0;

    put(facts, "namespaces", outcome(output));
    put(facts, "controllerNamespaces", outcome(attempt(try_controller_namespaces, s)));
    put(facts, "guestPing", outcome(attempt(try_guest_ping, s)));
    output = attempt(try_tap, s);
    put(facts, "tap", outcome(output));
    if (output.ok)
        sscanf(output.text, "%d %d %d", &tso, &uso, &header);
    put(facts, "tapOffload", json_pack("{s:b, s:b, s:b}", "tso", tso, "uso", uso, "header", header));
}

static void probe_host(json_t *facts)
{
    struct stat tun;
    struct rlimit files;

    put(facts, "tunDevice", stat("/dev/net/tun", &tun) != 0 ? reason(errno) : S_ISCHR(tun.st_mode) ? json_null() : json_string("not a character device"));
    put(facts, "tunOpen", reason(open_errnum("/dev/net/tun", O_RDWR)));
    put(facts, "ping4", reason(socket_errnum(AF_INET, SOCK_DGRAM, IPPROTO_ICMP)));
    put(facts, "ping6", reason(socket_errnum(AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6)));
    put(facts, "socket6", reason(socket_errnum(AF_INET6, SOCK_STREAM, 0)));
    put(facts, "lowPorts", json_boolean(holds_low_ports()));
    put(facts, "filter", outcome(attempt(try_filter, NULL)));
    put(facts, "peekOffset", json_boolean(has_option(SOCK_STREAM, SOL_SOCKET, SO_PEEK_OFF)));
    put(facts, "udpGro", json_boolean(has_option(SOCK_DGRAM, SOL_UDP, UDP_GRO)));
    put(facts, "inotify", reason(inotify_errnum()));
    put(facts, "template4", default_interface(AF_INET));
    put(facts, "template6", default_interface(AF_INET6));
    getrlimit(RLIMIT_NOFILE, &files);
    put(facts, "nofile", json_pack("{s:I, s:I}", "soft", (json_int_t)(files.rlim_cur == RLIM_INFINITY ? -1 : (json_int_t)files.rlim_cur),
                                   "hard", (json_int_t)(files.rlim_max == RLIM_INFINITY ? -1 : (json_int_t)files.rlim_max)));
}

/* Before Node can say anything: the one check that failed, in the form of the others (controller/client/doctor/report.ts). */
static _Noreturn void say_alone(const char *name, const char *found, const char *remedy, bool json)
{
    static const char meaning[] = "nothing runs without it, and the other checks neither";
    json_t *report = json_pack("{s:i, s:s, s:[{s:s, s:s, s:s, s:s, s:s}]}", "version", 1, "status", "failure", "checks",
                               "name", name, "status", "failure", "found", found, "meaning", meaning, "remedy", remedy);

    if (!report)
        die("%s", found); /* a path that is no UTF-8 */
    if (json)
        json_dumpf(report, stdout, JSON_COMPACT), putchar('\n');
    else
        printf("FAILURE  %s: %s\n         %c%s.\n         To do: %s\n\n1 failure, 0 warnings.\n", name, found, toupper(*meaning), meaning + 1, remedy);
    fflush(stdout);
    _exit(1);
}

/* NULL: it will do. */
static const char *node_fault(const char *path, const struct output *version)
{
    static char text[2 * OUTPUT_BYTES_MAX + 128];
    int major = 0, minor = 0;

    if (version->ok && sscanf(version->text, "v%d.%d.", &major, &minor) == 2 &&
        (major > NODE_MAJOR_MIN || (major == NODE_MAJOR_MIN && minor >= NODE_MINOR_MIN)))
        return NULL;
    if (version->ok && major > 0)
        snprintf(text, sizeof(text), "%s is Node.js %d.%d: %d.%d is the oldest that will do", path, major, minor, NODE_MAJOR_MIN, NODE_MINOR_MIN);
    else
        snprintf(text, sizeof(text), "%s does not say which Node.js it is: %.*s", path, 
                 *version->text ? (int)strcspn(version->text, "\n") : INT_MAX, *version->text ? version->text : "it wrote nothing, or not in time");
    return text;
}

_Noreturn void doctor(char *const *args)
{
    static const char node_remedy[] = "install Node.js 20.19 or newer, or set PASTICHE_NODE=/path/to/node";
    const uid_t caller = getuid();
    struct settings s = {.name = "pasta", .quiet = true, .spawn = true};
    json_t *facts = json_object();
    size_t count = 0;
    bool json = false;

    if (!facts)
        die("Out of memory");
    while (args[count])
        json |= strcmp(args[count++], "--json") == 0;
    close_inherited(NULL, -1);
    /* As pasta would: what root may is not what nobody may. */
    const bool was_root = take_identity(&s);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_max < NOFILE_MIN) {
        char found[128];
        snprintf(found, sizeof(found), "%llu (hard limit): at least %d are needed", (unsigned long long)files.rlim_max, NOFILE_MIN);
        say_alone("open-files", found, "raise it: ulimit -Hn as root, LimitNOFILE= of the service, or nofile in /etc/security/limits.conf", json);
    }
    const struct output node = attempt(try_paths, NULL);
    if (!node.ok && strncmp(node.text, "Can't read ", strlen("Can't read ")) == 0)
        say_alone("installation", node.text, was_root ? "let nobody read it, or run as a user who may: chmod -R o+rX DIRECTORY" : "build it (npm run build), or install it again", json);
    if (!node.ok)
        say_alone("node", node.text, node_remedy, json);
    const struct output version = attempt(try_node, node.text);
    const char *fault = node_fault(node.text, &version);
    if (fault)
        say_alone("node", fault, node_remedy, json);
    /* Anything else, --help too, is the program's to answer, and needs no trials. */
    if (count == (json ? 1u : 0u)) {
        put(facts, "caller", json_integer(caller));
        put(facts, "executable", executable());
        put(facts, "wasRoot", json_boolean(was_root));
        put(facts, "node", json_pack("{s:s, s:s}", "path", node.text, "version", version.text));
        probe_namespaces(facts, &s);
        probe_host(facts);
    }
    const char **argv = calloc(count + 2, sizeof(*argv));
    if (!argv)
        die("Out of memory");
    argv[0] = json_dumps(facts, JSON_COMPACT);
    memcpy(argv + 1, args, count * sizeof(*argv));
    if (!argv[0])
        die("Out of memory");
    exec_client("doctor", (char *const *)argv);
}
