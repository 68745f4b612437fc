// Error codes cross the processes as what they are: returned, passed, nested and thrown, of standard categories and of
// the application's.
#include "payload.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

namespace shop {

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

/// One that nobody registers.
const std::error_category& secret_category() {
  struct secret final : std::error_category {
    const char* name() const noexcept override { return "shop.secret"; }
    std::string message(int) const override { return "nobody may know"; }
  };
  static const secret instance;
  return instance;
}

}  // namespace shop

template <>
struct std::is_error_code_enum<shop::trouble> : std::true_type {};

SHMPOOL_REGISTER_ERROR_CATEGORY(shop::category());

namespace {

using namespace shmpool::testing;
using asio::awaitable;
using shmpool::process_pool;

std::error_code check_file(const std::string& path) {
  std::error_code error;
  if (::open(path.c_str(), O_RDONLY | O_CLOEXEC) < 0) error = {errno, std::generic_category()};
  return error;
}

// The category came as an address of the worker's, and the first question about the code crashed the parent.
TEST(error_codes, are_results) {
  with_pool(one_worker(), [](process_pool& pool) -> awaitable<void> {
    const std::error_code error = co_await pool.submit(check_file, std::string("/no/such/file"));
    EXPECT_EQ(error, std::errc::no_such_file_or_directory);
    EXPECT_EQ(error, std::error_code(ENOENT, std::generic_category()));
    EXPECT_EQ(error.message(), std::generic_category().message(ENOENT));
    EXPECT_FALSE(co_await pool.submit(check_file, std::string("/")));
    EXPECT_EQ(co_await pool.submit([]() -> std::error_code { return shop::trouble::closed; }), shop::trouble::closed);
  });
}

TEST(error_codes, are_arguments) {
  with_pool(one_worker(), [](process_pool& pool) -> awaitable<void> {
    const auto text = [](const std::error_code& code, std::error_condition condition) {
      return code.message() + (code == condition ? ", expected" : ", unexpected");
    };
    EXPECT_EQ(co_await pool.submit(text, shop::trouble::sold_out, std::errc::no_message_available),
              "sold out, expected");
    EXPECT_EQ(co_await pool.submit(text, shop::trouble::closed, std::errc::no_message_available), "closed, unexpected");
  });
}

struct report {
  std::map<std::string, std::vector<std::error_code>> by_name;
  std::optional<std::pair<std::error_condition, int>> worst;
  std::variant<std::monostate, std::error_code> last;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(by_name, worst, last);
  }
};

TEST(error_codes, are_nested_in_anything) {
  with_pool(one_worker(), [](process_pool& pool) -> awaitable<void> {
    const auto more = [](report made) {
      made.by_name["shop"].push_back(shop::trouble::closed);
      made.worst->second += made.worst->first == std::errc::timed_out ? 1 : 100;
      made.last = std::error_code(EIO, std::system_category());
      return made;
    };
    report made;
    made.by_name["shop"] = {shop::trouble::sold_out, std::error_code()};
    made.worst = {std::make_error_condition(std::errc::timed_out), 1};
    const report got = co_await pool.submit(more, made);
    const std::vector<std::error_code> expected = {shop::trouble::sold_out, std::error_code(), shop::trouble::closed};
    EXPECT_EQ(got.by_name.at("shop"), expected);
    EXPECT_EQ(got.worst->second, 2);
    EXPECT_EQ(std::get<1>(got.last), std::error_code(EIO, std::system_category()));
    const std::vector<std::string> paths = {"/", "/no/such/file"};
    const auto all = co_await pool.map(check_file, paths);
    EXPECT_FALSE(all.at(0));
    EXPECT_EQ(all.at(1), std::errc::no_such_file_or_directory);
  });
}

TEST(error_codes, of_the_application_are_the_same_when_they_are_thrown) {
  with_pool(one_worker(), [](process_pool& pool) -> awaitable<void> {
    std::error_code code;
    try {
      co_await pool.submit([] { throw std::system_error(shop::trouble::sold_out, "tea"); });
    } catch (const std::system_error& error) {
      code = error.code();
      EXPECT_STREQ(error.what(), "tea: sold out");
    }
    EXPECT_EQ(code, shop::trouble::sold_out);
    EXPECT_EQ(code, std::errc::no_message_available);
  });
}

TEST(error_codes, of_unknown_categories_keep_their_value) {
  with_pool(one_worker(), [](process_pool& pool) -> awaitable<void> {
    const auto secret = [] { return std::error_code(42, shop::secret_category()); };
    const std::error_code code = co_await pool.submit(secret);
    EXPECT_EQ(code.value(), 42);
    EXPECT_STREQ(code.category().name(), "shmpool.foreign");
    EXPECT_FALSE(code.message().empty());
  });
}

std::filesystem::filesystem_error full_disk() {
  return {"copy", "/from/here", "/to/there", std::make_error_code(std::errc::no_space_on_device)};
}

TEST(error_codes, of_file_operations_come_with_their_paths) {
  with_pool(one_worker(), [](process_pool& pool) -> awaitable<void> {
    bool caught = false;
    try {
      co_await pool.submit([] { throw full_disk(); });
    } catch (const std::filesystem::filesystem_error& error) {
      caught = true;
      EXPECT_EQ(error.path1(), "/from/here");
      EXPECT_EQ(error.path2(), "/to/there");
      EXPECT_EQ(error.code(), std::errc::no_space_on_device);
      EXPECT_STREQ(error.what(), full_disk().what());
    }
    EXPECT_TRUE(caught);
  });
}

}  // namespace
