// The polled reply ring and its bell as a small state machine, so that all their interleavings can be walked: the
// number of the parent's sleep, its looks, the worker's choice to leave a reply where it is, to ring or to send, what
// each knows of the other's positions, and the places of the ring that are used again. One memory access or call per
// step, as src/worker/reply_stream.cpp, src/pool/reply_reader.cpp, src/pool/worker_channel.cpp and src/pool/crew.cpp
// make them. docs/adr/0009.
//
// Unlike that of the slots, this protocol does not hold if accesses happen one after the other only because the program
// says so: each side writes a word and then reads the other's. So the worker's published end and the number of the
// parent's sleep go through a store buffer of one entry each, which drains at any later time, or at a fence. What only
// goes into the buffer is seen by nobody, and a fence is before the access that follows, so neither is a step of its
// own.
//
// The world: a ring that holds two replies, and six of them, of which the fifth is too large for it. The bell is a pipe
// that holds one packet, which can be another worker's. The parent wakes by itself at any time and polls, or takes a
// look and sleeps on. The worker flushes behind any reply, and no other need follow.
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
  no_last_look,           ///< the sleep is announced, and the parent sleeps
  last_look_before_flag,  ///< the parent looks once more, then announces its sleep
  no_parent_fence,        ///< nothing between the announced sleep and the last look
  no_renewal_fence,       ///< nothing between the renewed number and the look
  look_before_renewal,    ///< the parent has heard the bell and looks, then renews the number
  no_renewal,             ///< the parent has heard the bell, and the number stays
  same_sleep,             ///< all sleeps begin with the same number
  no_worker_fence,        ///< nothing between the published end and the look at the number
  flag_read_before_end,   ///< the worker decides whether to ring before it publishes
  rung_once,              ///< the worker remembers that it has rung, and not for which number
  rung_until_polled,      ///< the same, until it sees that the parent polls
  full_is_rung,           ///< a worker that finds the bell full does nothing
  full_is_remembered,     ///< a worker that finds the bell full sends, and remembers the number as if it had rung
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
inline constexpr std::uint8_t bell_size = 1;  // packets

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
  flushing,
  deciding,
  ringing,
  sending,
  idle
};
enum class parent_at : std::uint8_t { awake, copying, checking, last_look, heard, numbering, asleep };

struct poll_state {
  // The control page. Each place of the ring holds the number of a reply.
  std::array<std::uint8_t, polled_ring_size> ring{};
  std::uint8_t end = 0, begin = 0, taken = 0;
  std::uint8_t sleep = 1;  // parent_sleeps: even while the parent polls
  // What was stored and cannot be seen yet.
  bool end_waits = false;
  std::uint8_t waiting_end = 0;

  // Packets in the bell.
  std::uint8_t rings = 0, rings_of_others = 0;

  // The worker.
  worker_at worker = worker_at::idle;
  std::uint8_t reply = 1;  // the one that it is at
  std::uint8_t written = 0, sent = 0, told = 0;
  std::uint8_t saw = 0;   // what it read of `sleep`, and goes by
  std::uint8_t rung = 0;  // the number for which it has rung

  // The socket: replies, or with the highest bit set a position to skip to.
  std::array<std::uint8_t, 2 * reply_count> socket{};

