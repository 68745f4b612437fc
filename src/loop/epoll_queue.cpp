// The completion queue on epoll: interest per descriptor, and the system calls that readiness allows.

#include "loop/epoll_queue.hpp"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <new>

#include "loop/operation_state.hpp"

namespace shmpool::loop {
namespace {

constexpr std::size_t largest_transfer = std::size_t{1} << 30;
constexpr std::uint32_t hung_up = EPOLLHUP | EPOLLERR;

int checked(int fd, const char* call) {
  if (fd < 0) throw std::system_error{errno, std::generic_category(), call};
  return fd;
}

// The result of a wait for readiness when `events` came up.
int poll_result(const operation& op, std::uint32_t events) noexcept {
  const std::uint32_t asked = op.what == operation::kind::poll_in ? EPOLLIN : EPOLLOUT;
  return static_cast<int>(events & (asked | hung_up));
}

// Does what it can of a receive or send without blocking. False if it has to wait for readiness.
bool transfer(operation& op, int& result) noexcept {
  for (;;) {
    const bool receives = op.what == operation::kind::receive;
    const std::size_t size = std::min(op.size - op.done, largest_transfer);
    const ssize_t moved = receives ? ::recv(op.fd, op.data, size, MSG_DONTWAIT)
                                   : ::send(op.fd, op.data + op.done, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (moved < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) return false;
      result = -errno;
      return true;
    }
    result = static_cast<int>(moved);
    if (receives) return true;
    op.done += static_cast<std::size_t>(moved);
    if (op.done == op.size) {
      result = static_cast<int>(op.size);
      return true;
    }
    if (moved == 0) {  // no progress and no error: must not be tried for ever
      result = -EIO;
      return true;
    }
  }
}

}  // namespace

epoll_queue::epoll_queue()
    : epoll_(checked(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")),
      wake_(checked(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")) {
  epoll_event nothing{};
  nothing.events = EPOLLONESHOT;
  nothing.data.fd = wake_.get();
  checked(::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_.get(), &nothing), "epoll_ctl");
}

epoll_queue::~epoll_queue() {
  cancel_all();
}

void epoll_queue::start(operation& op) {
  set_started(op);
  waiting_.push_back(op);
}

void epoll_queue::cancel(operation& op) {
  if (!op.pending || op.cancelling) return;
  op.cancelling = true;
  if (op.where == operation::place::ended) return;
  operation_list::unlink(op);
  const bool armed = op.where == operation::place::armed;
  const int fd = op.fd;
  end(op, -ECANCELED);
  // Now, not at the next submit(): the owner may close the descriptor as soon as it has reaped the operation.
  if (!armed) return;
  if (const auto found = watches_.find(fd); found != watches_.end()) update(fd, found->second);
}

std::error_code epoll_queue::submit() {
  while (operation* op = waiting_.pop_front()) begin(*op);
  return ended_.empty() ? std::error_code{} : raise_wake();
}

operation* epoll_queue::reap() {
  for (;;) {
    if (operation* op = ended_.pop_front()) return give_back(*op);
    std::array<epoll_event, 64> events;
    const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), 0);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return nullptr;
    std::for_each_n(events.begin(), count, [this](const epoll_event& event) {
      if (event.data.fd == wake_.get()) {
        wake_armed_ = false;
      } else {
        dispatch(event.data.fd, event.events);
      }
    });
    // Their readiness is consumed, so a caller that stops reaping after the first would not hear of the others. A
    // failure is reported by the next submit().
    if (ended_.has_several()) static_cast<void>(raise_wake());
  }
}

void epoll_queue::begin(operation& op) {
  if (op.what == operation::kind::send) {
    if (op.size > INT_MAX) return end(op, -EINVAL);
    const auto found = watches_.find(op.fd);
    const bool first = found == watches_.end() || found->second.writers.empty();
    int result = 0;
    if (first && transfer(op, result)) return end(op, result);
  }
  enqueue(op);
}

void epoll_queue::enqueue(operation& op) {
  try {
    const int fd = op.fd;
    watch& watched = watches_[fd];
    const bool reads = op.what == operation::kind::receive || op.what == operation::kind::poll_in;
    op.where = operation::place::armed;
    (reads ? watched.readers : watched.writers).push_back(op);
    update(fd, watched);
  } catch (const std::bad_alloc&) {
    end(op, -ENOMEM);
  }
}

// Asks the kernel for what the operations on `fd` wait for.
void epoll_queue::update(int fd, watch& watched) noexcept {
  const std::uint32_t wanted = (watched.readers.empty() ? 0U : EPOLLIN) | (watched.writers.empty() ? 0U : EPOLLOUT);
  if (wanted == watched.interest) return;
  if (wanted == 0) {
    // The last one was cancelled before anything fired.
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
    watched.interest = 0;
    watched.registered = false;
  } else if (const int error = set_interest(fd, watched, wanted)) {
    refuse(watched.readers, error);
    refuse(watched.writers, error);
    watched.interest = 0;
  }
}

// Returns 0 or an errno. What is registered may differ from what we know: the descriptor may have been closed and its
// number used again, or another descriptor of the same file may have been put back there.
int epoll_queue::set_interest(int fd, watch& watched, std::uint32_t wanted) noexcept {
  epoll_event event{};
  event.events = wanted | EPOLLONESHOT;
  event.data.fd = fd;
  const auto control = [&](int operation) { return ::epoll_ctl(epoll_.get(), operation, fd, &event) == 0 ? 0 : errno; };
  int error = control(watched.registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD);
  if (error == ENOENT && watched.registered) error = control(EPOLL_CTL_ADD);
  if (error == EEXIST) error = control(EPOLL_CTL_MOD);
  watched.registered = error == 0;
  if (error == 0) watched.interest = wanted;
  return error;
}

void epoll_queue::dispatch(int fd, std::uint32_t events) noexcept {
  const auto found = watches_.find(fd);
  if (found == watches_.end()) return;
  watch& watched = found->second;
  watched.interest = 0;
  if (events & (EPOLLIN | hung_up)) advance(watched.readers, events);
  if (events & (EPOLLOUT | hung_up)) advance(watched.writers, events);
  if (!watched.readers.empty() || !watched.writers.empty()) update(fd, watched);
}

// Serves the operations of one direction, oldest first, until one has to wait again.
void epoll_queue::advance(operation_list& list, std::uint32_t events) noexcept {
  while (!list.empty()) {
    operation& op = list.front();
    int result = 0;
    if (is_poll(op)) {
      result = poll_result(op, events);
    } else if (!transfer(op, result)) {
      return;
    }
    operation_list::unlink(op);
    end(op, result);
  }
}

// The kernel would not watch the descriptor. EPERM says that it is always ready, as a regular file is.
void epoll_queue::refuse(operation_list& list, int error) noexcept {
  while (operation* op = list.pop_front()) {
    int result = -error;
    if (error == EPERM) {
      if (is_poll(*op)) {
        result = poll_result(*op, EPOLLIN | EPOLLOUT);
      } else if (!transfer(*op, result)) {
        result = -error;
      }
    }
    end(*op, result);
  }
}

void epoll_queue::end(operation& op, int result) noexcept {
  op.result = result;
  op.where = operation::place::ended;
  ended_.push_back(op);
}

// Makes the descriptor readable until reap() has looked at it.
std::error_code epoll_queue::raise_wake() noexcept {
  if (wake_armed_) return {};
  epoll_event event{};
  event.events = EPOLLIN | EPOLLONESHOT;
  event.data.fd = wake_.get();
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, wake_.get(), &event) != 0) return {errno, std::generic_category()};
  wake_armed_ = true;
  return {};
}

void epoll_queue::cancel_all() noexcept {
  // A forked child shares the epoll instance: it would remove the parent's registrations.
  const bool inherited = made_here_.inherited_for_certain();
  const auto forget = [](operation_list& list) {
    while (operation* op = list.pop_front()) give_back(*op);
  };
  forget(waiting_);
  forget(ended_);
  for (auto& [fd, watched] : watches_) {
    forget(watched.readers);
    forget(watched.writers);
    if (watched.interest != 0 && !inherited) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  }
  watches_.clear();
}

}  // namespace shmpool::loop
