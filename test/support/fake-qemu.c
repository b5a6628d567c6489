/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stands for QEMU in the tests of qrap: prints, as one line of JSON, what it was started with. Of each descriptor: the type
 * of a socket (0: none), whether it blocks, and how many bytes wait there.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tool.h"

static void print_text(const char *text)
{
	putchar('"');
	for (; *text; text++)
		printf(*text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
	putchar('"');
}

static void print_descriptor(int fd)
{
	int type = 0, waiting = 0;
	socklen_t length = sizeof(type);

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) != 0)
		type = 0;
	ioctl(fd, FIONREAD, &waiting);
	printf("\"%d\":{\"socket\":%d,\"blocks\":%s,\"waiting\":%d}", fd, type, fcntl(fd, F_GETFL) & O_NONBLOCK ? "false" : "true", waiting);
}

int main(int argc, char **argv)
{
	sigset_t blocked;
	struct sigaction action;
	mode_t mask = umask(0);
	DIR *directory = opendir("/proc/self/fd");
	const char *separator = "";

	printf("{\"argv\":[");
	for (int i = 0; i < argc; i++) {
		printf("%s", i ? "," : "");
		print_text(argv[i]);
	}
	printf("],\"umask\":%u,\"blocked\":[", (unsigned)mask);
	sigprocmask(SIG_BLOCK, NULL, &blocked);
	for (int signal = 1; signal < NSIG; signal++)
		if (sigismember(&blocked, signal) == 1) {
			printf("%s%d", separator, signal);
			separator = ",";
		}
	sigaction(SIGPIPE, NULL, &action);
	printf("],\"pipeIgnored\":%s,\"descriptors\":{", action.sa_handler == SIG_IGN ? "true" : "false");
	separator = "";
	for (struct dirent *entry; directory && (entry = readdir(directory));) {
		if (entry->d_name[0] == '.' || atoi(entry->d_name) == dirfd(directory))
			continue;
		printf("%s", separator);
		print_descriptor(atoi(entry->d_name));
		separator = ",";
	}
	puts("}}");
	return 0;
}
