/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `pastiche instance WORD…`: what the CNI and netavark plugins cannot do from Node. Descriptor 3 is a lock file.
 *
 *   lock MS             locks it exclusively, for whoever shares the open file: for one caller at a time
 *   end MS              ends the instance that holds it (hold.c), and returns with the file locked exclusively: nothing of it is left
 *   holder              prints a process ID of that instance; status 1: there is none
 *   look PATH NAME      prints what an interface of a network namespace is like
 *
 * Whoever waits or looks ends with its caller: a call that was killed keeps no lock. Several words may follow one another. Exit status: 0, 1, or one of sysexits.h below.
 */
#include "helper.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <linux/if_packet.h>
#include <linux/magic.h>
#include <poll.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/vfs.h>
#include <time.h>

#define LOCK_FD 3
/* How long an instance has to end in order. */
#define GRACE_MS 1000
/* What is left of a killed one are processes that the kernel is taking apart. */
#define LOOK_AGAIN_MS 2

enum { TIMED_OUT = 75 /* EX_TEMPFAIL */, NO_NAMESPACE = 66 /* EX_NOINPUT */, NOT_ALLOWED = 77 /* EX_NOPERM */, OWN_NAMESPACE = 78 /* EX_CONFIG */ };

static void on_alarm(int signum)
{
    (void)signum;
}

static void end_with_caller(void)
{
    struct pollfd output = {.fd = STDOUT_FILENO};

    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        die_errno("Can't bind this process's life to its caller's");
    /* It may have ended before that: nobody reads what we print then. */
    if (poll(&output, 1, 0) == 1 && output.revents & (POLLERR | POLLHUP))
        _exit(1);
}

static long parse_ms(const char *text)
{
    char *end;
    long ms = text ? strtol(text, &end, 10) : -1;

    if (ms < 0 || *end || ms > INT_MAX / 2)
        die("pastiche instance: milliseconds are expected, not %s", text ? text : "nothing");
    return ms;
}

static void sleep_ms(int ms)
{
    poll(NULL, 0, ms);
}

static void take_lock(long ms)
{
    struct sigaction action = {.sa_handler = on_alarm}; /* without SA_RESTART: flock() is to return */
    /* Again and again: the first could come before flock() waits. */
    struct itimerval timer = {.it_value = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000}, .it_interval = {.tv_usec = 10000}};

    if (flock(LOCK_FD, LOCK_EX | LOCK_NB) == 0)
        return;
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &timer, NULL);
    if (ms == 0 || flock(LOCK_FD, LOCK_EX) != 0)
        _exit(TIMED_OUT);
    timer = (struct itimerval){0};
    setitimer(ITIMER_REAL, &timer, NULL);
}

/* 0: none; -1: one that this process's PID namespace does not have. */
static pid_t holder(void)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    if (fcntl(LOCK_FD, F_GETLK, &lock) != 0)
        die_errno("Couldn't ask who holds the lock file");
    return lock.l_type == F_UNLCK ? 0 : lock.l_pid > 0 ? lock.l_pid : -1;
}

static _Noreturn void die_unseen(void)
{
    die("The instance runs in another PID namespace: only who sees its processes can end it");
}

static void end_holder(long ms)
{
    const int64_t start = now_ms();
    pid_t told = 0;

    while (flock(LOCK_FD, LOCK_EX | LOCK_NB) != 0) {
        const int64_t elapsed = now_ms() - start;
        if (elapsed > ms)
            _exit(TIMED_OUT);
        const pid_t pid = holder();
        if (pid < 0)
            die_unseen();
        const int fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
        /* It has the lock still, so the number is its own, and was when the descriptor was made. */
        if (fd >= 0 && holder() == pid) {
            const bool late = elapsed >= GRACE_MS;
            if ((late || told != pid) && syscall(SYS_pidfd_send_signal, fd, late ? SIGKILL : SIGTERM, NULL, 0) != 0 && errno != ESRCH)
                die_errno("Couldn't end process %d of the instance", (int)pid);
            /* One that was stopped hears nothing but this. */
            if (!late && told != pid)
                syscall(SYS_pidfd_send_signal, fd, SIGCONT, NULL, 0);
            told = pid;
            struct pollfd set = {.fd = fd, .events = POLLIN};
            poll(&set, 1, late ? 50 : (int)(GRACE_MS - elapsed));
        } else {
            sleep_ms(LOOK_AGAIN_MS);
        }
        if (fd >= 0)
            close(fd);
    }
}

/* ---- an interface of a namespace ---- */

