// What memory the pool takes beyond what the work itself needs: for the largest job, for a task that waits, over a
// million tasks, for many arrays. The figure of each is in the counter `bytes`. Only for the arrays is there a time
// that means something: of making one.
#include "bench.hpp"
#include "managed_memory.hpp"
#include "memory.hpp"

#include <malloc.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <fstream>
#include <functional>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

// ---- What is measured.

// This process and all that descend from it: the fork server and the workers.
std::vector<pid_t> family() {
  std::vector<pid_t> all{::getpid()};
  for (std::size_t i = 0; i != all.size(); ++i) {
    const std::string pid = std::to_string(all[i]);
    std::ifstream children("/proc/" + pid + "/task/" + pid + "/children");
    for (pid_t child = 0; children >> child;) all.push_back(child);
  }
  return all;
}

// Memory of the family that is not shared memory, each page once however many of them have it, and not the program's
// file.
double private_bytes() {
  double total = 0;
  for (const pid_t pid : family()) {
    std::ifstream rollup("/proc/" + std::to_string(pid) + "/smaps_rollup");
    std::string key;
    double kib = 0;
    while (rollup >> key) {
      if (key == "Pss_Anon:" && rollup >> kib) total += kib * 1024;
      rollup.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
    }
  }
  return total;
}

// Shared memory in use. It is asked of the file system, as a segment need not be mapped by anybody.
double shared_bytes() {
  struct statvfs shm {};
  if (::statvfs("/dev/shm", &shm) != 0) return 0;
  return static_cast<double>(shm.f_blocks - shm.f_bfree) * static_cast<double>(shm.f_frsize);
}

double bytes_now() {
  return private_bytes() + shared_bytes();
}

// The most that there was at any time since its construction.
class peak_meter {
 public:
  peak_meter()
      : sampler_([this] {
          while (!stop_.load(std::memory_order_relaxed)) peak_ = std::max(peak_, bytes_now());
        }) {}
  double stop() {
    stop_ = true;
    sampler_.join();
    return peak_;
  }

 private:
  std::atomic<bool> stop_{false};
  double peak_ = 0;
  std::thread sampler_;
};

// ---- The works. Each returns its figure.

constexpr std::size_t large = 20'000'000;  // doubles
constexpr std::size_t queued = 100'000;
constexpr std::size_t arrays = 100'000, array_bytes = 4096;

void nothing() {
}

shmpool::array<double> add_one(shmpool::array<const double> x) {
  auto y = shmpool::make_array<double>(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) y[i] = x[i] + 1;
  return y;
}

asio::awaitable<void> add_one_to_large(shmpool::process_pool& pool) {
  const auto x = pool.make_array<double>(large, 1.0);
  const auto y = co_await pool.submit(add_one, x);
  if (y[large - 1] != 2) throw std::runtime_error("wrong result");
}

// The first job of a pool: all that the job needs is made for it, processes included.
double array_job() {
  const double before = bytes_now();
  peak_meter meter;
  asio::io_context io;
  shmpool::process_pool pool(io, shmpool::pool_options{.workers = 1});
  bench::run(io, add_one_to_large(pool));
  return meter.stop() - before;
}

// What the pool's own process has for each of many tasks that are queued; the callback has no state of its own.
double queued_task() {
  asio::io_context io;
  shmpool::process_pool pool(io, shmpool::pool_options{.workers = 1});
  const auto submit = [&pool] {
    pool.submit(nothing, [](std::exception_ptr error) {
      if (error) std::rethrow_exception(error);
    });
  };
  submit();
  io.run();
  const double before = private_bytes();
  for (std::size_t i = 0; i != queued; ++i) submit();  // none completes before the context runs
  const double after = private_bytes();
  io.restart();
  io.run();
  return (after - before) / static_cast<double>(queued);
}

asio::awaitable<void> submit_while(shmpool::process_pool& pool, std::size_t& left) {
  while (left != 0) {
    --left;
    co_await pool.submit(nothing);
  }
}

asio::awaitable<void> run_tasks(shmpool::process_pool& pool, std::size_t& left) {
  const auto executor = co_await asio::this_coro::executor;
  for (int i = 0; i != 1000; ++i) asio::co_spawn(executor, submit_while(pool, left), asio::detached);
}

