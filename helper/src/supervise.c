/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two loops, and how everything ends.
 *
 * The host side decides: it sees the end of the controller and of the broker (SIGCHLD), and signals from outside. Its
 * end is the end of all: it shuts the controller's channel (so that buffered output can still be written), tells the
 * broker to end the command, waits for both, and kills what does not go. Should it die without doing so, the kernel
 * kills the controller (PR_SET_PDEATHSIG), and the broker sees the end of the link, removes the PID file and ends.
 *
 *   link, host side to broker:  'R' ready: let go of the caller's stdin, stdout, stderr     'T' terminate
 *   broker to host side:        'G' the namespace is gone, for one that is no child; its exit status is the command's, or 0 then
 *
 * Once ready, both sleep between requests in ppoll() without a timeout: an idle instance never wakes them.
 */
#include "helper.h"

#include <poll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>

/* How long the spawned command has between SIGTERM and SIGKILL. */
#define COMMAND_GRACE_MS 500
/*
 * How long the controller may say nothing before it is ready: Node has been seen to wait for ever where it got no memory for its
 * threads. It starts in a tenth of a second, and whatever takes longer (10,000 ports) is done by requests.
 */
#define START_SILENCE_MS 30000
/* How long the controller has to write what it has buffered. */
#define CONTROLLER_GRACE_MS 300
/* After this, what still runs is killed: above COMMAND_GRACE_MS, so that the broker can do its part. */
#define FINISH_MS 800
/* A broker that ends closes its sockets before the kernel counts it as ended: by far the less time than this. */
#define BROKER_END_MS 50
/* A reply that the controller has no room for is tried again after this. */
#define RETRY_MS 2
/* Requests answered before signals get a look: a controller that never stops asking cannot keep us from ending. */
#define REQUESTS_PER_TURN 16

static int signal_fd = -1, null_fd = -1;
static struct host *host;
static struct broker *broker;

/* ---- common ---- */

/* SIGPIPE is blocked, never read: a closed stderr must not end us. In spawn mode Ctrl-C belongs to the command. */
void block_signals(sigset_t *before)
{
    static const int SIGNALS[] = {SIGTERM, SIGQUIT, SIGINT, SIGHUP, SIGCHLD, SIGPIPE};
    sigset_t set;

    signal(SIGCHLD, SIG_DFL); /* an inherited SIG_IGN would keep exit statuses from us */
    sigemptyset(&set);
    for (size_t i = 0; i < ARRAY_SIZE(SIGNALS); i++)
        sigaddset(&set, SIGNALS[i]);
    sigprocmask(SIG_BLOCK, &set, before);
}

void signals_open(bool spawn)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGCHLD);
    if (!spawn) {
        sigaddset(&set, SIGINT);
        sigaddset(&set, SIGQUIT);
    }
    signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (signal_fd < 0 || null_fd < 0)
        die_errno("Can't prepare to wait");
}

/* The next waiting signal, or 0. */
static int next_signal(void)
{
    struct signalfd_siginfo info;

    return read(signal_fd, &info, sizeof(info)) == sizeof(info) ? (int)info.ssi_signo : 0;
}

static void null_over_stdio(int last)
{
    for (int fd = STDIN_FILENO; fd <= last; fd++)
        /* #syscalls:setup,host,netns dup3(*, 0|1|2, 0) — /dev/null over the caller's stdin, stdout, stderr */
        if (dup3(null_fd, fd, 0) < 0)
            die_errno("Can't let go of standard input and output");
}

void wait_for(struct pollfd *set, size_t count, int timeout_ms)
{
    struct timespec timeout = {.tv_sec = timeout_ms / 1000, .tv_nsec = timeout_ms % 1000 * 1000000L};

    /* #syscalls:setup,host,netns ppoll — requests, signals, the other processes' ends */
    if (ppoll(set, count, timeout_ms < 0 ? NULL : &timeout, NULL) <= 0)
        for (size_t i = 0; i < count; i++)
            set[i].revents = 0;
}

static struct { const char *text; size_t length; int fds[FDS_PER_MESSAGE_MAX]; int fd_count; bool waiting; } reply;

