/* SPDX-License-Identifier: Apache-2.0 */
/* The stages, in order. See helper.h for the whole picture. */
#include "helper.h"

/* What fwd/share.ts leaves to everything but listening sockets. */
#define NOFILE_MIN 128

struct channels { int host[2], netns[2], link[2]; };

/* Each flow is a descriptor in the controller, which inherits this; the command gets the caller's limit back. */
static void raise_limits(struct start *start)
{
    getrlimit(RLIMIT_NOFILE, &start->caller_nofile);
    /* Node ends with a signal, and no word, where it finds half of these. */
    if (start->caller_nofile.rlim_max < NOFILE_MIN)
        die("The hard limit of open files is %llu: at least %d are needed, without any for forwarded ports (ulimit -Hn)",
            (unsigned long long)start->caller_nofile.rlim_max, NOFILE_MIN);
    struct rlimit all = {.rlim_cur = start->caller_nofile.rlim_max, .rlim_max = start->caller_nofile.rlim_max};
    setrlimit(RLIMIT_NOFILE, &all);
}

/* The interface that the guest's settings are copied from, which also gives the tap its name: passt-features, "template". */
static void choose_names(const struct settings *s, struct start *start)
{
    unsigned index = 0;

    if (s->interface) {
        index = start->scope6 = interface_index(s->interface);
        if (index == 0)
            die("Invalid interface name %s: %s", s->interface, "No such device");
    } else {
        find_default_interface(AF_INET6, &start->scope6);
        if (!s->want4 || !find_default_interface(AF_INET, &index))
            index = s->want6 ? start->scope6 : 0;
    }
    if (index != 0)
        interface_name(index, start->template_name);
    const char *tap = s->splice_only || s->alone ? "" : s->ns_ifname ? s->ns_ifname : *start->template_name ? start->template_name : "tap0";
    snprintf(start->tap_name, sizeof(start->tap_name), "%s", tap);
}

static void open_channel(int ends[2])
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        die_errno("Can't make a socket pair");
}

/* `channel`: to a controller that is there already; -1: none is. */
static struct channels open_channels(bool with_broker, int channel)
{
    struct channels c = {.host = {channel, -1}, .netns = {-1, -1}, .link = {-1, -1}};

    if (channel < 0)
        open_channel(c.host);
    if (with_broker) {
        open_channel(c.netns);
        open_channel(c.link);
    }
    return c;
}

static _Noreturn void broker_main(const struct settings *s, const struct start *start, struct channels *c, pid_t parent)
{
    struct broker broker = {
        .settings = s, .host = parent, .channel = c->netns[0], .link = c->link[1], .watch = {.fd = -1, .owner = -1},
    };
    struct session session = {.settings = s, .start = start, .side = SIDE_NETNS, .stage = STAGE_SETUP,
                              .tap = {.fd = -1}, .resolver = -1};
    struct link_change up = {.up = 1};

    close(c->host[0]);
    close(c->link[0]);
    if (s->spawn)
        netns_create(s);
    else
        netns_join(s, &broker.watch);
    /* Credentials have changed. From now on the end of the link tells it to clean up; this only wakes it, should it be stopped. */
    if (parent != 0)
        die_with_parent(parent, SIGCONT);
    if (*start->tap_name != '\0')
        tap_make(&session.tap, start->tap_name);
    files_as_ourselves();
    broker.syslog = syslog_open();
    session.route = route_socket();
    session.lo_index = interface_index("lo");
    if (link_set(session.route, session.lo_index, &up) != 0)
        die("Couldn't set up lo in the namespace");
    if (s->spawn)
        broker.command = command_fork(s, start);
    signals_open(s->spawn);
    rpc_start(&session);
    no_new_privileges();
    seal_install(PROFILE_SETUP);
    supervise_broker(&broker);
}

/* The host side's alone: who waits for the end of file of one would wait for ever. */
static void leave_caller(const struct settings *s)
{
    if (s->ready_fd >= 0)
        close(s->ready_fd);
    if (s->exit_fd >= 0)
        close(s->exit_fd);
}

