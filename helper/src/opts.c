/* SPDX-License-Identifier: Apache-2.0 */
/* getopt over a generated table, and the answers that end at once. */
#include "opts.h"

#include <getopt.h>

#define OPTIONS_MAX 160
/* getopt values of long options without a short form start here */
#define LONG_ONLY 1000

static const struct early_opt *table;
static struct option long_options[OPTIONS_MAX];
static char short_options[2 * OPTIONS_MAX + 2];

void opts_start(const struct early_opt *rows, bool permute)
{
    size_t used = 0;

    table = rows;
    /* '+': the first argument that is not an option ends the options; what follows belongs to COMMAND */
    if (!permute)
        short_options[used++] = '+';
    for (size_t i = 0; rows[i].name; i++) {
        const struct early_opt *opt = &rows[i];

        if (i + 1 >= OPTIONS_MAX)
            die("The option table has more than %d rows", OPTIONS_MAX - 1);
        long_options[i].name = opt->name;
        long_options[i].has_arg = opt->has_arg;
        long_options[i].val = opt->short_name ? opt->short_name : LONG_ONLY + (int)i;
        if (opt->short_name) {
            short_options[used++] = (char)opt->short_name;
            if (opt->has_arg)
                short_options[used++] = ':';
        }
    }
}

static enum early_id id_of(int value)
{
    if (value >= LONG_ONLY)
        return table[value - LONG_ONLY].id;
    for (const struct early_opt *opt = table; opt->name; opt++)
        if (opt->short_name == value)
            return opt->id;
    return EARLY_OTHER;
}

enum opts_result opts_next(int argc, char *const *argv, enum early_id *id)
{
    int value = getopt_long(argc, argv, short_options, long_options, NULL);

    if (value == -1)
        return OPTS_END;
    if (value == '?')
        return OPTS_UNKNOWN;
    *id = id_of(value);
    return OPTS_OPTION;
}

void write_all(int fd, const char *text)
{
    for (size_t left = strlen(text); left > 0;) {
        ssize_t n = write(fd, text, left);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            _exit(1);
        text += n;
        left -= (size_t)n;
    }
}

_Noreturn void answer(const char *text)
{
    write_all(STDOUT_FILENO, text);
    _exit(0);
}
