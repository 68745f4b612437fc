// The memory of a worker while its threads make, keep and drop arrays at any time.
#include "worker/segment_table.hpp"

#include <shmpool/array.hpp>

#include <gtest/gtest.h>

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace shmpool::worker {
namespace {

constexpr std::size_t size = 1 << 16;

/// A parent that grants a new memfd each time.
class granting_parent final : public lease_source {
 public:
  std::pair<wire::segment_ref, unique_fd> need(std::size_t, bool) override {
    wire::segment_ref ref = segment(++last);
    return {ref, memory()};
  }
  unique_fd open(std::uint64_t) override { return memory(); }
  static wire::segment_ref segment(std::uint64_t id) {
    wire::segment_ref ref;
    ref.id = id;
    ref.capacity = ref.reserved = ref.length = size;
    ref.flags = wire::flag_memfd;
    ref.access = static_cast<std::uint8_t>(detail::access::write);
    return ref;
  }
  static unique_fd memory() {
    unique_fd made(::memfd_create("segment_table_test", MFD_CLOEXEC));
    EXPECT_EQ(::ftruncate(made.get(), size), 0);
    return made;
  }

  std::uint64_t last = 0;
};

class segment_table_test : public ::testing::Test {
 protected:
  void lease(std::uint64_t id) {
    wire::segment_ref ref = granting_parent::segment(id);
    table.introduce(ref, granting_parent::memory());
    table.add_lease(ref);
  }
  shm_handle allocate() { return table.allocate(size, 64); }
  /// What the worker says it has; what it says it has no more is in `released`.
  std::vector<wire::segment_ref> end_task() {
    std::vector<wire::segment_ref> report;
    released = table.end_task(report);
    return report;
  }

  granting_parent parent;
  segment_table table{parent};
  std::vector<std::uint64_t> released;
};

// What a task returns is given up before its end is reported. A thread that an earlier task had left running got that
// memory then, as it was leased and nobody held it, and wrote over the result.
TEST_F(segment_table_test, what_a_task_gives_back_is_nobodys_once_the_task_is_closed) {
  table.begin_task();
  lease(1);
  shm_handle result = allocate();
  ASSERT_EQ(result.get()->id(), 1U);
  table.close_task();
  result.reset();
  std::thread([&] { EXPECT_FALSE(allocate().is_shared()); }).join();
  EXPECT_TRUE(end_task().empty());
}

TEST_F(segment_table_test, a_lease_is_used_again_within_its_task) {
  table.begin_task();
  lease(1);
  allocate().reset();
  EXPECT_EQ(allocate().get()->id(), 1U);
  table.close_task();
  end_task();
  EXPECT_EQ(parent.last, 0U);
}

TEST_F(segment_table_test, what_a_thread_still_holds_is_kept_until_it_drops_it) {
  table.begin_task();
  lease(1);
  shm_handle held = allocate();
  table.close_task();
  const auto report = end_task();
  ASSERT_EQ(report.size(), 1U);
  EXPECT_EQ(report[0].flags, wire::flag_kept);
  EXPECT_TRUE(released.empty());
  std::thread([&] { held.reset(); }).join();
  table.begin_task();
  table.close_task();
  end_task();
  EXPECT_EQ(released, std::vector<std::uint64_t>{1});
}

// What a thread dropped after the account that says that it is kept was told before that account: the parent then kept
// it for as long as the worker lived.
TEST_F(segment_table_test, what_is_dropped_after_the_account_is_told_with_the_next) {
  table.begin_task();
  lease(1);
  shm_handle held = allocate();
  table.close_task();
  ASSERT_EQ(end_task().size(), 1U);
  held.reset();
  EXPECT_TRUE(released.empty());
}

// A thread that had dropped the last handle, and had not got as far as to say so, then looked at a segment that was
// destroyed, since the table saw a count of zero and forgot it.
TEST_F(segment_table_test, a_segment_may_be_forgotten_while_a_thread_drops_it) {
  std::mutex passing;
  std::vector<shm_handle> passed;
  std::atomic<bool> done{false};
  std::thread dropper([&] {
    while (!done) {
      std::vector<shm_handle> mine;
      {
        const std::lock_guard lock(passing);
        mine.swap(passed);
      }
      mine.clear();
    }
  });
  for (std::uint64_t id = 1; id != 20'000; ++id) {
    table.begin_task();
    wire::segment_ref ref = granting_parent::segment(id % 16);
    if (id < 17) table.introduce(ref, granting_parent::memory());
    {
      const std::lock_guard lock(passing);
      passed.push_back(table.resolve(ref).handle);
    }
    table.close_task();
    end_task();
    table.forget(id % 16);
    table.introduce(ref, granting_parent::memory());
  }
  done = true;
  dropper.join();
}

// A task that forks leaves its copy a lock that another thread may hold, and leases that are not the copy's to write
// to.
TEST_F(segment_table_test, a_forked_copy_gets_private_memory_and_takes_no_lock) {
  table.begin_task();
  lease(1);
  shm_handle held = allocate();
  const pid_t child = ::fork();
  if (child == 0) {
    const bool shared = allocate().is_shared();
    held.reset();
    ::_exit(shared ? 1 : 0);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  table.close_task();
  held.reset();
  end_task();
}

}  // namespace
}  // namespace shmpool::worker
