#include "worker/hygiene.hpp"

#include "worker/own_descriptors.hpp"
#include "worker/program_start.hpp"
#include "worker/surroundings.hpp"
#include "worker/task_state.hpp"

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

void occupy_standard_streams() noexcept {
  for (int standard = STDIN_FILENO; standard <= STDERR_FILENO; ++standard) {
    if (::fcntl(standard, F_GETFD) >= 0) continue;
    const int opened = ::open("/dev/null", O_RDWR);          // the lowest number that is free
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

oom_score::oom_score() noexcept
    : file_(move_out_of_the_way(unique_fd(::open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC)))) {
  char text[16]{};
  if (file_ && ::read(file_.get(), text, sizeof text - 1) <= 0) file_.reset();
  own_ = std::atoi(text);
  raised_ = std::max(raised_, own_);
}

void oom_score::write(int score) noexcept {
  char text[16]{};
  const auto end = std::to_chars(text, text + sizeof text, score).ptr;
  if (file_) [[maybe_unused]]
    auto written = ::pwrite(file_.get(), text, static_cast<std::size_t>(end - text), 0);
}

namespace {

/// What is sent to every process of a service (its cgroup, say) is for the application to decide, whose end is the
/// worker's too. A handler that does nothing, since programs that a task starts would inherit it if it were ignored,
/// and could not be asked to end; but what the application itself ignores stays ignored, in them as well. As the server
/// resets all signals before it ignores these, a worker need not do that again.
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

/// Of the C library: what else there is in the program it has to seed itself, from what this returns.
std::uint64_t reseed() noexcept {
  auto seed = static_cast<std::uint64_t>(::getpid());
  if (::getrandom(&seed, sizeof seed, GRND_NONBLOCK) != sizeof seed) seed *= 0x9e3779b97f4a7c15U;
  const auto low = static_cast<unsigned>(seed);
  ::srand(low);
  ::srandom(low);
  ::srand48(static_cast<long>(low));
  return seed;
}

}  // namespace

void use_ordinary_scheduling() noexcept {
  const int policy = ::sched_getscheduler(0) & ~SCHED_RESET_ON_FORK;
  const sched_param ordinary{};
  if (policy != SCHED_OTHER && policy != SCHED_BATCH && policy != SCHED_IDLE)
    ::sched_setscheduler(0, SCHED_OTHER, &ordinary);
  ::prctl(PR_SET_TIMERSLACK, 50'000);
}

setup_failure become_worker(pid_t server, const wire::worker_settings& settings, received_surroundings& with,
                            std::initializer_list<int> keep, bool null_input) noexcept {
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return {"prctl(PR_SET_PDEATHSIG)", errno};
  if (::getppid() != server) ::_exit(0);  // it died before the line above
  ::setsid();  // a terminal's signals are not for it, and what its tasks start can be told by its session
  ::prctl(PR_SET_NAME, "shmpool-worker");
  if (const setup_failure failure = with.apply(); failure.call)
    return failure;  // it has descriptors that are closed next
  if (const int error = close_own_descriptors_except(keep)) return {"close_range", error};
  if (!null_input && !read_dev_null()) return {"opening /dev/null as standard input", errno};
  leave_group_signals_to_the_application(settings.ignored_signals);
  note_worker(settings.index, reseed());
  for (std::uint32_t i = 0; i != settings.rlimit_count; ++i) {
    const rlimit limit{settings.rlimits[i].value, settings.rlimits[i].value};
    if (::setrlimit(static_cast<__rlimit_resource_t>(settings.rlimits[i].resource), &limit) != 0) {
      return {"setrlimit, for pool_options::rlimits", errno};
    }
  }
  if (settings.use_affinity != 0) {
    if (::sched_setaffinity(0, sizeof settings.affinity, &settings.affinity) != 0) {
      return {"sched_setaffinity, for pool_options::cpu_affinity", errno};
    }
    set_process_cpus(settings.affinity);
  }
  if (settings.nice != 0 && ::setpriority(PRIO_PROCESS, 0, ::getpriority(PRIO_PROCESS, 0) + settings.nice) != 0) {
    return {"setpriority, for pool_options::nice", errno};
  }
  return {};
}

}  // namespace shmpool::worker
