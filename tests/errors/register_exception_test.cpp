// Promises about exception types of the application that were registered.
#include <shmpool/detail/codec/exception_codec.hpp>
#include <shmpool/error.hpp>
#include <shmpool/register_exception.hpp>

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "errors/exception_fixture.hpp"

namespace app {

struct from_string : std::runtime_error {
  explicit from_string(const std::string& text) : std::runtime_error(text) {}
};

struct from_literal : std::exception {
  explicit from_literal(const char* text) : text_("decorated: " + std::string(text)) {}
  const char* what() const noexcept override { return text_.c_str(); }
  std::string text_;
};

struct final_error final : std::domain_error {
  using std::domain_error::domain_error;
};

/// Has state beyond its text, and a what() that nobody may override.
struct with_state : std::exception {
  with_state(int number, std::string name) : number_(number), name_(std::move(name)) {}
  const char* what() const noexcept final { return name_.c_str(); }
  int number_;
  std::string name_;
};

/// No std::exception at all.
struct standalone {
  explicit standalone(const char* text) : text_(text) {}
  const char* what() const { return text_.c_str(); }
  std::string text_;
};

enum class status { good = 0, bad = 7 };

struct throws_in_what {
  explicit throws_in_what(const std::string&) {}
  const char* what() const { throw std::logic_error("what() failed"); }
};

struct null_what : std::runtime_error {
  explicit null_what(const std::string& text) : std::runtime_error(text), text_(text) {}
  const char* what() const noexcept override { return nullptr; }
  std::string text_;
};

struct refuses_to_load : std::length_error {
  using std::length_error::length_error;
};

struct huge_state : std::range_error {
  using std::range_error::range_error;
};

struct grandchild : from_string {
  using from_string::from_string;
};

struct unregistered : std::overflow_error {
  using std::overflow_error::overflow_error;
};

template <class A, class B>
struct generic : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace app

template <>
struct shmpool::exception_traits<app::with_state> {
  static std::vector<std::byte> save(const app::with_state& error) {
    std::vector<std::byte> bytes(sizeof(int) + error.name_.size());
    std::memcpy(bytes.data(), &error.number_, sizeof(int));
    std::memcpy(bytes.data() + sizeof(int), error.name_.data(), error.name_.size());
    return bytes;
  }
  static app::with_state load(std::span<const std::byte> state) {
    int number = 0;
    if (state.size() < sizeof number) throw std::length_error("too short");
    std::memcpy(&number, state.data(), sizeof number);
    const auto name = state.subspan(sizeof number);
    return {number, std::string(reinterpret_cast<const char*>(name.data()), name.size())};
  }
};

template <>
struct shmpool::exception_traits<app::status> {
  static std::vector<std::byte> save(app::status value) { return {static_cast<std::byte>(value)}; }
  static app::status load(std::span<const std::byte> state) { return app::status{std::to_integer<int>(state[0])}; }
};

template <>
struct shmpool::exception_traits<app::refuses_to_load> {
  static std::vector<std::byte> save(const app::refuses_to_load&) { return {}; }
  static app::refuses_to_load load(std::span<const std::byte>) { throw std::bad_alloc(); }
};

template <>
struct shmpool::exception_traits<app::huge_state> {
  static std::vector<std::byte> save(const app::huge_state&) { return std::vector<std::byte>(2u << 20); }
  static app::huge_state load(std::span<const std::byte>) { return app::huge_state("loaded"); }
};

SHMPOOL_REGISTER_EXCEPTION(app::from_string);
SHMPOOL_REGISTER_EXCEPTION(app::from_literal);
SHMPOOL_REGISTER_EXCEPTION(app::final_error);
SHMPOOL_REGISTER_EXCEPTION(app::with_state);
SHMPOOL_REGISTER_EXCEPTION(app::standalone);
SHMPOOL_REGISTER_EXCEPTION(app::status);
SHMPOOL_REGISTER_EXCEPTION(app::throws_in_what);
SHMPOOL_REGISTER_EXCEPTION(app::null_what);
SHMPOOL_REGISTER_EXCEPTION(app::refuses_to_load);
SHMPOOL_REGISTER_EXCEPTION(app::huge_state);
SHMPOOL_REGISTER_EXCEPTION(app::generic<int, char>);
SHMPOOL_REGISTER_EXCEPTION(app::from_string);  // twice is harmless

namespace {

using shmpool::remote_error;
using shmpool::remote_exception;
using shmpool::detail::exception_registration;
using shmpool::testing_exceptions::catch_as;
using shmpool::testing_exceptions::worker;

template <class E>
std::exception_ptr travel(E error) {
  return shmpool::testing_exceptions::travel(std::make_exception_ptr(std::move(error)));
}

TEST(registered_type, arrives_as_itself_and_as_remote_error) {
  const auto arrived = travel(app::from_string("text"));
  catch_as<app::from_string>(arrived, [](const auto& e) { EXPECT_STREQ(e.what(), "text"); });
  catch_as<std::exception>(arrived, [](const auto& e) { EXPECT_STREQ(e.what(), "text"); });
  catch_as<remote_error>(arrived, [](const remote_error& e) {
    EXPECT_EQ(e.type_name(), "app::from_string");
    EXPECT_EQ(e.worker_pid(), worker);
  });
}

TEST(registered_type, shows_the_workers_text_even_if_its_constructor_decorates) {
  catch_as<app::from_literal>(travel(app::from_literal("x")),
                              [](const auto& e) { EXPECT_STREQ(e.what(), "decorated: x"); });
}

TEST(registered_type, that_is_final_arrives_as_itself) {
  const auto arrived = travel(app::final_error("final"));
  catch_as<app::final_error>(arrived, [](const auto& e) { EXPECT_STREQ(e.what(), "final"); });
}

TEST(registered_type, with_traits_keeps_its_state) {
  const auto arrived = travel(app::with_state(-5, "name"));
  catch_as<remote_exception<app::with_state>>(arrived, [](const auto& e) {
    EXPECT_EQ(e.number_, -5);
    EXPECT_EQ(e.name_, "name");
    EXPECT_STREQ(e.what(), "name");
    EXPECT_EQ(e.message(), "name");
  });
}

TEST(registered_type, need_not_be_a_std_exception) {
  const auto arrived = travel(app::standalone("alone"));
  catch_as<app::standalone>(arrived, [](const auto& e) { EXPECT_STREQ(e.what(), "alone"); });
  catch_as<remote_error>(arrived, [](const auto& e) { EXPECT_EQ(e.message(), "alone"); });
}

TEST(registered_type, need_not_be_a_class) {
  catch_as<app::status>(travel(app::status::bad), [](app::status value) { EXPECT_EQ(value, app::status::bad); });
}

TEST(registered_type, may_be_a_template_with_several_arguments) {
  catch_as<app::generic<int, char>>(travel(app::generic<int, char>("generic")),
                                    [](const auto& e) { EXPECT_STREQ(e.what(), "generic"); });
}

TEST(registered_type, is_what_its_unregistered_children_arrive_as) {
  const auto arrived = travel(app::grandchild("child"));
  catch_as<remote_exception<app::from_string>>(arrived, [](const auto& e) {
    EXPECT_STREQ(e.what(), "child");
    EXPECT_EQ(e.type_name(), "app::grandchild");
  });
}

TEST(registered_type, is_recognised_when_thrown_with_a_nested_cause) {
  std::exception_ptr error;
  try {
    try {
      throw std::bad_alloc();
    } catch (...) {
      std::throw_with_nested(app::with_state(3, "outer"));
    }
  } catch (...) {
    error = std::current_exception();
  }
  const auto arrived = shmpool::detail::decode_exception(shmpool::detail::encode_exception(error), worker);
  catch_as<remote_exception<app::with_state>>(arrived, [](const auto& e) {
    EXPECT_EQ(e.number_, 3);
    EXPECT_EQ(e.type_name(), "app::with_state");
    ASSERT_EQ(e.causes().size(), 1u);
    EXPECT_EQ(e.causes()[0].type, "std::bad_alloc");
  });
}

TEST(registered_type, travels_a_second_time) {
  try {
    std::rethrow_exception(travel(app::with_state(8, "again")));
  } catch (const remote_exception<app::with_state>& once) {
    catch_as<remote_exception<app::with_state>>(travel(once), [](const auto& e) {
      EXPECT_EQ(e.number_, 8);
      EXPECT_EQ(e.type_name(), "app::with_state");
    });
  }
}

TEST(registered_type, whose_what_throws_arrives_as_text) {
  catch_as<remote_exception<std::runtime_error>>(travel(app::throws_in_what("x")), [](const auto& e) {
    EXPECT_STREQ(e.what(), "exception of type app::throws_in_what");
  });
}

TEST(registered_type, whose_what_is_null_arrives_as_itself) {
  catch_as<remote_exception<app::null_what>>(travel(app::null_what("lost")), [](const auto& e) {
    EXPECT_STREQ(e.what(), "exception of type app::null_what");
    EXPECT_EQ(e.text_, "");
  });
}

TEST(registered_type, that_cannot_be_loaded_arrives_as_its_standard_base) {
  catch_as<remote_exception<std::length_error>>(travel(app::refuses_to_load("text")), [](const auto& e) {
    EXPECT_STREQ(e.what(), "text");
    EXPECT_EQ(e.type_name(), "app::refuses_to_load");
  });
}

TEST(registered_type, with_more_than_1_mib_of_state_arrives_as_its_standard_base) {
  catch_as<remote_exception<std::range_error>>(travel(app::huge_state("text")),
                                               [](const auto& e) { EXPECT_STREQ(e.what(), "text"); });
}

TEST(registration, ends_with_its_object) {
  {
    const exception_registration registration(shmpool::detail::carrier_of<app::unregistered>());
    catch_as<app::unregistered>(travel(app::unregistered("known")), [](const auto&) {});
  }
  catch_as<remote_exception<std::overflow_error>>(travel(app::unregistered("forgotten")), [](const auto&) {});
}

TEST(registration, of_one_type_twice_ends_with_the_last) {
  using shmpool::detail::carrier_of;
  auto first = std::make_unique<exception_registration>(carrier_of<app::unregistered>());
  auto second = std::make_unique<exception_registration>(carrier_of<app::unregistered>());
  first.reset();
  EXPECT_TRUE(exception_registration::find(typeid(app::unregistered).name()));
  second.reset();
  EXPECT_FALSE(exception_registration::find(typeid(app::unregistered).name()));
}

TEST(registration, may_happen_while_other_threads_look_up) {
  std::vector<std::thread> threads;
  for (int t = 0; t != 4; ++t) {
    threads.emplace_back([] {
      for (int i = 0; i != 500; ++i) {
        const exception_registration registration(shmpool::detail::carrier_of<app::unregistered>());
        catch_as<app::unregistered>(travel(app::unregistered("x")), [](const auto&) {});
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_FALSE(exception_registration::find(typeid(app::unregistered).name()));
}

}  // namespace
