// The parent's end of one worker: its socket, its control memory, its outgoing frames, and the functions and segments
// that it knows.
//
// Thread safety: none; the engine's lock guards it.
#pragma once

#include "loop/completion_queue.hpp"
#include "pool/control_memory.hpp"
#include "pool/reply_reader.hpp"
#include "pool/request_ring.hpp"
#include "pool/roster.hpp"
#include "pool/transfer_retries.hpp"
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

struct task_entry;

class worker_channel {
 public:
  /// Makes the socket pair and the control memory. Throws std::system_error that names the call.
  explicit worker_channel(std::uint32_t id);

  const std::uint32_t id;
  std::uint32_t place = 0;  ///< this_task::worker_index(): the lowest that no other worker of the pool has
  roster::marks marks;      ///< see roster
  worker_life life;
  unique_fd process;     ///< pidfd
  unique_fd worker_end;  ///< the worker's end of the socket, until it goes to the fork server
  control_memory control;

  /// How to kill the worker, if it has broken the protocol or the parent had no memory to read its frame.
  std::optional<worker_life::killer> condemned;

  /// Waits until `process` has ended, if it is set, or until `deadline`.
  void await_end(monotonic_clock::time_point deadline) const noexcept;
  // Segments that the worker keeps beyond its tasks, by segment id.
  struct kept_segment {
    shm_handle handle;
    bool writable = false;  // the worker may write to it
  };
  std::unordered_map<std::uint64_t, kept_segment> kept;
  std::vector<shm_handle> initializer_leases;
  /// Segments of tasks that ended while the worker may still have run them: in use until the worker is dead.
  std::vector<shm_handle> abandoned;
  std::unordered_set<std::uint64_t> known_files;  // by the ids of the segments that have them
  std::vector<bool> known_functions;

  // ---- Slots. Each handover of a task to this worker gets a number of its own, by which the worker knows the task: an
  // unread frame of an earlier handover must not claim the slot of a task that was taken back and is handed over again.

  /// A free slot for the task, or nothing if all are taken.
  std::optional<std::uint16_t> take_slot(task_entry& task) noexcept;
  void free_slot(std::uint16_t slot) noexcept;
  /// The task in the slot, and its handover number; null and 0 if the slot is free.
  task_entry* task_in(std::uint16_t slot) const noexcept {
    return slot < wire::slot_count ? slots_[slot].task : nullptr;
  }
  std::uint64_t handover_in(std::uint16_t slot) const noexcept {
    return slot < wire::slot_count ? slots_[slot].handover : 0;
  }
  /// The task with that handover number; null if there is none.
  task_entry* task_of(std::uint64_t handover) const noexcept;
  wire::slot& slot(std::uint16_t index) const noexcept { return control.page().slots[index]; }
  bool has_tasks() const noexcept { return ~free_slots_ != 0; }
  /// How many of its tasks the worker has begun.
  std::size_t started_tasks() const noexcept;
  /// When the worker was last seen active, and how often it was found quiet since; see crew::check_unstarted.
  monotonic_clock::time_point quiet_since{};
  unsigned times_found_quiet = 0;
  void found_busy(monotonic_clock::time_point now) noexcept {
    quiet_since = now;
    times_found_quiet = 0;
  }
  static constexpr auto patience = std::chrono::seconds(1);
  /// When to check whether the worker has begun its tasks.
  monotonic_clock::time_point look_due() const noexcept {
    const bool should_begin = life.now() == worker_life::stage::alive && life.is_ready() && has_tasks();
    return should_begin ? quiet_since + patience : monotonic_clock::time_point::max();
  }

  // ---- Outgoing.