// What there is more after a million tasks, a thousand at once, than after the first hundred thousand.
double million_tasks() {
  asio::io_context io;
  shmpool::process_pool pool(io, shmpool::pool_options{.workers = 2});
  const auto run = [&](std::size_t tasks) {
    bench::run(io, run_tasks(pool, tasks));
    return bytes_now();
  };
  const double before = run(100'000);
  return run(1'000'000) - before;
}

// ---- Many small arrays, all of which are held.

struct pool_arrays {
  using array = shmpool::array<std::byte>;
  asio::io_context io;
  shmpool::process_pool pool{io, shmpool::pool_options{.workers = 1}};
  array make() { return pool.make_array<std::byte>(array_bytes); }
  static std::byte* data(const array& x) { return x.data(); }
};

struct managed_arrays {
  struct give_back {
    void operator()(void* block) const { from->deallocate(block); }
    bench::managed_memory* from;
  };
  using array = std::unique_ptr<void, give_back>;
  bench::managed_memory memory{arrays, array_bytes};
  array make() { return array(memory.allocate(array_bytes), give_back{&memory}); }
  static std::byte* data(const array& x) { return static_cast<std::byte*>(x.get()); }
};

struct heap_arrays {
  using array = std::unique_ptr<std::byte[]>;
  heap_arrays() { ::mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max()); }  // what is freed is used again
  static array make() { return std::make_unique_for_overwrite<std::byte[]>(array_bytes); }
  static std::byte* data(const array& x) { return x.get(); }
};

// Free memory of a virtual machine may be its host's, which takes microseconds to give a page back. Memory that was
// just used is not.
void have_free_memory(std::size_t bytes) {
  const bench::memory used(bytes / sizeof(double));
  std::ranges::fill(used.span(), 1.0);
}

template <class Arrays>
double make_all(Arrays& from, std::vector<typename Arrays::array>& held) {
  const auto begin = std::chrono::steady_clock::now();
  for (std::size_t i = 0; i != arrays; ++i) held.push_back(from.make());
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() / arrays;
}

// The time is that of making, the memory that of arrays that were written to. Then they are released and made again.
template <class Arrays>
void held_arrays(benchmark::State& state) {
  for (auto _ : state) {
    have_free_memory(arrays * array_bytes * 5 / 4);
    const double before = bytes_now();
    Arrays from;
    std::vector<typename Arrays::array> held;
    held.reserve(arrays);
    state.SetIterationTime(make_all(from, held));
    for (std::size_t i = 0; i != arrays; ++i) std::memcpy(Arrays::data(held[i]), &i, sizeof i);
    for (std::size_t i = 0; i != arrays; ++i)
      if (std::memcmp(Arrays::data(held[i]), &i, sizeof i) != 0) throw std::runtime_error("arrays overlap");
    state.counters["bytes"] = bytes_now() - before;
    held.clear();
    state.counters["time_again"] = make_all(from, held) * 1e6;
  }
}

template <class Arrays>
void add_held(const char* who) {
  const std::string name = "held_arrays/" + std::to_string(arrays) + "/" + who;
  benchmark::RegisterBenchmark(name.c_str(),
                               [](benchmark::State& state) {
                                 try {
                                   held_arrays<Arrays>(state);
                                 } catch (const std::exception& error) {
                                   state.SkipWithError(error.what());
                                 }
                               })
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond)
      ->Iterations(1);
}

// ---- The list.

void add(const std::string& name, std::function<double()> figure) {
  benchmark::RegisterBenchmark(name.c_str(), [figure](benchmark::State& state) {
    for (auto _ : state) state.counters["bytes"] = figure();
  })->Iterations(1);
}

}  // namespace

int main(int argc, char** argv) {
  shmpool::init(argc, argv);
  add("memory/array_job/shmpool", array_job);
  add("memory/array_job/payload", [] { return 2.0 * sizeof(double) * large; });
  add("memory/queued_task/shmpool", queued_task);
  add("memory/million_tasks/shmpool", million_tasks);
  add("memory/million_tasks/payload", [] { return 0.0; });
  add_held<pool_arrays>("shmpool");
  add_held<heap_arrays>("heap");
  add_held<managed_arrays>("managed_memory");
  add("held_arrays/" + std::to_string(arrays) + "/payload", [] { return static_cast<double>(arrays * array_bytes); });
  return bench::run_benchmarks(argc, argv);
}
