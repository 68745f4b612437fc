// The application is killed, its fork server is killed, or both: within about a second no process is left of its pools,
// and no name that anybody would have to remove by hand.
#include "api/pool_fixture.hpp"

#include "shm/pool_lock.hpp"
#include "shm/shm_fixture.hpp"
#include "support/pending_result.hpp"
#include "support/processes.hpp"

#include <shmpool/shm_handle.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <csignal>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using namespace shmpool::testing;
using namespace std::chrono_literals;
using shmpool::array;
using shmpool::shm::not_permitted;
using shmpool::shm::run_in_private_shm;

/// How long the fork server has to clean up after its parent.
constexpr auto promptly = 2s;  // it promises one; the machine may be busy

void hold(array<int>& flag) {
  show(flag, ::getpid());
  for (volatile bool forever = true; forever;) {
  }
}

array<double> make() {
  return shmpool::make_array<double>(100'000, 1.0);
}

/// Allocates for ever: at any moment it may be making a file.
void allocate(array<int>& flag) {
  std::vector<array<double>> all;
  for (;;) {
    all.push_back(shmpool::make_array<double>(3'000, 1.0));
    if (all.size() == 100) {
      show(flag, ::getpid());
      all.clear();
    }
  }
}

/// What the application tells the test of itself.
struct facts {
  pid_t server = 0;
  pid_t workers[2] = {};
  char prefix[64] = {};
};

/// A forked application with a busy pool: an array of its own, a result, a warm segment, one worker that computes and
/// one that makes files. It goes on until it is killed.
class application {
 public:
  application() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("pipe2");
    pid = ::fork();
    if (pid == 0) {
      ::close(ends[0]);
      work(ends[1]);
      ::_exit(99);
    }
    ::close(ends[1]);
    pollfd told{ends[0], POLLIN, 0};
    ::poll(&told, 1, 30'000);
    if (::read(ends[0], &known, sizeof known) != static_cast<ssize_t>(sizeof known)) ADD_FAILURE() << "no application";
    ::close(ends[0]);
  }
  application(const application&) = delete;
  application& operator=(const application&) = delete;
  ~application() { end(); }

  void end() {
    if (pid <= 0) return;
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    pid = 0;
  }

  std::vector<std::string> names() const { return names_with(known.prefix); }
  bool has_processes() const {
    return !is_gone(known.server) || !is_gone(known.workers[0]) || !is_gone(known.workers[1]);
  }

  pid_t pid = 0;
  facts known;

 private:
  static void work(int tell) {
    asio::io_context io;
    auto chosen = options();
    chosen.backing = shmpool::backing::posix;
    shmpool::process_pool pool(io, chosen);
    asio::co_spawn(
        io,
        [&]() -> asio::awaitable<void> {
          auto own = pool.make_array<double>(1'000'000, 1.0);
          { auto warm = pool.make_array<double>(500'000, 1.0); }
          const auto result = co_await pool.submit(make);
          signal_flag computing(pool), allocating(pool);
          pool.submit(hold, computing.memory, asio::detached);
          pool.submit(allocate, allocating.memory, asio::detached);
          co_await until([&] { return computing.read() != 0 && allocating.read() != 0; });
          facts all;
          all.server = running_fork_server_of(::getpid());
          all.workers[0] = computing.read();
          all.workers[1] = allocating.read();
          pools_of(::getpid()).at(0).copy(all.prefix, sizeof all.prefix - 1);
          [[maybe_unused]] auto written = ::write(tell, &all, sizeof all);
          co_await until([] { return false; }, 60s);
        },
        asio::detached);
    io.run();
  }
};

/// Waits for processes to go, which this one has to wait for as their new parent.
bool left(const application& which) {
  return happens(
      [&] {
        for (const pid_t each : {which.known.server, which.known.workers[0], which.known.workers[1]}) {
          ::waitpid(each, nullptr, WNOHANG);
        }
        return !which.has_processes();
      },
      promptly);
}

/// Orphans come to this process, so that it can see and reap them.
class parent_death : public ::testing::Test {
 protected:
  parent_death() { ::prctl(PR_SET_CHILD_SUBREAPER, 1); }
  ~parent_death() override { ::prctl(PR_SET_CHILD_SUBREAPER, 0); }
};

TEST_F(parent_death, is_seen_by_the_fork_server_which_kills_the_workers_and_removes_all_names) {
  application dies;
  ASSERT_GE(dies.names().size(), 5u) << "lock, array, warm segment, result, flags, and what the task is making";
  dies.end();
  EXPECT_TRUE(left(dies));
  EXPECT_EQ(dies.names(), std::vector<std::string>());
}

/// An application that dies when it has made the lock file of a second pool and not yet told the fork server of it.
int an_unfinished_pool_is_removed() {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  int ends[2];
  SHMPOOL_CHECK(::pipe2(ends, O_CLOEXEC) == 0);
  const pid_t application = ::fork();
  if (application == 0) {
    asio::io_context io;
    const shmpool::process_pool first(io, options());
    std::error_code error;
    const auto lock = shmpool::shm::pool_lock::acquire(error);
    [[maybe_unused]] auto written = ::write(ends[1], "", lock ? 1 : 0);
    for (;;) ::pause();
  }
  ::close(ends[1]);
  char byte = 0;
  const bool made = ::read(ends[0], &byte, 1) == 1;
  const auto names = names_with("shmpool.");
  ::kill(application, SIGKILL);
  ::waitpid(application, nullptr, 0);
  SHMPOOL_CHECK(made && !names.empty());
  SHMPOOL_CHECK(happens([] { return names_with("shmpool.").empty(); }, promptly));
  SHMPOOL_CHECK(happens([] {
    ::waitpid(-1, nullptr, WNOHANG);
    return children_of(::getpid()).empty();
  }));
  return 0;
}

// The server removed the names of the pools that it had been told of: a parent that was killed inside of a constructor
// left a lock file behind, for the next pool to remove.
TEST_F(parent_death, while_a_pool_is_being_made_leaves_no_name_of_it_either) {
  SHMPOOL_EXPECT_IN_PRIVATE_SHM("size=64m", an_unfinished_pool_is_removed);
}

TEST_F(parent_death, is_cleaned_up_after_although_the_fork_server_was_asked_to_terminate_with_the_process_group) {
  application dies;
  for (const int each : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) ::kill(dies.known.server, each);
  EXPECT_FALSE(is_dead(dies.known.server));
  dies.end();
  EXPECT_TRUE(left(dies));
  EXPECT_EQ(dies.names(), std::vector<std::string>());
}

/// In a /dev/shm of its own: elsewhere any pool that is made on the machine meanwhile would take the orphans away.
int orphans_are_removed(void (*by_whom)()) {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  application dies, lives;
  ::kill(dies.pid, SIGSTOP);  // so that it starts no other server
  ::kill(dies.known.server, SIGKILL);
  dies.end();
  SHMPOOL_CHECK(left(dies));  // workers die by themselves
  SHMPOOL_CHECK(dies.names().size() >= 4);
  by_whom();
  SHMPOOL_CHECK(dies.names().empty());
  SHMPOOL_CHECK(lives.names().size() >= 5);  // those of a living pool are left alone
  SHMPOOL_CHECK(!is_dead(lives.known.server) && !is_dead(lives.known.workers[0]) && !is_dead(lives.known.workers[1]));
  lives.end();
  SHMPOOL_CHECK(left(lives));
  SHMPOOL_CHECK(lives.names().empty());
  return ::testing::Test::HasFailure() ? 2 : 0;
}

TEST_F(parent_death, with_that_of_the_fork_server_leaves_no_process_and_its_names_to_the_next_pool_of_the_user) {
  SHMPOOL_EXPECT_IN_PRIVATE_SHM("size=256m", [] {
    return orphans_are_removed([] {
      asio::io_context io;
      const shmpool::process_pool next(io, options());
    });
  });
}

TEST_F(parent_death, with_that_of_the_fork_server_leaves_no_process_and_its_names_to_reap_orphans) {
  SHMPOOL_EXPECT_IN_PRIVATE_SHM("size=256m", [] {
    return orphans_are_removed([] {
      const auto reaped = shmpool::reap_orphans();
      EXPECT_GE(reaped.segments, 4u);
      EXPECT_EQ(reaped.pools, 1u);
      EXPECT_GE(reaped.bytes, 1'000'000 * sizeof(double));
    });
  });
}

/// Stopped first, so that none has the time to clean up after another.
void kill_all_at_once(application& which) {
  const pid_t all[] = {which.known.server, which.known.workers[0], which.known.workers[1], which.pid};
  for (const pid_t each : all) ::kill(each, SIGSTOP);
  for (const pid_t each : all) {
    process seen;
    EXPECT_TRUE(happens([&] { return look_at(each, seen) && seen.state == 'T'; }));
  }
  for (const pid_t each : all) ::kill(each, SIGKILL);
  which.end();
}

pid_t own_pid() {
  return ::getpid();
}

/// As process 1 of a PID namespace of its own, which sees the same /dev/shm: 0 if a pool works there.
int next_pool_in_another_container() {
  if (::unshare(CLONE_NEWPID | (::geteuid() == 0 ? 0 : CLONE_NEWUSER)) != 0) return not_permitted;
  const int status = in_child([] {
    asio::io_context io;
    shmpool::process_pool next(io, options());
    auto result = next.submit(own_pid, asio::use_future);
    io.run();
    return ::getpid() == 1 && result.get() != 1 ? 0 : 1;
  });
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

TEST_F(parent_death, with_that_of_everything_else_at_once_leaves_its_names_to_a_pool_in_another_container) {
  SHMPOOL_EXPECT_IN_PRIVATE_SHM("size=256m", [] {
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    application dies, lives;
    kill_all_at_once(dies);
    SHMPOOL_CHECK(left(dies));
    SHMPOOL_CHECK(dies.names().size() >= 5);
    const auto of_the_living = lives.names().size();
    if (const int failed = next_pool_in_another_container(); failed != 0) return failed;
    SHMPOOL_CHECK(dies.names().empty());
    SHMPOOL_CHECK(lives.names().size() >= 5 && of_the_living >= 5);
    SHMPOOL_CHECK(!is_dead(lives.known.server) && !is_dead(lives.known.workers[0]) && !is_dead(lives.known.workers[1]));
    lives.end();
    SHMPOOL_CHECK(left(lives));
    SHMPOOL_CHECK(lives.names().empty());
    return ::testing::Test::HasFailure() ? 2 : 0;
  });
}

TEST_F(parent_death, leaves_the_pools_of_others_working) {
  run([]() -> asio::awaitable<void> {
    shmpool::process_pool pool(co_await asio::this_coro::executor, options());
    const auto before = co_await pool.submit(make);
    {
      application dies;
      dies.end();
      EXPECT_TRUE(left(dies));
    }
    const auto after = co_await pool.submit(make);
    EXPECT_EQ(before[99'999], 1.0);
    EXPECT_EQ(after[99'999], 1.0);
  }());
}

}  // namespace
