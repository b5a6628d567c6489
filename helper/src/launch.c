/* SPDX-License-Identifier: Apache-2.0 */
/* Who we are (identity), where we run (background), and the controller: Node, our least privileged child. */
#include "helper.h"

#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pwd.h>
#include <sched.h>
#include <stddef.h>
#include <sys/auxv.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define NOBODY 65534

void fill_stdio(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
            die_errno("Can't open /dev/null");
}

/* What lies between those that are kept, in the order of their numbers. */
void close_inherited(const struct settings *s, int channel)
{
    const int kept[] = {channel, s ? s->lock_fd : -1, s ? s->guest_fd : -1, s ? s->tap_fd : -1, s ? s->ready_fd : -1, s ? s->exit_fd : -1};
    unsigned first = STDERR_FILENO + 1, next;

    do {
        next = UINT_MAX;
        for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
            if (kept[i] >= (int)first && (unsigned)kept[i] < next)
                next = (unsigned)kept[i];
        if (next > first && close_range(first, next == UINT_MAX ? next : next - 1, 0) != 0)
            die_errno("Can't close inherited descriptors");
        first = next + 1;
    } while (next != UINT_MAX);
}

/* The initial user namespace maps every ID to itself: user_namespaces(7). */
static bool in_initial_user_namespace(void)
{
    char line[128] = "";
    unsigned long long inside = 1, outside = 1, count = 0;
    FILE *map = fopen("/proc/self/uid_map", "re");

    if (!map)
        return false;
    bool read_ok = fgets(line, sizeof(line), map) && sscanf(line, "%llu %llu %llu", &inside, &outside, &count) == 3;
    fclose(map);
    return read_ok && inside == 0 && outside == 0 && count == 4294967295ULL;
}

/* getpwnam() would load NSS modules, which a static program cannot; the files themselves are enough here. */
static bool passwd_find(const char *login, uid_t uid, uid_t *found_uid, gid_t *found_gid)
{
    FILE *file = fopen("/etc/passwd", "re");
    bool found = false;

    for (struct passwd *entry; file && !found && (entry = fgetpwent(file));) {
        found = login ? strcmp(entry->pw_name, login) == 0 : entry->pw_uid == uid;
        if (found)
            *found_uid = entry->pw_uid, *found_gid = entry->pw_gid;
    }
    if (file)
        fclose(file);
    return found;
}

static bool group_find(const char *name, gid_t *gid)
{
    FILE *file = fopen("/etc/group", "re");
    bool found = false;

    for (struct group *entry; file && !found && (entry = fgetgrent(file));) {
        found = strcmp(entry->gr_name, name) == 0;
        if (found)
            *gid = entry->gr_gid;
    }
    if (file)
        fclose(file);
    return found;
}

static bool parse_id(const char *text, unsigned *id)
{
    char *end;

    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || value >= UINT_MAX)
        return false;
    *id = (unsigned)value;
    return true;
}

bool find_user(const char *text, uid_t *uid)
{
    gid_t gid;

    return parse_id(text, uid) || passwd_find(text, 0, uid, &gid);
}

bool find_group(const char *text, gid_t *gid)
{
    return parse_id(text, gid) || group_find(text, gid);
}

/* UID[:GID] or LOGIN[:GROUP]. A UID without GID takes the group of its passwd entry, else the same number. */
static void parse_runas(const char *text, uid_t *uid, gid_t *gid)
{
    char user[256];
    const char *colon = strchr(text, ':');
    size_t length = colon ? (size_t)(colon - text) : strlen(text);
    bool ok = length > 0 && length < sizeof(user);

    if (ok) {
        memcpy(user, text, length);
        user[length] = '\0';
        if (parse_id(user, uid)) {
            uid_t same;
            *gid = *uid;
            passwd_find(NULL, *uid, &same, gid);
        } else {
            ok = passwd_find(user, 0, uid, gid);
        }
    }
    if (ok && colon)
        ok = find_group(colon + 1, gid);
    if (!ok)
        die("Invalid --runas option: %s", text);
}

static struct { int signum; pid_t parent; } bond;

void remember_caller(void)
{
    bond.parent = getppid();
    if (prctl(PR_GET_PDEATHSIG, &bond.signum) != 0)
        bond.signum = 0;
}

