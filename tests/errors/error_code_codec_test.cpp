// Error codes and conditions as values: they arrive with their category, wherever they are nested.
#include "support/round_trip.hpp"

#include <shmpool/register_error_category.hpp>
#include <shmpool/serialize.hpp>

#include <gtest/gtest.h>

#include <future>
#include <ios>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace {

using shmpool::detail::bitwise;
using shmpool::detail::plain_class;
using shmpool::detail::verdict;
using shmpool::testing::memory_source;
using shmpool::testing::message;
using shmpool::testing::pack_value;
using shmpool::testing::round_trip;
using shmpool::testing::unpack_value;

template <class T>
T echo(const T& value) {
  memory_source source;
  return unpack_value<T>(pack_value(source, value));
}

struct app_category final : std::error_category {
  explicit app_category(const char* name) : name_(name) {}
  const char* name() const noexcept override { return name_; }
  std::string message(int) const override { return "of the application"; }
  const char* name_;
};
const app_category& registered() {
  static const app_category category("test.values");
  return category;
}
const app_category& unregistered() {
  static const app_category category("test.nobody knows");
  return category;
}
SHMPOOL_REGISTER_ERROR_CATEGORY(registered());

std::vector<std::error_code> samples() {
  return {std::error_code(),
          std::error_code(ENOENT, std::generic_category()),
          std::error_code(ENOENT, std::system_category()),
          std::error_code(-7, std::system_category()),
          std::make_error_code(std::io_errc::stream),
          std::make_error_code(std::future_errc::no_state),
          shmpool::make_error_code(shmpool::errc::queue_full),
          std::error_code(1 << 30, registered())};
}

// A category is a pointer, which used to travel as its bits: the parent called a virtual function of nothing.
TEST(error_code, arrives_with_its_category) {
  for (const std::error_code& code : samples()) EXPECT_EQ(echo(code), code) << code;
  EXPECT_EQ(&echo(std::error_code(1, registered())).category(), &registered());
}

TEST(error_condition, arrives_with_its_category) {
  for (const std::error_condition& condition :
       {std::error_condition(), std::make_error_condition(std::errc::timed_out),
        std::error_condition(3, std::system_category()), std::error_condition(4, registered())}) {
    EXPECT_EQ(echo(condition), condition);
  }
}

TEST(error_code, of_an_unknown_category_keeps_its_value) {
  const auto arrived = echo(std::error_code(17, unregistered()));
  EXPECT_EQ(arrived.value(), 17);
  EXPECT_STREQ(arrived.category().name(), "shmpool.foreign");
  EXPECT_NE(arrived.message().find("17"), std::string::npos) << arrived.message();
  EXPECT_NE(arrived.message().find("register_error_category"), std::string::npos) << arrived.message();
  EXPECT_EQ(echo(arrived), arrived);  // and is the same one after another journey
}

struct attempt {
  std::string host;
  std::error_code error;
  std::error_condition meaning;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(host, error, meaning);
  }
};
enum class outcome { good, bad };

TEST(error_code, is_nested_anywhere) {
  const auto codes = samples();
  EXPECT_EQ(echo(codes), codes);
  const std::list<std::error_condition> conditions(3, std::make_error_condition(std::errc::io_error));
  EXPECT_EQ(echo(conditions), conditions);
  EXPECT_EQ(echo(std::optional(codes[1])), codes[1]);
  EXPECT_EQ(echo(std::optional<std::error_code>()), std::nullopt);
  EXPECT_EQ(echo(std::pair(codes[2], 5)), std::pair(codes[2], 5));
  const std::tuple tuple(std::string("text"), codes[4], outcome::bad, codes[7]);
  EXPECT_EQ(echo(tuple), tuple);
  const std::map<std::string, std::error_code> map{{"a", codes[1]}, {"b", codes[7]}};
  EXPECT_EQ(echo(map), map);
  const std::map<std::error_code, int> by_code{{codes[1], 1}, {codes[6], 6}};
  EXPECT_EQ(echo(by_code), by_code);
  const std::unordered_map<std::error_code, std::vector<std::error_code>> hashed{{codes[3], codes}};
  EXPECT_EQ(echo(hashed), hashed);
  const std::variant<int, std::error_code, std::error_condition> variant(codes[5]);
  EXPECT_EQ(echo(variant), variant);
  const std::array<std::error_code, 2> array{codes[1], codes[7]};
  EXPECT_EQ(echo(array), array);
  EXPECT_EQ(*echo(std::make_unique<std::error_code>(codes[6])), codes[6]);
  EXPECT_EQ(*echo(std::make_shared<std::error_code>(codes[7])), codes[7]);
  const attempt arrived =
      echo(std::vector{attempt{"host", codes[7], std::make_error_condition(std::errc::timed_out)}})[0];
  EXPECT_EQ(arrived.error, codes[7]);
  EXPECT_EQ(arrived.meaning, std::errc::timed_out);
}

