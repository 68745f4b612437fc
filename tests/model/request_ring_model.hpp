// The request ring as a small state machine, so that all its interleavings can be walked: what the parent puts into the
// ring and what it sends, how it changes from one way to the other and back, the worker's last look and its sleep, the
// parent's look at that, and the places of the ring that are used again. One memory access per step, as
// src/pool/request_ring.cpp, src/pool/worker_channel.cpp and src/worker/request_stream.cpp make them. docs/adr/0015 and
// docs/adr/0016.
//
// As in the polled reply ring each side writes a word and then reads the other's. So the parent's published end and the
// number of the worker's sleep go through a store buffer of one entry each, which drains at any later time, or at a
// fence. What only goes into the buffer is seen by nobody, and a fence is before the access that follows, so neither is
// a step of its own. A send shows what was stored before it began, and nothing that its sender stores later.
//
// The world: a ring that holds two frames and a marker, and five frames. Each of them can be one that the ring never
// takes, as it is too large or carries a descriptor. The parent flushes behind any of them, can see an old `taken`,
// hears late that a send has ended, and then sends more or flushes first. The worker can wake for nothing, as from a
// part of a frame, or at the futex by a signal.
//
// The worker sleeps at the ring by a futex, or at its socket, or at the ring until the kernel refuses it the futex, at
// any time. A FUTEX_WAIT compares the end in memory and lies down in one step; it is not taken for a fence. A
// FUTEX_WAKE wakes the worker that lies there, and leaves nothing behind if none does. What is in the socket wakes
// nobody at the ring.
//
// Thread safety: none is needed.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <vector>

namespace shmpool::model {

/// What can be done wrongly with the request ring.
enum class request_flaw : std::uint8_t {
  none,
  no_parent_fence,         ///< nothing between the published end and the look at the worker's sleep
  no_worker_fence,         ///< nothing between the announced sleep and the last look
  sleep_read_before_end,   ///< the parent decides whether to wake before it publishes
  last_look_before_sleep,  ///< the worker looks once more, then announces its sleep
  no_last_look,            ///< the sleep is announced, and the worker sleeps
  pending_send_wakes,      ///< the parent leaves it to a send that began before it published
  sent_frames_wake,        ///< where frames go by the socket, the parent does not look at the worker's sleep
  woken_once,              ///< the parent remembers that it has woken, and not for which sleep
  same_sleep,              ///< all sleeps have the same number
  taken_before_copied,     ///< a place is given up, then copied
  no_reserve,              ///< a frame is put where the marker has to fit
  return_without_room,     ///< the parent returns to a ring in which no marker fits
  no_by_socket,            ///< a frame is sent, and the ring does not say so
  no_by_ring,              ///< the parent returns to the ring and does not say so
  early_dropped,           ///< the worker drops what the socket brings before the marker
  early_taken,             ///< the worker takes what the socket brings before the marker
  end_before_bytes,        ///< a frame is published, then written
  // Of a futex.
  woken_once_per_sleep,  ///< the parent wakes once for each sleep
  no_compare,            ///< the worker lies down whatever the end is
  send_wakes,            ///< the parent leaves it to what it is about to send
  awake_when_woken,      ///< the worker says that it is awake, looks, and lies down again
  flag_down_by_parent,   ///< the parent says that the worker is awake, as it wakes it
  not_at_socket,         ///< the worker sleeps at the ring where the frames come by the socket
  place_after_sleep,     ///< a worker that changes to the socket says so when it has said that it sleeps
  futex_noted,           ///< a sleep at the ring is noted as woken, and goes on at the socket by the same number
};

/// Where the worker sleeps.
enum class request_bed : std::uint8_t { socket, ring, either };

enum class request_breach : std::uint8_t { none, wrong_frame, lost_in_sleep, deadlock };

inline constexpr std::uint8_t frame_count = 5;        // or fewer
inline constexpr std::uint8_t request_ring_size = 3;  // places; a frame takes one, and so does a marker

// What is no number of a frame.
inline constexpr std::uint8_t by_socket = 0x10;  // in the ring
inline constexpr std::uint8_t by_ring = 0x11;    // on the socket
inline constexpr std::uint8_t wake = 0x12;       // on the socket

struct request_state {
  enum class parent_at : std::uint8_t { idle, writing, marking, deciding, asking, waking, publishing };
  enum class worker_at : std::uint8_t { looking, copying, telling, last_look, asleep, waiting, enqueued, woken };

