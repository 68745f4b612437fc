// Tasks that will not end: endless loops, signals ignored or blocked, a worker that suspends itself, one that waits for
// a child which has its socket. Each way to end a task ends them too, and the pool has a new worker.
#include "pool_fixture.hpp"

#include "support/pending_result.hpp"
#include "support/processes.hpp"

#include <asio/experimental/awaitable_operators.hpp>

#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

namespace {

using namespace shmpool::testing;
using namespace std::chrono_literals;
using shmpool::array;
using shmpool::errc;

enum class refusal : int { loops, ignores_signals, blocks_signals, suspends_itself, waits_for_a_child };
enum class ending : int { terminal_cancellation, deadline, losing_a_race, stop, destruction };

const char* name_of(refusal how) {
  switch (how) {
    case refusal::loops: return "loops";
    case refusal::ignores_signals: return "ignores_signals";
    case refusal::blocks_signals: return "blocks_signals";
    case refusal::suspends_itself: return "suspends_itself";
    case refusal::waits_for_a_child: return "waits_for_a_child";
  }
  return "";
}

const char* name_of(ending how) {
  switch (how) {
    case ending::terminal_cancellation: return "terminal_cancellation";
    case ending::deadline: return "deadline";
    case ending::losing_a_race: return "losing_a_race";
    case ending::stop: return "stop";
    case ending::destruction: return "destruction";
  }
  return "";
}

/// Shows its pid once it is past all persuasion. Of a child, it shows that too, in flag[1].
int refuse_to_end(refusal how, array<int>& flag) {
  switch (how) {
    case refusal::loops: break;
    case refusal::ignores_signals:
      for (int number = 1; number != NSIG; ++number) ::signal(number, SIG_IGN);
      break;
    case refusal::blocks_signals: {
      sigset_t all;
      sigfillset(&all);
      ::sigprocmask(SIG_SETMASK, &all, nullptr);
      break;
    }
    case refusal::suspends_itself:
      show(flag, ::getpid());
      for (;;) ::raise(SIGSTOP);
    case refusal::waits_for_a_child: {
      const pid_t parent = ::getpid();
      const pid_t child = ::fork();
      if (child == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (::getppid() != parent) ::_exit(0);
        for (;;) ::pause();
      }
      flag[1] = child;
      show(flag, parent);
      for (;;) ::waitpid(child, nullptr, 0);
    }
  }
  show(flag, ::getpid());
  for (volatile bool forever = true; forever;) {
  }
  return 0;
}

pid_t own_pid() {
  return ::getpid();
}

class unyielding_task : public ::testing::TestWithParam<std::tuple<refusal, ending>> {};

TEST_P(unyielding_task, is_ended) {
  using namespace asio::experimental::awaitable_operators;
  const auto [how, by] = GetParam();
  run([](refusal kind, ending way) -> asio::awaitable<void> {
    constexpr auto grace = 20ms;
    auto chosen = options();
    chosen.workers = 1;
    chosen.cancel_grace = grace;
    std::optional<shmpool::process_pool> pool(std::in_place, co_await asio::this_coro::executor, chosen);
    signal_flag flag(*pool);
    pending_result<int> result;
    asio::cancellation_signal cancel;
    std::error_code expected = make_error_code(asio::error::operation_aborted);
    auto asked = std::chrono::steady_clock::now();
    if (way == ending::losing_a_race) {
      const auto lose = [&]() -> asio::awaitable<void> {
        EXPECT_TRUE(co_await until([&] { return flag.read() != 0; }));
        asked = std::chrono::steady_clock::now();
      };
      const auto winner = co_await (pool->submit(refuse_to_end, kind, flag.memory, asio::use_awaitable) || lose());
      EXPECT_EQ(winner.index(), 1u);
    } else {
      shmpool::task_options limits;
      if (way == ending::deadline) {
        limits.timeout = 30ms;
        expected = errc::deadline_exceeded;
      }
      pool->submit(limits, refuse_to_end, kind, flag.memory,
                   asio::bind_cancellation_slot(cancel.slot(), result.handler()));
      EXPECT_TRUE(co_await until([&] { return flag.read() != 0 || result.done(); }));
      asked = std::chrono::steady_clock::now();
      if (way == ending::terminal_cancellation) cancel.emit(asio::cancellation_type::terminal);
      if (way == ending::stop) pool->stop();
      if (way == ending::destruction) pool.reset();
      co_await result.ended();
      EXPECT_EQ(code_of(result.error()), expected) << text_of(result.error());
    }
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - asked;
    ::testing::Test::RecordProperty("milliseconds",
                                    std::to_string(took.count()));  // grace included, where there is one
    if (pool && way != ending::stop) {
      EXPECT_NE(co_await pool->submit(own_pid), flag.read());
      EXPECT_EQ(pool->stats().workers_started, 2u);
    }
    EXPECT_TRUE(happens([&] { return is_dead(flag.read()); }));
    if (kind == refusal::waits_for_a_child) {
      EXPECT_TRUE(happens([&] { return is_dead(flag.memory[1]); }));
    }
  }(how, by));
}

INSTANTIATE_TEST_SUITE_P(
    by, unyielding_task,
    ::testing::Combine(::testing::Values(refusal::loops, refusal::ignores_signals, refusal::blocks_signals,
                                         refusal::suspends_itself, refusal::waits_for_a_child),
                       ::testing::Values(ending::terminal_cancellation, ending::deadline, ending::losing_a_race,
                                         ending::stop, ending::destruction)),
    [](const auto& instance) {
      return std::string(name_of(std::get<0>(instance.param))) + "_" + name_of(std::get<1>(instance.param));
    });

}  // namespace
