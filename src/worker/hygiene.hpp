// What a fresh fork does before it becomes a fork server or a worker, so that nothing of its parent's state leaks into
// it.
#pragma once

#include "unique_fd.hpp"
#include "wire/server_protocol.hpp"

#include <sys/types.h>

#include <cstdint>
#include <initializer_list>

namespace shmpool::worker {

class received_surroundings;

/// Default dispositions for all signals, then an empty mask.
void reset_signals() noexcept;

/// Ignores what is meant for the whole process group or session: a fork server has to outlive its parent for a moment,
/// to clean up. become_worker() undoes it.
void ignore_group_signals() noexcept;
/// Those of them that this process ignores: bit n for signal n.
std::uint32_t ignored_group_signals() noexcept;

/// The input of the application is not for workers: puts /dev/null in its place, or an empty file where there is none.
/// The fork server does it for all of them; false if it could not.
bool read_dev_null() noexcept;

/// Opens the standard streams that are closed, on /dev/null. Else descriptors of this library take their numbers, and
/// what somebody prints goes into a socket.
void occupy_standard_streams() noexcept;

/// How soon the out-of-memory killer takes this process. A child inherits that: to raise it in the server around a fork
/// costs two short writes, while to open the file in each worker costs more than anything else that a worker does to
/// begin. Without permission or without /proc it does nothing, and a worker is merely as likely a victim as its parent.
class oom_score {
 public:
  oom_score() noexcept;
  /// Above that of the application, if it is not high already.
  void raise() noexcept { write(raised_); }
  void restore() noexcept { write(own_); }

 private:
  void write(int score) noexcept;

  unique_fd file_;
  int own_ = 0;
  int raised_ = 500;
};

/// The call that failed, and its error; null if none did.
struct setup_failure {
  const char* call = nullptr;
  int error = 0;
};

/// What is left to do in a fork of the server, whose signals were reset: the worker dies with `server` (and at once if
/// that is dead already), leads a session, leaves SIGINT, SIGTERM, SIGHUP and SIGQUIT to the application, reads
/// /dev/null (if the server does not: `null_input`), has random generators of its own, finds the surroundings of its
/// pool, and has the limits, nice value and CPUs of `settings`. Returns what the kernel refused, which must not run
/// silently without it; calls _exit if the server is gone.
setup_failure become_worker(pid_t server, const wire::worker_settings& settings, received_surroundings& with,
                            std::initializer_list<int> keep, bool null_input) noexcept;

/// Leaves a real-time scheduling class and timer slack that a thread of the application had when it started the server.
void use_ordinary_scheduling() noexcept;

}  // namespace shmpool::worker
