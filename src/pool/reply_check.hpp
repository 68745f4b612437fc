// Checks the frames of workers. A worker may be broken, or controlled by an attacker: the parent compares each frame
// with its own record of the worker's memory and with the worker's state. A refusal is a string literal, for the text
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

/// The parent's knowledge of a worker when it reads one of the worker's frames.
struct sender {
  bool ready = false;         ///< it has said that it can run tasks
  bool answer_waits = false;  ///< it has asked for something, and cannot have read the answer
  bool any_started = false;   ///< it has begun a task; needed for `init_failed` and `leaving` only
  bool has_task = false;      ///< it has a task with the number `header.task`
  std::uint64_t in_slot = 0;  ///< the number of the task in slot `header.slot`, 0 if there is none
};

/// Whether the worker may send the frame now, judged by header and size: null, or why not.
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
      // A worker waits for each answer. If it asked on without reading, the parent would have to keep all answers.
      if (from.answer_waits) return "second request before it had the answer to the first";
      // Only the initializer asks without a task.
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

/// One reason for which a worker has a segment: it is an argument of the task, memory for the task's results, or kept
/// from an earlier task.
struct holding {
  std::uint64_t segment = 0;
  std::uint64_t offset = 0, length = 0;  ///< the part of the segment, in bytes
  bool writable = false;
  bool created = false;      ///< the segment's file exists, as far as the parent knows
  std::uint32_t source = 0;  ///< index by which the caller finds the segment
};

/// All segments that a worker has when the parent reads one of its frames. Every question about them takes time like
/// the logarithm of their number, as a task may be lent 100,000 parts of one array, and return them.
class holdings {
 public:
  void clear() noexcept {
    all_.clear();
    segments_.clear();
  }
  /// Throws std::bad_alloc.
  void add(const holding& what) { all_.push_back({what, none, none}); }
  /// To be called after the last add(). Throws std::bad_alloc.
  void settle();

  /// The worker reports that it has created the file of the segment.
  void note_created(std::uint64_t segment) noexcept;
  /// Whether the segment's file exists, as far as the parent knows.
  bool created(std::uint64_t segment) const noexcept;
  /// One of the worker's holdings of a segment, or null, and whether any of them is writable.
  struct found {
    const holding* any = nullptr;
    bool writable = false;
  };
  found find(std::uint64_t segment) const noexcept;
  /// A holding that covers the range, a writable one if there is one; null if there is none.
  const holding* cover(const wire::segment_ref& range) const noexcept;

 private:
  static constexpr std::size_t none = ~std::size_t{0};
  struct entry {
    holding what;
    /// Of the entries of the segment up to here, the one that reaches farthest, and the one of those that are writable.
    std::size_t farthest, farthest_writable;
  };
  struct of_segment {
    std::uint64_t id;
    std::size_t first, end;  // of its entries
    bool writable, created;
  };
  const of_segment* look_up(std::uint64_t segment) const noexcept;

  std::vector<entry> all_;  // sorted by segment and offset
  std::vector<of_segment> segments_;
};

/// Whether the worker's account of its memory in the frame (the segments that are no results: created files, kept
/// segments) names only segments that the worker has: null, or why not.
const char* check_account(const wire::frame& in, const holdings& has) noexcept;

/// Whether the result segments in the frame lie within the worker's holdings: null, or why not. `from` gets the holding
/// of each result, in order. A result is to be as writable as its holding. Throws std::bad_alloc.
const char* check_result(const wire::frame& in, const holdings& has, std::vector<const holding*>& from);

}  // namespace shmpool::pool
