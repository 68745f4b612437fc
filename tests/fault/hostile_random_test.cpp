// Workers that do random harm, while other workers of the same pool do honest work: every submit completes once, what
// honest tasks return is right to the last bit, the parent's memory stays bounded, and nothing is left of the pool.
//
// SHMPOOL_SEED: where to begin (1); SHMPOOL_HOSTILE_ROUNDS: how many pools (10). A round is reproduced by its
// seed.
#include "api/pool_fixture.hpp"
#include "fault/hostile_acts.hpp"

#include "support/environment.hpp"
#include "support/pending_result.hpp"
#include "support/processes.hpp"

#include <shmpool/remote_error.hpp>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace shmpool::testing;
using namespace std::chrono_literals;
using shmpool::array;
using shmpool::errc;

// ---- Tasks.

array<int> do_harm(std::uint64_t seed, std::uint64_t lent, array<const int>, array<int>&) {
  hostile::liar(seed, lent).perform();
}

double scaled(double value, int by) {
  return value * by + 1.0 / by;
}

array<double> scale(array<const double> in, int by) {
  auto out = shmpool::make_array<double>(in.size());
  for (std::size_t i = 0; i != in.size(); ++i) out[i] = scaled(in[i], by);
  return out;
}

void mix(array<std::uint64_t>& values, std::uint64_t with) {
  for (std::size_t i = 0; i != values.size(); ++i) values[i] = values[i] * 6364136223846793005U + with + i;
}

std::vector<std::string> spell(int from, int count) {
  std::vector<std::string> result;
  for (int i = 0; i != count; ++i) {
    result.push_back(std::string(static_cast<std::size_t>(i % 90), 'x') + std::to_string(from + i));
  }
  return result;
}

int fail_with(int number) {
  throw std::out_of_range("number " + std::to_string(number));
}

// ---- The test's side.

