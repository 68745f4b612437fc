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
  cpu_set_t cpus{};
};

noted& notes() noexcept {
  static detail::immortal<noted> instance;
  return instance.value;
}

/// "<parent> <mode>"
std::optional<server_start_note> parse(std::string_view text) noexcept {
  server_start_note note;
  unsigned mode = 0;
  const char* const end = text.data() + text.size();
  const auto parent = std::from_chars(text.data(), end, note.parent);
  if (parent.ec != std::errc{} || parent.ptr == end || *parent.ptr != ' ') return std::nullopt;
  const auto rest = std::from_chars(parent.ptr + 1, end, mode);
  if (rest.ec != std::errc{} || rest.ptr != end || mode > static_cast<unsigned>(server_mode::early)) return std::nullopt;
  note.mode = static_cast<server_mode>(mode);
  return note;
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
  for (int i = 0; i < argc; ++i) here.argument_texts.emplace_back(argv[i]);
  for (std::string& each : here.argument_texts) here.arguments.push_back(each.data());
  here.arguments.push_back(nullptr);
#endif
  const char* const value = std::getenv(variable_name.data());
  if (!value) return;
  here.server = parse(value);
  here.server_image = true;
  ::unsetenv(variable_name.data());
  if (!here.server || may_have_gained_privileges()) ::_exit(refused_privileges);
  limit_start();
#if !SHMPOOL_HAS_SPAWN_CLOSEFROM
  close_descriptors_except({server_socket});
#endif
  here.server->socket = move_out_of_the_way(unique_fd(server_socket)).release();
  if (here.server->mode == server_mode::early) become_server_early();
}

}  // namespace

std::string start_variable(pid_t parent, server_mode mode) {
  return std::string(variable_name) + "=" + std::to_string(parent) + " " + std::to_string(static_cast<unsigned>(mode));
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
