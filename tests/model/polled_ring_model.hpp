// The polled reply ring as a small state machine, so that all its interleavings can be walked: the parent's flag, its
// looks and its sleep, the worker's choice to send or to leave a reply where it is, what each knows of the other's
// positions, and the places of the ring that are used again. One memory access per step, as
// src/worker/reply_stream.cpp, src/worker/reply_reader.cpp, src/worker/link.cpp and src/engine_polling.cpp make them.
// docs/adr/0009.
//
// Unlike that of the slots, this protocol does not hold if accesses happen one after the other only because the program
// says so: each side writes a word and then reads the other's. So the worker's published end and the parent's flag go
// through a store buffer of one entry each, which drains at any later time, or at a fence.
//
// The world: a ring that holds two replies, and six of them, of which the fifth is too large for it.
//
// Thread safety: none is needed.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <vector>

namespace shmpool::model {

/// What can be done wrongly with the polled ring.
enum class poll_flaw : std::uint8_t {
  none,
  no_last_look,           ///< the flag is taken down, and the parent sleeps
  last_look_before_flag,  ///< the parent looks once more, then takes the flag down
  no_parent_fence,        ///< nothing between the flag and the last look
  no_worker_fence,        ///< nothing between the published end and the look at the flag
  flag_read_before_end,   ///< the worker decides whether to send before it publishes
  no_look_behind_large,   ///< what the last look could not reach is not looked for again
  no_position_check,      ///< what comes through the socket counts, taken before or not
  begin_after_bytes,      ///< a place is used again before that is said
  begin_not_checked,      ///< the parent does not look whether what it has copied was still there
  skip_not_told,          ///< the worker sends on behind what was taken and does not say so
  large_sent_before_end,  ///< a reply that is too large for the ring is sent, then published
};

enum class poll_breach : std::uint8_t { none, wrong_reply, lost_in_sleep, out_of_step };

inline constexpr std::uint8_t reply_count = 6;
inline constexpr std::uint8_t large_reply = 5;  // its number
inline constexpr std::uint8_t polled_ring_size = 2;

/// Positions are counted in replies; the large one takes as many as the ring has, and one more.
constexpr std::uint8_t size_of(std::uint8_t reply) noexcept {
  return reply == large_reply ? polled_ring_size + 1 : 1;
}

enum class worker_at : std::uint8_t {
  next,
  making_room,
  telling,
  sending_large,
  writing,
  publishing,
  deciding,
  sending,
  done
};
enum class parent_at : std::uint8_t { awake, copying, checking, lowering, last_look, asleep };

struct poll_state {
  // The control page. Each place of the ring holds the number of a reply.
  std::array<std::uint8_t, polled_ring_size> ring{};
  std::uint8_t end = 0, begin = 0, taken = 0;
  bool polled = false;
  // What was stored and cannot be seen yet.
  bool end_waits = false, flag_waits = false;
  std::uint8_t waiting_end = 0;

  // The worker.
  worker_at worker = worker_at::next;
  std::uint8_t reply = 1;  // the one that it is at
  std::uint8_t written = 0, sent = 0, told = 0;
  bool will_send = false;

  // The socket: replies, or with the highest bit set a position to skip to.
  std::array<std::uint8_t, 2 * reply_count> socket{};

  // The parent.
  parent_at parent = parent_at::asleep;
  bool last = false;   // this look is the last
  bool again = false;  // it could not reach all, and is to look when more has come in
  std::uint8_t seen_end = 0, copied = 0;
  std::array<std::uint8_t, polled_ring_size> copy{};
  std::uint8_t read = 0, socket_at = 0;  // stream positions
  std::uint8_t got = 0;                  // replies that have come out
  poll_breach broken = poll_breach::none;

  std::string_view bytes() const noexcept { return {reinterpret_cast<const char*>(this), sizeof *this}; }
};
static_assert(std::has_unique_object_representations_v<poll_state>);

class polled_ring {
 public:
  explicit polled_ring(poll_flaw which) : flaw_(which) {}

  std::vector<poll_state> successors(const poll_state& from) const {
    std::vector<poll_state> out;
    drain_buffers(from, out);
    work(from, out);
    receive(from, out);
    const bool stuck = out.empty();  // nothing happens by itself: what sleeps now is never woken
    look(from, out);
    if (stuck && from.parent == parent_at::asleep && from.got != reply_count) {
      poll_state lost = from;
      lost.broken = poll_breach::lost_in_sleep;
      out.push_back(lost);
    }
    return out;
  }

