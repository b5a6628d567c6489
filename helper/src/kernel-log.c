/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which system call a process was killed for. Its parent learns no more than SIGSYS; the number is in an audit record,
 * which the kernel writes to its log where no audit daemon takes it. That log is opened while we still may read it
 * (root, or a system without dmesg_restrict) and read when one of ours has been killed. Its lines are data like any:
 * read one at a time into a buffer of fixed size, taken apart without a copy, and never passed on.
 */
#include "helper.h"

#include <linux/audit.h>
#include <poll.h>
#include <sys/stat.h>

#include "syscalls.h"

/* PRINTK_MESSAGE_MAX of the kernel; a longer record is skipped by it (EINVAL) */
#define RECORD_BYTES_MAX 2048
/* The record is written by a kernel thread, so it may come after the end that it explains. */
#define WAIT_MS 100
/* Inode of the first pid namespace: PROC_PID_INIT_INO of the kernel */
#define FIRST_PID_NAMESPACE 0xeffffffcUL

static int kernel_log = -1;

/* Records name processes by the numbers of the first pid namespace: from inside another one we cannot tell which is ours. */
void kernel_log_open(void)
{
    struct stat namespace;

    if (stat("/proc/self/ns/pid", &namespace) != 0 || namespace.st_ino != FIRST_PID_NAMESPACE)
        return;
    kernel_log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (kernel_log >= 0 && lseek(kernel_log, 0, SEEK_END) < 0) { /* containers have put other things in its place */
        close(kernel_log);
        kernel_log = -1;
    }
}

/* The value of the last " KEY=" in a record: the fields that come after `pid` can hold no blank, one before it can. */
static bool field(const char *record, const char *key, int base, unsigned long *value)
{
    const char *last = NULL;
    char *end;

    for (const char *at = record; (at = strstr(at, key)); at++)
        last = at;
    if (!last)
        return false;
    last += strlen(key);
    errno = 0;
    *value = strtoul(last, &end, base);
    return end != last && errno == 0 && (*end == ' ' || *end == '\0');
}

struct kill_record { unsigned long pid, arch, number; };

/*
 * "PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;TEXT\n KEY=VALUE\n…" (Documentation/ABI/testing/dev-kmsg), with the TEXT
 * "audit: type=1326 audit(…): … pid=N comm=… exe=… sig=31 arch=H syscall=N …". Facility 0 is the kernel's alone.
 */
static bool parse_record(char *record, struct kill_record *kill)
{
    static const char START[] = "audit: type=1326 audit(";
    char *text = strchr(record, ';'), *end;
    unsigned long signum;

    static_assert(AUDIT_SECCOMP == 1326, "the record's type");
    if (strtoul(record, &end, 10) >= 8 || *end != ',' || !text)
        return false;
    text[1 + strcspn(text + 1, "\n")] = '\0';
    return strncmp(text + 1, START, sizeof(START) - 1) == 0 && field(text, " sig=", 10, &signum) && signum == SIGSYS &&
           field(text, " pid=", 10, &kill->pid) && field(text, " arch=", 16, &kill->arch) &&
           field(text, " syscall=", 10, &kill->number);
}

/* The last record about this process since we started. */
static bool find(pid_t pid, struct kill_record *found)
{
    char record[RECORD_BYTES_MAX + 1];
    struct pollfd set = {.fd = kernel_log, .events = POLLIN};
    struct kill_record one;
    bool is_found = false;

    for (int64_t end = now_ms() + WAIT_MS, left = WAIT_MS; left > 0 && kernel_log >= 0; left = end - now_ms()) {
        ssize_t length = read(kernel_log, record, RECORD_BYTES_MAX);

        if (length < 0 && errno == EAGAIN) {
            if (is_found)
                return true;
            wait_for(&set, 1, (int)left);
        } else if (length == 0 || (length < 0 && errno != EPIPE && errno != EINVAL && errno != EINTR)) {
            break; /* EPIPE: older records have been overwritten; the next read goes on after them */
        } else if (length > 0) {
            record[length] = '\0';
            if (parse_record(record, &one) && one.pid == (unsigned long)pid)
                *found = one, is_found = true;
        }
    }
    return is_found;
}

bool kernel_log_describe(const char *who, pid_t pid, char *text, size_t bytes)
{
    struct kill_record kill;
    bool native, named;

    if (!find(pid, &kill)) {
        snprintf(text, bytes, "The %s was killed: a system call is outside its allowlist; the kernel's log has its number "
                 "(type=1326)", who);
        return false;
    }
    native = kill.arch == NATIVE_AUDIT_ARCH;
    named = native && kill.number < ARRAY_SIZE(SYSCALL_NAMES) && *SYSCALL_NAMES[kill.number];
    if (named)
        snprintf(text, bytes, "The %s was killed: system call \"%s\" (%lu) is outside its allowlist", who,
                 SYSCALL_NAMES[kill.number], kill.number);
    else
        snprintf(text, bytes, "The %s was killed: system call %lu%s is outside its allowlist", who, kill.number,
                 native ? "" : " of another architecture");
    return true;
}
