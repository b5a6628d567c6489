/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line, as far as it decides what happens before the controller is up: which namespaces, what the tap is
 * called, foreground or background, --help and --version. The table is generated from the controller's, which parses
 * the same arguments again, in full; an option that is unknown there is unknown here. It has the options of pasta and passt:
 * the controller refuses those of the other one, here they have no effect. slirp.c has the command line of slirp4netns.
 */
#include "opts.h"

#include <ctype.h>
#include <getopt.h>

static _Noreturn void usage(const struct settings *s)
{
    write_all(STDERR_FILENO, s->personality == PASST ? HELP_TEXT_PASST : HELP_TEXT_PASTA);
    _exit(1);
}

/* What the RPC schema of `ifname` takes, without the kernel's two reserved names. */
static const char *checked_ifname(const char *name)
{
    size_t length = strlen(name);

    if (length == 0 || length >= IFNAMSIZ || !strcmp(name, ".") || !strcmp(name, "..") || !is_ifname_text(name))
        die("Invalid interface name: %s", name);
    return name;
}

static int parse_fd(const char *option, const char *text)
{
    char *end;

    errno = 0;
    long value = strtol(text, &end, 10);
    if (!isdigit((unsigned char)*text) || *end || errno != 0 || value <= STDERR_FILENO || value > INT_MAX)
        die("Invalid %s: %s (it takes the number of an open descriptor, 3 or more)", option, text);
    return (int)value;
}

/* What only passt has. */
static void apply_passt(struct settings *s, enum early_id id, const char *argument)
{
    switch (id) {
    case EARLY_SOCKET: s->socket = argument; break;
    case EARLY_FD: s->guest_fd = parse_fd("--fd", argument), s->one_off = true; break;
    case EARLY_ONE_OFF: s->one_off = true; break;
    case EARLY_VHOST_USER: s->vhost_user = true; break;
    /* QEMU's docs/interop/vhost-user.rst, "Backend program conventions": devices of type "net" have no features to name. */
    case EARLY_PRINT_CAPABILITIES: answer("{\n  \"type\": \"net\"\n}\n");
    default: break;
    }
}

static void apply(struct settings *s, enum early_id id, const char *argument)
{
    switch (id) {
    default: break; /* the controller's business, or of a personality that has a table of its own */
    case EARLY_SOCKET:
    case EARLY_FD:
    case EARLY_ONE_OFF:
    case EARLY_VHOST_USER:
    case EARLY_PRINT_CAPABILITIES:
        if (s->personality == PASST)
            apply_passt(s, id, argument);
        break;
    case EARLY_HELP: answer(s->personality == PASST ? HELP_TEXT_PASST : HELP_TEXT_PASTA);
    case EARLY_VERSION: answer(s->personality == PASST ? VERSION_TEXT_PASST : VERSION_TEXT_PASTA);
    case EARLY_FOREGROUND: s->foreground = true; break;
    case EARLY_PID_FILE: s->pid_file = argument; break;
    case EARLY_NETNS: s->netns = argument; break;
    case EARLY_USERNS: s->userns = argument; break;
    case EARLY_NETNS_ONLY: s->netns_only = true; break;
    case EARLY_NETNS_DIR: s->netns_dir = argument; break;
    case EARLY_NS_IFNAME: s->ns_ifname = checked_ifname(argument); break;
    case EARLY_INTERFACE: s->interface = checked_ifname(argument); break;
    case EARLY_RUNAS: s->runas = argument; break;
    /* Of -q, -d and --trace, the last one wins. */
    case EARLY_QUIET: s->quiet = true, s->debug = false; break;
    case EARLY_DEBUG:
    case EARLY_TRACE: s->quiet = false, s->debug = true; break;
    case EARLY_NO_NETNS_QUIT: s->netns_quit = false; break;
    case EARLY_SPLICE_ONLY: s->splice_only = true; break;
    case EARLY_LOCK_FD:
        if (s->personality == PASTA)
            s->lock_fd = parse_fd("--lock-fd", argument);
        break;
    case EARLY_HOSTNAME: s->hostname = argument; break;
    /* Of -4 and -6, the last one wins. */
    case EARLY_IPV4_ONLY: s->want4 = true, s->want6 = false; break;
    case EARLY_IPV6_ONLY: s->want4 = false, s->want6 = true; break;
    }
}

/* A single decimal number is a PID; anything else is a command. */
static bool is_number(const char *text)
{
    for (const char *c = text; *c; c++)
        if (!isdigit((unsigned char)*c))
            return false;
    return *text != '\0';
}

static pid_t parse_pid(const char *text)
{
    errno = 0;
    long value = strtol(text, NULL, 10);
    if (errno != 0 || value > INT_MAX || value < 1)
        die("Invalid PID %s", text);
    return (pid_t)value;
}