  // The parent.
  parent_at parent = parent_at::asleep;
  std::uint8_t announced = 1;   // what it stored to `sleep`
  bool last = false;            // behind this look it sleeps
  bool numbers_behind = false;  // behind this look it announces that, which is wrong
  bool again = false;           // it could not reach all, and is to look when more has come in
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
    hear(from, out);
    const bool stuck = out.empty();  // nothing happens by itself: what sleeps now is never woken
    begin_task(from, out);
    ring_of_others(from, out);
    look(from, out);
    if (stuck && from.parent == parent_at::asleep && from.got + 1 != from.reply)
      out.emplace_back(from).broken = poll_breach::lost_in_sleep;
    for (poll_state& each : out) forget_old_number(each);
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
    in.waiting_end = 0;
  }
  static void show_sleep(poll_state& in) noexcept { in.sleep = in.announced; }
  static void drain_buffers(const poll_state& from, std::vector<poll_state>& out) {
    if (from.end_waits) show_end(out.emplace_back(from));
    if (from.sleep != from.announced) show_sleep(out.emplace_back(from));
  }

  // ---- The numbers.

  /// One that the worker neither has nor can see yet. Numbers are only compared for equality, so one that nobody has
  /// any more is as good as one that there never was, and the walk has sleeps without end. Even ones are all alike.
  static std::uint8_t next_number(const poll_state& in) noexcept {
    std::uint8_t number = 1;
    while (number == in.sleep || number == in.announced || number == in.saw || number == in.rung)
      number = static_cast<std::uint8_t>(number + 2);
    return number;
  }

  /// A number that is over never comes again, so states differ in what matters only.
  void forget_old_number(poll_state& in) const noexcept {
    if (flaw_ == poll_flaw::rung_once || flaw_ == poll_flaw::rung_until_polled || flaw_ == poll_flaw::same_sleep)
      return;
    if (in.rung != in.sleep && in.rung != in.announced) in.rung = 0;
  }

  // ---- The bell.

  static bool bell_is_full(const poll_state& in) noexcept { return in.rings + in.rings_of_others == bell_size; }

  static void ring_of_others(const poll_state& from, std::vector<poll_state>& out) {
    if (!bell_is_full(from)) ++out.emplace_back(from).rings_of_others;
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
    in.worker = worker_at::flushing;
    if (last) return;
    poll_state more = in;  // it goes on with what it has yet, and flushes later
    more.worker = worker_at::next;
    out.push_back(more);
  }

  static void append(poll_state& in) noexcept {  // reply_stream::append
    skip_taken(in);
    in.worker = worker_at::making_room;
  }

  /// One that has flushed gets something to do.
  static void begin_task(const poll_state& from, std::vector<poll_state>& out) {
    if (from.worker == worker_at::idle && from.reply <= reply_count) append(out.emplace_back(from));
  }

  static void end_flush(poll_state& in) noexcept {
    in.worker = worker_at::idle;
    in.saw = 0;
  }

  bool has_rung(const poll_state& in) const noexcept {
    const bool any = flaw_ == poll_flaw::rung_once || flaw_ == poll_flaw::rung_until_polled;
    return any ? in.rung != 0 : in.rung == in.saw;
  }

  void work(const poll_state& from, std::vector<poll_state>& out) const {
    poll_state next = from;
    const std::uint8_t size = size_of(from.reply);
    const bool large = size > polled_ring_size;
    const auto end = static_cast<std::uint8_t>(from.written + size);
    switch (from.worker) {
      case worker_at::next: append(next); break;
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
        if (flaw_ == poll_flaw::flag_read_before_end) next.saw = from.sleep;
        show_end(next);
        next.end_waits = true;
        next.waiting_end = large && from.written == begin_of(from.reply) ? end : next.written;
        if (next.waiting_end != next.written) next.worker = worker_at::sending_large;
        else appended(next, out);
        break;
      case worker_at::flushing:  // reply_stream::flush
        skip_taken(next);
        if (next.sent == next.written) end_flush(next);
        else next.worker = worker_at::deciding;
        break;
      case worker_at::deciding:
        if (flaw_ != poll_flaw::no_worker_fence) show_end(next);
        if (flaw_ != poll_flaw::flag_read_before_end) next.saw = from.sleep;
        if (next.saw % 2 == 1 && !has_rung(next)) {
          next.worker = worker_at::ringing;
          break;
        }
        if (flaw_ == poll_flaw::rung_until_polled && next.saw % 2 == 0) next.rung = 0;
        end_flush(next);
        break;
      case worker_at::ringing:
        show_end(next);  // whoever hears it sees what was stored before
        if (!bell_is_full(from)) ++next.rings;
        if (!bell_is_full(from) || flaw_ == poll_flaw::full_is_remembered) next.rung = from.saw;
        next.saw = 0;
        if (bell_is_full(from) && flaw_ != poll_flaw::full_is_rung) next.worker = worker_at::sending;
        else end_flush(next);
        break;
      case worker_at::sending:
        if (!send_one(next)) end_flush(next);
        break;
      case worker_at::idle: return;
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

  /// There is a packet in the bell. One of another worker means nothing here, and one that comes while the parent polls
  /// neither: it looks in any case.
  void hear(const poll_state& from, std::vector<poll_state>& out) const {
    if (from.parent != parent_at::asleep && from.parent != parent_at::awake) return;
    if (from.rings_of_others != 0) --out.emplace_back(from).rings_of_others;
    if (from.rings == 0) return;
    poll_state next = from;
    --next.rings;
    if (from.parent == parent_at::asleep) {
      if (flaw_ != poll_flaw::no_renewal && flaw_ != poll_flaw::look_before_renewal) next.announced = next_number(from);
      next.parent = parent_at::heard;
    }
    out.push_back(next);
  }

  static void end_look(poll_state& in) noexcept {
    in.parent = in.numbers_behind ? parent_at::numbering : in.last ? parent_at::asleep : parent_at::awake;
    in.last = in.numbers_behind = false;
    in.seen_end = in.copied = 0;  // states differ only in what matters
    in.copy = {};
  }

  static void begin_look(poll_state& in, bool last, bool numbers_behind = false) {
    in.last = last;
    in.numbers_behind = numbers_behind;
    in.seen_end = in.end;
    if (in.end < in.read) in.broken = poll_breach::out_of_step;  // as from a worker that says what it has not given
    in.again = in.end > in.read;
    const bool sense = in.end > in.read && in.end - in.read <= polled_ring_size;
    if (sense) in.parent = parent_at::copying;
    else end_look(in);
  }

  void look(const poll_state& from, std::vector<poll_state>& out) const {
    poll_state next = from;
    switch (from.parent) {
      case parent_at::asleep:  // something else has woken it, and it begins to poll
        next.announced = 0;
        next.parent = parent_at::awake;
        out.push_back(next);
        next = from;  // or only looks
        begin_look(next, true);
        break;
      case parent_at::awake:
        begin_look(next, false);
        out.push_back(next);
        next = from;  // or falls asleep
        if (flaw_ == poll_flaw::last_look_before_flag) {
          begin_look(next, true, true);
          break;
        }
        next.announced = flaw_ == poll_flaw::same_sleep ? 1 : next_number(from);
        next.parent = parent_at::last_look;
        break;
      case parent_at::last_look:
        if (flaw_ != poll_flaw::no_parent_fence) show_sleep(next);
        begin_look(next, true);
        if (flaw_ == poll_flaw::no_last_look) next.parent = parent_at::asleep, next.again = false;
        break;
      case parent_at::heard:
        if (flaw_ != poll_flaw::no_renewal_fence) show_sleep(next);
        begin_look(next, true, flaw_ == poll_flaw::look_before_renewal);
        break;
      case parent_at::numbering:
        next.announced = next_number(from);
        next.parent = parent_at::asleep;
        break;
      case parent_at::copying:
        next.copy[from.copied] = from.ring[(from.read + from.copied) % polled_ring_size];
        if (++next.copied == from.seen_end - from.read) next.parent = parent_at::checking;
        break;
      case parent_at::checking: {
        if (flaw_ == poll_flaw::begin_not_checked || from.begin <= from.read) {
          show_sleep(next);  // stores stay in order
          next.taken = from.seen_end;
          for (std::uint8_t i = 0; i != from.copied; ++i) take(next, from.copy[i]);
          next.again = false;
        }
        end_look(next);
        break;
      }
    }
    out.push_back(next);
  }

  poll_flaw flaw_;
};

}  // namespace shmpool::model
