#include "call_table.hpp"

#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>

namespace shmpool::testing {

namespace {

#define CALL(name, ...)  \
  {                      \
    SYS_##name, #name, { \
      __VA_ARGS__        \
    }                    \
  }

// Left out: calls that cannot fail with good arguments (getpid, close, timerfd_settime), and brk, which has no errno.
const call_entry entries[] = {
    // Descriptors that are made.
    CALL(socketpair, EMFILE, ENFILE, ENOMEM),
    CALL(memfd_create, EMFILE, ENOMEM, ENOSYS),
    CALL(openat, EMFILE, ENFILE, ENOMEM, EINTR),
    CALL(epoll_create1, EMFILE, ENOMEM),
    CALL(eventfd2, EMFILE, ENOMEM),
    CALL(timerfd_create, EMFILE, ENOMEM),
    CALL(signalfd4, EMFILE, ENOMEM),
    CALL(pidfd_open, EMFILE, ENOMEM, ENOSYS),
    CALL(dup2, EMFILE, EINTR),
    CALL(dup3, EMFILE, EINTR),
    // Files and memory.
    CALL(ftruncate, ENOSPC, EINTR),
    CALL(fallocate, ENOSPC, EINTR, ENOMEM),
    CALL(mmap, ENOMEM),
    CALL(munmap, ENOMEM),
    CALL(mprotect, ENOMEM),
    CALL(madvise, ENOMEM, EAGAIN, EINVAL),
    CALL(flock, ENOLCK, EINTR),
    CALL(fcntl, ENOMEM),
    CALL(fchmod, EPERM),
    CALL(newfstatat, ENOMEM),
    CALL(fstat, ENOMEM),
    CALL(statfs, ENOMEM, EINTR),
    CALL(getdents64, ENOMEM),
    CALL(unlink, EBUSY),
    CALL(unlinkat, EBUSY),
    CALL(getrandom, EINTR, ENOSYS),
    CALL(sysinfo, ENOSYS),
    // Messages.
    CALL(sendmsg, ENOBUFS, ENOMEM, ETOOMANYREFS, EINTR),
    CALL(sendto, ENOBUFS, ENOMEM, EINTR),
    CALL(recvmsg, ENOMEM, EINTR),
    CALL(recvfrom, ENOMEM, EINTR),
    CALL(read, EINTR, ENOMEM),
    CALL(write, EINTR, ENOSPC),
    CALL(shutdown, ENOBUFS),
    // Waiting.
    CALL(poll, EINTR, ENOMEM),
    CALL(epoll_ctl, ENOMEM, ENOSPC),
    CALL(epoll_wait, EINTR),
    CALL(epoll_pwait, EINTR),
    CALL(io_uring_setup, ENOMEM, EMFILE, EPERM),
    CALL(io_uring_enter, ENOMEM, EAGAIN, EBUSY, EINTR, EPERM),
    CALL(io_uring_register, ENOMEM),
    // Processes.
    CALL(clone, EAGAIN, ENOMEM),
    CALL(clone3, EAGAIN, ENOMEM, ENOSYS),
    CALL(vfork, EAGAIN, ENOMEM),
    CALL(fork, EAGAIN, ENOMEM),
    CALL(execve, ENOMEM, EACCES),
    CALL(wait4, EINTR),
    CALL(waitid, EINTR),
    CALL(pidfd_send_signal, EPERM, ENOSYS),
    CALL(kill, EPERM),
    CALL(prctl, EPERM),
    CALL(close_range, ENOMEM, ENOSYS),
    CALL(prlimit64, EPERM),
    CALL(setpriority, EPERM),
    CALL(sched_getaffinity, EPERM),
    CALL(sched_setaffinity, EPERM, EINVAL),
    CALL(rt_sigprocmask, EPERM),
};
#undef CALL

struct named_error {
  int number;
  const char* name;
};
#define ERRNO(name) \
  { name, #name }
constexpr named_error names[] = {
    ERRNO(EMFILE), ERRNO(ENFILE), ERRNO(ENOMEM), ERRNO(ENOSYS),  ERRNO(EINTR),        ERRNO(ENOSPC), ERRNO(EAGAIN),
    ERRNO(EINVAL), ERRNO(ENOLCK), ERRNO(EPERM),  ERRNO(ENOBUFS), ERRNO(ETOOMANYREFS), ERRNO(EBUSY),  ERRNO(EACCES),
};
#undef ERRNO

const call_entry* find(int number) {
  const auto found =
      std::find_if(std::begin(entries), std::end(entries), [&](const auto& each) { return each.number == number; });
  return found == std::end(entries) ? nullptr : found;
}

}  // namespace

const std::span<const call_entry> call_table{entries};

const char* call_name(int number) {
  const call_entry* found = find(number);
  return found ? found->name : "?";
}

int call_number(std::string_view name) {
  for (const call_entry& each : entries) {
    if (name == each.name) return each.number;
  }
  return -1;
}

std::span<const int> errors_of(int number) {
  const call_entry* found = find(number);
  return found ? std::span<const int>(found->errors) : std::span<const int>();
}

std::string errno_name(int error) {
  for (const named_error& each : names) {
    if (error == each.number) return each.name;
  }
  return std::to_string(error);
}

int errno_number(std::string_view name) {
  for (const named_error& each : names) {
    if (name == each.name) return each.number;
  }
  return 0;
}

bool may_break(const failing_call& what, bool with_init) {
  // What a worker cannot set up for itself, the next could not either, mostly: the pool says so.
  if (what.whose == role::worker) return true;
  // Without init a fork server that dies is gone.
  return !with_init && what.whose == role::server;
}

}  // namespace shmpool::testing
