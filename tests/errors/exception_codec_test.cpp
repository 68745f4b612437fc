// Promises about exceptions of every kind that travel from a worker to the parent.
#include <shmpool/detail/codec/exception_codec.hpp>
#include <shmpool/error.hpp>
#include <shmpool/register_error_category.hpp>
#include <shmpool/register_exception.hpp>

#include <gtest/gtest.h>

#include <any>
#include <filesystem>
#include <functional>
#include <future>
#include <ios>
#include <memory>
#include <new>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <typeinfo>
#include <variant>
#include <vector>

#include "errors/exception_fixture.hpp"

namespace {

using shmpool::errc;
using shmpool::remote_error;
using shmpool::detail::decode_exception;
using shmpool::detail::encode_exception;
using shmpool::testing_exceptions::catch_as;
using shmpool::testing_exceptions::is_a;
using shmpool::testing_exceptions::thrown;
using shmpool::testing_exceptions::travel;
using shmpool::testing_exceptions::worker;

// Every standard type.

template <class E>
E sample() {
  if constexpr (std::is_same_v<E, std::system_error>) {
    return E(std::make_error_code(std::errc::no_such_process), "sample text");
  } else if constexpr (std::is_same_v<E, std::filesystem::filesystem_error>) {
    return E("sample text", "/from/here", "/to/there", std::make_error_code(std::errc::file_exists));
  } else if constexpr (std::is_same_v<E, std::ios_base::failure>) {
    return E("sample text", std::make_error_code(std::io_errc::stream));
  } else if constexpr (std::is_same_v<E, std::future_error>) {
    return E(std::future_errc::broken_promise);
  } else if constexpr (std::is_constructible_v<E, std::string>) {
    return E("sample text");
  } else {
    return E();
  }
}

template <class E>
class every_standard_exception : public ::testing::Test {};

using standard_types =
    ::testing::Types<std::exception, std::logic_error, std::invalid_argument, std::domain_error, std::length_error,
                     std::out_of_range, std::runtime_error, std::range_error, std::overflow_error, std::underflow_error,
                     std::system_error, std::filesystem::filesystem_error, std::ios_base::failure, std::bad_alloc,
                     std::bad_array_new_length, std::bad_cast, std::bad_typeid, std::bad_any_cast,
                     std::bad_optional_access, std::bad_variant_access, std::bad_function_call, std::bad_weak_ptr,
                     std::bad_exception, std::future_error>;
TYPED_TEST_SUITE(every_standard_exception, standard_types);

TYPED_TEST(every_standard_exception, arrives_as_exactly_its_type) {
  const auto arrived = travel(thrown(sample<TypeParam>()));
  EXPECT_TRUE(is_a<shmpool::remote_exception<TypeParam>>(arrived));
  EXPECT_TRUE(is_a<TypeParam>(arrived));
}

TYPED_TEST(every_standard_exception, keeps_its_text_and_says_where_it_was_thrown) {
  const auto original = sample<TypeParam>();
  const auto arrived = travel(thrown(original));
  catch_as<std::exception>(arrived, [&](const std::exception& e) { EXPECT_STREQ(e.what(), original.what()); });
  catch_as<remote_error>(arrived, [&](const remote_error& e) {
    EXPECT_EQ(e.message(), original.what());
    EXPECT_EQ(e.worker_pid(), worker);
    EXPECT_TRUE(e.causes().empty());
    EXPECT_TRUE(e.type_name().starts_with("std::")) << e.type_name();
    EXPECT_EQ(e.type_name().find("abi"), std::string::npos) << e.type_name();
  });
}

TYPED_TEST(every_standard_exception, travels_a_second_time_unchanged) {
  const auto original = sample<TypeParam>();
  const auto once = travel(thrown(original));
  const auto twice = decode_exception(encode_exception(once), worker + 1);
  EXPECT_TRUE(is_a<shmpool::remote_exception<TypeParam>>(twice));
  catch_as<remote_error>(once, [&](const remote_error& first) {
    catch_as<remote_error>(twice, [&](const remote_error& second) {
      EXPECT_EQ(second.type_name(), first.type_name());
      EXPECT_EQ(second.message(), first.message());
      EXPECT_EQ(second.code(), first.code());
    });
  });
}

TYPED_TEST(every_standard_exception, is_copied_without_throwing) {
  static_assert(std::is_nothrow_copy_constructible_v<TypeParam> ==
                std::is_nothrow_copy_constructible_v<shmpool::remote_exception<TypeParam>>);
}

template <class... E>
void expect_type_names(const std::vector<std::string>& names) {
  std::vector<std::string> arrived;
  (catch_as<remote_error>(travel(thrown(E("text"))), [&](const remote_error& e) { arrived.push_back(e.type_name()); }),
   ...);
  EXPECT_EQ(arrived, names);
}

TEST(type_name, of_a_standard_exception_is_what_one_writes) {
  expect_type_names<std::logic_error, std::invalid_argument, std::domain_error, std::length_error, std::out_of_range>(
      {"std::logic_error", "std::invalid_argument", "std::domain_error", "std::length_error", "std::out_of_range"});
  expect_type_names<std::runtime_error, std::range_error, std::overflow_error, std::underflow_error>(
      {"std::runtime_error", "std::range_error", "std::overflow_error", "std::underflow_error"});
}

// Nearest bases.

struct derived_argument : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};
struct own_text : std::exception {
  const char* what() const noexcept override { return "text of its own"; }
};
struct silent : std::exception {
  const char* what() const noexcept override { return nullptr; }
};
struct tagged_base {
  virtual ~tagged_base() = default;
};
struct second_base : tagged_base, std::out_of_range {
  second_base() : std::out_of_range("second base") {}
};
struct twice_an_exception : std::runtime_error, std::bad_cast {
  twice_an_exception() : std::runtime_error("which one?") {}
  const char* what() const noexcept override { return "which one?"; }
};