  // The control page. Each place of the ring holds the number of a frame, or a marker, or nothing: what the worker has
  // copied is nothing, so that states differ only in what matters.
  std::array<std::uint8_t, request_ring_size> ring{};
  std::uint8_t end = 0, taken = 0, sleep = 0;
  bool at_socket = false;  // the worker, which was refused the futex

  // The parent.
  parent_at parent = parent_at::idle;
  std::uint8_t queued = 0;  // frames
  std::uint8_t written = 0, published = 0;
  std::uint8_t woken = 0;  // the sleep for which it has sent something
  std::uint8_t asks = 0;   // the sleep of which it asks where it is
  bool sends = false;      // frames go by the socket
  bool unflushed = false;
  bool sending = false;  // a send is pending, as far as it knows

  // The socket, and what is before and behind it: first what the worker has received and not taken, then what is in the
  // socket or in a pending send, then what is to be sent next.
  std::array<std::uint8_t, 2 * frame_count + 2> way{};
  std::uint8_t received = 0, sent = 0, out = 0;

  // The worker.
  worker_at worker = worker_at::looking;
  bool receives = false;  // frames come by the socket
  std::uint8_t read = 0, seen_end = 0;
  std::array<std::uint8_t, request_ring_size> copy{};  // what it has copied out of the ring and not taken
  std::uint8_t copied = 0;
  std::uint8_t announced = 0;  // what it stored to `sleep`
  bool refused = false;        // what it stored to `at_socket`
  std::uint8_t got = 0;        // frames that have come out
  request_breach broken = request_breach::none;

  bool on_the_way(std::uint8_t what) const noexcept { return std::find(way.begin(), way.end(), what) != way.end(); }
  std::string_view bytes() const noexcept { return {reinterpret_cast<const char*>(this), sizeof *this}; }
};
static_assert(std::has_unique_object_representations_v<request_state>);

class request_ring {
 public:
  explicit request_ring(request_flaw which, request_bed bed = request_bed::socket, std::uint8_t frames = frame_count)
      : flaw_(which), bed_(bed), frames_(frames) {}

  std::vector<request_state> successors(const request_state& from) const {
    std::vector<request_state> out;
    drain_buffers(from, out);
    end_send(from, out);
    flush(from, out);
    work(from, out);
    receive(from, out);
    const bool stuck = out.empty();  // nothing happens by itself: what sleeps now is never woken
    queue(from, out);
    wake_for_nothing(from, out);
    if (stuck && from.got != from.queued) out.emplace_back(from).broken = request_breach::lost_in_sleep;
    else if (stuck && from.sends != from.receives) out.emplace_back(from).broken = request_breach::deadlock;
    for (request_state& each : out) {
      forget_old_sleep(each);
      if (is_left_at_the_ring(each)) each.broken = request_breach::lost_in_sleep;
    }
    return out;
  }

 private:
  using parent_at = request_state::parent_at;
  using worker_at = request_state::worker_at;

  // ---- The store buffers: what one side has stored and the other does not see yet.

  static void show_end(request_state& in) noexcept { in.end = in.published; }
  void show_sleep(request_state& in) const noexcept {
    in.sleep = in.announced;
    if (flaw_ != request_flaw::place_after_sleep) in.at_socket = in.refused;
  }
  void drain_buffers(const request_state& from, std::vector<request_state>& out) const {
    if (from.end != from.published) show_end(out.emplace_back(from));
    if (from.sleep != from.announced) show_sleep(out.emplace_back(from));
    if (from.at_socket != from.refused) out.emplace_back(from).at_socket = from.refused;
  }

  // ---- The parent.

  static int room(const request_state& in) noexcept { return request_ring_size - (in.written - in.taken); }