TEST(error_code, is_an_argument_and_a_result) {
  round_trip submit;
  const auto next = [](const std::error_code& code, std::error_condition condition) {
    return code == condition ? std::optional(std::error_code(code.value() + 1, code.category())) : std::nullopt;
  };
  const std::error_code code(EAGAIN, std::system_category());
  EXPECT_EQ(submit(next, code, code.default_error_condition()), std::error_code(EAGAIN + 1, std::system_category()));
  const auto same = [](std::vector<std::error_code> codes) { return codes; };
  EXPECT_EQ(submit(same, samples()), samples());
  const auto from_enum = [](std::error_code made) { return made; };
  EXPECT_EQ(submit(from_enum, shmpool::errc::array_busy), shmpool::errc::array_busy);
}

// ---- What would carry one as its bytes is refused.

struct holds_code {
  int attempts;
  std::error_code error;
};
struct holds_code_deep {
  holds_code all[2];
};

template <class T>
constexpr verdict as_result = shmpool::detail::result_codec<T>::judge();
template <class T>
constexpr verdict as_parameter = shmpool::detail::parameter_codec<T>::judge_parameter();

static_assert(!plain_class<std::error_code> && !bitwise<std::error_code> && !bitwise<std::array<std::error_code, 2>>);
static_assert(as_result<std::error_code> == verdict::ok && as_parameter<std::error_condition> == verdict::ok);
static_assert(as_result<std::vector<std::optional<std::error_code>>> == verdict::ok);
static_assert(as_result<attempt> == verdict::ok && as_parameter<const std::vector<attempt>&> == verdict::ok);
static_assert(as_result<holds_code> == verdict::category_in_value);
static_assert(as_parameter<const holds_code_deep&> == verdict::category_in_value);
static_assert(as_result<std::vector<holds_code>> == verdict::category_in_value);
static_assert(as_parameter<std::span<const holds_code>> == verdict::category_in_value);
static_assert(as_parameter<std::map<int, std::optional<holds_code>>> == verdict::category_in_value);

// ---- Bytes that nobody should send.

message bytes_of(std::initializer_list<int> values) {
  message made;
  for (const int value : values) made.bytes.push_back(static_cast<std::byte>(value));
  return made;
}

TEST(hostile_error_code, is_refused_or_foreign) {
  EXPECT_EQ(unpack_value<std::error_code>(bytes_of({7, 0, 0, 0, 0, 0, 0, 0, 0})).value(), 7);
  EXPECT_STREQ(unpack_value<std::error_code>(bytes_of({7, 0, 0, 0, 1, 1, 0, 0, 0, '?'})).category().name(),
               "shmpool.foreign");
  EXPECT_THROW(unpack_value<std::error_code>(bytes_of({7, 0, 0, 0, 2, 0, 0, 0, 0})), std::system_error);
  EXPECT_THROW(unpack_value<std::error_code>(bytes_of({7, 0, 0, 0, 0, 255, 255, 255, 255})), std::system_error);
  EXPECT_THROW(unpack_value<std::error_code>(bytes_of({7, 0, 0, 0, 0, 2, 0, 0, 0, 'x'})), std::system_error);
  message lengthy = bytes_of({7, 0, 0, 0, 0, 1, 0, 1, 0});  // 65,537 bytes, which are all there
  lengthy.bytes.resize(lengthy.bytes.size() + 65'537);
  EXPECT_THROW(unpack_value<std::error_code>(lengthy), std::system_error);
}

TEST(hostile_error_code, is_refused_where_it_is_cut) {
  memory_source source;
  const auto whole = pack_value(source, std::error_code(5, registered()));
  for (std::size_t size = 0; size != whole.bytes.size(); ++size) {
    const message cut{{whole.bytes.begin(), whole.bytes.begin() + static_cast<std::ptrdiff_t>(size)}, {}};
    EXPECT_THROW(unpack_value<std::error_code>(cut), std::system_error) << size;
  }
}

}  // namespace
