/* SPDX-License-Identifier: Apache-2.0 */
/* Strict reading of requests: JSON into C structures, driven by tables that mirror the schemas of shared/rpc/methods.ts. */
#ifndef PASTICHE_JSON_H
#define PASTICHE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum field_type {
    FIELD_END,    /* closes a table */
    FIELD_INT,    /* int, min to max */
    FIELD_BOOL,   /* int: 1 true, -1 false, left alone (0) when absent */
    FIELD_STRING, /* const char *, min to max UTF-16 units as JavaScript counts; NULL when absent or null */
    FIELD_ENUM,   /* int: index into names */
    FIELD_OBJECT, /* fields, relative to the same structure */
    FIELD_LIST,   /* up to max objects of `stride` bytes; int count at count_at */
};
enum field_flags { OPTIONAL = 1, NULLABLE = 2, OR_EMPTY = 4 };
enum text_kind { TEXT_ANY, TEXT_IFNAME, TEXT_MAC };

struct field {
    const char *key;
    enum field_type type;
    unsigned flags;
    int min, max;
    enum text_kind text;
    const char *const *names; /* ends with NULL */
    const struct field *fields;
    int absent; /* an optional FIELD_INT's or FIELD_ENUM's value where the key is not there */
    size_t at, count_at, stride;
};

void json_start(void);
/* NULL: *why says what is wrong. Valid until the next call; nothing needs to be freed. */
const json_t *json_read(const char *text, size_t length, const char **why);
/* NULL, or why the schema refuses the object. */
const char *json_fields(const json_t *object, const struct field *fields, void *out);

#endif
