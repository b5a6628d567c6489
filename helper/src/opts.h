/* SPDX-License-Identifier: Apache-2.0 */
/* opts.c: getopt over the generated tables. */
#ifndef PASTICHE_OPTS_H
#define PASTICHE_OPTS_H

#include "helper.h"
#include "options.h"

/* `permute`: options may follow arguments. argv[0] begins getopt's messages. */
void opts_start(const struct early_opt *rows, bool permute);
enum opts_result { OPTS_END, OPTS_OPTION, OPTS_UNKNOWN };
/* The next option, its argument in getopt's `optarg`; at the end `optind` is the first argument. Of what is unknown, getopt has said so. */
enum opts_result opts_next(int argc, char *const *argv, enum early_id *id);

void write_all(int fd, const char *text);
_Noreturn void answer(const char *text);

#endif
