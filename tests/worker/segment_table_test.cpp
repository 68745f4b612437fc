// The memory of a worker while its threads make, keep and drop arrays at any time.
#include "worker/segment_table.hpp"

#include "shm/reserve.hpp"

#include <shmpool/array.hpp>

#include <gtest/gtest.h>

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

namespace shmpool::worker {
namespace {

constexpr std::size_t size = 1 << 16;

/// A parent that grants a new memfd each time.
class granting_parent final : public lease_source {
 public:
  granted need(std::size_t bytes, bool, std::size_t more) override {
    asked_more.push_back(more);
    granted answer;
    if (blocks && bytes <= shm::largest_block) {
      for (std::size_t i = 0; i <= more; ++i) answer.segments.push_back(block(++last, shm::block_length(bytes)));
      if (asked_more.size() == 1) answer.descriptor = memory(arena_size);
    } else {
      answer.segments.push_back(segment(++last));
      answer.descriptor = memory();
    }
    return answer;
  }
  unique_fd open(std::uint64_t) override { return memory(); }
  static wire::segment_ref segment(std::uint64_t id) {
    wire::segment_ref ref;
    ref.id = ref.file = id;
    ref.capacity = ref.reserved = ref.length = size;
    ref.flags = wire::flag_memfd;
    ref.access = static_cast<std::uint8_t>(detail::access::write);
    return ref;
  }
  /// A block of the file `arena`; blocks that are of the same length do not overlap.
  static wire::segment_ref block(std::uint64_t id, std::size_t length) {
    wire::segment_ref ref = segment(id);
    ref.file = arena;
    ref.capacity = arena_size;
    ref.reserved = ref.length = length;
    ref.place = static_cast<std::uint32_t>(id % (arena_size / length) * length);
    return ref;
  }
  static unique_fd memory(std::size_t length = size) {
    unique_fd made(::memfd_create("segment_table_test", MFD_CLOEXEC));
    EXPECT_EQ(::ftruncate(made.get(), static_cast<off_t>(length)), 0);
    return made;
  }
  static constexpr std::uint64_t arena = 1'000'000;
  static constexpr std::size_t arena_size = 4 << 20;

  bool blocks = false;
  std::uint64_t last = 0;
  std::vector<std::size_t> asked_more;
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

// ---- Blocks of arenas.

class block_test : public segment_table_test {
 protected:
  block_test() { parent.blocks = true; }
  void TearDown() override {
    table.close_task();
    end_task();
  }
  /// An argument of a task.
  detail::attachment give(std::uint64_t id, std::size_t length, detail::access mode) {
    wire::segment_ref ref = granting_parent::block(id, length);
    ref.access = static_cast<std::uint8_t>(mode);
    return table.resolve(ref);
  }
};

TEST_F(block_test, blocks_of_a_file_share_its_mapping) {
  table.introduce(granting_parent::block(1, 4096), granting_parent::memory(granting_parent::arena_size));
  table.begin_task();
  const auto a = give(1, 4096, detail::access::write), b = give(2, 4096, detail::access::write);
  EXPECT_EQ(b.handle.data() - a.handle.data(), 4096);
  EXPECT_EQ(a.handle.size(), 4096U);
  const auto same = give(2, 4096, detail::access::read);
  b.handle.data()[5] = std::byte{7};
  EXPECT_EQ(same.handle.data()[5], std::byte{7});
  EXPECT_NE(same.handle.data(), b.handle.data()) << "what is only read is mapped for reading only";
}

TEST_F(block_test, a_block_that_is_kept_is_told_when_it_is_dropped) {
  table.introduce(granting_parent::block(1, 4096), granting_parent::memory(granting_parent::arena_size));
  table.begin_task();
  auto kept = give(1, 4096, detail::access::write);
  give(2, 4096, detail::access::write);
  table.close_task();
  const auto report = end_task();
  ASSERT_EQ(report.size(), 1U);
  EXPECT_EQ(report[0].id, 1U);
  EXPECT_EQ(report[0].flags, wire::flag_kept);
  kept.handle.data()[4095] = std::byte{1};
  kept.handle.reset();
  table.begin_task();
  table.close_task();
  EXPECT_TRUE(end_task().empty());
  EXPECT_EQ(released, std::vector<std::uint64_t>{1});
}

TEST_F(block_test, a_file_that_the_parent_has_freed_is_unmapped) {
  table.introduce(granting_parent::block(1, 4096), granting_parent::memory(granting_parent::arena_size));
  table.begin_task();
  give(1, 4096, detail::access::write).handle.data()[0] = std::byte{1};
  table.close_task();
  end_task();
  table.forget(granting_parent::arena);
  // Another file, under the id of the first: a mapping that was left would show the old byte.
  table.introduce(granting_parent::block(1, 4096), granting_parent::memory(granting_parent::arena_size));
  table.begin_task();
  EXPECT_EQ(give(1, 4096, detail::access::read).handle.data()[0], std::byte{0});
}

TEST_F(block_test, a_task_that_makes_many_arrays_asks_rarely) {
  table.begin_task();
  std::vector<shm_handle> all;
  std::set<std::byte*> places;
  for (int i = 0; i != 1000; ++i) places.insert(all.emplace_back(table.allocate(4096, 64)).data());
  EXPECT_EQ(places.size(), 1000U);
  EXPECT_EQ(parent.asked_more, (std::vector<std::size_t>{0, 1, 3, 7, 15, 31, 63, 127, 255, 511}));
}

TEST_F(block_test, it_does_not_ask_for_more_than_a_few_megabytes_ahead) {
  table.begin_task();
  std::vector<shm_handle> all;
  for (int i = 0; i != 500; ++i) all.push_back(table.allocate(shm::largest_block, 64));
  for (const std::size_t more : parent.asked_more) EXPECT_LE(more, 64U);
}

TEST_F(block_test, a_small_array_takes_no_large_block) {
  table.introduce(granting_parent::block(1, 4096), granting_parent::memory(granting_parent::arena_size));
  table.begin_task();
  table.add_lease(granting_parent::block(100, 8192));
  const shm_handle small = table.allocate(4096, 64);
  EXPECT_NE(small.get()->id(), 100U);
  EXPECT_EQ(table.allocate(8000, 64).get()->id(), 100U);
}

TEST_F(block_test, a_block_that_a_task_drops_serves_its_next_array) {
  table.begin_task();
  const std::uint64_t first = table.allocate(4096, 64).get()->id();
  EXPECT_EQ(table.allocate(4096, 64).get()->id(), first);
  EXPECT_EQ(parent.asked_more.size(), 1U);
}

// Each took a file of 68 KiB.
TEST_F(block_test, an_array_that_is_aligned_to_more_than_a_cache_line_takes_a_block_of_that_length) {
  table.begin_task();
  std::vector<shm_handle> all;
  for (const std::size_t alignment : {128U, 1024U, 4096U}) {
    for (int i = 0; i != 5; ++i) {
      all.push_back(table.allocate(100, alignment));
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(all.back().data()) % alignment, 0U);
      EXPECT_EQ(all.back().size(), alignment);
    }
  }
}

TEST_F(block_test, what_is_too_long_for_a_block_has_a_file) {
  table.begin_task();
  const shm_handle made = table.allocate(shm::largest_block + 1, 4096);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(made.data()) % 4096, 0U);
  EXPECT_EQ(made.get()->id(), parent.last) << "one, and not with others";
}

}  // namespace
}  // namespace shmpool::worker
