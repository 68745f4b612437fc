#include "worker/task_state.hpp"

#include <shmpool/this_task.hpp>

#include <atomic>

namespace shmpool {

namespace {

std::atomic<const wire::slot*> current_slot{nullptr};
std::atomic<std::uint64_t> current_task{0};
std::atomic<bool> running{false};
std::atomic<worker::progress_sink*> sink{nullptr};
std::atomic<unsigned> index_of_worker{0};
std::atomic<std::uint64_t> seed_of_worker{0};

}  // namespace

void worker::report_progress_to(progress_sink& to) noexcept {
  sink.store(&to, std::memory_order_release);
}

void worker::enter_task(const wire::slot* in, std::uint64_t task) noexcept {
  current_task.store(task, std::memory_order_relaxed);
  current_slot.store(in, std::memory_order_release);
  running.store(true, std::memory_order_release);
}

void worker::leave_task() noexcept {
  running.store(false, std::memory_order_release);
  current_slot.store(nullptr, std::memory_order_release);
}

void worker::note_worker(unsigned index, std::uint64_t seed) noexcept {
  index_of_worker.store(index, std::memory_order_relaxed);
  seed_of_worker.store(seed, std::memory_order_relaxed);
}

unsigned this_task::worker_index() noexcept {
  return index_of_worker.load(std::memory_order_relaxed);
}

std::uint64_t this_task::worker_seed() noexcept {
  return seed_of_worker.load(std::memory_order_relaxed);
}

bool this_task::stop_requested() noexcept {
  // The control page stays mapped for as long as the worker lives, so a stale slot is readable; its stop word then
  // names another task.
  const wire::slot* slot = current_slot.load(std::memory_order_acquire);
  return slot && slot->stop.load(std::memory_order_acquire) == current_task.load(std::memory_order_relaxed);
}

void this_task::report_progress(double fraction) noexcept {
  worker::progress_sink* to = sink.load(std::memory_order_acquire);
  const std::uint64_t task = current_task.load(std::memory_order_relaxed);
  if (to && task != 0 && running.load(std::memory_order_acquire)) to->report(task, fraction);
}

bool this_task::in_worker() noexcept {
  return running.load(std::memory_order_acquire);
}

}  // namespace shmpool
