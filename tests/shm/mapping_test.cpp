#include "shm/mapping.hpp"

#include "shm_fixture.hpp"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

namespace shmpool::shm {
namespace {

class mapping_test : public shm_fixture {
 protected:
  mapping_test() : pool_(0x1234567800000000U + static_cast<std::uint64_t>(::getpid())), name_(segment_name(pool_, 1)) {
    watch(pool_);
  }
  ~mapping_test() override { unlink_named(name_); }
  void TearDown() override {
    unlink_named(name_);
    shm_fixture::TearDown();
  }

  const std::uint64_t pool_;
  const std::string name_;
  std::error_code error_;
};

TEST_F(mapping_test, names_say_user_pool_and_segment) {
  EXPECT_EQ(segment_name(0xabcU, 17), "shmpool." + std::to_string(::geteuid()) + ".0000000000000abc.17");
}

TEST_F(mapping_test, a_named_file_is_private_to_its_user_whatever_the_umask) {
  const mode_t before = ::umask(0777);
  const unique_fd fd = create_named(name_, 8 * KiB, error_);
  ::umask(before);
  ASSERT_FALSE(error_) << error_.message();
  struct stat info {};
  ASSERT_EQ(::fstat(fd.get(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777U, 0600U);
  EXPECT_EQ(info.st_uid, ::geteuid());
  EXPECT_EQ(info.st_size, 8192);
  EXPECT_NE(::fcntl(fd.get(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST_F(mapping_test, a_name_is_never_taken_over) {
  const unique_fd first = create_named(name_, 4 * KiB, error_);
  ASSERT_FALSE(error_);
  EXPECT_FALSE(create_named(name_, 4 * KiB, error_));
  EXPECT_EQ(error_, std::errc::file_exists);
  EXPECT_TRUE(exists(name_));
}

TEST_F(mapping_test, links_are_not_followed) {
  ASSERT_EQ(::symlink("/etc/passwd", path_of(name_).c_str()), 0);
  EXPECT_FALSE(open_named(name_, false, error_));
  EXPECT_EQ(error_, std::errc::too_many_symbolic_link_levels);
}

TEST_F(mapping_test, a_missing_file_is_an_error_to_open_and_none_to_unlink) {
  EXPECT_FALSE(open_named(name_, true, error_));
  EXPECT_EQ(error_, std::errc::no_such_file_or_directory);
  unlink_named(name_);
}

TEST_F(mapping_test, a_length_above_the_file_size_limit_is_an_error_and_not_a_signal) {
  EXPECT_EQ(run_in_child([&] {
              const rlimit limit{.rlim_cur = 1 * MiB, .rlim_max = 1 * MiB};
              ::setrlimit(RLIMIT_FSIZE, &limit);
              std::error_code error;
              SHMPOOL_CHECK(!create_named(name_, 2 * MiB, error));
              SHMPOOL_CHECK(error == std::errc::file_too_large);
              SHMPOOL_CHECK(!exists(name_));
              SHMPOOL_CHECK(!create_memfd(1, 2 * MiB, error));
              SHMPOOL_CHECK(error == std::errc::file_too_large);
              return 0;
            }),
            0);
}

TEST_F(mapping_test, a_memfd_can_neither_shrink_nor_grow_nor_lose_its_seals) {
  const unique_fd fd = create_memfd(7, 64 * KiB, error_);
  ASSERT_FALSE(error_) << error_.message();
  EXPECT_EQ(::ftruncate(fd.get(), 4096), -1);
  EXPECT_EQ(::ftruncate(fd.get(), 128 * 1024), -1);
  EXPECT_EQ(::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_WRITE), -1);
  EXPECT_NE(::fcntl(fd.get(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST_F(mapping_test, mappings_of_a_huge_page_and_more_start_at_a_huge_page) {
  for (const std::size_t size : {2 * MiB, 2 * MiB + 4 * KiB, 5 * MiB, 34 * MiB}) {
    const unique_fd fd = create_memfd(7, size, error_);
    const mapping where = mapping::map(fd.get(), size, true, error_);
    ASSERT_TRUE(where) << error_.message();
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(where.data()) % (2 * MiB), 0U);
    EXPECT_EQ(where.size(), size);
  }
}

TEST_F(mapping_test, two_mappings_see_the_same_bytes) {
  const unique_fd fd = create_named(name_, 4 * MiB, error_);
  const mapping writer = mapping::map(fd.get(), 4 * MiB, true, error_);
  ASSERT_FALSE(reserve(fd.get(), writer, 0, 4 * MiB));
  const unique_fd again = open_named(name_, false, error_);
  const mapping reader = mapping::map(again.get(), 4 * MiB, false, error_);
  ASSERT_TRUE(reader) << error_.message();
  writer.data()[3 * MiB] = std::byte{42};
  EXPECT_EQ(reader.data()[3 * MiB], std::byte{42});
}

TEST_F(mapping_test, a_mapping_for_reading_cannot_be_written) {
  const unique_fd fd = create_named(name_, 4 * KiB, error_);
  const unique_fd again = open_named(name_, false, error_);
  EXPECT_FALSE(mapping::map(again.get(), 4 * KiB, true, error_));
  EXPECT_EQ(error_, std::errc::permission_denied);
}

TEST_F(mapping_test, moving_a_mapping_moves_the_ownership) {
  const unique_fd fd = create_memfd(7, 4 * KiB, error_);
  mapping first = mapping::map(fd.get(), 4 * KiB, true, error_);
  mapping second = std::move(first);
  EXPECT_FALSE(first);
  second.data()[0] = std::byte{1};
  first = std::move(second);
  EXPECT_EQ(first.data()[0], std::byte{1});
}

TEST_F(mapping_test, a_descriptor_is_closed_by_its_owner) {
  int raw = -1;
  {
    unique_fd fd = create_memfd(7, 4 * KiB, error_);
    raw = fd.get();
    unique_fd moved = std::move(fd);
    EXPECT_FALSE(fd);
    EXPECT_EQ(::fcntl(raw, F_GETFD), FD_CLOEXEC);
  }
  EXPECT_EQ(::fcntl(raw, F_GETFD), -1);
}

TEST_F(mapping_test, a_length_that_cannot_be_mapped_is_an_error) {
  const unique_fd fd = create_memfd(7, 4 * KiB, error_);
  EXPECT_FALSE(mapping::map(fd.get(), std::size_t{1} << 62, true, error_));
  EXPECT_EQ(error_, std::errc::not_enough_memory);
}

}  // namespace
}  // namespace shmpool::shm
