// Which workers a turn of the loop looks at.
#include "pool/roster.hpp"

#include "pool/task_entry.hpp"
#include "pool/worker_channel.hpp"
#include "wire/frame.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <deque>
#include <new>
#include <vector>

namespace shmpool::pool {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

using numbers = std::vector<std::uint32_t>;

class worker_roster : public ::testing::Test {
 protected:
  worker_channel& add() {
    worker_channel& worker = workers.emplace_back(static_cast<std::uint32_t>(workers.size() + 1));
    known.add(worker);
    return worker;
  }
  static void queue_frame(worker_channel& worker) { worker.queue_frame(wire::frame_header{}, {}, {}); }
  void give_task(worker_channel& worker) {
    worker.take_slot(task);
    known.is_busy(worker);
  }

  numbers outgoing() {
    numbers all;
    known.each_outgoing([&](worker_channel& each) { all.push_back(each.id); });
    return all;
  }
  numbers busy(bool all_of_them) {
    numbers all;
    known.each_busy(all_of_them, [&](worker_channel& each) { all.push_back(each.id); });
    return all;
  }
  numbers polled() {
    numbers all;
    known.each_polled([&](worker_channel& each) { all.push_back(each.id); });
    return all;
  }
  numbers due(roster::time_point now) {
    numbers all;
    known.each_due(now, [&](worker_channel& each) {
      all.push_back(each.id);
      (void)each.retries.is_due(now);
    });
    return all;
  }
  /// A transfer fails and is due again at `when`.
  static void fail(worker_channel& worker, roster::time_point when) {
    worker.retries.failed("send", ENOMEM, when - transfer_retries::pause);
  }
  void retry_at(worker_channel& worker, roster::time_point when) {
    fail(worker, when);
    known.note_due(worker);
  }

