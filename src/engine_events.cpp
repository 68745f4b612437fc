// What the loop, the workers and the fork server report.
#include "engine.hpp"

#include "wire/fd_passing.hpp"
#include "worker/fork_server.hpp"

#include <shmpool/detail/exception_codec.hpp>

#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

namespace shmpool::detail {

namespace {

/// How long the fork server may take to say how a dead worker ended.
constexpr auto status_patience = std::chrono::milliseconds(200);

const char* name_of(std::uint32_t call) noexcept {
  switch (static_cast<wire::failed_call>(call)) {
    case wire::failed_call::fork: return "fork";
    case wire::failed_call::pidfd_open: return "pidfd_open";
    case wire::failed_call::receive_descriptors: return "recvmsg of descriptors in the fork server";
  }
  return "the fork server";
}

}  // namespace

bool pool_engine::reap(clock::time_point now) {
  bool any = false;
  while (loop::operation* op = queue_->reap()) {
    any = true;
    if (op == &server_watch_) {
      if (server_watch_.owner) on_server_readable(now);
    } else if (op == &server_send_) {
      send_to_server();
    } else if (op == &timer_watch_) {
      std::uint64_t expirations;
      if (::read(timer_.get(), &expirations, sizeof expirations) > 0) timer_due_ = clock::time_point::max();
      scheduler_->tick(now);
      check_exits(now);
    } else {
      link& about = *static_cast<link*>(op->owner);
      if (op == &about.receive) {
        on_received(about, now);
      } else if (op == &about.send) {
        // A stream that cannot be written is that of a worker that has died; its end is noticed by its other operations.
        if (about.state != link::stage::gone) (void)about.sent(*queue_);
      } else if (about.state != link::stage::gone && op->result >= 0) {
        about.process_ended = true;
        about.status_due = now + status_patience;
        if (about.server_gone) about.status_due.reset();
        check_exits(now);
      }
    }
    run_actions(now);
  }
  // Only now: until here actions may ask how a worker ended.
  std::erase_if(links_, [](const auto& each) {
    const link& about = *each.second;
    return about.state == link::stage::gone && !about.receive.pending && !about.send.pending && !about.exit_watch.pending;
  });
  const bool waits = arm_timer();
  return any || waits;
}

void pool_engine::on_received(link& from, clock::time_point now) {
  if (from.state == link::stage::gone) return;
  if (from.receive.result > 0) {
    from.reader.commit(static_cast<std::size_t>(from.receive.result));
    from.received += static_cast<std::uint64_t>(from.receive.result);
    if (from.violation.empty()) (void)read_frames(from, now);
  }
  if (from.exit_known()) return exited(from, now);
  if (!from.violation.empty()) return;
  if (from.receive.result > 0 || from.receive.result == -ECANCELED) {
    from.start_receiving(*queue_);
  } else if (from.state != link::stage::leaving) {
    kill(from);  // it has closed its socket: of no use, if it is not dying anyway
  }
}

/// False if the stream was given up.
bool pool_engine::read_frames(link& from, clock::time_point now) {
  for (;;) {
    wire::frame next;
    switch (from.reader.next(next)) {
      case wire::frame_reader::status::incomplete: return true;
      case wire::frame_reader::status::malformed: violated(from, from.reader.why(), now); return false;
      case wire::frame_reader::status::frame: break;
    }
    if (!on_frame(from, next, now)) return false;
  }
}

bool pool_engine::on_frame(link& from, const wire::frame& in, clock::time_point now) {
  switch (in.header.type) {
    case wire::frame_type::ready:
      if (from.ready) return violated(from, "it was ready twice", now), false;
      from.ready = true;
      from.told_pid(in.header.task);
      if (!on_account(from, nullptr, in)) return violated(from, "it reported memory that it was not given", now), false;
      from.initializer_leases.clear();
      return true;
    case wire::frame_type::init_failed: {
      if (from.ready) return violated(from, "it was ready and failed to start", now), false;
      from.told_pid(in.header.task);
      const std::string what = in.header.value == 0 ? "pool_options::initializer threw" : "a worker cannot be set up";
      try {
        std::rethrow_exception(decode_exception(in.body, from.pid));
      } catch (const std::exception& error) {
        break_pool(what + ": " + error.what(), std::current_exception(), now);
      } catch (...) {
        break_pool(what, std::current_exception(), now);
      }
      return true;
    }
    case wire::frame_type::value:
    case wire::frame_type::error:
      if (!on_result(from, in, now)) return violated(from, "it sent a result that makes no sense", now), false;
      return true;
    case wire::frame_type::need:
      if (!on_need(from, in)) return violated(from, "it asked for memory without a task", now), false;
      return true;
    case wire::frame_type::progress: {
      const auto* which = static_cast<task*>(scheduler_->assigned_context(from.id, in.header.task));
      const auto fraction = std::bit_cast<double>(in.header.value);
      // Of a task that has ended meanwhile, or a number that is none: nothing to tell.
      if (which && which->on_progress && fraction >= 0 && fraction <= 1) progress_.push_back({which->on_progress, fraction});
      return true;
    }
    case wire::frame_type::released:
      if (in.body.size() % sizeof(std::uint64_t) != 0) return violated(from, "it released half a segment", now), false;
      for (std::size_t at = 0; at != in.body.size(); at += sizeof(std::uint64_t)) {
        std::uint64_t id;
        std::memcpy(&id, in.body.data() + at, sizeof id);
        from.kept.erase(id);
      }
      return true;
    default: return violated(from, "it sent a frame that only the parent sends", now), false;
  }
}

/// The worker's account of its memory: which files it has made, which segments it keeps. Believed only about segments that
/// it was given.
bool pool_engine::on_account(link& from, task* of, const wire::frame& in) {
  const auto given = [&](std::uint64_t id) {
    link::kept_segment found;
    if (const auto kept = from.kept.find(id); kept != from.kept.end()) found = kept->second;
    const auto add = [&](const shm_handle& each, bool writable) {
      if (each.get()->id() == id) found = {each, found.writable || writable};
    };
    for (const shm_handle& each : of ? of->leases : from.initializer_leases) add(each, true);
    if (of) {
      for (const attachment& each : of->attachments) add(each.handle, each.mode != access::read);
    }
    return found;
  };
  for (std::size_t i = 0; i != in.segment_count(); ++i) {
    const wire::segment_ref ref = in.segment(i);
    if ((ref.flags & wire::flag_result) != 0) continue;
    link::kept_segment segment = given(ref.id);
    if (!segment.handle) return false;
    if ((ref.flags & wire::flag_created) != 0) {
      auto& made = static_cast<shm::pool_segment&>(*segment.handle.get());
      made.mark_created();
      made.note_mapped_by(from.id);
    }
    if ((ref.flags & wire::flag_kept) != 0) from.kept.insert_or_assign(ref.id, std::move(segment));
  }
  return true;
}

bool pool_engine::on_result(link& from, const wire::frame& in, clock::time_point now) {
  if (in.header.task == 0 || from.task_in(in.header.slot) != in.header.task) return false;
  auto* which = static_cast<task*>(scheduler_->assigned_context(from.id, in.header.task));
  if (!which || !on_account(from, which, in)) return false;

  // What the result refers to must be what this worker has, within its bounds, and no more writable than it was given.
  outcome result;
  std::vector<std::size_t> used;
  for (std::size_t i = 0; i != in.segment_count(); ++i) {
    const wire::segment_ref ref = in.segment(i);
    if ((ref.flags & wire::flag_result) == 0) continue;
    // It may have the segment in several ways: of those that hold the range, the most permissive one counts.
    attachment found;
    const auto consider = [&](const shm_handle& handle, std::uint64_t offset, std::uint64_t length, access mode) {
      if (handle.get()->id() != ref.id || (found.handle && mode == access::read)) return false;
      if (ref.offset < offset || ref.length > length || ref.offset - offset > length - ref.length) return false;
      found = {handle, offset, length, mode};
      return true;
    };
    const auto consider_whole = [&](const shm_handle& handle, access mode) {
      return consider(handle, 0, static_cast<shm::pool_segment&>(*handle.get()).reserved(), mode);
    };
    for (const attachment& each : which->attachments) consider(each.handle, each.offset, each.length, each.mode);
    if (const auto kept = from.kept.find(ref.id); kept != from.kept.end()) {
      consider_whole(kept->second.handle, kept->second.writable ? access::own : access::read);
    }
    for (const shm_handle& each : which->leases) {
      if (consider_whole(each, access::own)) used.push_back(static_cast<std::size_t>(ref.offset + ref.length));
    }
    if (!found.handle) return false;
    auto& segment = static_cast<shm::pool_segment&>(*found.handle.get());
    if (!segment.created()) return false;
    if (const std::error_code error = segment.map(static_cast<std::size_t>(ref.offset + ref.length))) return false;
    result.attachments.push_back({found.handle, ref.offset, ref.length, found.mode == access::read ? access::read : access::own});
  }

  const auto longest = now - std::min(which->assigned, now);
  const auto run = std::min(std::chrono::nanoseconds(in.header.value & 0x7fff'ffff'ffff'ffffU), std::chrono::nanoseconds(longest));
  std::exception_ptr thrown;
  if (in.header.type == wire::frame_type::error) {
    try {
      thrown = decode_exception(in.body, from.pid);
    } catch (...) {
      return false;
    }
  }
  if (!scheduler_->replied(from.id, in.header.task, run, now)) return false;
  functions_.ran(which->function, run);
  result.run = run;
  result.worker_pid = from.pid;
  if (thrown) {
    result.attachments.clear();
    result.error = std::move(thrown);
    ++failed_;
  } else {
    functions_[which->function].result_sizes = std::move(used);
    result.bytes.assign(in.body.begin(), in.body.end());
    ++succeeded_;
  }
  operation& op = *which->op;
  op.result = std::move(result);
  finish(*which);
  completed_.push(op);
  return true;
}

bool pool_engine::on_need(link& from, const wire::frame& in) {
  task* which = nullptr;
  if (in.header.task != 0) {
    which = static_cast<task*>(scheduler_->assigned_context(from.id, in.header.task));
    if (!which) return false;
  } else if (from.ready) {
    return false;
  }
  wire::frame_header header;
  header.task = in.header.task;
  try {
    shm_handle leased = store_->lease(static_cast<std::size_t>(in.header.value), from.id, in.header.slot != 0);
    auto& segment = static_cast<shm::pool_segment&>(*leased.get());
    from.known_segments.insert(segment.id());
    wire::segment_ref ref;
    ref.id = segment.id();
    ref.pool = segment.pool_id();
    ref.capacity = segment.capacity();
    ref.reserved = segment.reserved();
    ref.length = in.header.value;
    ref.access = static_cast<std::uint8_t>(access::lease);
    header.type = wire::frame_type::grant;
    if (segment.descriptor() >= 0) {
      ref.flags = wire::flag_memfd | wire::flag_with_fd;
      from.queue_descriptor(segment.descriptor());
    } else if (!segment.created()) {
      ref.flags = wire::flag_fresh;
    }
    from.queue_frame(header, {&ref, 1}, {});
    (which ? which->leases : from.initializer_leases).push_back(std::move(leased));
  } catch (const std::system_error& error) {
    header.type = wire::frame_type::refuse;
    header.value = static_cast<std::uint64_t>(errc::shm_exhausted);
    const std::string_view text = error.what();
    from.queue_frame(header, {}, std::as_bytes(std::span(text)));
  }
  return true;
}

void pool_engine::violated(link& from, const char* what, clock::time_point) {
  from.violation = "worker " + std::to_string(from.pid) + " was killed: " + what;
  kill(from);
  queue_->cancel(from.receive);
}

void pool_engine::watch_server() {
  server_watch_.what = loop::operation::kind::poll_in;
  server_watch_.fd = server_.get();
  server_watch_.owner = this;
  queue_->start(server_watch_);
}

void pool_engine::on_server_readable(clock::time_point now) {
  for (;;) {
    wire::server_message message;
    std::vector<unique_fd> fds;
    const ssize_t received =
        wire::receive_with_fds(server_.get(), std::as_writable_bytes(std::span(&message, 1)), fds, MSG_DONTWAIT);
    if (received == -EAGAIN) break;
    if (received == -EMFILE) {
      // The descriptor of a new worker could not be taken in: it cannot be controlled, so it has to go.
      if (link* about = find(message.worker); about && message.type == wire::server_message_type::spawned) {
        kill(*about);
        start_failed(*about, "recvmsg of a worker's pidfd: " + std::system_category().message(EMFILE), now);
        run_actions(now);
      }
      continue;
    }
    if (received != sizeof message) return on_server_lost(now);
    on_server_message(message, fds.empty() ? unique_fd() : std::move(fds.front()), now);
    run_actions(now);
  }
  queue_->start(server_watch_);
}

void pool_engine::on_server_message(const wire::server_message& message, unique_fd descriptor, clock::time_point now) {
  link* const about = find(message.worker);
  if (!about || about->state == link::stage::gone) return;
  switch (message.type) {
    case wire::server_message_type::spawned:
      about->pid = message.pid;
      about->process = std::move(descriptor);
      about->exit_watch.fd = about->process.get();
      queue_->start(about->exit_watch);
      if (about->state == link::stage::starting) about->state = link::stage::running;
      scheduler_->worker_started(about->id, now);
      break;
    case wire::server_message_type::spawn_failed:
      --workers_started_;
      start_failed(*about, std::string(name_of(message.call)) + ": " + std::system_category().message(message.status), now);
      break;
    case wire::server_message_type::exited:
      about->wait_status = message.status;
      about->max_rss_bytes = message.max_rss_bytes;
      check_exits(now);
      break;
    default: break;
  }
}

/// The fork server is dead, and with it all workers (they die with their parent). A program that called init gets a new one.
void pool_engine::on_server_lost(clock::time_point now) {
  queue_->cancel(server_send_);
  server_.reset();
  for (const auto& [id, each] : links_) {
    if (each->state == link::stage::gone) continue;
    each->server_gone = true;
    each->status_due.reset();
    // One that it was to start may never have been there; else it is dying. One that it has not been told of is for the next.
    if (each->process) kill(*each);
    else if (!each->worker_end) each->process_ended = true;
  }
  std::erase_if(unsent_, [](const auto& each) { return each.head.type != wire::server_message_type::spawn; });
  try {
    server_ = worker::connect_pool(store_->pool_id(), worker::server_start::only_executing);
    watch_server();
    send_to_server();
  } catch (const std::exception& error) {
    break_pool(std::string("the fork server died and cannot be started again: ") + error.what(), nullptr, now);
  }
  check_exits(now);
}

/// Half-closed, the socket makes the server kill what it has started for the pool and close its end.
void pool_engine::meet_last_workers(clock::time_point deadline) noexcept {
  if (!server_) return;
  ::shutdown(server_.get(), SHUT_WR);
  const auto unanswered = [](const auto& each) { return each.second->state != link::stage::gone && !each.second->process; };
  while (std::any_of(links_.begin(), links_.end(), unanswered)) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - clock::now()).count();
    pollfd answer{server_.get(), POLLIN, 0};
    if (const int polled = ::poll(&answer, 1, static_cast<int>(std::max<long>(left, 0))); polled < 0 && errno == EINTR) {
      continue;
    } else if (polled <= 0) {
      return;
    }
    wire::server_message message;
    std::vector<unique_fd> fds;
    const ssize_t received =
        wire::receive_with_fds(server_.get(), std::as_writable_bytes(std::span(&message, 1)), fds, MSG_DONTWAIT);
    if (received == -EAGAIN || received == -EMFILE) continue;
    if (received != sizeof message) return;
    link* const about = find(message.worker);
    if (!about || message.type != wire::server_message_type::spawned || fds.empty()) continue;
    about->process = std::move(fds.front());
  }
}

/// Accounts for workers that are dead: at once if the fork server has said how, or else when it has been given time to.
void pool_engine::check_exits(clock::time_point now) {
  std::vector<link*> dead;
  for (const auto& [id, each] : links_) {
    if (each->state == link::stage::gone) continue;
    if (each->status_due && now >= *each->status_due) each->status_due.reset();
    if (each->exit_known()) dead.push_back(each.get());
  }
  for (link* each : dead) {
    if (each->receive.pending) queue_->cancel(each->receive);  // exited() follows when it is reaped
    else exited(*each, now);
  }
}

void pool_engine::exited(link& which, clock::time_point now) {
  if (which.violation.empty()) {
    which.collect_last_words();
    read_frames(which, now);
  }
  const auto started = strip(which);
  if (scheduler_->broken()) {
    // It was killed for that; the death to tell of is the one before.
  } else if (which.wait_status) {
    last_death_ = WIFSIGNALED(*which.wait_status)
                      ? std::string("killed by signal ") + std::to_string(WTERMSIG(*which.wait_status))
                      : "exit code " + std::to_string(WEXITSTATUS(*which.wait_status));
  } else {
    last_death_ = "nobody could learn how it ended";
  }
  which.state = link::stage::gone;
  // First, as the end of the last worker may be that of the pool, which clears what nobody holds.
  which.kept.clear();
  which.initializer_leases.clear();
  which.abandoned.clear();
  scheduler_->worker_exited(which.id, started, now);
  run_actions(now);
  queue_->cancel(which.exit_watch);
  queue_->cancel(which.send);
}

void pool_engine::break_pool(std::string why, std::exception_ptr cause, clock::time_point now) {
  if (scheduler_->broken()) return;
  broken_why_ = std::move(why);
  broken_cause_ = std::move(cause);
  scheduler_->break_pool(now);
}

}  // namespace shmpool::detail
