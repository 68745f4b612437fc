#include "shm/orphans.hpp"

#include "shm_fixture.hpp"

#include <sched.h>
#include <sys/file.h>
#include <sys/stat.h>

namespace shmpool::shm {
namespace {

class orphans_test : public shm_fixture {
 protected:
  static void make(const std::string& name) {
    std::error_code error;
    create_named(name, 4096, error);
    ASSERT_FALSE(error) << name << ": " << error.message();
  }
  /// An id that no pool has.
  std::uint64_t fake_pool(unsigned number = 0) {
    const std::uint64_t id = 0xfa4e'0000'0000'0000U + (static_cast<std::uint64_t>(::getpid()) << 8) + number;
    watch(id);
    return id;
  }
};

/// A process with a pool of its own: one live segment and one cached.
class pool_process {
 public:
  pool_process()
      : process_{[this] {
          const auto pool = store::open({.cache_bytes = 64 * MiB});
          const shm_handle held = pool->allocate(64 * KiB, 8);
          pool->allocate(128 * KiB, 8);
          ready_.put(pool->pool_id());
          leave_.close_write();
          leave_.at_end();
          return 0;
        }} {
    ready_.close_write();
    leave_.close_read();
    EXPECT_TRUE(ready_.get(pool_id_));
  }
  std::uint64_t pool_id() const { return pool_id_; }
  void kill() { process_.kill(); }
  int leave() {
    leave_.close_write();
    return process_.wait();
  }

