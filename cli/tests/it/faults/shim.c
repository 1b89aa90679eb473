/* A disk that fails and a clock that is set, under a program that knows nothing of it (LD_PRELOAD). The test writes into the file that
   FAULTS_OF_THE_TEST names, which is mapped here:

     0  int64  seconds that the wall clock is ahead of the machine's
     8  int32  for each operation below: the error that it fails with, 0 for none
    64  text   only on files whose path has this in it
   256  uint32 how often something has failed

   Steady time is left alone, as a clock that is set leaves it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { READ, WRITE, SYNC, CREATE, CUT };

struct control {
    int64_t ahead_s;
    int32_t error[14];
    char path[192];
    uint32_t hits;
};

static volatile struct control *control;

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("FAULTS_OF_THE_TEST");
    int file = name ? open(name, O_RDWR) : -1;
    void *map = file < 0 ? MAP_FAILED : mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    control = map == MAP_FAILED ? NULL : map;
    if (file >= 0) close(file);
}

static int fails_at(int operation, const char *path) {
    if (!strstr(path, (const char *)control->path)) return 0;
    __atomic_add_fetch(&control->hits, 1, __ATOMIC_SEQ_CST);
    errno = control->error[operation];
    return 1;
}

static int fails(int operation, int file) {
    char link[64], path[4096];
    if (!control || !control->error[operation]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return fails_at(operation, path);
}

/* What it stands before. */
#define FIND(real, name) if (!real) real = dlsym(RTLD_NEXT, name)

ssize_t pread64(int file, void *to, size_t bytes, off64_t at) {
    static ssize_t (*real)(int, void *, size_t, off64_t);
    FIND(real, "pread64");
    return fails(READ, file) ? -1 : real(file, to, bytes, at);
}

ssize_t pwrite64(int file, const void *from, size_t bytes, off64_t at) {
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    FIND(real, "pwrite64");
    return fails(WRITE, file) ? -1 : real(file, from, bytes, at);
}

ssize_t write(int file, const void *from, size_t bytes) {
    static ssize_t (*real)(int, const void *, size_t);
    FIND(real, "write");
    return fails(WRITE, file) ? -1 : real(file, from, bytes);
}

int ftruncate64(int file, off64_t bytes) {
    static int (*real)(int, off64_t);
    FIND(real, "ftruncate64");
    return fails(CUT, file) ? -1 : real(file, bytes);
}

int fdatasync(int file) {
    static int (*real)(int);
    FIND(real, "fdatasync");
    return fails(SYNC, file) ? -1 : real(file);
}

int fsync(int file) {
    static int (*real)(int);
    FIND(real, "fsync");
    return fails(SYNC, file) ? -1 : real(file);
}

int open64(const char *path, int flags, ...) {
    static int (*real)(const char *, int, mode_t);
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
    va_end(more);
    if (control && (flags & O_CREAT) && control->error[CREATE] && fails_at(CREATE, path)) return -1;
    FIND(real, "open64");
    return real(path, flags, mode);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    FIND(real, "clock_gettime");
    int done = real(clock, now);
    if (control && clock == CLOCK_REALTIME) now->tv_sec += control->ahead_s;
    return done;
}
