// What a task throws is caught by its caller: as the same standard type or registered type, and as remote_error, which
// tells the type's name, the text, the causes and the worker.
#include "payload.hpp"

#include <unistd.h>

#include <any>
#include <csignal>
#include <filesystem>
#include <functional>
#include <future>
#include <ios>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <system_error>
#include <typeinfo>
#include <variant>

namespace shop {

/// A type with state beyond its text.
struct sold_out : std::runtime_error {
  sold_out(const std::string& item, int left) : runtime_error("sold out: " + item), item_name(item), items_left(left) {}
  std::string item_name;
  int items_left;
};
/// One that its text describes.
struct closed : std::logic_error {
  using logic_error::logic_error;
};
/// One that derives from a registered one, and is not known itself.
struct closed_today : closed {
  using closed::closed;
};
/// One that is no std::exception.
struct strike {
  explicit strike(std::string why) : reason(std::move(why)) {}
  const char* what() const noexcept { return reason.c_str(); }
  std::string reason;
};
/// Not registered.
struct unknown : std::out_of_range {
  using out_of_range::out_of_range;
};
/// Its bytes cannot be made into one again.
struct unreadable : std::length_error {
  using length_error::length_error;
};

}  // namespace shop

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
template <>
struct shmpool::exception_traits<shop::unreadable> {
  static std::vector<std::byte> save(const shop::unreadable&) { return {}; }
  static shop::unreadable load(std::span<const std::byte>) { throw std::runtime_error("cannot be read"); }
};

SHMPOOL_REGISTER_EXCEPTION(shop::sold_out);
SHMPOOL_REGISTER_EXCEPTION(shop::closed);
SHMPOOL_REGISTER_EXCEPTION(shop::strike);
SHMPOOL_REGISTER_EXCEPTION(shop::unreadable);

