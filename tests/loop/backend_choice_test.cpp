// Which completion queue one gets: io_uring where it works, epoll where a sandbox forbids it, and a clear error for who
// insists on io_uring.

#include <sys/syscall.h>
#include <sys/wait.h>

#include <functional>

#include "loop/completion_queue.hpp"
#include "loop/queue_fixture.hpp"
#include "loop/system_call_filter.hpp"

namespace shmpool::loop {
namespace {

// Runs `check` in a forked child for which `call` fails with `error`; true if it held there.
bool holds_without(long call, int error, const std::function<bool()>& check) {
  const pid_t child = ::fork();
  if (child < 0) return false;
  if (child == 0) {
    if (!deny_system_call(static_cast<unsigned>(call), static_cast<unsigned>(error))) ::_exit(2);
    bool held = false;
    try {
      held = check();
    } catch (...) {
    }
    ::_exit(held ? 0 : 1);
  }
  int status = -1;
  return ::waitpid(child, &status, 0) == child && status == 0;
}

bool automatic_gives_a_working_epoll_queue() {
  const auto queue = make_completion_queue(backend::automatic);
  if (std::string_view{queue->name()} != "epoll") return false;
  socket_pair sockets;
  receive_operation receive{sockets.ours()};
  queue->start(receive);
  if (queue->submit() || ::send(sockets.theirs(), "x", 1, 0) != 1) return false;
  return next_ended(*queue) == &receive && receive.result == 1;
}

bool strict_throws(int error, const std::vector<std::string_view>& words) {
  try {
    make_completion_queue(backend::io_uring);
  } catch (const std::system_error& thrown) {
    const std::string_view text = thrown.what();
    return thrown.code() == std::error_code{error, std::generic_category()} &&
           std::all_of(words.begin(), words.end(), [&](std::string_view word) { return text.find(word) != text.npos; });
  }
  return false;
}

TEST(backend_choice_test, automatic_gives_io_uring_where_it_works) {
  EXPECT_STREQ(make_completion_queue(backend::automatic)->name(), "io_uring");
}

TEST(backend_choice_test, automatic_settles_for_epoll_where_a_filter_forbids_io_uring) {
  EXPECT_TRUE(holds_without(SYS_io_uring_setup, EPERM, automatic_gives_a_working_epoll_queue));
}

TEST(backend_choice_test, automatic_settles_for_epoll_on_a_kernel_without_io_uring) {
  EXPECT_TRUE(holds_without(SYS_io_uring_setup, ENOSYS, automatic_gives_a_working_epoll_queue));
}

TEST(backend_choice_test, strict_io_uring_says_which_call_failed_and_what_to_do) {
  EXPECT_TRUE(holds_without(SYS_io_uring_setup, EPERM, [] {
    return strict_throws(EPERM, {"io_uring_queue_init: Operation not permitted", "backend::automatic", "backend::epoll",
                                 "seccomp", "io_uring_disabled"});
  }));
}

// The probe runs once per process, so a process that never made a queue is needed: the ring can be set up there, and
// only the round trip shows that it is useless.
TEST(backend_choice_test, a_ring_that_can_be_made_but_not_entered_is_found_out_by_the_probe) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        const bool denied = deny_system_call(SYS_io_uring_enter, EPERM);
        const bool held = denied && automatic_gives_a_working_epoll_queue() &&
                          strict_throws(EPERM, {"io_uring_enter: Operation not permitted", "backend::epoll"});
        ::_exit(held ? 0 : 1);
      },
      ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace shmpool::loop