 private:
  static constexpr std::uint8_t skip_to = 0x80;

  /// Position at which a reply begins.
  static constexpr std::uint8_t begin_of(std::uint8_t reply) noexcept {
    return static_cast<std::uint8_t>(reply - 1 + (reply > large_reply ? polled_ring_size : 0));
  }

  // ---- The store buffers.

  static void show_end(poll_state& in) noexcept {
    if (in.end_waits) in.end = in.waiting_end;
    in.end_waits = false;
  }
  static void show_flag(poll_state& in) noexcept {
    if (in.flag_waits) in.polled = false;
    in.flag_waits = false;
  }
  static void drain_buffers(const poll_state& from, std::vector<poll_state>& out) {
    if (from.end_waits) show_end(out.emplace_back(from));
    if (from.flag_waits) show_flag(out.emplace_back(from));
  }

  // ---- The worker.

  static void put(poll_state& in, std::uint8_t what) {
    for (std::uint8_t& each : in.socket) {
      if (each != 0) continue;
      each = what;
      return;
    }
  }

  static void skip_taken(poll_state& in) noexcept {
    if (in.taken > in.sent && in.taken <= in.written) in.sent = in.taken;
  }

  /// Sends one more of what the ring has; false if there is nothing. Stores stay in order: whoever hears of what is
  /// sent sees what was stored before.
  bool send_one(poll_state& in) const {
    if (in.told != in.sent) {
      if (flaw_ != poll_flaw::skip_not_told) put(in, skip_to | in.sent);
      in.told = in.sent;
    }
    if (in.sent == in.written) return false;
    show_end(in);
    put(in, in.ring[in.sent % polled_ring_size]);
    in.told = ++in.sent;
    return true;
  }

  static void appended(poll_state& in, std::vector<poll_state>& out) {
    const bool last = in.reply++ == reply_count;
    in.worker = worker_at::deciding;
    if (last) return;
    poll_state more = in;  // it goes on with what it has yet, and sends later
    more.worker = worker_at::next;
    out.push_back(more);
  }

  void work(const poll_state& from, std::vector<poll_state>& out) const {
    poll_state next = from;
    const std::uint8_t size = size_of(from.reply);
    const bool large = size > polled_ring_size;
    const auto end = static_cast<std::uint8_t>(from.written + size);
    switch (from.worker) {
      case worker_at::next:  // reply_stream::append
        if (from.reply > reply_count) next.worker = worker_at::done, next.reply = reply_count + 1;
        else skip_taken(next), next.worker = worker_at::making_room;
        if (next.worker == worker_at::done) return;
        break;
      case worker_at::making_room:
        if (from.written - from.sent + size > polled_ring_size && send_one(next)) break;
        next.worker = flaw_ == poll_flaw::begin_after_bytes && !large ? worker_at::writing : worker_at::telling;
        break;
      case worker_at::telling:
        show_end(next);  // stores stay in order
        next.begin = large ? end : static_cast<std::uint8_t>(end > polled_ring_size ? end - polled_ring_size : 0);
        if (large)
          next.worker = flaw_ == poll_flaw::large_sent_before_end ? worker_at::sending_large : worker_at::publishing;
        else next.worker = flaw_ == poll_flaw::begin_after_bytes ? worker_at::publishing : worker_at::writing;
        break;
      case worker_at::sending_large:
        show_end(next);  // whoever hears of what is sent sees what was stored before
        put(next, from.reply);
        next.sent = next.told = next.written = end;
        if (flaw_ == poll_flaw::large_sent_before_end) next.worker = worker_at::publishing;
        else appended(next, out);
        break;
      case worker_at::writing:
        show_end(next);
        next.ring[from.written % polled_ring_size] = from.reply;
        next.written = end;
        next.worker = flaw_ == poll_flaw::begin_after_bytes ? worker_at::telling : worker_at::publishing;
        if (flaw_ == poll_flaw::begin_after_bytes) next.written = from.written;
        break;
      case worker_at::publishing:
        if (flaw_ == poll_flaw::begin_after_bytes && !large) next.written = end;
        if (flaw_ == poll_flaw::flag_read_before_end) next.will_send = !from.polled;
        show_end(next);
        next.end_waits = true;
        next.waiting_end = large && from.written == begin_of(from.reply) ? end : next.written;
        if (next.waiting_end != next.written) next.worker = worker_at::sending_large;
        else appended(next, out);
        break;
      case worker_at::deciding:  // reply_stream::flush
        skip_taken(next);
        if (flaw_ != poll_flaw::no_worker_fence && from.end_waits) {
          show_end(next);  // the fence; then the flag is read
          break;
        }
        if (flaw_ != poll_flaw::flag_read_before_end) next.will_send = !from.polled;
        next.worker = next.will_send && next.sent != next.written ? worker_at::sending : worker_at::next;
        break;
      case worker_at::sending:
        if (!send_one(next)) next.worker = worker_at::next;
        break;
      case worker_at::done: return;
    }
    out.push_back(next);
  }