static void print_address(const struct ifaddrs *entry)
{
    const int family = entry->ifa_addr->sa_family;
    const void *address = family == AF_INET ? (const void *)&((const struct sockaddr_in *)(const void *)entry->ifa_addr)->sin_addr
                                            : (const void *)&((const struct sockaddr_in6 *)(const void *)entry->ifa_addr)->sin6_addr;
    const uint8_t *mask = family == AF_INET ? (const uint8_t *)&((const struct sockaddr_in *)(const void *)entry->ifa_netmask)->sin_addr
                                            : (const uint8_t *)&((const struct sockaddr_in6 *)(const void *)entry->ifa_netmask)->sin6_addr;
    char text[INET6_ADDRSTRLEN];
    int prefix = 0;

    for (size_t i = 0; i < (family == AF_INET ? 4 : 16); i++)
        prefix += __builtin_popcount(mask[i]);
    printf("address %s/%d\n", inet_ntop(family, address, text, sizeof(text)), prefix);
}

static void print_mac(const struct ifaddrs *entry)
{
    const struct sockaddr_ll *link = (const struct sockaddr_ll *)(const void *)entry->ifa_addr;
    const uint8_t *mac = link->sll_addr;

    printf("mac %02x:%02x:%02x:%02x:%02x:%02x\n", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
    printf("state %s\n", entry->ifa_flags & IFF_UP ? "up" : "down");
}

static void print_mtu(const char *name)
{
    struct ifreq request = {0};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    if (fd >= 0 && ioctl(fd, SIOCGIFMTU, &request) == 0)
        printf("mtu %d\n", request.ifr_mtu);
    if (fd >= 0)
        close(fd);
}

/* The kernel's own tables, line by line, with what they are in front. */
static void print_routes(const char *word, const char *path)
{
    char line[512];
    FILE *file = fopen(path, "re");

    while (file && fgets(line, sizeof(line), file))
        printf("%s %s", word, line);
    if (file)
        fclose(file);
}

/* Nothing but a namespace is opened: a FIFO would keep us waiting, and a device may do anything. */
static int open_namespace(const char *path)
{
    int named = open(path, O_PATH | O_CLOEXEC);
    struct statfs where;
    char link[64];

    if (named < 0)
        return -1;
    if (fstatfs(named, &where) != 0 || where.f_type != NSFS_MAGIC) {
        close(named);
        errno = EINVAL;
        return -1;
    }
    snprintf(link, sizeof(link), "/proc/self/fd/%d", named);
    int fd = open(link, O_RDONLY | O_CLOEXEC);
    const int error = errno;
    close(named);
    errno = error;
    return fd;
}

static void look(const char *path, const char *name)
{
    struct ifaddrs *list = NULL;
    int fd = open_namespace(path);
    bool found = false;

    if (fd >= 0 && netns_is_own(fd)) {
        notice("The network namespace %s is the plugin's own", path);
        _exit(OWN_NAMESPACE);
    }
    if (fd < 0 || setns(fd, CLONE_NEWNET) != 0) {
        int status = errno == EPERM || errno == EACCES ? NOT_ALLOWED : errno == ENOENT || errno == ENOTDIR || errno == EINVAL ? NO_NAMESPACE : 1;
        notice("Couldn't enter network namespace %s: %s", path, errno == EINVAL ? "it is not one" : errno_text(errno));
        _exit(status);
    }
    close(fd);
    if (getifaddrs(&list) != 0)
        die_errno("Couldn't read the addresses of %s", path);
    for (const struct ifaddrs *entry = list; entry; entry = entry->ifa_next) {
        if (strcmp(entry->ifa_name, name) != 0 || !entry->ifa_addr)
            continue;
        if (entry->ifa_addr->sa_family == AF_PACKET)
            found = true, print_mac(entry);
        else if (entry->ifa_netmask && (entry->ifa_addr->sa_family == AF_INET || entry->ifa_addr->sa_family == AF_INET6))
            print_address(entry);
    }
    freeifaddrs(list);
    if (!found)
        return;
    print_mtu(name);
    print_routes("route4", "/proc/self/net/route");
    print_routes("route6", "/proc/self/net/ipv6_route");
}

_Noreturn void keeper_main(char *const *words)
{
    if (!*words)
        die("Usage: pastiche instance lock MS | end MS | holder | look PATH NAME");
    end_with_caller();
    while (*words) {
        const char *word = *words++;

        if (strcmp(word, "lock") == 0) {
            take_lock(parse_ms(*words++));
        } else if (strcmp(word, "end") == 0) {
            end_holder(parse_ms(*words++));
        } else if (strcmp(word, "holder") == 0) {
            pid_t pid = holder();
            if (pid < 0)
                die_unseen();
            if (pid == 0)
                _exit(1);
            printf("%d\n", (int)pid);
        } else if (strcmp(word, "look") == 0 && words[0] && words[1]) {
            look(words[0], words[1]);
            words += 2;
        } else {
            die("pastiche instance: %s is not understood", word);
        }
    }
    if (fflush(stdout) != 0)
        die_errno("Couldn't write");
    _exit(0);
}
