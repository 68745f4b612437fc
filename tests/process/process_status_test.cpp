// What the kernel says of this process.
#include "process/process_status.hpp"

#include <gtest/gtest.h>

#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>

namespace shmpool {
namespace {

TEST(process_status, has_the_fields_of_the_kernel_without_the_space_around_them) {
  const process_status status;
  EXPECT_EQ(status.field("Tgid"), std::to_string(::getpid()));
  ASSERT_TRUE(status.field("Umask"));
  EXPECT_EQ(status.field("Umask")->find(' '), std::string_view::npos);
}

TEST(process_status, has_no_field_that_only_begins_or_ends_like_one) {
  const process_status status;
  EXPECT_FALSE(status.field("gid"));
  EXPECT_FALSE(status.field("Tg"));
  EXPECT_FALSE(status.field(""));
}

TEST(process_status, counts_threads) {
  const unsigned before = process_status().threads();
  std::atomic<bool> done{false};
  std::thread other([&] { done.wait(false); });
  EXPECT_EQ(process_status().threads(), before + 1);
  done = true;
  done.notify_one();
  other.join();
}

}  // namespace
}  // namespace shmpool
