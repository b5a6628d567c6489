/* SPDX-License-Identifier: Apache-2.0 */
/*
 * First process of a virtual machine of the lab: makes the root file system usable, loads the modules, and then runs what
 * test/support/vm.mjs asks for over a virtio-serial port.
 *
 * To the guest, any number at once:   ID LIMIT_MS LENGTH\n and LENGTH octets for `sh -c`
 * From the guest:                     ready BOOT_ID\n once after each start
 *                                     ID STATUS STDOUT STDERR\n, both in base64 ("-": nothing), when the shell has ended
 *
 * STATUS is the exit status, 128 + the signal's number, or 124 when the limit was over (all of the command's process group
 * is killed then). Output goes to files, not pipes: what a command leaves running in the background delays no answer.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PORT "/dev/vport0p1"
#define MODULES "/modules/order"
#define ENVIRONMENT_PATH "/bin:/sbin"

enum {
	COMMANDS_MAX = 64,
	LENGTH_MAX = 0x1ffff,
	OUTPUT_MAX = 8 << 20,
	HEAD_MAX = 96,
	PORT_WAIT_MS = 10000,
	STATUS_TIMED_OUT = 124,
	STATUS_SIGNAL = 128,
};

/* id: 0 for a free row. Times in milliseconds since the guest's start. */
struct command {
	uint64_t id;
	pid_t pid;
	int64_t deadline;
	bool late;
	int out, err;
};

static struct command commands[COMMANDS_MAX];
static int port;

static __attribute__((noreturn, format(printf, 1, 2))) void fail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fprintf(stderr, ": %s\n", strerror(errno));
	fflush(stderr);
	exit(1); /* of the first process: the kernel panics, and says so on the console */
}

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

static void mount_one(const char *type, const char *at)
{
	mkdir(at, 0755);
	if (mount(type, at, type, 0, NULL) < 0)
		fail("mount %s", at);
}

static void load_modules(void)
{
	char name[256];
	FILE *order = fopen(MODULES, "re");

	if (!order)
		fail(MODULES);
	while (fgets(name, sizeof(name), order)) {
		int fd;

		name[strcspn(name, "\n")] = '\0';
		fd = open(name, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) < 0)
			fail("module %s", name);
		close(fd);
	}
	fclose(order);
}

