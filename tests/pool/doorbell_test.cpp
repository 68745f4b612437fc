// A ring of the bell is heard once, in order, with its number, whatever else is written to the pipe.
#include "pool/doorbell.hpp"

#include <gtest/gtest.h>

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <optional>
#include <string_view>

namespace shmpool::pool {
namespace {

class doorbells : public ::testing::Test {
 protected:
  void SetUp() override {
    if (bell.to_ring() < 0) GTEST_SKIP() << "this kernel has no pipes of packets";
  }
  bool ring(std::uint32_t number) {
    return ::write(bell.to_ring(), &number, sizeof number) == static_cast<ssize_t>(sizeof number);
  }
  void scribble(std::string_view what) {
    ASSERT_EQ(::write(bell.to_ring(), what.data(), what.size()), static_cast<ssize_t>(what.size()));
  }
  bool is_readable() const {
    pollfd watched{bell.to_hear(), POLLIN, 0};
    return ::poll(&watched, 1, 0) == 1;
  }

  doorbell bell;
};

using number = std::optional<std::uint32_t>;

TEST_F(doorbells, are_heard_once_and_in_order) {
  EXPECT_EQ(bell.next(), std::nullopt);
  EXPECT_FALSE(is_readable());
  ASSERT_TRUE(ring(7));
  ASSERT_TRUE(ring(9));
  EXPECT_TRUE(is_readable());
  EXPECT_EQ(bell.next(), number(7));
  EXPECT_EQ(bell.next(), number(9));
  EXPECT_EQ(bell.next(), std::nullopt);
  EXPECT_FALSE(is_readable());
}

TEST_F(doorbells, give_the_numbers_behind_what_a_stray_write_has_put_in) {
  scribble("x");
  ASSERT_TRUE(ring(7));
  scribble("a whole sentence");
  ASSERT_TRUE(ring(9));
  EXPECT_EQ(bell.next(), number(0)) << "of no worker";
  EXPECT_EQ(bell.next(), number(7));
  EXPECT_TRUE(bell.next()) << "some number";
  EXPECT_EQ(bell.next(), number(9));
  EXPECT_EQ(bell.next(), std::nullopt);
}

TEST_F(doorbells, never_block_who_rings) {
  unsigned rings = 0;
  while (ring(7) && rings != 100'000) ++rings;
  EXPECT_EQ(errno, EAGAIN) << "after " << rings << " rings";
  for (; rings != 0; --rings) ASSERT_EQ(bell.next(), number(7));
  EXPECT_EQ(bell.next(), std::nullopt);
  EXPECT_TRUE(ring(9)) << "there is room again";
}

// A worker that reads from a descriptor that is not its own must not take the rings of others.
TEST_F(doorbells, cannot_be_taken_by_who_rings) {
  ASSERT_TRUE(ring(7));
  std::uint32_t taken = 0;
  EXPECT_EQ(::read(bell.to_ring(), &taken, sizeof taken), -1);
  EXPECT_EQ(errno, EBADF);
  EXPECT_EQ(bell.next(), number(7));
}

}  // namespace
}  // namespace shmpool::pool
