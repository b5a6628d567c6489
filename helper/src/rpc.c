/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON-RPC 2.0 (https://www.jsonrpc.org/specification), without notifications: a request or a batch in, one reply out,
 * in the same order. What is not exactly that ends this process: a controller that still is what we started never
 * sends it.
 */
#include "rpc.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define BATCH_MAX 128

static char reply[MESSAGE_BYTES_MAX];
static size_t reply_used;

void rpc_start(const struct session *session)
{
    json_start();
    methods_start(session);
}

__attribute__((format(printf, 1, 2))) static void append(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    int length = vsnprintf(reply + reply_used, sizeof(reply) - reply_used, format, args);
    va_end(args);
    if (length < 0 || (size_t)length >= sizeof(reply) - reply_used)
        die("A reply is too long"); /* 128 results of at most 400 bytes are not */
    reply_used += (size_t)length;
}

/* Error texts may hold a path of the user's. */
static void append_escaped(const char *text)
{
    for (const char *c = text; *c; c++) {
        if (*c == '"' || *c == '\\')
            append("\\%c", *c);
        else if ((unsigned char)*c < 0x20 || (unsigned char)*c >= 0x7f)
            append("?");
        else
            append("%c", *c);
    }
}

static void append_outcome(json_int_t id, const struct outcome *o, int *fds, int *fd_count)
{
    append("{\"jsonrpc\":\"2.0\",\"id\":%lld,", (long long)id);
    if (o->code != 0) {
        append("\"error\":{\"code\":%d,\"message\":\"", o->code);
        append_escaped(o->text);
        append("\",\"data\":{\"errno\":%d}}}", o->errnum);
        return;
    }
    if (o->fd >= 0) {
        append("\"result\":{\"fd\":%d%s}}", *fd_count, o->text);
        fds[(*fd_count)++] = o->fd;
    } else {
        append("\"result\":{%s}}", o->text + (*o->text == ','));
    }
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
        die("The controller called %.40s, %s", name, why);
    memset(&params, 0, sizeof(params));
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
    append("[");
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            append(",");
        answer_one(json_array_get(batch, i), fds, fd_count);
    }
    append("]");
}

size_t rpc_answer(const char *request, size_t length, const char **text, int *fds, int *fd_count)
{
    const char *why;
    const json_t *root = json_read(request, length, &why);

    if (!root)
        die("The controller sent malformed JSON: %s", why);
    reply_used = 0;
    *fd_count = 0;
    if (json_is_array(root))
        answer_batch(root, fds, fd_count);
    else
        answer_one(root, fds, fd_count);
    *text = reply;
    return reply_used;
}
