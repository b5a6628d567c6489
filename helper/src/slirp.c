/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line of slirp4netns, as far as the helper needs it: a table of its own, options and arguments in any order. What
 * is wrong is said in the words that callers of the original know, on stderr, and followed by the usage, on stdout. Networks and
 * addresses are the controller's to read.
 */
#include "opts.h"

#include <getopt.h>
#include <stdarg.h>

/* 65535 less the header of a frame, as the original has it */
#define MTU_MAX 65521

/* The name of the first tap of a namespace, which is what the kernel makes of no name. */
static const char TAP_NAME[] = "tap0";
static const char TOO_MANY[] = "WARNING: too many arguments\n";

struct given { const char *netns_type, *target_type, *userns; bool configure, mac; };

__attribute__((format(printf, 1, 2))) static _Noreturn void wrong(const char *format, ...)
{
    char line[PATH_MAX + 128];
    va_list args;

    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    if (*line)
        notice("%s", line);
    write_all(STDOUT_FILENO, HELP_TEXT_SLIRP4NETNS);
    _exit(1);
}

/* On stdout and as they come, even before a usage. */
static void warn_experimental(const char *option)
{
    char line[128];

    snprintf(line, sizeof(line), "WARNING: Support for --%s is experimental\n", option);
    write_all(STDOUT_FILENO, line);
}

static void warn_deprecated(const char *old, const char *new)
{
    char line[192];

    snprintf(line, sizeof(line), "WARNING: --%s is deprecated and will be removed in future releases, please use --%s instead.\n", old, new);
    write_all(STDOUT_FILENO, line);
}

/* As strtol() reads it: blanks and a sign may lead. */
static bool read_number(const char *text, long min, long max, long *value)
{
    char *end;

    errno = 0;
    *value = strtol(text, &end, 10);
    return end != text && *end == '\0' && errno == 0 && *value >= min && *value <= max;
}

static int read_fd(const char *text, const char *what)
{
    long fd;

    if (!read_number(text, 0, INT_MAX, &fd))
        wrong("%s must be a non-negative integer", what);
    return (int)fd;
}

static void apply(struct settings *s, struct given *given, enum early_id id)
{
    long number;

    switch (id) {
    case EARLY_HELP: answer(HELP_TEXT_SLIRP4NETNS);
    case EARLY_VERSION: answer(VERSION_TEXT_SLIRP4NETNS);
    case EARLY_SLIRP_CONFIGURE: given->configure = true; break;
    case EARLY_SLIRP_EXIT_FD: s->exit_fd = read_fd(optarg, "exit-fd"); break;
    case EARLY_SLIRP_READY_FD: s->ready_fd = read_fd(optarg, "ready-fd"); break;
    case EARLY_SLIRP_MTU:
        if (!read_number(optarg, 1, MTU_MAX, &number))
            wrong("MTU must be a positive integer (< %d)", MTU_MAX + 1);
        break;
    case EARLY_SLIRP_API_SOCKET:
        if (*optarg == '\0')
            die("the specified API socket path is empty");
        if (strlen(optarg) > UNIX_PATH_BYTES)
            die("the specified API socket path is too long (>= %d)", UNIX_PATH_BYTES + 1);
        break;
    case EARLY_SLIRP_NETNS_TYPE: given->netns_type = optarg; break;
    case EARLY_SLIRP_USERNS_PATH:
        if (access(optarg, F_OK) != 0)
            wrong("userns path doesn't exist: %s", optarg);
        given->userns = optarg;
        break;
    case EARLY_SLIRP_CREATE_SANDBOX: warn_deprecated("create-sandbox", "enable-sandbox"); s->sandbox = true; break;
    case EARLY_SLIRP_SANDBOX: s->sandbox = true; break;
    case EARLY_SLIRP_NO_HOST_LOOPBACK: warn_deprecated("no-host-loopback", "disable-host-loopback"); break;
    case EARLY_SLIRP_OUTBOUND: warn_experimental("outbound-addr"); break;
    case EARLY_SLIRP_OUTBOUND6: warn_experimental("outbound-addr6"); break;
    case EARLY_SLIRP_MACADDRESS: given->mac = true; break;
    case EARLY_SLIRP_TARGET_TYPE: given->target_type = optarg; break;
    default: break; /* the controller's business; --enable-seccomp: always on */
    }
}

