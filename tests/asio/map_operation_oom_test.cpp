// A map while memory runs out: each allocation of its beginning, and of a turn in which chunks come back, fails once.
// Among them is the one with which the wait for the descriptor begins. Replaces operator new, and aligned_alloc, with
// which Asio makes its operations.
#include "asio/map_fixture.hpp"
#include "support/failing_new.hpp"

#include <asio.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

extern "C" [[gnu::noinline]] void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  using namespace shmpool::testing;
  if (allocations_left != unlimited && allocations_left-- <= 0) {
    allocations_left = unlimited;
    allocation_failed = true;
    return nullptr;
  }
  void* memory = nullptr;
  return ::posix_memalign(&memory, std::max(alignment, sizeof(void*)), size) == 0 ? memory : nullptr;
}

namespace shmpool {
namespace {

using namespace std::chrono_literals;
using namespace shmpool::testing;
using detail::flush_hint;
using shmpool::testing::allocation_failed;
using shmpool::testing::allocations_left;
using shmpool::testing::unlimited;

int twice(int x) {
  return 2 * x;
}

/// Where the permits of the chunks come from.
enum class room { no_bound, at_once, later };

struct kind_of_room {
  const char* name;
  room from;
};

class maps_without_memory : public map_fixture, public ::testing::WithParamInterface<kind_of_room> {
 protected:
  static constexpr int elements = 5;

  /// A pool that has done nothing yet, and a map that has not begun.
  void begin_anew() {
    pool.reset();
    context.emplace();
    engine = std::make_shared<fake_engine>();
    pool = detail::pool_driver::make(context->get_executor(), engine);
    engine->has_bound = GetParam().from != room::no_bound;
    engine->permit = GetParam().from == room::at_once ? 5 : 0;
    engine->run_time = 1ms;  // one element in each chunk
    got = {};
    granted = 0;
    thrown = 0;
    allocation_failed = false;
  }
  void begin_map() {
    auto token = std::make_shared<int>(1);
    alive = token;
    auto handler = [mine = std::move(token), tell = got.handler()](std::exception_ptr error, std::vector<int> values) {
      tell(error, std::move(values));
    };
    auto range = numbers(elements);
    try {
      allocations_left = fails_at;
      map(std::move(handler), &twice, std::move(range));
    } catch (const std::bad_alloc&) {
      ++thrown;
    }
    allocations_left = unlimited;
  }
  /// Does what the engine has to do until nobody waits any more.
  void serve() {
    for (int turns = 0; turns != 100; ++turns) {
      if (!waits()) return;
      if (engine->waiting_count() == 0) break;
      turn([&] { bring_one_back(); });
    }
    ADD_FAILURE() << "it hangs after allocation " << fails_at << " has failed";
  }
  void expect_nothing_left() {
    EXPECT_EQ(got.calls + thrown, 1) << "allocation " << fails_at;
    EXPECT_TRUE(alive.expired()) << "allocation " << fails_at;
    EXPECT_EQ(engine->waiting_count(), 0U) << "allocation " << fails_at;
    if (got.error) {
      EXPECT_TRUE(got.failed_with<std::bad_alloc>()) << "allocation " << fails_at;
    } else if (thrown == 0) {
      EXPECT_EQ(got.values.size(), 5U) << "allocation " << fails_at;
    }
    switch (GetParam().from) {
      case room::no_bound: EXPECT_EQ(releases(), 0); break;
      case room::at_once: {
        const auto used = static_cast<std::ptrdiff_t>(engine->count("submit to 5"));
        EXPECT_EQ(used + releases_of(5), given_at_once()) << "allocation " << fails_at;
        break;
      }
      case room::later:
        for (int i = 0; i != granted; ++i) {
          const auto number = 100 + static_cast<std::uint64_t>(i);
          EXPECT_EQ(engine->count("submit to " + std::to_string(number)) + releases_of(number), 1)
              << "permit " << i << ", allocation " << fails_at;
        }
    }
  }
  void bring_one_back() {
    if (engine->task_count() != 0) engine->do_task();
    else engine->grant(100 + static_cast<std::uint64_t>(granted++));
  }
  template <class Happening>
  void fail_each_in_a_turn(Happening happening) {
    int ended_with_error = 0;
    for (int at = 0; at != 200; ++at) {
      fails_at = unlimited;
      begin_anew();
      begin_map();
      fails_at = at;
      try {
        turn([&] {
          happening();
          // Asio keeps the memory of what has run for what comes next.
          for (int i = 0; i != 4; ++i) asio::post(io(), [] {});
          allocations_left = at;
        });
      } catch (const std::bad_alloc&) {
        // The driver could not go on to wait for the other chunk. It begins anew with the next call.
        allocations_left = unlimited;
        pool->react(flush_hint::none);
        engine->ring();
      }
      allocations_left = unlimited;
      const bool failed = allocation_failed;
      serve();
      expect_nothing_left();
      ended_with_error += got.error != nullptr;
      if (!failed || HasFailure()) break;
    }
    EXPECT_GT(ended_with_error, 0);
  }
  std::ptrdiff_t given_at_once() const { return engine->count("acquire"); }

  int fails_at = 0;
  int granted = 0;
  int thrown = 0;
  std::weak_ptr<int> alive;
};

TEST_P(maps_without_memory, end_once_and_keep_no_permit_when_it_fails_at_their_beginning) {
  int ended_with_error = 0;
  for (fails_at = 0; fails_at != 200; ++fails_at) {
    begin_anew();
    begin_map();
    const bool failed = allocation_failed;
    serve();
    expect_nothing_left();
    ended_with_error += got.error != nullptr;
    if (!failed || HasFailure()) break;
  }
  EXPECT_LT(fails_at, 200);
  EXPECT_GT(ended_with_error, 0);
}

TEST_P(maps_without_memory, end_once_and_keep_no_permit_when_it_fails_as_a_chunk_comes_back) {
  fail_each_in_a_turn([&] { bring_one_back(); });
}

// Nobody waits for anything then, so that the next chunk begins the wait for the descriptor anew.
TEST_P(maps_without_memory, end_once_and_keep_no_permit_when_it_fails_as_all_chunks_come_back) {
  fail_each_in_a_turn([&] {
    while (engine->waiting_count() != 0) bring_one_back();
  });
}

INSTANTIATE_TEST_SUITE_P(each, maps_without_memory,
                         ::testing::Values(kind_of_room{"without_a_bound", room::no_bound},
                                           kind_of_room{"with_permits_at_once", room::at_once},
                                           kind_of_room{"with_permits_later", room::later}),
                         [](const auto& instance) { return std::string(instance.param.name); });

}  // namespace
}  // namespace shmpool
