// What the loop and the workers report; what is heard of their processes is in engine_processes.cpp.
#include "pool/pool_engine.hpp"

#include "shm/exhausted.hpp"

#include <shmpool/detail/codec/exception_codec.hpp>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <new>

namespace shmpool::pool {

namespace {

/// How long the fork server may take to say how a dead worker ended.
constexpr auto status_patience = std::chrono::milliseconds(200);

/// How many segments one task may ask for. Its reply has to name all that it made and all that it returns.
constexpr std::size_t most_leases = wire::max_segments / 2;

/// How many segments are leased to a task because the last run of its function has used as many for its result.
constexpr std::size_t most_expected = 64;

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
      if (take_expiry(timer_.get(), timer_due_)) timer_due_ = clock::time_point::max();
      on_time(clock::now());
    } else {
      worker_channel& about = *static_cast<worker_channel*>(op->owner);
      if (op == &about.receive) {
        on_received(about, now);
      } else if (op == &about.send) {
        // A stream that cannot be written is that of a worker that has died; its end is noticed by its other
        // operations.
        if (about.state != worker_channel::stage::gone) about.sent(*queue_);
        about.found_busy(now);
      } else if (about.state != worker_channel::stage::gone) {
        on_process_watched(about, now);
      }
    }
    run_actions(now);
  }
  // Only now: until here actions may ask how a worker ended.
  std::erase_if(links_, [](const auto& each) {
    const worker_channel& about = *each.second;
    return about.state == worker_channel::stage::gone && !about.receive.pending && !about.send.pending &&
           !about.exit_watch.pending;
  });
  const bool waits = arm_timer_for_links();
  return any || waits;
}

/// The wait for the end of its process is over.
void pool_engine::on_process_watched(worker_channel& of, clock::time_point now) {
  if (of.exit_watch.result == -ECANCELED) return;
  if (of.exit_watch.result < 0) return of.failed("waiting for the end of its process", -of.exit_watch.result);
  of.process_ended = true;
  of.status_due = now + status_patience;
  if (of.server_gone) of.status_due.reset();
  check_exits(now);
}

/// What is due by now.
void pool_engine::on_time(clock::time_point now) {
  // First what has ended in time and waits in a ring, as the loop had something else to do.
  if (polling_.load(std::memory_order_relaxed)) look(now);
  scheduler_->tick(now);
  check_exits(now);
  check_unstarted(now);
  retry_transfers(now);
}

void pool_engine::on_received(worker_channel& from, clock::time_point now) {
  if (from.state == worker_channel::stage::gone) return;
  if (from.receive.result > 0) {
    from.replies.commit(static_cast<std::size_t>(from.receive.result));
    if (from.violation.empty()) take_in(from, now);
    // One that is polled yet is looked at soon.
    if (from.violation.empty() && !from.polled() && from.replies.behind()) take_from_ring(from, now);
  }
  if (from.exit_known()) return exited(from, now);
  if (!from.violation.empty()) return;
  if (from.receive.result > 0 || from.receive.result == -ECANCELED) {
    // One without tasks has nothing to say; that it ends is noticed by its process.
    if (from.has_tasks() || !from.ready) from.start_receiving(*queue_);
  } else if (from.receive.result < 0 && !worker_channel::is_end(-from.receive.result)) {
    from.failed("recv", -from.receive.result);
  } else if (from.state != worker_channel::stage::leaving) {
    kill(from,
         nullptr);  // it has closed its socket: of no use, if it is not dying anyway, of what its status will tell
  }
}

void pool_engine::take_in(worker_channel& from, clock::time_point now) {
  try {
    (void)read_frames(from, now);
  } catch (const std::bad_alloc&) {
    kill(from, no_memory);  // a frame is lost, and what it said of one task with it
  }
}

