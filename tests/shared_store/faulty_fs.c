/* A file system for tests: it passes everything on to a folder, and fails on request as clients of network file systems do.
 *
 *     faulty_fs FOLDER MOUNTPOINT
 *
 * It ends when its standard input is closed. Two mounts of one folder are two clients of one server. Reading the file
 * MOUNTPOINT/.control gives the number of operations that have reached the folder, one kind a line. Writing lines of a
 * key and a number to it changes the settings:
 *
 *     cache SECONDS        What is known of the names in a directory, also that one is absent, holds for this time, unless the
 *                          directory is opened, a name in it is changed by this client, or a link onto a name fails. Opening a
 *                          file that is known to exist always reaches the folder.
 *     errors PER_MILLE     This part of the operations fails with an error that passes. Every second one takes effect.
 *     seed NUMBER          Selects the operations that fail.
 *     skew SECONDS         The clock of this client, which gives files their times, is ahead.
 *     no_links ERRNO       There are no hard links.
 *     losing_link ERRNO    The error of a link onto a name that exists.
 *     lost_link ERRNO      The error of a link that has taken effect, of every second one.
 *     no_fsyncdir ERRNO    Directories cannot be synced.
 *     full 1               There is no space.
 *     read_only 1          Nothing can be changed.
 *     hang_renames 1       Renames take until this is 0 again.
 */
#define _GNU_SOURCE
#define FUSE_USE_VERSION 31
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static const char CONTROL[] = "/.control";

/* The control file has the handle 0, which no other file gets, since it is standard input. */
static int is_control(const struct fuse_file_info *info)
{
    return info->fh == 0;
}

enum setting { CACHE, ERRORS, SEED, SKEW, NO_LINKS, LOSING_LINK, LOST_LINK, NO_FSYNCDIR, FULL, READ_ONLY, HANG_RENAMES };
static const char *const setting_names[] = {"cache", "errors", "seed", "skew", "no_links", "losing_link", "lost_link",
                                            "no_fsyncdir", "full", "read_only", "hang_renames"};
static atomic_long settings[LENGTH(setting_names)];

/* The operations from SETATTR on change something, and those from WRITE on need space. */
enum operation { LOOKUP, GETATTR, READDIR, OPEN, READ, FSYNC, FSYNCDIR, SETATTR, RENAME, UNLINK, RMDIR, WRITE, CREATE, LINK, MKDIR };
static const char *const operation_names[] = {"lookup", "getattr", "readdir", "open", "read", "fsync", "fsyncdir", "setattr",
                                              "rename", "unlink", "rmdir", "write", "create", "link", "mkdir"};
static atomic_ulong counts[LENGTH(operation_names)];

static const int passing_errors[] = {ESTALE, EIO, ETIMEDOUT, EAGAIN, EINTR};

static char folder[PATH_MAX], mountpoint[PATH_MAX];

/* Writes the path in the folder to `real`. */
static const char *resolve(char real[PATH_MAX], const char *path)
{
    if (snprintf(real, PATH_MAX, "%s%s", folder, path) >= PATH_MAX)
        exit(2);
    return real;
}

/* Returns a number that looks random, the same for every sequence of calls. */
static unsigned long scatter(unsigned long number)
{
    number = (number + 1) * 0x9e3779b97f4a7c15;
    number = (number ^ number >> 30) * 0xbf58476d1ce4e5b9;
    return (number ^ number >> 27) * 0x94d049bb133111eb >> 33;
}

/* Begins an operation: returns its error if it fails at once, and sets `late` to its error if it fails after it took effect. */
static int begin(enum operation operation, int *late)
{
    static atomic_ulong all, failed;
    *late = 0;
    while (operation == RENAME && settings[HANG_RENAMES])
        usleep(10000);
    counts[operation]++;
    if (operation >= SETATTR && settings[READ_ONLY])
        return -EROFS;
    if (operation >= WRITE && settings[FULL])
        return -ENOSPC;
    if (scatter(all++ + settings[SEED] * 1000003) % 1000 >= (unsigned long)settings[ERRORS])
        return 0;
    unsigned long number = failed++;
    int error = -passing_errors[number / 2 % LENGTH(passing_errors)];
    *late = number % 2 ? error : 0;
    return *late ? 0 : error;
}

