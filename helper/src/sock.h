/* SPDX-License-Identifier: Apache-2.0 */
/* Between sock.c (connected flows), listen.c (sockets that listen) and group.c (multicast and broadcast). */
#ifndef PASTICHE_SOCK_H
#define PASTICHE_SOCK_H

#include "helper.h"

#include <netinet/udp.h>

/* uapi/linux/udp.h, kernel 5.0 */
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

union address {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};

const struct outbound *outbound_settings(void);
socklen_t address_fill(union address *to, const struct ip *ip, int family, int port);
int flow_socket(enum flow_protocol protocol, int family);
int socket_enable(int fd, int level, int option);
/* "": any */
int socket_bind_interface(int fd, const char *name);
/* With the sockets of our own user. */
int socket_share(int fd);
int socket_connect(int fd, const union address *peer);
/* hairpin.c: to one of our own UDP listeners. */
int hairpin_connect(int fd, const union address *peer);
/* Header, errors, several datagrams in one read: what a connected UDP socket reports. */
void report_metadata(int fd, enum flow_protocol protocol, int family);
/* tuple.c: whether a connected UDP socket has these two ends. interface 0: sockets that are bound to none. */
bool tuple_taken(const union address *local, const union address *remote, unsigned interface);
/* Hops left and traffic class with each datagram. */
void report_header(int fd, int family);
/* Errors of the path, in the error queue. */
void report_errors(int fd, int family);

#endif
