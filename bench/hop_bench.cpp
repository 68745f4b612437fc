// What the trip to another process and back costs when one task at a time is outstanding: while both sides sleep in
// between, on any CPUs or all on one, while they may poll, and after a moment in which nothing happened. Beside the
// pool, the same coroutine with asio::thread_pool, and processes that do nothing but pass a message.
#include "bench.hpp"
#include "child_process.hpp"
#include "echo_process.hpp"
#include "iceoryx.hpp"
#include "message_queues.hpp"
#include "processes.hpp"
#include "shared_word.hpp"
#include "tasks.hpp"
#include "thread_pool.hpp"
#include "zeromq.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

namespace {

using bench_clock = std::chrono::steady_clock;
constexpr auto idleness = std::chrono::milliseconds(10);
constexpr int idle_hops = 40;

// How the two sides wait for each other.
struct mode {
  const char* name;
  bench::waiting how;
  bool idle = false;     // nothing happens for a moment before each hop
  bool one_cpu = false;  // all processes and threads share one CPU
};

constexpr mode modes[] = {{"sleeping", bench::waiting::sleeping},
                          {"one_cpu", bench::waiting::sleeping, false, true},
                          {"spinning", bench::waiting::spinning},
                          {"idle", bench::waiting::spinning, true}};

// The median of each block of so many hops one after another, through all runs: it shows a state in which hops are slow
// for long, which no quantile of all hops does.
class hop_blocks {
 public:
  static constexpr std::size_t length = 2000;

  void add(const std::vector<double>& us) {
    for (const double each : us) {
      block_.push_back(each);
      if (block_.size() == length) finish();
    }
  }
  // Nothing before the first block is full.
  void report(benchmark::State& state) const {
    if (first_ == 0) return;
    state.counters["p50_first_block"] = first_;
    state.counters["p50_worst_block"] = worst_;
  }

 private:
  void finish() {
    const auto middle = block_.begin() + length / 2;
    std::nth_element(block_.begin(), middle, block_.end());
    if (first_ == 0) first_ = *middle;
    worst_ = std::max(worst_, *middle);
    block_.clear();
  }

  std::vector<double> block_;
  double first_ = 0, worst_ = 0;
};

// The time of each hop of one run, and what the run took from all processes.
class hop_times {
 public:
  hop_times(benchmark::State& state, hop_blocks& blocks)
      : state_(state), blocks_(blocks), us_(static_cast<std::size_t>(state.max_iterations)) {}

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
    blocks_.add(us_);
    blocks_.report(state_);
    std::sort(us_.begin(), us_.end());
    state_.counters["p50"] = quantile(0.5);
    state_.counters["p99"] = quantile(0.99);
    state_.counters["p999"] = quantile(0.999);
    state_.counters["cpu"] = cpu / static_cast<double>(count_);
  }

 private:
  double quantile(double q) const { return us_[static_cast<std::size_t>(q * static_cast<double>(count_ - 1))]; }

  benchmark::State& state_;
  hop_blocks& blocks_;
  std::vector<double> us_;
  std::size_t count_ = 0;
  bench_clock::time_point begin_;
  bench::usage_meter meter_;
};

// ---- Coroutines, with either pool.

