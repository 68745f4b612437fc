// The lock file, and what a process that the application forks may do with its copy of a pool: nothing.
#include "shm/pool_lock.hpp"

#include "shm_fixture.hpp"

#include <shmpool/error.hpp>

#include <sys/file.h>
#include <sys/stat.h>

namespace shmpool::shm {
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

// Between the two steps that make a lock file a reaper would have taken the pool, which has segments, for dead.
TEST_F(pool_lock_test, a_removed_lock_file_is_made_again_and_is_locked_from_the_moment_that_it_is_there) {
  const auto pool = open();
  const std::uint64_t id = pool->pool_id();
  const shm_handle held = pool->allocate(64 * KiB, 8);
  pipe_pair stop;
  child reaper{[&] {
    stop.close_write();
    std::error_code error;
    while (!stop.ended()) {
      const unique_fd found = open_named(lock_name(id), true, error);
      if (found && ::flock(found.get(), LOCK_EX | LOCK_NB) == 0) {
        struct stat info {};
        if (::fstat(found.get(), &info) == 0 && info.st_nlink != 0) return 1;
      }
      reap_orphans();
    }
    return 0;
  }};
  for (int round = 0; round != 300; ++round) {
    unlink_named(lock_name(id));
    const shm_handle next = pool->lease(64 * KiB, 0);  // a name is handed out
    ASSERT_TRUE(exists(lock_name(id)));
  }
  EXPECT_TRUE(is_locked(id));
  EXPECT_TRUE(exists(held.name())) << "no reaper took it";
  stop.close_write();
  EXPECT_EQ(reaper.wait(), 0) << "the file could be locked by somebody else while it had its name";
}

TEST_F(pool_lock_test, a_pool_at_work_notices_that_the_lock_file_is_gone) {
  const auto pool = open();
  const std::uint64_t id = pool->pool_id();
  auto now = std::chrono::steady_clock::now();
  pool->trim(now);
  unlink_named(lock_name(id));
  pool->trim(now + std::chrono::milliseconds{1});
  EXPECT_FALSE(exists(lock_name(id))) << "it does not look all the time";
  pool->trim(now + std::chrono::seconds{1});
  EXPECT_TRUE(is_locked(id));
}

TEST_F(pool_lock_test, another_file_of_its_name_is_no_lock_file) {
  const auto pool = open();
  const std::uint64_t id = pool->pool_id();
  unlink_named(lock_name(id));
  std::error_code error;
  create_named(lock_name(id), 0, error);
  ASSERT_FALSE(error);
  const shm_handle next = pool->lease(64 * KiB, 0);
  EXPECT_TRUE(is_locked(id));
}

}  // namespace
}  // namespace shmpool::shm
