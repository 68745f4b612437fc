// One submit of each kind, with what its result has to be.
#include "fault/chaos/workload.hpp"

#include <algorithm>
#include <memory>
#include <utility>

namespace shmpool::chaos {

void workload::launch_mix() {
  const auto op = begin("mix");
  const std::uint64_t x = random_();
  pool->submit(perhaps_again(*op), mix, op->first, x,
               handler(op, [x](std::uint64_t result) { return result == scramble(x); }));
  perhaps_cancel(op);
}

void workload::launch_repeat() {
  const auto op = begin("repeat");
  const int times = static_cast<int>(dice(dice(4) == 0 ? 60'000 : 2'000));
  pool->submit(perhaps_again(*op), repeat, op->first, std::string("abc"), times,
               handler(op, [times](const std::string& result) {
                 std::string expected;
                 for (int i = 0; i != times; ++i) expected += "abc";
                 return result == expected;
               }));
  perhaps_cancel(op);
}

void workload::launch_list() {
  const auto op = begin("list");
  const int elements = static_cast<int>(dice(3'000));
  pool->submit(perhaps_again(*op), list, op->first, elements,
               handler(op, [elements](const std::vector<std::string>& result) {
                 bool right = result.size() == static_cast<std::size_t>(elements);
                 for (std::size_t i = 0; right && i != result.size(); ++i) {
                   right = result[i] == "element " + std::to_string(i);
                 }
                 return right;
               }));
  perhaps_cancel(op);
}

void workload::launch_make() {
  const auto op = begin("make");
  const std::uint64_t seed = random_();
  const std::size_t n = size();
  pool->submit(perhaps_again(*op), chaos::make, op->first, seed, n,
               handler(op, [seed, n](const const_words& result) { return result.size() == n && holds(result, seed); }));
  perhaps_cancel(op);
}

void workload::launch_invert() {
  const auto op = begin("invert");
  const std::uint64_t seed = random_();
  const words values = make(size(), seed);
  pool->submit(perhaps_again(*op), invert, op->first, values, handler(op, [values, seed](const words& result) {
                 bool right = result.size() == values.size() && holds(values, seed);
                 for (std::size_t i = 0; right && i != values.size(); ++i) right = result[i] == ~values[i];
                 return right;
               }));
  perhaps_cancel(op);
}

void workload::launch_invert_shared() {
  const auto op = begin("invert_shared");
  pool->submit(perhaps_again(*op), invert, op->first, shared_, handler(op, [seed = shared_seed_](const words& result) {
                 bool right = result.size() == 30'000;
                 for (std::size_t i = 0; right && i != result.size(); ++i) right = result[i] == ~pattern(seed, i);
                 return right;
               }));
  perhaps_cancel(op);
}

/// Edits in place: each element once, or, if it did not come to an end, at most once.
void workload::increment_part(const operation_ptr& op, words part, std::uint64_t seed) {
  op->check_failed = [part, seed] {
    for (std::size_t i = 0; i != part.size(); ++i) {
      if (part[i] != pattern(seed, i) && part[i] != next_value(pattern(seed, i))) return false;
    }
    return true;
  };
  pool->submit(increment, op->first, part, handler(op, [part, seed] {
                 bool right = true;
                 for (std::size_t i = 0; right && i != part.size(); ++i)
                   right = part[i] == next_value(pattern(seed, i));
                 return right;
               }));
}

void workload::launch_increment() {
  const auto op = begin("increment");
  const std::uint64_t seed = random_();
  increment_part(op, make(size(), seed), seed);
  perhaps_cancel(op);
}

void workload::launch_increment_halves() {
  const std::uint64_t seed = random_();
  const words values = make(2 * size(), seed);
  const std::size_t half = values.size() / 2;
  const auto first = begin("increment_first_half");
  increment_part(first, values.rows(0, half), seed);
  const auto second = begin("increment_second_half");
  second->chained = false;
  increment_part(second, values.rows(half, 2 * half), seed + half);
  perhaps_cancel(second);
}

/// A second task that wants to read what a first one writes.
void workload::launch_busy() {
  const std::uint64_t seed = random_();
  words values = make(size(), seed);
  const auto writer = begin("increment_busy");
  increment_part(writer, values, seed);
  const auto reader = begin("read_busy");
  reader->chained = false;
  reader->may_be_refused = true;
  // The writer may have ended, or its worker died half-way, before the second submit: then any digest will do.
  pool->submit(digest_of, reader->first, values, handler(reader, [](std::uint64_t) { return true; }));
}

void workload::launch_take() {
  const auto op = begin("take");
  const std::uint64_t seed = random_();
  const std::size_t n = size();
  const std::uint64_t first = random_();
  pool->submit(take, op->first, make(n, seed), first, handler(op, [seed, n, first](const words& result) {
                 return result.size() == n && result[0] == first && holds(result.rows(1, n), seed + 1);
               }));
  perhaps_cancel(op);
}

void workload::launch_take_copy() {
  const auto op = begin("take_copy");
  const std::uint64_t seed = random_();
  const words values = make(size(), seed);
  op->check_failed = [values, seed] { return holds(values, seed); };
  pool->submit(take, op->first, values, seed, handler(op, [values, seed](const words& result) {
                 return result.size() == values.size() && result[0] == seed &&
                        holds(result.rows(1, result.size()), seed + 1) && holds(values, seed);
               }));
  perhaps_cancel(op);
}

void workload::launch_digest_of() {
  const auto op = begin("digest_of");
  std::vector<std::uint64_t> values(size());
  fill_with(values, random_());
  pool->submit(perhaps_again(*op), digest_of, op->first, values,
               handler(op, [expected = digest(values)](std::uint64_t result) { return result == expected; }));
  perhaps_cancel(op);
}

void workload::launch_rearrange() {
  const auto op = begin("rearrange");
  const std::uint64_t seed = random_();
  const std::size_t n = size();
  record in;
  in.name = "a record";
  in.samples = make(n, seed);
  in.more["lent"] = make(1'000 + dice(5'000), seed + 1);
  in.more["shared"] = shared_;
  pool->submit(rearrange, op->first, std::move(in), handler(op, [seed, n, of_all = shared_seed_](record& out) {
                 bool right = out.name == "a record'" && out.samples.size() == n && out.more.size() == 3 &&
                              holds(out.more["samples"], seed) && holds(out.more["lent"], seed + 1) &&
                              holds(out.more["shared"], of_all);
                 for (std::size_t i = 0; right && i != n; ++i) right = out.samples[i] == pattern(seed, n - 1 - i);
                 return right;
               }));
  perhaps_cancel(op);
}

void workload::launch_make_many() {
  const auto op = begin("make_many");
  const std::uint64_t seed = random_();
  const int arrays = static_cast<int>(1 + dice(6));
  const std::size_t n = 3'000 + dice(20'000);
  pool->submit(perhaps_again(*op), make_many, op->first, seed, arrays, n,
               handler(op, [seed, arrays, n](const std::vector<words>& result) {
                 bool right = result.size() == static_cast<std::size_t>(arrays);
                 for (std::size_t i = 0; right && i != result.size(); ++i) {
                   right = result[i].size() == n + i && holds(result[i], seed + i);
                 }
                 return right;
               }));
  perhaps_cancel(op);
}

void workload::launch_leave_thread() {
  const auto op = begin("leave_thread");
  const std::uint64_t x = random_();
  pool->submit(perhaps_again(*op), leave_thread, op->first, x,
               handler(op, [x](std::uint64_t result) { return result == scramble(x); }));
  perhaps_cancel(op);
}

void workload::launch_fork() {
  const auto op = begin("fork");
  const std::uint64_t seed = random_();
  const std::size_t n = size();
  pool->submit(perhaps_again(*op), fork_and_make, op->first, seed, n,
               handler(op, [seed, n](const const_words& result) { return result.size() == n && holds(result, seed); }));
  perhaps_cancel(op);
}

void workload::launch_keep() {
  const auto op = begin("keep");
  const std::uint64_t seed = random_();
  // Dropped here at once: it lives on in the worker.
  pool->submit(keep, op->first, seed, make(3'000 + dice(10'000), seed),
               handler(op, [](bool intact) { return intact; }));
  perhaps_cancel(op);
}

