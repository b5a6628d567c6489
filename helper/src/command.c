/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command: PID 1 of a new pid namespace, so that its end is the end of all it started. It is forked before any
 * filter is installed or privilege given up, because both would be inherited, and waits for its release.
 */
#include "helper.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>

/* HOST_NAME_MAX is 64; "pasta-" and the host's own name, cut to fit. */
static void set_hostname(const struct settings *s)
{
    char host[HOST_NAME_MAX + 1] = "", name[HOST_NAME_MAX + 8];

    if (s->hostname) {
        snprintf(name, sizeof(name), "%s", s->hostname);
    } else {
        gethostname(host, sizeof(host) - 1);
        snprintf(name, sizeof(name), "pasta-%s", host);
    }
    name[HOST_NAME_MAX] = '\0';
    if (sethostname(name, strlen(name)) != 0)
        notice("Couldn't set the host name to %s: %s", name, errno_text(errno));
}

static void make_namespaces(const struct settings *s)
{
    if (unshare(CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS) != 0)
        die_errno("Couldn't create namespaces for the command");
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) != 0)
        die_errno("Couldn't separate the command's mounts");
    /* Refused where the outer /proc has parts hidden (containers): the command then sees the outer one. */
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) != 0)
        notice("Couldn't mount /proc for the command: %s", errno_text(errno));
    set_hostname(s);
}

static _Noreturn void execute(const struct settings *s)
{
    const char *shell = getenv("SHELL");
    char login_name[PATH_MAX + 1];

    if (s->command) {
        execvp(s->command[0], s->command);
    } else {
        if (!shell || !*shell)
            shell = "/bin/sh";
        snprintf(login_name, sizeof(login_name), "-%s", shell); /* the dash makes it a login shell */
        execl(shell, login_name, (char *)NULL);
    }
    die_errno("Failed to start command or shell");
}

static _Noreturn void command_main(const struct settings *s, const struct start *start, int gate)
{
    char byte;

    /* Our parent is in another pid namespace, so getppid() tells nothing: its end closes the gate. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        die_errno("Can't bind the command's life to ours");
    /* Copies of the broker's descriptors would keep its peers from seeing its end. */
    if (dup2(gate, 3) < 0 || close_range(4, ~0U, 0) != 0)
        die_errno("Can't close descriptors");
    make_namespaces(s);
    if (!read_byte(3, &byte))
        _exit(1);
    close(3);
    setrlimit(RLIMIT_NOFILE, &start->caller_nofile);
    sigprocmask(SIG_SETMASK, &start->caller_mask, NULL);
    execute(s);
}

struct command command_fork(const struct settings *s, const struct start *start)
{
    int gate[2];

    if (pipe(gate) != 0)
        die_errno("Can't make a pipe");
    if (unshare(CLONE_NEWPID) != 0) /* for children only: pid_namespaces(7) */
        die_errno("Couldn't create a pid namespace");
    pid_t pid = fork();
    if (pid < 0)
        die_errno("Can't fork the command");
    if (pid == 0) {
        close(gate[1]);
        command_main(s, start, gate[0]);
    }
    close(gate[0]);
    return (struct command){.pid = pid, .gate = gate[1]};
}

bool command_release(struct command *command)
{
    char byte = 1;
    ssize_t n = write(command->gate, &byte, 1);

    close(command->gate);
    command->gate = -1;
    return n == 1;
}
