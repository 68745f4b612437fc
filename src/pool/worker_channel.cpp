#include "pool/worker_channel.hpp"

#include "process/assert.hpp"
#include "process/clock.hpp"
#include "process/futex.hpp"
#include "wire/fd_passing.hpp"

#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <system_error>

namespace shmpool::pool {

namespace {

/// Bytes of one send. The kernel takes up to 2 GiB at once, and several messages of 1 GiB may be queued.
constexpr std::size_t most_at_once = std::size_t{256} << 20;

}  // namespace

worker_channel::worker_channel(std::uint32_t number) : id(number) {
  // Blocking: io_uring waits on such a socket, but would return EAGAIN from a non-blocking one.
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    throw std::system_error(errno, std::system_category(), "shmpool: socketpair");
  }
  socket_ = unique_fd(ends[0]);
  worker_end = unique_fd(ends[1]);
  for (loop::operation* each : {&receive, &send, &exit_watch}) each->owner = this;
  receive.what = loop::operation::kind::receive;
  receive.fd = send.fd = socket_.get();
  exit_watch.what = loop::operation::kind::poll_in;
  tell_sleeps();
  wire::control_page& page = control.page();
  page.wakes_by_futex.store(futex::wake(page.frames_end) == 0 ? 1 : 0, std::memory_order_relaxed);
}

void worker_channel::await_end(monotonic_clock::time_point deadline) const noexcept {
  if (!process) return;
  pollfd ended{process.get(), POLLIN, 0};
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - monotonic_clock::now()).count();
    if (::poll(&ended, 1, static_cast<int>(std::max<long>(left, 0))) >= 0 || errno != EINTR) return;
  }
}

std::optional<std::uint16_t> worker_channel::take_slot(task_entry& task) noexcept {
  if (free_slots_ == 0) return std::nullopt;
  const auto index = static_cast<std::uint16_t>(std::countr_zero(free_slots_));
  SHMPOOL_ASSERT(!slots_[index].task);
  free_slots_ &= ~(std::uint64_t{1} << index);
  slots_[index] = {&task, ++last_handover_};
  slot(index).stop.store(0, std::memory_order_relaxed);
  slot(index).word.store(wire::slot_word(last_handover_, wire::slot_state::queued), std::memory_order_release);
  return index;
}

task_entry* worker_channel::task_of(std::uint64_t handover) const noexcept {
  for (std::uint64_t taken = ~free_slots_; taken != 0; taken &= taken - 1) {
    const assigned& each = slots_[static_cast<std::size_t>(std::countr_zero(taken))];
    if (each.handover == handover) return each.task;
  }
  return nullptr;
}

void worker_channel::free_slot(std::uint16_t index) noexcept {
  SHMPOOL_ASSERT(index < wire::slot_count && (free_slots_ >> index & 1) == 0);  // it is taken
  slots_[index] = {};
  free_slots_ |= std::uint64_t{1} << index;
  slot(index).word.store(wire::slot_word(0, wire::slot_state::free), std::memory_order_relaxed);
}

std::size_t worker_channel::started_tasks() const noexcept {
  std::size_t count = 0;
  for (std::uint64_t taken = ~free_slots_; taken != 0; taken &= taken - 1) {
    const auto index = static_cast<std::uint16_t>(std::countr_zero(taken));
    const auto started = wire::slot_word(slots_[index].handover, wire::slot_state::started);
    if (slot(index).word.load(std::memory_order_relaxed) == started) ++count;
  }
  return count;
}

void worker_channel::queue_frame(const wire::frame_header& header, std::span<const wire::segment_ref> segments,
                                 std::span<const std::byte> body) {
  if (!on_socket_ && requests_.put(header, segments, body)) note_queued(header.type);
  else queue_for_socket(header, segments, body);
}

void worker_channel::queue_frame(const wire::frame_header& header, std::span<const std::byte> body, int fd) {
  queue_with_descriptor(header, {}, body, fd, {});
}

void worker_channel::queue_frame(const wire::frame_header& header, const wire::segment_ref& ref, int fd,
                                 shm_handle segment) {
  queue_with_descriptor(header, {&ref, 1}, {}, fd, std::move(segment));
}

void worker_channel::queue_with_descriptor(const wire::frame_header& header,
                                           std::span<const wire::segment_ref> segments, std::span<const std::byte> body,
                                           int fd, shm_handle segment) {
  descriptors_.push_back({out_.size(), fd, std::move(segment)});
  try {
    queue_for_socket(header, segments, body);
  } catch (...) {
    descriptors_.pop_back();  // or another frame would get the descriptor
    throw;
  }
}

void worker_channel::note_queued(wire::frame_type type) noexcept {
  if (type == wire::frame_type::grant || type == wire::frame_type::refuse) {
    answer_waits = true;
    answer_on_socket_ = on_socket_;
  }
  if (marks.in) marks.in->has_frames(*this);
}

void worker_channel::queue_for_socket(const wire::frame_header& header, std::span<const wire::segment_ref> segments,
                                      std::span<const std::byte> body) {
  if (!std::exchange(on_socket_, true)) requests_.put_switch();
  note_queued(header.type);  // there is something to publish, whether or not the frame can be had
  wire::append_frame(out_, header, segments, body);
}

void worker_channel::queue_signal(wire::frame_type type) {
  wire::frame_header header;
  header.type = type;
  wire::append_frame(out_, header, {}, {});
}

