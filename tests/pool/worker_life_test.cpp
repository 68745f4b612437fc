// One worker's life: each test is a story of events, without a process. The first five were bugs while these facts were
// flags that the engine's files set; the last walks through random stories of a server, a worker and a kernel.
#include "pool/worker_life.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <optional>
#include <random>
#include <string>

namespace shmpool::pool {
namespace {

using namespace std::chrono_literals;
using killer = worker_life::killer;
using orphaned = worker_life::orphaned;
using reason = worker_exit::reason;
using stage = worker_life::stage;

constexpr worker_life::time_point start{1h};
constexpr int exited_with_3 = 3 << 8;

worker_life told() {
  worker_life life;
  life.told_to_server();
  return life;
}

worker_life alive() {
  worker_life life = told();
  life.spawned(17);
  life.ready();
  return life;
}

// When a server died, every worker was marked as one of its own, of whose end nobody would hear, also one that it had
// never been told of: how that ended was unknown, although the next server said it.
TEST(worker_life, that_no_server_knew_of_is_accounted_for_by_the_next_one) {
  worker_life life;
  EXPECT_EQ(life.server_lost(), orphaned::wanted);
  life.told_to_server();
  life.spawned(17);
  life.process_ended(start);
  EXPECT_FALSE(life.end_is_known()) << "the next server is there to say how";
  life.exit_status(exited_with_3, 4096, 5us);
  EXPECT_TRUE(life.end_is_known());
  EXPECT_EQ(life.describe_death(), "exit code 3");
}

// When the pool was stopped while a server was dead, a worker that it had not been told of was neither started nor
// counted as gone: shutdown() never completed. With a next server it was even started, and not killed.
TEST(worker_life, that_is_to_end_before_a_server_knows_of_it_is_over_with_the_server) {
  worker_life life;
  EXPECT_EQ(life.kill("the pool was stopped"), killer::server);
  EXPECT_EQ(life.server_lost(), orphaned::over);
  EXPECT_TRUE(life.end_is_known());
}

// A pool whose server is gone for good waited for workers that had never been started.
TEST(worker_life, that_was_never_started_is_over_when_there_will_be_no_server) {
  worker_life untold, asked = told(), running = alive();
  for (worker_life* each : {&untold, &asked, &running}) each->no_server();
  EXPECT_TRUE(untold.end_is_known());
  EXPECT_TRUE(asked.end_is_known());
  EXPECT_FALSE(running.end_is_known()) << "it has a process, whose end can be waited for";
}

// Where the kernel refused once to wait for the end of its process, nobody did any more.
TEST(worker_life, is_to_be_waited_for_as_long_as_its_process_is_there) {
  worker_life life = told();
  EXPECT_FALSE(life.awaits_end());
  life.spawned(17);
  EXPECT_TRUE(life.awaits_end());
  life.kill("it was of no use");
  EXPECT_TRUE(life.awaits_end());
  EXPECT_EQ(life.server_lost(), orphaned::killed);
  EXPECT_TRUE(life.awaits_end());
  life.process_ended(start);
  EXPECT_FALSE(life.awaits_end());
}

// An application that had given up its privileges could not signal its workers, and nobody noticed.
TEST(worker_life, that_the_kernel_protects_is_killed_by_the_server) {
  worker_life life = alive();
  EXPECT_EQ(life.kill_for_task("it was overdue"), killer::signal);
  EXPECT_EQ(life.signal_refused(), killer::server);
}

TEST(worker_life, comes_from_asked_to_alive_to_ended) {
  worker_life life;
  EXPECT_EQ(life.now(), stage::asked);
  EXPECT_TRUE(life.is_untold());
  life.told_to_server();
  EXPECT_FALSE(life.is_untold());
  EXPECT_EQ(life.now(), stage::asked);
  life.spawned(17);
  EXPECT_EQ(life.now(), stage::alive);
  EXPECT_EQ(life.pid(), 17);
  life.accounted();
  EXPECT_EQ(life.now(), stage::ended);
  EXPECT_EQ(life.kill("too late"), killer::nobody);
  EXPECT_EQ(life.killed_because(), nullptr);
}

TEST(worker_life, that_could_not_be_started_has_ended) {
  worker_life life = told();
  life.spawn_failed();
  EXPECT_TRUE(life.is_ended());
}

TEST(worker_life, that_is_killed_before_it_is_there_stays_so) {
  worker_life life = told();
  EXPECT_EQ(life.kill("the pool was stopped"), killer::server);
  life.spawned(17);
  EXPECT_EQ(life.now(), stage::leaving);
  EXPECT_EQ(life.kill("again"), killer::signal);
  EXPECT_STREQ(life.killed_because(), "the pool was stopped") << "the first cause counts";
}

TEST(worker_life, may_speak_before_the_server_does) {
  worker_life life = told();
  life.told_pid(23);
  EXPECT_EQ(life.pid(), 23);
  life.told_pid(24);
  EXPECT_EQ(life.pid(), 23);
  life.spawned(17);
  EXPECT_EQ(life.pid(), 17) << "the server knows better";
  worker_life lying = told();
  lying.told_pid(~std::uint64_t{0});
  EXPECT_EQ(lying.pid(), 0);
}

TEST(worker_life, waits_for_the_word_of_the_server_for_a_while) {
  worker_life life = alive();
  EXPECT_EQ(life.due(), worker_life::time_point::max());
  life.process_ended(start);
  EXPECT_EQ(life.due(), start + worker_life::status_patience);
  life.status_overdue(start + worker_life::status_patience - 1ns);
  EXPECT_FALSE(life.end_is_known());
  life.status_overdue(life.due());
  EXPECT_TRUE(life.end_is_known());
  EXPECT_EQ(life.due(), worker_life::time_point::max());
  EXPECT_EQ(life.describe_death(), "nobody could learn how it ended");
}

TEST(worker_life, needs_no_word_of_a_server_that_is_dead) {
  worker_life first = alive();
  first.process_ended(start);
  EXPECT_EQ(first.server_lost(), orphaned::killed);
  EXPECT_TRUE(first.end_is_known());
  worker_life second = alive();
  EXPECT_EQ(second.server_lost(), orphaned::killed);
  EXPECT_FALSE(second.end_is_known()) << "it is not dead yet";
  second.process_ended(start);
  EXPECT_TRUE(second.end_is_known());
  EXPECT_TRUE(second.died_by_pool()) << "with the server";
}

TEST(worker_life, that_a_dead_server_was_asked_for_is_over) {
  worker_life life = told();
  EXPECT_EQ(life.server_lost(), orphaned::over);
  EXPECT_TRUE(life.end_is_known());
}

TEST(worker_life, ends_for_the_reason_that_it_was_given) {
  worker_life retired = alive(), idle = alive(), useless = alive(), overdue = alive(), crashed = alive();
  retired.may_leave(reason::retired);
  retired.may_leave(reason::idle);  // it said so before it heard of it
  EXPECT_EQ(retired.kill_for_task("it did not leave in time"), killer::signal);
  EXPECT_EQ(retired.exit_reason(), reason::retired);
  idle.may_leave(reason::idle);
  EXPECT_EQ(idle.exit_reason(), reason::idle);
  EXPECT_TRUE(idle.was_asked_to_leave());
  useless.kill_as_useless("it had begun nothing");
  EXPECT_EQ(useless.exit_reason(), reason::killed);
  overdue.kill_for_task("its task was overdue");
  EXPECT_EQ(overdue.exit_reason(), reason::killed);
  crashed.exit_status(SIGSEGV, 0, 0us);
  EXPECT_EQ(crashed.exit_reason(), reason::died);
  EXPECT_EQ(crashed.describe_death(), "killed by signal 11");
}

TEST(worker_life, that_broke_the_protocol_says_how) {
  worker_life life = alive();
  EXPECT_EQ(life.violated("second `ready` frame"), killer::signal);
  EXPECT_EQ(life.violation(), "worker 17 was killed: second `ready` frame");
  EXPECT_EQ(life.exit_reason(), reason::killed);
  EXPECT_EQ(life.describe_death(), life.violation());
}

TEST(worker_life, that_is_unfit_leaves) {
  worker_life life = told();
  life.unfit();
  EXPECT_TRUE(life.is_unfit());
  EXPECT_EQ(life.now(), stage::leaving);
  worker_life over = alive();
  over.accounted();
  over.unfit();  // what it has said last
  EXPECT_TRUE(over.is_ended());
}

// A crash of its own is held against its task, also where the pool had it killed a moment later.
TEST(worker_life, died_by_the_pool_only_if_it_was_killed) {
  worker_life crashed = alive();
  crashed.kill(nullptr);  // it had closed its socket
  crashed.exit_status(SIGSEGV, 0, 0us);
  EXPECT_FALSE(crashed.died_by_pool());
  worker_life both = alive();
  both.kill("the pool was stopped");
  both.exit_status(SIGSEGV, 0, 0us);
  EXPECT_FALSE(both.died_by_pool());
  worker_life killed = alive();
  killed.kill("the pool was stopped");
  killed.exit_status(SIGKILL, 0, 0us);
  EXPECT_TRUE(killed.died_by_pool());
  worker_life by_others = alive();
  by_others.exit_status(SIGKILL, 0, 0us);
  EXPECT_FALSE(by_others.died_by_pool()) << "the out-of-memory killer, say";
}

TEST(worker_life, describes_its_end) {
  worker_life life = alive();
  worker_exit how;
  life.describe_end(how);
  EXPECT_FALSE(how.status_known);
  EXPECT_EQ(how.pid, 17);
  life.exit_status(exited_with_3, 4096, 5us);
  life.describe_end(how);
  EXPECT_TRUE(how.status_known);
  EXPECT_EQ(how.exit_code, 3);
  EXPECT_EQ(how.signal, 0);
  EXPECT_EQ(how.max_rss_bytes, 4096U);
  EXPECT_EQ(life.cpu_time(), 5us);
}

/// A server, a worker and a kernel that do what they may in any order, and an application that does what a life tells
/// it to. Whatever they do: when all have done what they must, the end of the worker is known; and a process that is
/// there is never taken for one that is not.
class world {
 public:
  explicit world(std::uint64_t seed) : random_(seed) {}

