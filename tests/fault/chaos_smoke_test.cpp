// Some hundred workers are killed at random moments while tasks of all kinds run: every submit completes once, with the
// right result or with worker_lost, and in the end nothing is left. SHMPOOL_CHAOS_SEED repeats a run,
// SHMPOOL_CHAOS_KILLS makes it longer. A pool pauses after more than five deaths in ten seconds, so each has few, and
// there are many pools.
#include "api/pool_fixture.hpp"

#include "support/pending_result.hpp"
#include "support/processes.hpp"

#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using namespace shmpool::testing;
using namespace std::chrono_literals;
using shmpool::array;

std::uint64_t variable(const char* name, std::uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value ? std::strtoull(value, nullptr, 10) : otherwise;
}

// ---- Tasks. Each result can be checked against its arguments.

std::uint64_t mix(std::uint64_t x) {
  return x * 0x9e3779b97f4a7c15U ^ (x >> 7);
}

std::string repeat(const std::string& text, int times) {
  std::string result;
  for (int i = 0; i != times; ++i) result += text;
  return result;
}

std::vector<std::string> list(int count) {
  return std::vector<std::string>(static_cast<std::size_t>(count), "an element");
}

array<double> twice(array<const double> values) {
  auto result = shmpool::make_array<double>(values.size());
  for (std::size_t i = 0; i != values.size(); ++i) result[i] = 2 * values[i];
  return result;
}

void increment(array<double>& values) {
  for (double& each : values) each += 1;
}

array<double> moved(array<double> values) {
  values[0] = -1;
  return values;
}

int spin(int microseconds) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(microseconds);
  while (std::chrono::steady_clock::now() < until) {
  }
  return microseconds;
}

void refuse() {
  throw std::domain_error("as it should");
}

// ---- The storm.

class storm {
 public:
  storm(asio::io_context& io, unsigned workers, std::uint64_t seed, std::uint64_t kills)
      : random_(seed), kills_left_(kills), pool_(io, chosen(workers)), shared_(pool_.make_array<double>(20'000, 3.0)) {
    for (int i = 0; i != clients; ++i) asio::co_spawn(io, client(), asio::detached);
    asio::co_spawn(io, killer(), asio::detached);
  }

  int succeeded = 0, lost = 0, wrong = 0, clients_left = clients;

 private:
  static constexpr int clients = 12;

  static shmpool::pool_options chosen(unsigned workers) {
    auto result = options();
    result.workers = workers;
    result.cache_bytes = 8 << 20;
    return result;
  }

  std::uint64_t dice(std::uint64_t sides) { return random_() % sides; }

  void check(bool right) { right ? ++succeeded : ++wrong; }

  /// One submit of a random kind.
  asio::awaitable<void> one() {
    const auto kind = dice(8);
    const auto size = dice(10) == 0 ? 400'000 : 100 + dice(20'000);
    switch (kind) {
      case 0: {
        const auto x = dice(1'000'000);
        check(co_await pool_.submit(mix, x) == mix(x));
        break;
      }
      case 1: {
        const int times = static_cast<int>(dice(20'000));
        check(co_await pool_.submit(repeat, std::string("abc"), times) == repeat("abc", times));
        break;
      }
      case 2: {
        const int count = static_cast<int>(dice(20'000));
        check(co_await pool_.submit(list, count) == list(count));
        break;
      }
      case 3: {
        auto values = pool_.make_array<double>(size, 21.0);
        const auto result = co_await pool_.submit(twice, values);
        check(result.size() == size && result[0] == 42.0 &&
              std::accumulate(result.begin(), result.end(), 0.0) == 42.0 * static_cast<double>(size));
        break;
      }
      case 4: {
        auto values = pool_.make_array<double>(size, 1.0);
        co_await pool_.submit(increment, values);
        check(std::accumulate(values.begin(), values.end(), 0.0) == 2.0 * static_cast<double>(size));
        break;
      }
      case 5: {
        auto result = co_await pool_.submit(moved, pool_.make_array<double>(size, 5.0));
        check(result.size() == size && result[0] == -1.0 && result[size - 1] == 5.0);
        break;
      }
      case 6: {
        const auto result = co_await pool_.submit(twice, shared_);  // lent to many at once
        check(result[0] == 6.0 && result[19'999] == 6.0);
        break;
      }
      default: {
        try {
          co_await pool_.submit(refuse);
          ++wrong;
        } catch (const std::domain_error&) {
          ++succeeded;
        }
        const int time = static_cast<int>(dice(3'000));
        check(co_await pool_.submit(spin, time) == time);
      }
    }
  }

  asio::awaitable<void> client() {
    while (kills_left_ != 0) {
      try {
        co_await one();
      } catch (const shmpool::worker_lost& error) {
        ++lost;
        if (error.status_known() && error.signal() != SIGKILL) ++wrong;
      } catch (const std::exception& error) {
        ++wrong;
        std::fprintf(stderr, "chaos: %s\n", error.what());
      }
    }
    if (--clients_left == 0) co_await pool_.shutdown();
  }

  asio::awaitable<void> killer() {
    asio::steady_timer pause(co_await asio::this_coro::executor);
    while (kills_left_ != 0) {
      pause.expires_after(std::chrono::microseconds(dice(8'000)));
      co_await pause.async_wait(asio::use_awaitable);
      const auto workers = workers_of(::getpid());
      if (workers.empty()) continue;
      const pid_t victim = workers[dice(workers.size())];
      if (is_dead(victim)) continue;
      ::kill(victim, SIGKILL);
      --kills_left_;
    }
  }

  std::mt19937_64 random_;
  std::uint64_t kills_left_;
  shmpool::process_pool pool_;
  array<double> shared_;
};

TEST(chaos, of_killed_workers_loses_nothing_and_leaves_nothing) {
  const std::uint64_t seed = variable("SHMPOOL_CHAOS_SEED", std::random_device()());
  const std::uint64_t kills = variable("SHMPOOL_CHAOS_KILLS", 300);
  SCOPED_TRACE("SHMPOOL_CHAOS_SEED=" + std::to_string(seed));
  const watchdog guard(std::chrono::seconds(60 + kills / 5));
  std::mt19937_64 random(seed);
  std::vector<std::string> prefixes;
  std::size_t descriptors = 0;
  int succeeded = 0, lost = 0;
  for (std::uint64_t done = 0; done < kills;) {
    asio::io_context io;
    {
      const auto workers = static_cast<unsigned>(2 + random() % 3);
      const std::uint64_t here = done == 0 ? 8 : 5;  // once with pauses
      done += here;
      storm weather(io, workers, random(), here);
      const auto pools = pools_of(::getpid());
      prefixes.insert(prefixes.end(), pools.begin(), pools.end());
      io.run();
      EXPECT_EQ(weather.clients_left, 0);
      EXPECT_EQ(weather.wrong, 0);
      succeeded += weather.succeeded;
      lost += weather.lost;
    }
    if (descriptors == 0) descriptors = open_descriptors();
    ASSERT_EQ(open_descriptors(), descriptors) << "after the first";
  }
  EXPECT_GT(succeeded, 1000);
  EXPECT_GT(lost, 20);
  std::printf("%d completed, %d lost\n", succeeded, lost);
  for (const auto& each : prefixes) EXPECT_EQ(names_with(each), std::vector<std::string>());
  EXPECT_TRUE(happens([] { return workers_of(::getpid()).empty(); })) << "no worker, no zombie";
  for (const process& each : children_of(::getpid())) EXPECT_EQ(each.name, "shmpool-server");
}

}  // namespace
