// The parent's end of one worker: its socket, its control memory, what is on the way to it, and what it is known to
// know.
//
// Thread safety: none; the engine's lock guards it.
#pragma once

#include "loop/completion_queue.hpp"
#include "pool/control_memory.hpp"
#include "pool/reply_reader.hpp"
#include "pool/worker_life.hpp"
#include "process/clock.hpp"
#include "process/unique_fd.hpp"
#include "wire/control_page.hpp"
#include "wire/frame.hpp"

#include <shmpool/options.hpp>
#include <shmpool/shm_handle.hpp>

#include <sys/types.h>

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

namespace shmpool::pool {

class worker_channel {
 public:
  /// Makes the socket pair and the control memory. Throws std::system_error that names the call.
  explicit worker_channel(std::uint32_t id);

  const std::uint32_t id;
  std::uint32_t place = 0;  ///< this_task::worker_index(): the lowest that no other worker of the pool has
  worker_life life;
  unique_fd process;     ///< pidfd
  unique_fd worker_end;  ///< the worker's end of the socket, until it goes to the fork server
  control_memory control;

  /// It has said what it must not, or could not be understood for want of memory: how it is to be killed for that.
  std::optional<worker_life::killer> condemned;

  /// Waits until the process has ended, if there is one that it knows of, or until `deadline`.
  void await_end(monotonic_clock::time_point deadline) const noexcept;
  // What the parent has of its memory beyond tasks, by segment id.
  struct kept_segment {
    shm_handle handle;
    bool writable = false;  // it was given for more than a look
  };
  std::unordered_map<std::uint64_t, kept_segment> kept;
  std::vector<shm_handle> initializer_leases;
  /// Of tasks that were ended while it may still have been at them: in use until it is dead.
  std::vector<shm_handle> abandoned;
  std::unordered_set<std::uint64_t> known_segments;
  std::vector<bool> known_functions;

  // ---- Slots. Each time that a task is handed to this worker it gets a number of its own, which is what the worker
  // knows it by: a frame of an earlier time, which may be unread yet, must not claim the slot for a task that was taken
  // back and is handed over again.

  /// A free slot for the task, or nothing if all are taken.
  std::optional<std::uint16_t> take_slot(std::uint64_t task) noexcept;
  void free_slot(std::uint16_t slot) noexcept;
  /// The task in the slot, and its number; 0 if it is free.
  std::uint64_t task_in(std::uint16_t slot) const noexcept { return slot < wire::slot_count ? slots_[slot].task : 0; }
  std::uint64_t handover_in(std::uint16_t slot) const noexcept {
    return slot < wire::slot_count ? slots_[slot].handover : 0;
  }
  /// The task that the worker has under that number; 0 if it has none.
  std::uint64_t task_of(std::uint64_t handover) const noexcept;
  wire::slot& slot(std::uint16_t index) const noexcept { return control.page().slots[index]; }
  bool has_tasks() const noexcept { return ~free_slots_ != 0; }
  /// How many of its tasks it has begun.
  std::size_t started_tasks() const noexcept;
  /// When it was last seen to do something, and how often it was found not to since; see crew::check_unstarted.
  monotonic_clock::time_point quiet_since{};
  unsigned times_found_quiet = 0;
  void found_busy(monotonic_clock::time_point now) noexcept {
    quiet_since = now;
    times_found_quiet = 0;
  }
  static constexpr auto patience = std::chrono::seconds(1);
  /// When to look whether it has begun what it was given.
  monotonic_clock::time_point look_due() const noexcept {
    const bool should_begin = life.now() == worker_life::stage::alive && life.is_ready() && has_tasks();
    return should_begin ? quiet_since + patience : monotonic_clock::time_point::max();
  }

  // ---- Outgoing.

  void queue_frame(const wire::frame_header& header, std::span<const wire::segment_ref> segments,
                   std::span<const std::byte> body);
  /// With the descriptor of a segment, which is held until it is sent.
  void queue_frame(const wire::frame_header& header, const wire::segment_ref& ref, int fd, shm_handle segment);
  bool has_output() const noexcept { return !out_.empty(); }
  /// All that was queued has been taken by the socket.
  bool all_sent() const noexcept { return out_.empty() && sending_.empty(); }
  /// Its request for memory has been answered, and nothing has been sent since: it cannot have read the answer.
  bool answer_waits = false;
  /// Starts to send what is queued, if nothing is on the way.
  void start_sending(loop::completion_queue& queue);
  /// After `send` was reaped.
  void sent(loop::completion_queue& queue);

  // ---- What the kernel would not do for a moment: it is short of memory or of descriptors, say.

  /// True for the errors of a stream whose other end is gone. Its process tells the rest.
  static bool is_end(int error) noexcept;
  /// Notes that a transfer failed otherwise, which is to be tried again.
  void failed(const char* call, int error);
  std::optional<monotonic_clock::time_point> retry_due;  ///< when to try again
  /// When something is to be looked at, or tried again.
  monotonic_clock::time_point due() const noexcept {
    auto first = std::min(look_due(), life.due());
    if (retry_due) first = std::min(first, *retry_due);
    return first;
  }
  monotonic_clock::time_point failing_since{};
  std::optional<monotonic_clock::time_point> last_failure;
  std::string failure;  ///< the call and its error

  // ---- Incoming.

  void start_receiving(loop::completion_queue& queue);
  reply_reader replies{control.page()};
  /// After its death: reads what is left in the socket into `replies`. What it never sent is in the ring.
  void collect_last_words();

  // ---- While both are awake, neither need call the kernel.

  /// Whether the worker may leave replies in the ring, as somebody looks there. After false they have to be looked for
  /// once more.
  void set_polled(bool polled) noexcept;
  bool polled() const noexcept { return polled_; }
  /// Says it once more to a worker that seems to believe something else.
  void repeat_polled() noexcept { control.page().polled.store(polled_ ? 1 : 0, std::memory_order_relaxed); }
  /// How long the worker may poll for frames before it sleeps.
  void let_spin(std::chrono::nanoseconds most) noexcept;

  loop::operation receive, send, exit_watch;

 private:
  void send_with_descriptors(loop::completion_queue& queue);
  void announce(std::size_t bytes) noexcept;

  unique_fd socket_;
  struct assigned {
    std::uint64_t task = 0, handover = 0;
  };
  std::array<assigned, wire::slot_count> slots_{};
  std::uint64_t last_handover_ = 0;
  std::uint64_t free_slots_ = ~std::uint64_t{0};
  bool polled_ = false;
  std::uint32_t spin_ns_ = 0;
  std::uint64_t frames_end_ = 0;
  std::vector<std::byte> out_, sending_;
  struct attached {
    std::size_t position;  // in out_, of the frame
    int fd;
    shm_handle segment;
  };
  std::deque<attached> descriptors_;
};

}  // namespace shmpool::pool