  void run() {
    for (int step = 0; step != 30 && !life_.end_is_known(); ++step) one_event();
    ASSERT_FALSE(life_.end_is_known() && process_there_) << "accounted for while its process lives:" << story_;
    finish();
    ASSERT_TRUE(life_.end_is_known()) << story_;
  }

 private:
  bool chance() { return (random_() & 1) != 0; }

  void note(const char* what) { (story_ += ' ') += what; }

  void one_event() {
    switch (random_() % 9) {
      case 0:
        if (server_ && life_.is_untold()) tell();
        break;
      case 1:
        if (server_ && server_asked_ && !answered_) answer();
        break;
      case 2:
        if (process_there_) die();
        break;
      case 3: hear_of_death(); break;
      case 4: hear_status(); break;
      case 5: lose_server(); break;
      case 6:
        if (!server_ && !never_) note("another server"), server_ = true;
        break;
      case 7: kill(); break;
      case 8:
        if (!server_ && chance()) note("no server any more"), never_ = true, life_.no_server();
        break;
    }
  }

  void tell() {
    note("told");
    life_.told_to_server();
    server_asked_ = true;
  }

  void answer() {
    answered_ = true;
    if (chance()) {
      note("spawned");
      process_there_ = watched_ = true;
      life_.spawned(17);
      if (kill_asked_) die();
    } else {
      note("unable");
      life_.spawn_failed();
      unable_ = true;
      life_.exit_status(0, 0, 0us);  // for end_is_known(): the engine accounts for it at once
    }
  }

