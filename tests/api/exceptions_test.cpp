// What a task throws is caught by its caller: as the same standard type or registered type, and as remote_error, which
// tells the type's name, the text, the causes and the worker. And error codes, which are the same ones on both sides.
// What becomes of each type and category is told by the tests in tests/errors.
#include "payload.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace shop {

/// A type with state beyond its text.
struct sold_out : std::runtime_error {
  sold_out(const std::string& item, int left) : runtime_error("sold out: " + item), item_name(item), items_left(left) {}
  std::string item_name;
  int items_left;
};

enum class trouble { sold_out = 1, closed = 2 };

struct trouble_category final : std::error_category {
  const char* name() const noexcept override { return "shop.trouble"; }
  std::string message(int value) const override { return value == 1 ? "sold out" : "closed"; }
  std::error_condition default_error_condition(int value) const noexcept override {
    return value == 1 ? std::error_condition(std::errc::no_message_available)
                      : std::error_condition(std::errc::resource_unavailable_try_again);
  }
};
const std::error_category& category() {
  static const trouble_category instance;
  return instance;
}
std::error_code make_error_code(trouble value) {
  return {static_cast<int>(value), category()};
}

}  // namespace shop

template <>
struct std::is_error_code_enum<shop::trouble> : std::true_type {};

template <>
struct shmpool::exception_traits<shop::sold_out> {
  static std::vector<std::byte> save(const shop::sold_out& error) {
    std::vector<std::byte> state{static_cast<std::byte>(error.items_left)};
    for (const char each : error.item_name) state.push_back(static_cast<std::byte>(each));
    return state;
  }
  static shop::sold_out load(std::span<const std::byte> state) {
    if (state.empty()) throw std::invalid_argument("no state");
    std::string item;
    for (const std::byte each : state.subspan(1)) item.push_back(static_cast<char>(each));
    return {item, std::to_integer<int>(state[0])};
  }
};

SHMPOOL_REGISTER_EXCEPTION(shop::sold_out);
SHMPOOL_REGISTER_ERROR_CATEGORY(shop::category());

