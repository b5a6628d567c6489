/* SPDX-License-Identifier: Apache-2.0 */
/* What was asked for, and in the end becoming QEMU. */
#include "qrap.h"

#include <fcntl.h>
#include <stdarg.h>

#define STRING_OF(x) #x
#define STRING(x) STRING_OF(x)
/* The number that upstream's qrap has always used. */
#define USUAL_FD 5
/* The socket to use instead of the first that answers. */
#define SOCKET_VARIABLE "PASTICHE_SOCKET"

static const char USAGE[] =
    "Usage: qrap FD QEMU [ARGUMENT]...   run QEMU with a connection to passt as descriptor FD\n"
    "       qrap [QEMU'S ARGUMENT]...    the same, with the network of the arguments replaced\n"
    "       qrap --help | --version\n"
    "\n"
    "The connection is to the first of /tmp/passt_1.socket to /tmp/passt_64.socket where passt answers,\n"
    "or to the socket that the environment names in " SOCKET_VARIABLE ".\n"
    "In the second form QEMU is the kvm, qemu-kvm or qemu-system-ARCH of PATH, or /usr/libexec/qemu-kvm;\n"
    "-net, -nic, -netdev and network cards give way to one virtio card. -help and -version are QEMU's own.\n";

void die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

void *must(void *pointer)
{
    if (!pointer)
        die("Out of memory");
    return pointer;
}

static const char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* Digits alone; what is too large for a descriptor is INT_MAX + 1. -1: no number. */
static long number_of(const char *text)
{
    if (*text == '\0' || text[strspn(text, "0123456789")] != '\0')
        return -1;
    errno = 0;
    long value = strtol(text, NULL, 10);
    return errno != 0 || value > INT_MAX ? (long)INT_MAX + 1 : value;
}

/* Moves the connection to where QEMU looks for it; that one alone outlives exec. */
static void hand_over(int connection, int fd)
{
    if (connection == fd ? fcntl(fd, F_SETFD, 0) != 0 : dup2(connection, fd) < 0)
        die("Couldn't make the connection descriptor %d: %s", fd, strerror(errno));
    if (connection != fd)
        close(connection);
}

static _Noreturn void become(const char *qemu, char *const *argv)
{
    execv(qemu, argv);
    die("Couldn't run %s: %s", qemu, strerror(errno));
}

/* qrap FD QEMU ARGUMENT... */
static _Noreturn void wrap(int fd, const char *qemu, int argc, char **argv)
{
    struct patch patch = patch_command_line(argc, argv, qemu, fd);

    hand_over(connect_to_passt(getenv(SOCKET_VARIABLE), patch.mac), fd);
    become(qemu, argv);
}

/* In QEMU's place. */
static _Noreturn void stand_in(const char *own_name, int argc, char **argv)
{
    char *qemu = find_qemu(own_name);
    int fd = USUAL_FD;

    if (!qemu)
        die("Couldn't find qemu command");
    while (fcntl(fd, F_GETFD) >= 0) /* whoever started us has given it to QEMU */
        fd++;
    struct patch patch = patch_command_line(argc, argv, qemu, fd);
    patch.argv[0] = qemu;
    if (patch.wants_network) {
        if (patch.no_place)
            die("Couldn't find free address for device");
        hand_over(connect_to_passt(getenv(SOCKET_VARIABLE), patch.mac), fd);
    }
    become(qemu, patch.argv);
}

int main(int argc, char **argv)
{
    const char *own_name = argc > 0 ? name_of(argv[0]) : "qrap";
    bool is_qrap = strstr(own_name, "qrap") != NULL;

    if (is_qrap && argc < 2) {
        fputs(USAGE, stderr);
        return 1;
    }
    if (is_qrap && argc == 2 && strcmp(argv[1], "--help") == 0)
        return fputs(USAGE, stdout) < 0 || fflush(stdout) != 0;
    if (is_qrap && argc == 2 && strcmp(argv[1], "--version") == 0)
        return puts("qrap " STRING(QRAP_VERSION) " (pastiche)") < 0 || fflush(stdout) != 0;

    long fd = argc > 1 ? number_of(argv[1]) : -1;
    char *qemu = fd >= 3 && fd <= INT_MAX && argc > 2 ? find_program(argv[2]) : NULL;
    if (qemu)
        wrap((int)fd, qemu, argc - 2, argv + 2);
    if (is_qrap && fd >= 0 && argc > 2 && argv[2][0] != '-') {
        if (fd < 3 || fd > INT_MAX)
            die("Invalid descriptor %s: it must be between 3 and %d", argv[1], INT_MAX);
        die("Couldn't find qemu command %s", argv[2]);
    }
    stand_in(is_qrap ? NULL : own_name, argc, argv);
}
