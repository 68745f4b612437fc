// The memory that the parent and one worker share for control: slots that say which task has been started; the ring in
// which the worker keeps replies until the parent has them, so that a crash loses none that was finished; the ring in
// which it gets its frames; and the fields that save both the calls to the kernel while both are awake.
// docs/control-page.md.
//
// Thread safety: every field that both sides touch is atomic. The parent trusts nothing that it reads here: what it
// reads decides about that worker's own tasks only, so a lying worker harms only itself.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace shmpool::wire {

inline constexpr unsigned slot_count = 64;
inline constexpr std::size_t reply_ring_bytes = 256 * 1024;    // a power of two
inline constexpr std::size_t request_ring_bytes = 256 * 1024;  // a power of two

/// State of a slot, in the low two bits of slot::word; the other bits hold the number of the hand-over.
enum class slot_state : std::uint64_t {
  free = 0,
  queued = 1,   ///< written by the parent before the frame is sent
  started = 2,  ///< by the worker, with compare-and-swap from queued, before it runs the task
  taken = 3,    ///< by the parent, with compare-and-swap from queued: it has taken the task back
};

constexpr std::uint64_t slot_word(std::uint64_t handover, slot_state state) noexcept {
  return (handover << 2) | static_cast<std::uint64_t>(state);
}

struct slot {
  std::atomic<std::uint64_t> word;
  std::atomic<std::uint64_t> started_ns;  ///< CLOCK_MONOTONIC, written by the worker before the state turns to started
  std::atomic<std::uint64_t> stop;        ///< number of the hand-over that is asked to stop, by the parent
  std::atomic<std::uint64_t> reserved;
};
static_assert(sizeof(slot) == 32);

struct control_page {
  std::uint32_t magic;  ///< "SHCP"
  std::uint32_t version;

  // Written by the worker. Positions are bytes of the reply stream since the worker began.
  alignas(64) std::atomic<std::uint64_t> reply_end;  ///< up to here replies are complete
  std::atomic<std::uint64_t> reply_begin;  ///< earlier bytes of the stream have left the ring, or were never in it
  // Positions of frames are bytes that were put into the request ring since the worker began.
  std::atomic<std::uint64_t> frames_taken;      ///< up to here the worker has copied frames out of the request ring
  std::atomic<std::uint32_t> sleeps;            ///< odd: the worker sleeps, or is about to, until it is woken
  std::atomic<std::uint32_t> sleeps_at_socket;  ///< not 0: it is woken by a frame on its socket; 0: at frames_end

  // Written by the parent.
  alignas(64) std::atomic<std::uint64_t> frames_end;  ///< up to here the request ring has whole frames
  std::atomic<std::uint64_t> reply_taken;             ///< up to here it has taken replies from the ring
  std::atomic<std::uint64_t> parent_sleeps;           ///< odd: it does not look at reply_end unless the bell is rung
  std::atomic<std::uint32_t> spin_ns;                 ///< how long the worker may poll frames_end before it sleeps
  std::atomic<std::uint32_t> parent_cpu;              ///< where the parent ran when it last published frames
  std::atomic<std::uint32_t> wakes_by_futex;          ///< not 0: it can wake a worker that sleeps at frames_end

  alignas(64) slot slots[slot_count];
  alignas(4096) std::byte
      reply_ring[reply_ring_bytes];            ///< the reply stream's byte at position p is at p modulo its size
  std::byte request_ring[request_ring_bytes];  ///< the byte of frames at position p is at p modulo its size
};
static_assert(offsetof(control_page, reply_ring) == 4096 && std::atomic<std::uint64_t>::is_always_lock_free);

inline constexpr std::uint32_t control_magic = 0x50434853;
inline constexpr std::uint32_t control_version = 4;

/// The worker's side: true if the task may run now.
inline bool claim(slot& in, std::uint64_t handover, std::uint64_t now_ns) noexcept {
  in.started_ns.store(now_ns, std::memory_order_relaxed);
  std::uint64_t expected = slot_word(handover, slot_state::queued);
  return in.word.compare_exchange_strong(expected, slot_word(handover, slot_state::started), std::memory_order_acq_rel,
                                         std::memory_order_acquire);
}

/// The parent's side: true if the worker never will run it.
inline bool take_back(slot& in, std::uint64_t handover) noexcept {
  std::uint64_t expected = slot_word(handover, slot_state::queued);
  return in.word.compare_exchange_strong(expected, slot_word(handover, slot_state::taken), std::memory_order_acq_rel,
                                         std::memory_order_acquire);
}

}  // namespace shmpool::wire
