/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long a tool needs until its interface is in the namespace.
 *
 *   until-tap PID COMMAND...    {"ms"}: from before COMMAND is executed until the namespace of process PID, which has a
 *                               loopback interface alone, hears of a new interface; waits for COMMAND no longer than that
 *
 * Runs as the user to whom the user namespace of PID belongs.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../support/tool.h"

enum { PATIENCE_S = 10 };

static void enter(const char *pid, const char *which)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%s/ns/%s", pid, which);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, 0))
		fail(path);
	close(fd);
}

/* rtnetlink(7): whoever is a member of RTMGRP_LINK hears of every interface of its namespace. */
static int listener(void)
{
	struct sockaddr_nl self = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK };
	struct timeval patience = { PATIENCE_S, 0 };
	int s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (s < 0 || bind(s, (struct sockaddr *)&self, sizeof(self)) ||
	    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)))
		fail("netlink");
	return s;
}

/* Whether the message tells of an interface that is not the loopback one, which has index 1. */
static int tells_of_tap(struct nlmsghdr *h, ssize_t length)
{
	for (; NLMSG_OK(h, (size_t)length); h = NLMSG_NEXT(h, length)) {
		struct ifinfomsg *link = NLMSG_DATA(h);

		if (h->nlmsg_type == RTM_NEWLINK && link->ifi_index != 1)
			return 1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	static _Alignas(struct nlmsghdr) char message[16384];
	int go[2], s, null = open("/dev/null", O_RDWR | O_CLOEXEC);
	double start;
	ssize_t n;

	if (argc < 3 || pipe2(go, O_CLOEXEC))
		return 2;
	/* The tool starts outside, so it is forked off before we enter. */
	if (fork() == 0) {
		char byte;

		close(go[1]);
		if (read(go[0], &byte, 1) != 1)
			_exit(1);
		dup2(null, 1);
		dup2(null, 9); /* for those that tell there when they are ready */
		execvp(argv[2], argv + 2);
		_exit(127);
	}
	enter(argv[1], "user");
	enter(argv[1], "net");
	s = listener();
	start = now_ms();
	if (write(go[1], "x", 1) != 1)
		fail("pipe");
	do {
		n = recv(s, message, sizeof(message), 0);
		if (n < 0)
			fail("no interface came");
	} while (!tells_of_tap((struct nlmsghdr *)message, n));
	printf("{\"ms\": %.2f}\n", now_ms() - start);
	return 0;
}