/* Runs one program to its end. */
static void run(const char *const argv[])
{
	int status = -1;
	pid_t pid = fork();

	if (pid < 0)
		fail("fork");
	if (pid == 0) {
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	if (waitpid(pid, &status, 0) < 0 || status != 0)
		fail("%s ended with status %d", argv[0], status);
}

static void start(void)
{
	struct stat st;

	mount_one("proc", "/proc");
	mount_one("sysfs", "/sys");
	mount_one("devtmpfs", "/dev");
	mount_one("tmpfs", "/tmp");
	mount_one("tmpfs", "/run");
	symlink("/proc/self/fd", "/dev/fd");
	load_modules();
	setenv("PATH", ENVIRONMENT_PATH, 1);
	setenv("HOME", "/tmp", 1);
	run((const char *const[]){ "/bin/busybox", "--install", "-s", "/bin", NULL });
	run((const char *const[]){ "ip", "link", "set", "lo", "up", NULL });
	for (int64_t end = now() + PORT_WAIT_MS; stat(PORT, &st) < 0; usleep(5000))
		if (now() > end)
			fail(PORT);
	port = open(PORT, O_RDWR | O_CLOEXEC);
	if (port < 0)
		fail(PORT);
}

static void say(const char *data, size_t length)
{
	while (length > 0) {
		ssize_t n = write(port, data, length);

		if (n < 0 && errno != EINTR && errno != EAGAIN)
			fail("write");
		if (n > 0) {
			data += n;
			length -= (size_t)n;
		}
	}
}

static void read_all(char *to, size_t length)
{
	while (length > 0) {
		ssize_t n = read(port, to, length);

		if (n < 0 && errno != EINTR && errno != EAGAIN)
			fail("read");
		if (n == 0)
			usleep(10000); /* nobody has the other end open */
		if (n > 0) {
			to += n;
			length -= (size_t)n;
		}
	}
}

/* A space and the file's content in base64. */
static void say_file(int fd)
{
	static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	struct stat st;
	size_t length, used = 0;
	unsigned char *in;
	char *out;

	if (fstat(fd, &st) < 0)
		fail("fstat");
	if (st.st_size == 0) {
		say(" -", 2);
		return;
	}
	length = st.st_size > OUTPUT_MAX ? OUTPUT_MAX : (size_t)st.st_size;
	in = calloc(1, length + 3);
	out = malloc(length / 3 * 4 + 8);
	if (!in || !out || pread(fd, in, length, 0) != (ssize_t)length)
		fail("output");
	out[used++] = ' ';
	for (size_t at = 0; at < length; at += 3) {
		uint32_t word = (uint32_t)in[at] << 16 | (uint32_t)in[at + 1] << 8 | in[at + 2];

		out[used++] = digit[word >> 18];
		out[used++] = digit[word >> 12 & 63];
		out[used++] = at + 1 < length ? digit[word >> 6 & 63] : '=';
		out[used++] = at + 2 < length ? digit[word & 63] : '=';
	}
	say(out, used);
	free(in);
	free(out);
}

static void answer(struct command *c, int status)
{
	char head[HEAD_MAX];
	int code = WIFSIGNALED(status) ? STATUS_SIGNAL + WTERMSIG(status) : WEXITSTATUS(status);
	int n = snprintf(head, sizeof(head), "%" PRIu64 " %d", c->id, c->late ? STATUS_TIMED_OUT : code);

	say(head, (size_t)n);
	say_file(c->out);
	say_file(c->err);
	say("\n", 1);
	close(c->out);
	close(c->err);
	c->id = 0;
}

static struct command *free_row(void)
{
	for (size_t i = 0; i < COMMANDS_MAX; i++)
		if (commands[i].id == 0)
			return &commands[i];
	return NULL;
}

static void begin(void)
{
	char head[HEAD_MAX];
	size_t used = 0, length;
	uint64_t id, limit;
	struct command *c = free_row();
	char *text;

	do {
		if (used == sizeof(head) - 1)
			fail("a request's first line is too long");
		read_all(&head[used++], 1);
	} while (head[used - 1] != '\n');
	head[used] = '\0';
	if (sscanf(head, "%" SCNu64 " %" SCNu64 " %zu", &id, &limit, &length) != 3 || id == 0 || length > LENGTH_MAX || !c)
		fail("request %s", head);
	text = calloc(1, length + 1);
	if (!text)
		fail("memory");
	read_all(text, length);
	c->id = id;
	c->deadline = now() + (int64_t)limit;
	c->late = false;
	c->out = memfd_create("out", MFD_CLOEXEC);
	c->err = memfd_create("err", MFD_CLOEXEC);
	c->pid = fork();
	if (c->out < 0 || c->err < 0 || c->pid < 0)
		fail("command");
	if (c->pid == 0) {
		sigset_t none;

		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		setsid();
		dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
		dup2(c->out, STDOUT_FILENO);
		dup2(c->err, STDERR_FILENO);
		execl("/bin/sh", "sh", "-c", text, NULL);
		_exit(127);
	}
	free(text);
}

static void reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (size_t i = 0; i < COMMANDS_MAX; i++)
			if (commands[i].id != 0 && commands[i].pid == pid)
				answer(&commands[i], status);
}

/* Kills what is too late; milliseconds until the next deadline, -1: none. */
static int limits(void)
{
	int64_t at = now(), next = -1;

	for (size_t i = 0; i < COMMANDS_MAX; i++) {
		struct command *c = &commands[i];

		if (c->id == 0 || c->late)
			continue;
		if (c->deadline <= at) {
			c->late = true;
			kill(-c->pid, SIGKILL);
		} else if (next < 0 || c->deadline - at < next) {
			next = c->deadline - at;
		}
	}
	return (int)next;
}

int main(void)
{
	char boot[64] = "?";
	sigset_t child;
	struct pollfd on[2];
	int fd;

	start();
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	on[0] = (struct pollfd){ .fd = port, .events = POLLIN };
	on[1] = (struct pollfd){ .fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK), .events = POLLIN };
	fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	if (on[1].fd < 0 || fd < 0 || read(fd, boot, sizeof(boot) - 1) < 0)
		fail("boot");
	close(fd);
	say("ready ", 6);
	say(boot, strcspn(boot, "\n"));
	say("\n", 1);
	for (;;) {
		struct signalfd_siginfo info;

		if (poll(on, 2, limits()) < 0 && errno != EINTR)
			fail("poll");
		if (on[1].revents & POLLIN && read(on[1].fd, &info, sizeof(info)) > 0)
			reap();
		if (on[0].revents & POLLIN)
			begin();
		else if (on[0].revents & POLLHUP)
			usleep(10000);
	}
}
