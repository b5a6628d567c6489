/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON-RPC 2.0 (https://www.jsonrpc.org/specification), without notifications: a request or a batch in, one reply out,
 * in the same order. What is not exactly that ends this process: a controller that still is what we started never
 * sends it.
 */
#include "rpc.h"

#define BATCH_MAX 128

static char reply[MESSAGE_BYTES_MAX];
static size_t reply_used;

void rpc_start(const struct session *session)
{
    json_start();
    methods_start(session);
}

/* By hand: a batch of connects is answered in microseconds, of which printf() would be a tenth. */
static void append(const char *text, size_t length)
{
    if (length > sizeof(reply) - reply_used)
        die("A reply is too long"); /* 128 results of at most 400 bytes are not */
    memcpy(reply + reply_used, text, length);
    reply_used += length;
}

#define APPEND(literal) append(literal, sizeof(literal) - 1)

static void append_int(long long value)
{
    char digits[24];
    size_t at = sizeof(digits);
    unsigned long long rest = value < 0 ? 0ULL - (unsigned long long)value : (unsigned long long)value;

    do
        digits[--at] = (char)('0' + rest % 10);
    while ((rest /= 10) != 0);
    if (value < 0)
        digits[--at] = '-';
    append(digits + at, sizeof(digits) - at);
}

/* Error texts may hold a path of the user's. */
static void append_escaped(const char *text)
{
    for (const char *c = text; *c; c++) {
        if (*c == '"' || *c == '\\')
            APPEND("\\");
        append((unsigned char)*c < 0x20 || (unsigned char)*c >= 0x7f ? "?" : c, 1);
    }
}

static void append_outcome(json_int_t id, const struct outcome *o, int *fds, int *fd_count)
{
    APPEND("{\"jsonrpc\":\"2.0\",\"id\":");
    append_int(id);
    if (o->code != 0) {
        APPEND(",\"error\":{\"code\":");
        append_int(o->code);
        APPEND(",\"message\":\"");
        append_escaped(o->text);
        APPEND("\",\"data\":{\"errno\":");
        append_int(o->errnum);
        APPEND("}}}");
        return;
    }
    APPEND(",\"result\":{");
    if (o->fd >= 0) {
        APPEND("\"fd\":");
        append_int(*fd_count);
        fds[(*fd_count)++] = o->fd;
        append(o->text, strlen(o->text));
    } else {
        append(o->text + (*o->text == ','), strlen(o->text + (*o->text == ',')));
    }
    APPEND("}}");
}

/* Words of the controller's in our last line: none of them is a line, or an escape sequence, of its own. */
static const char *printable(const char *text)
{
    static char copy[256];

    snprintf(copy, sizeof(copy), "%s", text);
    for (char *c = copy; *c; c++)
        if ((unsigned char)*c < 0x20 || (unsigned char)*c >= 0x7f)
            *c = '?';
    return copy;
}

static void answer_one(const json_t *request, int *fds, int *fd_count)
{
    static union params params; /* static: `seal` makes it large */
    const json_t *id = json_object_get(request, "id");
    const char *version = json_string_value(json_object_get(request, "jsonrpc"));
    const char *name = json_string_value(json_object_get(request, "method"));
    const char *why = NULL;
    struct outcome outcome = {.fd = -1};

    if (json_object_size(request) != 4 || !version || strcmp(version, "2.0") != 0 || !name || !json_is_integer(id))
        die("The controller sent something that is not a JSON-RPC request");
    const struct method *method = method_find(name, &why);
    if (!method)
        die("The controller called %.40s, %s", printable(name), why);
    memset(&params, 0, PARAMS_ZEROED);
    why = json_fields(json_object_get(request, "params"), method->fields, &params);
    if (why)
        die("The controller called %s with parameters that its schema refuses: %s", method->name, why);
    method->run(&params, &outcome);
    append_outcome(json_integer_value(id), &outcome, fds, fd_count);
}

static void answer_batch(const json_t *batch, int *fds, int *fd_count)
{
    size_t count = json_array_size(batch);

    if (count < 1 || count > BATCH_MAX)
        die("The controller sent a batch of %zu requests", count);
    APPEND("[");
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            APPEND(",");
        answer_one(json_array_get(batch, i), fds, fd_count);
    }
    APPEND("]");
}

size_t rpc_answer(const char *request, size_t length, const char **text, int *fds, int *fd_count)
{
    const char *why;
    const json_t *root = json_read(request, length, &why);

    if (!root)
        die("The controller sent malformed JSON: %s", printable(why));
    reply_used = 0;
    *fd_count = 0;
    own_forget();
    if (json_is_array(root))
        answer_batch(root, fds, fd_count);
    else
        answer_one(root, fds, fd_count);
    *text = reply;
    return reply_used;
}
