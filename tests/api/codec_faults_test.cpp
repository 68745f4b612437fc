// Types that fail on their way: in save() or load(), in the application or in the worker, by an exception or by the end
// of the process. Each costs one task, and the pool and its memory are as before.
#include "pool_fixture.hpp"

#include "support/pending_result.hpp"
#include "support/processes.hpp"

#include <shmpool/serialize.hpp>

#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using namespace shmpool::testing;
using shmpool::array;

enum class fault : int { none, throws, throws_no_exception, aborts, exits };

void strike(fault how) {
  switch (how) {
    case fault::none: return;
    case fault::throws: throw std::range_error("of no use");
    case fault::throws_no_exception: throw 42;
    case fault::aborts: std::abort();
    case fault::exits: ::_exit(99);
  }
}

/// Fails where it is told to, in the middle: large things that are in shared memory come before and after.
struct fragile {
  fault in_save = fault::none, in_load = fault::none;
  std::vector<double> before = std::vector<double>(100'000, 1.0), after = before;

  template <class Archive>
  void save(Archive& archive) const {
    archive(in_save, in_load, before);
    strike(in_save);
    archive(after);
  }
  template <class Archive>
  void load(Archive& archive) {
    archive(in_save, in_load, before);
    strike(in_load);
    archive(after);
  }
};

fragile make_fragile(fault in_save, fault in_load) {
  fragile result;
  result.in_save = in_save;
  result.in_load = in_load;
  return result;
}

std::size_t take_fragile(const fragile& value) {
  return value.before.size() + value.after.size();
}

std::size_t take_fragile_and_array(array<double>& lent, const fragile& value) {
  return lent.size() + value.before.size();
}

pid_t own_pid() {
  return ::getpid();
}

/// A pool of one worker, and what must be the same after a task has failed.
class codec_faults : public ::testing::Test {
 protected:
  codec_faults() : pool(io, chosen()) {
    const watchdog guard;
    worker = serve();
    EXPECT_EQ(take(fragile{}), 200'000u);
  }

  static shmpool::pool_options chosen() {
    auto result = options();
    result.workers = 1;
    return result;
  }

  void finish() {
    const watchdog guard;
    io.restart();
    io.run();
  }
  pid_t serve() {
    pending_result<pid_t> result;
    pool.submit(own_pid, result.handler());
    finish();
    return result.value();
  }
  std::size_t take(const fragile& value) {
    pending_result<std::size_t> result;
    pool.submit(take_fragile, value, result.handler());
    finish();
    return result.value();
  }

  /// The worker is the same, whole values go both ways, and nobody holds memory.
  void expect_unharmed(bool same_worker) {
    EXPECT_EQ(serve() == worker, same_worker);
    EXPECT_EQ(pool.stats().worker_deaths, same_worker ? 0u : 1u);
    EXPECT_EQ(take(fragile{}), 200'000u);
    EXPECT_EQ(pool.stats().live_segments, 0u);
    EXPECT_EQ(pool.stats().assigned + pool.stats().queued, 0u);
  }

  asio::io_context io;
  shmpool::process_pool pool;
  pid_t worker = 0;
};

bool is_remote(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const shmpool::remote_error&) {
    return true;
  } catch (...) {
    return false;
  }
}

TEST_F(codec_faults, an_argument_whose_encoding_throws_fails_its_submit_and_holds_nothing) {
  for (const fault how : {fault::throws, fault::throws_no_exception}) {
    auto lent = pool.make_array<double>(100'000, 1.0);
    const auto submitted = pool.stats().submitted;
    pending_result<std::size_t> failed, next;
    pool.submit(take_fragile_and_array, lent, make_fragile(how, fault::none), failed.handler());
    EXPECT_FALSE(failed.done()) << "called from inside submit()";
    pool.submit(take_fragile_and_array, lent, fragile{}, next.handler());  // the array is not busy
    finish();
    EXPECT_EQ(text_of(failed.error()), how == fault::throws ? "of no use" : "something else");
    EXPECT_FALSE(is_remote(failed.error()));
    EXPECT_EQ(pool.stats().submitted, submitted + 1) << "only the next one was";
    ASSERT_TRUE(next.succeeded()) << text_of(next.error());
    EXPECT_EQ(next.value(), 200'000u);
  }
  expect_unharmed(true);
}

/// What strike(how) throws, as it arrives from a worker.
void expect_thrown_in_worker(const std::exception_ptr& error, fault how) {
  ASSERT_TRUE(error);
  if (how == fault::throws) {
    EXPECT_THROW(std::rethrow_exception(error), std::range_error);
  } else {
    EXPECT_THROW(std::rethrow_exception(error), shmpool::remote_error);
  }
}

TEST_F(codec_faults, an_argument_that_cannot_be_decoded_is_the_exception_of_its_task) {
  for (const fault how : {fault::throws, fault::throws_no_exception}) {
    pending_result<std::size_t> failed;
    pool.submit(take_fragile, make_fragile(fault::none, how), failed.handler());
    finish();
    expect_thrown_in_worker(failed.error(), how);
  }
  expect_unharmed(true);
}

TEST_F(codec_faults, a_result_whose_encoding_throws_is_the_exception_of_its_task) {
  for (const fault how : {fault::throws, fault::throws_no_exception}) {
    pending_result<fragile> failed;
    pool.submit(make_fragile, how, fault::none, failed.handler());
    finish();
    expect_thrown_in_worker(failed.error(), how);
  }
  expect_unharmed(true);
}

/// There is nobody to blame but the type: the worker is not, and goes on.
TEST_F(codec_faults, a_result_that_cannot_be_decoded_fails_its_task_alone) {
  for (const fault how : {fault::throws, fault::throws_no_exception}) {
    pending_result<fragile> failed, beside;
    pool.submit(make_fragile, fault::none, how, failed.handler());
    pool.submit(make_fragile, fault::none, fault::none, beside.handler());
    finish();
    EXPECT_EQ(text_of(failed.error()), how == fault::throws ? "of no use" : "something else");
    ASSERT_TRUE(beside.succeeded()) << text_of(beside.error());
    EXPECT_EQ(take_fragile(beside.value()), 200'000u);
  }
  expect_unharmed(true);
}

class fatal_codec_faults : public codec_faults, public ::testing::WithParamInterface<fault> {
 protected:
  void expect_lost(const std::exception_ptr& error) {
    const auto lost = as_worker_lost(error);
    ASSERT_TRUE(lost);
    EXPECT_EQ(lost->pid(), worker);
    EXPECT_TRUE(lost->started());
    if (GetParam() == fault::aborts) EXPECT_EQ(lost->signal(), SIGABRT);
    else EXPECT_EQ(lost->exit_code(), 99);
  }
};

TEST_P(fatal_codec_faults, of_an_argument_in_the_worker_cost_that_task) {
  pending_result<std::size_t> failed;
  pending_result<pid_t> behind;
  pool.submit(take_fragile, make_fragile(fault::none, GetParam()), failed.handler());
  pool.submit(own_pid, behind.handler());
  finish();
  expect_lost(failed.error());
  EXPECT_TRUE(behind.succeeded());
  expect_unharmed(false);
}

TEST_P(fatal_codec_faults, of_a_result_in_the_worker_cost_that_task) {
  pending_result<fragile> failed;
  pending_result<pid_t> behind;
  pool.submit(make_fragile, GetParam(), fault::none, failed.handler());
  pool.submit(own_pid, behind.handler());
  finish();
  expect_lost(failed.error());
  EXPECT_TRUE(behind.succeeded());
  expect_unharmed(false);
}

INSTANTIATE_TEST_SUITE_P(each_way, fatal_codec_faults, ::testing::Values(fault::aborts, fault::exits),
                         [](const auto& instance) { return instance.param == fault::aborts ? "aborts" : "exits"; });

}  // namespace