void worker_channel::start_sending(loop::completion_queue& queue, monotonic_clock::time_point now) {
  if (life.is_ended()) return;
  if (!requests_.is_published()) {
    if (requests_.publish()) wake_due_ = true;
    if (!answer_on_socket_) answer_waits = false;
  }
  try {
    if (on_socket_ && requests_.is_roomy()) {
      queue_signal(wire::frame_type::by_ring);
      on_socket_ = false;
    }
    // Any frame in out_ is sent later than the frames in the ring were shown, so it wakes the worker. One that is being
    // sent may have come before the worker fell asleep.
    if (wake_due_ && out_.empty()) queue_signal(wire::frame_type::wake);
    wake_due_ = false;
  } catch (const std::bad_alloc&) {
    return retries.failed("memory for a frame", ENOMEM, now);
  }
  if (send.pending || retries.is_waiting()) return;
  if (sending_.empty()) {  // else send the rest of an incomplete send
    if (out_.empty()) return;
    if (!descriptors_.empty()) return send_with_descriptors(queue, now);
    std::swap(out_, sending_);
    answer_waits = false;
  }
  send.what = loop::operation::kind::send;
  send.data = sending_.data();
  send.size = std::min(sending_.size(), most_at_once);
  queue.start(send);
}

/// Sends descriptors by plain sendmsg, each with the first byte of its frame: this function sends everything up to the
/// last descriptor, start_sending() the rest.
void worker_channel::send_with_descriptors(loop::completion_queue& queue, monotonic_clock::time_point now) {
  std::size_t sent = 0;
  while (!descriptors_.empty()) {
    const std::size_t position = descriptors_.front().position;
    const int fd = descriptors_.front().fd;
    const bool at_frame = position == sent;
    // One message must not reach into the next frame that has a descriptor.
    const std::size_t until = !at_frame ? position : descriptors_.size() > 1 ? descriptors_[1].position : out_.size();
    const ssize_t result = wire::send_with_fds(socket_.get(), std::span(out_).subspan(sent, until - sent),
                                               std::span(&fd, at_frame ? 1U : 0U), MSG_DONTWAIT);
    if (result == -EAGAIN) {
      send.what = loop::operation::kind::poll_out;
      queue.start(send);
      break;
    }
    if (result < 0 && !is_end(static_cast<int>(-result))) {
      retries.failed("sendmsg", static_cast<int>(-result), now);
      break;
    }
    // The worker is dead or dying; the report of its exit will end its tasks.
    if (result < 0) {
      sent = out_.size();
      descriptors_.clear();
      break;
    }
    sent += static_cast<std::size_t>(result);
    if (at_frame) descriptors_.pop_front();
  }
  out_.erase(out_.begin(), out_.begin() + static_cast<std::ptrdiff_t>(sent));
  if (sent != 0) answer_waits = false;
  for (auto& each : descriptors_) each.position -= sent;
  if (descriptors_.empty() && !send.pending) start_sending(queue, now);
}

void worker_channel::sent(loop::completion_queue& queue, monotonic_clock::time_point now) {
  if (send.what == loop::operation::kind::send) {
    sending_.erase(sending_.begin(), sending_.begin() + static_cast<std::ptrdiff_t>(send.done));
    if (send.result < 0) {
      if (!is_end(-send.result)) return retries.failed("send", -send.result, now);
      // The worker is dead or dying, as above.
      out_.clear();
      descriptors_.clear();
      sending_.clear();
    }
    if (!sending_.empty()) return start_sending(queue, now);
    if (sending_.capacity() > 1024 * 1024) std::vector<std::byte>().swap(sending_);
  }
  start_sending(queue, now);
}

bool worker_channel::is_end(int error) noexcept {
  return error == EPIPE || error == ECONNRESET || error == ENOTCONN || error == ECANCELED || error == EBADF;
}

void worker_channel::start_receiving(loop::completion_queue& queue, monotonic_clock::time_point now) {
  try {
    const auto room = replies.prepare();
    receive.data = room.data();
    receive.size = room.size();
  } catch (const std::bad_alloc&) {
    return retries.failed("memory for replies", ENOMEM, now);
  }
  queue.start(receive);
}

void worker_channel::collect_last_words() {
  // Reads only the present bytes: a process that the worker has left behind may hold its socket and go on writing.
  int in_socket = 0;
  if (::ioctl(socket_.get(), SIOCINQ, &in_socket) != 0) in_socket = 0;
  while (in_socket > 0) {
    const auto room = replies.prepare();
    const ssize_t result =
        ::recv(socket_.get(), room.data(), std::min(room.size(), static_cast<std::size_t>(in_socket)), MSG_DONTWAIT);
    if (result > 0) {
      replies.commit(static_cast<std::size_t>(result));
      in_socket -= static_cast<int>(result);
    } else if (result == 0 || (errno != EINTR && errno != ECONNRESET)) {
      // recv reports ECONNRESET once if the worker died with unread input; its written bytes are still there.
      break;
    }
  }
}

void worker_channel::set_polled(bool polled) noexcept {
  if (polled == this->polled()) return;
  ++sleeps_;
  tell_sleeps();
  // Either the worker sees that polling is over, or the next look sees the replies that it has only left in the ring.
  if (!polled) std::atomic_thread_fence(std::memory_order_seq_cst);
}

void worker_channel::before_look() noexcept {
  if (!polled()) sleeps_ += 2;
  tell_sleeps();
  // Either the worker sees the new number and rings again, or the next look sees its replies.
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

void worker_channel::let_spin(std::chrono::nanoseconds most) noexcept {
  const auto ns = static_cast<std::uint32_t>(std::clamp<std::int64_t>(most.count(), 0, 1'000'000'000));
  if (std::exchange(spin_ns_, ns) != ns) control.page().spin_ns.store(ns, std::memory_order_relaxed);
}

}  // namespace shmpool::pool
