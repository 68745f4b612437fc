// How tasks come in: the places that they wait for, what is lent to them, and what is known of them from then on. For
// want of memory a submit fails and leaves the pool as it was.
#include "pool/pool_engine.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace shmpool::pool {

namespace {

/// Ranges that are lent to a task which does not exist yet: taken off again if it never does.
class lent_ranges {
 public:
  explicit lent_ranges(const std::vector<attachment>& all) noexcept : all_(all) {}
  lent_ranges(const lent_ranges&) = delete;
  lent_ranges& operator=(const lent_ranges&) = delete;
  ~lent_ranges() {
    while (count_-- != 0) {
      const attachment& each = all_[count_];
      shm::end_lend(static_cast<shm::pool_segment&>(*each.handle.get()), each.offset, each.length,
                    each.mode != access::read);
    }
  }

  /// Registers all of them, or throws errc::array_busy; says which workers have one mapped already.
  std::uint64_t add_all() {
    std::uint64_t warm = 0;
    for (const attachment& each : all_) {
      auto& segment = static_cast<shm::pool_segment&>(*each.handle.get());
      if (!shm::begin_lend(segment, each.offset, each.length, each.mode != access::read))
        detail::throw_array_busy(overlaps_own(each));
      ++count_;
      if (warm != 0) continue;
      for (std::uint32_t bit = 0; bit != 64; ++bit) warm |= std::uint64_t{segment.maybe_mapped_by(bit)} << bit;
    }
    return warm;
  }
  /// They are the task's from here, until finish().
  void keep() noexcept { count_ = 0; }

 private:
  /// True if it is another argument of the same call that is in the way.
  bool overlaps_own(const attachment& next) const noexcept {
    return std::any_of(all_.begin(), all_.begin() + static_cast<std::ptrdiff_t>(count_), [&](const attachment& each) {
      const bool meets = each.offset <= next.offset ? next.offset - each.offset < each.length
                                                    : each.offset - next.offset < next.length;
      return each.handle == next.handle && meets && (each.mode != access::read || next.mode != access::read);
    });
  }

  const std::vector<attachment>& all_;
  std::size_t count_ = 0;
};

/// A span that is counted in nanoseconds from here, where the longest that can be written would not fit.
std::chrono::nanoseconds in_nanoseconds(std::chrono::milliseconds span) {
  return std::min<std::chrono::milliseconds>(span, std::chrono::years{100});
}

void check(const task_options& options) {
  if (options.timeout < std::chrono::nanoseconds::zero())
    throw std::invalid_argument("task_options::timeout must not be negative");
  if (options.cancel_grace && *options.cancel_grace < std::chrono::milliseconds::zero()) {
    throw std::invalid_argument("task_options::cancel_grace must not be negative");
  }
  if (options.attempts == 0) throw std::invalid_argument("task_options::attempts must be at least 1");
  if (options.attempts > 1 && !options.idempotent) {
    throw std::invalid_argument(
        "task_options::attempts above 1 needs idempotent = true: the task may run more than once");
  }
}

}  // namespace

bool pool_engine::holds() const noexcept {
  return options_.when_full == overload::wait && (options_.max_pending != 0 || options_.max_pending_bytes != 0);
}

flush_hint pool_engine::hold(operation& op, std::uint64_t& place) {
  place = 0;
  if (made_here_.inherited()) throw std::system_error(errc::pool_closed, "this is a forked copy of the pool");
  std::unique_lock lock(mutex_);
  if (closing_ || closed_) throw std::system_error(errc::pool_closed);
  const auto now = clock::now();
  if (scheduler_->refuses(now)) refuse_broken(std::move(lock));
  task& made = new_task(op);
  enter(made, 0, [&] { return scheduler_->hold(&made, op.deadline, now); });
  op.result.place = 0;
  held_now_ = &op;
  guarded([&] { run_actions(now); });
  if (std::exchange(held_now_, nullptr) == nullptr) place = op.result.place;
  return react();
}

void pool_engine::refuse_broken(std::unique_lock<std::mutex> lock) {
  const auto why = why_broken();
  lock.unlock();
  std::rethrow_exception(error_of(*why));
}

flush_hint pool_engine::withdraw(std::uint64_t place, std::uint64_t cancel_key) noexcept {
  if (made_here_.inherited_for_certain()) return flush_hint::none;
  std::lock_guard lock(mutex_);
  if (closed_) return flush_hint::none;
  cancel_keys_.erase(cancel_key);
  guarded([&] {
    const auto now = clock::now();
    scheduler_->withdraw(place, now);
    run_actions(now);
  });
  return react();
}