 private:
  pipe_pair ready_, leave_;
  std::uint64_t pool_id_ = 0;
  child process_;
};

TEST_F(orphans_test, only_names_of_exactly_our_form_are_ours) {
  const std::string uid = std::to_string(::geteuid());
  const auto parsed = parse_name("shmpool." + uid + ".00000000000abcde.12");
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->pool_id, 0xabcdeU);
  EXPECT_EQ(parsed->segment_id, 12U);
  ASSERT_TRUE(parse_name("shmpool." + uid + ".00000000000abcde.lock"));
  EXPECT_EQ(parse_name("shmpool." + uid + ".00000000000abcde.lock")->segment_id, 0U);
  for (const std::string& name : {std::string{},
                                  std::string{"shmpool"},
                                  std::string{"shmpool."},
                                  "shmpool." + uid,
                                  "shmpool." + uid + ".",
                                  "shmpool." + uid + ".00000000000abcde",
                                  "shmpool." + uid + ".00000000000abcde.",
                                  "shmpool." + uid + ".00000000000abcde.0",
                                  "shmpool." + uid + ".00000000000abcde.012",
                                  "shmpool." + uid + ".00000000000abcde.1x",
                                  "shmpool." + uid + ".00000000000abcde.1.2",
                                  "shmpool." + uid + ".00000000000abcde.locked",
                                  "shmpool." + uid + ".00000000000ABCDE.1",
                                  "shmpool." + uid + ".0000000000abcde.1",
                                  "shmpool." + uid + ".000000000000abcde.1",
                                  "shmpool." + uid + ".-0000000000abcde.1",
                                  "shmpool." + uid + ".00000000000abcde.-1",
                                  "shmpool." + uid + ".00000000000abcde.99999999999999999999",
                                  "shmpool.0" + uid + ".00000000000abcde.1",
                                  "shmpool." + std::to_string(::geteuid() + 1) + ".00000000000abcde.1",
                                  "Shmpool." + uid + ".00000000000abcde.1",
                                  "xshmpool." + uid + ".00000000000abcde.1",
                                  std::string{"shmpool.99999999999999999999999.00000000000abcde.1"}}) {
    EXPECT_FALSE(parse_name(name)) << name;
  }
}

TEST_F(orphans_test, a_killed_process_leaves_nothing_and_a_living_one_keeps_all) {
  pool_process dead;
  pool_process living;
  watch(dead.pool_id());
  watch(living.pool_id());
  const auto own = open();
  const shm_handle held = own->allocate(64 * KiB, 8);
  ASSERT_EQ(names_of(dead.pool_id()).size(), 3U);
  reap_orphans();
  EXPECT_EQ(names_of(dead.pool_id()).size(), 3U) << "it lives still";
  dead.kill();
  reap_orphans();
  EXPECT_EQ(names_of(dead.pool_id()), std::vector<std::string>{});
  EXPECT_EQ(names_of(living.pool_id()).size(), 3U);
  EXPECT_EQ(names_of(own->pool_id()).size(), 2U);
  EXPECT_EQ(living.leave(), 0);
  EXPECT_EQ(names_of(living.pool_id()), std::vector<std::string>{}) << "it has tidied up itself";
}

TEST_F(orphans_test, the_next_pool_reaps_what_is_left) {
  pool_process dead;
  watch(dead.pool_id());
  dead.kill();
  const auto pool = open();
  EXPECT_EQ(names_of(dead.pool_id()), std::vector<std::string>{});
}

TEST_F(orphans_test, segments_without_a_lock_file_are_removed) {
  const std::uint64_t pool = fake_pool();
  make(segment_name(pool, 1));
  make(segment_name(pool, 99));
  reap_orphans();
  EXPECT_EQ(names_of(pool), std::vector<std::string>{});
}

// systemd-logind, or somebody with rm, had removed the lock file, and the next pool took what the living one used.
TEST_F(orphans_test, segments_without_a_lock_file_are_left_alone_while_a_process_has_them_open_or_mapped) {
  const std::uint64_t pool = fake_pool();
  const auto name = [&](std::uint64_t id) { return segment_name(pool, id); };
  for (const std::uint64_t id : {1U, 2U, 3U, 4U}) make(name(id));
  std::error_code error;
  unique_fd opened = open_named(name(1), false, error);
  unique_fd file = open_named(name(2), true, error);
  mapping written = mapping::map(file.get(), 4096, true, error);
  file = open_named(name(3), false, error);
  mapping read = mapping::map(file.get(), 4096, false, error);
  file.reset();
  ASSERT_FALSE(error);
  EXPECT_EQ(reap_orphans().segments, 1U);
  EXPECT_EQ(names_of(pool), (std::vector{name(1), name(2), name(3)}));
  opened.reset();
  written = {};
  EXPECT_EQ(reap_orphans().segments, 2U);
  read = {};
  EXPECT_EQ(reap_orphans().segments, 1U);
}

TEST_F(orphans_test, a_lock_file_that_nobody_holds_is_removed) {
  const std::uint64_t pool = fake_pool();
  make(lock_name(pool));
  reap_orphans();
  EXPECT_EQ(names_of(pool), std::vector<std::string>{});
}

TEST_F(orphans_test, a_locked_pool_is_left_alone_wherever_the_lock_is_held) {
  const std::uint64_t pool = fake_pool();
  std::error_code error;
  unique_fd lock = create_named(lock_name(pool), 0, error);
  ASSERT_EQ(::flock(lock.get(), LOCK_EX | LOCK_NB), 0);
  make(segment_name(pool, 1));
  reap_orphans();
  EXPECT_EQ(names_of(pool).size(), 2U);
  lock.reset();
  reap_orphans();
  EXPECT_EQ(names_of(pool), std::vector<std::string>{});
}

TEST_F(orphans_test, strange_names_links_and_directories_are_left_alone) {
  const std::uint64_t pool = fake_pool();
  const std::string tail = segment_name(pool, 1);
  const std::string tailed = tail + "x";
  const std::string other_user = "shmpool." + std::to_string(::geteuid() + 1) + tail.substr(tail.find('.', 8));
  make(tailed);
  make(other_user);
  const std::string link = segment_name(pool, 2);
  const std::string directory = segment_name(pool, 3);
  ASSERT_EQ(::symlink("/dev/null", path_of(link).c_str()), 0);
  ASSERT_EQ(::mkdir(path_of(directory).c_str(), 0700), 0);
  reap_orphans();
  EXPECT_TRUE(exists(tailed));
  EXPECT_TRUE(exists(other_user));
  EXPECT_TRUE(exists(link));
  EXPECT_TRUE(exists(directory));
  unlink_named(tailed);
  unlink_named(other_user);
  unlink_named(link);
  ::rmdir(path_of(directory).c_str());
}

TEST_F(orphans_test, files_of_another_user_are_left_alone_whatever_they_are_called) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give files away";
  const std::uint64_t pool = fake_pool();
  const std::string name = segment_name(pool, 1);
  make(name);
  ASSERT_EQ(::chown(path_of(name).c_str(), 12345, 12345), 0);
  reap_orphans();
  EXPECT_TRUE(exists(name));
  unlink_named(name);
}

TEST_F(orphans_test, a_lock_that_is_a_link_protects_its_pool_and_is_not_followed) {
  const std::uint64_t pool = fake_pool();
  make(segment_name(pool, 1));
  ASSERT_EQ(::symlink("/dev/null", path_of(lock_name(pool)).c_str()), 0);
  reap_orphans();
  EXPECT_EQ(names_of(pool).size(), 2U);
  unlink_pool(pool);
}

/// Runs `body` in a child that has a PID namespace of its own, where it is process 1, as in a container.
template <class Body>
int run_in_pid_namespace(Body body) {
  return run_in_child([&] {
    const uid_t uid = ::geteuid();
    const gid_t gid = ::getegid();
    if (::unshare(CLONE_NEWPID | (uid == 0 ? 0 : CLONE_NEWUSER)) != 0) return not_permitted;
    if (uid != 0) {
      std::ofstream{"/proc/self/uid_map"} << uid << ' ' << uid << " 1";
      std::ofstream{"/proc/self/setgroups"} << "deny";
      std::ofstream{"/proc/self/gid_map"} << gid << ' ' << gid << " 1";
    }
    return run_in_child([&] { return ::getpid() == 1 ? body() : 99; });
  });
}

