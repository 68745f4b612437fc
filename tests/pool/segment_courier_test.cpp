// How segments travel: a courier, a store and a channel, with the test as the worker at the other end of the socket.
#include "pool/segment_courier.hpp"

#include "loop/completion_queue.hpp"
#include "pool/worker_end.hpp"
#include "shm/mapping.hpp"
#include "shm/shm_fixture.hpp"
#include "wire/fd_passing.hpp"

#include <shmpool/error.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace shmpool::pool {
namespace {

using detail::access;
using shm::KiB;
using shm::MiB;
using shm::segment_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using wire::frame_type;

constexpr std::size_t page = shm::page_bytes;
constexpr std::uint64_t number = 77;  // of the task at the worker

/// A frame as the worker gets it.
using heard = worker_end::heard;

/// A frame as the parent reads it from a worker.
struct said {
  explicit said(frame_type type) { header.type = type; }
  wire::frame frame() {
    header.task = number;
    header.segments = static_cast<std::uint32_t>(segments.size());
    header.body = static_cast<std::uint32_t>(body.size());
    return {header, std::as_bytes(std::span(segments)), body};
  }
  said& with(std::uint64_t id, unsigned flags, std::uint64_t offset = 0, std::uint64_t length = 0) {
    wire::segment_ref ref;
    ref.id = id;
    ref.flags = static_cast<std::uint8_t>(flags);
    ref.offset = offset;
    ref.length = length;
    segments.push_back(ref);
    return *this;
  }

  wire::frame_header header;
  std::vector<wire::segment_ref> segments;
  std::vector<std::byte> body;
};

bool same_file(int a, int b) {
  struct stat first {
  }, second{};
  return ::fstat(a, &first) == 0 && ::fstat(b, &second) == 0 && first.st_dev == second.st_dev &&
         first.st_ino == second.st_ino;
}

std::uint64_t id_of(const shm_handle& handle) {
  return handle.get()->id();
}

/// True if the outcome has this error of the library's.
bool fails_with(const detail::outcome& result, errc why) {
  if (!result.error) return false;
  try {
    std::rethrow_exception(result.error);
  } catch (const std::system_error& error) {
    return error.code() == why;
  }
}

class segment_couriers : public shm::shm_fixture {
 protected:
  void TearDown() override {
    task = {};
    end.reset();
    other_end.reset();
    worker.reset();
    other.reset();
    post.reset();
    shm_fixture::TearDown();
  }

  segment_courier& open(backing where, std::size_t max_bytes = 0, std::size_t cache_bytes = 64 * MiB,
                        std::size_t arena_bytes = 0) {
    shm::store_options options;
    options.arena_bytes = arena_bytes;
    options.backing = where;
    options.max_bytes = max_bytes;
    options.cache_bytes = cache_bytes;
    post.emplace(options);
    watch(post->store().pool_id());
    return *post;
  }

  void lend(const shm_handle& handle, access mode = access::read, std::uint64_t offset = 0,
            std::uint64_t length = page) {
    task.arrays = lent_arrays({{handle, offset, length, mode}});
  }

  std::vector<heard> hears(worker_channel& channel) { return (&channel == &*worker ? end : other_end)->hears(*queue); }
  std::vector<heard> hears() { return hears(*worker); }
  /// The one frame that it gets.
  heard answer() {
    std::vector<heard> all = hears();
    EXPECT_EQ(all.size(), 1u);
    return all.empty() ? heard{} : std::move(all.front());
  }

  /// The worker asks for memory for a result, and gets it.
  shm_handle granted(std::size_t bytes) {
    post->answer_need(*worker, &task, need(bytes).frame());
    EXPECT_EQ(answer().header.type, frame_type::grant);
    return task.leases.empty() ? shm_handle() : task.leases.back();
  }
  static said need(std::size_t bytes, bool no_file_in_shm = false) {
    said in(frame_type::need);
    in.header.value = bytes;
    in.header.slot = no_file_in_shm ? 1 : 0;
    return in;
  }
  static said open_request(std::uint64_t segment) {
    said in(frame_type::open);
    in.header.value = segment;
    return in;
  }

  /// What a worker does with a granted name.
  static void make_file(const shm_handle& handle, std::size_t capacity) {
    std::error_code error;
    const unique_fd file = shm::create_named(handle.name(), capacity, error);
    ASSERT_FALSE(error) << error.message();
    ASSERT_EQ(::posix_fallocate(file.get(), 0, static_cast<off_t>(capacity)), 0);
  }