static void positional(struct settings *s, int count, char *const *args)
{
    if (s->userns && s->netns_only)
        die("Both --userns and --netns-only given");
    if (s->netns && count > 0)
        die("Both --netns and PID or command given");
    if (count == 1 && is_number(args[0])) {
        s->target_pid = parse_pid(args[0]);
        return;
    }
    if (s->netns)
        return;
    if (s->userns)
        die("--userns needs --netns or a PID to join");
    if (s->lock_fd >= 0)
        die("--lock-fd needs --netns or a PID to join");
    s->spawn = true;
    s->foreground = true; /* the command's end is ours, so its caller must be able to wait for us */
    if (count > 0)
        s->command = args;
}

/* "pasta 0.1.0 (…)": the second word. */
const char *version_word(void)
{
    static char word[32];
    const char *start = strchr(VERSION_TEXT_PASTA, ' ');

    if (start)
        snprintf(word, sizeof(word), "%.*s", (int)strcspn(start + 1, " \n"), start + 1);
    return word;
}

static void audit(int argc, char **argv)
{
    bool json = argc > 2 && strcmp(argv[2], "--json") == 0;

    if (argc > 3 || (argc == 3 && !json))
        die("Usage: pastiche audit [--json]");
    answer(audit_text(json));
}

/* What is an ordinary program in Node (controller/client): under a name of its own, or as the first word after `pastiche`. */
static const struct { const char *name, *word, *client; } CLIENTS[] = {
    {.name = "pastiche-cni", .client = "cni"},
    {.name = "pastiche-netavark", .client = "netavark"},
    {.name = "pesto", .client = "pesto"},
    {.word = "ports", .client = "ports"},
    {.word = "capabilities", .client = "capabilities"},
};

/* Returns if it is none of them: any other word after `pastiche` is the COMMAND that pasta runs. */
static void become_client(const char *program, char **argv)
{
    const char *word = strstr(program, "pastiche") && argv[1] ? argv[1] : "";

    if (strcmp(word, "doctor") == 0)
        doctor(argv + 2);
    for (size_t i = 0; i < ARRAY_SIZE(CLIENTS); i++) {
        if (CLIENTS[i].name && strstr(program, CLIENTS[i].name))
            exec_client(CLIENTS[i].client, argv + 1);
        if (CLIENTS[i].word && strcmp(word, CLIENTS[i].word) == 0)
            exec_client(CLIENTS[i].client, argv + 2);
    }
}

void early_parse(int argc, char **argv, struct settings *s)
{
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    const char *program = argc > 0 ? (slash ? slash + 1 : argv[0]) : "";
    bool pastiche = strstr(program, "pastiche") != NULL;
    bool pasta = strstr(program, "pasta") != NULL;
    bool passt = !pasta && !pastiche && strstr(program, "passt");
    bool slirp = !pasta && !pastiche && !passt && strstr(program, "slirp4netns");

    if (argc > 0)
        become_client(program, argv);
    if (pastiche && argc > 1 && strcmp(argv[1], "instance") == 0)
        keeper_main(argv + 2);
    if (!pastiche && !pasta && !passt && !slirp)
        die("Called as \"%s\": the names of this program are pasta, passt, pastiche, pesto and slirp4netns", program);
    *s = (struct settings){
        .personality = passt ? PASST : slirp ? SLIRP4NETNS : PASTA, .name = passt ? "passt" : slirp ? "slirp4netns" : "pasta",
        .alone = passt, .guest_fd = -1, .lock_fd = -1, .tap_fd = -1, .ready_fd = -1, .exit_fd = -1, .version = version_word(), .netns_quit = true, .want4 = true, .want6 = true,
        .netns_dir = "/run/netns", .argv = argv + 1,
    };
    if (pastiche && argc > 1 && strcmp(argv[1], "audit") == 0)
        audit(argc, argv);

    if (slirp) {
        slirp_parse(argc, argv, s);
        return;
    }
    opts_start(EARLY_OPTS, false);
    argv[0] = (char *)(uintptr_t)s->name;
    for (enum early_id id;;) {
        enum opts_result result = opts_next(argc, argv, &id);

        if (result == OPTS_END)
            break;
        if (result == OPTS_UNKNOWN)
            usage(s);
        apply(s, id, optarg);
    }
    if (s->personality == PASTA) {
        positional(s, argc - optind, argv + optind);
        return;
    }
    if (optind < argc)
        die("Extra non-option argument: %s", argv[optind]);
    if (s->socket && s->guest_fd >= 0)
        die("Both --socket and --fd given");
}
