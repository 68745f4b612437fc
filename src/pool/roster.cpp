#include "pool/roster.hpp"

#include "pool/worker_channel.hpp"
#include "process/assert.hpp"

#include <algorithm>

namespace shmpool::pool {

void roster::add(worker_channel& worker) {
  SHMPOOL_ASSERT(!worker.marks.in);
  auto place = std::find(by_place_.begin(), by_place_.end(), nullptr);
  const std::size_t most = by_place_.size() + 1;
  for (list* each : {&outgoing_, &being_sent_, &busy_, &newly_busy_, &polled_, &due_now_}) {
    if (each->capacity() < most) each->reserve(2 * most);
  }
  dues_.reserve(most);
  if (place == by_place_.end()) place = by_place_.insert(place, nullptr);
  *place = &worker;
  worker.place = static_cast<std::uint32_t>(place - by_place_.begin());
  worker.marks = {};
  worker.marks.in = this;
}

void roster::remove(worker_channel& worker) noexcept {
  if (worker.marks.in != this) return;
  worker.marks = {};
  for (list* each : {&outgoing_, &being_sent_, &busy_, &newly_busy_, &polled_, &due_now_}) {
    std::replace(each->begin(), each->end(), &worker, static_cast<worker_channel*>(nullptr));
  }
  dues_.clear(worker.place);
  by_place_[worker.place] = nullptr;
}

/// Where the vector is full, a worker that was removed has left its place: the live ones always fit.
void roster::put(list& to, worker_channel& worker) noexcept {
  if (to.size() != to.capacity()) to.push_back(&worker);
  else *std::find(to.begin(), to.end(), nullptr) = &worker;
}

void roster::has_frames(worker_channel& worker) noexcept {
  if (!std::exchange(worker.marks.outgoing, true)) put(outgoing_, worker);
}

roster::unsent_stay::~unsent_stay() {
  for (worker_channel* const each : of.being_sent_) {
    if (each) put(of.outgoing_, *each);
  }
  of.being_sent_.clear();
}

void roster::is_busy(worker_channel& worker) noexcept {
  if (!worker.marks.in) return;
  if (!std::exchange(worker.marks.busy, true)) put(busy_, worker);
  if (!std::exchange(worker.marks.newly_busy, true)) put(newly_busy_, worker);
}

void roster::forget_idle() noexcept {
  std::erase_if(busy_, [](worker_channel* each) {
    if (!each) return true;
    if (!each->has_tasks()) each->marks.busy = false;
    return !each->has_tasks();
  });
}

bool roster::has_tasks(const worker_channel& worker) const noexcept {
  return worker.has_tasks();
}

roster::marks& roster::marks_of(worker_channel& worker) const noexcept {
  return worker.marks;
}

void roster::is_polled(worker_channel& worker) noexcept {
  if (!std::exchange(worker.marks.polled, true)) put(polled_, worker);
}

void roster::end_polling() noexcept {
  for (worker_channel* const each : polled_) {
    if (each) each->marks.polled = false;
  }
  polled_.clear();
}

void roster::note_due(worker_channel& worker) noexcept {
  if (!worker.marks.in) return;
  worker.marks.noted = worker.due();
  if (worker.marks.noted == time_point::max()) dues_.clear(worker.place);
  else dues_.set(worker.place, worker.marks.noted);
}

}  // namespace shmpool::pool
