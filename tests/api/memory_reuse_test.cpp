// Warm memory: when a task is submitted again and again, its arrays live in the same segments, and neither side takes a
// page fault for them. And kept memory: a worker that holds on to an array has it for as long as it does, and not
// longer.
#include "payload.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <map>
#include <optional>
#include <tuple>

namespace {

using namespace shmpool::testing;
using asio::awaitable;
using shmpool::array;
using shmpool::process_pool;

constexpr std::size_t elements = 1'000'000;  // 8 MB: 2,000 pages
constexpr int rounds = 20;
// What a round may cost in faults beside its arrays: allocations that grow, stacks, pages of code.
constexpr long few_faults = 40;

long minor_faults() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt;
}

using result_and_faults = std::tuple<array<double>, long>;

result_and_faults add_one(array<const double> x) {
  const long before = minor_faults();
  auto y = shmpool::make_array_like(x);
  for (std::size_t i = 0; i != x.size(); ++i) y[i] = x[i] + 1;
  return {y, minor_faults() - before};
}
long add_one_in_place(array<double>& x) {
  const long before = minor_faults();
  for (double& each : x) each += 1;
  return minor_faults() - before;
}
result_and_faults add_one_moved(array<double> x) {
  const long before = minor_faults();
  for (double& each : x) each += 1;
  return {std::move(x), minor_faults() - before};
}

/// Runs `round()` until it is warm, then `rounds` times; it returns the worker's faults. Names, bytes and faults must
/// stay as they are.
template <class Round>
awaitable<void> expect_warm(process_pool& pool, const shmpool::shm_handle& any, Round round) {
  for (int i = 0; i != 3; ++i) co_await round();
  const auto names = names_of_pool(any);
  const auto stats = pool.stats();
  const long before = minor_faults();
  long worker = 0;
  for (int i = 0; i != rounds; ++i) worker += co_await round();
  const long parent = minor_faults() - before;
  EXPECT_LT(worker, rounds * few_faults) << "in the worker";
  EXPECT_LT(parent, rounds * few_faults) << "in the parent";
  EXPECT_EQ(names_of_pool(any), names);
  EXPECT_EQ(pool.stats().peak_bytes, stats.peak_bytes);
  EXPECT_EQ(pool.stats().cached_segments, stats.cached_segments);
  EXPECT_EQ(pool.stats().live_segments, stats.live_segments);
}

double sum(const array<double>& x) {
  double total = 0;
  for (const double each : x) total += each;
  return total;
}

TEST(memory_reuse, a_result_comes_in_the_same_warm_memory_every_time) {
  with_pool(one_worker(), [](process_pool& pool) -> awaitable<void> {
    auto x = pool.make_array<double>(elements, 1.0);
    co_await expect_warm(pool, x.handle(), [&]() -> awaitable<long> {
      auto [y, faults] = co_await pool.submit(add_one, x);
      EXPECT_EQ(sum(y), 2.0 * elements);
      co_return faults;
    });
    EXPECT_LE(pool.stats().cached_segments, 1u);
  });
}

TEST(memory_reuse, an_array_is_edited_in_place_and_moved_without_a_fault) {
  with_pool(one_worker(), [](process_pool& pool) -> awaitable<void> {
    auto x = pool.make_array<double>(elements, 1.0);
    const shmpool::shm_handle handle = x.handle();
    co_await expect_warm(pool, handle,
                         [&]() -> awaitable<long> { co_return co_await pool.submit(add_one_in_place, x); });
    EXPECT_EQ(x[elements - 1], 1.0 + 3 + rounds);
    EXPECT_EQ(pool.stats().cached_segments, 0u);
  });
  with_pool(one_worker(), [](process_pool& pool) -> awaitable<void> {
    auto x = pool.make_array<double>(elements, 1.0);
    auto other = pool.make_array<double>(10, 1.0);
    co_await expect_warm(pool, other.handle(), [&]() -> awaitable<long> {
      auto [y, faults] = co_await pool.submit(add_one_moved, std::move(x));
      x = std::move(y);
      co_return faults;
    });
    EXPECT_EQ(sum(x), (1.0 + 3 + rounds) * elements);
    EXPECT_EQ(pool.stats().cached_segments, 0u);
  });
}

