/* SPDX-License-Identifier: Apache-2.0 */
/* Between sock.c (connected flows) and group.c (multicast and broadcast). */
#ifndef PASTICHE_SOCK_H
#define PASTICHE_SOCK_H

#include "helper.h"

union address {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};

const struct outbound *outbound_settings(void);
socklen_t address_fill(union address *to, const struct ip *ip, int family, int port);
int flow_socket(enum flow_protocol protocol, int family);
int socket_enable(int fd, int level, int option);
/* tuple.c: whether a connected UDP socket has these two ends. */
bool tuple_taken(const union address *local, const union address *remote);
/* Hops left and traffic class with each datagram. */
void report_header(int fd, int family);
/* Errors of the path, in the error queue. */
void report_errors(int fd, int family);

#endif