namespace {

using namespace shmpool::testing;
using asio::awaitable;
using shmpool::process_pool;
using shmpool::remote_error;

/// What `fn(args...)` throws in a worker, caught as an E; its what() as text and what remote_error says about it.
struct caught {
  bool as_type = false;
  std::string text;
  std::optional<remote_error> remote;
};

template <class E>
caught look_at(const std::exception_ptr& error) {
  caught result;
  if (!error) return result;
  try {
    std::rethrow_exception(error);
  } catch (const E& thrown) {
    result.as_type = true;
    if constexpr (requires { thrown.what(); }) result.text = thrown.what();
  } catch (...) {
  }
  try {
    std::rethrow_exception(error);
  } catch (const remote_error& thrown) {
    result.remote = thrown;
  } catch (...) {
  }
  return result;
}

template <class E, class Function, class... Args>
awaitable<caught> catch_as(process_pool& pool, Function fn, Args... args) {
  std::exception_ptr error;
  try {
    co_await pool.submit(fn, args...);
  } catch (...) {
    error = std::current_exception();
  }
  co_return look_at<E>(error);
}

template <class E>
void throw_with(std::string text) {
  throw E(text);
}

template <class E>
awaitable<void> expect_standard(process_pool& pool, std::string type_name) {
  const caught got = co_await catch_as<E>(pool, throw_with<E>, std::string("text of ") + type_name);
  EXPECT_TRUE(got.as_type) << type_name << ": " << got.text;
  EXPECT_EQ(got.text, "text of " + type_name);
  EXPECT_TRUE(got.remote);
  if (!got.remote) co_return;
  EXPECT_EQ(got.remote->type_name(), type_name);
  EXPECT_EQ(got.remote->message(), "text of " + type_name);
  EXPECT_TRUE(got.remote->causes().empty());
  EXPECT_FALSE(got.remote->element());
  EXPECT_EQ(got.remote->worker_pid(), co_await pool.submit(::getpid));
}

TEST(exceptions, standard_types_arrive_as_what_they_are) {
  with_pool(one_worker(), [](process_pool& pool) -> awaitable<void> {
    co_await expect_standard<std::invalid_argument>(pool, "std::invalid_argument");
    co_await expect_standard<std::domain_error>(pool, "std::domain_error");
    co_await expect_standard<std::length_error>(pool, "std::length_error");
    co_await expect_standard<std::out_of_range>(pool, "std::out_of_range");
    co_await expect_standard<std::logic_error>(pool, "std::logic_error");
    co_await expect_standard<std::range_error>(pool, "std::range_error");
    co_await expect_standard<std::overflow_error>(pool, "std::overflow_error");
    co_await expect_standard<std::underflow_error>(pool, "std::underflow_error");
    co_await expect_standard<std::runtime_error>(pool, "std::runtime_error");
    EXPECT_TRUE((co_await catch_as<std::bad_alloc>(pool, [] { throw std::bad_alloc(); })).as_type);
    EXPECT_TRUE((co_await catch_as<std::bad_optional_access>(pool, [] { std::optional<int>().value(); })).as_type);
    EXPECT_TRUE(
        (co_await catch_as<std::bad_variant_access>(pool, [] { std::get<1>(std::variant<int, char>()); })).as_type);
    EXPECT_TRUE((co_await catch_as<std::bad_any_cast>(pool, [] { std::any_cast<int>(std::any()); })).as_type);
    EXPECT_TRUE((co_await catch_as<std::bad_function_call>(pool, [] { std::function<void()>()(); })).as_type);
    EXPECT_TRUE((co_await catch_as<std::exception>(pool, [] { throw std::exception(); })).as_type);
  });
}

TEST(exceptions, errors_keep_their_codes) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    const auto code_of = [&](auto fn) -> awaitable<std::error_code> {
      try {
        co_await pool.submit(fn);
      } catch (const std::system_error& error) {
        const auto* remote = dynamic_cast<const remote_error*>(&error);
        EXPECT_TRUE(remote && remote->code() == error.code());
        co_return error.code();
      }
      co_return std::error_code();
    };
    const auto system = [] { throw std::system_error(ENOENT, std::system_category(), "open"); };
    EXPECT_EQ(co_await code_of(system), std::error_code(ENOENT, std::system_category()));
    const auto generic = [] { throw std::system_error(std::make_error_code(std::errc::timed_out)); };
    EXPECT_EQ(co_await code_of(generic), std::errc::timed_out);
    const auto stream = [] { throw std::ios_base::failure("disk"); };
    EXPECT_EQ(co_await code_of(stream), std::io_errc::stream);
    const auto own = [] { throw std::system_error(shmpool::errc::queue_full); };
    EXPECT_EQ(co_await code_of(own), shmpool::errc::queue_full);

    const auto file = [] { return std::filesystem::file_size("/no/such/file"); };
    std::filesystem::path path;
    try {
      co_await pool.submit(file);
    } catch (const std::filesystem::filesystem_error& error) {
      path = error.path1();
      EXPECT_EQ(error.code(), std::errc::no_such_file_or_directory);
    }
    EXPECT_EQ(path, "/no/such/file");
    const auto future = [] { std::future<int>().get(); };
    EXPECT_TRUE((co_await catch_as<std::future_error>(pool, future)).as_type);
  });
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

TEST(exceptions, bring_their_causes) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    const caught got = co_await catch_as<std::runtime_error>(pool, load_settings);
    EXPECT_EQ(got.text, "cannot start");
    EXPECT_TRUE(got.remote);
    const auto& causes = got.remote->causes();
    EXPECT_EQ(causes.size(), 2u);
    EXPECT_EQ(causes.at(0).type, "std::invalid_argument");
    EXPECT_EQ(causes.at(0).text, "bad file");
    EXPECT_EQ(causes.at(1).type, "std::out_of_range");
    EXPECT_EQ(causes.at(1).text, "line 7");
  });
}