/* Where it has died meanwhile nobody sends the signal any more. */
void stay_with_caller(void)
{
    if (bond.signum == 0)
        return;
    /* #syscalls:setup prctl(PR_SET_PDEATHSIG, *) — what the caller asked for, after a change of credentials */
    prctl(PR_SET_PDEATHSIG, bond.signum);
    /* #syscalls:setup getppid — whether it is there */
    if (getppid() != bond.parent)
        die("The process that started this one has ended");
}

/*
 * slirp4netns as root: its caller's namespaces, its directory of sockets and its mounts are root's. So until the seal all
 * capabilities stay, and files are opened and removed as root to the end; in every other respect it is nobody from the start, as its children are.
 */
static void become_nobody_with_files(void)
{
    uid_t uid = NOBODY;
    gid_t gid = NOBODY;

    passwd_find("nobody", 0, &uid, &gid);
    if (setgroups(0, NULL) != 0)
        die_errno("Can't drop supplementary groups");
    prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
    if (setresgid(gid, gid, gid) != 0)
        die_errno("Can't set GID to %u", gid);
    if (setresuid(uid, uid, uid) != 0)
        die_errno("Can't set UID to %u", uid);
    prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
    raise_capabilities();
    setfsuid(0);
    prctl(PR_SET_DUMPABLE, 1);
}

void files_as_ourselves(void)
{
    setfsgid(getegid());
    setfsuid(geteuid());
}

/*
 * Root of the initial user namespace changes to nobody, as pasta does, unless --runas says otherwise. Namespaces are
 * joined after that, so a namespace made by root needs `--runas 0`; one made by a user, or PID of a user's process,
 * needs `--runas` that user.
 */
bool take_identity(const struct settings *s)
{
    bool root = geteuid() == 0 && in_initial_user_namespace();
    uid_t uid = NOBODY;
    gid_t gid = NOBODY;

    if (s->personality == SLIRP4NETNS) {
        if (root)
            become_nobody_with_files(), stay_with_caller();
        return root;
    }
    if (s->runas) {
        parse_runas(s->runas, &uid, &gid);
    } else if (root) {
        passwd_find("nobody", 0, &uid, &gid);
        if (!s->quiet)
            notice("Started as root, will change to nobody.");
    } else {
        return false;
    }
    /* In a user namespace, setgroups() may be denied: there are no groups to give up then. */
    if (setgroups(0, NULL) != 0 && root)
        die_errno("Can't drop supplementary groups");
    /* One capability stays over the change: low ports, for -t and -u. */
    const bool keeps = uid != 0 && geteuid() == 0 && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0;
    if (setresgid(gid, gid, gid) != 0)
        die_errno("Can't set GID to %u", gid);
    if (setresuid(uid, uid, uid) != 0)
        die_errno("Can't set UID to %u", uid);
    if (keeps) {
        keep_low_ports_only();
        prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
    }
    /* The change made /proc/self root's; uid_map must be ours to write. */
    prctl(PR_SET_DUMPABLE, 1);
    stay_with_caller();
    return root;
}

/* The launched process waits here: one byte means ready; otherwise it ends as the survivor did. */
static _Noreturn void wait_until_ready(int fd, pid_t survivor)
{
    char byte, text[256];
    int status;

    if (read_byte(fd, &byte))
        _exit(0);
    while (waitpid(survivor, &status, 0) < 0 && errno == EINTR) {
    }
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) {
        kernel_log_describe("helper", survivor, text, sizeof(text));
        notice("%s", text);
    }
    remove_left_behind();
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

int background(void)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        die_errno("Can't make a socket pair");
    pid_t survivor = fork();
    if (survivor < 0)
        die_errno("Can't fork to the background");
    if (survivor > 0) {
        pid_file_leave();
        close(pair[1]);
        wait_until_ready(pair[0], survivor);
    }
    close(pair[0]);
    setsid();
    return pair[1];
}

void die_with_parent(pid_t parent, int signum)
{
    /* The kernel forgets this when credentials change: call again after that. */
    if (prctl(PR_SET_PDEATHSIG, signum) != 0)
        die_errno("Can't bind this process's life to its parent's");
    if (getppid() != parent) /* it died before the line above */
        _exit(1);
}

