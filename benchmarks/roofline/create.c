/* Makes a tree by the fewest system calls that it can be made with; prints processor seconds.
 *
 *     create DIRECTORY <PLAN
 *
 * Whatever names a file names it relative to its directory, which is held open. Nothing is read,
 * decompressed, hashed or parsed: contents are zeros, from one buffer.
 */
#define _GNU_SOURCE
#include "entries.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { BUFFER = 1 << 20, RECORD = offsetof(struct entry, path) };

static char buffer[BUFFER];

static char *read_plan(size_t *length) {
    size_t room = 1 << 20, used = 0, got;
    char *plan = malloc(room);
    while ((got = fread(plan + used, 1, room - used, stdin)) > 0) {
        used += got;
        if (used == room)
            plan = realloc(plan, room *= 2);
    }
    *length = used;
    return plan;
}

static struct entry *parse(char *plan, size_t length, size_t *count) {
    size_t room = 1024;
    struct entry *entries = malloc(room * sizeof *entries);
    *count = 0;
    for (char *at = plan; at < plan + length;) {
        if (*count == room)
            entries = realloc(entries, (room *= 2) * sizeof *entries);
        struct entry *entry = &entries[(*count)++];
        memcpy(entry, at, RECORD);
        entry->path = at + RECORD;
        entry->link = entry->path + entry->path_length;
        at += RECORD + entry->path_length + entry->link_length;
    }
    return entries;
}

/* Returns the last part of a path; *directory becomes a descriptor of what is before it. */
static const char *open_parent(int root, const char *path, int *directory) {
    static char held[4096];
    static size_t held_length;
    static int held_fd = -1;
    const char *slash = strrchr(path, '/');
    if (slash == NULL) {
        *directory = root;
        return path;
    }
    size_t length = slash - path;
    if (held_fd < 0 || length != held_length || memcmp(held, path, length) != 0) {
        if (held_fd >= 0)
            close(held_fd);
        memcpy(held, path, length);
        held[length] = 0;
        held_length = length;
        held_fd = openat(root, held, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (held_fd < 0)
            fail(held);
    }
    *directory = held_fd;
    return slash + 1;
}

static void write_file(int directory, const char *name, const struct entry *entry,
                       const struct timespec times[2]) {
    int fd = openat(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, entry->mode);
    if (fd < 0)
        fail(entry->path);
    for (uint64_t left = entry->size; left > 0;) {
        ssize_t done = write(fd, buffer, left < BUFFER ? left : BUFFER);
        if (done < 0)
            fail(entry->path);
        left -= done;
    }
    if (entry->uid != geteuid() || entry->gid != getegid()) {
        if (fchown(fd, entry->uid, entry->gid) != 0)
            fail(entry->path);
        if (entry->mode & (S_ISUID | S_ISGID) && fchmod(fd, entry->mode) != 0)
            fail(entry->path);
    }
    if (futimens(fd, times) != 0)
        fail(entry->path);
    close(fd);
}

static int make_other(int root, int directory, const char *name, const struct entry *entry) {
    switch (entry->kind) {
    case '1':
        return linkat(root, entry->link, directory, name, 0);
    case '2':
        return symlinkat(entry->link, directory, name);
    case '3':
        return mknodat(directory, name, S_IFCHR | entry->mode, makedev(entry->major, entry->minor));
    case '4':
        return mknodat(directory, name, S_IFBLK | entry->mode, makedev(entry->major, entry->minor));
    case '5':
        return mkdirat(directory, name, entry->mode);
    default:
        return mknodat(directory, name, S_IFIFO | entry->mode, 0);
    }
}

static void make(int root, const struct entry *entry) {
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
                                      {entry->seconds, entry->nanoseconds}};
    int directory;
    const char *name = open_parent(root, entry->path, &directory);
    if (entry->kind == '0') {
        write_file(directory, name, entry, times);
        return;
    }
    if (make_other(root, directory, name, entry) != 0)
        fail(entry->path);
    if (entry->kind == '1')
        return;
    if (entry->uid != geteuid() || entry->gid != getegid()) {
        if (fchownat(directory, name, entry->uid, entry->gid, AT_SYMLINK_NOFOLLOW) != 0)
            fail(entry->path);
    }
    if (entry->kind != '5' && utimensat(directory, name, times, AT_SYMLINK_NOFOLLOW) != 0)
        fail(entry->path);
}

static void date_directories(int root, const struct entry *entries, size_t count) {
    for (const struct entry *entry = entries + count; entry-- > entries;) {
        const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
                                          {entry->seconds, entry->nanoseconds}};
        if (entry->kind == '5' && utimensat(root, entry->path, times, 0) != 0)
            fail(entry->path);
    }
}

int main(int argc, char **argv) {
    size_t length, count;
    if (argc != 2)
        return 2;
    char *plan = read_plan(&length);
    struct entry *entries = parse(plan, length, &count);
    umask(0);
    double begun = processor_seconds();
    int root = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        fail(argv[1]);
    for (size_t i = 0; i < count; i++)
        make(root, &entries[i]);
    date_directories(root, entries, count);
    printf("%.6f\n", processor_seconds() - begun);
    return 0;
}