namespace {

using namespace shmpool::testing;
using asio::awaitable;
using shmpool::process_pool;
using shmpool::remote_error;

/// What a task throws, as an E, and what remote_error says about it.
template <class E>
struct caught {
  std::optional<E> error;
  std::string text;
  std::optional<remote_error> remote;
};

template <class E, class Function, class... Args>
awaitable<caught<E>> catch_as(process_pool& pool, Function fn, Args... args) {
  caught<E> result;
  try {
    co_await pool.submit(fn, args...);
  } catch (const E& error) {
    result.error.emplace(error);
    result.text = error.what();
    if (const auto* remote = dynamic_cast<const remote_error*>(&error)) result.remote.emplace(*remote);
  }
  co_return result;
}

[[noreturn]] void load_settings() {
  try {
    try {
      throw std::out_of_range("line 7");
    } catch (...) {
      std::throw_with_nested(std::invalid_argument("bad file"));
    }
  } catch (...) {
    std::throw_with_nested(std::runtime_error("cannot start"));
  }
}

TEST(exceptions, bring_their_type_text_causes_and_worker) {
  with_pool(one_worker(), [](process_pool& pool) -> awaitable<void> {
    const pid_t worker = co_await pool.submit(::getpid);
    const auto nested = co_await catch_as<std::runtime_error>(pool, load_settings);
    EXPECT_EQ(nested.text, "cannot start");
    const remote_error& remote = nested.remote.value();
    EXPECT_EQ(remote.type_name(), "std::runtime_error");
    EXPECT_EQ(remote.message(), "cannot start");
    EXPECT_EQ(remote.worker_pid(), worker);
    EXPECT_FALSE(remote.element());
    const std::vector<remote_error::cause> causes = {{"std::invalid_argument", "bad file"},
                                                     {"std::out_of_range", "line 7"}};
    EXPECT_EQ(remote.causes(), causes);

    const auto registered = co_await catch_as<shop::sold_out>(pool, [] { throw shop::sold_out("tea", 3); });
    EXPECT_EQ(registered.text, "sold out: tea");
    EXPECT_EQ(registered.error.value().item_name, "tea");
    EXPECT_EQ(registered.error->items_left, 3);
    EXPECT_EQ(registered.remote.value().worker_pid(), worker);

    const auto missing = [] { return std::filesystem::file_size("/no/such/file"); };
    const auto file = co_await catch_as<std::filesystem::filesystem_error>(pool, missing);
    EXPECT_EQ(file.error.value().path1(), "/no/such/file");
    EXPECT_EQ(file.error->code(), std::errc::no_such_file_or_directory);

    const auto number = co_await catch_as<std::exception>(pool, [] { throw 42; });
    EXPECT_EQ(number.remote.value().type_name(), "int");
  });
}

TEST(exceptions, leave_the_worker_and_its_memory_as_they_were) {
  with_pool(one_worker(), [](process_pool& pool) -> awaitable<void> {
    auto x = make_pattern<double>(pool, 90, many);
    const pid_t worker = co_await pool.submit(::getpid);
    for (int i = 0; i != 50; ++i) {
      const auto fail = [](shmpool::array<const double> y) -> shmpool::array<double> {
        auto made = y.clone();
        throw std::runtime_error(std::to_string(made.size()));
      };
      const auto failed = co_await catch_as<std::runtime_error>(pool, fail, x);
      EXPECT_EQ(failed.text, "1000000");
    }
    EXPECT_EQ(co_await pool.submit(::getpid), worker);
    EXPECT_EQ(pool.stats().live_segments, 1u);
    EXPECT_LE(pool.stats().cached_segments, 1u);
    EXPECT_EQ(pool.stats().failed, 50u);
  });
}

// ---- Error codes.

std::error_code check_file(const std::string& path) {
  std::error_code error;
  if (::open(path.c_str(), O_RDONLY | O_CLOEXEC) < 0) error = {errno, std::generic_category()};
  return error;
}

// The category came as an address of the worker's, and the first question about the code crashed the parent.
TEST(error_codes, are_results_and_arguments) {
  with_pool(one_worker(), [](process_pool& pool) -> awaitable<void> {
    const std::error_code error = co_await pool.submit(check_file, std::string("/no/such/file"));
    EXPECT_EQ(error, std::errc::no_such_file_or_directory);
    EXPECT_EQ(error, std::error_code(ENOENT, std::generic_category()));
    EXPECT_EQ(error.message(), std::generic_category().message(ENOENT));
    EXPECT_FALSE(co_await pool.submit(check_file, std::string("/")));
    EXPECT_EQ(co_await pool.submit([]() -> std::error_code { return shop::trouble::closed; }), shop::trouble::closed);
    const auto text = [](const std::error_code& code, std::error_condition condition) {
      return code.message() + (code == condition ? ", expected" : ", unexpected");
    };
    EXPECT_EQ(co_await pool.submit(text, shop::trouble::sold_out, std::errc::no_message_available),
              "sold out, expected");
    EXPECT_EQ(co_await pool.submit(text, shop::trouble::closed, std::errc::no_message_available), "closed, unexpected");
  });
}

TEST(error_codes, of_the_application_are_the_same_when_they_are_thrown) {
  with_pool(one_worker(), [](process_pool& pool) -> awaitable<void> {
    const auto fail = [] { throw std::system_error(shop::trouble::sold_out, "tea"); };
    const auto thrown = co_await catch_as<std::system_error>(pool, fail);
    EXPECT_EQ(thrown.text, "tea: sold out");
    EXPECT_EQ(thrown.error.value().code(), shop::trouble::sold_out);
    EXPECT_EQ(thrown.error->code(), std::errc::no_message_available);
    EXPECT_EQ(thrown.remote.value().code(), shop::trouble::sold_out);
  });
}

}  // namespace
