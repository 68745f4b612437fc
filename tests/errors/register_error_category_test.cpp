// Which category a name stands for, while categories come and go.
#include <shmpool/error.hpp>
#include <shmpool/register_error_category.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <ios>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace {

using shmpool::detail::category_rank;
using shmpool::detail::category_registration;
using shmpool::detail::error_category_named;

struct test_category final : std::error_category {
  explicit test_category(const char* name) : name_(name) {}
  const char* name() const noexcept override { return name_; }
  std::string message(int) const override { return "a test's"; }
  const char* name_;
};

bool is_foreign(const std::error_category& category) {
  return category == shmpool::detail::foreign<std::error_category>();
}

const test_category in_namespace_scope("test.macro");
SHMPOOL_REGISTER_ERROR_CATEGORY(in_namespace_scope);
SHMPOOL_REGISTER_ERROR_CATEGORY(in_namespace_scope);

TEST(error_categories, of_the_standard_and_of_shmpool_are_known) {
  for (const auto* category : {&std::generic_category(), &std::system_category(), &std::iostream_category(),
                               &std::future_category(), &shmpool::shmpool_category()}) {
    EXPECT_EQ(&error_category_named(category->name()), category);
  }
}

TEST(error_categories, that_nobody_knows_are_foreign) {
  EXPECT_TRUE(is_foreign(error_category_named("test.never")));
  EXPECT_TRUE(is_foreign(error_category_named("")));
  EXPECT_TRUE(is_foreign(error_category_named(std::string_view("generic\0", 8))));
}

TEST(error_categories, are_registered_at_namespace_scope) {
  EXPECT_EQ(&error_category_named("test.macro"), &in_namespace_scope);
}

TEST(error_categories, cannot_take_a_standard_ones_place) {
  const test_category pretender("system");
  const category_registration registration(pretender);
  EXPECT_EQ(&error_category_named("system"), &std::system_category());
}

// A plugin brings the categories of its own copy of a library: loading it must not change what the others compare with.
TEST(error_categories, of_one_name_stay_what_they_are_until_the_first_goes) {
  const test_category program("test.twice"), plugin("test.twice");
  std::optional<category_registration> first(std::in_place, program);
  {
    const category_registration second(plugin);
    EXPECT_EQ(&error_category_named("test.twice"), &program);
    first.reset();
    EXPECT_EQ(&error_category_named("test.twice"), &plugin);
    first.emplace(program);
    EXPECT_EQ(&error_category_named("test.twice"), &plugin);
  }
  EXPECT_EQ(&error_category_named("test.twice"), &program);  // the plugin was unloaded
  first.reset();
  EXPECT_TRUE(is_foreign(error_category_named("test.twice")));
}

TEST(error_categories, that_stand_for_others_come_last) {
  const test_category view("test.ranks"), own("test.ranks");
  const category_registration last(view, category_rank::view);
  EXPECT_EQ(&error_category_named("test.ranks"), &view);
  const category_registration registration(own);
  EXPECT_EQ(&error_category_named("test.ranks"), &own);
}

TEST(error_categories, that_were_chosen_replace_all_others_of_their_name) {
  static const test_category automatic("test.chosen"), first("test.chosen"), second("test.chosen");
  const category_registration registration(automatic);
  shmpool::register_error_category(first);
  EXPECT_EQ(&error_category_named("test.chosen"), &first);
  shmpool::register_error_category(second);
  EXPECT_EQ(&error_category_named("test.chosen"), &second);
  shmpool::register_error_category(first);
  EXPECT_EQ(&error_category_named("test.chosen"), &first);
  const category_registration later(automatic);
  EXPECT_EQ(&error_category_named("test.chosen"), &first);
}

TEST(error_categories, are_found_while_others_are_registered) {
  static const test_category steady("test.steady");
  shmpool::register_error_category(steady);
  std::atomic<bool> done = false;
  std::vector<std::thread> threads;
  for (int i = 0; i != 2; ++i) {
    threads.emplace_back([&] {
      const test_category fleeting("test.fleeting");
      while (!done) {
        const category_registration registration(fleeting);
        shmpool::register_error_category(steady);
      }
    });
  }
  for (int i = 0; i != 20'000; ++i) ASSERT_EQ(&error_category_named("test.steady"), &steady);
  done = true;
  for (auto& thread : threads) thread.join();
}

}  // namespace
