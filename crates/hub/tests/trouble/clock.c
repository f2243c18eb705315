/*
 * Preloaded under a hub whose clock is wrong: the wall clock is off by as many seconds as the file YURT_CLOCK_FILE
 * says at that moment. Clocks that only measure time are right.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    int done = syscall(SYS_clock_gettime, clock, now);
    const char *path = getenv("YURT_CLOCK_FILE");
    if (done != 0 || clock != CLOCK_REALTIME || !path) return done;
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return done;
    char text[32] = {0};
    syscall(SYS_read, fd, text, sizeof text - 1);
    syscall(SYS_close, fd);
    now->tv_sec += atoll(text);
    return done;
}
