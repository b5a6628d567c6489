/* SPDX-License-Identifier: Apache-2.0 */
/* The QEMU to run: never ourselves, who may be linked under its name. */
#include "qrap.h"

#include <sys/stat.h>
#include <sys/utsname.h>

#define USUAL_PATH "/usr/local/bin:/usr/bin:/bin"

/* By inode: a hard link or another name of ours is ours. */
static bool is_self(const struct stat *status)
{
    struct stat own;

    return stat("/proc/self/exe", &own) == 0 && own.st_dev == status->st_dev && own.st_ino == status->st_ino;
}

static char *if_program(const char *path)
{
    struct stat status;

    if (stat(path, &status) != 0 || !S_ISREG(status.st_mode) || access(path, X_OK) != 0 || is_self(&status))
        return NULL;
    return must(strdup(path));
}

char *find_program(const char *name)
{
    const char *path = getenv("PATH");
    char candidate[PATH_MAX];

    if (*name == '\0')
        return NULL;
    if (strchr(name, '/'))
        return if_program(name);
    for (const char *at = path ? path : USUAL_PATH; at;) {
        int length = (int)strcspn(at, ":");
        /* An empty part is the current directory. */
        int written = snprintf(candidate, sizeof(candidate), "%.*s%s%s", length, at, length > 0 ? "/" : "./", name);

        if (written > 0 && (size_t)written < sizeof(candidate)) {
            char *found = if_program(candidate);

            if (found)
                return found;
        }
        at = at[length] == ':' ? at + length + 1 : NULL;
    }
    return NULL;
}

/* As QEMU calls the architecture that uname(2) names. */
static const char *architecture(const char *machine)
{
    static const struct {
        const char *machine, *name;
    } OTHERS[] = {{"i486", "i386"}, {"i586", "i386"}, {"i686", "i386"}, {"armv6l", "arm"}, {"armv7l", "arm"}, {"ppc64le", "ppc64"}};

    for (size_t i = 0; i < ARRAY_SIZE(OTHERS); i++)
        if (strcmp(machine, OTHERS[i].machine) == 0)
            return OTHERS[i].name;
    return machine;
}

char *find_qemu(const char *own_name)
{
    struct utsname system;
    char emulator[sizeof(system.machine) + 16];

    if (uname(&system) != 0)
        die("Couldn't find out the architecture: %s", strerror(errno));
    snprintf(emulator, sizeof(emulator), "qemu-system-%s", architecture(system.machine));
    const char *const names[] = {own_name, "kvm", "qemu-kvm", emulator, "/usr/libexec/qemu-kvm"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        char *found = names[i] ? find_program(names[i]) : NULL;

        if (found)
            return found;
    }
    return NULL;
}