  /// Writes to the ring.
  static void put(request_state& in, std::uint8_t what) {
    std::uint8_t& place = in.ring[in.written++ % request_ring_size];
    if (place != 0) in.broken = request_breach::wrong_frame;  // the worker has not copied what was there
    place = what;
  }

  /// Appends to what is to be sent next.
  static void append(request_state& in, std::uint8_t what) {
    in.way.at(static_cast<std::size_t>(in.received + in.sent + in.out)) = what;
    ++in.out;
  }

  static void begin_send(request_state& in) {
    if (in.sending || in.out == 0) return;
    show_end(in);  // whoever hears of what is sent sees what was stored before
    in.sending = true;
    in.sent = static_cast<std::uint8_t>(in.sent + in.out);
    in.out = 0;
  }

  /// A send ends: the socket has what the worker has not received. The parent hears of it between other things, and
  /// sends what there is, or flushes first.
  static void end_send(const request_state& from, std::vector<request_state>& out) {
    if (!from.sending || from.parent != parent_at::idle) return;
    request_state next = from;
    next.sending = false;
    out.push_back(next);
    out.back().unflushed = true;
    begin_send(next);
    out.push_back(next);
  }

  /// One more frame. The parent reads `taken`, in the ring's mode.
  void queue(const request_state& from, std::vector<request_state>& out) const {
    if (from.queued == frames_ || from.parent != parent_at::idle) return;
    request_state next = from;
    ++next.queued;
    next.unflushed = true;
    if (from.sends) {
      append(next, next.queued);
      out.push_back(next);
      return;
    }
    if (room(from) >= (flaw_ == request_flaw::no_reserve ? 1 : 2)) {
      request_state& fits = out.emplace_back(next);
      fits.parent = parent_at::writing;
      if (flaw_ == request_flaw::end_before_bytes)
        fits.end = fits.published = static_cast<std::uint8_t>(from.written + 1);
    }
    next.parent = parent_at::marking;  // it does not fit, is too large, or carries a descriptor
    out.push_back(next);
  }

  bool looks_at_sleep(const request_state& in) const noexcept {
    if (flaw_ == request_flaw::woken_once) return in.woken == 0;
    return flaw_ != request_flaw::sent_frames_wake || !in.sends;
  }

  /// A futex leaves nothing behind, so it wakes whenever the worker sleeps.
  bool calls_futex(request_state& next, const request_state& from) const noexcept {
    if (from.sleep % 2 == 0 || !looks_at_sleep(from)) return false;
    if (flaw_ == request_flaw::pending_send_wakes && from.sending) return false;
    if (flaw_ == request_flaw::send_wakes && from.out != 0) return false;
    if (flaw_ == request_flaw::woken_once_per_sleep) {
      if (from.woken == from.sleep) return false;
      next.woken = from.sleep;
    }
    return true;
  }

  /// The worker sleeps at the socket. What is sent stays there, so once is enough for each sleep.
  void wake_at_socket(request_state& next, const request_state& from, std::uint8_t sleep) const {
    if (sleep % 2 == 0 || sleep == from.woken || !looks_at_sleep(from)) return;
    next.woken = sleep;
    // What is to be sent wakes as well. What was sent need not: the worker can have received it before it slept.
    if (from.out == 0 && !(flaw_ == request_flaw::pending_send_wakes && from.sending)) append(next, wake);
  }

  void decided(request_state& in) const {
    in.parent = parent_at::idle;
    if (flaw_ == request_flaw::sleep_read_before_end) in.parent = parent_at::publishing;
    else begin_send(in);
  }

  /// Without anything new in the ring it need not look whether the worker sleeps.
  static void publish_or_send(request_state& in, const request_state& from) {
    if (from.published != from.written) in.parent = parent_at::deciding;
    else begin_send(in);
  }

