// How many tasks a second go through when many are outstanding: coroutines on the thread that runs the io_context, or
// callbacks of tasks that other threads submit. Beside the pool, the same with asio::thread_pool, tasks of oneTBB and
// OpenMP, messages of that size through libraries, and the least that messages to another process cost: through two
// rings in shared memory, and through a socket in batches. And how long a pool that is new takes for many at once, when
// it knows nothing of them.
#include "batches.hpp"
#include "bench.hpp"
#include "coalesced_socket.hpp"
#include "completions.hpp"
#include "iceoryx.hpp"
#include "message_queues.hpp"
#include "one_tbb.hpp"
#include "openmp.hpp"
#include "outstanding_messages.hpp"
#include "tasks.hpp"
#include "thread_pool.hpp"
#include "two_rings.hpp"
#include "zeromq.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

struct load {
  std::size_t outstanding;
  unsigned workers;
  unsigned threads;
};

void rethrow(std::exception_ptr error) {
  if (error) std::rethrow_exception(error);
}

// ---- Coroutines: each has one task outstanding.

template <class Pool, class Task>
asio::awaitable<void> one_after_another(Pool& pool, const Task& task, bench::completions& done) {
  for (bool right = true, more = true; more; more = done.count(right)) {
    if constexpr (requires { task.right(); }) {
      co_await task.submit_to(pool, asio::use_awaitable);
    } else {
      right = task.right(co_await task.submit_to(pool, asio::use_awaitable));
    }
  }
}

template <class Pool, class Task>
void run_coroutines(asio::io_context& io, Pool& pool, const Task& task, std::size_t outstanding,
                    bench::completions& done) {
  for (std::size_t i = 0; i < outstanding; ++i) asio::co_spawn(io, one_after_another(pool, task, done), rethrow);
  io.restart();
  io.run();
}

// ---- Threads that submit with callbacks, while this one runs the io_context.

// How many tasks a thread may submit. It waits until a quarter of them has come back, so that waking it up costs
// little.
class room {
 public:
  explicit room(std::size_t most) : free_(static_cast<int>(most)), worth_it_(std::max(1, free_ / 4)) {}

  // Waits for room and takes all of it; 0 when it is closed.
  int take() {
    for (int seen = free_.load(); seen < worth_it_; seen = free_.load()) free_.wait(seen);
    return closed_ ? 0 : free_.exchange(0);
  }
  void give_back() {
    if (free_.fetch_add(1) + 1 == worth_it_) free_.notify_one();
  }
  void close() {
    closed_ = true;
    free_ += worth_it_;
    free_.notify_one();
  }

 private:
  std::atomic<int> free_;
  std::atomic<bool> closed_ = false;
  const int worth_it_;
};

template <class Pool, class Task>
void submit_for(Pool& pool, const Task& task, room& mine, std::deque<room>& all, bench::completions& done) {
  const auto completed = [&](std::exception_ptr error, const auto&... result) {
    rethrow(error);
    if (!done.count(task.right(result...))) {
      for (room& each : all) each.close();
    }
    mine.give_back();
  };
  for (int n = mine.take(); n > 0; n = mine.take()) {
    while (n-- > 0) task.submit_to(pool, completed);
  }
}

template <class Pool, class Task>
void run_threads(asio::io_context& io, Pool& pool, const Task& task, const load& what, bench::completions& done) {
  std::deque<room> rooms;
  for (unsigned i = 0; i < what.threads; ++i) rooms.emplace_back(what.outstanding / what.threads);
  std::vector<std::jthread> threads;
  io.restart();
  for (room& mine : rooms) {
    threads.emplace_back([&, work = asio::make_work_guard(io)] { submit_for(pool, task, mine, rooms, done); });
  }
  try {
    io.run();
  } catch (...) {
    for (room& each : rooms) each.close();  // or the threads would wait for completions that never come
    throw;
  }
}

// ---- The contestants.

template <class Pool, class Task>
class pool_fixture {
 public:
  template <class Options>
  pool_fixture(const load& what, const Options& options, const Task& task)
      : pool_(io_, options), what_(what), task_(task) {
    // Starts what is started on demand, and shows the pool what such a task takes.
    task_.submit_to(pool_, [](std::exception_ptr error, const auto&...) { rethrow(error); });
    io_.run();
    total_ = 1;
  }

  void measure(benchmark::State& state) {
    bench::completions done(state, total_);
    if (what_.threads == 1) {
      run_coroutines(io_, pool_, task_, what_.outstanding, done);
    } else {
      run_threads(io_, pool_, task_, what_, done);
    }
    if constexpr (requires { pool_.stats(); }) {
      if (pool_.stats().completed != total_) state.SkipWithError("another number of tasks was run");
    }
    state.counters["tasks"] = static_cast<double>(total_);
  }

 private:
  asio::io_context io_;
  Pool pool_;
  const load what_;
  const Task task_;
  std::uint64_t total_ = 0;  // of all runs
};