  static constexpr roster::time_point start{1h};
  roster known;
  std::deque<worker_channel> workers;
  task_entry task;
};

TEST_F(worker_roster, gives_the_lowest_free_place) {
  EXPECT_EQ(add().place, 0U);
  EXPECT_EQ(add().place, 1U);
  EXPECT_EQ(add().place, 2U);
  known.remove(workers[1]);
  EXPECT_EQ(add().place, 1U);
  EXPECT_EQ(add().place, 3U);
}

// ---- Frames.

TEST_F(worker_roster, knows_who_has_queued_frames_once_and_in_order) {
  add(), add(), add();
  queue_frame(workers[2]);
  queue_frame(workers[0]);
  queue_frame(workers[2]);
  EXPECT_THAT(outgoing(), ElementsAre(3, 1));
  EXPECT_THAT(outgoing(), IsEmpty());
  queue_frame(workers[2]);
  EXPECT_THAT(outgoing(), ElementsAre(3));
}

TEST_F(worker_roster, keeps_for_the_next_call_what_is_queued_during_a_visit) {
  add(), add();
  queue_frame(workers[0]);
  known.each_outgoing([&](worker_channel&) {
    queue_frame(workers[0]);
    queue_frame(workers[1]);
  });
  EXPECT_THAT(outgoing(), ElementsAre(1, 2));
}

TEST_F(worker_roster, keeps_those_that_were_not_visited_as_a_visit_threw) {
  add(), add(), add();
  for (worker_channel& each : workers) queue_frame(each);
  EXPECT_THROW(known.each_outgoing([](worker_channel& each) {
    if (each.id == 2) throw std::bad_alloc();
  }),
               std::bad_alloc);
  EXPECT_THAT(outgoing(), ElementsAre(3));
}

TEST_F(worker_roster, visits_nobody_who_was_removed_even_during_the_visits) {
  add(), add(), add();
  for (worker_channel& each : workers) queue_frame(each);
  known.remove(workers[0]);
  numbers seen;
  known.each_outgoing([&](worker_channel& each) {
    seen.push_back(each.id);
    known.remove(workers[2]);
  });
  EXPECT_THAT(seen, ElementsAre(2));
  queue_frame(workers[2]);
  EXPECT_THAT(outgoing(), IsEmpty()) << "it is no worker of the roster any more";
}

// ---- Tasks.

TEST_F(worker_roster, tells_those_that_have_become_busy_from_all_that_are) {
  add(), add(), add();
  give_task(workers[0]);
  give_task(workers[1]);
  EXPECT_THAT(busy(false), ElementsAre(1, 2));
  EXPECT_THAT(busy(false), IsEmpty());
  give_task(workers[2]);
  EXPECT_THAT(busy(true), ElementsAre(1, 2, 3));
  EXPECT_THAT(busy(false), IsEmpty()) << "all includes the newly busy one";
}

TEST_F(worker_roster, forgets_those_that_have_no_tasks_any_more) {
  add(), add();
  give_task(workers[0]);
  give_task(workers[1]);
  workers[0].free_slot(0);
  EXPECT_THAT(busy(false), ElementsAre(2));
  EXPECT_THAT(busy(true), ElementsAre(2));
  give_task(workers[0]);
  EXPECT_THAT(busy(false), ElementsAre(1));
  EXPECT_THAT(busy(true), ElementsAre(2, 1));
}

// ---- Polling.

TEST_F(worker_roster, knows_whose_rings_are_polled) {
  add(), add(), add();
  known.is_polled(workers[2]);
  known.is_polled(workers[0]);
  known.is_polled(workers[2]);
  EXPECT_THAT(polled(), ElementsAre(3, 1));
  known.remove(workers[2]);
  EXPECT_THAT(polled(), ElementsAre(1));
  known.end_polling();
  EXPECT_THAT(polled(), IsEmpty());
  known.is_polled(workers[0]);
  EXPECT_THAT(polled(), ElementsAre(1));
}

// Workers that die and are replaced, while polling never ends, must not make a list grow without bound.
TEST_F(worker_roster, has_room_for_any_number_of_workers_one_after_the_other) {
  for (int i = 0; i != 200; ++i) {
    worker_channel& worker = add();
    EXPECT_EQ(worker.place, 0U);
    known.is_polled(worker);
    queue_frame(worker);
    give_task(worker);
    EXPECT_THAT(polled(), ElementsAre(worker.id));
    EXPECT_THAT(busy(true), ElementsAre(worker.id));
    known.remove(worker);
    workers.pop_back();
  }
  EXPECT_THAT(outgoing(), IsEmpty());
}

// ---- Time.

TEST_F(worker_roster, is_due_when_the_first_worker_is) {
  add(), add(), add();
  EXPECT_EQ(known.due(), roster::time_point::max());
  retry_at(workers[0], start + 2ms);
  retry_at(workers[1], start + 1ms);
  retry_at(workers[2], start + 3ms);
  EXPECT_EQ(known.due(), start + 1ms);
  EXPECT_THAT(due(start), IsEmpty());
  EXPECT_THAT(due(start + 2ms), ElementsAre(2, 1));
  EXPECT_EQ(known.due(), start + 3ms);
  known.remove(workers[2]);
  EXPECT_EQ(known.due(), roster::time_point::max());
}

TEST_F(worker_roster, may_be_early_but_not_late) {
  worker_channel& worker = add();
  retry_at(worker, start + 5ms);
  EXPECT_TRUE(worker.is_noted());
  fail(worker, start + 1ms);
  EXPECT_FALSE(worker.is_noted()) << "an assertion of the crew finds this";
  known.note_due(worker);
  EXPECT_EQ(known.due(), start + 1ms);
  fail(worker, start + 9ms);
  EXPECT_TRUE(worker.is_noted()) << "early does no harm";
  EXPECT_THAT(due(start + 1ms), ElementsAre(1));
  EXPECT_EQ(known.due(), start + 9ms) << "and is put right when it has come";
}

TEST_F(worker_roster, keeps_a_worker_due_whose_visit_threw) {
  add(), add();
  retry_at(workers[0], start);
  retry_at(workers[1], start);
  EXPECT_THROW(known.each_due(start, [](worker_channel&) { throw std::bad_alloc(); }), std::bad_alloc);
  EXPECT_LE(known.due(), start + 1ns);
  EXPECT_EQ(due(start + 1ns).size(), 2U);
  EXPECT_EQ(known.due(), roster::time_point::max());
}

TEST_F(worker_roster, is_not_due_for_a_worker_that_is_removed_when_it_is_visited) {
  add(), add();
  retry_at(workers[0], start);
  retry_at(workers[1], start);
  numbers seen;
  known.each_due(start, [&](worker_channel& each) {
    seen.push_back(each.id);
    for (worker_channel& other : workers) known.remove(other);
  });
  EXPECT_EQ(seen.size(), 1U);
  EXPECT_EQ(known.due(), roster::time_point::max());
}

}  // namespace
}  // namespace shmpool::pool