std::size_t own_memory() {
  std::ifstream statm("/proc/self/statm");
  std::size_t size = 0, resident = 0;
  statm >> size >> resident;
  return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

/// One of the honest tasks, with arrays of random sizes; every bit of what comes back is compared.
asio::awaitable<void> honest_task(shmpool::process_pool& pool, std::mt19937_64& random) {
  const auto size = static_cast<std::size_t>(random() % 40'000);
  const int number = static_cast<int>(random() % 1000) + 1;
  switch (random() % 4) {
    case 0: {
      auto in = pool.make_array<double>(size);
      for (std::size_t i = 0; i != size; ++i) in[i] = static_cast<double>(random());
      const array<double> out = co_await pool.submit(scale, in, number);
      bool same = out.size() == size;
      for (std::size_t i = 0; same && i != size; ++i) same = out[i] == scaled(in[i], number);
      EXPECT_TRUE(same) << "scale of " << size;
      break;
    }
    case 1: {
      auto values = pool.make_array<std::uint64_t>(size + 4096);  // too large for the message: it is edited in place
      auto expected = shmpool::make_array<std::uint64_t>(values.size());
      for (std::size_t i = 0; i != values.size(); ++i) values[i] = expected[i] = random();
      mix(expected, 7);
      co_await pool.submit(mix, values, std::uint64_t{7});
      EXPECT_TRUE(std::equal(values.begin(), values.end(), expected.begin())) << "mix of " << size;
      break;
    }
    case 2: EXPECT_EQ(co_await pool.submit(spell, number, 100), spell(number, 100)); break;
    default:
      try {
        co_await pool.submit(fail_with, number);
        ADD_FAILURE() << "did not throw";
      } catch (const std::out_of_range& error) {
        EXPECT_EQ(error.what(), "number " + std::to_string(number));
      }
  }
}

/// How hostile tasks ended, for the log of a long run.
struct endings {
  int values = 0, made_up_errors = 0, violations = 0, lost = 0, overdue = 0;
};

/// What may become of a hostile task: an error of its own, or whatever it has made up.
void check_ending(const pending_result<array<int>>& of, endings& count) {
  if (of.succeeded()) {
    ++count.values;
    std::int64_t sum = 0;
    for (const int each : of.value()) sum += each;  // all of it is there
    volatile std::int64_t sink = sum;
    (void)sink;
    return;
  }
  try {
    std::rethrow_exception(of.error());
  } catch (const shmpool::remote_error&) {
    ++count.made_up_errors;
  } catch (const std::system_error& error) {
    if (error.code() == errc::protocol_violation) ++count.violations;
    else if (error.code() == errc::worker_lost) ++count.lost;
    else if (error.code() == errc::deadline_exceeded) ++count.overdue;
    else ADD_FAILURE() << error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << error.what();
  }
}

asio::awaitable<void> one_pool(std::mt19937_64& random, std::vector<std::string>& names, endings& count) {
  auto chosen = options();
  chosen.workers = 3;
  chosen.window = 1;  // honest tasks wait behind no hostile one
  chosen.max_shm_bytes = 256 * 1024 * 1024;
  chosen.cancel_grace = 20ms;
  shmpool::process_pool pool(co_await asio::this_coro::executor, chosen);
  names = pools_of(::getpid());
  auto read = pool.make_array<int>(5000, shmpool::fill(7));
  std::deque<pending_result<array<int>>> hostile;
  // At most as many as may die before the pool slows down; two at a time, so that one worker is honest.
  for (int i = 0; i != 4; ++i) {
    for (int n = 0; n != 3; ++n) co_await honest_task(pool, random);
    // Also one that is lent for writing: it can give that back as its result.
    auto edited = pool.make_array<int>(5000, shmpool::fill(7));
    const auto& lent = i % 2 == 0 ? read : edited;
    auto& each = hostile.emplace_back();
    pool.submit(shmpool::task_options{.timeout = 60ms}, do_harm, random(), lent.handle().get()->id(), read, edited,
                each.handler());
    for (int n = 0; n != 6; ++n) co_await honest_task(pool, random);
    if (hostile.size() >= 2) co_await hostile[hostile.size() - 2].ended();
  }
  for (auto& each : hostile) {
    co_await each.ended();
    check_ending(each, count);
  }
  EXPECT_TRUE(std::all_of(read.begin(), read.end(), [](int value) { return value == 7; }));
  for (int n = 0; n != 4; ++n) co_await honest_task(pool, random);
  hostile.clear();
  co_await pool.shutdown();
  EXPECT_EQ(pool.stats().workers, 0u);
}

TEST(hostile_tasks, harm_nobody_but_themselves) {
  const std::uint64_t first = from_environment("SHMPOOL_SEED", 1);
  const std::uint64_t rounds = from_environment("SHMPOOL_HOSTILE_ROUNDS", 10);
  std::size_t memory = 0, descriptors = 0;
  endings count;
  for (std::uint64_t round = 0; round != rounds && !HasFailure(); ++round) {
    SCOPED_TRACE("SHMPOOL_SEED=" + std::to_string(first + round) + " SHMPOOL_HOSTILE_ROUNDS=1");
    std::vector<std::string> names;
    std::mt19937_64 random(first + round);
    run(one_pool(random, names, count));
    for (const auto& each : names) EXPECT_EQ(names_with(each), std::vector<std::string>());
    EXPECT_TRUE(happens([] { return workers_of(::getpid()).empty(); })) << "workers are left";
    // The first rounds make what is made once: the fork server's socket, the allocator's arenas.
    if (round == 2) {
      memory = own_memory();
      descriptors = open_descriptors();
    } else if (round > 2) {
      EXPECT_LE(open_descriptors(), descriptors);
#ifndef __SANITIZE_ADDRESS__  // which keeps freed memory for a while
      EXPECT_LT(own_memory(), memory + 64 * 1024 * 1024);
#endif
    }
  }
  EXPECT_GT(count.violations, 0);
  EXPECT_GT(count.lost + count.overdue, 0);
  std::printf("hostile tasks: %d protocol violations, %d lost workers, %d deadlines, %d values, %d made-up errors\n",
              count.violations, count.lost, count.overdue, count.values, count.made_up_errors);
}

}  // namespace
