#include "pool/task_failure.hpp"

#include <shmpool/error.hpp>

#include <exception>
#include <string>
#include <system_error>

namespace shmpool::pool {

namespace {

std::exception_ptr error(errc code, const std::string& text) {
  return std::make_exception_ptr(std::system_error(code, text));
}

void note_loss(detail::outcome& of, const sched::action& how, const crew& workers) {
  worker_lost::details details;
  if (const worker_channel* const lost = workers.find(how.worker)) {
    if (!lost->life.violation().empty()) {
      of.error = error(errc::protocol_violation, lost->life.violation());
      return;
    }
    details = workers.end_of(*lost);
  }
  details.started = how.begun;
  of.error = std::make_exception_ptr(worker_lost(details));
}

}  // namespace

std::shared_ptr<const detail::breakage> why_broken(const diagnosis& problems, const sched::scheduler& scheduler) {
  return problems.why_broken(scheduler.broken(), scheduler.count().next_start);
}

void note_failure(detail::outcome& of, const sched::action& how, const crew& workers, const diagnosis& problems,
                  const sched::scheduler& scheduler) {
  switch (how.why) {
    case sched::failure::cancelled:
    case sched::failure::pool_stopped: of.aborted = true; return;
    case sched::failure::deadline_exceeded:
      of.error = std::make_exception_ptr(std::system_error(errc::deadline_exceeded));
      return;
    case sched::failure::worker_start_failed:
      of.error = error(errc::worker_start_failed, problems.why_not_started());
      return;
    case sched::failure::pool_broken: of.broken = why_broken(problems, scheduler); return;
    case sched::failure::quarantined:
      of.error = error(errc::quarantined, "the function has killed nearly every worker that ran it");
      return;
    case sched::failure::none:
    case sched::failure::worker_lost: note_loss(of, how, workers); return;
  }
}

void count_failure(failure_counts& counts, const sched::action& how, const crew& workers) noexcept {
  switch (how.why) {
    case sched::failure::none: break;
    case sched::failure::cancelled:
    case sched::failure::pool_stopped: ++counts.aborted; break;
    case sched::failure::deadline_exceeded: ++counts.deadline_exceeded; break;
    case sched::failure::worker_lost: {
      const worker_channel* const lost = workers.find(how.worker);
      ++(lost && !lost->life.violation().empty() ? counts.protocol_violation : counts.worker_lost);
      break;
    }
    case sched::failure::worker_start_failed: ++counts.worker_start_failed; break;
    case sched::failure::pool_broken: ++counts.pool_broken; break;
    case sched::failure::quarantined: ++counts.quarantined; break;
  }
}

}  // namespace shmpool::pool
