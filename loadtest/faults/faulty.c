/* A disk that fails, for one process: LD_PRELOAD this, and while the file $FAULTY_SWITCH exists, what
 * is done to files below $FAULTY_DIR fails: with a w in it writes (after half of the bytes) and cuts,
 * with an s syncs; EIO, or with an f beside it ENOSPC.
 *
 * cc -shared -fPIC -o faulty.so faulty.c -ldl
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int fails(int fd, char what)
{
    const char *directory = getenv("FAULTY_DIR"), *file = getenv("FAULTY_SWITCH");
    char told[16] = "", link[64], path[4096];
    if (!directory || !file)
        return 0;
    int opened = open(file, O_RDONLY);
    if (opened < 0)
        return 0;
    ssize_t size = read(opened, told, sizeof told - 1);
    close(opened);
    if (size <= 0 || !strchr(told, what))
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    size = readlink(link, path, sizeof path - 1);
    if (size < 0 || strncmp(path, directory, strlen(directory)))
        return 0;
    errno = strchr(told, 'f') ? ENOSPC : EIO;
    return 1;
}

ssize_t write(int fd, const void *data, size_t size)
{
    int before = errno;
    if (fails(fd, 'w')) {
        int error = errno;
        REAL(write)(fd, data, size / 2);
        errno = error;
        return -1;
    }
    errno = before;
    return REAL(write)(fd, data, size);
}

#define FAILING(name, what, parameters, arguments) \
    int name parameters { int before = errno; if (fails(fd, what)) return -1; errno = before; \
        return REAL(name) arguments; }

FAILING(ftruncate, 'w', (int fd, off_t size), (fd, size))
FAILING(ftruncate64, 'w', (int fd, off64_t size), (fd, size))
FAILING(fsync, 's', (int fd), (fd))
FAILING(fdatasync, 's', (int fd), (fd))
