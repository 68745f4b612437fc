// Which task this worker runs, for this_task. One per process.
//
// Thread safety: the worker enters and leaves tasks in its main thread; what this_task says may be asked by any thread.
#pragma once

#include "wire/control_page.hpp"

#include <cstdint>

namespace shmpool::worker {

/// Where this_task::report_progress() goes.
class progress_sink {
 public:
  virtual void report(std::uint64_t task, double fraction) noexcept = 0;

 protected:
  ~progress_sink() = default;
};
void report_progress_to(progress_sink& sink) noexcept;

/// From here `task` runs in `in`; null: the initializer or the finalizer runs.
void enter_task(const wire::slot* in, std::uint64_t task) noexcept;
/// No task runs.
void leave_task() noexcept;

/// What this_task says of the worker; once, when it begins.
void note_worker(unsigned index, std::uint64_t seed) noexcept;

}  // namespace shmpool::worker
