// How tasks begin, are cancelled, and follow each other.
#include "fault/chaos/workload.hpp"

#include <algorithm>
#include <iterator>

namespace shmpool::chaos {

namespace {

/// Of the process, so that no two tasks of its pools share a record.
run_id next_id = 1;

}  // namespace

workload::workload(const strand& where, const pool_options& options, std::uint64_t seed, const kill_book& book,
                   ledger& figures)
    : pool(std::in_place, asio::any_io_executor(where), options),
      where_(where),
      random_(seed),
      book_(book),
      figures_(figures),
      shared_seed_(seed) {
  shared_ = make(30'000, shared_seed_);
}

void workload::start(int clients) {
  for (int i = 0; i != clients; ++i) launch();
}

void workload::touch() {
  const auto op = begin("touch");
  op->chained = false;
  const std::uint64_t x = random_();
  pool->submit(mix, op->first, x, handler(op, [x](std::uint64_t result) { return result == scramble(x); }));
}

void workload::wind_down(bool aborting) noexcept {
  running_ = false;
  aborting_ = aborting;
}

words workload::make(std::size_t size, std::uint64_t seed) {
  auto result = pool->make_array<std::uint64_t>(size);
  fill_with(result, seed);
  return result;
}

workload::operation_ptr workload::begin(const char* kind, std::size_t count) {
  auto op = std::make_shared<operation>();
  op->kind = kind;
  op->first = next_id;
  op->count = count;
  op->begin = std::chrono::steady_clock::now();
  next_id += count;
  for (std::size_t i = 0; i != count; ++i) {
    run_record& record = figures_.run(op->first + i);
    record.runs = 0;
    record.worker = 0;
    record.server = 0;
  }
  ++in_flight_;
  const std::lock_guard lock(pending_mutex_);
  pending_[op->first] = op.get();
  return op;
}

/// For tasks that may run twice: some may be tried again.
task_options workload::perhaps_again(operation& op) {
  task_options result;
  if (dice(3) != 0) return result;
  result.idempotent = true;
  result.attempts = op.attempts = static_cast<unsigned>(1 + dice(4));
  return result;
}

void workload::perhaps_cancel(const operation_ptr& op) {
  if (dice(8) != 0) return;
  constexpr asio::cancellation_type kinds[] = {asio::cancellation_type::total, asio::cancellation_type::partial,
                                               asio::cancellation_type::terminal};
  cancel_later(op, kinds[dice(std::size(kinds))], dice(3) == 0 ? 0 : dice(3'000));
}

void workload::cancel_later(const operation_ptr& op, asio::cancellation_type kind, std::uint64_t microseconds) {
  const auto cancel = [op, kind] {
    if (op->completions != 0) return;
    op->may_abort = true;
    if (kind != asio::cancellation_type::total) op->asked_to_stop = true;
    op->cancel.emit(kind);
  };
  if (microseconds == 0) return cancel();
  auto timer = std::make_shared<asio::steady_timer>(where_, std::chrono::microseconds(microseconds));
  timer->async_wait(asio::bind_executor(where_, [timer, cancel](const asio::error_code&) { cancel(); }));
}

void workload::launch() {
  struct choice {
    void (workload::*start)();
    unsigned weight;
  };
  static constexpr choice choices[] = {
      {&workload::launch_mix, 12},      {&workload::launch_repeat, 6},
      {&workload::launch_list, 3},      {&workload::launch_make, 4},
      {&workload::launch_invert, 8},    {&workload::launch_invert_shared, 4},
      {&workload::launch_increment, 6}, {&workload::launch_increment_halves, 3},
      {&workload::launch_busy, 2},      {&workload::launch_take, 4},
      {&workload::launch_take_copy, 3}, {&workload::launch_digest_of, 4},
      {&workload::launch_rearrange, 4}, {&workload::launch_make_many, 3},
      {&workload::launch_keep, 4},      {&workload::launch_spin, 8},
      {&workload::launch_heed, 4},      {&workload::launch_endless, 2},
      {&workload::launch_report, 2},    {&workload::launch_refuse, 4},
      {&workload::launch_crash, 3},     {&workload::launch_burst, 1},
      {&workload::launch_map, 4},       {&workload::launch_leave_thread, 2},
      {&workload::launch_fork, 1},
  };
  unsigned all = 0;
  for (const choice& each : choices) all += each.weight;
  auto at = dice(all);
  for (const choice& each : choices) {
    if (at < each.weight) return (this->*each.start)();
    at -= each.weight;
  }
}

}  // namespace shmpool::chaos
