// What polling costs others when CPUs are short: as many processes compute as there are CPUs, and beside them a pool of
// one worker runs short tasks, one at a time. Measured is the time for a unit of work over all of them, once with the
// pool polling as it likes and once with spin off.
#include "bench.hpp"

#include "child_process.hpp"

#include <sys/mman.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <deque>
#include <string>
#include <system_error>

namespace {

using bench_clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds length{500};

/// Some 10 us of work.
std::uint64_t unit(std::uint64_t seed) {
  for (int i = 0; i != 10'000; ++i) {
    seed = seed * 6'364'136'223'846'793'005U + 1'442'695'040'888'963'407U;
    benchmark::DoNotOptimize(seed);
  }
  return seed;
}

/// Units done by processes that compute all the time, one for each CPU.
class crowd {
 public:
  crowd() {
    void* const memory = ::mmap(nullptr, sizeof *done_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
    done_ = ::new (memory) std::atomic<std::uint64_t>(0);
    for (unsigned i = 0; i != shmpool::default_worker_count(); ++i) {
      members_.emplace_back([done = done_] {
        for (std::uint64_t value = 1;; done->fetch_add(1, std::memory_order_relaxed)) value = unit(value);
      });
    }
  }
  crowd(const crowd&) = delete;
  crowd& operator=(const crowd&) = delete;
  ~crowd() {
    members_.clear();
    ::munmap(done_, sizeof *done_);
  }
  std::uint64_t done() const noexcept { return done_->load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t>* done_ = nullptr;
  std::deque<bench::child_process> members_;
};

class contest {
 public:
  explicit contest(bench::waiting how) : pool_(io_, bench::options(how)) { bench::run(io_, warm_up()); }

  void measure(benchmark::State& state) {
    for (auto _ : state) {
      const auto begin = bench_clock::now();
      const std::uint64_t before = crowd_.done();
      own_ = 0;
      bench::run(io_, compute_until(begin + length));
      const auto all = static_cast<double>(crowd_.done() - before + own_);
      const std::chrono::duration<double> took = bench_clock::now() - begin;
      state.SetIterationTime(took.count() / all);
      state.counters["share"] = static_cast<double>(own_) / all;
    }
  }

 private:
  asio::awaitable<void> warm_up() { co_await pool_.submit(unit, std::uint64_t{1}); }
  asio::awaitable<void> compute_until(bench_clock::time_point end) {
    for (std::uint64_t value = 1; bench_clock::now() < end; ++own_) value = co_await pool_.submit(unit, value);
  }

  crowd crowd_;  // before the pool, so that it is forked from a small process
  asio::io_context io_;
  shmpool::process_pool pool_;
  std::uint64_t own_ = 0;
};

void add(const std::string& name, bench::waiting how) {
  bench::add_fixture<contest>(name, how)->UseManualTime()->Iterations(1)->Unit(benchmark::kMicrosecond);
}

}  // namespace

int main(int argc, char** argv) {
  shmpool::init(argc, argv);
  add("crowded/1/shmpool", bench::waiting::spinning);
  add("crowded/1/spin_off", bench::waiting::sleeping);
  return bench::run_benchmarks(argc, argv);
}
