// A wall clock that can be set wrong. Preloaded into a process, it adds a number of seconds,
// which it reads at each call as eight bytes from the file named by WRONG_CLOCK. Monotonic time is
// not changed. libfaketime does the same, but hangs in programs that allocate with jemalloc, such
// as Redis.

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *offset_seconds;

__attribute__((constructor)) static void map_offset(void) {
  const int file = open(getenv("WRONG_CLOCK"), O_RDONLY | O_CLOEXEC);
  void *mapped = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
  if (mapped == MAP_FAILED) abort();
  offset_seconds = mapped;
  close(file);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  const int failed = syscall(SYS_clock_gettime, clock, now);
  const int wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
  if (!failed && wall && offset_seconds) now->tv_sec += *offset_seconds;
  return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  (void)zone;
  struct timespec precise;
  clock_gettime(CLOCK_REALTIME, &precise);
  now->tv_sec = precise.tv_sec;
  now->tv_usec = precise.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *stored) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (stored) *stored = now.tv_sec;
  return now.tv_sec;
}