TEST(memory_reuse, a_vector_is_copied_into_the_same_warm_memory_every_time) {
  with_pool(one_worker(), [](process_pool& pool) -> awaitable<void> {
    const std::vector<double> x(elements, 1.0);
    auto any = pool.make_array<double>(1, 1.0);
    co_await expect_warm(pool, any.handle(), [&]() -> awaitable<long> {
      auto [y, faults] = co_await pool.submit(add_one, x);
      EXPECT_EQ(y[elements - 1], 2.0);
      co_return faults;
    });
    EXPECT_LE(pool.stats().cached_segments, 2u);
  });
}

TEST(memory_reuse, with_several_workers_the_memory_settles_too) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    auto x = pool.make_array<double>(elements, 1.0);
    const std::vector<array<double>> in(8, x);
    std::set<std::string> names;
    for (int i = 0; i != 8; ++i) {
      const auto out = co_await pool.map([](array<const double> y) { return std::get<0>(add_one(y)); }, in);
      for (const auto& each : out) EXPECT_EQ(each[elements - 1], 2.0);
      if (i == 3) names = names_of_pool(x.handle());
    }
    EXPECT_EQ(names_of_pool(x.handle()), names);
    EXPECT_LE(pool.stats().cached_segments, 12u);
  });
}

TEST(memory_reuse, clearing_unlinks_what_is_free_and_the_next_task_starts_anew) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    auto x = pool.make_array<double>(elements, 1.0);
    for (int i = 0; i != 3; ++i) {
      {
        auto [y, faults] = co_await pool.submit(add_one, x);
        const auto held = pool.clear_shm();
        EXPECT_EQ(held.freed, 0u);
        EXPECT_EQ(held.still_held, 2u);
        EXPECT_EQ(y[0], 2.0);
      }
      const auto cleared = pool.clear_shm();
      EXPECT_EQ(cleared.freed, 1u);
      EXPECT_EQ(cleared.still_held, 1u);
      EXPECT_EQ(names_of_pool(x.handle()).size(), named_memory() ? 1u : 0u);
    }
  });
}

// ---- Arrays that a task keeps in a static.

std::map<std::string, array<double>> tables;

array<double> keep_table(const std::string& name, std::size_t n) {
  auto& table = tables[name];
  if (table.empty()) {
    table = shmpool::make_array<double>(n);
    fill_pattern(table, 1);
  }
  return table;
}
std::size_t keep_quietly(std::size_t n) {
  tables["quiet"] = shmpool::make_array<double>(n, 5.0);
  return tables.size();
}
void add_to_table(const std::string& name, double value) {
  tables.at(name)[0] += value;
}
array<const double> look_at_table(const std::string& name) {
  return tables.at(name).rows(1, tables.at(name).size());
}
void drop_tables() {
  tables.clear();
}

TEST(memory_reuse, a_worker_that_keeps_an_array_holds_its_memory) {
  with_pool(one_worker(), [](process_pool& pool) -> awaitable<void> {
    co_await pool.submit(keep_quietly, elements);
    const auto held = pool.clear_shm();
    EXPECT_EQ(held.freed, 0u);
    EXPECT_EQ(held.still_held, 1u);
    EXPECT_EQ(pool.stats().live_segments, 1u);
    co_await pool.submit(drop_tables);
    EXPECT_EQ(pool.stats().live_segments, 0u);
    EXPECT_EQ(pool.clear_shm().freed, 1u);
  });
}

TEST(memory_reuse, an_initializer_may_make_arrays_that_tasks_use) {
  auto how = one_worker();
  how.initializer = [] { keep_table("initial", many); };
  with_pool(how, [](process_pool& pool) -> awaitable<void> {
    array<double> table = co_await pool.submit(keep_table, "initial", std::size_t{1});
    EXPECT_EQ(table.size(), many);
    EXPECT_EQ(pool.stats().live_segments, 1u);
    // Its successor has its own; this one stays the caller's.
    bool lost = false;
    try {
      co_await pool.submit([] { ::raise(SIGKILL); });
    } catch (const shmpool::worker_lost&) {
      lost = true;
    }
    EXPECT_TRUE(lost);
    const array<double> other = co_await pool.submit(keep_table, "initial", std::size_t{1});
    EXPECT_NE(other.handle(), table.handle());
    EXPECT_EQ(digest(other), digest(table));
    EXPECT_EQ(pool.stats().live_segments, 2u);
    co_await pool.submit(drop_tables);
  });
}

