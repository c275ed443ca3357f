/* The plan of a tree, as the program that calls these prepares it: one record for each entry. */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

struct entry {
    uint32_t kind; /* the type flag of the tar format */
    uint32_t mode;
    uint32_t uid;
    uint32_t gid;
    int64_t seconds;
    int64_t nanoseconds;
    uint64_t size;
    uint32_t major;
    uint32_t minor;
    uint32_t path_length; /* with the closing zero, as the other length */
    uint32_t link_length;
    const char *path;
    const char *link;
};

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static double processor_seconds(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec +
           (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}