template <class Pool, class Task>
asio::awaitable<void> hop_for(benchmark::State& state, Pool& pool, const Task& task, bool idle, hop_blocks& blocks) {
  asio::steady_timer timer(co_await asio::this_coro::executor);
  hop_times times(state, blocks);
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

// Keeps this process, and what it starts, on one CPU if the mode is so.
class mode_fixture {
 public:
  explicit mode_fixture(const mode& what) : idle_(what.idle) {
    if (what.one_cpu) pinned_.emplace();
  }

 protected:
  // The fork server may be older than the pin, so a pool of processes is told.
  template <class Options>
  Options on_its_cpu(Options options) const {
    if constexpr (std::is_same_v<Options, shmpool::pool_options>) {
      if (pinned_) options.cpu_affinity = {pinned_->cpu(0)};
    }
    return options;
  }

  const bool idle_;
  hop_blocks blocks_;

 private:
  std::optional<bench::pinned> pinned_;
};

template <class Pool, class Task>
class pool_fixture : mode_fixture {
 public:
  template <class Options>
  pool_fixture(const mode& what, const Options& options, const Task& task)
      : mode_fixture(what), pool_(io_, on_its_cpu(options)), task_(task) {
    bench::run(io_, hop_once(pool_, task_));  // starts what is started on demand
  }
  void measure(benchmark::State& state) { bench::run(io_, hop_for(state, pool_, task_, idle_, blocks_)); }

 private:
  asio::io_context io_;
  Pool pool_;
  Task task_;
};

// ---- A pool with idle workers.

void raise_limit_of_files() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

class idle_workers {
 public:
  explicit idle_workers(unsigned workers) : pool_(io_, with(workers)) { bench::run(io_, until_idle(workers)); }
  void measure(benchmark::State& state) { bench::run(io_, hop_for(state, pool_, bench::empty_task{}, false, blocks_)); }

 private:
  static shmpool::pool_options with(unsigned workers) {
    raise_limit_of_files();
    auto result = bench::options(bench::waiting::spinning, workers);
    result.min_workers = workers;
    return result;
  }
  asio::awaitable<void> until_idle(unsigned workers) {
    for (auto now = pool_.stats(); now.idle_workers != workers || now.starting_workers != 0; now = pool_.stats())
      co_await pool_.submit(bench::nothing);
  }

  asio::io_context io_;
  shmpool::process_pool pool_;
  hop_blocks blocks_;
};

// ---- Pairs of processes.

template <class Pair>
class pair_fixture : mode_fixture {
 public:
  // A message has at least one byte.
  template <class... Args>
  pair_fixture(const mode& what, std::size_t size, Args... args)
      : mode_fixture(what), pair_(args...), task_(std::max<std::size_t>(size, 1)), received_(task_.sent.size()) {}

  void measure(benchmark::State& state) {
    hop_times times(state, blocks_);
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
};

// ---- The list.

benchmark::internal::Benchmark* timed(benchmark::internal::Benchmark* benchmark) {
  return benchmark->UseManualTime()->Unit(benchmark::kMicrosecond);
}

class work {
 public:
  work(const mode& what, std::size_t size)
      : mode_(what), size_(size), name_(std::string("hop/") + what.name + "/" + std::to_string(size) + "/") {}

  template <class Task>
  void add_pools(const Task& task) const {
    add<pool_fixture<shmpool::process_pool, Task>>("shmpool", bench::options(mode_.how), task);
    add<pool_fixture<bench::thread_pool, Task>>("thread_pool", 1U, task);
  }

  void add_pairs() const {
    const bool poll = mode_.how == bench::waiting::spinning && !mode_.idle;
    const std::size_t most = std::max<std::size_t>(size_, 1);
    add<pair_fixture<bench::echo_process>>(poll ? "polled_socket" : "socket", size_, poll);
    add<pair_fixture<bench::shared_word>>(poll ? "polled_memory" : "futex", size_, poll, most);
    add<pair_fixture<bench::message_queues>>("message_queue", size_, poll, most, std::size_t{4});
    add<pair_fixture<bench::zeromq_ipc>>("zeromq_ipc", size_, poll, most);
    add<pair_fixture<bench::zeromq_inproc>>("zeromq_inproc", size_, poll, most);
    add<pair_fixture<bench::iceoryx>>("iceoryx", size_, poll, most);
  }

 private:
  template <class Fixture, class... Args>
  void add(const char* who, const Args&... args) const {
    auto* const benchmark = timed(bench::add_fixture<Fixture>(name_ + who, mode_, args...));
    if (mode_.idle) benchmark->Iterations(idle_hops);
  }

  const mode mode_;
  const std::size_t size_;
  const std::string name_;
};

}  // namespace

int main(int argc, char** argv) {
  shmpool::init(argc, argv);
  for (const mode& what : modes) {
    for (const std::size_t size : {0U, 64U, 4096U, 65536U}) {
      const work hops(what, size);
      if (size == 0) {
        hops.add_pools(bench::empty_task{});
      } else {
        hops.add_pools(bench::echo_task(size));
      }
      hops.add_pairs();
    }
  }
  timed(bench::add_fixture<idle_workers>("idle_workers/1000/shmpool", 1000U));
  timed(bench::add_fixture<idle_workers>("idle_workers/1000/1_worker", 1U));
  return bench::run_benchmarks(argc, argv);
}