  void flush(const request_state& from, std::vector<request_state>& out) const {
    request_state next = from;
    switch (from.parent) {
      case parent_at::writing:
        put(next, from.queued);
        next.parent = parent_at::idle;
        break;
      case parent_at::marking:
        if (flaw_ != request_flaw::no_by_socket) put(next, by_socket);
        append(next, from.queued);
        next.sends = true;
        next.parent = parent_at::idle;
        break;
      case parent_at::idle:
        if (!from.unflushed) return;
        next.unflushed = false;
        if (flaw_ != request_flaw::sleep_read_before_end) next.published = from.written;
        if (from.sends && (2 * room(from) >= request_ring_size || flaw_ == request_flaw::return_without_room)) {
          out.push_back(next);  // it can see an older `taken` and stay
          publish_or_send(out.back(), from);
          if (flaw_ != request_flaw::no_by_ring) append(next, by_ring);
          next.sends = false;
        }
        publish_or_send(next, from);
        break;
      case parent_at::deciding:
        if (flaw_ != request_flaw::no_parent_fence) show_end(next);
        if (bed_ == request_bed::socket) {
          wake_at_socket(next, from, from.sleep);
          decided(next);
        } else if (!calls_futex(next, from)) {
          decided(next);
        } else if (bed_ == request_bed::ring) {
          next.parent = parent_at::waking;
        } else {
          next.parent = parent_at::asking;
          next.asks = from.sleep;
        }
        break;
      case parent_at::asking:
        next.asks = 0;
        if (!from.at_socket) {
          next.parent = parent_at::waking;
          if (flaw_ == request_flaw::futex_noted) next.woken = from.asks;
          break;
        }
        wake_at_socket(next, from, from.asks);
        decided(next);
        break;
      case parent_at::waking:
        show_end(next);
        if (from.worker == worker_at::enqueued) next.worker = worker_at::woken;
        if (flaw_ == request_flaw::flag_down_by_parent) next.sleep = next.announced = 0;
        decided(next);
        break;
      case parent_at::publishing:
        next.published = from.written;
        begin_send(next);
        next.parent = parent_at::idle;
        break;
    }
    out.push_back(next);
  }

  /// A sleep that is over never comes again, so states differ in what matters only.
  void forget_old_sleep(request_state& in) const noexcept {
    if (flaw_ == request_flaw::woken_once || flaw_ == request_flaw::same_sleep) return;
    if (in.woken != in.sleep && in.woken != in.announced && in.woken != in.asks) in.woken = 0;
  }

  /// Frames are there, the worker lies at the ring, and the parent has done all that it does for these frames. Neither
  /// a send that ends nor the next frames are counted on.
  static bool is_left_at_the_ring(const request_state& in) noexcept {
    return in.worker == worker_at::enqueued && in.end != in.read && in.parent == parent_at::idle &&
           in.broken == request_breach::none;
  }

  // ---- The worker.

  static void take(request_state& in, std::uint8_t frame) {
    if (frame != in.got + 1) in.broken = request_breach::wrong_frame;
    else ++in.got;
  }

  template <std::size_t Size>
  static std::uint8_t remove(std::array<std::uint8_t, Size>& from, std::size_t at) noexcept {
    const std::uint8_t removed = from[at];
    std::copy(from.begin() + static_cast<std::ptrdiff_t>(at) + 1, from.end(),
              from.begin() + static_cast<std::ptrdiff_t>(at));
    from.back() = 0;
    return removed;
  }

  /// A number that nobody has seen is as good as one that there never was. Even ones are all alike.
  std::uint8_t next_sleep(const request_state& in) const noexcept {
    std::uint8_t number = 1;
    if (flaw_ == request_flaw::same_sleep) return number;
    while (number == in.sleep || number == in.woken || number == in.asks)
      number = static_cast<std::uint8_t>(number + 2);
    return number;
  }

  /// Takes what it has, by the way that is the frames' at each of them. Then it sleeps at the socket, or looks at the
  /// ring.
  void take_all(request_state& in) const {
    while ((in.receives ? in.received : in.copied) != 0 && in.broken == request_breach::none) {
      const std::uint8_t what = in.receives ? remove(in.way, 0) : remove(in.copy, 0);
      --(in.receives ? in.received : in.copied);
      if (what == by_ring) in.receives = false;
      else if (what == by_socket) in.receives = true;
      else take(in, what);
    }
    in.worker = in.receives ? worker_at::asleep : worker_at::looking;
    if (in.receives && flaw_ == request_flaw::not_at_socket) in.worker = worker_at::waiting;
    // It does not announce this sleep, as the parent sends in any case.
    if (in.receives && !in.sends && !in.on_the_way(by_ring) && in.broken == request_breach::none)
      in.broken = request_breach::deadlock;
  }

