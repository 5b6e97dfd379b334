/* The process that is killed and started again. Its first act is to tell when it runs: one write of
 * the monotonic clock and its process id to the named pipe `stamp` in its working directory. */
#include <fcntl.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

int main(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t stamp[2] = {
        (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec,
        (uint64_t)getpid(),
    };
    int pipe = open("stamp", O_WRONLY);
    if (pipe < 0 || write(pipe, stamp, sizeof stamp) != (ssize_t)sizeof stamp) return 1;
    for (;;) pause();
}
