// Whom a worker's death is held against, and how it is counted and told.
#include "pool/worker_accounts.hpp"

#include "pool/fake_operation.hpp"
#include "shm/store.hpp"

#include <shmpool/shm_handle.hpp>
#include <shmpool/stats.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace shmpool::pool {
namespace {

using namespace std::chrono_literals;
using reason = worker_exit::reason;

constexpr worker_life::time_point start{1h};

class worker_accounting : public ::testing::Test {
 protected:
  /// A worker that has run `results` tasks.
  static worker_life alive(unsigned results = 1) {
    worker_life life;
    life.told_to_server();
    life.spawned(17);
    life.ready();
    for (unsigned i = 0; i != results; ++i) life.replied();
    return life;
  }
  static worker_life killed_by(int signal, worker_life life = alive(), std::chrono::microseconds cpu_time = 5us) {
    life.process_ended(start);
    life.exit_status(signal, 4096, cpu_time);
    return life;
  }

  worker_accounts& accounts() {
    if (!accounts_) {
      accounts_.emplace(ledger, killers, problems,
                        callback<void(const worker_exit&)>([this](const worker_exit& how) { told.push_back(how); }),
                        cpu_limit);
    }
    return *accounts_;
  }
  /// A task of one function and one set of arguments.
  task_entry& begun() {
    task_entry& made = ledger.open(op);
    made.function = 3;
    made.arguments = arguments;
    return made;
  }
  bool is_known_killer() const { return killers.refuses(3, arguments, start) != 0; }
  bool set_up_is_blamed() const {
    return problems.why_broken(false, std::nullopt)->why.find("killed by signal") != std::string::npos;
  }
  std::vector<worker_exit> hear() {
    std::vector<detail::notice> notices;
    ledger.take_completed(notices);
    for (const detail::notice& each : notices) each();
    return std::exchange(told, {});
  }
  pool_stats counts() {
    pool_stats all;
    accounts().count(all);
    return all;
  }

  const std::vector<std::byte> arguments{std::byte{1}, std::byte{2}};
  std::optional<std::chrono::seconds> cpu_limit;
  std::vector<worker_exit> told;
  task_ledger ledger;
  killer_table killers{1};
  diagnosis problems{false};
  fake_operation op;

 private:
  std::optional<worker_accounts> accounts_;
};

// ---- Blame.

TEST_F(worker_accounting, holds_a_death_against_the_only_call_that_was_begun) {
  task_entry& suspect = begun();
  accounts().blame(killed_by(SIGSEGV), 1, &suspect, start);
  EXPECT_TRUE(is_known_killer());
  ledger.close(suspect);
}

TEST_F(worker_accounting, holds_a_death_against_no_call_if_the_pool_killed) {
  task_entry& suspect = begun();
  worker_life life = alive();
  static_cast<void>(life.kill_for_task("it was overdue"));
  accounts().blame(killed_by(SIGKILL, life), 1, &suspect, start);
  EXPECT_FALSE(is_known_killer());
  ledger.close(suspect);
}

TEST_F(worker_accounting, holds_a_death_against_no_call_with_arrays) {
  task_entry& suspect = begun();
  shm::store_options nameless;
  nameless.backing = backing::memfd;
  const auto memory = shm::store::open(nameless);
  suspect.arrays = lent_arrays({{memory->allocate(4096, 8), 0, 8, detail::access::read}});
  accounts().blame(killed_by(SIGSEGV), 1, &suspect, start);
  EXPECT_FALSE(is_known_killer()) << "its bytes do not say what it was given";
  ledger.close(suspect);
}

TEST_F(worker_accounting, holds_a_death_against_no_call_if_several_were_begun) {
  accounts().blame(killed_by(SIGSEGV), 2, nullptr, start);
  EXPECT_FALSE(is_known_killer());
  EXPECT_FALSE(set_up_is_blamed());
}

TEST_F(worker_accounting, holds_the_death_of_a_worker_that_never_had_a_task_against_the_set_up) {
  accounts().blame(killed_by(SIGSEGV, alive(0)), 0, nullptr, start);
  EXPECT_TRUE(set_up_is_blamed());
}

TEST_F(worker_accounting, holds_the_death_of_an_idle_worker_that_had_tasks_against_nobody) {
  accounts().blame(killed_by(SIGSEGV, alive(1)), 0, nullptr, start);
  EXPECT_FALSE(set_up_is_blamed());
}

TEST_F(worker_accounting, holds_the_end_of_a_worker_that_was_told_to_leave_against_nobody) {
  worker_life life = alive(0);
  life.may_leave(reason::retired);
  accounts().blame(killed_by(0, life), 0, nullptr, start);
  EXPECT_FALSE(set_up_is_blamed());
}

// ---- Counts.

TEST_F(worker_accounting, counts_starts_that_were_not_taken_back) {
  accounts().started();
  accounts().started();
  accounts().not_started();
  EXPECT_EQ(counts().workers_started, 1U);
}

TEST_F(worker_accounting, counts_each_end_once_and_tells_the_user) {
  accounts().close(killed_by(SIGSEGV, alive(2)));
  worker_life overdue = alive();
  static_cast<void>(overdue.kill_for_task("it was overdue"));
  accounts().close(killed_by(SIGKILL, overdue));
  for (const reason why : {reason::retired, reason::idle}) {
    worker_life left = alive();
    left.may_leave(why);
    accounts().close(killed_by(0, left));
  }
  const pool_stats all = counts();
  EXPECT_EQ(all.worker_deaths, 1U);
  EXPECT_EQ(all.workers_killed, 1U);
  EXPECT_EQ(all.workers_retired, 2U);
  const auto ends = hear();
  ASSERT_EQ(ends.size(), 4U);
  EXPECT_EQ(ends[0].why, reason::died);
  EXPECT_EQ(ends[0].signal, SIGSEGV);
  EXPECT_EQ(ends[0].tasks, 2U);
  EXPECT_EQ(ends[0].pid, 17);
  EXPECT_EQ(ends[1].why, reason::killed);
  EXPECT_EQ(ends[2].why, reason::retired);
  EXPECT_EQ(ends[3].why, reason::idle);
}

// ---- Details for the error of a lost task.

TEST_F(worker_accounting, tells_of_a_death_what_the_server_reported) {
  const auto details = accounts().details_of(killed_by(SIGSEGV, alive(), 1'500us));
  EXPECT_EQ(details.pid, 17);
  EXPECT_EQ(details.signal, SIGSEGV);
  EXPECT_EQ(details.max_rss_bytes, 4096U);
  EXPECT_EQ(details.cpu_time, 1ms);
  EXPECT_EQ(details.cpu_limit, 0s);
}

TEST_F(worker_accounting, names_the_cpu_limit_only_where_it_was_used_up) {
  cpu_limit = 1s;
  EXPECT_EQ(accounts().details_of(killed_by(SIGKILL, alive(), 900ms)).cpu_limit, 0s);
  EXPECT_EQ(accounts().details_of(killed_by(SIGKILL, alive(), 910ms)).cpu_limit, 1s) << "the kernel counts ticks";
  EXPECT_EQ(accounts().details_of(killed_by(SIGXCPU, alive(), 1s)).cpu_limit, 1s);
  EXPECT_EQ(accounts().details_of(killed_by(SIGSEGV, alive(), 1s)).cpu_limit, 0s) << "that signal is not the limit's";
}

}  // namespace
}  // namespace shmpool::pool