/* A directory can be "executable", too. */
static bool resolve_program(const char *path, char *found)
{
    struct stat status;

    if (!realpath(path, found) || access(found, X_OK) != 0 || stat(found, &status) != 0)
        return false;
    errno = S_ISDIR(status.st_mode) ? EISDIR : EACCES;
    return S_ISREG(status.st_mode);
}

/* Of DIR/bin/pasta, DIR/`name`; /proc/self/exe is already free of symbolic links. */
static bool beside_bin(const char *name, char *found, size_t bytes)
{
    char self[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (length < 0)
        die_errno("Can't read /proc/self/exe");
    self[length] = '\0';
    for (int up = 0; up < 2; up++) {
        char *slash = strrchr(self, '/');
        if (slash)
            *slash = '\0';
    }
    return snprintf(found, bytes, "%s/%s", self, name) < (int)bytes;
}

/* Whether we were given more than our caller has, by the executable's file: getauxval(3), AT_SECURE. */
static bool privileged_by_file(void)
{
    return getauxval(AT_SECURE) != 0;
}

/*
 * A file capability (docs/INSTALL.md). It may be in the permitted set only, which is how it should be set; and the kernel made
 * /proc/self root's, where uid_map must be ours to write. Being dumpable again shows nothing to the user's other processes as
 * long as we have what they have not: ptrace(2).
 */
void take_file_capability(void)
{
    if (!privileged_by_file())
        return;
    /* Files that the command line names are opened with the rights we have now: those must be the caller's. */
    if (getuid() != geteuid() || getgid() != getegid())
        die("This program must not be set-user-ID or set-group-ID (for ports below 1024, see setcap in docs/INSTALL.md)");
    raise_low_ports();
    prctl(PR_SET_DUMPABLE, 1);
}

/*
 * `node` of the installation (a link beside the bundle, which install-files makes), else on PATH, as execvp() would find it; the
 * path must be absolute, since the controller's directory is "/". A caller that has less than we have does not choose what
 * runs beside us: then PASTICHE_NODE and PATH count for nothing.
 */
static void find_node(char found[PATH_MAX])
{
    const bool trusted = !privileged_by_file();
    const char *given = trusted ? getenv("PASTICHE_NODE") : NULL;
    const char *path = trusted ? getenv("PATH") : "/usr/bin:/usr/local/bin";
    char candidate[PATH_MAX];

    if (given && *given) {
        if (!resolve_program(given, found))
            die_errno("Can't run Node.js at PASTICHE_NODE=%s", given);
        return;
    }
    if (beside_bin("node", candidate, sizeof(candidate)) && resolve_program(candidate, found))
        return;
    for (const char *at = path ? path : "/usr/local/bin:/usr/bin:/bin"; *at;) {
        size_t length = strcspn(at, ":");

        snprintf(candidate, sizeof(candidate), "%.*s/node", length ? (int)length : 1, length ? at : ".");
        if (resolve_program(candidate, found))
            return;
        at += length + (at[length] == ':');
    }
    if (!trusted)
        die("Can't find Node.js: with a file capability it is looked for beside the installed bundle, in /usr/bin and /usr/local/bin only");
    die("Can't find Node.js: no \"node\" on PATH, and PASTICHE_NODE is not set");
}

/* DIR/bin/pasta belongs to DIR/controller.cjs, DIR/bin/pesto to DIR/client.cjs. */
static void find_bundle(const char *what, char *found, size_t bytes)
{
    char name[32];

    snprintf(name, sizeof(name), "%s.cjs", what);
    if (!beside_bin(name, found, bytes))
        die("The path of this program is too long");
    if (access(found, R_OK) != 0)
        die_errno("Can't read the %s %s", what, found);
}

void find_controller(struct controller_paths *paths)
{
    find_node(paths->node);
    find_bundle("controller", paths->bundle, sizeof(paths->bundle));
}

void controller_paths_print(void)
{
    struct controller_paths paths;

    find_controller(&paths);
    printf("%s\n", paths.node);
    fflush(stdout);
}

_Noreturn void exec_client(const char *which, char *const *args)
{
    struct controller_paths paths;
    size_t count = 0;

    close_inherited(NULL, -1);
    find_node(paths.node);
    find_bundle("client", paths.bundle, sizeof(paths.bundle));
    while (args[count])
        count++;
    const char **argv = calloc(count + 4, sizeof(*argv));
    if (!argv)
        die("Out of memory");
    argv[0] = paths.node, argv[1] = paths.bundle, argv[2] = which;
    memcpy(argv + 3, args, count * sizeof(*argv));
    execv(paths.node, (char *const *)argv);
    die_errno("Can't start Node.js (%s)", paths.node);
}

/*
 * Puts the two channels on their agreed numbers and closes everything else. Without a broker there is /dev/null in the place
 * of the second: the number stays taken, and whoever would use it as a channel is told that it is no socket.
 */
static void place_channels(int host_channel, int netns_channel)
{
    int host_copy = fcntl(host_channel, F_DUPFD, 10);
    int netns_copy = netns_channel < 0 ? open("/dev/null", O_RDWR) : fcntl(netns_channel, F_DUPFD, 10);

    /* A lock file is held by being open; nothing is done with it. */
    int lock_copy = hold_fd() < 0 ? -1 : fcntl(hold_fd(), F_DUPFD, 10);

    if (host_copy < 0 || netns_copy < 0 || dup2(host_copy, 3) < 0 || dup2(netns_copy, 4) < 0 ||
        (lock_copy >= 0 && dup2(lock_copy, 5) < 0) || close_range(lock_copy >= 0 ? 6 : 5, ~0U, 0) != 0)
        die_errno("Can't place the controller's channels");
    if (lock_copy >= 0)
        hold_at(5);
    int null = open("/dev/null", O_RDWR);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0)
        die_errno("Can't open /dev/null");
    close(null);
}