TEST(exceptions, of_the_application_arrive_as_what_they_are_where_they_are_registered) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    int left = 0;
    std::string item;
    try {
      co_await pool.submit([] { throw shop::sold_out("tea", 3); });
    } catch (const shop::sold_out& error) {
      left = error.items_left;
      item = error.item_name;
      EXPECT_STREQ(error.what(), "sold out: tea");
      EXPECT_TRUE(dynamic_cast<const remote_error*>(&error));
    }
    EXPECT_EQ(left, 3);
    EXPECT_EQ(item, "tea");

    const caught closed = co_await catch_as<shop::closed>(pool, [] { throw shop::closed("until May"); });
    EXPECT_EQ(closed.text, "until May");
    const caught derived = co_await catch_as<shop::closed>(pool, [] { throw shop::closed_today("today"); });
    EXPECT_EQ(derived.text, "today");
    EXPECT_EQ(derived.remote.value().type_name(), "shop::closed_today");
    const caught strike = co_await catch_as<shop::strike>(pool, [] { throw shop::strike("pay"); });
    EXPECT_TRUE(strike.as_type);
    EXPECT_EQ(strike.text, "pay");
  });
}

TEST(exceptions, that_cannot_be_carried_arrive_as_text) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    const caught unknown = co_await catch_as<std::out_of_range>(pool, [] { throw shop::unknown("far away"); });
    EXPECT_EQ(unknown.text, "far away");
    EXPECT_EQ(unknown.remote.value().type_name(), "shop::unknown");
    const caught unreadable = co_await catch_as<std::length_error>(pool, [] { throw shop::unreadable("long"); });
    EXPECT_EQ(unreadable.text, "long");
    EXPECT_EQ(unreadable.remote.value().type_name(), "shop::unreadable");
    const caught number = co_await catch_as<std::exception>(pool, [] { throw 42; });
    EXPECT_TRUE(number.as_type);
    EXPECT_NE(number.text.find("int"), std::string::npos) << number.text;
    EXPECT_EQ(number.remote.value().type_name(), "int");
    const caught text = co_await catch_as<remote_error>(pool, [] { throw std::string("a string"); });
    EXPECT_TRUE(text.as_type);
    // Longer than what travels: cut, not lost.
    const caught lengthy =
        co_await catch_as<std::runtime_error>(pool, [] { throw std::runtime_error(std::string(1'000'000, 'x')); });
    EXPECT_GE(lengthy.text.size(), 60'000u);
    EXPECT_LT(lengthy.text.size(), 100'000u);
  });
}

TEST(exceptions, of_a_result_or_an_argument_that_cannot_be_sent) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    // The worker cannot write the result: a list that is too deep.
    struct chain {
      std::unique_ptr<chain> next;
      void serialize(shmpool::output_archive& to) { to(next); }
      void serialize(shmpool::input_archive& from) { from(next); }
    };
    const auto deep = [] {
      std::unique_ptr<chain> first;
      for (int i = 0; i != 20'000; ++i) {
        auto made = std::make_unique<chain>();
        made->next = std::move(first);
        first = std::move(made);
      }
      return first;
    };
    const caught got = co_await catch_as<std::length_error>(pool, deep);
    EXPECT_TRUE(got.as_type) << got.text;
    EXPECT_TRUE(got.remote);
    // The caller cannot write the argument: it completes with that, and nothing has been sent.
    const auto started = pool.stats().submitted;
    bool failed = false;
    try {
      co_await pool.submit([](std::unique_ptr<chain> x) { return x == nullptr; }, deep());
    } catch (const std::length_error& error) {
      failed = true;
      EXPECT_FALSE(dynamic_cast<const remote_error*>(&error));
    }
    EXPECT_TRUE(failed);
    EXPECT_EQ(pool.stats().submitted, started);
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
      EXPECT_EQ((co_await catch_as<std::runtime_error>(pool, fail, x)).text, "1000000");
    }
    EXPECT_EQ(co_await pool.submit(::getpid), worker);
    EXPECT_EQ(pool.stats().live_segments, 1u);
    EXPECT_LE(pool.stats().cached_segments, 1u);
    EXPECT_EQ(pool.stats().failed, 50u);
  });
}

}  // namespace
