// How long short tasks wait where some are long: 1 % of tasks of 50 ms among tasks of 10 us, which arrive at random and
// do not ask whether there is room. Beside the pool, asio::thread_pool with the same coroutines, and an ideal scheduler
// that is simulated with the same arrivals.
//
// Arrivals are a Poisson process, always the same one, that occupies 60 % of the workers. A latency is counted from the
// time at which the task should have arrived: what the application does late counts, too. A long task sleeps and a
// short one computes, so that the figures are about scheduling even where workers outnumber CPUs. The ideal is a plain
// one: one queue, first come, first served, and no time lost on the way; the trip of 0.1 ms there and back is not part
// of it.
#include "bench.hpp"

#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <functional>
#include <queue>
#include <random>
#include <string>
#include <vector>

namespace {

using bench_clock = std::chrono::steady_clock;
using std::chrono::microseconds;
using std::chrono::nanoseconds;

constexpr microseconds short_run{10}, long_run{50'000};
constexpr double long_share = 0.01, utilisation = 0.6;
constexpr std::chrono::seconds length{3};

// ---- The tasks.

void compute() {
  const auto end = bench_clock::now() + short_run;
  while (bench_clock::now() < end) {
  }
}

void sleep() {
  timespec time{0, nanoseconds(long_run).count()};
  ::nanosleep(&time, nullptr);
}

// Its run time depends on its argument, so that of the last runs says little of the next.
void either(bool is_long) {
  is_long ? sleep() : compute();
}

// ---- The arrivals.

struct arrival {
  nanoseconds at;
  bool is_long;
};

std::vector<arrival> arrivals(unsigned workers) {
  const double mean_run =
      long_share * nanoseconds(long_run).count() + (1 - long_share) * nanoseconds(short_run).count();
  std::mt19937_64 random(1);
  std::exponential_distribution<double> gap(utilisation * workers / mean_run);
  std::bernoulli_distribution is_long(long_share);
  std::vector<arrival> all;
  for (double at = gap(random); at < nanoseconds(length).count(); at += gap(random)) {
    all.push_back({nanoseconds(static_cast<nanoseconds::rep>(at)), is_long(random)});
  }
  return all;
}

void report(benchmark::State& state, std::vector<nanoseconds> latencies) {
  std::sort(latencies.begin(), latencies.end());
  const auto at = [&](std::size_t percent) {
    return static_cast<double>(latencies[(latencies.size() - 1) * percent / 100].count()) / 1000;
  };
  state.counters["p50"] = at(50);
  state.counters["p99"] = at(99);
}

// ---- The contestants.

void ideal(benchmark::State& state, unsigned workers, bool) {
  std::vector<nanoseconds> latencies;
  for (auto _ : state) {
    std::priority_queue<nanoseconds, std::vector<nanoseconds>, std::greater<>> free_from;
    for (unsigned worker = 0; worker != workers; ++worker) free_from.push({});
    for (const arrival& each : arrivals(workers)) {
      const nanoseconds end = std::max(each.at, free_from.top()) + (each.is_long ? long_run : short_run);
      free_from.pop();
      free_from.push(end);
      if (!each.is_long) latencies.push_back(end - each.at);
    }
  }
  report(state, std::move(latencies));
}

// Each runs a task elsewhere: co_await run(is_long).
struct in_pool {
  in_pool(asio::io_context& io, unsigned workers, bool one) : one_function(one), pool(io, {.workers = workers}) {}
  asio::awaitable<void> run(bool is_long) {
    if (one_function) co_await pool.submit(either, is_long, asio::use_awaitable);
    else co_await pool.submit(is_long ? sleep : compute, asio::use_awaitable);
  }
  bool one_function;
  shmpool::process_pool pool;
};
struct in_threads {
  in_threads(asio::io_context&, unsigned workers, bool) : threads(workers) {}
  static asio::awaitable<void> run_here(bool is_long) {
    either(is_long);
    co_return;
  }
  auto run(bool is_long) { return asio::co_spawn(threads, run_here(is_long), asio::use_awaitable); }
  asio::thread_pool threads;
};

void rethrow(std::exception_ptr error) {
  if (error) std::rethrow_exception(error);
}

template <class Elsewhere>
asio::awaitable<void> serve(Elsewhere& elsewhere, bool is_long, bench_clock::time_point from,
                            std::vector<nanoseconds>& latencies) {
  co_await elsewhere.run(is_long);
  if (!is_long) latencies.push_back(bench_clock::now() - from);
}

template <class Elsewhere>
asio::awaitable<void> offer(Elsewhere& elsewhere, const std::vector<arrival>& load,
                            std::vector<nanoseconds>& latencies) {
  asio::steady_timer timer(co_await asio::this_coro::executor);
  const auto start = bench_clock::now();
  for (const arrival& each : load) {
    if (start + each.at > bench_clock::now()) {
      timer.expires_at(start + each.at);
      co_await timer.async_wait(asio::use_awaitable);
    }
    asio::co_spawn(timer.get_executor(), serve(elsewhere, each.is_long, start + each.at, latencies), rethrow);
  }
}

// Starts all workers, and lets the pool see what the functions usually take.
template <class Elsewhere>
asio::awaitable<void> warm_up(Elsewhere& elsewhere, unsigned workers, std::vector<nanoseconds>& latencies) {
  auto executor = co_await asio::this_coro::executor;
  for (unsigned i = 0; i != workers; ++i) {
    asio::co_spawn(executor, serve(elsewhere, true, bench_clock::now(), latencies), rethrow);
  }
  for (int i = 0; i != 100; ++i) co_await serve(elsewhere, false, bench_clock::now(), latencies);
}

template <class Elsewhere>
void measured(benchmark::State& state, unsigned workers, bool one_function) {
  asio::io_context io;
  Elsewhere elsewhere(io, workers, one_function);
  const std::vector<arrival> load = arrivals(workers);
  std::vector<nanoseconds> latencies;
  bench::run(io, warm_up(elsewhere, workers, latencies));
  latencies.clear();
  for (auto _ : state) bench::run(io, offer(elsewhere, load, latencies));
  report(state, std::move(latencies));
}

void add(bool one_function, unsigned workers, const char* who, void (*contestant)(benchmark::State&, unsigned, bool)) {
  const std::string work = one_function ? "mixed/one_function/" : "mixed/two_functions/";
  const std::string name = work + std::to_string(workers) + "/" + who;
  benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) { contestant(state, workers, one_function); })
      ->Iterations(1)
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond);
}

}  // namespace

int main(int argc, char** argv) {
  shmpool::init(argc, argv);
  for (const bool one_function : {false, true}) {
    for (const unsigned workers : {2U, 4U, 8U}) {
      add(one_function, workers, "shmpool", measured<in_pool>);
      add(one_function, workers, "thread_pool", measured<in_threads>);
      add(one_function, workers, "ideal", ideal);
    }
  }
  return bench::run_benchmarks(argc, argv);
}
