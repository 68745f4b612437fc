// What a frame of a worker may say. A worker may be broken, or controlled by somebody: whatever it sends is held
// against what the parent knows that it has, and against what it may do at that moment. Refusals come as literals, for
// "worker 17 was killed: ...".
//
// Decides only: no segments, no I/O. Thread safety: none is needed.
#pragma once

#include "wire/frame.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace shmpool::pool {

/// What the parent knows of a worker at the moment that a frame of it is read.
struct sender {
  bool ready = false;         ///< it has said that it can run tasks
  bool answer_waits = false;  ///< it has asked for something, and cannot have read the answer
  bool any_started = false;   ///< it has begun a task; needed for `init_failed` and `leaving` only
  bool has_task = false;      ///< it has a task with the number `header.task`
  std::uint64_t in_slot = 0;  ///< the number of the task in slot `header.slot`, 0 if there is none
};

/// Whether the worker may send the frame now, as far as its header and its size tell: null, or why not.
inline const char* check_frame(const wire::frame& in, const sender& from) noexcept {
  switch (in.header.type) {
    case wire::frame_type::ready: return from.ready ? "second `ready` frame" : nullptr;
    case wire::frame_type::init_failed:
      if (from.ready) return "failed to start after it was ready";
      return from.any_started ? "failed to start after it had begun a task" : nullptr;
    case wire::frame_type::value:
    case wire::frame_type::error:
      return from.in_slot == 0 || from.in_slot != in.header.task ? "result of a task that it does not have" : nullptr;
    case wire::frame_type::need:
    case wire::frame_type::open:
      // It waits for each answer. One that asks on and does not read would make the parent keep all the answers.
      if (from.answer_waits) return "second request before it had the answer to the first";
      // Without a task only the initializer asks.
      if (in.header.task == 0) return from.ready ? "request for memory without a task" : nullptr;
      return from.has_task ? nullptr : "request for memory by a task that it does not have";
    case wire::frame_type::leaving: return from.any_started ? "left in the middle of a task" : nullptr;
    case wire::frame_type::released:
      return in.body.size() % sizeof(std::uint64_t) != 0 ? "release of half a segment" : nullptr;
    case wire::frame_type::progress:  // of a task that has ended meanwhile, say
    case wire::frame_type::outgrown: return nullptr;
    default: return "frame that only the parent sends";
  }
}

/// One way in which a worker has a segment: an argument of its task, memory for the task's results, or kept from
/// before.
struct holding {
  std::uint64_t segment = 0;
  std::uint64_t offset = 0, length = 0;  ///< the part of it, in bytes
  bool writable = false;
  bool created = false;      ///< the segment's file exists, as far as the parent knows
  std::uint32_t source = 0;  ///< for the caller, who finds the segment by it
};

/// All that a worker has, at one frame of it.
class holdings {
 public:
  void clear() noexcept { all_.clear(); }
  /// Throws std::bad_alloc.
  void add(const holding& what) { all_.push_back(what); }
  /// To be called when all are added.
  void settle();

  /// The worker says that it has made the file of the segment.
  void note_created(std::uint64_t segment) noexcept;
  /// What it has of the segment in any way: one of the holdings, or null, and whether it may write to it by any of
  /// them.
  struct found {
    const holding* any = nullptr;
    bool writable = false;
  };
  found find(std::uint64_t segment) const noexcept;
  /// The holding that covers the range, a writable one if there are several; null if there is none.
  const holding* cover(const wire::segment_ref& range) const noexcept;

 private:
  std::span<const holding> of(std::uint64_t segment) const noexcept;

  std::vector<holding> all_;  // sorted by segment, those of one in the order in which they were added
};

/// Whether the account of the worker's memory in the frame (segments that are no results: files that it has made,
/// segments that it keeps) names only what it has: null, or why not.
const char* check_account(const wire::frame& in, const holdings& has) noexcept;

/// Whether the result in the frame consists of what the worker has, within its bounds: null, and in `from` for each
/// result in order which holding it is of; or why not. A result is to be as writable as its holding. Throws
/// std::bad_alloc.
const char* check_result(const wire::frame& in, const holdings& has, std::vector<const holding*>& from);

}  // namespace shmpool::pool