static pid_t start_broker(const struct settings *s, const struct start *start, struct channels *c)
{
    pid_t parent = getpid();
    pid_t broker = fork();

    if (broker < 0)
        die_errno("Can't fork the broker");
    if (broker == 0) {
        die_hook(NULL);
        hold_mark();
        pid_file_leave();
        leave_caller(s);
        die_with_parent(parent, SIGKILL);
        broker_main(s, start, c, parent);
    }
    return broker;
}

/* `pastiche broker`: the service manager is its parent, the end of the link that of the host side. */
static _Noreturn void broker_alone(const struct settings *s, struct start *start, const struct split *split)
{
    struct channels c = {.host = {-1, -1}, .netns = {split->channel, -1}, .link = {-1, split->link}};

    snprintf(start->tap_name, sizeof(start->tap_name), "%s", split->tap_name);
    raise_limits(start);
    block_signals(&start->caller_mask);
    broker_main(s, start, &c, 0);
}

static pid_t greet_broker(const struct split *split, const struct settings *s, const struct start *start, const struct channels *c)
{
    const int ends[] = {c->netns[0], c->link[1]};

    split_greet(split->broker, s, start->tap_name, ends, ARRAY_SIZE(ends));
    return -1; /* no child of ours */
}

int main(int argc, char **argv)
{
    struct settings settings;
    struct start start = {0};
    struct controller_paths paths;
    struct split split;
    struct tap tap = {.fd = -1};

    remember_caller();
    fill_stdio();
    if (stderr_is_journal())
        notice_to_journal();
    take_file_capability();
    split_begin(&argc, &argv, &split);
    early_parse(argc, argv, &settings);
    split_check(&split, &settings);
    if (split.is_broker)
        broker_alone(&settings, &start, &split);
    if (split.channel < 0)
        close_inherited(&settings, -1);
    hold_begin(settings.lock_fd);
    notify_open(&settings);
    die_hook(remove_left_behind);
    if (settings.pid_file)
        pid_file_open(settings.pid_file);
    if (settings.personality == PASST || settings.bess)
        guest_prepare(&settings);
    if (settings.tap_fd >= 0)
        tap_take(&tap, settings.tap_fd);
    kernel_log_open(); /* while we may: root is given up next */
    start.started_as_root = take_identity(&settings);
    if (split.channel < 0)
        find_controller(&paths);
    raise_limits(&start);
    if (!settings.foreground)
        hold_for_caller();
    struct host host = {.settings = &settings, .is_split = split.channel >= 0, .is_broker_apart = split.broker >= 0};
    host.launcher = settings.foreground ? -1 : background();
    hold_mark();
    block_signals(&start.caller_mask);

    struct channels c = open_channels(!settings.alone, split.channel);
    /* First, because it takes longest: the rest is done while Node boots. */
    if (host.is_split) {
        host.controller = -1;
        split_greet(split.channel, &settings, "", &c.netns[1], !settings.alone);
    } else {
        host.controller = start_controller(&settings, &paths, c.host[1], c.netns[1]);
        close(c.host[1]);
    }
    choose_names(&settings, &start);
    if (settings.tap_fd >= 0)
        snprintf(start.tap_name, sizeof(start.tap_name), "%s", tap.name);
    host.broker = -1;
    if (!settings.alone) {
        close(c.netns[1]);
        host.broker = host.is_broker_apart ? greet_broker(&split, &settings, &start, &c) : start_broker(&settings, &start, &c);
        close(c.netns[0]);
        close(c.link[1]);
    }
    host.channel = c.host[0];
    host.link = c.link[0];
    host.syslog = syslog_open();
    const int resolver = settings.personality == SLIRP4NETNS ? resolver_start() : -1;
    if (settings.sandbox)
        sandbox_prepare();

    signals_open(settings.spawn);
    struct session session = {.settings = &settings, .start = &start, .side = SIDE_HOST, .stage = STAGE_SETUP, .tap = tap,
                              .resolver = resolver};
    rpc_start(&session);
    no_new_privileges();
    seal_install(settings.sandbox ? PROFILE_SANDBOX : PROFILE_SETUP);
    supervise_host(&host);
}
