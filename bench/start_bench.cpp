// How long a pool takes to be there: until each of its workers has run a task, and until a worker that has died is
// replaced. Beside it, what cannot be avoided: the same number of forks, and a message to each and back.
#include "bench.hpp"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <climits>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

namespace {

using bench_clock = std::chrono::steady_clock;

double seconds_since(bench_clock::time_point start) {
  return std::chrono::duration<double>(bench_clock::now() - start).count();
}

[[noreturn]] void throw_errno(const char* call) {
  throw std::system_error(errno, std::generic_category(), call);
}

using counter = std::atomic<std::uint32_t>;

counter& map_counter(int descriptor) {
  void* memory = ::mmap(nullptr, sizeof(counter), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  if (memory == MAP_FAILED) throw_errno("mmap");
  return *static_cast<counter*>(memory);
}

// The task: none ends before `all` have begun, so that no worker runs two. They meet at a counter in a file of the
// process that submits.
void meet(std::int32_t submitter, std::int32_t file, std::uint32_t all) {
  const std::string path = "/proc/" + std::to_string(submitter) + "/fd/" + std::to_string(file);
  const int descriptor = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (descriptor < 0) throw_errno("open");
  counter& there = map_counter(descriptor);
  ::close(descriptor);
  if (there.fetch_add(1) + 1 == all) ::syscall(SYS_futex, &there, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
  for (std::uint32_t now = there.load(); now != all; now = there.load()) {
    ::syscall(SYS_futex, &there, FUTEX_WAIT, now, nullptr, nullptr, 0);
  }
  ::munmap(&there, sizeof there);
}

void nothing() {
}

void die() {
  ::raise(SIGKILL);
}

class meeting_place {
 public:
  meeting_place() : file_(::memfd_create("meeting", MFD_CLOEXEC)) {
    if (file_ < 0 || ::ftruncate(file_, sizeof(counter)) != 0) throw_errno("memfd_create");
  }
  meeting_place(const meeting_place&) = delete;
  meeting_place& operator=(const meeting_place&) = delete;
  ~meeting_place() { ::close(file_); }
  int file() const { return file_; }

 private:
  int file_;
};

void fail(benchmark::State& state, std::exception_ptr error) {
  if (!error) return;
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& what) {
    state.SkipWithError(what.what());
  }
}

// One pool from its construction until all of its workers have run a task.
double start_pool(benchmark::State& state, unsigned workers) {
  asio::io_context io;
  const meeting_place place;
  const auto start = bench_clock::now();
  shmpool::process_pool pool(io, shmpool::pool_options{.workers = workers});
  for (unsigned i = 0; i != workers; ++i) {
    pool.submit(meet, ::getpid(), place.file(), workers, [&state](std::exception_ptr error) { fail(state, error); });
  }
  io.run();
  return seconds_since(start);
}

// A child that sends back what it gets.
class echo_child {
 public:
  echo_child() {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) throw_errno("socketpair");
    pid_ = ::fork();
    if (pid_ < 0) throw_errno("fork");
    if (pid_ == 0) {
      char byte;
      while (::read(ends[1], &byte, 1) == 1 && ::write(ends[1], &byte, 1) == 1) {
      }
      ::_exit(0);
    }
    ::close(ends[1]);
    socket_ = ends[0];
  }
  echo_child(const echo_child&) = delete;
  echo_child& operator=(const echo_child&) = delete;
  ~echo_child() {
    kill();
    ::close(socket_);
  }

  void kill() {
    if (pid_ == 0) return;
    ::kill(pid_, SIGKILL);
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
    pid_ = 0;
  }
  void ask() {
    if (::write(socket_, "", 1) != 1) throw_errno("write");
  }
  void hear() {
    char byte;
    if (::read(socket_, &byte, 1) != 1) throw_errno("read");
  }

 private:
  pid_t pid_ = 0;
  int socket_ = -1;
};

double start_children(unsigned count) {
  const auto start = bench_clock::now();
  std::vector<std::optional<echo_child>> children(count);
  for (auto& each : children) each.emplace().ask();
  for (auto& each : children) each->hear();
  return seconds_since(start);
}

// What the benchmark's program is supposed to hold when a worker dies.
std::vector<std::byte> touched_heap(std::size_t bytes) {
  return std::vector<std::byte>(bytes, std::byte{1});
}

asio::awaitable<void> replace_workers(benchmark::State& state, shmpool::process_pool& pool) {
  co_await pool.submit(nothing);
  double heard = 0;
  for (auto _ : state) {
    const auto start = bench_clock::now();
    try {
      co_await pool.submit(die);
      state.SkipWithError("the worker did not die");
    } catch (const shmpool::worker_lost&) {
      heard += seconds_since(start);
    }
    co_await pool.submit(nothing);
    state.SetIterationTime(seconds_since(start));
  }
  // How much of it had passed when the death was known.
  state.counters["heard_us"] = benchmark::Counter(heard * 1e6, benchmark::Counter::kAvgIterations);
}

void replace_child(benchmark::State& state) {
  std::optional<echo_child> child(std::in_place);
  for (auto _ : state) {
    const auto start = bench_clock::now();
    child->kill();
    child.emplace().ask();
    child->hear();
    state.SetIterationTime(seconds_since(start));
  }
}

template <class Function>
benchmark::internal::Benchmark* add(const std::string& name, Function function) {
  return benchmark::RegisterBenchmark(name.c_str(), function)->UseManualTime()->Unit(benchmark::kMillisecond);
}

void register_start(unsigned workers) {
  const std::string work = "start/" + std::to_string(workers);
  add(work + "/shmpool", [workers](benchmark::State& state) {
    start_pool(state, 1);  // the fork server is there from here
    for (auto _ : state) state.SetIterationTime(start_pool(state, workers));
  });
  add(work + "/fork", [workers](benchmark::State& state) {
    for (auto _ : state) state.SetIterationTime(start_children(workers));
  });
}

// Only the first pool of a process starts the fork server, so that there is one sample per process.
void register_first_start(unsigned workers) {
  const std::string work = "start_first/" + std::to_string(workers);
  add(work + "/shmpool", [workers](benchmark::State& state) {
    for (auto _ : state) state.SetIterationTime(start_pool(state, workers));
  })->Iterations(1);
  add(work + "/fork", [workers](benchmark::State& state) {
    for (auto _ : state) state.SetIterationTime(start_children(workers));
  })->Iterations(1);
}

void register_replace(std::size_t heap_bytes) {
  const std::string work = "replace/" + std::to_string(heap_bytes);
  add(work + "/shmpool", [heap_bytes](benchmark::State& state) {
    const auto heap = touched_heap(heap_bytes);
    asio::io_context io;
    shmpool::process_pool pool(io, shmpool::pool_options{.workers = 1});
    bench::run(io, replace_workers(state, pool));
  });
  add(work + "/fork", [heap_bytes](benchmark::State& state) {
    const auto heap = touched_heap(heap_bytes);
    replace_child(state);
  });
}

}  // namespace

int main(int argc, char** argv) {
  shmpool::init(argc, argv);
  register_first_start(2);
  for (const unsigned workers : {2U, 16U, 64U}) register_start(workers);
  for (const std::size_t heap_bytes : {std::size_t{0}, std::size_t{1} << 30}) register_replace(heap_bytes);
  return bench::run_benchmarks(argc, argv);
}
