/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --lock-fd: a lock file by which whoever started an instance finds it again, without a process ID that may be another's by then.
 * Every process of the instance holds it in two ways. The lock of the open file (flock) is inherited, so it is free exactly when
 * none of them is left, at any moment. The lock of the process (fcntl) has an owner that the kernel names, and no owner's number is
 * given to another process while it has the lock. keeper.c is the other side.
 */
#include "helper.h"

#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>

static int lock_fd = -1;

void hold_mark(void)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};

    if (lock_fd >= 0 && fcntl(lock_fd, F_SETLK, &lock) != 0)
        die_errno("Couldn't hold the lock file of --lock-fd");
}

void hold_begin(int fd)
{
    struct stat status;

    if (fd < 0)
        return;
    /* Whoever ended our predecessor has it exclusively, and removes the file before letting go. */
    if (flock(fd, LOCK_SH | LOCK_NB) != 0)
        die_errno("Couldn't hold the lock file of --lock-fd");
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || status.st_nlink == 0)
        die("--lock-fd %d is not a lock file, or one that was removed", fd);
    /* The controller has it open as well, and may write to whatever it has. */
    if ((fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDONLY)
        die("--lock-fd %d is open for writing: a lock file is to be open for reading only", fd);
    lock_fd = fd;
    hold_mark();
}

/* Nobody would know of an instance whose caller was killed while it waited. After changes of identity, which take this back. */
void hold_for_caller(void)
{
    if (lock_fd >= 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        die_errno("Can't bind this process's life to its caller's");
}

/* Closing any descriptor of a file takes back what a process holds of it. */
void hold_at(int fd)
{
    lock_fd = fd;
    hold_mark();
}

int hold_fd(void)
{
    return lock_fd;
}