static bool send_reply(int channel)
{
    reply.waiting = !channel_send(channel, reply.text, reply.length, reply.fds, reply.fd_count);
    return !reply.waiting;
}

/* Answers what waits. false: the controller has closed its end. */
static bool serve(int channel)
{
    static char request[MESSAGE_BYTES_MAX];
    size_t length;

    if (reply.waiting && !send_reply(channel))
        return true;
    for (int i = 0; i < REQUESTS_PER_TURN; i++) {
        switch (channel_receive(channel, request, &length)) {
        case CHANNEL_NONE: return true;
        case CHANNEL_CLOSED: return false;
        case CHANNEL_MESSAGE: break;
        }
        reply.length = rpc_answer(request, length, &reply.text, reply.fds, &reply.fd_count);
        if (!send_reply(channel))
            return true;
    }
    return true;
}

/* ---- the host side ---- */

static struct { bool is_ready, controller_hung_up; int controller_status, broker_status; } seen;
/* Said at the very end: a controller that is still alive could write over it in the log file. */
static char last_words[256];

/* It stays where it was started, and is told of by a descriptor; nobody tells of it who has ended. */
static bool is_slirp(void)
{
    return host->settings->personality == SLIRP4NETNS;
}

/* That nobody listens any more, or that it is no descriptor to write to, is no error: as with the original. */
static void tell_caller(const struct settings *s)
{
    if (s->ready_fd < 0)
        return;
    if (write(s->ready_fd, "1", 1) != 1)
        errno = 0;
    close(s->ready_fd);
}

int host_ready(void)
{
    const struct settings *s = host->settings;
    bool keep_stderr = is_slirp() || (s->foreground && s->debug);

    if (seen.is_ready)
        return EALREADY; /* or the PID file would grow with each call */
    if (!pid_file_write())
        return errno ? errno : EIO;
    null_over_stdio(is_slirp() ? STDIN_FILENO : keep_stderr ? STDOUT_FILENO : STDERR_FILENO);
    notice_to_logs(host->syslog, s->name, keep_stderr);
    if (host->link >= 0 && write(host->link, "R", 1) != 1)
        return errno;
    if (host->launcher >= 0) {
        if (write(host->launcher, "R", 1) != 1)
            return errno;
        close(host->launcher);
        host->launcher = -1;
    }
    tell_caller(s);
    seen.is_ready = true;
    return notify_ready(s->alone ? "The guest can connect" : "The namespace has its network") ? 0 : errno;
}

/* The kernel tells a parent no more than SIGSYS. */
static void tell_of_kill(const char *who, const siginfo_t *info)
{
    if (info->si_code != CLD_EXITED && info->si_status == SIGSYS)
        kernel_log_describe(who, info->si_pid, last_words, sizeof(last_words));
}

/* Collects children that have ended. */
static void reap(void)
{
    siginfo_t info;

    for (;;) {
        info.si_pid = 0;
        /* #syscalls:setup,host,netns waitid(P_ALL|P_PID, *, *, WEXITED+WNOHANG, 0) — exit statuses of our children */
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG) != 0 || info.si_pid == 0)
            return;
        int status = info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
        if (info.si_pid == host->controller || info.si_pid == host->broker)
            tell_of_kill(info.si_pid == host->broker ? "broker" : "controller", &info);
        if (info.si_pid == host->controller) {
            host->controller = -1;
            seen.controller_status = status;
        } else if (info.si_pid == host->broker) {
            host->broker = -1;
            seen.broker_status = status;
        }
    }
}

static void kill_child(pid_t pid)
{
    /* #syscalls:setup,host,netns kill(&0xffffffff80000000==0, SIGKILL) — what does not end by itself; no group but our own */
    if (pid > 0)
        kill(pid, SIGKILL);
}

