/*
 * Preloaded under a store that is tested. Two jobs, both for files in the folder YURT_SHIM_DIR:
 *
 * - records every write, truncation, sync, rename and removal in YURT_SHIM_LOG, in order, together with the
 *   lines that the process prints (they say what was acknowledged when);
 * - while the file YURT_SHIM_FAIL exists, fails writes with the error number that is in it.
 *
 * A record: op (1 byte), length of name (2), name, offset (8), length of data (4), data; little endian.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static int log_fd(void) {
    static int fd = -2;
    if (fd == -2) {
        const char *path = getenv("YURT_SHIM_LOG");
        fd = path ? syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    }
    return fd;
}

/* The name inside the folder, or NULL for other files. */
static const char *inside(const char *path) {
    const char *dir = getenv("YURT_SHIM_DIR");
    size_t n = dir ? strlen(dir) : 0;
    return n && strncmp(path, dir, n) == 0 && path[n] == '/' ? path + n + 1 : NULL;
}

static const char *name_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    if (n <= 0) return NULL;
    path[n] = 0;
    return inside(path);
}

static void record(char op, const char *name, uint64_t offset, const void *data, uint32_t length) {
    if (log_fd() < 0 || !name) return;
    uint16_t n = (uint16_t)strlen(name);
    struct iovec v[6] = {{&op, 1}, {&n, 2}, {(void *)name, n}, {&offset, 8}, {&length, 4}, {(void *)data, length}};
    if (syscall(SYS_writev, log_fd(), v, 6) < 0) abort();
}

static int failing(const char *name) {
    const char *path = name ? getenv("YURT_SHIM_FAIL") : NULL;
    if (!path) return 0;
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    char text[16] = {0};
    syscall(SYS_read, fd, text, sizeof text - 1);
    syscall(SYS_close, fd);
    return errno = atoi(text);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) {
    char path[PATH_MAX];
    const char *name = name_of(fd, path);
    if (failing(name)) return -1;
    ssize_t n = syscall(SYS_pwrite64, fd, data, length, offset);
    if (n > 0) record('w', name, (uint64_t)offset, data, (uint32_t)n);
    return n;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
    return pwrite64(fd, data, length, offset);
}

ssize_t write(int fd, const void *data, size_t length) {
    char path[PATH_MAX];
    const char *name = fd == 1 ? NULL : name_of(fd, path);
    if (failing(name)) return -1;
    off_t offset = name ? lseek(fd, 0, SEEK_CUR) : 0;
    if (fd == 1) record('a', "", 0, data, (uint32_t)length);
    ssize_t n = syscall(SYS_write, fd, data, length);
    if (n > 0) record('w', name, (uint64_t)offset, data, (uint32_t)n);
    return n;
}

int ftruncate64(int fd, off64_t length) {
    char path[PATH_MAX];
    const char *name = name_of(fd, path);
    if (length > 0 && failing(name)) return -1;
    int done = syscall(SYS_ftruncate, fd, length);
    if (done == 0) record('t', name, (uint64_t)length, "", 0);
    return done;
}

int ftruncate(int fd, off_t length) {
    return ftruncate64(fd, length);
}

static int synced(int fd, long call) {
    char path[PATH_MAX];
    int done = syscall(call, fd);
    if (done == 0) record('s', name_of(fd, path), 0, "", 0);
    return done;
}

int fsync(int fd) {
    return synced(fd, SYS_fsync);
}

int fdatasync(int fd) {
    return synced(fd, SYS_fdatasync);
}

int unlink(const char *path) {
    int done = syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    if (done == 0) record('u', inside(path), 0, "", 0);
    return done;
}

int rename(const char *from, const char *to) {
    int done = syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    const char *name = inside(to);
    if (done == 0 && name) record('r', inside(from), 0, name, (uint32_t)strlen(name));
    return done;
}
