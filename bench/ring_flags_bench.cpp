// How long a thread that waits on a ring's descriptor sleeps on after the peer has written, when another thread has
// submitted the receive: with and without IORING_SETUP_COOP_TASKRUN, for a submitter that computes and one that is
// blocked. docs/adr/0007 rests on it.
#include <liburing.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <semaphore>
#include <thread>
#include <vector>

namespace {

using bench_clock = std::chrono::steady_clock;
constexpr int rounds = 60;

void measure(const char* name, unsigned flags, bool computes) {
  io_uring ring;
  if (const int error = io_uring_queue_init(256, &ring, IORING_SETUP_CLAMP | flags); error < 0) {
    std::printf("%-10s %s\n", name, std::strerror(-error));
    return;
  }
  std::array<int, 2> sockets{};
  if (::socketpair(AF_UNIX, SOCK_STREAM, 0, sockets.data()) != 0) return;
  const int waiter = ::epoll_create1(0);
  epoll_event interest{};
  interest.events = EPOLLIN;
  ::epoll_ctl(waiter, EPOLL_CTL_ADD, ring.ring_fd, &interest);

  std::vector<double> microseconds;
  for (int round = 0; round != rounds; ++round) {
    char byte = 0;
    std::atomic<bool> stop{false};
    std::binary_semaphore armed{0}, over{0};
    std::thread submitter([&] {
      io_uring_sqe* request = io_uring_get_sqe(&ring);
      io_uring_prep_recv(request, sockets[0], &byte, 1, 0);
      io_uring_submit(&ring);
      armed.release();
      if (computes) {
        while (!stop.load(std::memory_order_relaxed)) {
        }
      } else {
        over.acquire();
      }
    });
    armed.acquire();
    bench_clock::time_point woke;
    std::atomic<bool> waiting{false};
    std::thread sleeper([&] {
      epoll_event event{};
      waiting = true;
      while (::epoll_wait(waiter, &event, 1, 2000) < 0) {
      }
      woke = bench_clock::now();
      stop = true;
    });
    while (!waiting) std::this_thread::yield();
    // The sleep is the point: the waiter has to be asleep, at any phase of the timer tick.
    std::this_thread::sleep_for(std::chrono::microseconds(5000 + round * 137 % 4000));
    const auto written = bench_clock::now();
    if (::write(sockets[1], "x", 1) != 1) return;
    sleeper.join();
    over.release();
    submitter.join();
    microseconds.push_back(std::chrono::duration<double, std::micro>(woke - written).count());
    io_uring_cqe* done = nullptr;
    while (io_uring_wait_cqe(&ring, &done) != 0) {
    }
    io_uring_cqe_seen(&ring, done);
  }
  std::sort(microseconds.begin(), microseconds.end());
  std::printf("%-10s %-9s median %6.0f us, p90 %6.0f us\n", name, computes ? "computes" : "blocked",
              microseconds[rounds / 2], microseconds[rounds * 9 / 10]);
  ::close(waiter);
  ::close(sockets[0]);
  ::close(sockets[1]);
  io_uring_queue_exit(&ring);
}

}  // namespace

int main() {
  for (int repeat = 0; repeat != 2; ++repeat) {
    for (const bool computes : {true, false}) {
      measure("plain", 0, computes);
      measure("coop", IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG, computes);
    }
  }
}
