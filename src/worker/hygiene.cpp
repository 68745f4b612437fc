#include "worker/hygiene.hpp"

#include "shm/mapping.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdlib>

namespace shmpool::worker {

void reset_signals() noexcept {
  for (int number = 1; number < NSIG; ++number) ::signal(number, SIG_DFL);  // fails for a few; those have no handlers
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

namespace {

constexpr int group_signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE};

}  // namespace

void ignore_group_signals() noexcept {
  for (const int number : group_signals) ::signal(number, SIG_IGN);
}

std::uint32_t ignored_group_signals() noexcept {
  std::uint32_t ignored = 0;
  for (const int number : group_signals) {
    struct sigaction now {};
    if (::sigaction(number, nullptr, &now) == 0 && now.sa_handler == SIG_IGN) ignored |= 1U << number;
  }
  return ignored;
}

namespace {

/// Closes [first, last]; 0 or an errno.
int close_range(unsigned first, unsigned last) noexcept {
  if (first > last || ::syscall(SYS_close_range, first, last, 0) == 0) return 0;
  // A sandbox may not know the call. One by one, then, which takes a while where the limit is high.
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return errno;
  for (auto fd = rlim_t{first}; fd <= last && fd < std::min<rlim_t>(limit.rlim_cur, 1U << 20); ++fd) ::close(static_cast<int>(fd));
  return 0;
}

}  // namespace

int close_descriptors_except(std::initializer_list<int> keep) noexcept {
  std::array<int, 8> sorted{};
  const std::size_t count = std::min(keep.size(), sorted.size());
  std::copy_n(keep.begin(), count, sorted.begin());
  std::sort(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(count));
  unsigned first = 3;
  for (std::size_t i = 0; i != count; ++i) {
    if (sorted[i] < 3) continue;
    const auto kept = static_cast<unsigned>(sorted[i]);
    if (kept > first) {
      if (const int error = close_range(first, kept - 1)) return error;
    }
    first = kept + 1;
  }
  return close_range(first, ~0U);
}

void occupy_standard_streams() noexcept {
  for (int standard = STDIN_FILENO; standard <= STDERR_FILENO; ++standard) {
    if (::fcntl(standard, F_GETFD) >= 0) continue;
    const int opened = ::open("/dev/null", O_RDWR);  // the lowest number that is free
    if (opened != standard && opened >= 0) ::close(opened);  // another thread was faster
  }
}

bool read_dev_null() noexcept {
  const auto again = [](auto call) {
    int result;
    do {
      result = call();
    } while (result < 0 && errno == EINTR);
    return result;
  };
  unique_fd null(again([] { return ::open("/dev/null", O_RDONLY | O_CLOEXEC); }));
  if (!null) null = unique_fd(::memfd_create("shmpool.null", MFD_CLOEXEC));
  if (null.get() == STDIN_FILENO) return null.release() == STDIN_FILENO;
  return null && again([&] { return ::dup2(null.get(), STDIN_FILENO); }) == STDIN_FILENO;
}

oom_score::oom_score() noexcept : file_(::open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC)) {
  char text[16]{};
  if (file_ && ::read(file_.get(), text, sizeof text - 1) <= 0) file_.reset();
  own_ = std::atoi(text);
  raised_ = std::max(raised_, own_);
}

void oom_score::write(int score) noexcept {
  char text[16]{};
  const auto end = std::to_chars(text, text + sizeof text, score).ptr;
  if (file_) [[maybe_unused]] auto written = ::pwrite(file_.get(), text, static_cast<std::size_t>(end - text), 0);
}

namespace {

/// What is sent to every process of a service (its cgroup, say) is for the application to decide, whose end is the worker's
/// too. A handler that does nothing, since programs that a task starts would inherit it if it were ignored, and could not be
/// asked to end; but what the application itself ignores stays ignored, in them as well. As the server resets all signals
/// before it ignores these, a worker need not do that again.
void leave_group_signals_to_the_application(std::uint32_t ignored) noexcept {
  struct sigaction nothing {};
  nothing.sa_handler = [](int) {};
  nothing.sa_flags = SA_RESTART;
  ::sigfillset(&nothing.sa_mask);
  for (const int number : group_signals) {
    if (number == SIGPIPE) ::signal(number, SIG_DFL);
    else if ((ignored >> number & 1U) != 0) ::signal(number, SIG_IGN);
    else ::sigaction(number, &nothing, nullptr);
  }
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

void reseed() noexcept {
  unsigned seed = static_cast<unsigned>(::getpid());
  if (::getrandom(&seed, sizeof seed, GRND_NONBLOCK) < 0) seed *= 2654435761U;
  ::srand(seed);
  ::srandom(seed);
  ::srand48(static_cast<long>(seed));
}

}  // namespace

setup_failure become_worker(pid_t server, const wire::worker_settings& settings, std::initializer_list<int> keep,
                            bool null_input) noexcept {
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return {"prctl(PR_SET_PDEATHSIG)", errno};
  if (::getppid() != server) ::_exit(0);  // it died before the line above
  ::setsid();  // a terminal's signals are not for it, and what its tasks start can be told by its session
  ::prctl(PR_SET_NAME, "shmpool-worker");
  if (const int error = close_descriptors_except(keep)) return {"close_range", error};
  if (!null_input && !read_dev_null()) return {"opening /dev/null as standard input", errno};
  leave_group_signals_to_the_application(settings.ignored_signals);
  reseed();
  for (std::uint32_t i = 0; i != settings.rlimit_count; ++i) {
    const rlimit limit{settings.rlimits[i].value, settings.rlimits[i].value};
    if (::setrlimit(static_cast<__rlimit_resource_t>(settings.rlimits[i].resource), &limit) != 0) {
      return {"setrlimit, for pool_options::rlimits", errno};
    }
  }
  if (settings.use_affinity != 0 && ::sched_setaffinity(0, sizeof settings.affinity, &settings.affinity) != 0) {
    return {"sched_setaffinity, for pool_options::cpu_affinity", errno};
  }
  if (settings.nice != 0 && ::setpriority(PRIO_PROCESS, 0, ::getpriority(PRIO_PROCESS, 0) + settings.nice) != 0) {
    return {"setpriority, for pool_options::nice", errno};
  }
  return {};
}

}  // namespace shmpool::worker