bool pool_engine::take_from_ring(worker_channel& from, clock::time_point now) {
  bool taken = false;
  try {
    taken = from.replies.take_from_ring();
  } catch (const std::bad_alloc&) {
    return false;  // it stays where it is, to be looked at again
  }
  if (taken) take_in(from, now);
  else if (from.replies.ahead()) violated(from, "it sent more replies than it has given", now);
  else return false;
  return true;
}

/// False if the stream was given up.
bool pool_engine::read_frames(worker_channel& from, clock::time_point now) {
  for (;;) {
    wire::frame next;
    switch (from.replies.next(next)) {
      case wire::frame_reader::status::incomplete: return true;
      case wire::frame_reader::status::malformed: violated(from, from.replies.why(), now); return false;
      case wire::frame_reader::status::frame: break;
    }
    if (!on_frame(from, next, now)) return false;
  }
}

bool pool_engine::on_frame(worker_channel& from, const wire::frame& in, clock::time_point now) {
  switch (in.header.type) {
    case wire::frame_type::ready:
      if (from.ready) return violated(from, "it was ready twice", now), false;
      from.ready = true;
      from.found_busy(now);
      from.told_pid(in.header.task);
      if (!on_account(from, nullptr, in)) return violated(from, "it reported memory that it was not given", now), false;
      from.initializer_leases.clear();
      scheduler_->worker_ready(from.id, now);
      return true;
    case wire::frame_type::init_failed: {
      if (from.ready) return violated(from, "it was ready and failed to start", now), false;
      from.told_pid(in.header.task);
      if (from.started_tasks() != 0) return violated(from, "it began a task and failed to start", now), false;
      last_problem_ = {};
      last_problem_.why = in.header.value == 0   ? "pool_options::initializer threw"
                          : in.header.value == 2 ? "pool_options::finalizer cannot be called"
                                                 : "a worker cannot be set up";
      last_problem_.thrown.emplace(in.body.begin(), in.body.end());
      last_problem_.worker_pid = from.pid;
      from.unfit = true;
      if (from.state != worker_channel::stage::gone) from.state = worker_channel::stage::leaving;
      scheduler_->worker_unfit(from.id, now);
      return true;
    }
    case wire::frame_type::value:
    case wire::frame_type::error:
      if (!on_result(from, in, now)) return violated(from, "it sent a result that makes no sense", now), false;
      return true;
    case wire::frame_type::need:
      if (!on_need(from, in))
        return violated(from, "it asked for memory without a task, or before it had its answer", now), false;
      return true;
    case wire::frame_type::open:
      if (!on_open(from, in)) {
        return violated(from, "it asked for a segment that it was not given, or before it had its answer", now), false;
      }
      return true;
    case wire::frame_type::progress: {
      const auto* which = static_cast<task*>(scheduler_->assigned_context(from.id, from.task_of(in.header.task)));
      const auto fraction = std::bit_cast<double>(in.header.value);
      // Of a task that has ended meanwhile, or a number that is none: nothing to tell.
      if (which && which->op->on_progress && fraction >= 0 && fraction <= 1) {
        try {
          notices_.emplace_back(which->op->on_progress, fraction);
        } catch (const std::bad_alloc&) {
          // The next report is as good.
        }
      }
      return true;
    }
    case wire::frame_type::outgrown: scheduler_->recycle(from.id, now); return true;
    case wire::frame_type::leaving:
      if (from.started_tasks() != 0) return violated(from, "it left in the middle of a task", now), false;
      if (from.state == worker_channel::stage::running || from.state == worker_channel::stage::starting) {
        from.state = worker_channel::stage::leaving;
        from.why_it_left = worker_exit::reason::idle;
      }
      scheduler_->worker_leaves(from.id, now);
      return true;
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

worker_channel::kept_segment pool_engine::given(const worker_channel& to, const task* of, std::uint64_t segment) {
  worker_channel::kept_segment found;
  if (const auto kept = to.kept.find(segment); kept != to.kept.end()) found = kept->second;
  const auto add = [&](const shm_handle& each, bool writable) {
    if (each.get()->id() == segment) found = {each, found.writable || writable};
  };
  for (const shm_handle& each : of ? of->leases : to.initializer_leases) add(each, true);
  if (of) {
    for (const attachment& each : of->attachments) add(each.handle, each.mode != access::read);
  }
  return found;
}

/// The worker's account of its memory: which files it has made, which segments it keeps. Believed only about segments
/// that it was given.
bool pool_engine::on_account(worker_channel& from, task* of, const wire::frame& in) {
  for (std::size_t i = 0; i != in.segment_count(); ++i) {
    const wire::segment_ref ref = in.segment(i);
    if ((ref.flags & wire::flag_result) != 0) continue;
    worker_channel::kept_segment segment = given(from, of, ref.id);
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

bool pool_engine::on_result(worker_channel& from, const wire::frame& in, clock::time_point now) {
  const sched::task_id id = from.task_in(in.header.slot);
  if (id == 0 || from.handover_in(in.header.slot) != in.header.task) return false;
  auto* which = static_cast<task*>(scheduler_->assigned_context(from.id, id));
  if (!which || !on_account(from, which, in)) return false;
  intake taken;
  if (in.is_cut()) {
    taken.lack = no_memory_;
  } else {
    try {
      if (!take_result(from, *which, in, taken)) return false;
    } catch (const std::bad_alloc&) {
      taken = {};
      taken.lack = no_memory_;
    }
  }

  const auto longest = now - std::min(which->assigned, now);
  const auto run =
      std::min(std::chrono::nanoseconds(in.header.value & 0x7fff'ffff'ffff'ffffU), std::chrono::nanoseconds(longest));
  // From here nothing can fail for want of memory: what the scheduler has forgotten is completed.
  if (!scheduler_->replied(from.id, id, run, now)) return false;
  from.found_busy(now);
  outcome& result = taken.result;
  result.run = run;
  result.worker_pid = from.pid;
  if (result.threw || taken.lack) {
    result.attachments.clear();
    ++(result.threw ? failures_.threw : failures_.shm_exhausted);
    if (!result.threw) result.error = std::move(taken.lack);
  } else {
    functions_[which->function].result_sizes = std::move(taken.used);
    ++succeeded_;
  }
  if (which->attachments.empty()) killers_.ended(which->function, which->arguments);
  ++from.results;
  operation& op = *which->op;
  op.result = std::move(result);
  finish(*which);
  completed_.push(op);
  return true;
}

/// What the result refers to must be what this worker has, within its bounds, and no more writable than it was given.
bool pool_engine::take_result(worker_channel& from, task& which, const wire::frame& in, intake& to) {
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
    for (const attachment& each : which.attachments) consider(each.handle, each.offset, each.length, each.mode);
    if (const auto kept = from.kept.find(ref.id); kept != from.kept.end()) {
      consider_whole(kept->second.handle, kept->second.writable ? access::own : access::read);
    }
    for (const shm_handle& each : which.leases) {
      if (consider_whole(each, access::own) && to.used.size() < most_expected) {
        to.used.push_back(static_cast<std::size_t>(ref.offset + ref.length));
      }
    }
    if (!found.handle) return false;
    auto& segment = static_cast<shm::pool_segment&>(*found.handle.get());
    if (!segment.created()) return false;
    if (to.lack) continue;
    if (const shm::call_error failed = segment.map(static_cast<std::size_t>(ref.offset + ref.length))) {
      // The worker has done its part; that this process cannot have the result, or somebody has removed it, is not its
      // fault.
      if (!shm::is_shortage(failed.code) && failed.code != std::errc::no_such_file_or_directory) return false;
      to.lack = std::make_exception_ptr(std::system_error(
          errc::shm_exhausted, "an array of the result cannot be taken in: " + shm::describe(failed)));
      continue;
    }
    const access mode = found.mode == access::read ? access::read : access::own;
    to.result.attachments.push_back({found.handle, ref.offset, ref.length, mode});
  }
  to.result.threw = in.header.type == wire::frame_type::error;
  if (to.result.threw) {
    try {
      detail::check_exception(in.body);
    } catch (const std::bad_alloc&) {
      throw;
    } catch (...) {
      return false;
    }
  }
  if (to.result.threw || !to.lack) to.result.bytes.assign(in.body.begin(), in.body.end());
  return true;
}

/// Who asks: one of its tasks, or its initializer (null) as long as it is not ready. A worker waits for its answer. One
/// that asks on and does not read would make the parent keep all the answers.
bool pool_engine::may_ask(const worker_channel& from, std::uint64_t handover, task*& which) {
  which = handover == 0 ? nullptr : static_cast<task*>(scheduler_->assigned_context(from.id, from.task_of(handover)));
  return !from.answer_waits && (handover == 0 ? !from.ready : which != nullptr);
}

bool pool_engine::on_need(worker_channel& from, const wire::frame& in) {
  task* which = nullptr;
  if (!may_ask(from, in.header.task, which)) return false;
  wire::frame_header header;
  header.task = in.header.task;
  auto& leases = which ? which->leases : from.initializer_leases;
  try {
    if (leases.size() >= most_leases) {
      throw std::system_error(errc::shm_exhausted,
                              "a task may have " + std::to_string(most_leases) + " segments of its own");
    }
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
    } else if (!segment.created()) {
      ref.flags = wire::flag_fresh;
    }
    leases.push_back(leased);
    if (segment.descriptor() >= 0) from.queue_frame(header, ref, segment.descriptor(), std::move(leased));
    else from.queue_frame(header, {&ref, 1}, {});
  } catch (const std::system_error& error) {
    refuse(from, header.task, error.what());
  } catch (const std::bad_alloc&) {
    refuse(from, header.task, no_memory);
  }
  from.answer_waits = true;
  return true;
}

/// A worker opens a segment by its name as long as it can: where somebody has removed the name, or the worker has no
/// way to it any more (a chroot, a filter of system calls), it is given the descriptor.
bool pool_engine::on_open(worker_channel& from, const wire::frame& in) {
  task* which = nullptr;
  if (!may_ask(from, in.header.task, which)) return false;
  const shm_handle handle = given(from, which, in.header.value).handle;
  if (!handle) return false;
  auto& segment = static_cast<shm::pool_segment&>(*handle.get());
  int fd = -1;
  if (const shm::call_error failed = segment.find_descriptor(fd)) {
    refuse(from, in.header.task, shm::describe(failed));
  } else {
    wire::segment_ref ref;
    ref.id = segment.id();
    ref.flags = wire::flag_with_fd;
    wire::frame_header header;
    header.type = wire::frame_type::grant;
    header.task = in.header.task;
    from.queue_frame(header, ref, fd, handle);
  }
  from.answer_waits = true;
  return true;
}

void pool_engine::refuse(worker_channel& to, std::uint64_t task, std::string_view why) {
  wire::frame_header header;
  header.type = wire::frame_type::refuse;
  header.task = task;
  header.value = static_cast<std::uint64_t>(errc::shm_exhausted);
  to.queue_frame(header, {}, std::as_bytes(std::span(why)));
}

void pool_engine::violated(worker_channel& from, const char* what, clock::time_point) {
  from.why_it_left = worker_exit::reason::killed;
  from.violation = "worker " + std::to_string(from.pid) + " was killed: " + what;
  kill(from, "it broke the protocol");
  queue_->cancel(from.receive);
}

void pool_engine::break_pool(breakage why, clock::time_point now) noexcept {
  if (scheduler_->broken()) return;
  *broken_ = std::move(why);
  scheduler_->break_pool(now);
}

}  // namespace shmpool::pool