flush_hint pool_engine::submit(operation& op, const callable_ref& fn, std::vector<std::byte> arguments,
                               std::vector<attachment> attachments, const task_options& options, std::uint64_t place) {
  if (arguments.size() > wire::max_body) {
    throw std::system_error(errc::message_too_large,
                            "the arguments take " + std::to_string(arguments.size()) + " bytes");
  }
  if (attachments.size() > wire::max_segments / 2) {
    throw std::system_error(errc::message_too_large,
                            "the arguments have " + std::to_string(attachments.size()) + " arrays");
  }
  check(options);
  if (made_here_.inherited()) throw std::system_error(errc::pool_closed, "this is a forked copy of the pool");
  std::unique_lock lock(mutex_);
  if (closed_ || (closing_ && place == 0)) throw std::system_error(errc::pool_closed);
  const auto now = submit_time_ ? *submit_time_ : clock::now();
  if (scheduler_->refuses(now)) refuse_broken(std::move(lock));
  const std::uint32_t function = functions_.number(fn);
  check_quarantine(function, arguments, !attachments.empty(), now);

  lent_ranges lent(attachments);
  sched::task_spec spec;
  spec.warm_workers = lent.add_all();
  task& made = new_task(op);
  made.function = function;
  op.on_progress = options.on_progress;
  made.arguments = std::move(arguments);
  made.attachments = std::move(attachments);
  lent.keep();

  spec.context = &made;
  spec.kind = function + 1;
  spec.timeout = options.timeout;
  spec.deadline = op.deadline;
  if (options.cancel_grace) spec.cancel_grace = in_nanoseconds(*options.cancel_grace);
  spec.attempts = options.attempts;
  spec.bytes = made.arguments.size();
  for (const attachment& each : made.attachments) spec.bytes += each.length;
  const bool entered = enter(made, place, [&] {
    if (place == 0) return scheduler_->submit(spec, now);
    scheduler_->submit(place, spec, now);
    return place;
  });
  if (!entered) throw std::system_error(errc::queue_full, bound_reached());
  ++submitted_;
  idle_output_ = false;
  guarded([&] { run_actions(now); });
  flush_hint next = react();
  if (next == flush_hint::none && made.on) next = flush_hint::soon;
  if (next != flush_hint::none || polling_.load(std::memory_order_relaxed))
    submit_time_ = now;  // the pool's next turn is near
  return next;
}

void pool_engine::check_quarantine(std::uint32_t function, std::span<const std::byte> arguments, bool with_arrays,
                                   clock::time_point now) {
  if (const unsigned kills = with_arrays ? 0 : killers_.refuses(function, arguments, now); kills != 0) {
    throw std::system_error(errc::quarantined, "this call has killed " + std::to_string(kills) + " workers");
  }
  if (scheduler_->admits(function + 1, now)) return;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(scheduler_->admits_at(function + 1) - now).count();
  throw std::system_error(errc::quarantined,
                          "the function has killed nearly every worker that ran it; one call is let through in " +
                              std::to_string(left) + " ms");
}

pool_engine::task& pool_engine::new_task(operation& op) {
  task* made;
  if (spare_tasks_.empty()) {
    if (spare_tasks_.capacity() <= task_pool_.size()) spare_tasks_.reserve(2 * task_pool_.size() + 16);
    made = task_pool_.emplace_back(std::make_unique<task>()).get();
  } else {
    made = spare_tasks_.back();
    spare_tasks_.pop_back();
  }
  made->op = &op;
  return *made;
}

template <class Event>
bool pool_engine::enter(task& made, std::uint64_t place, Event event) {
  const auto known = [this] {
    const sched::counts tasks = scheduler_->count();
    return tasks.held + tasks.queued + tasks.assigned;
  };
  const std::size_t others = known();
  const std::uint64_t key = made.op->cancel_key;
  try {
    if (key != 0) cancel_keys_.emplace(key, 0);
    made.id = event();
  } catch (...) {
    if (place != 0 ? scheduler_->awaits_submit(place) : known() == others) {
      finish(made);
      throw;
    }
    collapse(std::current_exception());  // the scheduler has the task, which therefore ends as all others do
    return true;
  }
  if (made.id == 0) {
    finish(made);
    return false;
  }
  if (key != 0) cancel_keys_[key] = made.id;
  return true;
}

std::string pool_engine::bound_reached() const {
  const sched::counts tasks = scheduler_->count();
  if (options_.max_pending != 0 && tasks.queued + tasks.assigned >= options_.max_pending) {
    return "pool_options::max_pending = " + std::to_string(options_.max_pending);
  }
  return "pool_options::max_pending_bytes = " + std::to_string(options_.max_pending_bytes);
}

/// What is left to be done after a call from above.
flush_hint pool_engine::react() {
  bool waits = false;
  guarded([&] { waits = arm_timer(); });
  if (std::exchange(idle_output_, false) || !completed_.empty()) return flush_hint::now;
  return waits ? flush_hint::soon : flush_hint::none;
}

flush_hint pool_engine::cancel(std::uint64_t cancel_key, cancel_kind kind) {
  if (made_here_.inherited()) return flush_hint::none;
  std::lock_guard lock(mutex_);
  const auto found = cancel_keys_.find(cancel_key);
  if (found == cancel_keys_.end() || closed_) return flush_hint::none;
  guarded([&] {
    const auto now = clock::now();
    scheduler_->cancel(found->second, kind, now);
    run_actions(now);
    arm_timer();
  });
  return flush_hint::now;
}

}  // namespace shmpool::pool
