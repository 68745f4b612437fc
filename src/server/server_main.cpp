#include "server/server_main.hpp"

#include "code/program_file.hpp"
#include "process/no_destructor.hpp"
#include "process/own_descriptors.hpp"
#include "process/process_status.hpp"
#include "process/program_start.hpp"
#include "process/server_environment.hpp"
#include "process/signals.hpp"
#include "process/standard_streams.hpp"
#include "server/exit_handlers.hpp"
#include "server/server_loop.hpp"
#include "worker/worker_main.hpp"

#include <shmpool/init.hpp>

#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <optional>
#include <utility>

namespace shmpool::server {

namespace {

/// The worker that this process has become before its constructors ran.
std::optional<early_worker>& born_early() noexcept {
  static no_destructor<std::optional<early_worker>> instance;
  return instance.value;
}

/// Drops the real-time scheduling class and the timer slack of the application's thread that started the server.
void use_ordinary_scheduling() noexcept {
  const int policy = ::sched_getscheduler(0) & ~SCHED_RESET_ON_FORK;
  const sched_param ordinary{};
  if (policy != SCHED_OTHER && policy != SCHED_BATCH && policy != SCHED_IDLE)
    ::sched_setscheduler(0, SCHED_OTHER, &ordinary);
  ::prctl(PR_SET_TIMERSLACK, 50'000);
}

/// Becomes the server of `parent`; as run_loop() otherwise.
[[noreturn]] void serve(unique_fd root, pid_t parent, bool early) {
  ::prctl(PR_SET_NAME, "shmpool-server");
  ::setsid();    // signals to the application's process group must not hit the server, which has to clean up after it
  if (!early) {  // else there are no C++ streams yet
    // Flush the output of constructors, if this is the program executed again: else each worker would print it.
    std::fflush(nullptr);
    flush_standard_streams();
  }
  occupy_standard_streams();
  reset_signals();
  ignore_group_signals();
  use_ordinary_scheduling();
  settle_own_descriptors(root);
  run_loop(std::move(root), parent, read_dev_null(), early);
}

/// Before the constructors of the program run. Returns in each worker, which goes on to main, and to init.
void become_server_early() noexcept {
  if (process_status().threads() > 1) ::_exit(threads_from_the_start);
  const server_start_note note = *take_start_note();
  start_is_over();
  try {
    serve(unique_fd(note.socket), note.parent, true);
  } catch (early_worker& born) {
    born_early() = std::move(born);
    set_awaits_init(true);
    limit_start();
  }
}

/// Executes the program once more, to become a server before its constructors run.
[[noreturn]] void execute_early(const server_start_note& note, bool bind_eagerly) noexcept {
  try {
    const std::string file = code::find_program_file();
    server_environment environment(note.parent, server_mode::early, note.socket, bind_eagerly);
    // The program's threads run on until execve, so close or move no descriptor under them.
    constexpr unsigned close_on_exec = 4;  // CLOSE_RANGE_CLOEXEC
    if (::syscall(SYS_close_range, 3, ~0U, close_on_exec) == 0 && ::fcntl(note.socket, F_SETFD, 0) == 0) {
      ::execve(file.c_str(), program_arguments(), environment.variables());
    }
  } catch (...) {
  }
  ::_exit(1);
}

/// In this file because all code that starts a server refers to it: a constructor in another file might not be linked.
[[gnu::constructor(101)]] void begin_program(int argc, char** argv) {
  note_program_start(argc, argv);
  if (start_note() && start_note()->mode == server_mode::early) become_server_early();
}

[[noreturn]] void run_executed(const server_start_note& note) noexcept {
  serve(unique_fd(note.socket), note.parent, false);
}

}  // namespace

void run_forked(unique_fd root, pid_t parent) noexcept {
  leave_exit_handlers_to_the_application();
  if (close_descriptors_except({root.get()}) != 0) ::_exit(1);  // workers must not get the application's descriptors
  serve(std::move(root), parent, false);
}

}  // namespace shmpool::server

void shmpool::init(int, char** argv) {
  note_init(argv);
  if (server::born_early()) {
    start_is_over();
    set_awaits_init(false);
    forget_eager_binding();
    wipe_arguments();
    server::early_worker born = *std::exchange(server::born_early(), std::nullopt);
    worker::run_worker(std::move(born.socket), std::move(born.control), born.failure);
  }
  if (!start_note()) return;
  const server_start_note note = *take_start_note();
  start_is_over();
  const bool bound_eagerly = forget_eager_binding();
  // Workers that are forked now would wait for the locks of threads that they do not have.
  if (process_status().threads() > 1) server::execute_early(note, bound_eagerly);
  wipe_arguments();
  server::run_executed(note);
}
