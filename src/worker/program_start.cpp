#include "worker/program_start.hpp"

#include "immortal.hpp"
#include "worker/fork_server.hpp"
#include "worker/own_descriptors.hpp"

#include <shmpool/init.hpp>

#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace shmpool::worker {

namespace {

constexpr std::string_view variable_name = "SHMPOOL_FORK_SERVER";

struct noted {
  std::optional<server_start_note> server;
  bool server_image = false;
  std::vector<std::string> argument_texts;
  std::vector<char*> arguments;
  std::vector<char*> kernel_arguments;  // where they lie
  cpu_set_t cpus{};
};

noted& notes() noexcept {
  static detail::immortal<noted> instance;
  return instance.value;
}

/// "<parent> <mode> <socket> <whether it may be looked into>"
std::optional<std::array<int, 4>> parse(std::string_view text) noexcept {
  std::array<int, 4> numbers{};
  const char* at = text.data();
  const char* const end = at + text.size();
  for (int& each : numbers) {
    const auto [next, error] = std::from_chars(at, end, each);
    if (error != std::errc{} || (next != end && *next != ' ')) return std::nullopt;
    at = next == end ? end : next + 1;
  }
  if (at != end || numbers[1] < 0 || numbers[1] > static_cast<int>(server_mode::early)) return std::nullopt;
  return numbers;
}

/// Whoever starts a set-user-ID program could give it the variable, and would have workers with its privileges.
bool may_have_gained_privileges() noexcept {
  return ::getauxval(AT_SECURE) != 0 && ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1;
}

/// The C library of GNU hands the arguments of main to constructors.
[[gnu::constructor(101)]] void note_start([[maybe_unused]] int argc, [[maybe_unused]] char** argv) {
  noted& here = notes();
  if (::sched_getaffinity(0, sizeof here.cpus, &here.cpus) != 0) CPU_ZERO(&here.cpus);
#ifdef __GLIBC__
  // In a library that is loaded later (a plugin with a copy of this one) the program may have changed them.
  for (int i = 0; i < argc && argv[i]; ++i) {
    here.argument_texts.emplace_back(argv[i]);
    here.kernel_arguments.push_back(argv[i]);
  }
  for (std::string& each : here.argument_texts) here.arguments.push_back(each.data());
  here.arguments.push_back(nullptr);
#endif
  const char* const value = std::getenv(variable_name.data());
  if (!value) return;
  const auto told = parse(value);
  here.server_image = true;
  ::unsetenv(variable_name.data());
  if (!told || may_have_gained_privileges()) ::_exit(refused_privileges);
  if ((*told)[3] == 0) ::prctl(PR_SET_DUMPABLE, 0);
  limit_start();
#if !SHMPOOL_HAS_SPAWN_CLOSEFROM
  close_descriptors_except({(*told)[2]});
#endif
  here.server = server_start_note{(*told)[0], static_cast<server_mode>((*told)[1]), move_up(unique_fd((*told)[2])).release()};
  if (here.server->mode == server_mode::early) become_server_early();
}

}  // namespace

std::string start_variable(pid_t parent, server_mode mode, int socket) {
  return std::string(variable_name) + "=" + std::to_string(parent) + " " + std::to_string(static_cast<int>(mode)) + " " +
         std::to_string(socket) + " " + std::to_string(::prctl(PR_GET_DUMPABLE) == 1 ? 1 : 0);
}

void wipe_arguments() noexcept {
  const noted& here = notes();
  for (std::size_t i = 1; i < here.argument_texts.size(); ++i) {
    std::memset(here.kernel_arguments[i], 0, here.argument_texts[i].size());
  }
}

std::optional<server_start_note>& start_note() noexcept {
  return notes().server;
}

bool is_server_image() noexcept {
  return notes().server_image || std::getenv(variable_name.data()) != nullptr;  // where constructors of libraries come first
}

const std::vector<char*>& start_arguments() noexcept {
  return notes().arguments;
}

const cpu_set_t& process_cpus() noexcept {
  return notes().cpus;
}

void set_process_cpus(const cpu_set_t& cpus) noexcept {
  notes().cpus = cpus;
}

void limit_start() noexcept {
  const itimerval patience{{}, {start_patience_seconds, 0}};
  ::setitimer(ITIMER_REAL, &patience, nullptr);
}

void start_is_over() noexcept {
  const itimerval none{};
  ::setitimer(ITIMER_REAL, &none, nullptr);
}

}  // namespace shmpool::worker

bool shmpool::is_worker_image() noexcept {
  return worker::is_server_image();
}
