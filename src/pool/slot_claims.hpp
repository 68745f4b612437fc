// Answers the scheduler's questions about the slots in the workers' control pages.
//
// Thread safety: none; the engine's lock guards it. The slots are shared with the workers, see wire/control_page.
#pragma once

#include "sched/scheduler.hpp"

#include <optional>

namespace shmpool::pool {

struct task;

class slot_claims final : public sched::claims {
 public:
  /// Sets the scheduler that knows the tasks.
  void ask_about(const sched::scheduler& scheduler) noexcept { scheduler_ = &scheduler; }

  bool take_back(sched::worker_id worker, sched::task_id id) noexcept override;
  std::optional<sched::time_point> started(sched::worker_id worker, sched::task_id id) noexcept override;

 private:
  task* assigned(sched::worker_id worker, sched::task_id id) const noexcept;

  const sched::scheduler* scheduler_ = nullptr;
};

}  // namespace shmpool::pool
