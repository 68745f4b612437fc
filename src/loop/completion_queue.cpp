// Chooses between the two completion queues. That io_uring can be set up does not say that it works (a sandbox may
// forbid only some of its calls), so a byte makes one round trip before it is trusted.

#include "loop/completion_queue.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <string>

#include "loop/epoll_queue.hpp"
#include "loop/uring_queue.hpp"
#include "process/clock.hpp"
#include "process/unique_fd.hpp"

namespace shmpool::loop {
namespace {

constexpr std::chrono::milliseconds probe_patience{1000};

std::system_error probe_error(std::error_code error, const char* what) {
  return std::system_error{
      error,
      std::string{"io_uring was set up but does not work (choose backend::automatic or backend::epoll): "} + what};
}

// Waits until `fd` is readable or the patience is at an end.
bool readable(int fd) {
  const auto end = monotonic_clock::now() + probe_patience;
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - monotonic_clock::now());
    if (left.count() <= 0) return false;
    pollfd waited{.fd = fd, .events = POLLIN, .revents = 0};
    const int count = ::poll(&waited, 1, static_cast<int>(left.count()));
    if (count > 0) return true;
    if (count < 0 && errno != EINTR) throw std::system_error{errno, std::generic_category(), "poll"};
  }
}

// Receives one byte through `queue`, which arrives after the receive has begun to wait. Throws if that does not work.
void round_trip(completion_queue& queue) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    throw std::system_error{errno, std::generic_category(), "socketpair"};
  }
  const unique_fd ours{ends[0]};
  const unique_fd theirs{ends[1]};
  std::byte received{};
  operation receive{.what = operation::kind::receive, .fd = ours.get(), .data = &received, .size = 1};
  // The kernel must not write to this stack frame once it is gone.
  struct cancel_at_end {
    completion_queue& queue;
    ~cancel_at_end() { queue.cancel_all(); }
  } const guard{queue};

  queue.start(receive);
  if (const std::error_code error = queue.submit()) throw probe_error(error, "io_uring_enter");
  if (queue.reap() != nullptr) {
    throw probe_error({receive.result < 0 ? -receive.result : EIO, std::generic_category()}, "receive");
  }
  const std::byte sent{0x5a};
  if (::send(theirs.get(), &sent, 1, MSG_NOSIGNAL | MSG_DONTWAIT) != 1) {
    throw std::system_error{errno, std::generic_category(), "send"};
  }
  if (!readable(queue.descriptor())) throw probe_error(std::make_error_code(std::errc::timed_out), "poll");
  if (queue.reap() != &receive) throw probe_error(std::make_error_code(std::errc::io_error), "no completion");
  if (receive.result != 1 || received != sent) {
    throw probe_error({receive.result < 0 ? -receive.result : EIO, std::generic_category()}, "receive");
  }
}

std::unique_ptr<completion_queue> make_tested_uring_queue() {
  auto queue = std::make_unique<uring_queue>();
  round_trip(*queue);
  return queue;
}

// False once io_uring was found not to work in this process, as finding out may take the probe's patience. A shortage
// does not count, as it passes.
std::atomic<bool> uring_may_work{true};

bool is_shortage(const std::error_code& error) noexcept {
  return error == std::errc::not_enough_memory || error == std::errc::too_many_files_open ||
         error == std::errc::too_many_files_open_in_system || error == std::errc::resource_unavailable_try_again;
}

}  // namespace

std::unique_ptr<completion_queue> make_completion_queue(backend which) {
  switch (which) {
    case backend::epoll: return std::make_unique<epoll_queue>();
    case backend::io_uring: return make_tested_uring_queue();
    case backend::automatic: break;
  }
  if (uring_may_work.load(std::memory_order_relaxed)) {
    // Tested each time, as a filter may have been installed since.
    try {
      return make_tested_uring_queue();
    } catch (const std::system_error& error) {
      if (!is_shortage(error.code())) uring_may_work.store(false, std::memory_order_relaxed);
    }
  }
  return std::make_unique<epoll_queue>();
}

}  // namespace shmpool::loop
