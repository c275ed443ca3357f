/* Reads a tree with all that a layer says of it; prints processor seconds.
 *
 *     walk DIRECTORY
 *
 * For each entry: its status, the names of its extended attributes, a symlink's target, a file's
 * content. Nothing is hashed, compressed or written.
 */
#define _GNU_SOURCE
#include "entries.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { BUFFER = 1 << 20 };

static char buffer[BUFFER];

static void walk(int directory);

static void look(int directory, const char *name) {
    struct stat status;
    if (fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) != 0)
        fail(name);
    if (S_ISLNK(status.st_mode)) {
        if (readlinkat(directory, name, buffer, BUFFER) < 0)
            fail(name);
        return;
    }
    if (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode))
        return;
    int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        fail(name);
    if (flistxattr(fd, buffer, BUFFER) < 0)
        fail(name);
    if (S_ISDIR(status.st_mode)) {
        walk(fd);
        return;
    }
    for (off_t left = status.st_size; left > 0;) {
        ssize_t got = read(fd, buffer, BUFFER);
        if (got <= 0)
            fail(name);
        left -= got;
    }
    close(fd);
}

static void walk(int directory) {
    DIR *stream = fdopendir(directory);
    if (stream == NULL)
        fail("fdopendir");
    for (struct dirent *found; (found = readdir(stream)) != NULL;)
        if (strcmp(found->d_name, ".") != 0 && strcmp(found->d_name, "..") != 0)
            look(directory, found->d_name);
    closedir(stream);
}

int main(int argc, char **argv) {
    if (argc != 2)
        return 2;
    double begun = processor_seconds();
    int root = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        fail(argv[1]);
    walk(root);
    printf("%.6f\n", processor_seconds() - begun);
    return 0;
}
