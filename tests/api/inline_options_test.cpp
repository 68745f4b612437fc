// Options written where they are used: with designated initialisers, inside a co_await. With g++ 12 a std::function in
// them freed what was not allocated, as that compiler makes a member from the bytes of a temporary there and destroys
// both, and lists did not compile; docs/adr/0012-option-types.md has the story. These are the expressions as users
// write them; what must not happen is seen by AddressSanitizer, and by a captured object that counts itself.
#include "pool_fixture.hpp"

#include "support/pending_result.hpp"

#include <sys/resource.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace {

using namespace shmpool::testing;
using namespace std::chrono_literals;
using shmpool::pool_options;
using shmpool::process_pool;
using shmpool::task_options;
using shmpool::worker_exit;

int tell(int x) {
  shmpool::this_task::report_progress(0.5);
  return x;
}

int end_of(int x) {
  ::_exit(x);
}

std::string same(std::string text) {
  return text;
}

/// What the functions in the options have seen, and what they must still have of their captures when they are called.
struct witness {
  int progress = 0, exits = 0;
  void heard(const std::string& text) {
    EXPECT_EQ(text, "short");
    ++progress;
  }
  void ended(const std::string& text) {
    EXPECT_EQ(text, "short");
    ++exits;
  }
};

/// Lets a worker end, so that on_worker_exit is called.
asio::awaitable<void> lose_a_worker(process_pool& pool) {
  pending_result<int> lost;
  pool.submit(end_of, 3, lost.handler());
  co_await lost.ended();
}

TEST(inline_options, of_a_pool_with_a_hook_that_captures) {
  witness seen;
  run([](witness& all) -> asio::awaitable<void> {
    const std::string s = "short";
    const auto ex = co_await asio::this_coro::executor;
    process_pool pool{ex,
                      pool_options{.workers = 1, .on_worker_exit = [s, &all](const worker_exit&) { all.ended(s); }}};
    co_await lose_a_worker(pool);
    EXPECT_TRUE(co_await until([&] { return all.exits == 1; }));
    co_await pool.shutdown();
  }(seen));
}

TEST(inline_options, of_a_pool_whose_executor_is_awaited_in_the_same_expression) {
  witness seen;
  run([](witness& all) -> asio::awaitable<void> {
    const std::string s = "short";
    process_pool pool{co_await asio::this_coro::executor,
                      pool_options{.workers = 1, .on_worker_exit = [s, &all](const worker_exit&) { all.ended(s); }}};
    co_await lose_a_worker(pool);
    EXPECT_TRUE(co_await until([&] { return all.exits == 1; }));
    process_pool other{co_await asio::this_coro::executor,
                       pool_options{.workers = 1, .on_worker_exit = [](const worker_exit&) {}}};
    EXPECT_EQ(co_await other.submit(tell, 4), 4);
    co_await other.shutdown();
    co_await pool.shutdown();
  }(seen));
}

TEST(inline_options, of_a_pool_with_lists) {
  run([]() -> asio::awaitable<void> {
    const std::vector<int> cpus = {0};
    process_pool pool{
        co_await asio::this_coro::executor,
        pool_options{.workers = 1, .cpu_affinity = {0}, .rlimits = {{RLIMIT_CORE, 0}, {RLIMIT_NOFILE, 77}}}};
    EXPECT_EQ(co_await pool.submit(tell, 4), 4);
    process_pool other{co_await asio::this_coro::executor, pool_options{.workers = 1, .cpu_affinity = cpus}};
    EXPECT_EQ(co_await other.submit(tell, 5), 5);
  }());
}

TEST(inline_options, of_a_task) {
  witness seen;
  run([](witness& all) -> asio::awaitable<void> {
    std::string s = "short";
    const auto shared = std::make_shared<std::string>(s);
    process_pool pool{co_await asio::this_coro::executor, options()};
    EXPECT_EQ(
        co_await pool.submit(task_options{.timeout = 60s, .on_progress = [s, &all](double) { all.heard(s); }}, tell, 4),
        4);
    task_options named{.timeout = 60s, .on_progress = [s, &all](double) { all.heard(s); }};
    EXPECT_EQ(co_await pool.submit(named, tell, 5), 5);
    EXPECT_EQ(co_await pool.submit(task_options{.timeout = 60s, .on_progress = [](double) {}}, tell, 6), 6);
    EXPECT_EQ(co_await pool.submit(task_options{.timeout = 60s, .on_progress = [&](double) { all.heard(s); }}, tell, 7),
              7);
    EXPECT_EQ(co_await pool.submit([](std::string a) { return a; }, std::string("x")), "x");
    EXPECT_EQ(co_await pool.submit(task_options{.deadline = 60s,
                                                .cancel_grace = 5ms,
                                                .on_progress = [shared, &all](double) { all.heard(*shared); }},
                                   tell, 8),
              8);
    const auto function = [s, &all](double) { all.heard(s); };
    EXPECT_EQ(co_await pool.submit(task_options{.on_progress = function}, tell, 9), 9);
    EXPECT_EQ(co_await pool.submit(task_options{.on_progress = named.on_progress}, tell, 10), 10);
    EXPECT_TRUE(co_await until([&] { return all.progress == 6; })) << all.progress;
    EXPECT_EQ(shared.use_count(), 1) << "what the function held is given back once, and not twice";
    co_await pool.shutdown();
  }(seen));
}

TEST(inline_options, nested_in_other_awaited_expressions_and_of_a_map) {
  witness seen;
  run([](witness& all) -> asio::awaitable<void> {
    const std::string s = "short";
    process_pool pool{co_await asio::this_coro::executor, options()};
    const int sum =
        co_await pool.submit(task_options{.on_progress = [s, &all](double) { all.heard(s); }}, tell, 1) +
        co_await pool.submit(
            task_options{.on_progress = [s, &all](double) { all.heard(s); }}, tell,
            co_await pool.submit(task_options{.on_progress = [s, &all](double) { all.heard(s); }}, tell, 2));
    EXPECT_EQ(sum, 3);
    const std::vector<int> elements = {1, 2, 3};
    const auto values = co_await pool.map(
        task_options{.timeout = 60s, .on_progress = [s, &all](double) { all.heard(s); }}, tell, elements);
    EXPECT_EQ(values, elements);
    EXPECT_TRUE(co_await until([&] { return all.progress == 6; })) << all.progress;
    EXPECT_EQ(co_await pool.submit(same, s), s);
    co_await pool.shutdown();
  }(seen));
}

}  // namespace
