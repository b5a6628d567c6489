/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qrap: what its files offer each other.
 *
 * Theory of operation. QEMU before 7.2 cannot connect a network card to a UNIX socket, but takes a connected one as a
 * descriptor. qrap connects to a passt that is alive (connect.c), and becomes QEMU. As `qrap FD QEMU ARGUMENT...` it
 * leaves the arguments alone; otherwise it stands in QEMU's place (libvirt's <emulator>): it reads QEMU's command line as
 * QEMU would (words.c, props.c), takes the network out, puts one card on passt's connection in (patch.c, place.c), and
 * looks for the QEMU to run (find.c).
 *
 * It is a program of an ordinary user and has no filter: QEMU would inherit it. Of what it inherits itself, descriptors,
 * environment, signal mask, umask, it changes nothing but the one descriptor.
 */
#ifndef PASTICHE_QRAP_H
#define PASTICHE_QRAP_H

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MAC_BYTES 6

/* main.c: one line on stderr, exit status 1. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* `pointer`, or the end for want of memory. */
void *must(void *pointer);

/* ---- words.c: QEMU's command line as options and their arguments ---- */

struct word {
    const char *option; /* without its dashes; NULL: a disk image */
    const char *value;  /* NULL: it has none */
    int at, count;      /* the words of argv that it takes */
};

/* Fills `words`, which has room for argc, and returns how many there are. argv[0] is not looked at. */
size_t read_words(int argc, char *const *argv, struct word *words);
bool is_option(const struct word *word, const char *name);
/* Whether QEMU would answer and end rather than run a machine: -version, -help, -device help… */
bool is_question(const struct word *word);

/* ---- props.c: "driver,key=value,…" and {"driver": …} alike ---- */

/* Whether the argument is in JSON. */
bool is_json(const char *text);
/* An object, or NULL where QEMU would find no sense in it either. A first part without a key gets `implied`'s. */
json_t *read_props(const char *text, const char *implied);
/* In the form asked for; `implied`'s value comes first. */
char *write_props(const json_t *props, const char *implied, bool json);
/* "" where there is none or it is no string. */
const char *text_of(const json_t *props, const char *key);

/* ---- place.c: where the card goes ---- */

enum board { BOARD_OTHER, BOARD_PC, BOARD_PCIE, BOARD_CCW, BOARD_MMIO };

/* The machine `type`, "" for what `emulator` has as its default. */
enum board board_of(const char *type, const char *emulator);
/*
 * Sets bus and address of `card`, beside `devices` (an array). Nothing, where QEMU had better find a place itself.
 * false: there is none left.
 */
bool place_card(json_t *card, const json_t *devices, enum board board, bool defaults);

/* ---- patch.c ---- */

struct patch {
    char **argv;            /* for QEMU; argv[0] is NULL until it is known */
    bool wants_network;     /* false: argv is as it was */
    bool no_place;          /* for the card */
    uint8_t mac[MAC_BYTES]; /* of the guest's card */
};

/* `emulator`: the name of the QEMU that will run, `fd` where it will find the connection. */
struct patch patch_command_line(int argc, char *const *argv, const char *emulator, int fd);

/* ---- find.c ---- */

/* The absolute path of a program other than ourselves, by PATH unless it has a slash; NULL. */
char *find_program(const char *name);
/* A QEMU for this machine, by the name that we were called as first; NULL. */
char *find_qemu(const char *own_name);

/* ---- connect.c ---- */

/* A connection to a passt that has answered, at the boundary of a frame; `path` may be NULL: whichever is first. */
int connect_to_passt(const char *path, const uint8_t mac[MAC_BYTES]);

#endif