  void die() {
    note("dies");
    process_there_ = false;
    dead_ = true;
  }

  void hear_of_death() {
    if (!dead_ || !watched_) return;
    watched_ = false;
    note("its process has ended");
    life_.process_ended(now_);
  }

  void hear_status() {
    if (!dead_ || !server_ || !server_asked_) return;
    if (chance()) return;
    note("status");
    life_.exit_status(SIGKILL, 0, 0us);
  }

  void lose_server() {
    if (!server_) return;
    note("the server dies");
    server_ = false;
    const bool knew = server_asked_;
    server_asked_ = false;
    // Its workers die with it; one that it was forking may never have been there.
    switch (life_.server_lost()) {
      case orphaned::wanted: EXPECT_FALSE(knew) << story_; break;
      case orphaned::killed:
        EXPECT_TRUE(process_there_ || dead_) << story_;
        if (process_there_) die();
        break;
      case orphaned::over: EXPECT_FALSE(process_there_) << story_; break;
    }
  }

  void kill() {
    note("killed");
    const killer by = life_.kill("a test");
    EXPECT_NE(by, killer::nobody);
    if (by == killer::signal && process_there_) die();
    else if (by == killer::server) kill_asked_ = true;
  }

  /// Everything that must come does: the worker dies, and who knows of it says so or has had time to.
  void finish() {
    if (unable_) return;
    if (!server_ && !never_) note("no server any more"), never_ = true, life_.no_server();
    if (server_ && life_.is_untold()) tell();
    if (server_ && server_asked_ && !answered_) answer();
    if (unable_) return;
    if (process_there_) die();
    hear_of_death();
    now_ += worker_life::status_patience;
    life_.status_overdue(now_);
  }

  worker_life life_;
  std::mt19937_64 random_;
  worker_life::time_point now_ = start;
  bool server_ = true, never_ = false;
  bool server_asked_ = false, answered_ = false, unable_ = false;
  bool process_there_ = false, dead_ = false, watched_ = false, kill_asked_ = false;
  std::string story_;
};

TEST(worker_life, has_an_end_that_becomes_known_whatever_happens) {
  for (std::uint64_t seed = 1; seed != 200'000 && !::testing::Test::HasFatalFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    world(seed).run();
  }
}

}  // namespace
}  // namespace shmpool::pool
