// The environment that a program is executed with to be a fork server.
#include "process/server_environment.hpp"

#include <gtest/gtest.h>

#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

namespace shmpool {
namespace {

std::vector<std::string> all_of(server_environment& of) {
  std::vector<std::string> result;
  for (char** each = of.variables(); *each; ++each) result.emplace_back(*each);
  return result;
}

std::size_t count_of(const std::vector<std::string>& all, const std::string& beginning) {
  std::size_t count = 0;
  for (const std::string& each : all) count += each.starts_with(beginning) ? 1U : 0U;
  return count;
}

/// Without a variable, which is as it was afterwards.
class without_binding : public ::testing::Test {
 protected:
  without_binding() {
    if (const char* value = std::getenv("LD_BIND_NOW")) before_ = value;
    ::unsetenv("LD_BIND_NOW");
  }
  ~without_binding() override {
    if (before_.empty()) ::unsetenv("LD_BIND_NOW");
    else ::setenv("LD_BIND_NOW", before_.c_str(), 1);
  }

 private:
  std::string before_;
};

TEST_F(without_binding, has_what_this_process_has_and_what_the_server_is_told) {
  ::setenv("SHMPOOL_TEST_ENVIRONMENT", "yes", 1);
  server_environment environment(4711, server_mode::early, 3, true);
  const auto all = all_of(environment);
  EXPECT_EQ(count_of(all, "SHMPOOL_TEST_ENVIRONMENT=yes"), 1U);
  EXPECT_EQ(count_of(all, "SHMPOOL_FORK_SERVER=4711 1 3 "), 1U);
  EXPECT_EQ(count_of(all, "LD_BIND_NOW="), 1U);
  ::unsetenv("SHMPOOL_TEST_ENVIRONMENT");
}

TEST_F(without_binding, does_not_bind_eagerly_where_that_has_failed) {
  server_environment environment(4711, server_mode::at_init, 3, false);
  EXPECT_EQ(count_of(all_of(environment), "LD_BIND_NOW="), 0U);
}

TEST_F(without_binding, leaves_alone_what_the_user_has_said_of_binding) {
  ::setenv("LD_BIND_NOW", "1", 1);
  server_environment environment(4711, server_mode::at_init, 3, true);
  const auto all = all_of(environment);
  EXPECT_EQ(count_of(all, "LD_BIND_NOW="), 1U);
  EXPECT_EQ(count_of(all, "LD_BIND_NOW=1"), 1U);
  EXPECT_FALSE(forget_eager_binding());
  EXPECT_STREQ(std::getenv("LD_BIND_NOW"), "1");
}

TEST_F(without_binding, forgets_in_the_server_what_it_has_said_itself) {
  EXPECT_FALSE(forget_eager_binding());
  ::setenv("LD_BIND_NOW", "shmpool", 1);
  EXPECT_TRUE(forget_eager_binding());
  EXPECT_EQ(std::getenv("LD_BIND_NOW"), nullptr);
}

}  // namespace
}  // namespace shmpool