/* Ends the other two, then us. In spawn mode the command's own status wins, if it was told to end by us. */
static _Noreturn void finish(int status)
{
    int64_t start = now_ms();

    notify_stopping(last_words);
    if (!seen.is_ready)
        kill_child(host->controller); /* it has nothing to write yet */
    /* #syscalls:setup,host shutdown(*, SHUT_WR) — tells the controller to end */
    shutdown(host->channel, SHUT_WR);
    bool ask_broker = (host->broker > 0 || host->is_broker_apart) && write(host->link, "T", 1) == 1;
    /* #syscalls:setup,host kill(&0xffffffff80000000==0, SIGCONT) — a stopped broker does not hear that it is to end */
    if (host->broker > 0)
        kill(host->broker, SIGCONT);
    while (host->controller > 0 || host->broker > 0) {
        struct pollfd set[] = {{.fd = signal_fd, .events = POLLIN}, {.fd = host->channel, .events = 0}};
        int64_t elapsed = now_ms() - start;

        if (elapsed >= CONTROLLER_GRACE_MS)
            kill_child(host->controller);
        if (elapsed >= FINISH_MS || !ask_broker)
            kill_child(host->broker);
        wait_for(set, ARRAY_SIZE(set), 50);
        while (next_signal() != 0) {
        }
        reap();
        /* Shutting down its half of the channel, as we did ours, is the controller's last act. The kernel takes some 20 ms to dismantle a Node process;
         * the caller of a command need not wait for that, since the tap's namespace is gone anyway. */
        if ((set[1].revents & POLLHUP) && host->settings->spawn && host->broker < 0)
            break;
    }
    if (status < 0)
        status = seen.broker_status;
    if (*last_words)
        notice("%s", last_words);
    remove_left_behind();
    _exit(status);
}

static _Noreturn void stopped_by(int signum)
{
    if (host->settings->spawn)
        finish(-1);
    if (is_slirp())
        finish(128 + signum);
    finish(signum == SIGINT || signum == SIGHUP ? 128 + signum : 0);
}

/* passt, and slirp4netns without a namespace to enter: there never was a broker. */
static bool is_alone(void)
{
    return host->link < 0;
}

/* passt with --one-off, or User Mode Linux: that the guest has hung up is the controller's to know. */
static bool is_last_guest_gone(void)
{
    return host->settings->alone && host->settings->one_off;
}

/* The controller may see the broker's end before we do, and then has every reason to end with 0. */
static bool is_broker_ending(void)
{
    struct pollfd set[] = {{.fd = host->link, .events = 0}};

    wait_for(set, ARRAY_SIZE(set), BROKER_END_MS);
    return set[0].revents & POLLHUP;
}

static void controller_ended(void)
{
    int status = seen.controller_status;

    if (status == 128 + SIGTERM)
        stopped_by(SIGTERM); /* whoever stops all processes of a unit means us, too */
    if (status > 128 && !*last_words)
        snprintf(last_words, sizeof(last_words), "The controller was killed by signal %d", status - 128);
    else if (status == 0 && !seen.is_ready)
        snprintf(last_words, sizeof(last_words), "The controller ended before it was ready (is PASTICHE_NODE Node?)");
    if (status == 0 && seen.is_ready && is_last_guest_gone())
        finish(0);
    if (status == 0 && seen.is_ready && !is_alone() && is_broker_ending())
        finish(-1);
    /* While broker and namespace, or further guests, are there it has no reason to end: 0 is no success either. */
    finish(status > 128 || status == 0 ? 1 : status);
}

/*
 * The command has ended, and the broker with it. A controller that ends in order, because it has learned that, shuts down its half of the
 * channel and no more (controller/app/main.ts); where both are closed it was killed, and the command's success is not the whole truth.
 */
static bool controller_has_died(void)
{
    struct pollfd set[] = {{.fd = host->channel, .events = POLLRDHUP}};

    if (!seen.is_ready || !host->settings->spawn)
        return false;
    if (host->channel < 0)
        return seen.controller_hung_up;
    wait_for(set, ARRAY_SIZE(set), CONTROLLER_GRACE_MS);
    return set[0].revents & POLLHUP;
}

/* Asked anew: what the loop woke up for may have been the last request before the end. */
static bool is_hung_up(int channel)
{
    struct pollfd set[] = {{.fd = channel, .events = 0}};

    wait_for(set, ARRAY_SIZE(set), 0);
    return set[0].revents & POLLHUP;
}