TEST(nearest_base, is_the_standard_one_with_the_real_type_name) {
  const auto arrived = travel(thrown(derived_argument("too long")));
  EXPECT_TRUE(is_a<shmpool::remote_exception<std::invalid_argument>>(arrived));
  catch_as<remote_error>(arrived, [](const remote_error& e) {
    EXPECT_NE(e.type_name().find("derived_argument"), std::string::npos);
    EXPECT_EQ(e.message(), "too long");
  });
}

TEST(nearest_base, may_be_exception_itself) {
  const auto arrived = travel(thrown(own_text()));
  EXPECT_TRUE(is_a<shmpool::remote_exception<std::exception>>(arrived));
  catch_as<std::exception>(arrived, [](const std::exception& e) { EXPECT_STREQ(e.what(), "text of its own"); });
}

TEST(nearest_base, is_found_behind_another_base) {
  EXPECT_TRUE(is_a<shmpool::remote_exception<std::out_of_range>>(travel(thrown(second_base()))));
}

TEST(nearest_base, of_an_ambiguous_exception_is_runtime_error) {
  const auto arrived = travel(thrown(twice_an_exception()));
  EXPECT_TRUE(is_a<shmpool::remote_exception<std::runtime_error>>(arrived));
}

TEST(nearest_base, of_a_stream_failure_is_ios_base_failure) {
  std::exception_ptr error;
  std::istringstream stream("not a number");
  stream.exceptions(std::ios::failbit);
  int number = 0;
  try {
    stream >> number;
  } catch (...) {
    error = std::current_exception();
  }
  const auto arrived = travel(error);
  catch_as<std::ios_base::failure>(arrived,
                                   [](const std::ios_base::failure& e) { EXPECT_EQ(e.code(), std::io_errc::stream); });
  catch_as<remote_error>(arrived, [](const remote_error& e) { EXPECT_EQ(e.type_name(), "std::ios_base::failure"); });
}

// Objects that are no exceptions, and hostile texts.

