/* Writes down, in one order, every call by which this process changes files below $RECORDER_ROOT.
 *
 * Preloaded (LD_PRELOAD), it stands between libc and everything above: Python's os module, SQLite,
 * ctypes. Each call is made and written down under one lock, so the order of the log is an order
 * in which the calls may have happened, and a sync covers exactly what the log has before it.
 * Each record is a `struct record` and `size` bytes: a path, two paths with a 0 between, what was
 * written, or a note of the program's own (`recorder_note`). Handles number the opens.
 * What it can't write down (mmap for writing, copy_file_range, writes to descriptors it never saw
 * opened) it notes as kind 'X', which fails the test. SQLite's -shm is rebuilt from the log at
 * every start and left out. Source: the man pages of the calls.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define FDS 65536
#define CREATED 1
#define TRUNCATED 2
#define SYNCED 4

struct record {
    uint32_t kind;
    uint32_t size;
    int32_t handle;
    uint32_t flags;
    int64_t offset;
    int64_t length;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static char root[PATH_MAX];
static size_t root_length;
static int handles[FDS];        /* handle of each descriptor below the root; 0: none of ours */
static char synced[FDS];        /* whether it was opened O_SYNC or O_DSYNC */
static int last_handle;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("RECORDER_LOG"), *below = getenv("RECORDER_ROOT");
    if (!path || !below) return;
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    log_fd = syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 1000);
    syscall(SYS_close, fd);
    snprintf(root, sizeof root, "%s/", below);
    root_length = strlen(root);
}

static void put(char kind, int handle, unsigned flags, int64_t offset, int64_t length,
                const struct iovec *parts, int count, size_t size) {
    struct record head = {(uint32_t)kind, (uint32_t)size, handle, flags, offset, length};
    struct iovec vector[IOV_MAX];
    int used = 0;
    for (; used < count && size; used++) {
        size_t part = parts[used].iov_len < size ? parts[used].iov_len : size;
        vector[used] = (struct iovec){parts[used].iov_base, part};
        size -= part;
    }
    if (syscall(SYS_write, log_fd, &head, sizeof head) != sizeof head) abort();
    if (syscall(SYS_writev, log_fd, vector, used) != head.size) abort();
}

static void put_bytes(char kind, int handle, unsigned flags, int64_t offset, int64_t length,
                      const void *bytes, size_t size) {
    struct iovec part = {(void *)bytes, size};
    put(kind, handle, flags, offset, length, &part, 1, size);
}

/* The absolute path of `path` seen from `directory` into `found`; whether it is below the root. */
static int resolve(int directory, const char *path, char *found) {
    char base[PATH_MAX] = "";
    if (log_fd < 0) return 0;
    if (path[0] != '/') {
        char link[64];
        snprintf(link, sizeof link, directory == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d",
                 directory);
        ssize_t length = readlink(link, base, sizeof base - 1);
        if (length < 0) return 0;
        base[length] = 0;
        strcat(base, "/");
    }
    if (strlen(base) + strlen(path) >= PATH_MAX) return 0;
    strcpy(found, base);
    strcat(found, path);
    return strncmp(found, root, root_length) == 0;
}

static int is_index(const char *path) {
    size_t length = strlen(path);
    return length > 4 && strcmp(path + length - 4, "-shm") == 0;
}

static int handle_of(int fd) { return fd >= 0 && fd < FDS && log_fd >= 0 ? handles[fd] : 0; }

static void refuse(const char *call) {
    pthread_mutex_lock(&lock);
    put_bytes('X', 0, 0, 0, 0, call, strlen(call));
    pthread_mutex_unlock(&lock);
}

/* A descriptor that was opened behind our back, below the root? Then nothing can be trusted. */
static void suspect(int fd, const char *call) {
    char link[64], path[PATH_MAX];
    if (log_fd < 0 || fd == log_fd || fd < 0) return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return;
    path[length] = 0;
    if (!strncmp(path, root, root_length) && !is_index(path)) refuse(call);
}

/* -- opening and closing ------------------------------------------------------------------ */