  std::unique_ptr<loop::completion_queue> queue = loop::make_completion_queue(backend::epoll);
  std::optional<segment_courier> post;
  std::optional<worker_channel> worker{std::in_place, 5}, other{std::in_place, 6};
  std::optional<worker_end> end{std::in_place, *worker}, other_end{std::in_place, *other};
  task_entry task;
};

// ---- What a task's frame says of its memory.

TEST_F(segment_couriers, a_segment_with_a_name_is_only_referred_to) {
  open(backing::posix);
  const shm_handle lent = post->store().allocate(64 * KiB, 8);
  lend(lent, access::write, page, 100);
  const auto refs = post->pack(*worker, task, {});
  ASSERT_EQ(refs.size(), 1u);
  EXPECT_EQ(refs[0].id, id_of(lent));
  EXPECT_EQ(refs[0].pool, post->store().pool_id());
  EXPECT_EQ(refs[0].capacity, segment_of(lent).capacity());
  EXPECT_EQ(refs[0].reserved, segment_of(lent).reserved());
  EXPECT_EQ(refs[0].offset, page);
  EXPECT_EQ(refs[0].length, 100u);
  EXPECT_EQ(refs[0].access, static_cast<std::uint8_t>(access::write));
  EXPECT_EQ(refs[0].flags, 0);
  EXPECT_TRUE(hears().empty());
}

TEST_F(segment_couriers, a_memfd_is_introduced_once_to_each_worker_and_named_afterwards) {
  open(backing::memfd);
  const shm_handle lent = post->store().allocate(64 * KiB, 8);
  lend(lent);
  for (worker_channel* const to : {&*worker, &*other}) {
    const auto refs = post->pack(*to, task, {});
    ASSERT_EQ(refs.size(), 1u);
    EXPECT_EQ(refs[0].flags, wire::flag_memfd);
    const auto introduced = hears(*to);
    ASSERT_EQ(introduced.size(), 1u);
    EXPECT_EQ(introduced[0].header.type, frame_type::segment);
    ASSERT_EQ(introduced[0].segments.size(), 1u);
    EXPECT_EQ(introduced[0].segments[0].id, id_of(lent));
    EXPECT_EQ(introduced[0].segments[0].flags, wire::flag_memfd | wire::flag_with_fd);
    EXPECT_TRUE(same_file(introduced[0].descriptor.get(), segment_of(lent).descriptor()));

    const auto again = post->pack(*to, task, {});
    ASSERT_EQ(again.size(), 1u);
    EXPECT_EQ(again[0].flags, wire::flag_memfd);
    EXPECT_TRUE(hears(*to).empty());
  }
}

TEST_F(segment_couriers, a_memfd_that_a_task_has_twice_is_introduced_once) {
  open(backing::memfd);
  const shm_handle lent = post->store().allocate(64 * KiB, 8);
  task.arrays = lent_arrays({{lent, 0, 100, access::read}, {lent, page, 100, access::write}});
  EXPECT_EQ(post->pack(*worker, task, {}).size(), 2u);
  EXPECT_EQ(hears().size(), 1u);
}

TEST_F(segment_couriers, memory_as_the_last_run_has_used_is_leased_in_advance_where_it_is_warm) {
  open(backing::posix);
  const std::vector<std::size_t> sizes{64 * KiB, 256 * KiB};
  EXPECT_TRUE(post->pack(*worker, task, sizes).empty()) << "none is warm";
  EXPECT_TRUE(task.leases.empty());
  const std::uint64_t warm = id_of(post->store().allocate(256 * KiB, 8));
  const auto refs = post->pack(*worker, task, sizes);
  ASSERT_EQ(refs.size(), 1u);
  EXPECT_EQ(refs[0].id, warm);
  EXPECT_EQ(refs[0].offset, 0u);
  EXPECT_EQ(refs[0].length, 256 * KiB);
  EXPECT_EQ(refs[0].access, static_cast<std::uint8_t>(access::lease));
  ASSERT_EQ(task.leases.size(), 1u);
  EXPECT_EQ(id_of(task.leases[0]), warm);
}

// A hint for which worker to give what next. It was set only when a worker got a segment for the second time, once.
TEST_F(segment_couriers, what_a_worker_is_given_counts_as_mapped_there) {
  open(backing::posix);
  const shm_handle lent = post->store().allocate(64 * KiB, 8);
  lend(lent);
  EXPECT_FALSE(segment_of(lent).maybe_mapped_by(worker->id));
  post->pack(*worker, task, {});
  EXPECT_TRUE(segment_of(lent).maybe_mapped_by(worker->id));
  EXPECT_FALSE(segment_of(lent).maybe_mapped_by(other->id));
}

// ---- Answers to a worker that needs memory.

TEST_F(segment_couriers, a_worker_that_needs_memory_is_granted_a_name_for_it) {
  open(backing::posix);
  post->answer_need(*worker, &task, need(100 * KiB).frame());
  EXPECT_TRUE(worker->answer_waits);
  ASSERT_EQ(task.leases.size(), 1u);
  const heard grant = answer();
  EXPECT_FALSE(worker->answer_waits) << "it may have read the answer";
  EXPECT_EQ(grant.header.type, frame_type::grant);
  EXPECT_EQ(grant.header.task, number);
  ASSERT_EQ(grant.segments.size(), 1u);
  EXPECT_EQ(grant.segments[0].id, id_of(task.leases[0]));
  EXPECT_EQ(grant.segments[0].pool, post->store().pool_id());
  EXPECT_EQ(grant.segments[0].length, 100 * KiB);
  EXPECT_EQ(grant.segments[0].access, static_cast<std::uint8_t>(access::lease));
  EXPECT_EQ(grant.segments[0].flags, wire::flag_fresh);
  EXPECT_FALSE(segment_of(task.leases[0]).created());
}

TEST_F(segment_couriers, a_grant_of_warm_memory_asks_for_no_new_file) {
  open(backing::posix);
  const std::uint64_t warm = id_of(post->store().allocate(100 * KiB, 8));
  post->answer_need(*worker, &task, need(100 * KiB).frame());
  const heard grant = answer();
  ASSERT_EQ(grant.segments.size(), 1u);
  EXPECT_EQ(grant.segments[0].id, warm);
  EXPECT_EQ(grant.segments[0].flags, 0);
}

TEST_F(segment_couriers, a_granted_memfd_comes_with_its_descriptor) {
  open(backing::memfd);
  post->answer_need(*worker, &task, need(100 * KiB).frame());
  const heard grant = answer();
  EXPECT_EQ(grant.header.type, frame_type::grant);
  EXPECT_EQ(grant.header.task, number);
  ASSERT_EQ(grant.segments.size(), 1u);
  EXPECT_EQ(grant.segments[0].flags, wire::flag_memfd | wire::flag_with_fd);
  ASSERT_EQ(task.leases.size(), 1u);
  EXPECT_TRUE(same_file(grant.descriptor.get(), segment_of(task.leases[0]).descriptor()));
}

TEST_F(segment_couriers, a_granted_memfd_is_not_introduced_once_more) {
  open(backing::memfd);
  const shm_handle lease = granted(100 * KiB);
  task.leases.clear();
  lend(lease);
  EXPECT_EQ(post->pack(*worker, task, {}).size(), 1u);
  EXPECT_TRUE(hears().empty());
}

TEST_F(segment_couriers, a_worker_that_can_make_no_file_is_given_memory_that_is_there) {
  open(backing::automatic);
  post->answer_need(*worker, &task, need(100 * KiB, true).frame());
  const heard grant = answer();
  ASSERT_EQ(grant.segments.size(), 1u);
  EXPECT_EQ(grant.segments[0].flags & wire::flag_fresh, 0);
  EXPECT_TRUE(grant.descriptor);
}

// ---- Blocks of arenas.

TEST_F(segment_couriers, a_worker_that_welcomes_more_small_segments_gets_those_that_are_there) {
  open(backing::posix, 0, 64 * MiB, shm::largest_block);
  said in = need(4 * KiB);
  in.header.slot = 2 * 5;
  post->answer_need(*worker, &task, in.frame());
  const heard grant = answer();
  ASSERT_EQ(grant.segments.size(), 4u) << "so many lie in the first arena";
  ASSERT_EQ(task.leases.size(), 4u);
  for (std::size_t i = 0; i != 4; ++i) {
    const wire::segment_ref& each = grant.segments[i];
    EXPECT_EQ(each.id, id_of(task.leases[i]));
    EXPECT_EQ(each.file, segment_of(task.leases[i]).id());
    EXPECT_EQ(each.capacity, 16 * KiB);
    EXPECT_EQ(each.reserved, 4 * KiB);
    EXPECT_EQ(each.place, i * 4 * KiB);
    EXPECT_EQ(each.length, 4 * KiB);
    EXPECT_EQ(each.flags, 0);
  }
  in.header.slot = 2 * 1;
  post->answer_need(*worker, &task, in.frame());
  EXPECT_EQ(answer().segments.size(), 2u);
  EXPECT_TRUE(segment_of(task.leases[0]).maybe_mapped_by(worker->id));
}

TEST_F(segment_couriers, the_descriptor_of_an_arena_is_passed_once) {
  open(backing::memfd, 0, 64 * MiB, shm::largest_block);
  said in = need(4 * KiB);
  in.header.slot = 2 * 5;
  post->answer_need(*worker, &task, in.frame());
  heard grant = answer();
  ASSERT_EQ(grant.segments.size(), 1u) << "it comes with a descriptor";
  EXPECT_EQ(grant.segments[0].flags, wire::flag_memfd | wire::flag_with_fd);
  EXPECT_TRUE(same_file(grant.descriptor.get(), segment_of(task.leases[0]).descriptor()));
  post->answer_need(*worker, &task, in.frame());
  grant = answer();
  ASSERT_EQ(grant.segments.size(), 3u);
  for (const wire::segment_ref& each : grant.segments) EXPECT_EQ(each.flags, wire::flag_memfd);
}

TEST_F(segment_couriers, a_result_in_a_block_is_taken_in_as_it_is) {
  open(backing::posix, 0, 64 * MiB, shm::largest_block);
  const shm_handle lease = granted(4 * KiB);
  said result(frame_type::value);
  result.with(id_of(lease), wire::flag_result, 64, 1000);
  detail::outcome taken;
  std::vector<std::size_t> used;
  ASSERT_EQ(post->take_account(*worker, &task, result.frame()), nullptr);
  ASSERT_EQ(post->take_result(result.frame(), taken, used), nullptr);
  ASSERT_EQ(taken.attachments.size(), 1u);
  EXPECT_EQ(taken.attachments[0].handle, lease);
  EXPECT_EQ(used, std::vector<std::size_t>{1064});
}

TEST_F(segment_couriers, a_result_beyond_its_block_is_refused) {
  open(backing::posix, 0, 64 * MiB, shm::largest_block);
  const shm_handle lease = granted(4 * KiB);
  for (const auto& [offset, length] : {std::pair{0UL, 4 * KiB + 1}, {4 * KiB, 1UL}, {std::size_t{1}, ~0UL}}) {
    said result(frame_type::value);
    result.with(id_of(lease), wire::flag_result, offset, length);
    detail::outcome taken;
    std::vector<std::size_t> used;
    ASSERT_EQ(post->take_account(*worker, &task, result.frame()), nullptr);
    EXPECT_NE(post->take_result(result.frame(), taken, used), nullptr);
  }
  said whole_file(frame_type::value);
  whole_file.with(segment_of(lease).id(), wire::flag_result, 0, 10);
  detail::outcome taken;
  std::vector<std::size_t> used;
  ASSERT_EQ(post->take_account(*worker, &task, whole_file.frame()), nullptr);
  EXPECT_NE(post->take_result(whole_file.frame(), taken, used), nullptr) << "the file is nobody's to return";
}

TEST_F(segment_couriers, an_initializer_gets_memory_too) {
  open(backing::posix);
  said in = need(100 * KiB);
  wire::frame asked = in.frame();
  asked.header.task = 0;
  post->answer_need(*worker, nullptr, asked);
  const heard grant = answer();
  EXPECT_EQ(grant.header.type, frame_type::grant);
  EXPECT_EQ(grant.header.task, 0u);
  ASSERT_EQ(worker->initializer_leases.size(), 1u);
  ASSERT_EQ(grant.segments.size(), 1u);
  EXPECT_EQ(grant.segments[0].id, id_of(worker->initializer_leases[0]));
}

TEST_F(segment_couriers, a_worker_hears_why_there_is_no_memory_in_the_budget) {
  open(backing::posix, 1 * MiB);
  post->answer_need(*worker, &task, need(2 * MiB).frame());
  EXPECT_TRUE(worker->answer_waits);
  const heard refusal = answer();
  EXPECT_EQ(refusal.header.type, frame_type::refuse);
  EXPECT_EQ(refusal.header.task, number);
  EXPECT_EQ(refusal.header.value, static_cast<std::uint64_t>(errc::shm_exhausted));
  EXPECT_THAT(refusal.text(), HasSubstr("pool_options::max_shm_bytes = 1048576"));
  EXPECT_TRUE(task.leases.empty());
  EXPECT_EQ(post->store().stats().live_segments, 0u);
}

TEST_F(segment_couriers, a_worker_hears_that_the_pool_is_closed) {
  open(backing::posix).store().close();
  post->answer_need(*worker, &task, need(100 * KiB).frame());
  const heard refusal = answer();
  EXPECT_EQ(refusal.header.type, frame_type::refuse);
  EXPECT_EQ(refusal.header.value, static_cast<std::uint64_t>(errc::pool_closed));
  EXPECT_TRUE(task.leases.empty());
}

TEST_F(segment_couriers, a_task_has_at_most_131072_segments_of_its_own) {
  open(backing::memfd);
  const shm_handle any = post->store().allocate(page, 8);
  task.leases.assign(131'071, any);
  EXPECT_NE(granted(page), any);
  ASSERT_EQ(task.leases.size(), 131'072u);
  post->answer_need(*worker, &task, need(page).frame());
  const heard refusal = answer();
  EXPECT_EQ(refusal.header.type, frame_type::refuse);
  EXPECT_EQ(refusal.header.value, static_cast<std::uint64_t>(errc::shm_exhausted));
  EXPECT_THAT(refusal.text(), HasSubstr("131072 segments"));
  EXPECT_EQ(task.leases.size(), 131'072u);
}

// ---- Answers to a worker that cannot open a segment.

TEST_F(segment_couriers, a_descriptor_goes_to_who_was_given_the_segment_in_any_way) {
  open(backing::posix);
  const auto make = [this] { return post->store().allocate(64 * KiB, 8); };
  const shm_handle lent = make(), leased = make(), kept = make(), of_initializer = make();
  lend(lent);
  task.leases.push_back(leased);
  worker->kept[id_of(kept)] = {kept, false};
  worker->initializer_leases.push_back(of_initializer);
  const auto is_given = [&](const shm_handle& handle, task_entry* of) {
    ASSERT_EQ(post->answer_open(*worker, of, open_request(id_of(handle)).frame()), nullptr);
    EXPECT_TRUE(worker->answer_waits);
    const heard grant = answer();
    EXPECT_EQ(grant.header.type, frame_type::grant);
    EXPECT_EQ(grant.header.task, number);
    ASSERT_EQ(grant.segments.size(), 1u);
    EXPECT_EQ(grant.segments[0].id, id_of(handle));
    int descriptor = -1;
    ASSERT_FALSE(segment_of(handle).find_descriptor(descriptor));
    EXPECT_TRUE(same_file(grant.descriptor.get(), descriptor));
  };
  is_given(lent, &task);
  is_given(leased, &task);
  is_given(kept, &task);
  is_given(kept, nullptr);
  is_given(of_initializer, nullptr);
}

TEST_F(segment_couriers, no_descriptor_goes_to_who_was_not_given_the_segment) {
  open(backing::posix);
  const shm_handle lent = post->store().allocate(64 * KiB, 8), secret = post->store().allocate(64 * KiB, 8);
  lend(lent);
  other->kept[id_of(secret)] = {secret, true};
  EXPECT_STREQ(post->answer_open(*worker, &task, open_request(id_of(secret)).frame()),
               "request for a segment that it was not given");
  EXPECT_NE(post->answer_open(*worker, nullptr, open_request(id_of(lent)).frame()), nullptr) << "it is a task's";
  EXPECT_FALSE(worker->answer_waits);
  EXPECT_TRUE(hears().empty());
}

TEST_F(segment_couriers, a_worker_hears_why_there_is_no_descriptor) {
  open(backing::posix);
  const shm_handle lease = granted(100 * KiB);  // and makes no file
  ASSERT_EQ(post->answer_open(*worker, &task, open_request(id_of(lease)).frame()), nullptr);
  EXPECT_TRUE(worker->answer_waits);
  const heard refusal = answer();
  EXPECT_EQ(refusal.header.type, frame_type::refuse);
  EXPECT_EQ(refusal.header.value, static_cast<std::uint64_t>(errc::shm_exhausted));
  EXPECT_THAT(refusal.text(), HasSubstr("open: "));
}

// ---- What a worker says of its memory.

TEST_F(segment_couriers, a_file_that_the_worker_has_made_is_known_to_exist) {
  open(backing::posix);
  const shm_handle lease = granted(100 * KiB);
  make_file(lease, segment_of(lease).capacity());
  ASSERT_FALSE(segment_of(lease).created());
  EXPECT_EQ(post->take_account(*worker, &task, said(frame_type::value).with(id_of(lease), wire::flag_created).frame()),
            nullptr);
  EXPECT_TRUE(segment_of(lease).created());
  EXPECT_TRUE(segment_of(lease).maybe_mapped_by(worker->id));
  EXPECT_TRUE(worker->kept.empty());
}

TEST_F(segment_couriers, what_a_worker_keeps_is_held_with_the_right_that_it_was_given_for) {
  open(backing::memfd);
  const shm_handle looked_at = post->store().allocate(64 * KiB, 8), written = post->store().allocate(64 * KiB, 8);
  task.arrays = lent_arrays({{looked_at, 0, page, access::read}, {written, 0, page, access::write}});
  const shm_handle lease = granted(64 * KiB);
  said in(frame_type::value);
  for (const shm_handle& each : {looked_at, written, lease}) in.with(id_of(each), wire::flag_kept);
  ASSERT_EQ(post->take_account(*worker, &task, in.frame()), nullptr);
  ASSERT_EQ(worker->kept.size(), 3u);
  EXPECT_FALSE(worker->kept.at(id_of(looked_at)).writable);
  EXPECT_TRUE(worker->kept.at(id_of(written)).writable);
  EXPECT_TRUE(worker->kept.at(id_of(lease)).writable);
  EXPECT_EQ(worker->kept.at(id_of(lease)).handle, lease);
}

TEST_F(segment_couriers, an_account_of_memory_that_was_not_given_changes_nothing) {
  open(backing::memfd);
  const shm_handle lent = post->store().allocate(64 * KiB, 8), secret = post->store().allocate(64 * KiB, 8);
  lend(lent);
  said in(frame_type::value);
  in.with(id_of(lent), wire::flag_kept).with(id_of(secret), wire::flag_kept);
  EXPECT_NE(post->take_account(*worker, &task, in.frame()), nullptr);
  EXPECT_TRUE(worker->kept.empty());
}

TEST_F(segment_couriers, what_a_worker_has_released_is_held_no_more) {
  open(backing::memfd);
  const shm_handle first = post->store().allocate(64 * KiB, 8), second = post->store().allocate(64 * KiB, 8);
  worker->kept[id_of(first)] = {first, false};
  worker->kept[id_of(second)] = {second, false};
  said in(frame_type::released);
  const std::uint64_t ids[] = {id_of(first), 123'456'789};  // the second is nobody's
  in.body.assign(std::as_bytes(std::span(ids)).begin(), std::as_bytes(std::span(ids)).end());
  segment_courier::take_released(*worker, in.frame());
  EXPECT_EQ(first.use_count(), 1);
  ASSERT_EQ(worker->kept.size(), 1u);
  EXPECT_TRUE(worker->kept.contains(id_of(second)));
}

// ---- Results.

TEST_F(segment_couriers, a_result_in_a_file_of_the_worker_is_taken_in) {
  open(backing::posix);
  const shm_handle lease = granted(100 * KiB);
  make_file(lease, segment_of(lease).capacity());
  said in(frame_type::value);
  in.with(id_of(lease), wire::flag_result, 64, 1000).with(id_of(lease), wire::flag_created);
  ASSERT_EQ(post->take_account(*worker, &task, in.frame()), nullptr);
  detail::outcome result;
  std::vector<std::size_t> used;
  ASSERT_EQ(post->take_result(in.frame(), result, used), nullptr);
  EXPECT_FALSE(result.error);
  ASSERT_EQ(result.attachments.size(), 1u);
  EXPECT_EQ(result.attachments[0].handle, lease);
  EXPECT_EQ(result.attachments[0].offset, 64u);
  EXPECT_EQ(result.attachments[0].length, 1000u);
  EXPECT_EQ(result.attachments[0].mode, access::own);
  EXPECT_THAT(used, ElementsAre(1064u));
  ASSERT_NE(lease.data(), nullptr) << "it is mapped here";
  EXPECT_EQ(lease.data()[1063], std::byte{0});
}

TEST_F(segment_couriers, a_result_is_as_writable_as_what_it_is_a_part_of) {
  open(backing::memfd);
  const shm_handle looked_at = post->store().allocate(64 * KiB, 8), written = post->store().allocate(64 * KiB, 8);
  task.arrays = lent_arrays({{looked_at, 0, page, access::read}, {written, 0, page, access::write}});
  said in(frame_type::value);
  in.with(id_of(written), wire::flag_result, 0, 8).with(id_of(looked_at), wire::flag_result, 8, 16);
  ASSERT_EQ(post->take_account(*worker, &task, in.frame()), nullptr);
  detail::outcome result;
  std::vector<std::size_t> used;
  ASSERT_EQ(post->take_result(in.frame(), result, used), nullptr);
  ASSERT_EQ(result.attachments.size(), 2u);
  EXPECT_EQ(result.attachments[0].handle, written);
  EXPECT_EQ(result.attachments[0].mode, access::own);
  EXPECT_EQ(result.attachments[1].handle, looked_at);
  EXPECT_EQ(result.attachments[1].mode, access::read);
  EXPECT_TRUE(used.empty()) << "no lease was needed";
}

TEST_F(segment_couriers, a_result_may_be_in_what_was_kept_from_an_earlier_task) {
  open(backing::memfd);
  const shm_handle seen = post->store().allocate(64 * KiB, 8), owned = post->store().allocate(64 * KiB, 8);
  worker->kept[id_of(seen)] = {seen, false};
  worker->kept[id_of(owned)] = {owned, true};
  said in(frame_type::value);
  in.with(id_of(seen), wire::flag_result, page, 8).with(id_of(owned), wire::flag_result, 0, 8);
  ASSERT_EQ(post->take_account(*worker, &task, in.frame()), nullptr);
  detail::outcome result;
  std::vector<std::size_t> used;
  ASSERT_EQ(post->take_result(in.frame(), result, used), nullptr);
  ASSERT_EQ(result.attachments.size(), 2u);
  EXPECT_EQ(result.attachments[0].mode, access::read);
  EXPECT_EQ(result.attachments[1].mode, access::own);
}

TEST_F(segment_couriers, a_result_may_be_in_what_is_kept_by_the_same_frame) {
  open(backing::memfd);
  const shm_handle lent = post->store().allocate(64 * KiB, 8);
  lend(lent, access::read, 0, page);
  said in(frame_type::value);
  in.with(id_of(lent), wire::flag_result, 0, 8).with(id_of(lent), wire::flag_kept);
  ASSERT_EQ(post->take_account(*worker, &task, in.frame()), nullptr);
  detail::outcome result;
  std::vector<std::size_t> used;
  ASSERT_EQ(post->take_result(in.frame(), result, used), nullptr);
  ASSERT_EQ(result.attachments.size(), 1u);
  EXPECT_EQ(result.attachments[0].mode, access::read);
  EXPECT_TRUE(worker->kept.contains(id_of(lent)));
}

TEST_F(segment_couriers, a_result_outside_of_what_was_lent_makes_no_sense) {
  open(backing::memfd);
  const shm_handle lent = post->store().allocate(64 * KiB, 8);
  lend(lent, access::write, page, page);
  for (const auto& [offset, length] :
       {std::pair{std::uint64_t{0}, std::uint64_t{8}}, std::pair{std::uint64_t{page}, std::uint64_t{page + 1}}}) {
    said in(frame_type::value);
    in.with(id_of(lent), wire::flag_result, offset, length);
    ASSERT_EQ(post->take_account(*worker, &task, in.frame()), nullptr);
    detail::outcome result;
    std::vector<std::size_t> used;
    EXPECT_NE(post->take_result(in.frame(), result, used), nullptr);
    EXPECT_TRUE(result.attachments.empty());
  }
}

TEST_F(segment_couriers, a_result_in_a_file_that_nobody_has_made_makes_no_sense) {
  open(backing::posix);
  const shm_handle lease = granted(100 * KiB);
  said in(frame_type::value);
  in.with(id_of(lease), wire::flag_result, 0, 8);
  ASSERT_EQ(post->take_account(*worker, &task, in.frame()), nullptr);
  detail::outcome result;
  std::vector<std::size_t> used;
  EXPECT_NE(post->take_result(in.frame(), result, used), nullptr);
}

TEST_F(segment_couriers, a_result_in_a_file_that_is_too_short_makes_no_sense) {
  open(backing::posix);
  const shm_handle lease = granted(100 * KiB);
  make_file(lease, page);
  said in(frame_type::value);
  in.with(id_of(lease), wire::flag_result, 0, 8).with(id_of(lease), wire::flag_created);
  ASSERT_EQ(post->take_account(*worker, &task, in.frame()), nullptr);
  detail::outcome result;
  std::vector<std::size_t> used;
  EXPECT_STREQ(post->take_result(in.frame(), result, used), "result in a file that cannot be mapped");
}

TEST_F(segment_couriers, a_result_whose_name_somebody_has_removed_is_an_error_and_nobodys_fault) {
  open(backing::posix);
  const shm_handle lease = granted(100 * KiB), second = granted(64 * KiB);
  make_file(second, segment_of(second).capacity());
  said in(frame_type::value);
  in.with(id_of(second), wire::flag_result, 0, 16).with(id_of(lease), wire::flag_result, 0, 8);
  in.with(id_of(second), wire::flag_created).with(id_of(lease), wire::flag_created);
  ASSERT_EQ(post->take_account(*worker, &task, in.frame()), nullptr);
  detail::outcome result;
  std::vector<std::size_t> used;
  EXPECT_EQ(post->take_result(in.frame(), result, used), nullptr);
  EXPECT_TRUE(fails_with(result, errc::shm_exhausted));
  EXPECT_TRUE(result.attachments.empty()) << "half a result is none";
  EXPECT_THAT(used, ElementsAre(16u, 8u)) << "the next run needs as much";
}

TEST_F(segment_couriers, at_most_64_sizes_of_a_result_are_remembered) {
  open(backing::memfd);
  const shm_handle lease = granted(100 * KiB);
  said in(frame_type::value);
  for (std::uint64_t i = 0; i != 65; ++i) in.with(id_of(lease), wire::flag_result, 8 * i, 8);
  ASSERT_EQ(post->take_account(*worker, &task, in.frame()), nullptr);
  detail::outcome result;
  std::vector<std::size_t> used;
  ASSERT_EQ(post->take_result(in.frame(), result, used), nullptr);
  EXPECT_EQ(result.attachments.size(), 65u);
  EXPECT_EQ(used.size(), 64u);
}

// ---- What is gone.

TEST_F(segment_couriers, a_worker_is_told_once_of_what_is_gone_if_it_knew_it) {
  open(backing::posix);
  shm_handle known = post->store().allocate(64 * KiB, 8), unknown = post->store().allocate(64 * KiB, 8);
  lend(known);
  post->pack(*worker, task, {});
  const std::vector<std::uint64_t> gone{id_of(unknown), id_of(known)};
  segment_courier::tell_freed(*worker, gone);
  const heard told = answer();
  EXPECT_EQ(told.header.type, frame_type::unmap);
  ASSERT_EQ(told.body.size(), sizeof(std::uint64_t));
  std::uint64_t id = 0;
  std::memcpy(&id, told.body.data(), sizeof id);
  EXPECT_EQ(id, id_of(known));

  segment_courier::tell_freed(*worker, gone);
  EXPECT_TRUE(hears().empty());
  segment_courier::tell_freed(*other, gone);
  EXPECT_TRUE(hears(*other).empty());
}

TEST_F(segment_couriers, what_the_store_frees_is_heard_of_once) {
  open(backing::posix, 0, 0);  // no cache
  shm_handle handle = post->store().allocate(64 * KiB, 8);
  const std::uint64_t id = id_of(handle);
  EXPECT_TRUE(post->take_freed().empty());
  handle.reset();
  EXPECT_THAT(post->take_freed(), ElementsAre(id));
  EXPECT_TRUE(post->take_freed().empty());
}

TEST_F(segment_couriers, what_another_pool_frees_is_heard_of_if_a_worker_was_given_it) {
  open(backing::posix);
  const auto others = open_without_cache();
  shm_handle given = others->allocate(64 * KiB, 8), not_yet = others->allocate(64 * KiB, 8);
  not_yet.reset();
  lend(given);
  const auto refs = post->pack(*worker, task, {});
  ASSERT_EQ(refs.size(), 1u);
  EXPECT_EQ(refs[0].pool, others->pool_id());
  const std::uint64_t id = id_of(given);
  task.arrays.clear();
  given.reset();
  EXPECT_THAT(post->take_freed(), ElementsAre(id));
}

}  // namespace
}  // namespace shmpool::pool
