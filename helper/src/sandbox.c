/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slirp4netns --enable-sandbox: the process that was launched sees /etc and /run, read-only, and nothing else, and has the capability
 * for low ports, and no other. Callers look at it from outside. Its filters allow it no file, with the option or without.
 */
#include "helper.h"

#include <linux/capability.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define LOCKED (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)

/*
 * Who may not mount does so in a user namespace of its own. (The original joins the guest's: where the guest's root has power over
 * what is in it.) The IDs are the same on both sides of it.
 */
void sandbox_prepare(void)
{
    const unsigned uid = geteuid(), gid = getegid();
    char map[64];

    if (holds_capability(CAP_SYS_ADMIN))
        return;
    if (unshare(CLONE_NEWUSER) != 0)
        die_errno("Can't make a user namespace for the sandbox");
    snprintf(map, sizeof(map), "%u %u 1\n", uid, uid);
    write_setting("/proc/self/uid_map", map, true);
    write_setting("/proc/self/setgroups", "deny", true);
    snprintf(map, sizeof(map), "%u %u 1\n", gid, gid);
    write_setting("/proc/self/gid_map", map, true);
    stay_with_caller();
}

/* With what is mounted below it: a remount is of one mount only. Linux before 5.12 has nothing else. */
static bool lock_tree(const char *name)
{
    struct mount_attr locked = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC};

    /* #syscalls:sandbox mount_setattr(AT_FDCWD, *, AT_RECURSIVE) — --enable-sandbox: read-only */
    if (mount_setattr(AT_FDCWD, name, AT_RECURSIVE, &locked, sizeof(locked)) == 0)
        return true;
    return errno == ENOSYS && mount(NULL, name, NULL, MS_BIND | MS_REMOUNT | LOCKED, NULL) == 0;
}

static bool bind_directory(const char *path)
{
    const char *name = path + 1; /* below the new root, where we are */

    /* #syscalls:sandbox mkdirat|mkdir — --enable-sandbox: where /etc and /run are seen */
    /* #syscalls:sandbox mount(*, *, 0, MS_BIND+MS_REC, 0) — --enable-sandbox: /etc and /run, with what is mounted below them */
    /* #syscalls:sandbox mount(0, *, 0, MS_BIND+MS_REMOUNT+MS_RDONLY+MS_NOSUID+MS_NODEV+MS_NOEXEC, 0) — read-only */
    return mkdirat(AT_FDCWD, name, 0755) == 0 && mount(path, name, NULL, MS_BIND | MS_REC, NULL) == 0 &&
           lock_tree(name);
}

void sandbox_enter(void)
{
    /* #syscalls:sandbox mount(*, *, *, MS_NOSUID+MS_NODEV+MS_NOEXEC, *) — --enable-sandbox: a root to put them in */
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", "/proc", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "nr_inodes=4,size=16k,mode=755") != 0 || chdir("/proc") != 0)
        die_errno("Can't make the sandbox");
    if (!bind_directory("/etc") || !bind_directory("/run"))
        die_errno("Can't show /etc and /run in the sandbox");
    if (syscall(SYS_pivot_root, ".", ".") != 0 || umount2(".", MNT_DETACH) != 0 || chdir("/") != 0)
        die_errno("Can't enter the sandbox");
    if (mount(NULL, "/", NULL, MS_BIND | MS_REMOUNT | LOCKED, NULL) != 0)
        die_errno("Can't make the sandbox read-only");
}