static void await_controller(void)
{
    for (int64_t start = now_ms(); host->controller > 0 && now_ms() - start < CONTROLLER_GRACE_MS;) {
        struct pollfd set[] = {{.fd = signal_fd, .events = POLLIN}};

        wait_for(set, ARRAY_SIZE(set), 50);
        while (next_signal() != 0) {
        }
        reap();
    }
}

static void host_signals(void)
{
    int stop = 0;

    for (int signum; (signum = next_signal()) != 0;)
        if (signum != SIGCHLD)
            stop = signum;
    reap();
    if (stop != 0)
        stopped_by(stop);
    if (host->broker < 0 && host->controller > 0 && controller_has_died())
        await_controller();
    if (host->controller < 0 && !host->is_split && (is_alone() || host->broker > 0 || seen.controller_status > 128))
        controller_ended();
    if (!is_alone() && host->broker < 0 && !host->is_broker_apart) {
        if (is_slirp() && !seen.is_ready && !*last_words)
            snprintf(last_words, sizeof(last_words), "child failed(%d)", seen.broker_status);
        finish(seen.broker_status);
    }
}

/* User Mode Linux: it is ready when its guest has connected, however long that takes. */
static bool is_waiting_for_guest(void)
{
    return host->settings->bess && guest_is_awaited();
}

/* How long to sleep. -1: until something happens. */
static int host_timeout_ms(int64_t heard_ms)
{
    if (reply.waiting)
        return RETRY_MS;
    if (host->channel < 0)
        return CONTROLLER_GRACE_MS;
    if (seen.is_ready)
        return -1;
    if (is_waiting_for_guest())
        return -1;
    int64_t left = heard_ms + START_SILENCE_MS - now_ms();
    return left > 0 ? (int)left : 0;
}

/* A broker that is no child of ours, by whose status it could be known. */
static _Noreturn void split_broker_gone(void)
{
    char word = 0;

    if (read(host->link, &word, 1) == 1 && word == 'G')
        finish(0);
    snprintf(last_words, sizeof(last_words), seen.is_ready ? "The broker has gone" : "The broker ended before all was ready");
    finish(1);
}

/* It was told by others why it ended, in the journal of its own unit. Where it learned of the broker's end first, that is what counts. */
static _Noreturn void split_controller_gone(void)
{
    if (host->is_broker_apart && is_broker_ending())
        split_broker_gone();
    if (seen.is_ready && ((!is_alone() && is_broker_ending()) || (is_last_guest_gone() && !seen.controller_hung_up)))
        finish(is_alone() ? 0 : -1);
    snprintf(last_words, sizeof(last_words), seen.is_ready ? "The controller has gone" : "The controller ended before it was ready");
    finish(1);
}

static _Noreturn void never_ready(void)
{
    snprintf(last_words, sizeof(last_words), "The controller says nothing for %d s and is not ready: has Node.js too little memory (ulimit -v)?",
             START_SILENCE_MS / 1000);
    finish(1);
}

void supervise_host(struct host *h)
{
    int64_t heard_ms = now_ms();

    host = h;
    for (;;) {
        struct pollfd set[] = {
            {.fd = signal_fd, .events = POLLIN},
            {.fd = h->channel, .events = reply.waiting ? 0 : POLLIN},
            {.fd = h->launcher, .events = 0},
            {.fd = seen.is_ready ? h->settings->exit_fd : -1, .events = 0},
            {.fd = h->is_broker_apart ? h->link : -1, .events = POLLIN},
        };

        wait_for(set, ARRAY_SIZE(set), host_timeout_ms(heard_ms));
        if (set[0].revents)
            host_signals();
        else if (set[4].revents)
            split_broker_gone();
        else if (h->channel < 0 && h->is_split)
            split_controller_gone();
        else if (h->channel < 0)
            /* A controller that has closed its channel and goes on living is not ours any more, but for one that is on its orderly way out. */
            finish(seen.is_ready && is_last_guest_gone() && !seen.controller_hung_up ? 0 : 1);
        else if (!set[1].revents && !seen.is_ready && !is_waiting_for_guest() && now_ms() - heard_ms >= START_SILENCE_MS)
            never_ready();
        if (set[1].revents)
            heard_ms = now_ms();
        if ((set[1].revents || reply.waiting) && !serve(h->channel)) {
            seen.controller_hung_up = is_hung_up(h->channel);
            h->channel = -1, reply.waiting = false; /* its end follows, and SIGCHLD with it */
        }
        if (set[2].revents && h->launcher >= 0)
            finish(1); /* the launched process was killed while it waited for us */
        /* slirp4netns: whoever started us has closed the other end, or had never opened it. What is wrong at start is said before that. */
        if (set[3].revents || (seen.is_ready && h->settings->exit_when_ready && !reply.waiting))
            finish(0);
    }
}

