#include "process/signals.hpp"

#include <csignal>

namespace shmpool {

namespace {

constexpr int group_signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE};

}  // namespace

void reset_signals() noexcept {
  for (int number = 1; number < NSIG; ++number) ::signal(number, SIG_DFL);  // fails for a few; those have no handlers
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

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

void leave_group_signals_to_the_application(std::uint32_t ignored) noexcept {
  // As the server resets all signals before it ignores these, a worker need not do that again.
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

}  // namespace shmpool