static int opened(int directory, const char *path, int flags, mode_t mode) {
    char full[PATH_MAX];
    if (!resolve(directory, path, full) || is_index(full))
        return syscall(SYS_openat, directory, path, flags, mode);
    pthread_mutex_lock(&lock);
    int there = syscall(SYS_faccessat, directory, path, F_OK) == 0;
    int fd = syscall(SYS_openat, directory, path, flags, mode);
    int error = errno;
    if (fd >= 0 && fd < FDS) {
        unsigned how = (there ? 0 : CREATED) | (there && flags & O_TRUNC ? TRUNCATED : 0) |
                       (flags & O_DSYNC ? SYNCED : 0);
        handles[fd] = ++last_handle;
        synced[fd] = (flags & O_DSYNC) != 0;
        put_bytes('O', handles[fd], how, 0, 0, full, strlen(full));
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

#define MODE(flags, last) mode_t mode = 0; if ((flags) & (O_CREAT | O_TMPFILE)) { \
    va_list rest; va_start(rest, last); mode = va_arg(rest, mode_t); va_end(rest); }

int open(const char *path, int flags, ...) { MODE(flags, flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags, flags) return opened(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags, flags) return opened(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags, flags) return opened(at, path, flags, mode); }
int __open_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }
int creat(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

int close(int fd) {
    if (fd == log_fd && fd >= 0) return 0;
    if (!handle_of(fd)) return syscall(SYS_close, fd);
    pthread_mutex_lock(&lock);
    handles[fd] = 0;
    int result = syscall(SYS_close, fd);
    pthread_mutex_unlock(&lock);
    return result;
}

/* -- bytes -------------------------------------------------------------------------------- */

/* offset < 0: at the descriptor's position. flags: of pwritev2. */
static ssize_t written(int fd, const struct iovec *parts, int count, off64_t offset, int flags) {
    int ours = handle_of(fd);
    if (ours) pthread_mutex_lock(&lock); else suspect(fd, "write");
    ssize_t result = offset < 0 ? syscall(SYS_writev, fd, parts, count)
        : syscall(SYS_pwritev2, fd, parts, count, offset, (long)0, flags);
    int error = errno;
    if (ours) {
        if (result > 0) {
            if (offset < 0) offset = lseek64(fd, 0, SEEK_CUR) - result;
            put('W', ours, synced[fd] ? SYNCED : 0, offset, result, parts, count, result);
        }
        pthread_mutex_unlock(&lock);
    }
    errno = error;
    return result;
}

ssize_t write(int fd, const void *bytes, size_t size) {
    if (!handle_of(fd)) { suspect(fd, "write"); return syscall(SYS_write, fd, bytes, size); }
    struct iovec part = {(void *)bytes, size};
    return written(fd, &part, 1, -1, 0);
}
ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t offset) {
    if (!handle_of(fd)) { suspect(fd, "pwrite"); return syscall(SYS_pwrite64, fd, bytes, size, offset); }
    struct iovec part = {(void *)bytes, size};
    return written(fd, &part, 1, offset, 0);
}
ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset) { return pwrite64(fd, bytes, size, offset); }
ssize_t writev(int fd, const struct iovec *parts, int count) { return written(fd, parts, count, -1, 0); }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) { return written(fd, parts, count, offset, 0); }
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) { return written(fd, parts, count, offset, 0); }
ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off64_t offset, int flags) { return written(fd, parts, count, offset, flags); }
ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags) { return written(fd, parts, count, offset, flags); }

static int changed(int fd, char kind, int64_t offset, int64_t length, long call, long a, long b, long c) {
    int ours = handle_of(fd);
    if (ours) pthread_mutex_lock(&lock); else suspect(fd, "truncate or fallocate");
    int result = syscall(call, fd, a, b, c);
    int error = errno;
    if (ours) {
        if (!result) put(kind, ours, 0, offset, length, NULL, 0, 0);
        pthread_mutex_unlock(&lock);
    }
    errno = error;
    return result;
}

int ftruncate64(int fd, off64_t size) { return changed(fd, 'T', size, 0, SYS_ftruncate, size, 0, 0); }
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }
int fallocate64(int fd, int mode, off64_t offset, off64_t length) {
    char kind = mode == 0 ? 'A' : mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE) ? 'P'
        : mode == FALLOC_FL_KEEP_SIZE ? 'K' : 'X';
    return changed(fd, kind, offset, length, SYS_fallocate, mode, offset, length);
}
int fallocate(int fd, int mode, off_t offset, off_t length) { return fallocate64(fd, mode, offset, length); }
int posix_fallocate64(int fd, off64_t offset, off64_t length) { return fallocate64(fd, 0, offset, length) ? errno : 0; }
int posix_fallocate(int fd, off_t offset, off_t length) { return posix_fallocate64(fd, offset, length); }

