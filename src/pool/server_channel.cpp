#include "pool/server_channel.hpp"

#include "process/fault_point.hpp"
#include "wire/fd_passing.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

namespace shmpool::pool {

namespace {

const char* name_of(std::uint32_t call) noexcept {
  switch (static_cast<wire::failed_call>(call)) {
    case wire::failed_call::fork: return "fork";
    case wire::failed_call::pidfd_open: return "pidfd_open";
    case wire::failed_call::receive_descriptors: return "recvmsg of descriptors in the fork server";
  }
  return "the fork server";
}

std::string describe(const char* call, int error) {
  return std::string(call) + ": " + std::system_category().message(error);
}

}  // namespace

server_channel::server_channel(loop::completion_queue& queue, std::unique_ptr<source> servers)
    : queue_(queue), servers_(std::move(servers)), socket_(servers_->connect(false)) {
  watch_.what = loop::operation::kind::poll_in;
  send_.what = loop::operation::kind::poll_out;
  watch();
}

void server_channel::watch() {
  watch_.fd = socket_.get();
  queue_.start(watch_);
}

void server_channel::add(report::kind what, std::uint32_t worker, std::string why) {
  report made;
  made.what = what;
  made.worker = worker;
  made.why = std::move(why);
  reports_.push_back(std::move(made));
}

void server_channel::spawn(std::uint32_t worker, const wire::worker_settings& settings, unique_fd socket,
                           unique_fd control, time_point now) {
  outgoing made;
  made.message.head.type = wire::server_message_type::spawn;
  made.message.head.worker = worker;
  made.message.settings = settings;
  made.socket = std::move(socket);
  made.control = std::move(control);
  outbox_.push_back(std::move(made));
  flush(now);
}

void server_channel::kill(std::uint32_t worker, time_point now) {
  outgoing made;
  made.message.head.type = wire::server_message_type::kill;
  made.message.head.worker = worker;
  outbox_.push_back(std::move(made));
  flush(now);
}

void server_channel::forget(std::uint32_t worker) noexcept {
  std::erase_if(outbox_, [worker](const outgoing& each) {
    return each.message.head.worker == worker && each.message.head.type == wire::server_message_type::spawn;
  });
}

void server_channel::flush(time_point now) {
  while (!outbox_.empty() && socket_ && !send_.pending) {
    const outgoing& next = outbox_.front();
    const std::uint32_t worker = next.message.head.worker;
    const bool spawns = next.message.head.type == wire::server_message_type::spawn;
    const int fds[] = {next.socket.get(), next.control.get()};
    const std::size_t size = spawns ? sizeof next.message : sizeof next.message.head;
    // Add the report before sending, so that it cannot be lost if memory runs out.
    if (spawns) add(report::kind::told, worker, {});
    const ssize_t sent = wire::send_with_fds(socket_.get(), std::as_bytes(std::span(&next.message, 1)).first(size),
                                             std::span(fds, spawns ? 2U : 0U), MSG_DONTWAIT);
    // If the server is dead, watch_ reports that, and the next server gets this message.
    const bool dead = sent == -EPIPE || sent == -ECONNRESET;
    if (spawns && (sent == -EAGAIN || dead)) reports_.pop_back();
    if (sent == -EAGAIN) {
      send_.fd = socket_.get();
      queue_.start(send_);
    }
    if (sent == -EAGAIN || dead) return;
    if (sent < 0 && !spawns) {  // keep it: a worker that is not killed would keep its task for ever
      if (retries_.send_refused(now)) {
        add(report::kind::stuck, worker, describe("sendmsg to the fork server", static_cast<int>(-sent)));
      }
      return;
    }
    retries_.sent();
    outbox_.pop_front();
    if (spawns && sent < 0) {  // e.g. ETOOMANYREFS: descriptors in flight count against the limit
      reports_.back().what = report::kind::spawn_failed;
      reports_.back().why = describe("sendmsg to the fork server", static_cast<int>(-sent));
    } else if (spawns) {
      SHMPOOL_FAULT_POINT("parent.worker_asked");
    }
  }
}

void server_channel::reaped(const loop::operation& op, time_point now) {
  if (&op == &send_) return flush(now);
  if (watched_ && socket_) receive(now);
}

void server_channel::receive(time_point now) {
  while (receive_one(now)) {
  }
  if (socket_ && !retries_.is_receiving_refused()) watch();
}

bool server_channel::receive_one(time_point now) {
  report heard;
  wire::server_message& message = heard.message;
  std::vector<unique_fd> fds;
  const ssize_t received =
      wire::receive_with_fds(socket_.get(), std::as_writable_bytes(std::span(&message, 1)), fds, MSG_DONTWAIT);
  if (received == -EAGAIN) return retries_.received(), false;  // it refuses nothing: there is nothing
  if (received == -ECONNRESET) return true;  // reported once if it died with unread input; its messages are still there
  if ((received == -ENOMEM || received == -ENOBUFS) && !retries_.receive_refused(now)) return false;
  retries_.received();
  const bool no_descriptor = received == -EMFILE;
  if (received != sizeof message && !no_descriptor) return lost(), false;
  if (!no_descriptor) retries_.server_spoke();
  heard.worker = message.worker;
  switch (message.type) {
    case wire::server_message_type::spawned:
      if (!no_descriptor && !fds.empty()) heard.process = std::move(fds.front());
      if (heard.process) servers_->works();
      heard.what = report::kind::spawned;
      break;
    case wire::server_message_type::spawn_failed:
      heard.what = report::kind::spawn_failed;
      heard.why = describe(name_of(message.call), message.status);
      break;
    case wire::server_message_type::exited: heard.what = report::kind::exited; break;
    default: return true;
  }
  reports_.push_back(std::move(heard));
  return true;
}

void server_channel::lost() {
  queue_.cancel(send_);
  socket_.reset();
  retries_.server_lost();
  // Drop kills: those workers die with the server, or are never started.
  std::erase_if(outbox_,
                [](const outgoing& each) { return each.message.head.type != wire::server_message_type::spawn; });
  add(report::kind::lost, 0, {});
}

void server_channel::reconnect(time_point now, bool wanted) {
  std::string why;
  bool connected = false;
  // Descriptors or memory may be short only for now, so a later server may not die at once.
  if (retries_.begin_attempt(wanted)) {
    try {
      socket_ = servers_->connect(true);
      watch();
      connected = true;
    } catch (const std::exception& error) {
      why = error.what();
    }
    if (connected) return flush(now);
    if (retries_.attempts_left() && servers_->may_try_again()) return retries_.attempt_failed(now);
  }
  if (wanted && why.empty()) why = servers_->how_it_ended();
  outbox_.clear();
  add(report::kind::gone, 0, std::move(why));
}

void server_channel::tick(time_point now, bool wanted) {
  if (retries_.reconnect_is_due(now)) reconnect(now, wanted);
  if (retries_.resend_is_due(now)) flush(now);
  if (retries_.receive_is_due(now) && watched_ && socket_) receive(now);
}

std::optional<server_channel::report> server_channel::next_report() {
  if (reports_.empty()) return std::nullopt;
  std::optional<report> first = std::move(reports_.front());
  reports_.pop_front();
  return first;
}

void server_channel::stop_watching() {
  watched_ = false;
  queue_.cancel(watch_);
}

void server_channel::half_close() noexcept {
  if (socket_) ::shutdown(socket_.get(), SHUT_WR);
}

bool server_channel::wait(time_point deadline) {
  if (!socket_) return false;
  for (;;) {
    const auto now = monotonic_clock::now();
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - now).count();
    pollfd answer{socket_.get(), POLLIN, 0};
    const int polled = ::poll(&answer, 1, static_cast<int>(std::max<long>(left, 0)));
    if (polled < 0 && errno == EINTR) continue;
    if (polled <= 0) return false;
    while (receive_one(now)) {
    }
    return is_open() && !retries_.is_receiving_refused();
  }
}

}  // namespace shmpool::pool
