// What the trip to another process and back costs when one task at a time is outstanding: while both sides sleep in
// between, while they may poll, and after a moment in which nothing happened. Beside the pool, the same coroutine with
// asio::thread_pool, and processes that do nothing but pass a message.
#include "bench.hpp"
#include "echo_process.hpp"
#include "processes.hpp"
#include "shared_word.hpp"
#include "tasks.hpp"
#include "thread_pool.hpp"

#if __has_include(<boost/interprocess/ipc/message_queue.hpp>)
#include "message_queues.hpp"
#define BENCH_HAS_MESSAGE_QUEUE
#endif

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace {

using bench_clock = std::chrono::steady_clock;
constexpr auto idleness = std::chrono::milliseconds(10);
constexpr int idle_hops = 60;

// The time of each hop of one run, and what the run took from all processes.
class hop_times {
 public:
  explicit hop_times(benchmark::State& state) : state_(state), us_(static_cast<std::size_t>(state.max_iterations)) {}

  void begin() { begin_ = bench_clock::now(); }
  // False ends the run.
  bool end(bool right) {
    const std::chrono::duration<double> time = bench_clock::now() - begin_;
    state_.SetIterationTime(time.count());
    us_[count_++] = time.count() * 1e6;
    if (!right) state_.SkipWithError("wrong result");
    return right;
  }

  void report() {
    if (count_ == 0) return;
    const double cpu = meter_.so_far().cpu_us;
    us_.resize(count_);
    std::sort(us_.begin(), us_.end());
    state_.counters["p50"] = quantile(0.5);
    state_.counters["p99"] = quantile(0.99);
    state_.counters["p999"] = quantile(0.999);
    state_.counters["cpu"] = cpu / static_cast<double>(count_);
  }

 private:
  double quantile(double q) const { return us_[static_cast<std::size_t>(q * static_cast<double>(count_ - 1))]; }

  benchmark::State& state_;
  std::vector<double> us_;
  std::size_t count_ = 0;
  bench_clock::time_point begin_;
  bench::usage_meter meter_;
};

// ---- Coroutines, with either pool.

template <class Pool, class Task>
asio::awaitable<void> hop_for(benchmark::State& state, Pool& pool, const Task& task, bool idle) {
  asio::steady_timer timer(co_await asio::this_coro::executor);
  hop_times times(state);
  for (auto _ : state) {
    if (idle) {
      timer.expires_after(idleness);
      co_await timer.async_wait(asio::use_awaitable);
    }
    bool right = true;
    times.begin();
    if constexpr (requires { task.right(); }) {
      co_await task.submit_to(pool, asio::use_awaitable);
    } else {
      right = task.right(co_await task.submit_to(pool, asio::use_awaitable));
    }
    if (!times.end(right)) break;
  }
  times.report();
}

template <class Pool, class Task>
asio::awaitable<void> hop_once(Pool& pool, const Task& task) {
  co_await task.submit_to(pool, asio::use_awaitable);
}

template <class Pool, class Task>
class pool_fixture {
 public:
  template <class Options>
  pool_fixture(const Options& options, const Task& task, bool idle) : pool_(io_, options), task_(task), idle_(idle) {
    bench::run(io_, hop_once(pool_, task_));  // starts what is started on demand
  }
  void measure(benchmark::State& state) { bench::run(io_, hop_for(state, pool_, task_, idle_)); }

 private:
  asio::io_context io_;
  Pool pool_;
  Task task_;
  bool idle_;
};

// ---- Pairs of processes.

template <class Pair>
class pair_fixture {
 public:
  // A message has at least one byte.
  template <class... Args>
  pair_fixture(std::size_t size, bool idle, Args... args)
      : pair_(args...), task_(std::max<std::size_t>(size, 1)), received_(task_.sent.size()), idle_(idle) {}

  void measure(benchmark::State& state) {
    hop_times times(state);
    for (auto _ : state) {
      if (idle_) std::this_thread::sleep_for(idleness);
      times.begin();
      if (!times.end(pair_.round_trip(task_.sent, received_) && task_.right(received_))) break;
    }
    times.report();
  }

 private:
  Pair pair_;
  bench::echo_task task_;
  bench::bytes received_;
  bool idle_;
};

// ---- The list.

void timed(benchmark::internal::Benchmark* benchmark, bool idle) {
  benchmark->UseManualTime()->Unit(benchmark::kMicrosecond);
  if (idle) benchmark->Iterations(idle_hops);
}

template <class Task>
void add_pools(const std::string& work, const Task& task, bench::waiting how, bool idle) {
  const auto options = bench::options(how);
  timed(bench::add_fixture<pool_fixture<shmpool::process_pool, Task>>(work + "shmpool", options, task, idle), idle);
  timed(bench::add_fixture<pool_fixture<bench::thread_pool, Task>>(work + "thread_pool", 1U, task, idle), idle);
}

void add_all(const std::string& mode, std::size_t size) {
  const bool idle = mode == "idle", spinning = mode == "spinning";
  const std::string work = "hop/" + mode + "/" + std::to_string(size) + "/";
  const auto how = mode == "sleeping" ? bench::waiting::sleeping : bench::waiting::spinning;
  if (size == 0) {
    add_pools(work, bench::empty_task{}, how, idle);
  } else {
    add_pools(work, bench::echo_task(size), how, idle);
  }
  const std::size_t most = std::max<std::size_t>(size, 1);
  using socket = pair_fixture<bench::echo_process>;
  using memory = pair_fixture<bench::shared_word>;
  timed(bench::add_fixture<socket>(work + (spinning ? "polled_socket" : "socket"), size, idle, spinning), idle);
  timed(bench::add_fixture<memory>(work + (spinning ? "polled_memory" : "futex"), size, idle, spinning, most), idle);
#if defined(BENCH_HAS_MESSAGE_QUEUE)
  if (!spinning) {
    using queues = pair_fixture<bench::message_queues>;
    timed(bench::add_fixture<queues>(work + "message_queue", size, idle, most), idle);
  }
#endif
}

}  // namespace

int main(int argc, char** argv) {
  shmpool::init(argc, argv);
  for (const char* mode : {"sleeping", "spinning", "idle"})
    for (const std::size_t size : {0U, 64U, 4096U, 65536U}) add_all(mode, size);
  return bench::run_benchmarks(argc, argv);
}
