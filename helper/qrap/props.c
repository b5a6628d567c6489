/* SPDX-License-Identifier: Apache-2.0 */
/* Properties: a JSON object inside, whichever form they come in and leave in. */
#include "qrap.h"

/* What is a number or a truth value for QEMU; in JSON it insists on the type. */
static const char *const NUMBERS[] = {"acpi-index", "bootindex", "host_mtu", "x-txburst"};
static const char *const TRUTHS[] = {"multifunction"};

bool is_json(const char *text)
{
    return text[strspn(text, " \t\r\n")] == '{';
}

/* Up to the next comma that stands alone; two stand for one. Returns where the next part begins, NULL at the end. */
static const char *read_part(const char *at, char *part)
{
    for (; *at; at++) {
        if (*at == ',' && *++at != ',') {
            *part = '\0';
            return at;
        }
        *part++ = *at;
    }
    *part = '\0';
    return NULL;
}

static json_t *read_plain(const char *text, const char *implied)
{
    json_t *props = must(json_object());
    char *part = must(malloc(strlen(text) + 1));

    for (const char *at = text, *next; at; at = next) {
        next = read_part(at, part);
        char *equals = strchr(part, '=');
        const char *key = part, *value = "on"; /* what a key alone says */

        if (equals) {
            *equals = '\0';
            value = equals + 1;
        } else if (at == text) {
            key = implied;
            value = part;
        }
        /* Of what is not UTF-8 nothing here takes notice. */
        if (*key != '\0')
            json_object_set_new(props, key, json_string(value));
    }
    free(part);
    return props;
}

json_t *read_props(const char *text, const char *implied)
{
    if (!is_json(text))
        return read_plain(text, implied);
    json_t *props = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(props)) {
        json_decref(props);
        return NULL;
    }
    return props;
}

const char *text_of(const json_t *props, const char *key)
{
    const char *text = json_string_value(json_object_get(props, key));

    return text ? text : "";
}

static bool listed(const char *key, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(key, list[i]) == 0)
            return true;
    return false;
}

/* A text of the plain form with the type that JSON wants. */
static json_t *typed(const char *key, json_t *value)
{
    const char *text = json_string_value(value);

    if (text && listed(key, NUMBERS, ARRAY_SIZE(NUMBERS)))
        return json_integer(strtoll(text, NULL, 0));
    if (text && listed(key, TRUTHS, ARRAY_SIZE(TRUTHS)))
        return json_boolean(strcmp(text, "on") == 0);
    return json_incref(value);
}

static void write_plain(FILE *out, const char *key, const json_t *value)
{
    if (key)
        fprintf(out, "%s=", key);
    if (json_is_integer(value))
        fprintf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_boolean(value))
        fputs(json_is_true(value) ? "on" : "off", out);
    for (const char *c = json_is_string(value) ? json_string_value(value) : ""; *c; c++)
        fputs((char[]){*c, *c == ',' ? ',' : '\0', '\0'}, out);
}

char *write_props(const json_t *props, const char *implied, bool json)
{
    const char *key;
    json_t *value;
    char *text = NULL;
    size_t size = 0;

    if (json) {
        json_t *copy = must(json_object());

        json_object_foreach((json_t *)(uintptr_t)props, key, value)
            json_object_set_new(copy, key, typed(key, value));
        text = must(json_dumps(copy, JSON_COMPACT));
        json_decref(copy);
        return text;
    }
    FILE *out = must(open_memstream(&text, &size));
    write_plain(out, NULL, json_object_get(props, implied));
    json_object_foreach((json_t *)(uintptr_t)props, key, value) {
        if (strcmp(key, implied) == 0)
            continue;
        fputc(',', out);
        write_plain(out, key, value);
    }
    if (fclose(out) != 0)
        die("Out of memory");
    return text;
}