// ---- A burst of tasks for a pool that has had none; from the first submit to the last completion.

template <class Pool>
class burst_fixture {
 public:
  template <class Options>
  burst_fixture(std::size_t tasks, const Options& options)
      : make_([options](asio::io_context& io) { return std::make_unique<Pool>(io, options); }), tasks_(tasks) {}

  void measure(benchmark::State& state) {
    for (auto _ : state) {
      asio::io_context io;
      const auto pool = make_(io);
      std::size_t completed = 0;
      const auto begin = std::chrono::steady_clock::now();
      for (std::size_t i = 0; i < tasks_; ++i) {
        pool->submit(bench::nothing, [&](std::exception_ptr error) {
          rethrow(error);
          ++completed;
        });
      }
      io.run();
      state.SetIterationTime(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
      if (completed != tasks_) throw std::runtime_error("tasks are missing");
    }
  }

 private:
  std::function<std::unique_ptr<Pool>(asio::io_context&)> make_;
  const std::size_t tasks_;
};

template <class Pool, class Options>
void add_burst(std::size_t tasks, unsigned workers, const char* who, const Options& options) {
  const std::string name = "burst/" + std::to_string(tasks) + "/" + std::to_string(workers) + "/" + who;
  bench::add_fixture<burst_fixture<Pool>>(name, tasks, options)
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond)
      ->Iterations(1);
}

// ---- The list.

void timed(benchmark::internal::Benchmark* benchmark, const load& what) {
  benchmark->UseRealTime()->Unit(benchmark::kMicrosecond);
  // To get so many under way takes as long as a run; so there is one run, not several to find out how long it is to be.
  if (what.outstanding >= 100'000) benchmark->Iterations(300'000);
}

template <class Task>
void add_pools(const std::string& work, const load& what, const Task& task) {
  const auto options = bench::options(bench::waiting::spinning, what.workers);
  timed(bench::add_fixture<pool_fixture<shmpool::process_pool, Task>>(work + "shmpool", what, options, task), what);
  timed(bench::add_fixture<pool_fixture<bench::thread_pool, Task>>(work + "thread_pool", what, what.workers, task),
        what);
}

template <class Runner, class Task>
void add_batches(const std::string& name, const load& what, const Task& task) {
  timed(bench::add_fixture<bench::batches<Runner, Task>>(name, what.outstanding, what.workers, what.threads, task),
        what);
}

template <class Channel>
void add_messages(const std::string& name, const load& what, std::size_t bytes) {
  constexpr bool poll = true;  // those that can
  timed(bench::add_fixture<bench::outstanding_messages<Channel>>(name, what.outstanding, bytes, poll), what);
}

template <class Task>
void add_all(const load& what, std::size_t bytes, const Task& task) {
  std::string work = "throughput/";
  for (const std::size_t parameter : {what.outstanding, std::size_t{what.workers}, std::size_t{what.threads}, bytes})
    work += std::to_string(parameter) + "/";
  add_pools(work, what, task);
  add_batches<bench::one_tbb>(work + "one_tbb", what, task);
  if (what.threads != 1) return;
  add_batches<bench::openmp>(work + "openmp", what, task);
  if (what.workers != 1) return;
  timed(bench::add_fixture<bench::coalesced_socket>(work + "coalesced_socket", what.outstanding, bytes), what);
  add_messages<bench::two_rings>(work + "two_rings", what, bytes);
  add_messages<bench::message_queues>(work + "message_queue", what, bytes);
  add_messages<bench::zeromq_ipc>(work + "zeromq_ipc", what, bytes);
  add_messages<bench::zeromq_inproc>(work + "zeromq_inproc", what, bytes);
  add_messages<bench::iceoryx>(work + "iceoryx", what, bytes);
}

void add_all(const load& what, std::size_t bytes) {
  if (bytes == 0) {
    add_all(what, bytes, bench::empty_task{});
  } else {
    add_all(what, bytes, bench::echo_task(bytes));
  }
}

}  // namespace

int main(int argc, char** argv) {
  shmpool::init(argc, argv);
  for (const unsigned workers : {1U, 2U, 4U, 8U}) add_all({1000, workers, 1}, 0);
  for (const std::size_t bytes : {64U, 4096U}) {
    for (const unsigned workers : {1U, 2U}) add_all({1000, workers, 1}, bytes);
  }
  for (const unsigned workers : {1U, 2U}) {
    add_all({1000, workers, 4}, 0);
    add_all({100'000, workers, 1}, 0);
    add_all({100'000, workers, 4}, 0);
  }
  add_all({100'000, 1, 1}, 64);
  for (const unsigned workers : {1U, 2U}) {
    add_burst<shmpool::process_pool>(20'000, workers, "shmpool", bench::options(bench::waiting::spinning, workers));
    add_burst<bench::thread_pool>(20'000, workers, "thread_pool", workers);
  }
  return bench::run_benchmarks(argc, argv);
}
