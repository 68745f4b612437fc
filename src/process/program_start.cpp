#include "process/program_start.hpp"

#include "process/no_destructor.hpp"
#include "process/own_descriptors.hpp"

#include <shmpool/init.hpp>

#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>

namespace shmpool {

namespace {

constexpr std::string_view variable_name = "SHMPOOL_FORK_SERVER";

struct noted {
  std::optional<server_start_note> server;
  bool server_image = false;
  bool awaits_init = false;
  std::atomic<char* const*> init_arguments{nullptr};
  std::atomic<bool> init_called{false};
  // Not allocated: a plugin that has a copy of the library may be unloaded, and would leak memory.
  std::array<char, 16 * 1024> argument_text{};
  std::array<char*, 512> arguments{}, kernel_arguments{};  // copies, originals; end with a null pointer
  cpu_set_t cpus{};
};

noted& notes() noexcept {
  static no_destructor<noted> instance;
  return instance.value;
}

/// "<parent> <mode> <socket> <dumpable>"
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

/// A user who starts a set-user-ID program could set the variable, and would get workers with its privileges.
bool may_have_gained_privileges() noexcept {
  return ::getauxval(AT_SECURE) != 0 && ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1;
}

}  // namespace

void note_program_start([[maybe_unused]] int argc, [[maybe_unused]] char** argv) noexcept {
  noted& here = notes();
  if (::sched_getaffinity(0, sizeof here.cpus, &here.cpus) != 0) CPU_ZERO(&here.cpus);
#ifdef __GLIBC__
  // If the library is loaded later (in a plugin, say), the program may have changed its arguments before.
  std::size_t count = 0, end = 0;
  for (; count < static_cast<std::size_t>(argc) && argv[count]; ++count) {
    const std::size_t size = std::strlen(argv[count]) + 1;
    if (count + 1 == here.arguments.size() || size > here.argument_text.size() - end) {
      here.arguments[0] = nullptr;  // too many: init provides them
      break;
    }
    std::memcpy(here.argument_text.data() + end, argv[count], size);
    here.arguments[count] = here.argument_text.data() + end;
    here.kernel_arguments[count] = argv[count];
    end += size;
  }
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
  here.server =
      server_start_note{(*told)[0], static_cast<server_mode>((*told)[1]), move_up(unique_fd((*told)[2])).release()};
  here.awaits_init = true;
}

std::string start_variable(pid_t parent, server_mode mode, int socket) {
  return std::string(variable_name) + "=" + std::to_string(parent) + " " + std::to_string(static_cast<int>(mode)) +
         " " + std::to_string(socket) + " " + std::to_string(::prctl(PR_GET_DUMPABLE) == 1 ? 1 : 0);
}

void wipe_arguments() noexcept {
  const noted& here = notes();
  if (!here.arguments[0]) return;
  for (std::size_t i = 1; here.arguments[i]; ++i)
    std::memset(here.kernel_arguments[i], 0, std::strlen(here.arguments[i]));
}

const std::optional<server_start_note>& start_note() noexcept {
  return notes().server;
}

std::optional<server_start_note> take_start_note() noexcept {
  notes().awaits_init = false;
  return std::exchange(notes().server, std::nullopt);
}

bool awaits_init() noexcept {
  return notes().awaits_init;
}

void set_awaits_init(bool awaits) noexcept {
  notes().awaits_init = awaits;
}

bool is_server_image() noexcept {
  return notes().server_image ||
         std::getenv(variable_name.data()) != nullptr;  // when constructors of libraries run first
}

void note_init(char** argv) noexcept {
  notes().init_arguments.store(argv, std::memory_order_relaxed);
  notes().init_called.store(true, std::memory_order_release);
}

bool init_was_called() noexcept {
  return notes().init_called.load(std::memory_order_acquire);
}

char* const* program_arguments() noexcept {
  if (notes().arguments[0]) return notes().arguments.data();
  return notes().init_arguments.load(std::memory_order_relaxed);
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

}  // namespace shmpool

bool shmpool::is_worker_image() noexcept {
  return is_server_image();
}