/* Ends an operation: returns its result. */
static int end(int result, int late)
{
    if (result < 0)
        return -errno;
    return late ? late : result;
}

/* What this client knows of a path. */
struct known {
    struct known *next;
    char *path;
    /* As a directory: until when its names are known, and how often they were forgotten. */
    double until;
    unsigned long forgotten;
    /* As a name: what was found, and `forgotten` of its directory at that time, counted from 1. */
    unsigned long found_at;
    int error;
    struct stat stat;
};

static struct known *table[4096];
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;

static struct known *find(const char *path, size_t length)
{
    unsigned long hash = 0;
    for (size_t i = 0; i < length; i++)
        hash = scatter(hash ^ (unsigned char)path[i]);
    struct known **first = &table[hash % LENGTH(table)];
    for (struct known *known = *first; known; known = known->next)
        if (!strncmp(known->path, path, length) && !known->path[length])
            return known;
    struct known *known = calloc(1, sizeof *known);
    known->path = strndup(path, length);
    known->next = *first;
    return *first = known;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void forget_names(struct known *directory)
{
    directory->forgotten++;
    directory->until = now() + settings[CACHE];
}

static struct known *find_directory_of(const char *path)
{
    return find(path, strrchr(path, '/') - path);
}

static void forget_directory(const char *path)
{
    pthread_mutex_lock(&table_lock);
    forget_names(find(path, strcmp(path, "/") ? strlen(path) : 0));
    pthread_mutex_unlock(&table_lock);
}

static void forget_directory_of(const char *path)
{
    pthread_mutex_lock(&table_lock);
    forget_names(find_directory_of(path));
    pthread_mutex_unlock(&table_lock);
}

/* Forgets the attributes of a file, unless it was removed while it was open. */
static void forget(const char *path)
{
    if (!path)
        return;
    pthread_mutex_lock(&table_lock);
    find(path, strlen(path))->found_at = 0;
    pthread_mutex_unlock(&table_lock);
}

/* Looks a name up in the folder. */
static int look_up(const char *path, struct stat *stat)
{
    char real[PATH_MAX];
    int late, error = begin(LOOKUP, &late);
    return error ? error : end(lstat(resolve(real, path), stat), late);
}

static int look_up_cached(const char *path, struct stat *stat)
{
    pthread_mutex_lock(&table_lock);
    struct known *directory = find_directory_of(path), *name = find(path, strlen(path));
    if (now() >= directory->until)
        forget_names(directory);
    if (name->found_at != directory->forgotten) {
        name->error = look_up(path, &name->stat);
        name->found_at = name->error && name->error != -ENOENT ? 0 : directory->forgotten;
    }
    *stat = name->stat;
    int error = name->error;
    pthread_mutex_unlock(&table_lock);
    return error;
}

/* Gives a file that was written the time of this client. */
static void stamp(int file)
{
    struct timespec times[2];
    if (!settings[SKEW])
        return;
    clock_gettime(CLOCK_REALTIME, &times[0]);
    times[0].tv_sec += settings[SKEW];
    times[1] = times[0];
    futimens(file, times);
}

static int fs_getattr(const char *path, struct stat *stat, struct fuse_file_info *info)
{
    if (path && !strcmp(path, CONTROL)) {
        *stat = (struct stat){.st_mode = S_IFREG | 0600, .st_nlink = 1};
        return 0;
    }
    if (!info)
        return settings[CACHE] ? look_up_cached(path, stat) : look_up(path, stat);
    int late, error = begin(GETATTR, &late);
    if (error)
        return error;
    /* libfuse does not pass on the handle of a directory. */
    char real[PATH_MAX];
    int result = fstat(info->fh, stat);
    return end(result && errno == EBADF && path ? lstat(resolve(real, path), stat) : result, late);
}

static int fs_opendir(const char *path, struct fuse_file_info *info)
{
    char real[PATH_MAX];
    int late, error = begin(READDIR, &late);
    if (error)
        return error;
    DIR *directory = opendir(resolve(real, path));
    if (!directory)
        return -errno;
    if (late) {
        closedir(directory);
        return late;
    }
    info->fh = (uintptr_t)directory;
    forget_directory(path);
    return 0;
}

static int fs_readdir(const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset, struct fuse_file_info *info,
                      enum fuse_readdir_flags flags)
{
    (void)path, (void)offset, (void)flags;
    rewinddir((DIR *)info->fh);
    for (struct dirent *entry; (entry = readdir((DIR *)info->fh));)
        fill(buffer, entry->d_name, NULL, 0, 0);
    return 0;
}

static int fs_releasedir(const char *path, struct fuse_file_info *info)
{
    (void)path;
    return closedir((DIR *)info->fh);
}

static int fs_open(const char *path, struct fuse_file_info *info)
{
    char real[PATH_MAX];
    if (!strcmp(path, CONTROL)) {
        info->direct_io = 1;
        info->fh = 0;
        return 0;
    }
    int writes = (info->flags & O_ACCMODE) != O_RDONLY;
    if (writes && settings[READ_ONLY])
        return -EROFS;
    int late, error = begin(OPEN, &late);
    if (error)
        return error;
    forget(path);
    int file = open(resolve(real, path), info->flags & ~(O_APPEND | O_CREAT | O_EXCL));
    if (file >= 0 && late)
        close(file);
    info->fh = file;
    return end(file < 0 ? -1 : 0, late);
}

static int fs_create(const char *path, mode_t mode, struct fuse_file_info *info)
{
    char real[PATH_MAX];
    int late, error = begin(CREATE, &late);
    if (error)
        return error;
    forget_directory_of(path);
    int file = open(resolve(real, path), info->flags & ~O_APPEND, mode);
    if (file < 0)
        return -errno;
    stamp(file);
    info->fh = file;
    if (late)
        close(file);
    return late;
}

static int fs_release(const char *path, struct fuse_file_info *info)
{
    (void)path;
    return is_control(info) ? 0 : close(info->fh);
}

/* Returns the numbers of operations as text. */
static int read_control(char *buffer, size_t size, off_t offset)
{
    char text[1024];
    int length = 0;
    for (size_t i = 0; i < LENGTH(operation_names); i++)
        length += snprintf(text + length, sizeof text - length, "%s %lu\n", operation_names[i], counts[i]);
    if (offset >= length)
        return 0;
    size = size < (size_t)(length - offset) ? size : (size_t)(length - offset);
    memcpy(buffer, text + offset, size);
    return size;
}

static int change_setting(const char *key, long value)
{
    for (size_t i = 0; i < LENGTH(setting_names); i++)
        if (!strcmp(key, setting_names[i])) {
            settings[i] = value;
            return 0;
        }
    return -EINVAL;
}

static int write_control(const char *bytes, size_t size)
{
    char text[1024], key[32], *rest = NULL;
    long value;
    if (size >= sizeof text)
        return -EINVAL;
    memcpy(text, bytes, size);
    text[size] = 0;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        if (sscanf(line, "%31s %ld", key, &value) != 2 || change_setting(key, value))
            return -EINVAL;
    return size;
}

static int fs_read(const char *path, char *buffer, size_t size, off_t offset, struct fuse_file_info *info)
{
    (void)path;
    if (is_control(info))
        return read_control(buffer, size, offset);
    int late, error = begin(READ, &late);
    return error ? error : end(pread(info->fh, buffer, size, offset), late);
}

static int fs_write(const char *path, const char *bytes, size_t size, off_t offset, struct fuse_file_info *info)
{
    if (is_control(info))
        return write_control(bytes, size);
    int late, error = begin(WRITE, &late);
    if (error)
        return error;
    forget(path);
    int written = pwrite(info->fh, bytes, size, offset);
    error = end(written, late);
    stamp(info->fh);
    return error;
}

static int fs_fsync(const char *path, int data, struct fuse_file_info *info)
{
    (void)path, (void)data;
    int late, error = begin(FSYNC, &late);
    return error ? error : end(fsync(info->fh), late);
}

static int fs_fsyncdir(const char *path, int data, struct fuse_file_info *info)
{
    (void)path, (void)data;
    int late, error = begin(FSYNCDIR, &late);
    if (!error && settings[NO_FSYNCDIR])
        return -settings[NO_FSYNCDIR];
    return error ? error : end(fsync(dirfd((DIR *)info->fh)), late);
}

static int fs_rename(const char *from, const char *to, unsigned flags)
{
    char real_from[PATH_MAX], real_to[PATH_MAX];
    if (flags)
        return -EINVAL;
    int late, error = begin(RENAME, &late);
    if (error)
        return error;
    forget_directory_of(from);
    forget_directory_of(to);
    return end(rename(resolve(real_from, from), resolve(real_to, to)), late);
}

static int fs_link(const char *from, const char *to)
{
    static atomic_ulong made;
    char real_from[PATH_MAX], real_to[PATH_MAX];
    int late, error = begin(LINK, &late);
    if (!error && settings[NO_LINKS])
        return -settings[NO_LINKS];
    if (error)
        return error;
    forget_directory_of(from);
    forget_directory_of(to);
    error = end(link(resolve(real_from, from), resolve(real_to, to)), late);
    if (error == -EEXIST && settings[LOSING_LINK])
        return -settings[LOSING_LINK];
    return !error && settings[LOST_LINK] && made++ % 2 == 0 ? -settings[LOST_LINK] : error;
}

static int fs_unlink(const char *path)
{
    char real[PATH_MAX];
    int late, error = begin(UNLINK, &late);
    if (error)
        return error;
    forget_directory_of(path);
    return end(unlink(resolve(real, path)), late);
}

static int fs_mkdir(const char *path, mode_t mode)
{
    char real[PATH_MAX];
    int late, error = begin(MKDIR, &late);
    if (error)
        return error;
    forget_directory_of(path);
    return end(mkdir(resolve(real, path), mode), late);
}

static int fs_rmdir(const char *path)
{
    char real[PATH_MAX];
    int late, error = begin(RMDIR, &late);
    if (error)
        return error;
    forget_directory_of(path);
    return end(rmdir(resolve(real, path)), late);
}

static int fs_truncate(const char *path, off_t size, struct fuse_file_info *info)
{
    char real[PATH_MAX];
    if (path && !strcmp(path, CONTROL))
        return 0;
    int late, error = begin(SETATTR, &late);
    if (error)
        return error;
    forget(path);
    return end(info ? ftruncate(info->fh, size) : truncate(resolve(real, path), size), late);
}

static int fs_chmod(const char *path, mode_t mode, struct fuse_file_info *info)
{
    char real[PATH_MAX];
    (void)info;
    int late, error = begin(SETATTR, &late);
    if (error)
        return error;
    forget(path);
    return end(chmod(resolve(real, path), mode), late);
}

static int fs_statfs(const char *path, struct statvfs *stat)
{
    char real[PATH_MAX];
    return statvfs(resolve(real, path), stat) ? -errno : 0;
}

/* Ends this process with its mount when standard input is closed. */
static void *unmount_with_input(void *unused)
{
    char ignored;
    while (read(0, &ignored, 1) > 0)
        ;
    umount2(mountpoint, MNT_DETACH);
    _exit(0);
    return unused;
}

static void *fs_init(struct fuse_conn_info *connection, struct fuse_config *config)
{
    pthread_t thread;
    (void)connection;
    /* This program decides what is cached, not the kernel. */
    config->entry_timeout = config->attr_timeout = config->negative_timeout = 0;
    config->use_ino = 1;
    /* Files that are removed while they are open stay readable. */
    config->hard_remove = config->nullpath_ok = 1;
    pthread_create(&thread, NULL, unmount_with_input, NULL);
    return NULL;
}

static const struct fuse_operations operations = {
    .init = fs_init, .getattr = fs_getattr, .opendir = fs_opendir, .readdir = fs_readdir, .releasedir = fs_releasedir,
    .open = fs_open, .create = fs_create, .release = fs_release, .read = fs_read, .write = fs_write, .fsync = fs_fsync,
    .fsyncdir = fs_fsyncdir, .rename = fs_rename, .link = fs_link, .unlink = fs_unlink, .mkdir = fs_mkdir,
    .rmdir = fs_rmdir, .truncate = fs_truncate, .chmod = fs_chmod, .statfs = fs_statfs};

int main(int count, char **arguments)
{
    if (count != 3 || !realpath(arguments[1], folder) || !realpath(arguments[2], mountpoint)) {
        fprintf(stderr, "usage: faulty_fs FOLDER MOUNTPOINT\n");
        return 2;
    }
    umask(0);
    char *options[] = {arguments[0], "-f", "-o", "max_idle_threads=10", mountpoint, NULL};
    return fuse_main(5, options, &operations, NULL);
}
