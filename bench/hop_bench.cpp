// What the trip to another process and back costs when the task itself costs nothing: one task at a time, and a
// thousand at once. Beside it, the same coroutines with asio::thread_pool, and two processes that do nothing but pass a
// message.
#include "bench.hpp"

#include <sched.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <system_error>

namespace {

void nothing() {
}

// Keeps this thread on one of the CPUs it may use, until it is destroyed; a process forked meanwhile can take another.
// Two processes that poll each other on one CPU would wait for each other's time slice.
class pinned {
 public:
  pinned() {
    ::sched_getaffinity(0, sizeof before_, &before_);
    to(0);
  }
  pinned(const pinned&) = delete;
  pinned& operator=(const pinned&) = delete;
  ~pinned() { ::sched_setaffinity(0, sizeof before_, &before_); }

  // Moves the calling process to the n-th CPU; stays where it is if there are fewer.
  void to(int n) const {
    for (std::size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (!CPU_ISSET(cpu, &before_) || n-- > 0) continue;
      cpu_set_t one;
      CPU_ZERO(&one);
      CPU_SET(cpu, &one);
      ::sched_setaffinity(0, sizeof one, &one);
      return;
    }
  }

 private:
  cpu_set_t before_{};
};

// A process that sends back what it gets, until its socket is closed.
class echo_process {
 public:
  // Sleeps until a message is there, or polls for it on a CPU of its own.
  explicit echo_process(bool poll) : wait_(poll ? MSG_DONTWAIT : 0) {
    if (poll) pinned_.emplace();
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
      throw std::system_error(errno, std::generic_category(), "socketpair");
    pid_ = ::fork();
    if (pid_ == 0) {
      ::close(ends[0]);
      socket_ = ends[1];
      if (pinned_) pinned_->to(1);
      while (receive() && send()) {
      }
      ::_exit(0);
    }
    ::close(ends[1]);
    socket_ = ends[0];
    if (pid_ < 0) {
      ::close(socket_);
      throw std::system_error(errno, std::generic_category(), "fork");
    }
  }
  echo_process(const echo_process&) = delete;
  echo_process& operator=(const echo_process&) = delete;
  ~echo_process() {
    ::close(socket_);
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }

  bool round_trip() { return send() && receive(); }

 private:
  bool send() { return ::send(socket_, message_.data(), message_.size(), MSG_NOSIGNAL) == size; }
  bool receive() {
    ssize_t n = 0;
    do {
      n = ::recv(socket_, message_.data(), message_.size(), wait_);
    } while (n < 0 && (errno == EINTR || (wait_ != 0 && errno == EAGAIN)));
    return n == size;
  }

  static constexpr ssize_t size = 64;
  std::array<std::byte, size> message_{};
  const int wait_;
  std::optional<pinned> pinned_;
  int socket_ = -1;
  pid_t pid_ = -1;
};

void ping_pong(benchmark::State& state, bool poll) {
  echo_process echo(poll);
  for (auto _ : state) {
    if (!echo.round_trip()) {
      state.SkipWithError("the echo process is gone");
      break;
    }
  }
}

// The two kinds of hop, behind one face: co_await hop() runs an empty task elsewhere and comes back.
struct pool_hop {
  explicit pool_hop(asio::io_context& io) : pool(io, shmpool::pool_options{.workers = 1}) {}
  auto operator()() { return pool.submit(nothing, asio::use_awaitable); }
  shmpool::process_pool pool;
};
struct thread_hop {
  explicit thread_hop(asio::io_context&) {}
  auto operator()() { return asio::post(threads, asio::use_awaitable); }
  asio::thread_pool threads{1};
};

template <class Hop>
asio::awaitable<void> hop_once(Hop& hop) {
  co_await hop();
}

template <class Hop>
asio::awaitable<void> hop_for(benchmark::State& state, Hop& hop) {
  for (auto _ : state) co_await hop();
}

template <class Hop>
void one_at_a_time(benchmark::State& state) {
  asio::io_context io;
  Hop hop(io);
  bench::run(io, hop_once(hop));  // starts what is started on demand
  bench::run(io, hop_for(state, hop));
}

template <class Hop>
asio::awaitable<void> hop_while(std::size_t& left, Hop& hop) {
  while (left > 0) {
    --left;
    co_await hop();
  }
}

template <class Hop>
asio::awaitable<void> start(std::size_t coroutines, std::size_t& left, Hop& hop) {
  auto executor = co_await asio::this_coro::executor;
  for (std::size_t i = 0; i < coroutines; ++i) {
    asio::co_spawn(executor, hop_while(left, hop), [](std::exception_ptr error) {
      if (error) std::rethrow_exception(error);
    });
  }
}

template <class Hop>
void thousand_at_once(benchmark::State& state) {
  constexpr std::size_t coroutines = 1'000, tasks = 20'000;
  asio::io_context io;
  Hop hop(io);
  bench::run(io, hop_once(hop));
  for (auto _ : state) {
    std::size_t left = tasks;
    bench::run(io, start(coroutines, left, hop));
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(tasks));
}

void register_all() {
  using benchmark::RegisterBenchmark;
  const auto plain = [](auto function, bool yardstick = false) {
    return [=](benchmark::State& state) {
      if (yardstick) state.SetLabel(bench::yardstick);
      function(state);
    };
  };
  const auto in = [](benchmark::internal::Benchmark* b, benchmark::TimeUnit unit) { b->UseRealTime()->Unit(unit); };
  const auto us = benchmark::kMicrosecond;
  in(RegisterBenchmark("one_at_a_time/asio_thread_pool", plain(one_at_a_time<thread_hop>, true)), us);
  in(RegisterBenchmark("one_at_a_time/shmpool", plain(one_at_a_time<pool_hop>)), us);
  in(RegisterBenchmark("one_at_a_time/socket_ping_pong", plain([](auto& state) { ping_pong(state, false); })), us);
  in(RegisterBenchmark("one_at_a_time/polled_socket_ping_pong", plain([](auto& state) { ping_pong(state, true); })),
     us);
  in(RegisterBenchmark("20000_tasks_1000_at_once/asio_thread_pool", plain(thousand_at_once<thread_hop>, true)), us);
  in(RegisterBenchmark("20000_tasks_1000_at_once/shmpool", plain(thousand_at_once<pool_hop>)), us);
}

}  // namespace

int main(int argc, char** argv) {
  shmpool::init(argc, argv);
  register_all();
  return bench::run_benchmarks(argc, argv);
}
