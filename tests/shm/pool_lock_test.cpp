// The lock file, and what a process that the application forks may do with its copy of a pool: nothing.
#include "shm/pool_lock.hpp"

#include "shm_fixture.hpp"

#include <shmpool/error.hpp>

#include <sys/file.h>
#include <sys/stat.h>

namespace shmpool::shm::test {
namespace {

class pool_lock_test : public shm_fixture {
 protected:
  /// True if somebody holds the pool's lock.
  static bool is_locked(std::uint64_t pool_id) {
    std::error_code error;
    const unique_fd fd = open_named(lock_name(pool_id), true, error);
    return fd && ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  }
};

TEST_F(pool_lock_test, a_pool_holds_a_private_lock_file_as_long_as_it_lives) {
  auto pool = open();
  const std::uint64_t id = pool->pool_id();
  struct stat info {};
  ASSERT_EQ(::lstat(path_of(lock_name(id)).c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777U, 0600U);
  EXPECT_TRUE(is_locked(id));
  EXPECT_TRUE(is_pool_of_this_process(id));
  pool.reset();
  EXPECT_FALSE(exists(lock_name(id)));
  EXPECT_FALSE(is_pool_of_this_process(id));
}

TEST_F(pool_lock_test, a_forked_copy_is_inert) {
  auto pool = open();
  shm_handle live = pool->allocate(64 * KiB, 8);
  shm_handle memfd = pool->lease(64 * KiB, 0, true);
  shm_handle lease = pool->lease(64 * KiB, 0);
  pool->allocate(128 * KiB, 8);
  live.data()[0] = std::byte{9};
  const auto before = names_of(pool->pool_id());
  ASSERT_EQ(before.size(), 3U);
  EXPECT_EQ(run_in_child([&] {
              SHMPOOL_CHECK(live.data()[0] == std::byte{9});
              bool refused = false;
              try {
                pool->allocate(64 * KiB, 8);
              } catch (const std::system_error& error) {
                refused = error.code() == errc::pool_closed;
              }
              SHMPOOL_CHECK(refused);
              SHMPOOL_CHECK(!pool->lease_cached(64 * KiB, 0));
              SHMPOOL_CHECK(!pool->can_lend(live));
              SHMPOOL_CHECK(pool->clear().freed == 0);
              pool->trim(std::chrono::steady_clock::now() + std::chrono::hours{1});
              SHMPOOL_CHECK(pool->stats().live_segments == 0);
              pool->close();
              live.reset();
              memfd.reset();
              pool.reset();
              lease.reset();
              return 0;
            }),
            0);
  EXPECT_EQ(names_of(pool->pool_id()), before);
  EXPECT_TRUE(is_locked(pool->pool_id()));
  EXPECT_EQ(pool->stats().live_segments, 3U);
  EXPECT_EQ(pool->stats().cached_segments, 1U);
}

TEST_F(pool_lock_test, a_forked_process_can_have_a_pool_of_its_own) {
  const auto pool = open();
  EXPECT_EQ(run_in_child([] {
              auto own = store::open({});
              shm_handle handle = own->allocate(64 * KiB, 8);
              const std::uint64_t id = own->pool_id();
              SHMPOOL_CHECK(names_of(id).size() == 2);
              own.reset();
              handle.reset();
              SHMPOOL_CHECK(names_of(id).empty());
              return 0;
            }),
            0);
}

// A flock belongs to the open file, which fork() shares: the copy must let go, or a dead pool would look alive.
TEST_F(pool_lock_test, a_forked_process_does_not_keep_the_lock_of_a_dead_pool) {
  pipe_pair ready, leave, grandchild;
  child process{[&] {
    const auto pool = store::open({});
    const shm_handle handle = pool->allocate(64 * KiB, 8);
    const pid_t forked = ::fork();
    if (forked == 0) {
      ready.put(pool->pool_id());  // here fork() is over in both
      leave.close_write();
      leave.at_end();
      ::_exit(0);
    }
    ::pause();
    return 0;
  }};
  leave.close_read();
  grandchild.close_write();
  std::uint64_t id = 0;
  ASSERT_TRUE(ready.get(id));
  watch(id);
  EXPECT_TRUE(is_locked(id));
  process.kill();
  EXPECT_FALSE(is_locked(id));
  reap_orphans();
  EXPECT_EQ(names_of(id), std::vector<std::string>{});
  leave.close_write();
  EXPECT_TRUE(grandchild.at_end());  // it has left
}

}  // namespace
}  // namespace shmpool::shm::test
