/* SPDX-License-Identifier: Apache-2.0 */
/* Giving up what is not needed any more. Every step is one way. */
#include "helper.h"

#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>

#include "filters.h"

#define LOW_PORTS (1u << CAP_NET_BIND_SERVICE)

const char *audit_text(bool json)
{
    return json ? AUDIT_JSON : AUDIT_TEXT;
}

void no_new_privileges(void)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        die_errno("Can't set no_new_privs");
}

static void read_capabilities(struct __user_cap_data_struct *data)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};

    /* #syscalls:setup capget — whether low ports are ours to open */
    if (syscall(SYS_capget, &header, data) != 0)
        die_errno("Can't read capabilities");
}

/* No other than these, and these only as far as we have them. */
static void retain_capabilities(uint32_t low)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct had[_LINUX_CAPABILITY_U32S_3], kept[_LINUX_CAPABILITY_U32S_3] = {0};

    read_capabilities(had);
    kept[0].effective = kept[0].permitted = had[0].permitted & low;
    /* #syscalls:setup capset — drops capabilities */
    if (syscall(SYS_capset, &header, kept) != 0)
        die_errno("Can't drop capabilities");
}

bool holds_capability(unsigned capability)
{
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

    read_capabilities(data);
    return data[0].effective & (1u << capability);
}

bool holds_low_ports(void)
{
    return holds_capability(CAP_NET_BIND_SERVICE);
}

void raise_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

    read_capabilities(data);
    for (size_t i = 0; i < ARRAY_SIZE(data); i++)
        data[i].effective = data[i].permitted, data[i].inheritable = 0;
    if (syscall(SYS_capset, &header, data) != 0)
        die_errno("Can't keep capabilities");
}

void raise_low_ports(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

    read_capabilities(data);
    data[0].effective |= data[0].permitted & LOW_PORTS;
    if (syscall(SYS_capset, &header, data) != 0)
        die_errno("Can't take up the capability for low ports");
}

void keep_low_ports_only(void)
{
    retain_capabilities(LOW_PORTS);
}

/*
 * Every capability, but for that of low ports where listening goes on, in every set. The bounding set can only be emptied by who has CAP_SETPCAP (anybody who has just
 * made or joined a user namespace does); an empty permitted set and no_new_privs make it of no use otherwise.
 */
void drop_capabilities(bool keep_low_ports)
{
    /* #syscalls:setup prctl(PR_CAPBSET_DROP, *, 0, 0, 0) — empties the bounding set */
    for (unsigned long cap = 0; prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0; cap++) {
    }
    /* #syscalls:setup prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) — and the ambient set */
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    retain_capabilities(keep_low_ports ? LOW_PORTS : 0);
}

/*
 * An empty read-only root, in a mount namespace of our own. An ordinary user needs a user namespace for that, and is
 * left without IDs in it, which is as well; where there is none to be had, or the root is an initramfs (which cannot
 * be left), the view stays as it is, and the filter, which has no call that takes a new path, holds alone. So it does
 * where that user namespace would cost what we need: the capability for low ports of the host, or the IDs of clients.
 */
void enter_empty_root(bool keep_ids)
{
    /* #syscalls:setup unshare(CLONE_NEWNS|CLONE_NEWUSER+CLONE_NEWNS) — our own view of mounts */
    if (unshare(CLONE_NEWNS) != 0 && (keep_ids || unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0))
        return;
    /* #syscalls:setup mount(0, *, 0, MS_REC+MS_PRIVATE, 0) — changes stay ours */
    /* #syscalls:setup mount(*, *, *, MS_RDONLY+MS_NOSUID+MS_NODEV+MS_NOEXEC, *) — an empty root */
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", "/proc", "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "nr_inodes=2,size=4k") != 0)
        return;
    /* #syscalls:setup chdir — into it */
    if (chdir("/proc") != 0)
        return;
    /* Puts the old root on top of the new one: pivot_root(2), "pivot_root(".", ".")". */
    /* #syscalls:setup pivot_root — into it */
    if (syscall(SYS_pivot_root, ".", ".") != 0)
        return;
    /* #syscalls:setup umount2(*, MNT_DETACH) — the old root */
    if (umount2(".", MNT_DETACH) != 0 || chdir("/") != 0)
        die_errno("Can't leave the old root");
}

void seal_freeze(void *memory, size_t bytes)
{
    /* #syscalls:setup mprotect(*, *, PROT_READ) — the floor becomes read-only */
    if (mprotect(memory, bytes, PROT_READ) != 0)
        die_errno("Can't make the frozen settings read-only");
}

void seal_install(enum profile profile)
{
    static const struct { const struct sock_filter *code; size_t count; } FILTERS[] = {
        [PROFILE_SETUP] = {FILTER_SETUP, ARRAY_SIZE(FILTER_SETUP)},
        [PROFILE_SANDBOX] = {FILTER_SANDBOX, ARRAY_SIZE(FILTER_SANDBOX)},
        [PROFILE_HOST] = {FILTER_HOST, ARRAY_SIZE(FILTER_HOST)},
        [PROFILE_NETNS] = {FILTER_NETNS, ARRAY_SIZE(FILTER_NETNS)},
        [PROFILE_RESOLVER] = {FILTER_RESOLVER, ARRAY_SIZE(FILTER_RESOLVER)},
    };
    struct sock_fprog program = {
        .len = (unsigned short)FILTERS[profile].count,
        .filter = (struct sock_filter *)(uintptr_t)FILTERS[profile].code,
    };

    /* #syscalls:setup seccomp(SECCOMP_SET_MODE_FILTER, 0, *) — the final filter */
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0UL, &program) != 0)
        die_errno("Can't install the system call filter");
}
