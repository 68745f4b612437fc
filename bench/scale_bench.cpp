// Whether a thing costs the same when there are many of them: tasks outstanding that read one array, or edit slices of
// one, and arrays in one result. The figure is the time for one of them. Beside it, the same for few: what grows faster
// than the number shows as a ratio.
#include "bench.hpp"

#include <chrono>
#include <cstddef>
#include <exception>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>

namespace {

using bench_clock = std::chrono::steady_clock;

void rethrow(std::exception_ptr error) {
  if (error) std::rethrow_exception(error);
}

// Arrays of any size are lent: what is measured is not the copy of small ones.
shmpool::pool_options lending() {
  return {.workers = 1, .inline_bytes = 0};
}

// ---- The works. Each has `count` of something; a call does all of them once and checks the results.

double first_of(shmpool::array<const double> x) {
  return x[0];
}

class readers {
 public:
  explicit readers(std::size_t count) : count_(count) {}
  void operator()() {
    std::size_t right = 0;
    for (std::size_t i = 0; i != count_; ++i) {
      pool_.submit(first_of, array_, [&right](std::exception_ptr error, double value) {
        rethrow(error);
        right += value == 1;
      });
    }
    io_.restart();
    io_.run();
    if (right != count_) throw std::runtime_error("wrong result");
  }

 private:
  const std::size_t count_;
  asio::io_context io_;
  shmpool::process_pool pool_{io_, lending()};
  const shmpool::array<double> array_ = pool_.make_array<double>(65'536, 1.0);
};

void add_one_to_first(shmpool::array<double, 2>& rows) {
  rows.data()[0] += 1;
}

class slices {
 public:
  explicit slices(std::size_t count) : count_(count), array_(pool_.make_array<double>(count, width, 0.0)) {}
  void operator()() {
    for (std::size_t i = 0; i != count_; ++i) {
      auto row = array_.rows(i, i + 1);
      pool_.submit(add_one_to_first, row, rethrow);
    }
    io_.restart();
    io_.run();
    ++runs_;
    for (std::size_t i = 0; i != count_; ++i)
      if (array_.data()[i * width] != runs_) throw std::runtime_error("wrong result");
  }

 private:
  static constexpr std::size_t width = 64;
  const std::size_t count_;
  asio::io_context io_;
  shmpool::process_pool pool_{io_, lending()};
  const shmpool::array<double, 2> array_;
  double runs_ = 0;
};

using dictionary = std::map<std::size_t, shmpool::array<double>>;
constexpr std::size_t result_elements = 4096;  // too many to travel in the message

dictionary make_dictionary(std::size_t count) {
  dictionary result;
  for (std::size_t i = 0; i != count; ++i) {
    auto array = shmpool::make_array<double>(result_elements);
    array[0] = static_cast<double>(i);
    result.emplace(i, std::move(array));
  }
  return result;
}

class result_arrays {
 public:
  explicit result_arrays(std::size_t count) : count_(count) {}
  void operator()() {
    bool right = false;
    pool_.submit(make_dictionary, count_, [&](std::exception_ptr error, const dictionary& result) {
      rethrow(error);
      right = result.size() == count_;
      for (const auto& [i, array] : result) right = right && array[0] == static_cast<double>(i);
    });
    io_.restart();
    io_.run();
    if (!right) throw std::runtime_error("wrong result");
  }

 private:
  const std::size_t count_;
  asio::io_context io_;
  shmpool::process_pool pool_{io_, lending()};
};

// ---- Measuring: the second call and those after it, which find memory and a worker.

template <class Work>
class fixture {
 public:
  explicit fixture(std::size_t count) : count_(count), work_(count) { work_(); }
  void measure(benchmark::State& state) {
    for (auto _ : state) {
      const auto begin = bench_clock::now();
      work_();
      const std::chrono::duration<double> time = bench_clock::now() - begin;
      state.SetIterationTime(time.count() / static_cast<double>(count_));
    }
  }

 private:
  const std::size_t count_;
  Work work_;
};

/// Many as ours, and few as a contestant of the same work; both do so many altogether.
template <class Work>
void add(const std::string& work, std::size_t many, std::size_t few, const char* few_are_called) {
  for (const std::size_t count : {many, few}) {
    const std::string who = count == many ? "shmpool" : std::to_string(few) + "_" + few_are_called;
    bench::add_fixture<fixture<Work>>(work + "/" + std::to_string(many) + "/" + who, count)
        ->UseManualTime()
        ->Unit(benchmark::kMicrosecond)
        ->Iterations(static_cast<benchmark::IterationCount>(many / count));
  }
}

}  // namespace

int main(int argc, char** argv) {
  shmpool::init(argc, argv);
  add<readers>("readers", 64'000, 1000, "tasks");
  add<slices>("slices", 64'000, 1000, "slices");
  add<result_arrays>("result_arrays", 10'000, 100, "arrays");
  return bench::run_benchmarks(argc, argv);
}