void workload::launch_spin() {
  const auto op = begin("spin");
  const int time = static_cast<int>(dice(dice(2) == 0 ? 2'000 : 20));
  pool->submit(perhaps_again(*op), spin, op->first, time, handler(op, [time](int result) { return result == time; }));
  perhaps_cancel(op);
}

void workload::launch_heed() {
  const auto op = begin("heed");
  const int time = static_cast<int>(1 + dice(10));
  task_options options;
  if (dice(2) == 0) {
    options.timeout = std::chrono::microseconds(500 + dice(5'000));
    op->may_expire = op->asked_to_stop = true;
  }
  pool->submit(options, heed, op->first, time, handler(op, [time, op = op.get()](int result) {
                 return result == time || (result == -time && op->asked_to_stop);
               }));
  perhaps_cancel(op);
}

void workload::launch_endless() {
  const auto op = begin("endless");
  op->endless = true;
  task_options options;
  const bool timed = dice(2) == 0;
  if (timed) {
    options.timeout = std::chrono::microseconds(500 + dice(10'000));
    op->may_expire = true;
  }
  pool->submit(options, endless, op->first, handler(op, [] { return false; }));
  if (!timed) cancel_later(op, asio::cancellation_type::terminal, dice(10'000));
}

void workload::launch_report() {
  const auto op = begin("report");
  task_options options;
  // Not called any more once the task has completed.
  options.on_progress = [op](double fraction) {
    if (fraction < 0 || fraction > 1 || op->completions != 0) end_with("progress that cannot be");
  };
  pool->submit(options, chaos::report, op->first, static_cast<int>(1 + dice(50)), handler(op, [] { return true; }));
  perhaps_cancel(op);
}

void workload::launch_refuse() {
  const auto op = begin("refuse");
  op->refusal = static_cast<int>(dice(refusals));
  pool->submit(perhaps_again(*op), refuse, op->first, op->refusal, handler(op, [] { return false; }));
  perhaps_cancel(op);
}

void workload::launch_crash() {
  submit_crash(true);
}

/// More than anybody would call an accident, with healthy tasks between them: of those each has its result.
void workload::launch_burst() {
  if (bursts_left_ == 0) return launch_mix();
  --bursts_left_;
  figures_.add(count::bursts);
  for (auto left = 20 + dice(40); left != 0; --left) {
    submit_crash(false);
    if (dice(3) == 0) touch();
  }
  launch_mix();
}

void workload::submit_crash(bool chained) {
  const auto op = begin("crash");
  op->chained = chained;
  op->crash = static_cast<int>(dice(crash_ways));
  pool->submit(perhaps_again(*op), crash, op->first, op->crash, handler(op, [] { return false; }));
}

void workload::launch_map() {
  const std::size_t n = 1 + dice(400);
  const auto op = begin("map", n);
  op->many = true;
  std::vector<item> items;
  for (std::size_t i = 0; i != n; ++i) items.push_back({op->first + i, random_()});
  std::vector<std::uint64_t> expected;
  for (const item& each : items) expected.push_back(scramble(each.x));
  pool->map(perhaps_again(*op), mapped, std::move(items),
            handler(op, [expected](const std::vector<std::uint64_t>& result) { return result == expected; }));
  perhaps_cancel(op);
}

}  // namespace shmpool::chaos
