// Adds one to a large array: in this process, and in another one through the pool, in each way that an array can
// travel. Checks every element of every result and prints what each way costs beside the plain loop.
//
//   quickstart             20,000,000 doubles (160 MB)
//   quickstart file.npy    the array of a file that numpy.save() wrote, with its own element type
#include "npy.hpp"

#include <shmpool.hpp>

#include <asio.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace {

// ---- The job: ordinary functions. Their signatures choose how the array travels.

// As numpy does it: integers wrap around.
template <class T>
T plus_one(T x) {
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(static_cast<std::make_unsigned_t<T>>(x) + 1u);
  } else {
    return x + 1;
  }
}

template <class T>
void add_one_to(std::span<const T> x, std::span<T> y) {
  for (std::size_t i = 0; i < x.size(); ++i) y[i] = plus_one(x[i]);
}

template <class T>
shmpool::array<T> add_one(shmpool::array<const T> x) {
  auto y = shmpool::make_array<T>(x.size());
  add_one_to<T>(x, y);
  return y;
}

template <class T>
void add_one_in_place(std::span<T> x) {
  for (T& element : x) element = plus_one(element);
}

// ---- The measurement.

using clock_type = std::chrono::steady_clock;

// How long one way took, round by round. The first round is cold: workers start, memory is made.
struct way {
  const char* name;
  std::vector<double> milliseconds = {};

  void took_since(clock_type::time_point start) {
    milliseconds.push_back(std::chrono::duration<double, std::milli>(clock_type::now() - start).count());
  }
  double first() const { return milliseconds.front(); }
  double median() const {
    std::vector<double> warm(milliseconds.begin() + 1, milliseconds.end());
    std::sort(warm.begin(), warm.end());
    return warm[warm.size() / 2];
  }
};

// Compares bytes, so that a NaN equals itself.
template <class T>
void check(const way& what, std::span<const T> result, std::span<const T> expected) {
  if (result.size() != expected.size())
    throw std::runtime_error(std::string(what.name) + ": " + std::to_string(result.size()) + " elements instead of " +
                             std::to_string(expected.size()));
  if (expected.empty() || std::memcmp(result.data(), expected.data(), expected.size_bytes()) == 0) return;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (std::memcmp(&result[i], &expected[i], sizeof(T)) != 0)
      throw std::runtime_error(std::string(what.name) + ": element " + std::to_string(i) + " is wrong");
  }
}

void print_table(std::span<const way> ways) {
  const double in_process = ways.front().median();
  std::printf("%-32s %10s %10s %8s\n", "", "first", "median", "ratio");
  for (const way& w : ways)
    std::printf("%-32s %7.1f ms %7.1f ms %8.2f\n", w.name, w.first(), w.median(),
                in_process > 0 ? w.median() / in_process : 0);
}

// `fill` writes the elements of the input to the memory it is given.
template <class T, class Fill>
asio::awaitable<void> run(std::size_t count, Fill fill) {
  constexpr int rounds = 1 + 7;

  auto executor = co_await asio::this_coro::executor;
  shmpool::process_pool pool{executor, shmpool::pool_options{.workers = 2}};
  auto big = pool.make_array<T>(count);
  fill(big.span());
  auto edited = pool.make_array<T>(count);
  std::copy(big.begin(), big.end(), edited.begin());

  const std::vector<T> numbers(big.begin(), big.end());
  std::vector<T> expected(count), expected_edited = numbers;

  enum { plain, pooled, from_vector, plain_in_place, pooled_in_place };
  way ways[] = {{"loop in this process"},
                {"pool, array of the pool"},
                {"pool, std::vector"},
                {"loop in this process, in place"},
                {"pool, in place"}};

  // Alternated, so that whatever else the machine does falls on all ways alike.
  for (int round = 0; round < rounds; ++round) {
    auto start = clock_type::now();
    add_one_to<T>(numbers, expected);
    ways[plain].took_since(start);

    start = clock_type::now();
    shmpool::array<T> result = co_await pool.submit(add_one<T>, big);
    ways[pooled].took_since(start);
    check<T>(ways[pooled], result, expected);
    result = {};

    start = clock_type::now();
    result = co_await pool.submit(add_one<T>, numbers);
    ways[from_vector].took_since(start);
    check<T>(ways[from_vector], result, expected);

    start = clock_type::now();
    add_one_in_place<T>(expected_edited);
    ways[plain_in_place].took_since(start);

    start = clock_type::now();
    co_await pool.submit(add_one_in_place<T>, edited);
    ways[pooled_in_place].took_since(start);
    check<T>(ways[pooled_in_place], edited, expected_edited);
  }
  // The expected results themselves: one more than the input, for every element.
  for (std::size_t i = 0; i < count; ++i) {
    const T one_more = plus_one(numbers[i]);
    if (std::memcmp(&expected[i], &one_more, sizeof(T)) != 0) throw std::runtime_error("the plain loop is wrong");
  }

  print_table(ways);
  std::printf("every element of %d results was checked: %zu elements each\n", 3 * rounds, count);

  big = {};
  edited = {};
  co_await pool.shutdown();
  pool.clear_shm();
}

asio::awaitable<void> run_default() {
  constexpr std::size_t count = 20'000'000;
  std::printf("20,000,000 float64 (160 MB), add one, median of 7 rounds\n\n");
  co_await run<double>(count, [](std::span<double> x) { std::fill(x.begin(), x.end(), 1.0); });
}

template <class T>
asio::awaitable<void> run_on(const npy::file& file) {
  co_await run<T>(file.header().count, [&file](std::span<T> x) { file.read_elements(std::as_writable_bytes(x)); });
}

asio::awaitable<void> run_file(std::string path) {
  const npy::file file(path);
  const npy::header& h = file.header();
  std::printf("%s: %s, shape %s, %zu elements (%zu bytes), add one, median of 7 rounds\n\n", path.c_str(),
              std::string(npy::name_of(h.type)).c_str(), npy::to_string(h.shape).c_str(), h.count, h.bytes);
  switch (h.type) {
    case npy::dtype::boolean: co_await run_on<std::uint8_t>(file); break;
    case npy::dtype::int8: co_await run_on<std::int8_t>(file); break;
    case npy::dtype::int16: co_await run_on<std::int16_t>(file); break;
    case npy::dtype::int32: co_await run_on<std::int32_t>(file); break;
    case npy::dtype::int64: co_await run_on<std::int64_t>(file); break;
    case npy::dtype::uint8: co_await run_on<std::uint8_t>(file); break;
    case npy::dtype::uint16: co_await run_on<std::uint16_t>(file); break;
    case npy::dtype::uint32: co_await run_on<std::uint32_t>(file); break;
    case npy::dtype::uint64: co_await run_on<std::uint64_t>(file); break;
    case npy::dtype::float32: co_await run_on<float>(file); break;
    case npy::dtype::float64: co_await run_on<double>(file); break;
  }
}

}  // namespace

int main(int argc, char** argv) {
  shmpool::init(argc, argv);  // first: the fork server is this program executed again
  if (argc > 2) {
    std::fprintf(stderr, "usage: quickstart [file.npy]\n");
    return 2;
  }
  try {
    asio::io_context io;
    asio::co_spawn(io, argc == 2 ? run_file(argv[1]) : run_default(), [](std::exception_ptr error) {
      if (error) std::rethrow_exception(error);
    });
    io.run();
  } catch (const std::exception& why) {
    std::fprintf(stderr, "quickstart: %s\n", why.what());
    return 1;
  }
}