/* ---- the broker ---- */

int broker_start_command(void)
{
    if (!broker->settings->spawn || broker->command.gate < 0)
        return EINVAL;
    return command_release(&broker->command) ? 0 : EPIPE;
}

/* Exit status of the command if it has ended, else -1. */
static int command_status(void)
{
    siginfo_t info = {0};

    if (broker->command.pid <= 0 || waitid(P_PID, (id_t)broker->command.pid, &info, WEXITED | WNOHANG) != 0 ||
        info.si_pid == 0)
        return -1;
    return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}

static _Noreturn void broker_terminate(void)
{
    int64_t start = now_ms();

    if (!broker->settings->spawn)
        _exit(0);
    /* #syscalls:setup,netns kill(&0xffffffff80000000==0, SIGTERM) — the command, when we are told to end */
    kill(broker->command.pid, broker->command.gate < 0 ? SIGTERM : SIGKILL);
    for (;;) {
        struct pollfd set[] = {{.fd = signal_fd, .events = POLLIN}};
        int status = command_status();

        if (status >= 0)
            _exit(status);
        int64_t left = COMMAND_GRACE_MS - (now_ms() - start);
        if (left <= 0)
            kill_child(broker->command.pid);
        wait_for(set, 1, left > 0 ? (int)left : 50);
        while (next_signal() != 0) {
        }
    }
}

static void broker_signals(void)
{
    bool stop = false;

    for (int signum; (signum = next_signal()) != 0;)
        stop |= signum != SIGCHLD;
    int status = command_status();
    if (status >= 0)
        _exit(status);
    if (stop)
        broker_terminate();
}

/* The host side was killed: what it would have done at the end falls to us. Before it was ready, its caller tells why. */
static _Noreturn void broker_orphaned(void)
{
    remove_left_behind();
    if (broker->command.pid > 0)
        kill_child(broker->command.pid);
    if (seen.is_ready)
        notice("%s", kernel_log_describe("helper", broker->host, last_words, sizeof(last_words)) ? last_words
                                                                                             : "The helper was killed");
    _exit(1);
}

static void broker_link(void)
{
    char word = 0;

    if (read(broker->link, &word, 1) != 1)
        broker_orphaned();
    if (word == 'T')
        broker_terminate();
    seen.is_ready = true;
    null_over_stdio(STDERR_FILENO);
    notice_to_logs(broker->syslog, broker->settings->name, false);
}

void supervise_broker(struct broker *b)
{
    broker = b;
    for (;;) {
        struct pollfd set[] = {
            {.fd = signal_fd, .events = POLLIN},
            {.fd = b->channel, .events = reply.waiting ? 0 : POLLIN},
            {.fd = b->link, .events = POLLIN},
            {.fd = b->watch.kind == WATCH_PID || b->watch.kind == WATCH_DIRECTORY ? b->watch.fd : -1, .events = POLLIN},
            {.fd = b->watch.owner, .events = POLLIN},
        };
        int timeout = reply.waiting ? RETRY_MS : b->watch.kind == WATCH_POLL ? 1000 : -1;

        wait_for(set, ARRAY_SIZE(set), timeout);
        if (set[2].revents)
            broker_link(); /* first: the host side's death is a signal, too, and leaves no time for a command's last wishes */
        if (set[0].revents)
            broker_signals();
        if (set[4].revents || ((set[3].revents || b->watch.kind == WATCH_POLL) && netns_gone(&b->watch)))
            _exit(write(b->link, "G", 1) == 1 ? 0 : 1);
        if ((set[1].revents || reply.waiting) && !serve(b->channel)) {
            close(b->channel);
            b->channel = -1; /* the host side sees the same, and tells us */
        }
    }
}