static char *const *controller_argv(const struct controller_paths *paths, const char *name, char *const *args)
{
    size_t count = 0;

    while (args[count])
        count++;
    const char **argv = calloc(count + 4, sizeof(*argv));
    if (!argv)
        die("Out of memory");
    argv[0] = paths->node;
    argv[1] = paths->bundle;
    argv[2] = name;
    memcpy(argv + 3, args, count * sizeof(*argv));
    return (char *const *)argv;
}

/*
 * libuv makes a ring for its epoll set whatever UV_USE_IO_URING says (1.45 and later, in Node 22), and the sealed controller would
 * be killed when it uses it. So there is none to be had, as under the common container engines, and libuv does without.
 */
static void no_io_uring(void)
{
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {.len = ARRAY_SIZE(program), .filter = program};

    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) != 0)
        die_errno("Can't install a filter before Node.js starts");
}

void controller_namespaces(void)
{
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS) != 0)
        die_errno("Can't make the controller's empty namespaces (are user namespaces disabled?)");
}

_Noreturn void become_controller(const struct controller_paths *paths, const char *name, char *const *args, pid_t parent,
                                 int host_channel, int netns_channel)
{
    /* libuv would otherwise try io_uring for files, which no filter of ours allows. The second is for obs/log.ts. */
    char *const env[] = {(char *)(uintptr_t)"UV_USE_IO_URING=0",
                         stderr_is_journal() ? (char *)(uintptr_t)"PASTICHE_STDERR=journal" : NULL, NULL};
    sigset_t none;

    setsid(); /* the terminal's Ctrl-C is not for it */
    files_as_ourselves();
    if (access(paths->bundle, R_OK) != 0)
        die_errno("Can't read the controller %s", paths->bundle);
    controller_namespaces();
    place_channels(host_channel, netns_channel);
    /* What the controller says before it is ready is for the user to read, not output of the command. slirp4netns has lines of its own there. */
    if (strcmp(name, "slirp4netns") != 0)
        dup2(STDERR_FILENO, STDOUT_FILENO);
    drop_capabilities(false);
    no_new_privileges();
    no_io_uring();
    if (parent != 0)
        die_with_parent(parent, SIGKILL); /* credentials have changed */
    if (chdir("/") != 0)
        die_errno("Can't change to /");
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(paths->node, controller_argv(paths, name, args), env);
    die_errno("Can't start Node.js (%s)", paths->node);
}

pid_t start_controller(const struct settings *s, const struct controller_paths *paths, int host_channel,
                       int netns_channel)
{
    pid_t parent = getpid();
    pid_t controller = fork();

    if (controller < 0)
        die_errno("Can't fork the controller");
    if (controller == 0) {
        die_hook(NULL);
        die_with_parent(parent, SIGKILL);
        become_controller(paths, s->name, s->argv, parent, host_channel, netns_channel);
    }
    return controller;
}
