/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Strict reading of requests. jansson takes its memory from an arena that is emptied before each message, so that the
 * sealed helper needs no brk() or mmap(), and a message that wants more than the arena is refused like any other.
 */
#include "json.h"

#include <sys/random.h>

#include "helper.h"

/* 64 KiB of "[1,1,1…" take about 2 MiB; untouched pages cost nothing. */
#define ARENA_BYTES (4u << 20)
#define ALIGNMENT 16u
/* A batch of `seal` requests is five deep. */
#define DEPTH_MAX 8

static char arena[ARENA_BYTES] __attribute__((aligned(ALIGNMENT)));
static size_t arena_used;

static void *arena_alloc(size_t bytes)
{
    size_t rounded = (bytes + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);

    if (bytes > ARENA_BYTES || rounded > ARENA_BYTES - arena_used)
        return NULL;
    void *at = arena + arena_used;
    arena_used += rounded;
    return at;
}

static void arena_free(void *at)
{
    (void)at; /* all of it goes at once */
}

void json_start(void)
{
    size_t seed = 1;

    json_set_alloc_funcs(arena_alloc, arena_free);
    /* Now, because jansson would open /dev/urandom at the first object, under the filter. */
    if (getrandom(&seed, sizeof(seed), 0) < 0 || seed == 0)
        seed = 1;
    json_object_seed(seed);
}

/* jansson's own limit is 2048 and fixed; brackets inside strings do not count. */
static bool too_deep(const char *text, size_t length)
{
    int depth = 0;
    bool in_string = false;

    for (size_t i = 0; i < length; i++) {
        char c = text[i];

        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > DEPTH_MAX)
                return true;
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return false;
}

const json_t *json_read(const char *text, size_t length, const char **why)
{
    static json_error_t error;

    *why = "nested too deeply";
    if (too_deep(text, length))
        return NULL;
    arena_used = 0;
    const json_t *root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
    *why = error.text;
    return root;
}

/* A zod string's length: UTF-16 units. jansson has checked that it is UTF-8. */
static size_t utf16_units(const char *text)
{
    size_t units = 0;

    for (const unsigned char *c = (const unsigned char *)text; *c; c++)
        units += (*c & 0xc0) != 0x80 ? (*c >= 0xf0 ? 2 : 1) : 0;
    return units;
}

static bool is_mac(const char *text)
{
    for (int i = 0; i < 17; i++) {
        bool hex = (text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f');

        if (i % 3 == 2 ? text[i] != ':' : !hex)
            return false;
    }
    return text[17] == '\0';
}

/* Printable ASCII, no blank, no slash. */
bool is_ifname_text(const char *text)
{
    for (const char *c = text; *c; c++)
        if (*c < '!' || *c > '~' || *c == '/')
            return false;
    return true;
}

static const char *read_string(const json_t *value, const struct field *field, void *at)
{
    const char *text = json_string_value(value);

    if (!text)
        return "not a string";
    if (!(*text == '\0' && (field->flags & OR_EMPTY))) {
        size_t units = utf16_units(text);

        if (units < (size_t)field->min || units > (size_t)field->max)
            return "a string of the wrong length";
        if (field->text == TEXT_IFNAME && !is_ifname_text(text))
            return "not an interface name";
        if (field->text == TEXT_MAC && !is_mac(text))
            return "not a MAC address";
    }
    *(const char **)at = text;
    return NULL;
}

static const char *read_int(const json_t *value, const struct field *field, void *at)
{
    json_int_t number = json_integer_value(value);

    if (!json_is_integer(value))
        return "not an integer";
    if (number < field->min || number > field->max)
        return "out of range";
    *(int *)at = (int)number;
    return NULL;
}

static const char *read_enum(const json_t *value, const struct field *field, void *at)
{
    const char *text = json_string_value(value);

    for (int i = 0; text && field->names[i]; i++) {
        if (strcmp(text, field->names[i]) == 0) {
            *(int *)at = i;
            return NULL;
        }
    }
    return "not one of the known words";
}

static const char *read_list(const json_t *value, const struct field *field, char *out)
{
    size_t count = json_array_size(value);

    if (!json_is_array(value))
        return "not an array";
    if (count > (size_t)field->max)
        return "too many elements";
    for (size_t i = 0; i < count; i++) {
        const char *why = json_fields(json_array_get(value, i), field->fields, out + field->at + i * field->stride);
        if (why)
            return why;
    }
    *(int *)(void *)(out + field->count_at) = (int)count;
    return NULL;
}

static const char *read_value(const json_t *value, const struct field *field, char *out)
{
    void *at = out + field->at;

    if (json_is_null(value) && (field->flags & NULLABLE))
        return NULL;
    switch (field->type) {
    case FIELD_INT: return read_int(value, field, at);
    case FIELD_BOOL:
        if (!json_is_boolean(value))
            return "not a boolean";
        *(int *)at = json_is_true(value) ? 1 : -1;
        return NULL;
    case FIELD_STRING: return read_string(value, field, at);
    case FIELD_ENUM: return read_enum(value, field, at);
    case FIELD_OBJECT: return json_fields(value, field->fields, out);
    case FIELD_LIST: return read_list(value, field, out);
    case FIELD_END: break;
    }
    return "not in the table";
}

const char *json_fields(const json_t *object, const struct field *fields, void *out)
{
    size_t known = 0;

    if (!json_is_object(object))
        return "not an object";
    for (const struct field *field = fields; field->type != FIELD_END; field++) {
        const json_t *value = json_object_get(object, field->key);
        const char *why = NULL;

        if (value) {
            known++;
            why = read_value(value, field, out);
        } else if (!(field->flags & OPTIONAL)) {
            why = "missing";
        } else if (field->type == FIELD_INT || field->type == FIELD_ENUM) {
            *(int *)(void *)((char *)out + field->at) = field->absent;
        }
        if (why)
            return why;
    }
    return json_object_size(object) == known ? NULL : "has an unknown key";
}
