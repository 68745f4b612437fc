// The task that this worker runs, for this_task. One state per process.
//
// Thread safety: the worker enters and leaves tasks in its main thread; any thread may call this_task.
#pragma once

#include "wire/control_page.hpp"

#include <cstdint>

namespace shmpool::worker {

/// Receives the calls of this_task::report_progress().
class progress_sink {
 public:
  virtual void report(std::uint64_t task, double fraction) noexcept = 0;

 protected:
  ~progress_sink() = default;
};
void report_progress_to(progress_sink& sink) noexcept;

/// From now on `task` runs in slot `in`; null: the initializer or the finalizer runs.
void enter_task(const wire::slot* in, std::uint64_t task) noexcept;
/// No task runs.
void leave_task() noexcept;

/// Sets this_task's values for the worker; called once, when the worker begins.
void note_worker(unsigned index, std::uint64_t seed) noexcept;

}  // namespace shmpool::worker
