#include "shm/reserve.hpp"

#include "shm_fixture.hpp"

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>

#include <limits>

namespace shmpool::shm {
namespace {

TEST(size_class, holds_what_is_asked_and_wastes_at_most_an_eighth) {
  for (std::size_t bytes = 1; bytes < (std::size_t{1} << 40); bytes = bytes * 9 / 8 + 1) {
    const std::size_t capacity = size_class(bytes);
    ASSERT_GE(capacity, bytes);
    ASSERT_EQ(capacity % page_bytes, 0U);
    if (bytes > 32 * KiB) ASSERT_LE(capacity - bytes, bytes / 8);
    else ASSERT_LT(capacity - bytes, page_bytes);
    ASSERT_EQ(size_class(capacity), capacity);
  }
}

TEST(size_class, is_whole_huge_pages_from_16_mib) {
  for (std::size_t bytes = 16 * MiB; bytes < 8192 * MiB; bytes = bytes * 9 / 8 + 1) {
    ASSERT_EQ(size_class(bytes) % huge_page_bytes, 0U) << bytes;
  }
}

TEST(size_class, has_an_end) {
  EXPECT_LT(size_class(std::numeric_limits<std::size_t>::max()), std::size_t{1} << 63);
  EXPECT_EQ(size_class(std::numeric_limits<std::size_t>::max()) % page_bytes, 0U);
}

TEST(reserved_length, is_what_is_needed_in_pages) {
  EXPECT_EQ(reserved_length(1, 4 * KiB), 4 * KiB);
  EXPECT_EQ(reserved_length(100 * KiB + 1, 112 * KiB), 104 * KiB);
  EXPECT_EQ(reserved_length(16 * MiB + 1, 18 * MiB), 16 * MiB + 4 * KiB);
}

TEST(reserved_length, rounds_the_last_huge_page_up_if_half_of_it_is_needed_and_the_capacity_has_it) {
  EXPECT_EQ(reserved_length(17 * MiB, 18 * MiB), 18 * MiB);
  EXPECT_EQ(reserved_length(17 * MiB, 17 * MiB), 17 * MiB);
}

TEST(reserved_length, never_exceeds_the_capacity_nor_falls_short) {
  for (std::size_t bytes = 1; bytes < (std::size_t{1} << 40); bytes = bytes * 17 / 16 + 1) {
    const std::size_t capacity = size_class(bytes);
    ASSERT_LE(reserved_length(bytes, capacity), capacity);
    ASSERT_GE(reserved_length(bytes, capacity), bytes);
  }
}

/// A memfd with nothing in it yet.
struct fresh_file {
  explicit fresh_file(std::size_t size) {
    std::error_code error;
    fd = create_memfd(1, size, error);
    where = mapping::map(fd.get(), size, true, error);
  }
  std::size_t existing() const {
    struct stat info {};
    ::fstat(fd.get(), &info);
    return static_cast<std::size_t>(info.st_blocks) * 512;
  }
  unique_fd fd;
  mapping where;
};

TEST(reserve, makes_exactly_the_asked_pages_exist_and_they_read_zero) {
  for (const std::size_t length : {4 * KiB, 200 * KiB, 2 * MiB, 3 * MiB, 6 * MiB + 12 * KiB}) {
    fresh_file file{8 * MiB};
    ASSERT_FALSE(reserve(file.fd.get(), file.where, 0, length));
    EXPECT_EQ(file.existing(), length);
    for (std::size_t at = 0; at < length; at += 512) ASSERT_EQ(file.where.data()[at], std::byte{0});
  }
}

TEST(reserve, leaves_no_page_fault_for_the_first_touch) {
  fresh_file file{6 * MiB + 12 * KiB};
  ASSERT_FALSE(reserve(file.fd.get(), file.where, 0, file.where.size()));
  EXPECT_EQ(pages_in_place(file.where.data(), file.where.size()), file.where.size() / page_bytes);
}

TEST(reserve, grows_from_any_page_and_keeps_what_is_there) {
  fresh_file file{10 * MiB};
  ASSERT_FALSE(reserve(file.fd.get(), file.where, 0, 1 * MiB + 4 * KiB));
  std::fill_n(file.where.data(), 1 * MiB + 4 * KiB, std::byte{7});
  ASSERT_FALSE(reserve(file.fd.get(), file.where, 1 * MiB + 4 * KiB, 9 * MiB));
  EXPECT_EQ(file.existing(), 9 * MiB);
  for (std::size_t at = 0; at < 1 * MiB + 4 * KiB; ++at) ASSERT_EQ(file.where.data()[at], std::byte{7});
  for (std::size_t at = 1 * MiB + 4 * KiB; at < 9 * MiB; ++at) ASSERT_EQ(file.where.data()[at], std::byte{0});
}

TEST(reserve, of_nothing_does_nothing) {
  fresh_file file{4 * MiB};
  ASSERT_FALSE(reserve(file.fd.get(), file.where, 4 * KiB, 4 * KiB));
  EXPECT_EQ(file.existing(), 0U);
}

// tmpfs undoes an interrupted fallocate() completely, so one call for everything would never end under a fast timer.
TEST(reserve, ends_under_a_fast_interval_timer) {
  EXPECT_EQ(run_in_child([] {
              struct sigaction action {};
              action.sa_handler = [](int) {};
              ::sigaction(SIGALRM, &action, nullptr);
              ::alarm(0);
              const itimerval fast{.it_interval = {0, 500}, .it_value = {0, 500}};
              ::setitimer(ITIMER_REAL, &fast, nullptr);
              std::error_code error;
              // An unaligned view keeps huge pages out: the slow way is the one that signals hit.
              const unique_fd fd = create_memfd(1, 96 * MiB, error);
              const mapping none;
              SHMPOOL_CHECK(!reserve(fd.get(), none, 0, 96 * MiB));
              struct stat info {};
              ::fstat(fd.get(), &info);
              SHMPOOL_CHECK(static_cast<std::size_t>(info.st_blocks) * 512 == 96 * MiB);
              return 0;
            }),
            0);
}

TEST(reserve, of_more_than_the_file_system_has_is_an_error_and_not_a_signal) {
  SHMPOOL_EXPECT_IN_PRIVATE_SHM("size=3m", [] {
    std::error_code error;
    const unique_fd fd = create_named("full", 8 * MiB, error);
    const mapping where = mapping::map(fd.get(), 8 * MiB, true, error);
    SHMPOOL_CHECK(where);
    SHMPOOL_CHECK(reserve(fd.get(), where, 0, 8 * MiB) == std::errc::no_space_on_device);
    return 0;
  });
}

}  // namespace
}  // namespace shmpool::shm
