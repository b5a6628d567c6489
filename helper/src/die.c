/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One clear line, then the end. Nothing here allocates or asks the C library for a locale: it must work under the
 * final filters.
 */
#include "helper.h"

#include <stdarg.h>

static int out = STDERR_FILENO;
static const char *syslog_name; /* NULL: `out` is stderr */
static void (*hook_before_end)(void);

void die_hook(void (*hook)(void))
{
    hook_before_end = hook;
}

void notice_to_syslog(int fd, const char *name)
{
    out = fd;
    syslog_name = name;
}

const char *errno_text(int errnum)
{
    const char *text = strerrordesc_np(errnum);

    return text ? text : "unknown error";
}

static void print_line(int errnum, const char *format, va_list args)
{
    char line[1024];
    int used = 0;

    if (out < 0)
        return;
    if (syslog_name) /* facility daemon (3), severity error (3): RFC 3164 4.1.1 */
        used = snprintf(line, sizeof(line) - 1, "<27>%s: ", syslog_name);
    used += vsnprintf(line + used, sizeof(line) - 1 - (size_t)used, format, args);
    if (used < (int)sizeof(line) - 1 && errnum != 0)
        used += snprintf(line + used, sizeof(line) - 1 - (size_t)used, ": %s", errno_text(errnum));
    if (used > (int)sizeof(line) - 2)
        used = (int)sizeof(line) - 2;
    if (!syslog_name)
        line[used++] = '\n';
    /* #syscalls:setup,host,netns write — the line that says why, the PID file, the byte that tells a waiting process */
    if (write(out, line, (size_t)used) < 0)
        return; /* nobody is there to be told */
}

void notice(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    print_line(0, format, args);
    va_end(args);
}

/* #syscalls:setup,host,netns exit_group — the end */
static _Noreturn void end(void)
{
    if (hook_before_end)
        hook_before_end();
    _exit(1);
}

void die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    print_line(0, format, args);
    va_end(args);
    end();
}

void die_errno(const char *format, ...)
{
    int errnum = errno;
    va_list args;

    va_start(args, format);
    print_line(errnum, format, args);
    va_end(args);
    end();
}
