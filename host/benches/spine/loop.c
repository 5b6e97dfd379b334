/* The least that a supervisor can do: kill, wait, posix_spawn.
 *
 * Starts argv[1]. For each byte on standard input it kills the process, waits for it, starts it
 * again, and writes to standard output when it killed (the monotonic clock just before, in
 * nanoseconds). At the end of standard input it kills and ends. */
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static pid_t start(const char *program) {
    pid_t pid;
    char *argv[] = {(char *)program, NULL};
    if (posix_spawn(&pid, program, NULL, NULL, argv, environ) != 0) _exit(1);
    return pid;
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    pid_t pid = start(argv[1]);
    for (char command; read(STDIN_FILENO, &command, 1) == 1;) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        pid = start(argv[1]);
        uint64_t killed_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
        if (write(STDOUT_FILENO, &killed_ns, sizeof killed_ns) != (ssize_t)sizeof killed_ns) break;
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return 0;
}
