// What arrays cost in another process, in each way that they can travel and in each size, beside the least that the
// same work costs in this process.
#include "array_floors.hpp"
#include "array_tasks.hpp"
#include "bench.hpp"
#include "processes.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace {

constexpr int cold_runs = 3;

void report(benchmark::State& state, const bench::usage& used) {
  const auto iterations = static_cast<double>(state.iterations());
  state.counters["faults"] = used.minor_faults / iterations;
  state.counters["cpu"] = used.cpu_us / iterations;
}

// ---- In this process.

template <class Floor>
class floor_fixture {
 public:
  explicit floor_fixture(std::size_t count) : floor_(count) {}
  void measure(benchmark::State& state) {
    const bench::usage_meter meter;
    for (auto _ : state) {
      if (floor_()) continue;
      state.SkipWithError("wrong result");
      break;
    }
    report(state, meter.so_far());
  }

 private:
  Floor floor_;
};

// ---- In a worker. Each kind of work is built from the pool and the number of elements; one call is one submit, and
// its result goes back to the pool within the measured time.

bool is(const shmpool::array<double>& y, std::size_t count, double value) {
  return y.size() == count && y[0] == value && y[count - 1] == value;
}

struct pool_add_one {
  pool_add_one(shmpool::process_pool& where, std::size_t size)
      : pool(where), count(size), x(pool.make_array<double>(count, 1.0)) {}
  asio::awaitable<bool> operator()() { co_return is(co_await pool.submit(bench::add_one, x), count, 2); }
  shmpool::process_pool& pool;
  std::size_t count;
  shmpool::array<double> x;
};

struct pool_sum : pool_add_one {
  using pool_add_one::pool_add_one;
  asio::awaitable<bool> operator()() { co_return co_await pool.submit(bench::sum, x) == static_cast<double>(count); }
};

struct pool_in_place : pool_add_one {
  using pool_add_one::pool_add_one;
  asio::awaitable<bool> operator()() {
    co_await pool.submit(bench::add_one_in_place, x);
    co_return is(x, count, expected += 1);
  }
  double expected = 1;
};

struct pool_vector {
  pool_vector(shmpool::process_pool& where, std::size_t count) : pool(where), x(count, 1.0) {}
  asio::awaitable<bool> operator()() { co_return is(co_await pool.submit(bench::add_one, x), x.size(), 2); }
  shmpool::process_pool& pool;
  std::vector<double> x;
};

struct pool_dictionary {
  pool_dictionary(shmpool::process_pool& where, std::size_t size)
      : pool(where), count(size / bench::dictionary_entries) {
    for (std::size_t i = 0; i < bench::dictionary_entries; ++i)
      all.emplace("array " + std::to_string(i), pool.make_array<double>(count, 1.0));
  }
  asio::awaitable<bool> operator()() {
    const bench::dictionary result = co_await pool.submit(bench::add_one_to_each, all);
    bool right = result.size() == all.size();
    for (const auto& [name, y] : result) right = right && is(y, count, 2);
    co_return right;
  }
  shmpool::process_pool& pool;
  std::size_t count;
  std::map<std::string, shmpool::array<const double>> all;
};

template <class Work>
class pool_fixture {
 public:
  explicit pool_fixture(std::size_t count) : pool_(io_, bench::options(bench::waiting::spinning)), work_(pool_, count) {
    bench::run(io_, warm_up());
  }
  void measure(benchmark::State& state) { bench::run(io_, repeat(state)); }

 private:
  asio::awaitable<void> warm_up() {
    for (int i = 0; i < 2; ++i) co_await work_();
  }
  asio::awaitable<void> repeat(benchmark::State& state) {
    const bench::usage_meter meter;
    for (auto _ : state) {
      if (co_await work_()) continue;
      state.SkipWithError("wrong result");
      break;
    }
    report(state, meter.so_far());
  }

  asio::io_context io_;
  shmpool::process_pool pool_;
  Work work_;
};