/* User Mode Linux at a socket. */
static void target_bess(struct settings *s, const struct given *given, int count, char *const *args)
{
    if (given->configure)
        wrong("--configure conflicts with --target-type=bess");
    if (given->netns_type)
        wrong("--netns-type conflicts with --target-type=bess");
    if (given->userns)
        wrong("--userns-path conflicts with --target-type=bess");
    if (count < 1)
        wrong("%s", "");
    if (count > 1)
        wrong("too many arguments");
    if (*args[0] == '\0')
        die("the specified socket path is empty");
    write_all(STDOUT_FILENO, "WARNING: BESS mode is experimental\n");
    s->socket = args[0];
    s->alone = s->bess = s->one_off = true;
}

static void target_tap(struct settings *s, int count, char *const *args)
{
    long fd;

    if (count < 1)
        wrong("%s", "");
    if (count > 1)
        write_all(STDOUT_FILENO, TOO_MANY);
    if (!read_number(args[0], 0, INT_MAX, &fd))
        wrong("FD must be a non-negative integer");
    s->tap_fd = (int)fd;
    s->alone = true;
}

static void target_netns(struct settings *s, const struct given *given, int count, char *const *args)
{
    static char tap_name[IFNAMSIZ];
    long pid;

    if (count < 2)
        wrong("%s", "");
    if (!given->netns_type || strcmp(given->netns_type, "pid") == 0) {
        if (!read_number(args[0], 1, INT_MAX, &pid))
            wrong("PID must be a positive integer");
        s->target_pid = (pid_t)pid;
    } else {
        if (access(args[0], F_OK) != 0)
            wrong("existing path expected when --netns-type=%s: %s", given->netns_type, errno_text(errno));
        s->netns = args[0];
    }
    if (count > 2)
        write_all(STDOUT_FILENO, TOO_MANY);
    s->userns = given->userns;
    /* A longer name is cut, as the original does. */
    snprintf(tap_name, sizeof(tap_name), "%s", *args[1] ? args[1] : TAP_NAME);
    if (!strcmp(tap_name, ".") || !strcmp(tap_name, "..") || !is_ifname_text(tap_name))
        die("Invalid interface name: %s", tap_name);
    s->ns_ifname = tap_name;
}

/*
 * Copies, which no other file of ours takes the place of: numbers below 3 may be meant, too, and one that is not open could come to
 * be ours. An --exit-fd that is not open counts as hung up.
 */
static void look_at_descriptors(struct settings *s)
{
    if (s->exit_fd >= 0) {
        s->exit_fd = fcntl(s->exit_fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        s->exit_when_ready = s->exit_fd < 0;
    }
    if (s->ready_fd >= 0)
        s->ready_fd = fcntl(s->ready_fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (s->tap_fd >= 0) {
        int copy = fcntl(s->tap_fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);

        if (copy < 0)
            die("--netns-type=tapfd: descriptor %d is not open", s->tap_fd);
        s->tap_fd = copy;
    }
}

void slirp_parse(int argc, char **argv, struct settings *s)
{
    struct given given = {0};
    char **own = calloc((size_t)argc + 1, sizeof(*own)); /* getopt sorts it; the controller gets what was given */
    enum opts_result result;

    if (!own)
        die("Out of memory");
    memcpy(own, argv, (size_t)argc * sizeof(*own));
    own[0] = (char *)(uintptr_t)s->name;
    opts_start(EARLY_OPTS_SLIRP4NETNS, true);
    for (enum early_id id; (result = opts_next(argc, own, &id)) == OPTS_OPTION;)
        apply(s, &given, id);
    if (result == OPTS_UNKNOWN)
        wrong("%s", "");
    if (given.mac && !given.configure)
        wrong("--macaddr cannot be specified when --configure or -c is not specified");

    const int count = argc - optind;
    char *const *args = own + optind;

    s->foreground = true;
    s->netns_quit = false; /* a namespace lives as long as the tap's descriptor does */
    if (given.target_type && strcmp(given.target_type, "bess") == 0)
        target_bess(s, &given, count, args);
    else if (given.target_type && strcmp(given.target_type, "netns") != 0)
        wrong("--target-type must be either \"netns\" or \"bess\"");
    else if (given.netns_type && strcmp(given.netns_type, "tapfd") == 0)
        target_tap(s, count, args);
    else
        target_netns(s, &given, count, args);
    look_at_descriptors(s);
}
