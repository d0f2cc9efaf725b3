/* Counts the calls of a process with paths in a folder, and delays each as a shared file system does.
 *
 * It is loaded into every process by LD_PRELOAD. Its settings are in the environment:
 *     SHARED_STORE           the folder, an absolute path without links
 *     SHARED_STORE_COUNTS    a file with one 64-bit number for each kind of call, and one for the bytes that are read, to which all
 *                            processes add
 *     SHARED_STORE_DELAY     the microseconds that each call takes longer
 *
 * Calls that sync files to the disk only take this time, so that the speed of the local disk does not matter.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum kind { OPEN, STATUS, LIST, MAKE_DIRECTORY, LINK, RENAME, REMOVE, SYNC, BYTES, NUMBERS };

static const char *folder;
static size_t length;
static useconds_t delay;
static _Atomic unsigned long *counts;

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("SHARED_STORE_COUNTS"), *microseconds = getenv("SHARED_STORE_DELAY");
    folder = getenv("SHARED_STORE");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (!folder || file < 0) {
        folder = NULL;
        return;
    }
    length = strlen(folder);
    delay = microseconds ? atoi(microseconds) : 0;
    counts = mmap(NULL, NUMBERS * sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (counts == MAP_FAILED) abort();
}

static int count(const char *path, enum kind kind) {
    if (!counts || !path || strncmp(path, folder, length) || (path[length] && path[length] != '/')) return 0;
    counts[kind]++;
    int error = errno;
    if (delay) usleep(delay);
    errno = error;
    return 1;
}

static int count_file(int file) {
    char link[32], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = counts ? readlink(link, path, sizeof path - 1) : -1;
    if (size < 0) return 0;
    path[size] = 0;
    return count(path, SYNC);
}

/* Whether a descriptor is a file in the folder. */
static char is_counted[4096];

static int remember(int file, int counted) {
    if (file >= 0 && file < (int)sizeof is_counted) is_counted[file] = counted;
    return file;
}

ssize_t read(int file, void *to, size_t size) {
    static ssize_t (*real)(int, void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "read");
    ssize_t got = real(file, to, size);
    if (got > 0 && counts && file < (int)sizeof is_counted && is_counted[file]) counts[BYTES] += got;
    return got;
}

int close(int file) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "close");
    remember(file, 0);
    return real(file);
}

/* Replaces a function: counts the call by its argument `path`, and calls the function that is replaced. */
#define COUNT(type, name, parameters, arguments, path, kind) \
    type name parameters {                                   \
        static type(*real) parameters;                       \
        if (!real) real = dlsym(RTLD_NEXT, #name);           \
        count(path, kind);                                   \
        return real arguments;                               \
    }
#define COUNT_OPEN(name)                               \
    int name(const char *path, int flags, ...) {       \
        static int (*real)(const char *, int, mode_t); \
        if (!real) real = dlsym(RTLD_NEXT, #name);     \
        va_list list;                                  \
        va_start(list, flags);                         \
        mode_t mode = mode_of(flags, list);            \
        va_end(list);                                  \
        int counted = count(path, OPEN);               \
        return remember(real(path, flags, mode), counted); \
    }
#define COUNT_OPEN_AT(name)                                     \
    int name(int directory, const char *path, int flags, ...) { \
        static int (*real)(int, const char *, int, mode_t);     \
        if (!real) real = dlsym(RTLD_NEXT, #name);              \
        va_list list;                                           \
        va_start(list, flags);                                  \
        mode_t mode = mode_of(flags, list);                     \
        va_end(list);                                           \
        int counted = count(path, OPEN);                        \
        return remember(real(directory, path, flags, mode), counted); \
    }
#define COUNT_SYNC(name)                           \
    int name(int file) {                           \
        static int (*real)(int);                   \
        if (!real) real = dlsym(RTLD_NEXT, #name); \
        return count_file(file) ? 0 : real(file);  \
    }

static mode_t mode_of(int flags, va_list list) {
    return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(list, mode_t) : 0;
}

COUNT_OPEN(open)
COUNT_OPEN(open64)
COUNT_OPEN_AT(openat)
COUNT_OPEN_AT(openat64)
COUNT(DIR *, opendir, (const char *path), (path), path, LIST)
COUNT(int, stat, (const char *path, struct stat *found), (path, found), path, STATUS)
COUNT(int, stat64, (const char *path, struct stat64 *found), (path, found), path, STATUS)
COUNT(int, lstat, (const char *path, struct stat *found), (path, found), path, STATUS)
COUNT(int, lstat64, (const char *path, struct stat64 *found), (path, found), path, STATUS)
COUNT(int, fstatat, (int at, const char *path, struct stat *found, int flags), (at, path, found, flags), path, STATUS)
COUNT(int, fstatat64, (int at, const char *path, struct stat64 *found, int flags), (at, path, found, flags), path, STATUS)
COUNT(int, statx, (int at, const char *path, int flags, unsigned mask, struct statx *found),
      (at, path, flags, mask, found), path, STATUS)
COUNT(int, access, (const char *path, int mode), (path, mode), path, STATUS)
COUNT(int, eaccess, (const char *path, int mode), (path, mode), path, STATUS)
COUNT(int, faccessat, (int at, const char *path, int mode, int flags), (at, path, mode, flags), path, STATUS)
COUNT(ssize_t, readlink, (const char *path, char *to, size_t size), (path, to, size), path, STATUS)
COUNT(char *, realpath, (const char *path, char *to), (path, to), path, STATUS)
COUNT(int, mkdir, (const char *path, mode_t mode), (path, mode), path, MAKE_DIRECTORY)
COUNT(int, mkdirat, (int at, const char *path, mode_t mode), (at, path, mode), path, MAKE_DIRECTORY)
COUNT(int, link, (const char *from, const char *to), (from, to), to, LINK)
COUNT(int, linkat, (int at, const char *from, int to_at, const char *to, int flags), (at, from, to_at, to, flags), to, LINK)
COUNT(int, rename, (const char *from, const char *to), (from, to), to, RENAME)
COUNT(int, renameat, (int at, const char *from, int to_at, const char *to), (at, from, to_at, to), to, RENAME)
COUNT(int, renameat2, (int at, const char *from, int to_at, const char *to, unsigned flags), (at, from, to_at, to, flags), to,
      RENAME)
COUNT(int, unlink, (const char *path), (path), path, REMOVE)
COUNT(int, unlinkat, (int at, const char *path, int flags), (at, path, flags), path, REMOVE)
COUNT(int, rmdir, (const char *path), (path), path, REMOVE)
COUNT_SYNC(fsync)
COUNT_SYNC(fdatasync)
