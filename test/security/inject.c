/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes a running thread perform one system call of our choice: inject TID NUMBER [ARGUMENT…]
 *
 * It is stopped where it enters the next call of its own, and number and arguments are exchanged there: tracers are
 * asked before filters are, so its filter judges the new call (seccomp(2), since Linux 4.8). A call that returns is
 * followed by EINTR for the one that was replaced, and the thread goes on.
 *
 * ARGUMENT  a number, or @TEXT for the address of TEXT (written below its stack pointer)
 * Prints "returned N" (an errno negated), or "killed SIGNAL".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

/* Below the red zone of the ABI (128 bytes) */
#define TEXT_BELOW_STACK 1024
#define TEXT_BYTES_MAX 256

static pid_t tid;

static void die(const char *what) {
  fprintf(stderr, "inject: %s: %s\n", what, strerror(errno));
  exit(2);
}

/* Until the next stop; does not come back when the thread has ended. */
static int wait_for_stop(void) {
  int status;
  if (waitpid(tid, &status, __WALL) != tid) die("waitpid");
  if (WIFSIGNALED(status)) {
    printf("killed %d\n", WTERMSIG(status));
    exit(0);
  }
  if (WIFEXITED(status)) {
    printf("exited %d\n", WEXITSTATUS(status));
    exit(0);
  }
  return status;
}

/* Goes on to where a call is entered or left, with signals delivered as they come. */
static void go_to_call(void) {
  for (int signum = 0;;) {
    if (ptrace(PTRACE_SYSCALL, tid, 0, (long)signum) != 0) die("PTRACE_SYSCALL");
    int status = wait_for_stop();
    if (WSTOPSIG(status) == (SIGTRAP | 0x80)) return;
    signum = status >> 16 == 0 ? WSTOPSIG(status) : 0;
  }
}

static unsigned long put_text(const char *text, unsigned long stack) {
  char padded[TEXT_BYTES_MAX + sizeof(long)] = {0};
  unsigned long at = (stack - TEXT_BELOW_STACK) & ~15UL;
  if (strlen(text) >= TEXT_BYTES_MAX) die("the text is too long");
  strcpy(padded, text);
  for (size_t done = 0; done <= strlen(text); done += sizeof(long)) {
    long word;
    memcpy(&word, padded + done, sizeof word);
    if (ptrace(PTRACE_POKEDATA, tid, at + done, word) != 0) die("PTRACE_POKEDATA");
  }
  return at;
}

int main(int argc, char **argv) {
  struct user_regs_struct before, regs;
  if (argc < 3 || argc > 9) die("usage: inject TID NUMBER [ARGUMENT...]");
  tid = (pid_t)atoi(argv[1]);
  if (ptrace(PTRACE_SEIZE, tid, 0, PTRACE_O_TRACESYSGOOD) != 0) die("PTRACE_SEIZE");
  if (ptrace(PTRACE_INTERRUPT, tid, 0, 0) != 0) die("PTRACE_INTERRUPT");
  wait_for_stop();
  go_to_call();
  if (ptrace(PTRACE_GETREGS, tid, 0, &before) != 0) die("PTRACE_GETREGS");
  regs = before;
  unsigned long long *arguments[] = {&regs.rdi, &regs.rsi, &regs.rdx, &regs.r10, &regs.r8, &regs.r9};
  for (int i = 0; i < 6; i++) {
    const char *text = 3 + i < argc ? argv[3 + i] : "0";
    *arguments[i] = *text == '@' ? put_text(text + 1, before.rsp) : strtoull(text, NULL, 0);
  }
  regs.orig_rax = strtoull(argv[2], NULL, 0);
  if (ptrace(PTRACE_SETREGS, tid, 0, &regs) != 0) die("PTRACE_SETREGS");
  go_to_call();
  if (ptrace(PTRACE_GETREGS, tid, 0, &regs) != 0) die("PTRACE_GETREGS");
  long long result = (long long)regs.rax;
  before.rip = regs.rip;
  before.rax = (unsigned long long)-EINTR;
  if (ptrace(PTRACE_SETREGS, tid, 0, &before) != 0) die("PTRACE_SETREGS");
  /* A killed thread, too, seems to leave the call, and ends before it would enter the next. */
  go_to_call();
  printf("returned %lld\n", result);
  if (ptrace(PTRACE_DETACH, tid, 0, 0) != 0) die("PTRACE_DETACH");
  return 0;
}
