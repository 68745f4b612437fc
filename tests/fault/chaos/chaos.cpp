// Chaos: real pools whose workers, fork servers and applications are killed at random moments and at named points,
// thousands of times, while tasks of all kinds run. Ends with 0 and one line of figures, or at the first broken promise
// with 1, what it was, and the seed.
//
//   shmpool_chaos [--seed=N] [--kills=N] [--parent-kills=N] [--seconds=N] [--backend=epoll|io_uring]
//                 [--backing=posix|memfd]
//
// A seed repeats the choices of a run, though not the moments at which the system does what was chosen.
#include "fault/chaos/driver.hpp"
#include "fault/chaos/storm.hpp"

#include <shmpool/init.hpp>

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>

namespace {

using namespace shmpool;
using namespace shmpool::chaos;

struct command_line {
  bool storm = false, idle = false;
  driver_options drive;
  storm_options weather;
};

backend backend_named(std::string_view name) {
  if (name == "epoll") return backend::epoll;
  if (name == "io_uring") return backend::io_uring;
  if (name == "automatic") return backend::automatic;
  throw std::invalid_argument("--backend is epoll, io_uring or automatic");
}

backing backing_named(std::string_view name) {
  if (name == "posix") return backing::posix;
  if (name == "memfd") return backing::memfd;
  if (name == "automatic") return backing::automatic;
  throw std::invalid_argument("--backing is posix, memfd or automatic");
}

command_line read(int argc, char** argv) {
  command_line result;
  result.drive.seed = std::random_device()();
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const auto equals = argument.find('=');
    const std::string_view name = argument.substr(0, equals);
    const std::string value(equals == std::string_view::npos ? "" : argument.substr(equals + 1));
    const auto number = [&] { return std::stoull(value); };
    if (name == "--storm") result.storm = true;
    else if (name == "--idle") result.idle = true;
    else if (name == "--no-init") continue;  // main() looks for it before anything else
    else if (name == "--seed") result.drive.seed = result.weather.seed = number();
    else if (name == "--kills") result.weather.kills = static_cast<int>(result.drive.kills = number());
    else if (name == "--parent-kills") result.drive.parent_kills = number();
    else if (name == "--seconds") result.drive.at_most = std::chrono::seconds(number());
    else if (name == "--pools") result.weather.pools = static_cast<unsigned>(number());
    else if (name == "--faults") result.weather.faults = static_cast<int>(number());
    else if (name == "--server-kills") result.weather.server_kills = static_cast<int>(number());
    else if (name == "--backend") result.drive.loop = result.weather.loop = backend_named(value);
    else if (name == "--backing") result.drive.memory = result.weather.memory = backing_named(value);
    else throw std::invalid_argument("no such option: " + std::string(argument));
  }
  return result;
}

/// The application becomes another program, which knows nothing of pools.
void become_another_program(int) {
  char name[] = "shmpool_chaos", argument[] = "--idle";
  char* arguments[] = {name, argument, nullptr};
  ::execv("/proc/self/exe", arguments);
  ::_exit(127);
}

}  // namespace

int main(int argc, char** argv) {
  const auto is_no_init = [](std::string_view argument) { return argument == "--no-init"; };
  if (std::none_of(argv + 1, argv + argc, is_no_init)) shmpool::init(argc, argv);
  const rlimit no_cores{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_cores);
  try {
    const command_line chosen = read(argc, argv);
    if (chosen.idle) {
      for (;;) ::pause();
    }
    if (chosen.storm) {
      ::signal(SIGUSR1, become_another_program);
      ::signal(SIGSEGV, SIG_DFL);  // a sanitizer's handler would turn it into an exit code
      return run_storm(chosen.weather);
    }
    std::printf("chaos: --seed=%llu\n", static_cast<unsigned long long>(chosen.drive.seed));
    std::fflush(stdout);
    return driver(chosen.drive).run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "chaos: %s\n", error.what());
    return 2;
  }
}