TEST_F(orphans_test, a_reaper_in_another_container_knows_the_living_from_the_dead) {
  pool_process dead, living;
  watch(dead.pool_id());
  watch(living.pool_id());
  dead.kill();
  const int code = run_in_pid_namespace([&] {
    reap_orphans();
    SHMPOOL_CHECK(names_of(living.pool_id()).size() == 3);
    SHMPOOL_CHECK(names_of(dead.pool_id()).empty());
    return 0;
  });
  if (code == not_permitted) {
    reap_orphans();
    EXPECT_EQ(living.leave(), 0);
    GTEST_SKIP() << "a PID namespace is not permitted here";
  }
  EXPECT_EQ(code, 0);
  EXPECT_EQ(names_of(living.pool_id()).size(), 3U);
  EXPECT_EQ(living.leave(), 0);
}

TEST_F(orphans_test, a_pool_in_another_container_is_left_alone_until_it_is_dead) {
  pipe_pair ready, leave;
  child container{[&] {
    ready.close_read();
    leave.close_write();
    return run_in_pid_namespace([&] {
      const auto pool = store::open({.cache_bytes = 64 * MiB});
      const shm_handle held = pool->allocate(64 * KiB, 8);
      ready.put(pool->pool_id());
      leave.at_end();
      ::_exit(0);  // runs no destructor
      return 0;
    });
  }};
  ready.close_write();
  leave.close_read();
  std::uint64_t pool_id = 0;
  if (!ready.get(pool_id)) {
    EXPECT_EQ(container.wait(), not_permitted);
    GTEST_SKIP() << "a PID namespace is not permitted here";
  }
  watch(pool_id);
  reap_orphans();
  EXPECT_EQ(names_of(pool_id).size(), 2U);
  leave.close_write();
  EXPECT_EQ(container.wait(), 0);
  EXPECT_EQ(names_of(pool_id).size(), 2U);
  reap_orphans();
  EXPECT_EQ(names_of(pool_id), std::vector<std::string>{});
}

TEST_F(orphans_test, unlink_pool_removes_a_pool_without_asking_for_its_lock) {
  pool_process process;
  watch(process.pool_id());
  EXPECT_EQ(unlink_pool(process.pool_id()), 2U);
  EXPECT_EQ(names_of(process.pool_id()), std::vector<std::string>{});
  EXPECT_EQ(unlink_pool(process.pool_id()), 0U);
}

TEST(orphans_alone, what_was_removed_is_counted_by_exactly_one_of_two_reapers) {
  SHMPOOL_EXPECT_IN_PRIVATE_SHM("size=16m", [] {
    constexpr std::size_t pools = 40, segments = 5, length = 4096;
    for (int round = 0; round < 10; ++round) {
      for (std::uint64_t pool = 1; pool <= pools; ++pool) {
        std::error_code error;
        create_named(lock_name(pool), 0, error);
        for (std::uint64_t id = 1; id <= segments; ++id) create_named(segment_name(pool, id), length, error);
        SHMPOOL_CHECK(!error);
      }
      pipe_pair start, counts;
      const auto reaper = [&] {
        start.close_write();
        start.at_end();
        counts.put(reap_orphans());
        return 0;
      };
      child first{reaper}, second{reaper};
      start.close_write();
      SHMPOOL_CHECK(first.wait() == 0 && second.wait() == 0);
      reap_result a, b;
      SHMPOOL_CHECK(counts.get(a) && counts.get(b));
      SHMPOOL_CHECK(a.segments + b.segments == pools * segments);
      SHMPOOL_CHECK(a.bytes + b.bytes == pools * segments * length);
      SHMPOOL_CHECK(a.pools + b.pools == pools);
      for (std::uint64_t pool = 1; pool <= pools; ++pool) SHMPOOL_CHECK(names_of(pool).empty());
    }
    return 0;
  });
}

TEST(orphans_alone, pools_that_start_while_others_reap_are_never_harmed) {
  SHMPOOL_EXPECT_IN_PRIVATE_SHM("size=16m", [] {
    pipe_pair stop;
    const auto reap_until_stopped = [&] {
      stop.close_write();
      while (reap_orphans().segments == 0) {
        if (stop.ended()) return 0;
      }
      return 1;  // nothing here is ever an orphan
    };
    child first{reap_until_stopped}, second{reap_until_stopped};
    for (int round = 0; round < 300; ++round) {
      const auto pool = store::open({});
      const shm_handle handle = pool->allocate(4096, 8);
      SHMPOOL_CHECK(names_of(pool->pool_id()).size() == 2);
    }
    stop.close_write();
    SHMPOOL_CHECK(first.wait() == 0);
    SHMPOOL_CHECK(second.wait() == 0);
    return 0;
  });
}

}  // namespace
}  // namespace shmpool::shm