// ---- The first task of a pool that has not even a worker yet. The array is there, and was written to.

struct cold_pool {
  explicit cold_pool(std::size_t count) : pool(io, bench::options(bench::waiting::spinning)), work(pool, count) {}
  bool operator()() {
    bool right = false;
    bench::run(io, once(right));
    return right;
  }
  asio::awaitable<void> once(bool& right) { right = co_await work(); }
  asio::io_context io;
  shmpool::process_pool pool;
  pool_add_one work;
};

template <class First>
class cold_fixture {
 public:
  explicit cold_fixture(std::size_t count) : count_(count) {}
  void measure(benchmark::State& state) {
    for (auto _ : state) {
      First first(count_);
      const auto begin = std::chrono::steady_clock::now();
      const bool right = first();
      state.SetIterationTime(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
      if (right) continue;
      state.SkipWithError("wrong result");
      break;
    }
  }

 private:
  std::size_t count_;
};

// ---- The list.

class work {
 public:
  work(const std::string& mode, std::size_t bytes)
      : name_("array/" + mode + "/" + std::to_string(bytes) + "/"), bytes_(bytes), count_(bytes / sizeof(double)) {}

  template <class Work>
  const work& pool() const {
    return add<pool_fixture<Work>>("shmpool", count_);
  }
  template <class Floor>
  const work& floor(const char* who) const {
    return add<floor_fixture<Floor>>(who, count_);
  }
  // A floor for one array of a dictionary.
  template <class Floor>
  const work& floor_of_each(const char* who) const {
    return add<floor_fixture<bench::eight_times<Floor>>>(who, count_ / bench::dictionary_entries);
  }
  template <class First>
  const work& cold(const char* who) const {
    bench::add_fixture<cold_fixture<First>>(name_ + who, count_)
        ->UseManualTime()
        ->Unit(benchmark::kMicrosecond)
        ->Iterations(cold_runs);
    return *this;
  }

 private:
  template <class Fixture>
  const work& add(const char* who, std::size_t count) const {
    bench::add_fixture<Fixture>(name_ + who, count)->UseRealTime()->Unit(benchmark::kMicrosecond);
    return *this;
  }

  std::string name_;
  std::size_t bytes_, count_;
};

void add_all(std::size_t bytes) {
  using namespace bench;
  work("add_one", bytes)
      .pool<pool_add_one>()
      .floor<warm_add_one>("loop_warm")
      .floor<fresh_add_one>("loop_fresh")
      .floor<warm_copy>("memcpy");
  work("sum", bytes).pool<pool_sum>().floor<warm_sum>("loop_warm").floor<warm_copy>("memcpy");
  work("in_place", bytes).pool<pool_in_place>().floor<warm_in_place>("loop_warm").floor<warm_copy>("memcpy");
  work("vector", bytes)
      .pool<pool_vector>()
      .floor<warm_copy_and_add_one>("loop_warm")
      .floor<fresh_copy_and_add_one>("loop_fresh")
      .floor<warm_copy>("memcpy");
  work("dictionary", bytes)
      .pool<pool_dictionary>()
      .floor_of_each<warm_add_one>("loop_warm")
      .floor_of_each<fresh_add_one>("loop_fresh")
      .floor<warm_copy>("memcpy");
}

}  // namespace

int main(int argc, char** argv) {
  shmpool::init(argc, argv);
  constexpr std::size_t goal = 160'000'000, kibi = 1024, mebi = 1024 * kibi;
  for (const std::size_t bytes : {4 * kibi, 64 * kibi, mebi, 16 * mebi, goal, 256 * mebi, 1024 * mebi}) add_all(bytes);
  work("cold", goal)
      .cold<cold_pool>("shmpool")
      .cold<bench::warm_add_one>("loop_warm")
      .cold<bench::fresh_add_one>("loop_fresh");
  return bench::run_benchmarks(argc, argv);
}