  // ---- The parent.

  static void take(poll_state& in, std::uint8_t reply) {
    if (reply != in.got + 1) in.broken = poll_breach::wrong_reply;
    else ++in.got;
    in.read = static_cast<std::uint8_t>(in.read + size_of(reply));
  }

  /// Something has come through the socket. It wakes a parent that sleeps.
  void receive(const poll_state& from, std::vector<poll_state>& out) const {
    if (from.socket[0] == 0 || (from.parent != parent_at::asleep && from.parent != parent_at::awake)) return;
    poll_state next = from;
    const std::uint8_t what = from.socket[0];
    for (std::size_t i = 0; i + 1 != next.socket.size(); ++i) next.socket[i] = next.socket[i + 1];
    next.socket.back() = 0;
    if ((what & skip_to) != 0) {
      const auto to = static_cast<std::uint8_t>(what & ~skip_to);
      if (to < next.socket_at || to > next.read) next.broken = poll_breach::out_of_step;
      next.socket_at = to;
    } else {
      const std::uint8_t at = next.socket_at;
      next.socket_at = static_cast<std::uint8_t>(at + size_of(what));
      if (flaw_ == poll_flaw::no_position_check || at == next.read) take(next, what);
      else if (next.socket_at > next.read || begin_of(what) != at) next.broken = poll_breach::out_of_step;
    }
    if (from.parent == parent_at::asleep && from.again && flaw_ != poll_flaw::no_look_behind_large)
      begin_look(next, true);
    out.push_back(next);
  }

  static void begin_look(poll_state& in, bool last) {
    in.last = last;
    in.seen_end = in.end;
    if (in.end < in.read) in.broken = poll_breach::out_of_step;  // as from a worker that says what it has not given
    in.again = in.end > in.read;
    in.copied = 0;
    in.copy = {};
    const bool sense = in.end > in.read && in.end - in.read <= polled_ring_size;
    in.parent = sense ? parent_at::copying : last ? parent_at::asleep : parent_at::awake;
  }

  void look(const poll_state& from, std::vector<poll_state>& out) const {
    poll_state next = from;
    switch (from.parent) {
      case parent_at::asleep:  // something else has woken it, and it begins to poll
        next.polled = true;
        next.flag_waits = false;
        next.parent = parent_at::awake;
        break;
      case parent_at::awake: {
        begin_look(next, false);
        if (next.parent != parent_at::awake) out.push_back(next);
        poll_state stops = from;
        if (flaw_ == poll_flaw::last_look_before_flag) {
          begin_look(stops, true);
          if (stops.parent == parent_at::asleep) stops.parent = parent_at::lowering;
        } else {
          stops.flag_waits = true;
          stops.parent = parent_at::lowering;
        }
        out.push_back(stops);
        return;
      }
      case parent_at::lowering:
        if (flaw_ == poll_flaw::last_look_before_flag) {
          next.polled = false;
          next.parent = parent_at::asleep;
          break;
        }
        if (flaw_ != poll_flaw::no_parent_fence) show_flag(next);
        next.parent = parent_at::last_look;
        break;
      case parent_at::last_look:
        begin_look(next, true);
        if (flaw_ == poll_flaw::no_last_look) next.parent = parent_at::asleep, next.again = false;
        break;
      case parent_at::copying:
        next.copy[from.copied] = from.ring[(from.read + from.copied) % polled_ring_size];
        if (++next.copied == from.seen_end - from.read) next.parent = parent_at::checking;
        break;
      case parent_at::checking: {
        if (flaw_ == poll_flaw::begin_not_checked || from.begin <= from.read) {
          next.taken = from.seen_end;
          for (std::uint8_t i = 0; i != from.copied; ++i) take(next, from.copy[i]);
          next.again = false;
        }
        next.parent = from.last ? parent_at::asleep : parent_at::awake;
        if (from.last && flaw_ == poll_flaw::last_look_before_flag) next.parent = parent_at::lowering;
        break;
      }
    }
    out.push_back(next);
  }

  poll_flaw flaw_;
};

}  // namespace shmpool::model