  void queue_frame(const wire::frame_header& header, std::span<const wire::segment_ref> segments,
                   std::span<const std::byte> body);
  /// With a descriptor, which has to stay open for as long as the channel.
  void queue_frame(const wire::frame_header& header, std::span<const std::byte> body, int fd);
  /// With the descriptor of a segment, which is held until the descriptor is sent.
  void queue_frame(const wire::frame_header& header, const wire::segment_ref& ref, int fd, shm_handle segment);
  /// True if the worker can get hold of all queued frames.
  bool all_sent() const noexcept { return requests_.is_published() && out_.empty() && sending_.empty(); }
  /// The worker's request for memory was answered, but nothing was sent since: it cannot have read the answer.
  bool answer_waits = false;
  /// Shows the worker the frames in the ring, wakes it if it sleeps, and starts to send those for the socket. What a
  /// pending send does not let it send goes out when that has been reaped, or when `retries` are due.
  void start_sending(loop::completion_queue& queue, monotonic_clock::time_point now);
  /// After `send` was reaped.
  void sent(loop::completion_queue& queue, monotonic_clock::time_point now);

  // ---- Transfers that the kernel refuses for a moment, for example because memory or descriptors run short.

  /// True for the errors of a stream whose other end is gone; the worker's exit is reported by its pidfd.
  static bool is_end(int error) noexcept;
  transfer_retries retries;
  /// When a check or a retry is due.
  monotonic_clock::time_point due() const noexcept { return std::min({look_due(), life.due(), retries.due()}); }
  /// True if the roster knows of a time that is not later than due(). After an event that may have made due() earlier
  /// and this false, roster::note_due() is to be called.
  bool is_noted() const noexcept { return marks.noted <= due(); }

  // ---- Incoming.

  void start_receiving(loop::completion_queue& queue, monotonic_clock::time_point now);
  reply_reader replies{control.page()};
  /// After the worker's death: reads the rest of the socket into `replies`. Replies that it never sent are in the ring.
  void collect_last_words();

  // ---- Polling: while both sides are awake, neither needs to call the kernel.

  /// Whether the parent looks at the ring by itself. After false the worker rings the bell, or sends its replies, and
  /// the caller must look into the ring once more.
  void set_polled(bool polled) noexcept;
  bool polled() const noexcept { return sleeps_ % 2 == 0; }
  /// The worker has rung the bell, or cannot be relied on to have done so: has it ring for replies that the next look
  /// does not find. The caller must look into the ring now.
  void before_look() noexcept;
  /// How long the worker may poll for frames before it sleeps.
  void let_spin(std::chrono::nanoseconds most) noexcept;

  loop::operation receive, send, exit_watch;

 private:
  void tell_sleeps() noexcept { control.page().parent_sleeps.store(sleeps_, std::memory_order_relaxed); }
  void send_with_descriptors(loop::completion_queue& queue, monotonic_clock::time_point now);
  /// A frame of that type has been queued.
  void note_queued(wire::frame_type type) noexcept;
  /// Queues a frame for the socket, which comes behind all others.
  void queue_for_socket(const wire::frame_header& header, std::span<const wire::segment_ref> segments,
                        std::span<const std::byte> body);
  void queue_with_descriptor(const wire::frame_header& header, std::span<const wire::segment_ref> segments,
                             std::span<const std::byte> body, int fd, shm_handle segment);
  /// A frame without a body.
  void queue_signal(wire::frame_type type);

  unique_fd socket_;
  struct assigned {
    task_entry* task = nullptr;
    std::uint64_t handover = 0;
  };
  std::array<assigned, wire::slot_count> slots_{};
  std::uint64_t last_handover_ = 0;
  std::uint64_t free_slots_ = ~std::uint64_t{0};
  std::uint64_t sleeps_ = 1;  // as control_page::parent_sleeps
  std::uint32_t spin_ns_ = 0;
  request_ring requests_{control.page()};
  bool on_socket_ = false;                // the worker was told to read further frames from the socket
  bool answer_on_socket_ = false;         // the last answer to a request of the worker
  bool wake_due_ = false;                 // the worker sleeps at its socket
  std::vector<std::byte> out_, sending_;  // frames for the socket
  struct attached {
    std::size_t position;  // of its frame in out_
    int fd;
    shm_handle segment;
  };
  std::deque<attached> descriptors_;
};

}  // namespace shmpool::pool