TEST(other_objects, arrive_as_runtime_error_with_their_type_as_text) {
  const auto arrived = travel(thrown(42));
  EXPECT_TRUE(is_a<shmpool::remote_exception<std::runtime_error>>(arrived));
  catch_as<std::exception>(arrived, [](const std::exception& e) { EXPECT_STREQ(e.what(), "exception of type int"); });
  catch_as<remote_error>(arrived, [](const remote_error& e) { EXPECT_EQ(e.type_name(), "int"); });
}

TEST(other_objects, arrive_with_their_text_if_they_are_one) {
  const auto from_string = travel(thrown(std::string("as a string")));
  catch_as<std::runtime_error>(from_string, [](const auto& e) { EXPECT_STREQ(e.what(), "as a string"); });
  const auto from_literal = travel(thrown(static_cast<const char*>("as a literal")));
  catch_as<std::runtime_error>(from_literal, [](const auto& e) { EXPECT_STREQ(e.what(), "as a literal"); });
  const auto from_null = travel(thrown(static_cast<const char*>(nullptr)));
  catch_as<std::runtime_error>(from_null,
                               [](const auto& e) { EXPECT_STREQ(e.what(), "exception of type char const*"); });
}

TEST(other_objects, include_no_exception_at_all) {
  const auto arrived = travel(nullptr);
  ASSERT_NE(arrived, nullptr);
  catch_as<remote_error>(arrived, [](const remote_error& e) { EXPECT_FALSE(e.message().empty()); });
}

TEST(text, that_is_null_is_replaced_by_the_type_name) {
  const auto arrived = travel(thrown(silent()));
  catch_as<std::exception>(arrived, [](const std::exception& e) {
    EXPECT_TRUE(std::string(e.what()).starts_with("exception of type")) << e.what();
    EXPECT_NE(std::string(e.what()).find("silent"), std::string::npos) << e.what();
  });
}

