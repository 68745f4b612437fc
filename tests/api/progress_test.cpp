// this_task::report_progress() and task_options::on_progress: what a task says of itself, in its order, before its end.
#include "pool_fixture.hpp"

#include "gate.hpp"
#include "support/processes.hpp"

#include <atomic>
#include <string>
#include <vector>

namespace {

using namespace shmpool::testing;
using shmpool::array;
using shmpool::process_pool;
using shmpool::task_options;

void report_and_end(array<int>& flag) {
  shmpool::this_task::report_progress(0.5);
  std::atomic_ref<int>(flag[0]).store(::getpid());
}

/// Waits until the task has said where it ran, and its worker sleeps in wait of another: all it has said is in its
/// socket.
bool has_replied(array<int>& flag) {
  return happens([&] {
    process facts;
    const int worker = std::atomic_ref<int>(flag[0]).load();
    return worker != 0 && look_at(worker, facts) && facts.state == 'S';
  });
}

// A report that was read together with its task's result was posted while the completion was dispatched at once: it was
// heard after the end.
TEST(progress, is_heard_before_the_end_of_its_task_although_both_arrive_together) {
  asio::io_context io;
  auto chosen = options();
  chosen.workers = 1;
  process_pool pool(io, chosen);
  for (int i = 0; i != 20; ++i) {
    auto flag = pool.make_array<int>(16 * 1024, shmpool::fill(0));
    std::vector<std::string> story;
    bool ended = false;
    task_options told;
    told.on_progress = [&story](double fraction) {
      story.push_back("progress " + std::to_string(fraction).substr(0, 3));
    };
    pool.submit(told, report_and_end, flag, [&](std::exception_ptr error) {
      story.push_back(error ? "error" : "end");
      ended = true;
    });
    run_until(io, [&] { return std::atomic_ref<int>(flag[0]).load() != 0; });
    ASSERT_TRUE(has_replied(flag));
    run_until(io, [&] { return ended; });
    io.poll();
    io.restart();
    EXPECT_EQ(story, (std::vector<std::string>{"progress 0.5", "end"}));
  }
}

}  // namespace