static int flushed(int fd, long call) {
    int ours = handle_of(fd);
    if (ours) pthread_mutex_lock(&lock); else suspect(fd, "sync");
    int result = syscall(call, fd);
    int error = errno;
    if (ours) {
        if (!result) put('S', ours, 0, 0, 0, NULL, 0, 0);
        pthread_mutex_unlock(&lock);
    }
    errno = error;
    return result;
}
int fsync(int fd) { return flushed(fd, SYS_fsync); }
int fdatasync(int fd) { return flushed(fd, SYS_fdatasync); }

/* -- names -------------------------------------------------------------------------------- */

static int renamed(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
    char old[PATH_MAX], both[2 * PATH_MAX];
    int ours = resolve(from_at, from, old);
    if (!ours) return syscall(SYS_renameat2, from_at, from, to_at, to, flags);
    pthread_mutex_lock(&lock);
    size_t length = strlen(old) + 1;
    memcpy(both, old, length);
    resolve(to_at, to, both + length);
    int result = syscall(SYS_renameat2, from_at, from, to_at, to, flags);
    int error = errno;
    if (!result) put_bytes(flags ? 'X' : 'R', 0, 0, 0, 0, both, length + strlen(both + length));
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}
int rename(const char *from, const char *to) { return renamed(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int a, const char *from, int b, const char *to) { return renamed(a, from, b, to, 0); }
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) { return renamed(a, from, b, to, flags); }

static int named(char kind, int at, const char *path, long call, long a, long b) {
    char full[PATH_MAX];
    if (!resolve(at, path, full) || is_index(full)) return syscall(call, at, path, a, b);
    pthread_mutex_lock(&lock);
    int result = syscall(call, at, path, a, b);
    int error = errno;
    if (!result) put_bytes(kind, 0, 0, 0, 0, full, strlen(full));
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}
int unlinkat(int at, const char *path, int flags) { return named(flags & AT_REMOVEDIR ? 'D' : 'U', at, path, SYS_unlinkat, flags, 0); }
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char *path) { int result = unlink(path); return result && errno == EISDIR ? rmdir(path) : result; }
int mkdirat(int at, const char *path, mode_t mode) { return named('M', at, path, SYS_mkdirat, mode, 0); }
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }
int linkat(int a, const char *from, int b, const char *to, int flags) {
    char full[PATH_MAX];
    if (resolve(b, to, full)) refuse("link");
    return syscall(SYS_linkat, a, from, b, to, flags);
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }
int symlinkat(const char *target, int at, const char *path) {
    char full[PATH_MAX];
    if (resolve(at, path, full)) refuse("symlink");
    return syscall(SYS_symlinkat, target, at, path);
}
int symlink(const char *target, const char *path) { return symlinkat(target, AT_FDCWD, path); }

/* -- what can't be written down ----------------------------------------------------------- */

void *mmap64(void *at, size_t size, int protection, int flags, int fd, off64_t offset) {
    if (handle_of(fd) && flags & MAP_SHARED && protection & PROT_WRITE) refuse("mmap");
    return (void *)syscall(SYS_mmap, at, size, protection, flags, fd, offset);
}
void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset) { return mmap64(at, size, protection, flags, fd, offset); }
ssize_t copy_file_range(int in, off64_t *a, int out, off64_t *b, size_t size, unsigned flags) {
    if (handle_of(out)) refuse("copy_file_range");
    return syscall(SYS_copy_file_range, in, a, out, b, size, flags);
}
ssize_t sendfile64(int out, int in, off64_t *offset, size_t size) {
    if (handle_of(out)) refuse("sendfile");
    return syscall(SYS_sendfile, out, in, offset, size);
}
ssize_t sendfile(int out, int in, off_t *offset, size_t size) { return sendfile64(out, in, offset, size); }

/* -- the program's own --------------------------------------------------------------------- */

void recorder_note(const char *text, size_t size) {
    if (log_fd < 0) return;
    pthread_mutex_lock(&lock);
    put_bytes('N', 0, 0, 0, 0, text, size);
    pthread_mutex_unlock(&lock);
}