TEST(text, is_cut_at_64_kib) {
  const std::string text(100'000, 'x');
  catch_as<remote_error>(travel(thrown(std::runtime_error(text))),
                         [&](const remote_error& e) { EXPECT_EQ(e.message(), text.substr(0, 65'536)); });
}

TEST(text, is_not_cut_through_a_character) {
  std::string text(65'535, 'x');
  text += "\xe2\x82\xac";  // U+20AC, of which one byte would fit
  catch_as<remote_error>(travel(thrown(text)),
                         [&](const remote_error& e) { EXPECT_EQ(e.message(), text.substr(0, 65'535)); });
}

// Codes.

TEST(code, of_shmpool_arrives_as_what_it_is) {
  const auto arrived = travel(thrown(std::system_error(errc::shm_exhausted, "no room for 8 GiB")));
  catch_as<std::system_error>(arrived, [](const std::system_error& e) { EXPECT_EQ(e.code(), errc::shm_exhausted); });
  catch_as<remote_error>(arrived, [](const remote_error& e) { EXPECT_EQ(e.code(), errc::shm_exhausted); });
}

TEST(code, keeps_the_standard_categories_apart) {
  for (const std::error_code code :
       {std::error_code(2, std::generic_category()), std::error_code(2, std::system_category()),
        std::error_code(-7, std::system_category()), std::make_error_code(std::io_errc::stream),
        std::make_error_code(std::future_errc::no_state), std::error_code()}) {
    catch_as<std::system_error>(travel(thrown(std::system_error(code))),
                                [&](const std::system_error& e) { EXPECT_EQ(e.code(), code); });
  }
}

struct some_category : std::error_category {
  explicit some_category(const char* name) : name_(name) {}
  const char* name() const noexcept override { return name_; }
  std::string message(int) const override { return "said by its category"; }
  const char* name_;
};

TEST(code, of_an_unknown_category_keeps_value_and_text) {
  static const some_category unknown("never registered");
  const auto arrived = travel(thrown(std::system_error(17, unknown, "while testing")));
  catch_as<std::system_error>(arrived, [](const std::system_error& e) {
    EXPECT_EQ(e.code().value(), 17);
    EXPECT_STREQ(e.code().category().name(), "shmpool.foreign");
    EXPECT_NE(e.code().message().find("17"), std::string::npos);
    EXPECT_STREQ(e.what(), "while testing: said by its category");
  });
}

TEST(code, of_a_registered_category_arrives_with_it) {
  static const some_category first("test.registered");
  static const some_category second("test.registered");
  shmpool::register_error_category(first);
  catch_as<remote_error>(travel(thrown(std::system_error(5, first))),
                         [](const remote_error& e) { EXPECT_EQ(e.code(), std::error_code(5, first)); });
  shmpool::register_error_category(second);
  catch_as<remote_error>(travel(thrown(std::system_error(5, first))),
                         [](const remote_error& e) { EXPECT_EQ(e.code(), std::error_code(5, second)); });
}

TEST(code, is_zero_where_the_exception_has_none) {
  catch_as<remote_error>(travel(thrown(std::bad_alloc())), [](const remote_error& e) { EXPECT_FALSE(e.code()); });
}

TEST(filesystem_error, keeps_its_paths) {
  const auto arrived = travel(thrown(sample<std::filesystem::filesystem_error>()));
  catch_as<std::filesystem::filesystem_error>(arrived, [](const auto& e) {
    EXPECT_EQ(e.path1(), "/from/here");
    EXPECT_EQ(e.path2(), "/to/there");
    EXPECT_EQ(e.code(), std::errc::file_exists);
  });
}

TEST(future_error, keeps_its_code) {
  catch_as<std::future_error>(travel(thrown(std::future_error(std::future_errc::no_state))),
                              [](const auto& e) { EXPECT_EQ(e.code(), std::future_errc::no_state); });
}

// Causes.

std::exception_ptr nest(int depth) {
  std::exception_ptr error = thrown(std::out_of_range("innermost"));
  for (int level = 1; level <= depth; ++level) {
    try {
      try {
        std::rethrow_exception(error);
      } catch (...) {
        std::throw_with_nested(std::runtime_error("level " + std::to_string(level)));
      }
    } catch (...) {
      error = std::current_exception();
    }
  }
  return error;
}

TEST(causes, are_listed_outermost_first) {
  const auto arrived = travel(nest(3));
  EXPECT_TRUE(is_a<shmpool::remote_exception<std::runtime_error>>(arrived));
  catch_as<remote_error>(arrived, [](const remote_error& e) {
    EXPECT_EQ(e.type_name(), "std::runtime_error");
    EXPECT_EQ(e.message(), "level 3");
    const std::vector<remote_error::cause> expected = {
        {"std::runtime_error", "level 2"}, {"std::runtime_error", "level 1"}, {"std::out_of_range", "innermost"}};
    EXPECT_EQ(e.causes(), expected);
  });
}

TEST(causes, are_at_most_16) {
  catch_as<remote_error>(travel(nest(100)), [](const remote_error& e) {
    ASSERT_EQ(e.causes().size(), 16u);
    EXPECT_EQ(e.causes().front().text, "level 99");
    EXPECT_EQ(e.causes().back().text, "level 84");
  });
}

TEST(causes, may_be_objects_of_any_type) {
  std::exception_ptr error;
  try {
    try {
      throw 42;
    } catch (...) {
      std::throw_with_nested(std::logic_error("outer"));
    }
  } catch (...) {
    error = std::current_exception();
  }
  catch_as<remote_error>(travel(error), [](const remote_error& e) {
    ASSERT_EQ(e.causes().size(), 1u);
    EXPECT_EQ(e.causes()[0], (remote_error::cause{"int", "exception of type int"}));
  });
}

TEST(causes, survive_a_second_journey) {
  catch_as<remote_error>(travel(travel(nest(3))), [](const remote_error& e) {
    ASSERT_EQ(e.causes().size(), 3u);
    EXPECT_EQ(e.causes()[2].text, "innermost");
  });
}

}  // namespace
