/* SPDX-License-Identifier: Apache-2.0 */
/* Between rpc.c (envelopes and replies) and methods.c (the table of methods). */
#ifndef PASTICHE_RPC_H
#define PASTICHE_RPC_H

#include "helper.h"
#include "json.h"

#define ERROR_SYSTEM (-32000)
#define ERROR_REFUSED (-32001)

struct deny_entry { const char *address; int prefix; };
struct grant_entry { const char *address; int port, last, prefix, protocol; };
struct window_entry { int protocol, first, last; };
/*
 * What a method's parameters become; only the member of the method at hand is valid. All zero before they are read, but
 * for the lists of `seal`, of whose entries each field is written.
 */
union params {
    int choice;
    const char *name;
    struct { const char *path; int kind; } file;
    struct { const char *name, *mac; int up, mtu, arp; } link;
    struct { const char *name, *destination, *gateway; int prefix, metric; } route;
    struct { const char *address; int protocol, port, source_port, hop_limit; } connect;
    struct { const char *address; int role, port, source_port; } group;
    struct { const char *address, *interface; int protocol, port, freebind; } listen;
    struct {
        const char *address4, *address6, *interface4, *interface6;
        int multicast, freebind, deny_count, grant_count, window_count;
        struct deny_entry deny[DENY_MAX];
        struct grant_entry grant[GRANTS_MAX];
        struct window_entry windows[LISTEN_WINDOWS_MAX];
    } seal;
};
#define PARAMS_ZEROED offsetof(union params, seal.deny)
static_assert(PARAMS_ZEROED >= sizeof(((union params *)0)->route) && PARAMS_ZEROED >= sizeof(((union params *)0)->listen) &&
                  PARAMS_ZEROED >= sizeof(((union params *)0)->link) && PARAMS_ZEROED >= sizeof(((union params *)0)->connect),
              "all members but the lists");

struct outcome {
    int fd;   /* travels with the reply; -1: none */
    int code; /* 0: success */
    int errnum;
    char text[320]; /* of the error; or the result's members beside `fd`, each led by a comma */
};

struct method {
    const char *name;
    unsigned sides, stages;
    const struct field *fields;
    void (*run)(const union params *p, struct outcome *o);
};

void methods_start(const struct session *initial);
/* NULL: there is no such method on this side, or not in this stage; *why says which. */
const struct method *method_find(const char *name, const char **why);

#endif
