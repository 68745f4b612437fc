// A small, full, missing or unusable /dev/shm. Each test runs in a child with a /dev/shm of its own.
#include "shm/exhausted.hpp"

#include "shm_fixture.hpp"

#include <shmpool/error.hpp>

#include <sys/resource.h>
#include <sys/stat.h>

#include <cstring>

namespace shmpool::shm {
namespace {

store_options with(backing chosen) {
  return {.backing = chosen, .cache_bytes = 64 * MiB};
}

/// The text of the shm_exhausted that `call` throws; empty if it throws something else or nothing.
template <class Call>
std::string exhausted_text(Call call) {
  try {
    call();
  } catch (const std::system_error& error) {
    if (error.code() == errc::shm_exhausted) return error.what();
  }
  return {};
}

bool has(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

TEST(small_dev_shm, is_shm_exhausted_for_posix_and_the_pool_works_on) {
  SHMPOOL_EXPECT_IN_PRIVATE_SHM("size=1m", [] {
    const auto pool = store::open(with(backing::posix));
    const std::string text = exhausted_text([&] { pool->allocate(4 * MiB, 8); });
    SHMPOOL_CHECK(has(text, "4194304 bytes asked, "));
    SHMPOOL_CHECK(has(text, " bytes free in /dev/shm"));
    SHMPOOL_CHECK(has(text, "--shm-size"));
    SHMPOOL_CHECK(has(text, "backing::memfd"));
    SHMPOOL_CHECK(has(text, "clear_shm()"));
    SHMPOOL_CHECK(!exhausted_text([&] { pool->lease(4 * MiB, 0); }).empty());
    SHMPOOL_CHECK(pool->stats().live_bytes == 0);
    const shm_handle handle = pool->allocate(512 * KiB, 8);
    std::memset(handle.data(), 1, handle.size());
    SHMPOOL_CHECK(names_of(pool->pool_id()).size() == 2);
    return 0;
  });
}

TEST(small_dev_shm, is_emptied_of_the_cache_before_posix_gives_up) {
  SHMPOOL_EXPECT_IN_PRIVATE_SHM("size=1m", [] {
    const auto pool = store::open(with(backing::posix));
    pool->allocate(640 * KiB, 8);
    SHMPOOL_CHECK(pool->stats().cached_segments == 1);
    shm_handle handle = pool->allocate(768 * KiB, 8);
    std::memset(handle.data(), 1, handle.size());
    SHMPOOL_CHECK(pool->stats().cached_segments == 0);
    handle.reset();
    handle = pool->lease(640 * KiB, 0);
    SHMPOOL_CHECK(!segment_of(handle).created());
    SHMPOOL_CHECK(pool->stats().cached_segments == 0);
    return 0;
  });
}

TEST(small_dev_shm, is_left_for_memfd_by_automatic) {
  SHMPOOL_EXPECT_IN_PRIVATE_SHM("size=1m", [] {
    const auto pool = store::open(with(backing::automatic));
    const shm_handle small = pool->allocate(256 * KiB, 8);
    SHMPOOL_CHECK(!small.name().empty());
    SHMPOOL_CHECK(!pool->stats().memfd_used);
    const shm_handle large = pool->allocate(8 * MiB, 8);
    SHMPOOL_CHECK(large.name().empty());
    SHMPOOL_CHECK(segment_of(large).descriptor() >= 0);
    std::memset(large.data(), 1, large.size());
    SHMPOOL_CHECK(pool->stats().memfd_used);
    SHMPOOL_CHECK(segment_of(pool->lease(8 * MiB, 0)).descriptor() >= 0);
    return 0;
  });
}

// statvfs has blocks, but no inode is left: the failure comes from the call that makes the file.
TEST(dev_shm_without_inodes, is_left_for_memfd_by_automatic) {
  SHMPOOL_EXPECT_IN_PRIVATE_SHM("size=64m,nr_inodes=3", [] {
    const auto pool = store::open(with(backing::automatic));
    std::vector<shm_handle> handles;
    for (int i = 0; i < 4; ++i) handles.push_back(pool->allocate(64 * KiB, 8));
    SHMPOOL_CHECK(!handles.front().name().empty());
    SHMPOOL_CHECK(handles.back().name().empty());
    SHMPOOL_CHECK(pool->stats().live_segments == 4);
    return 0;
  });
}

TEST(unbounded_dev_shm, counts_as_free) {
  SHMPOOL_EXPECT_IN_PRIVATE_SHM("size=0", [] {
    const auto pool = store::open(with(backing::automatic));
    SHMPOOL_CHECK(!pool->allocate(8 * MiB, 8).name().empty());
    return 0;
  });
}

TEST(missing_dev_shm, is_left_for_memfd_by_automatic_and_an_error_for_posix) {
  SHMPOOL_EXPECT_IN_PRIVATE_SHM(nullptr, [] {
    SHMPOOL_CHECK(reap_orphans().pools == 0);
    const auto pool = store::open(with(backing::automatic));
    const shm_handle handle = pool->allocate(4 * MiB, 8);
    std::memset(handle.data(), 1, handle.size());
    SHMPOOL_CHECK(handle.name().empty());
    SHMPOOL_CHECK(segment_of(pool->lease(64 * KiB, 0)).descriptor() >= 0);
    try {
      store::open(with(backing::posix));
    } catch (const std::system_error& error) {
      return has(error.what(), "/dev/shm") ? 0 : 1;
    }
    return 1;
  });
}

TEST(read_only_dev_shm, is_left_for_memfd_by_automatic_and_an_error_for_posix) {
  SHMPOOL_EXPECT_IN_PRIVATE_SHM("ro,size=1m", [] {
    SHMPOOL_CHECK(::mount(nullptr, shm_directory(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr) == 0);
    const auto pool = store::open(with(backing::automatic));
    SHMPOOL_CHECK(pool->allocate(64 * KiB, 8).name().empty());
    try {
      store::open(with(backing::posix));
    } catch (const std::system_error& error) {
      return error.code() == std::errc::read_only_file_system ? 0 : 1;
    }
    return 1;
  });
}

// A plain directory on a disk would have every array written back to the disk.
TEST(dev_shm_on_a_disk, is_not_used) {
  SHMPOOL_EXPECT_IN_PRIVATE_SHM(nullptr, [] {
    SHMPOOL_CHECK(::mkdir("/dev/shm", 0777) == 0);
    SHMPOOL_CHECK(::mount("/proc", shm_directory(), nullptr, MS_BIND | MS_REC, nullptr) == 0);
    SHMPOOL_CHECK(!free_space());
    const auto pool = store::open(with(backing::automatic));
    SHMPOOL_CHECK(pool->allocate(64 * KiB, 8).name().empty());
    return 0;
  });
}

#if defined(__SANITIZE_ADDRESS__)
constexpr bool under_sanitizers = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(undefined_behavior_sanitizer)
constexpr bool under_sanitizers = true;
#else
constexpr bool under_sanitizers = false;
#endif
#else
constexpr bool under_sanitizers = false;
#endif

/// A low limit on descriptors for as long as it lives.
class few_descriptors {
 public:
  few_descriptors() {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const rlimit low{.rlim_cur = 40, .rlim_max = before_.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &low);
  }
  few_descriptors(const few_descriptors&) = delete;
  ~few_descriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

TEST(descriptor_limit, is_relieved_by_the_cache) {
  if (under_sanitizers) GTEST_SKIP() << "the checks of the undefined behaviour sanitizer need descriptors themselves";
  const auto pool = store::open(with(backing::memfd));
  const few_descriptors limit;
  std::vector<shm_handle> handles;
  while (::fcntl(39, F_GETFD) == -1) handles.push_back(pool->allocate(4 * KiB, 8));
  handles.clear();
  EXPECT_EQ(pool->allocate(8 * KiB, 8).size(), 8 * KiB);
}

TEST(exhausted, says_which_limit_was_reached) {
  const auto says = [](bool named, int error) {
    return exhausted_text([&] { throw_memory_exhausted(100, named, {"mmap", {error, std::system_category()}}); });
  };
  EXPECT_TRUE(has(says(false, EMFILE), "RLIMIT_NOFILE"));
  EXPECT_TRUE(has(says(true, ENOSPC), "/dev/shm"));
  EXPECT_TRUE(has(says(false, ENOMEM), "memfd says: mmap: Cannot allocate memory"));
  EXPECT_TRUE(has(exhausted_text([] { throw_budget_exhausted(7, 5, 6); }), "7 bytes asked, 1 bytes left"));
}

TEST(exhausted, only_a_shortage_is_worth_a_second_try) {
  for (const int error : {ENOSPC, ENOMEM, EMFILE, ENFILE, EDQUOT, EFBIG, EAGAIN}) {
    EXPECT_TRUE(is_shortage({error, std::system_category()}));
  }
  EXPECT_FALSE(is_shortage({EACCES, std::system_category()}));
  EXPECT_FALSE(is_shortage({ENOSPC, shmpool_category()}));
  EXPECT_FALSE(is_shortage({}));
}

TEST(exhausted, names_the_call_and_its_limit) {
  const auto says = [](const char* call, int error) { return describe({call, {error, std::system_category()}}); };
  EXPECT_TRUE(has(says("open", EMFILE), "open: Too many open files"));
  EXPECT_TRUE(has(says("open", EMFILE), "RLIMIT_NOFILE = "));
  EXPECT_TRUE(has(says("open", ENOENT), "removed its name from /dev/shm"));
  EXPECT_TRUE(has(says("mmap", EAGAIN), "RLIMIT_MEMLOCK"));
  EXPECT_TRUE(has(says("mmap", ENOMEM), "vm.max_map_count = "));
  EXPECT_FALSE(has(says("fallocate", ENOMEM), "vm.max_map_count")) << "that needs no mapping";
}

TEST(exhausted, tells_address_space_from_mappings) {
  if (under_sanitizers) GTEST_SKIP() << "sanitizers need address space without a limit";
  EXPECT_EQ(run_in_child([] {
              std::size_t pages = 0;
              std::ifstream{"/proc/self/statm"} >> pages;
              const rlimit tight{pages * page_bytes, RLIM_INFINITY};
              SHMPOOL_CHECK(::setrlimit(RLIMIT_AS, &tight) == 0);
              const std::string text = describe({"mmap", {ENOMEM, std::system_category()}});
              SHMPOOL_CHECK(has(text, "RLIMIT_AS of this process is "));
              SHMPOOL_CHECK(!has(text, "max_map_count"));
              return 0;
            }),
            0);
}

}  // namespace
}  // namespace shmpool::shm
