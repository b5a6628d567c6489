/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One clear line, then the end. Nothing here allocates or asks the C library for a locale: it must work under the
 * final filters.
 */
#include "helper.h"

#include <stdarg.h>
#include <time.h>

#define LINE_BYTES_MAX 1024

static struct {
    int terminal, syslog, file;
    const char *name;
    bool is_ready, is_journal;
    int64_t opened_ms; /* the log file, whose lines begin with a time since then */
} sinks = {.terminal = STDERR_FILENO, .syslog = -1, .file = -1};
static void (*hook_before_end)(void);

void die_hook(void (*hook)(void))
{
    hook_before_end = hook;
}

void notice_to_logs(int syslog, const char *name, bool keep_stderr)
{
    sinks.is_ready = true;
    sinks.name = name;
    sinks.terminal = keep_stderr ? STDERR_FILENO : -1;
    sinks.syslog = keep_stderr ? -1 : syslog;
}

void notice_to_journal(void)
{
    sinks.is_journal = true;
}

void notice_log_file(int fd)
{
    if (sinks.file >= 0)
        close(sinks.file);
    sinks.file = fd;
    sinks.opened_ms = now_ms();
}

int64_t now_ms(void)
{
    struct timespec now;

    /* #syscalls:setup,host,netns clock_gettime(CLOCK_MONOTONIC) — deadlines, where there is no vDSO */
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * (int64_t)1000 + now.tv_nsec / 1000000;
}

const char *errno_text(int errnum)
{
    const char *text = strerrordesc_np(errnum);

    return text ? text : "unknown error";
}

__attribute__((format(printf, 2, 3))) static void print_to(int fd, const char *format, ...)
{
    char line[LINE_BYTES_MAX + 128];
    va_list args;

    if (fd < 0)
        return;
    va_start(args, format);
    int length = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    /* #syscalls:setup,host,netns write — the line that says why, the PID file, the byte that tells a waiting process */
    if (write(fd, line, (size_t)length) < 0)
        return; /* nobody is there to be told */
}

/* RFC 5424 6.2.1 */
enum severity { ERROR = 3, WARNING = 4 };

static void print_line(enum severity severity, int errnum, const char *format, va_list args)
{
    char text[LINE_BYTES_MAX];
    int used = vsnprintf(text, sizeof(text), format, args);

    /* Words of the controller may be in it: no line of theirs, no escape sequence, reaches a log or a terminal. */
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = '?';
    if (errnum != 0 && used < (int)sizeof(text))
        snprintf(text + used, sizeof(text) - (size_t)used, ": %s", errno_text(errnum));
    if (sinks.is_journal)
        print_to(sinks.terminal, "<%d>%s\n", severity, text);
    else
        print_to(sinks.terminal, "%s\n", text);
    /* Facility daemon (3), severity error (3): RFC 3164 4.1.1 */
    print_to(sinks.syslog, "<27>%s: %s", sinks.name, text);
    /* In the form of the controller's lines. Until it is ready, the caller is told on stderr. */
    int64_t ms = now_ms() - sinks.opened_ms;
    if (sinks.is_ready)
        print_to(sinks.file, "%lld.%03d0: ERROR:   %s\n", (long long)(ms / 1000), (int)(ms % 1000), text);
}

void notice(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    print_line(WARNING, 0, format, args);
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
    print_line(ERROR, 0, format, args);
    va_end(args);
    end();
}

void die_errno(const char *format, ...)
{
    int errnum = errno;
    va_list args;

    va_start(args, format);
    print_line(ERROR, errnum, format, args);
    va_end(args);
    end();
}
