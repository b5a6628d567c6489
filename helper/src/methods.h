/* SPDX-License-Identifier: Apache-2.0 */
/* Between the table of methods and what they do. */
#ifndef PASTICHE_METHODS_H
#define PASTICHE_METHODS_H

#include "rpc.h"

enum file_kind { FILE_LOG, FILE_PCAP };
/* Words of the parameters, for messages, too. */
extern const char *const NETLINK_PROTOCOLS[];
extern const char *const UNIX_KINDS[];

/* Whether this side answers it in this stage. */
bool method_is_for_now(const struct method *method);

void run_hello(const union params *p, struct outcome *o);
void run_netlink_open(const union params *p, struct outcome *o);
void run_file_open(const union params *p, struct outcome *o);
void run_file_create(const union params *p, struct outcome *o);
void run_syslog_open(const union params *p, struct outcome *o);
void run_resolver_open(const union params *p, struct outcome *o);
void run_tap_open(const union params *p, struct outcome *o);
void run_link_set(const union params *p, struct outcome *o);
void run_address_add(const union params *p, struct outcome *o);
void run_route_add(const union params *p, struct outcome *o);
void run_socket_connect(const union params *p, struct outcome *o);
void run_socket_multicast(const union params *p, struct outcome *o);
void run_socket_listen(const union params *p, struct outcome *o);
void run_socket_answer(const union params *p, struct outcome *o);
void run_socket_unlisten(const union params *p, struct outcome *o);
void run_seal(const union params *p, struct outcome *o);
void run_unix_listen(const union params *p, struct outcome *o);
void run_unix_accept(const union params *p, struct outcome *o);
void run_guest_open(const union params *p, struct outcome *o);
void run_guest_accept(const union params *p, struct outcome *o);
void run_ready(const union params *p, struct outcome *o);
void run_command_start(const union params *p, struct outcome *o);

#endif