  /// Something has come through the socket, one frame or more. It wakes a worker that sleeps.
  void receive(const request_state& from, std::vector<request_state>& out) const {
    if (from.worker != worker_at::asleep) return;
    request_state next = from;
    while (next.sent != 0) {
      const std::uint8_t what = next.way[next.received];
      const bool early = !from.receives;
      --next.sent;
      if (early && flaw_ == request_flaw::early_taken && what <= frame_count) take(next, what);
      if (what == wake || (early && (flaw_ == request_flaw::early_dropped || flaw_ == request_flaw::early_taken)))
        remove(next.way, next.received);
      else ++next.received;
      wake_up(out.emplace_back(next));
    }
  }

  void wake_up(request_state& in) const {
    in.announced = 0;
    take_all(in);
  }

  void wake_for_nothing(const request_state& from, std::vector<request_state>& out) const {
    if (from.worker == worker_at::asleep && !from.receives) wake_up(out.emplace_back(from));
    if (from.worker == worker_at::enqueued) out.emplace_back(from).worker = worker_at::woken;
  }

  void lie_down(request_state& in) const noexcept {
    in.worker = bed_ == request_bed::socket || in.refused ? worker_at::asleep : worker_at::waiting;
  }

  void work(const request_state& from, std::vector<request_state>& out) const {
    request_state next = from;
    const bool tells_first = flaw_ == request_flaw::taken_before_copied;
    switch (from.worker) {
      case worker_at::looking:
        next.seen_end = from.end;
        if (from.end != from.read) {
          next.worker = tells_first ? worker_at::telling : worker_at::copying;
          break;
        }
        next.worker = worker_at::last_look;
        if (flaw_ != request_flaw::last_look_before_sleep) next.announced = next_sleep(from);
        if (flaw_ == request_flaw::no_last_look) {
          if (bed_ != request_bed::socket) show_sleep(next);  // the fence is there
          lie_down(next);
        }
        break;
      case worker_at::last_look:
        if (flaw_ != request_flaw::no_worker_fence) show_sleep(next);
        if (from.end != from.read) {
          wake_up(next);
          break;
        }
        if (flaw_ == request_flaw::last_look_before_sleep) next.announced = next_sleep(from);
        lie_down(next);
        break;
      case worker_at::waiting:
        if (bed_ == request_bed::either) {  // the kernel refuses
          request_state& other = out.emplace_back(from);
          other.refused = true;
          if (flaw_ == request_flaw::futex_noted) {
            other.worker = worker_at::last_look;
          } else {
            other.announced = 0;
            other.worker = worker_at::looking;
          }
        }
        next.worker =
            from.end == from.read || flaw_ == request_flaw::no_compare ? worker_at::enqueued : worker_at::woken;
        break;
      case worker_at::woken:
        if (flaw_ == request_flaw::awake_when_woken) next.announced = 0;
        if (from.end != from.read) wake_up(next);
        else next.worker = worker_at::waiting;
        break;
      case worker_at::copying: {
        std::uint8_t& place = next.ring[from.read % request_ring_size];
        next.copy[next.copied++] = place;
        place = 0;
        if (++next.read != next.seen_end) break;
        if (tells_first) take_all(next);
        else next.worker = worker_at::telling;
        break;
      }
      case worker_at::telling:
        next.taken = from.seen_end;
        if (tells_first) next.worker = worker_at::copying;
        else take_all(next);
        break;
      case worker_at::asleep:
      case worker_at::enqueued: return;
    }
    out.push_back(next);
  }

  request_flaw flaw_;
  request_bed bed_;
  std::uint8_t frames_;
};

}  // namespace shmpool::model