TEST(memory_reuse, what_a_worker_keeps_is_released_when_it_dies) {
  with_pool(one_worker(), [](process_pool& pool) -> awaitable<void> {
    co_await pool.submit(keep_quietly, elements);
    EXPECT_EQ(pool.stats().live_segments, 1u);
    bool lost = false;
    try {
      co_await pool.submit([] { ::raise(SIGKILL); });
    } catch (const shmpool::worker_lost&) {
      lost = true;
    }
    EXPECT_TRUE(lost);
    EXPECT_EQ(pool.stats().live_segments, 0u);
    EXPECT_EQ(co_await pool.submit(keep_quietly, few), 1u) << "a new worker has no tables";
    co_await pool.submit(drop_tables);
  });
}

TEST(memory_reuse, a_table_that_a_worker_keeps_can_be_returned_again_and_again) {
  with_pool(one_worker(), [](process_pool& pool) -> awaitable<void> {
    for (const std::size_t n : lengths) {
      std::optional<array<double>> first;
      for (int i = 0; i != 3; ++i) {
        array<double> table = co_await pool.submit(keep_table, "t", n);
        EXPECT_EQ(table.size(), n);
        EXPECT_EQ(table[n - 1], pattern<double>(n - 1, 1));
        if (!first) first = table;
        if (n == many) {
          EXPECT_EQ(table.handle(), first->handle());
        }
      }
      array<const double> part = co_await pool.submit(look_at_table, "t");
      EXPECT_EQ(digest(part), digest(first->rows(1, n)));
      part = {};
      // Worker and caller have the same table, where it is not copied into messages.
      (*first)[0] = 1;
      co_await pool.submit(add_to_table, "t", 1.0);
      EXPECT_EQ((*first)[0], n == many ? 2 : 1);
      EXPECT_EQ(pool.stats().live_segments, n == many ? 1u : 0u);
      co_await pool.submit(drop_tables);
      EXPECT_EQ(pool.stats().live_segments, n == many ? 1u : 0u);
      EXPECT_EQ((*first)[n - 1], pattern<double>(n - 1, 1));
      first.reset();
      EXPECT_EQ(pool.stats().live_segments, 0u);
    }
  });
}

TEST(memory_reuse, an_argument_that_a_worker_keeps_stays_there_after_the_caller_has_dropped_it) {
  with_pool(one_worker(), [](process_pool& pool) -> awaitable<void> {
    const auto keep = [](array<double> x) { tables["argument"] = std::move(x); };
    auto x = make_pattern<double>(pool, 1, elements);
    co_await pool.submit(keep, std::move(x));
    EXPECT_EQ(pool.stats().live_segments, 1u);
    EXPECT_EQ(pool.clear_shm().still_held, 1u);
    // Its memory is not given to anybody else.
    auto y = pool.make_array<double>(elements, 0.0);
    const array<double> back = co_await pool.submit(keep_table, "argument", elements);
    EXPECT_EQ(back[elements - 1], pattern<double>(elements - 1, 1));
    EXPECT_NE(back.handle(), y.handle());
    co_await pool.submit(drop_tables);
  });
}

TEST(memory_reuse, a_table_that_a_worker_gives_up_is_returned_too) {
  with_pool(one_worker(), [](process_pool& pool) -> awaitable<void> {
    for (int i = 0; i != 3; ++i) {
      co_await pool.submit(keep_table, "given", many);
      const auto give = [] {
        auto last = std::move(tables.at("given"));
        tables.clear();
        return last;
      };
      const array<double> table = co_await pool.submit(give);
      EXPECT_EQ(table[many - 1], pattern<double>(many - 1, 1));
      EXPECT_EQ(table.handle().use_count(), 1);
      // Its memory is nobody else's now.
      const array<double> other = co_await pool.submit(keep_table, "given", many);
      EXPECT_NE(other.handle(), table.handle());
      co_await pool.submit(drop_tables);
    }
    EXPECT_EQ(pool.stats().live_segments, 0u);
  });
}

TEST(memory_reuse, a_kept_look_at_an_array_is_no_licence_to_write_to_it) {
  with_pool(one_worker(), [](process_pool& pool) -> awaitable<void> {
    static array<const double> view;
    auto x = make_pattern<double>(pool, 2, elements);
    const auto keep = [](array<const double> y) { view = y.rows(10, 20); };
    co_await pool.submit(keep, x.rows(5, elements));
    const array<const double> part = co_await pool.submit([] { return view; });
    EXPECT_EQ(digest(part), digest(x.rows(15, 25)));
    co_await pool.submit([] { view = {}; });
    EXPECT_EQ(x.handle().use_count(), 1);
  });
}

}  // namespace
