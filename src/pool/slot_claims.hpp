// Answers the scheduler's questions about the slots in the workers' control pages.
//
// Thread safety: none; the engine's lock guards it. The slots are shared with the workers, see wire/control_page.
#pragma once

#include "sched/scheduler.hpp"

#include <optional>

namespace shmpool::pool {

struct task_entry;
class task_ledger;

class slot_claims final : public sched::claims {
 public:
  explicit slot_claims(task_ledger& ledger) noexcept : ledger_(ledger) {}

  /// Sets the scheduler that knows the tasks.
  void ask_about(const sched::scheduler& scheduler) noexcept { scheduler_ = &scheduler; }

  bool take_back(sched::worker_id worker, sched::task_id id) noexcept override;
  std::optional<sched::time_point> start_time(sched::worker_id worker, sched::task_id id,
                                              sched::time_point now) noexcept override;

 private:
  task_entry* assigned(sched::worker_id worker, sched::task_id id) const noexcept;

  task_ledger& ledger_;
  const sched::scheduler* scheduler_ = nullptr;
};

}  // namespace shmpool::pool
