// What is submitted runs in another process, whatever kind of function it is: also those of libraries that were loaded
// at any time. All that can be submitted is in tests/codec/callable_test.cpp.
#include "payload.hpp"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <stdexcept>
#include <string>
#include <utility>

namespace {

using namespace shmpool::testing;
using asio::awaitable;
using shmpool::array;
using shmpool::process_pool;

int twice(int x) {
  return 2 * x;
}
int thrice(int x) {
  return 3 * x;
}

TEST(callables, of_every_kind_run_in_another_process) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    const pid_t pid = co_await pool.submit(::getpid);
    EXPECT_NE(pid, ::getpid());
    EXPECT_GT(pid, 0);
    // One trampoline serves all functions of a signature: each still calls its own.
    for (int (*each)(int) : {&twice, &thrice}) EXPECT_EQ(co_await pool.submit(each, 4), each(4));
    EXPECT_EQ(co_await pool.submit(static_cast<long (*)(long)>(std::labs), -5L), 5);  // of the C library
    EXPECT_EQ(co_await pool.submit([](int x) { return x + 1; }, 4), 5);
    EXPECT_EQ(co_await pool.submit(std::plus<>(), std::string("a"), std::string("b")), "ab");
    std::array<std::uint64_t, 5000> big;  // larger than the inline limit
    fill_pattern(big, 1);
    EXPECT_EQ(co_await pool.submit(shmpool::by_value([big] { return digest(big); })), digest(big));
    const auto add = shmpool::by_value([base = 100](int x) { return base + x; });
    const std::vector<int> sums = co_await pool.map(add, std::vector<int>(3, 5));
    EXPECT_EQ(sums, std::vector<int>(3, 105));
  });
}

TEST(callables, may_be_many_different_ones) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    const auto all = [&pool]<int... N>(std::integer_sequence<int, N...>) -> awaitable<int> {
      int sum = 0;
      ((sum += co_await pool.submit([](int x) { return x * N; }, 1)), ...);
      co_return sum;
    };
    EXPECT_EQ(co_await all(std::make_integer_sequence<int, 100>()), 4950);
  });
}

// ---- Functions of libraries.

#if defined(SHMPOOL_TEST_PLUGIN_A) && defined(SHMPOOL_TEST_PLUGIN_B)

class library {
 public:
  explicit library(const std::string& path) : handle_(::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) {
    if (!handle_) throw std::runtime_error(::dlerror());
  }
  library(const library&) = delete;
  library& operator=(const library&) = delete;
  ~library() {
    if (handle_) ::dlclose(handle_);
  }

  template <class Function>
  Function* symbol(const char* name) const {
    void* found = ::dlsym(handle_, name);
    if (!found) throw std::runtime_error(::dlerror());
    return reinterpret_cast<Function*>(found);
  }
  int (*value_plus() const)(int) { return symbol<int (*())(int)>("plugin_value_plus")(); }
  array<double> (*scaled() const)(array<const double>) {
    return symbol<array<double> (*())(array<const double>)>("plugin_scaled")();
  }
  void (*fail() const)() { return symbol<void (*())()>("plugin_fail")(); }
  using submit_function = void(process_pool&, int, void (*)(void*, int), void*);

 private:
  void* handle_;
};

awaitable<void> expect_works(process_pool& pool, const library& plugin, int value) {
  EXPECT_EQ(co_await pool.submit(plugin.value_plus(), 40), 40 + value);
  for (const std::size_t n : lengths) {
    auto x = pool.make_array<double>(n, 3.0);
    const array<double> y = co_await pool.submit(plugin.scaled(), x);
    EXPECT_EQ(y[n - 1], 3.0 * value);
  }
  std::string text;
  try {
    co_await pool.submit(plugin.fail());
  } catch (const std::range_error& error) {
    text = error.what();
  }
  EXPECT_EQ(text, "plugin " + std::to_string(value));

  // The library's own submit: also the trampoline is in there, and the types are its own.
  int result = 0;
  plugin.symbol<library::submit_function>("plugin_submit")(
      pool, 2, [](void* context, int got) { *static_cast<int*>(context) = got; }, &result);
  while (result == 0) co_await asio::post(asio::use_awaitable);
  EXPECT_EQ(result, (value + 2) * 10 + 4);
}

TEST(callables, of_a_library_that_was_loaded_before_the_pool_was_made) {
  const library plugin(SHMPOOL_TEST_PLUGIN_A);
  with_pool([&](process_pool& pool) -> awaitable<void> { co_await expect_works(pool, plugin, 1); });
}

TEST(callables, of_a_library_that_was_loaded_while_the_workers_ran) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    EXPECT_EQ(co_await pool.submit(twice, 4), 8);
    const library first(SHMPOOL_TEST_PLUGIN_A), second(SHMPOOL_TEST_PLUGIN_B);
    co_await expect_works(pool, second, 2);
    co_await expect_works(pool, first, 1);
  });
}

TEST(callables, of_a_library_that_has_taken_another_ones_place) {
  with_pool(one_worker(), [](process_pool& pool) -> awaitable<void> {
    // At the same addresses: what the pool knows of the first must not be taken for the second.
    int (*previous)(int) = nullptr;
    int moves = 0;
    for (int round = 0; round != 4; ++round) {
      const bool first = round % 2 == 0;
      const library plugin(first ? SHMPOOL_TEST_PLUGIN_A_PLAIN : SHMPOOL_TEST_PLUGIN_B_PLAIN);
      const auto function = plugin.symbol<int(int)>("plain_value_plus");
      EXPECT_EQ(co_await pool.submit(function, 10), first ? 11 : 12);
      EXPECT_EQ((co_await pool.map(function, std::vector<int>(1, 20))).at(0), first ? 21 : 22);
      moves += std::exchange(previous, function) != function;
    }
    EXPECT_LT(moves, 4) << "the loader never used an address twice: this shows nothing";
  });
}

TEST(callables, of_a_library_whose_file_is_gone_are_not_found) {
  const std::string copy =
      std::filesystem::temp_directory_path() / ("shmpool_plugin_" + std::to_string(::getpid()) + ".so");
  std::filesystem::copy_file(SHMPOOL_TEST_PLUGIN_A, copy);
  // In a program of its own: other tests have the same library open, from where it would be found.
  const int status = in_child([&] {
    with_pool([&](process_pool& pool) -> awaitable<void> {
      const library plugin(copy);
      std::filesystem::remove(copy);
      std::error_code code;
      std::string text;
      try {
        co_await pool.submit(plugin.value_plus(), 1);
      } catch (const std::system_error& error) {
        code = error.code();
        text = error.what();
      }
      EXPECT_EQ(code, make_error_code(shmpool::errc::function_not_found));
      EXPECT_NE(text.find(copy), std::string::npos) << text;
      EXPECT_EQ(co_await pool.submit(twice, 4), 8);
    });
    return ::testing::Test::HasFailure() ? 1 : 0;
  });
  EXPECT_EQ(status, 0);
  std::filesystem::remove(copy);
}

#endif

}  // namespace
