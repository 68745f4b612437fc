#include "fault/chaos/storm.hpp"

#include "fault/chaos/census.hpp"
#include "fault/chaos/killer.hpp"
#include "fault/chaos/ledger.hpp"
#include "fault/chaos/workload.hpp"
#include "support/processes.hpp"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace shmpool::chaos {

namespace {

using namespace std::chrono_literals;

/// Ends the process with all that is pending if no task ends for a long time.
class hang_watch {
 public:
  explicit hang_watch(const workload& load)
      : thread_([this, &load] {
          while (!end_) {
            std::this_thread::sleep_for(20ms);
            if (load.quiet() > 30s) end_with("it hangs; " + load.pending());
          }
        }) {}
  hang_watch(const hang_watch&) = delete;
  hang_watch& operator=(const hang_watch&) = delete;
  ~hang_watch() {
    end_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> end_{false};
  std::thread thread_;
};

template <class Condition>
asio::awaitable<bool> until(Condition holds, std::chrono::milliseconds at_most) {
  const auto deadline = std::chrono::steady_clock::now() + at_most;
  asio::steady_timer timer(co_await asio::this_coro::executor);
  while (!holds()) {
    if (std::chrono::steady_clock::now() > deadline) co_return false;
    timer.expires_after(1ms);
    co_await timer.async_wait(asio::use_awaitable);
  }
  co_return true;
}

class storm {
 public:
  explicit storm(const storm_options& options)
      : options_(options), figures_(*open_ledger()), random_(scramble(options.seed)) {}

  int run() {
    self_census census;
    bool server_died = false;
    for (unsigned i = 0; options_.pools == 0 || i != options_.pools; ++i) {
      kill_book book;
      live_and_die(book);
      server_died = server_died || book.has_any_server() || with_server_faults();
      if (const auto left = census.finding(server_died); !left.empty()) end_with("after a pool's end: " + left);
      figures_.add(count::pools);
    }
    return 0;
  }

 private:
  std::uint64_t dice(std::uint64_t sides) { return random_() % sides; }

  static bool with_server_faults() {
    const char* rules = std::getenv("SHMPOOL_FAULT");
    return rules && std::string_view(rules).find("server") != std::string_view::npos;
  }

  pool_options random_options() {
    pool_options result;
    result.backend = options_.loop;
    result.backing = options_.memory;
    result.workers = static_cast<unsigned>(1 + dice(4));
    constexpr unsigned windows[] = {1, 3, 64};
    result.window = windows[dice(3)];
    result.cancel_grace = std::chrono::milliseconds(dice(20));
    if (dice(3) != 0) result.cache_bytes = dice(2) == 0 ? 0 : 8 << 20;
    if (dice(3) == 0) result.inline_bytes = dice(1024);
    result.on_worker_exit = [](const worker_exit& how) {
      for (const int each : {SIGTERM, SIGHUP, SIGINT, SIGQUIT}) {
        if (how.signal == each)
          end_with("worker " + std::to_string(how.pid) + " died of signal " + std::to_string(each) +
                   ", which is sent to whole groups of processes");
      }
    };
    return result;
  }

  void live_and_die(kill_book& book) {
    asio::io_context io;
    std::vector<std::thread> threads;
    {
      workload load(asio::make_strand(io), random_options(), random_(), book, figures_);
      const auto prefixes = testing::pools_of(::getpid());
      for (const auto& each : prefixes) note_pool(each);
      const hang_watch watch(load);
      figures_.fault_budget = options_.faults;
      asio::co_spawn(load.pool->get_executor(), life(load, book, prefixes.empty() ? "" : prefixes[0]),
                     [](std::exception_ptr error) {
                       if (error) std::rethrow_exception(error);
                     });
      if (dice(2) == 0) threads.emplace_back([&io] { io.run(); });
      io.run();
      for (std::thread& each : threads) each.join();
      if (!load.idle()) end_with("tasks that never completed; " + load.pending());
      load.check_settled();
      for (const auto& each : prefixes) {
        if (!testing::names_with(each).empty()) end_with("after a pool's end: " + testing::names_with(each).front());
      }
    }
  }

  void note_pool(const std::string& prefix) {
    const auto dot = prefix.find('.', prefix.find('.') + 1);
    figures_.pool_ids[figures_.pool_count++ % figures_.pool_ids.size()] =
        std::stoull(prefix.substr(dot + 1), nullptr, 16);
  }

  asio::awaitable<void> life(workload& load, kill_book& book, std::string prefix) {
    load.start(static_cast<int>(4 + dice(12)));
    const bool forever = options_.pools == 0;
    const auto most = forever ? std::chrono::milliseconds(dice(60)) : 2000ms;
    {
      const killer strikes({.seed = random_(), .kills = options_.kills, .server_kills = options_.server_kills}, book,
                           figures_);
      const bool by_faults = std::getenv("SHMPOOL_FAULT") != nullptr && !forever;
      co_await until([&] { return strikes.done() && (!by_faults || figures_.fault_budget <= 0); }, most);
    }
    const auto end = dice(4);
    load.wind_down(end == 3);
    if (end < 2) {
      co_await until([&] { return load.idle(); }, 60s);
      co_await rest(load, prefix);
    }
    if (end < 3) co_await load.pool->shutdown(asio::use_awaitable);
    if (end == 3 && dice(2) == 0) load.pool->stop();
    if (end < 3) closed(load, prefix);
    load.drop_arrays();
    load.pool.reset();
    co_await until([&] { return load.idle(); }, 60s);
  }

  /// Nothing is in flight: what stats() says is what there is.
  asio::awaitable<void> rest(workload& load, const std::string& prefix) {
    std::string finding;
    const auto deadline = std::chrono::steady_clock::now() + 5s;
    while (!(finding = stats_finding(load, prefix)).empty() && std::chrono::steady_clock::now() < deadline) {
      load.touch();
      co_await until([&] { return load.idle(); }, 60s);
    }
    if (!finding.empty()) end_with(finding);
    load.pool->clear_shm();
    if (load.pool->stats().cached_segments != 0) end_with("clear_shm() has left segments in the cache");
  }

  void closed(workload& load, const std::string& prefix) {
    load.drop_arrays();
    const pool_stats stats = load.pool->stats();
    const std::string state = " (workers " + std::to_string(stats.workers) + ", live " +
                              std::to_string(stats.live_segments) + ", cached " +
                              std::to_string(stats.cached_segments) + ")";
    if (stats.workers != 0 || !controlled_workers().empty()) end_with("workers after shutdown()" + state);
    // What a handler that was dispatched a moment ago holds goes with it.
    if (load.idle() && stats.live_segments != 0) end_with("live segments after shutdown()" + state);
    if (!prefix.empty() && load.idle() && testing::names_with(prefix).size() > 1 + stats.cached_segments) {
      end_with("names after shutdown()" + state);
    }
  }

  storm_options options_;
  ledger& figures_;
  std::mt19937_64 random_;
};

}  // namespace

int run_storm(const storm_options& options) {
  return storm(options).run();
}

}  // namespace shmpool::chaos
