// What the scheduler itself costs, with nothing around it: 100,000 tasks go through it, a thousand of them at once, and
// workers that take no time answer in batches. Prints the time of a task; `valgrind --tool=callgrind` counts
// instructions, which do not depend on what else the machine does.
//
// scheduler_bench [workers] [outstanding]
#include "sched/scheduler.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <vector>

namespace {

using namespace shmpool::sched;

// Nothing has been started that has not been answered, so everything can be taken back.
struct open_slots final : claims {
  bool take_back(worker_id, task_id) noexcept override { return true; }
  std::optional<time_point> start_time(worker_id, task_id, time_point) noexcept override { return std::nullopt; }
};

// Workers that have what was assigned to them. A task that is taken back shows up elsewhere: the last assignment
// counts.
class world {
 public:
  explicit world(unsigned workers) : workers_(workers), scheduler_(settings(workers), slots_), assigned_(workers + 1) {}

  void run(std::size_t tasks, std::size_t outstanding) {
    task_spec spec;
    spec.expected = std::chrono::microseconds{1};
    std::size_t submitted = 0;
    for (std::size_t done = 0; done != tasks;) {
      for (; submitted != tasks && submitted - done != outstanding; ++submitted) {
        scheduler_.submit(spec, now_ += std::chrono::nanoseconds{500});
        fetch();
      }
      next_ = next_ % workers_ + 1;
      batch_.clear();
      batch_.swap(assigned_[next_]);
      for (const task_id task : batch_) {
        if (!scheduler_.replied(next_, task, {}, now_)) continue;  // it was taken back
        ++done;
        fetch();
      }
    }
  }

 private:
  static options settings(unsigned workers) {
    options chosen;
    chosen.max_workers = workers;
    return chosen;
  }

  void fetch() {
    for (action next; scheduler_.next_action(next);) {
      if (next.what == action::kind::start_worker) scheduler_.worker_started(next.worker, now_);
      if (next.what == action::kind::assign) assigned_[next.worker].push_back(next.task);
    }
  }

  worker_id workers_;
  open_slots slots_;
  time_point now_{std::chrono::hours{1}};
  scheduler scheduler_;
  std::vector<std::vector<task_id>> assigned_;  // by worker
  std::vector<task_id> batch_;
  worker_id next_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  const auto argument = [&](int place, unsigned otherwise) {
    return argc > place ? static_cast<unsigned>(std::strtoul(argv[place], nullptr, 10)) : otherwise;
  };
  constexpr std::size_t tasks = 100'000;
  const unsigned workers = std::max(argument(1, 2), 1U);
  world measured(workers);
  const auto start = std::chrono::steady_clock::now();
  measured.run(tasks, std::max(argument(2, 1000), 1U));
  const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
  std::printf("%u workers: %.0f ns a task\n", workers, took.count() / static_cast<double>(tasks));
}
