// The protocol of a worker's slots and of its reply ring as a small state machine, so that all its interleavings can be
// walked: the steps of the parent, of the worker and of death, one memory access each, as src/wire/control_page.hpp,
// src/worker/link.cpp, src/worker/worker_main.cpp and src/worker/reply_stream.cpp make them. docs/adr/0008 argues why
// single accesses, one after the other, are a fair picture of what the memory orders allow.
//
// The world: two slots, a ring that holds two replies, four tasks, and two workers, of which the second comes when the
// first is dead. So slots and ring are used again, replies wait in the ring, and what the first worker left is run
// again.
//
// Thread safety: none is needed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <vector>

namespace shmpool::model {

/// What can be done wrongly. The model has to notice each.
enum class flaw : std::uint8_t {
  none,
  claim_without_compare,      ///< the worker stores `started` instead of comparing first
  take_back_without_compare,  ///< the parent stores `taken` instead of comparing first
  word_without_task,          ///< the word holds the state only, so that a stale frame fits the slot's next task
  stop_without_task,          ///< the stop word is a flag, so that it fits the slot's next task
  started_after_run,          ///< the worker marks a task as started when it has run it
  end_before_bytes,           ///< the end of a reply is published before its bytes are written
  end_after_send,             ///< the end of a reply is published when it has been sent
  ring_before_socket,         ///< of a dead worker, the ring is read before the socket is
  ring_not_read,              ///< of a dead worker, the socket is read only
};

/// The promise that a state does not keep.
enum class breach : std::uint8_t {
  none,
  runs_twice,
  runs_though_taken_back,
  taken_back_though_started,
  counts_as_waiting_though_started,
  counts_as_started_though_not,
  stopped_by_mistake,
  reply_of_no_task,
  reply_lost,
  ended_twice,
  never_ended,
};

inline constexpr std::uint8_t task_count = 4;
inline constexpr std::uint8_t slot_count = 2;
inline constexpr std::uint8_t worker_count = 2;
inline constexpr std::uint8_t ring_size = 2;

enum word_state : std::uint8_t { word_free, word_queued, word_started, word_taken };

struct word {
  std::uint8_t task = 0;
  word_state state = word_free;
  bool operator==(const word&) const = default;
};

/// Which access of the worker is next.
enum class at : std::uint8_t {
  reading,     ///< it takes a frame from the socket, or sends a reply
  claiming,    ///< compare-and-swap queued to started
  running,     ///< it looks at the stop word, or the task ends
  replying,    ///< it writes the reply into the ring
  publishing,  ///< it publishes the end
};

struct fifo {
  std::array<std::uint8_t, task_count> items{};  // 0: none
  bool empty() const noexcept { return items[0] == 0; }
  void push(std::uint8_t value) noexcept {
    for (std::uint8_t& each : items) {
      if (each == 0) {
        each = value;
        return;
      }
    }
  }
  std::uint8_t pop() noexcept {
    const std::uint8_t first = items[0];
    for (std::size_t i = 0; i + 1 != items.size(); ++i) items[i] = items[i + 1];
    items.back() = 0;
    return first;
  }
};

/// Everything that there is, in single bytes: a state is its bytes.
struct state {
  // The control page of the worker that lives or was the last to: a new worker gets a new page.
  std::array<word, slot_count> words{};
  std::array<std::uint8_t, slot_count> stops{};
  std::array<std::uint8_t, ring_size> ring{};
  std::uint8_t reply_end = 0;  // counted in replies

  // The worker, and its socket.
  bool alive = true;
  at where = at::reading;
  std::uint8_t doing = 0;    // the task of the frame that it is at
  std::uint8_t written = 0;  // replies in the ring since it began
  std::uint8_t sent = 0;
  fifo frames, replies;

  // The parent.
  std::uint8_t worker = 1;
  std::uint8_t received = 0;
  std::array<std::uint8_t, slot_count> in_slot{};
  struct task {
    bool handed_over = false;
    std::uint8_t slot = 0;
    bool stop_asked = false;
    std::uint8_t ended = 0;  // how often, however
    // What an onlooker sees who sees all.
    std::uint8_t runs = 0;
    bool published = false;
    bool taken_back = false;
    bool saw_stop = false;
  };
  std::array<task, task_count + 1> tasks{};  // by id
  breach broken = breach::none;

  std::string_view bytes() const noexcept { return {reinterpret_cast<const char*>(this), sizeof *this}; }
};
static_assert(std::has_unique_object_representations_v<state>);

class protocol {
 public:
  explicit protocol(flaw which) : flaw_(which) {}

  /// All states that one step leads to; death is a step that can always be taken.
  std::vector<state> successors(const state& from) const {
    std::vector<state> out;
    hand_over(from, out);
    cancel(from, out);
    receive(from, out);
    if (from.alive) {
      work(from, out);
      // No step but death is left: every task must have ended.
      if (out.empty() && from.worker == worker_count) {
        for (std::uint8_t id = 1; id <= task_count; ++id) {
          if (from.tasks[id].ended != 0) continue;
          state stuck = from;
          break_promise(stuck, breach::never_ended);
          out.push_back(stuck);
        }
      }
      state dead = from;
      dead.alive = false;
      dead.frames = {};  // what it had not read is gone with its socket, what it had sent is not
      out.push_back(dead);
    } else {
      state next = from;
      bury(next);
      out.push_back(next);
    }
    return out;
  }

 private:
  std::uint8_t key(std::uint8_t task) const noexcept { return flaw_ == flaw::word_without_task ? 0 : task; }
  std::uint8_t stop_key(std::uint8_t task) const noexcept { return flaw_ == flaw::stop_without_task ? 1 : task; }

  /// The first breach counts: what comes of it is not another.
  static void break_promise(state& in, breach how) noexcept {
    if (in.broken == breach::none) in.broken = how;
  }

  // ---- The parent.

  void hand_over(const state& from, std::vector<state>& out) const {
    if (!from.alive) return;  // what it is handed now goes with the socket, as if it had not been
    for (std::uint8_t id = 1; id <= task_count; ++id) {
      if (from.tasks[id].handed_over || from.tasks[id].ended != 0) continue;
      for (std::uint8_t slot = 0; slot != slot_count; ++slot) {
        if (from.in_slot[slot] != 0) continue;
        state next = from;
        if (flaw_ != flaw::stop_without_task) next.stops[slot] = 0;
        next.words[slot] = {key(id), word_queued};
        next.in_slot[slot] = id;
        next.tasks[id].handed_over = true;
        next.tasks[id].slot = slot;
        next.tasks[id].taken_back = false;
        next.frames.push(id);
        out.push_back(next);
        break;
      }
      break;  // in order
    }
  }

  bool take_back(state& in, std::uint8_t slot) const {
    const std::uint8_t id = in.in_slot[slot];
    const bool queued = in.words[slot] == word{key(id), word_queued};
    if (flaw_ != flaw::take_back_without_compare && !queued) return false;
    in.words[slot] = {key(id), word_taken};
    in.tasks[id].taken_back = true;
    return true;
  }

  static void free_slot(state& in, std::uint8_t slot) {
    in.tasks[in.in_slot[slot]].handed_over = false;
    in.in_slot[slot] = 0;
    in.words[slot] = {};
  }

  static void end(state& in, std::uint8_t id) {
    if (++in.tasks[id].ended > 1) break_promise(in, breach::ended_twice);
  }

  /// A terminal cancellation: the task is taken back, or it has started and is asked to stop.
  void cancel(const state& from, std::vector<state>& out) const {
    for (std::uint8_t slot = 0; slot != slot_count; ++slot) {
      const std::uint8_t id = from.in_slot[slot];
      if (id == 0 || from.tasks[id].stop_asked) continue;
      state next = from;
      if (take_back(next, slot)) {
        free_slot(next, slot);
        end(next, id);
        if (next.tasks[id].runs != 0) break_promise(next, breach::taken_back_though_started);
      } else {
        next.tasks[id].stop_asked = true;
        next.stops[slot] = stop_key(id);
      }
      out.push_back(next);
    }
  }

  void receive(const state& from, std::vector<state>& out) const {
    if (from.replies.empty()) return;
    state next = from;
    take_reply(next, next.replies.pop());
    out.push_back(next);
  }

  /// As the engine: a reply counts for the task that is in its slot; anything else is a violation of the protocol.
  static void take_reply(state& in, std::uint8_t id) {
    ++in.received;
    const std::uint8_t slot = in.tasks[id].slot;
    if (id == 0 || in.in_slot[slot] != id) {
      break_promise(in, breach::reply_of_no_task);
      return;
    }
    free_slot(in, slot);
    end(in, id);
  }

  /// link::collect_last_words, then pool_engine::strip; then the next worker comes.
  void bury(state& dead) const {
    const auto read_ring = [&] {
      if (dead.reply_end <= dead.received || dead.reply_end - dead.received > ring_size) return;
      while (dead.received != dead.reply_end) take_reply(dead, dead.ring[dead.received % ring_size]);
    };
    if (flaw_ == flaw::ring_before_socket) read_ring();
    while (!dead.replies.empty()) take_reply(dead, dead.replies.pop());
    if (flaw_ != flaw::ring_not_read) read_ring();
    for (std::uint8_t slot = 0; slot != slot_count; ++slot) {
      const std::uint8_t id = dead.in_slot[slot];
      if (id == 0) continue;
      const state::task& task = dead.tasks[id];
      if (take_back(dead, slot)) {
        if (task.runs != 0) break_promise(dead, breach::counts_as_waiting_though_started);
      } else {
        end(dead, id);  // worker_lost
        if (task.runs == 0) break_promise(dead, breach::counts_as_started_though_not);
        if (task.published) break_promise(dead, breach::reply_lost);
      }
      free_slot(dead, slot);
    }
    if (dead.worker == worker_count) return;
    ++dead.worker;
    dead.words = {};
    dead.stops = {};
    dead.ring = {};
    dead.reply_end = dead.written = dead.sent = dead.received = dead.doing = 0;
    dead.alive = true;
    dead.where = at::reading;
  }

  // ---- The worker.

  bool claim(state& in, std::uint8_t id) const {
    word& of = in.words[in.tasks[id].slot];
    const bool queued = of == word{key(id), word_queued};
    if (flaw_ == flaw::started_after_run) return queued;  // looks, and does not write
    if (flaw_ != flaw::claim_without_compare && !queued) return false;
    of = {key(id), word_started};
    return true;
  }

  void publish(state& in) const {
    ++in.reply_end;
    in.tasks[in.doing].published = true;
  }

  void send(state& in) const {
    in.replies.push(in.ring[in.sent % ring_size]);
    ++in.sent;
    if (flaw_ == flaw::end_after_send) in.reply_end = in.sent;
  }

  void work(const state& from, std::vector<state>& out) const {
    state next = from;
    const std::uint8_t id = from.doing;
    switch (from.where) {
      case at::reading:
        if (from.sent != from.written) {  // replies may wait, or not
          state sending = from;
          send(sending);
          out.push_back(sending);
        }
        if (from.frames.empty()) return;
        next.doing = next.frames.pop();
        next.where = at::claiming;
        break;
      case at::claiming:
        next.where = at::reading;
        if (claim(next, id)) {
          next.where = at::running;
          if (++next.tasks[id].runs > 1) break_promise(next, breach::runs_twice);
          if (next.tasks[id].taken_back) break_promise(next, breach::runs_though_taken_back);
        }
        break;
      case at::running:
        if (from.stops[from.tasks[id].slot] == stop_key(id) && !from.tasks[id].saw_stop) {
          state stopped = from;
          stopped.tasks[id].saw_stop = true;
          if (!from.tasks[id].stop_asked) break_promise(stopped, breach::stopped_by_mistake);
          out.push_back(stopped);
        }
        next.where = at::replying;
        break;
      case at::replying:
        if (from.written - from.sent == ring_size) {  // no room: what is there is sent first
          send(next);
          break;
        }
        if (flaw_ == flaw::started_after_run) next.words[next.tasks[id].slot] = {key(id), word_started};
        if (flaw_ == flaw::end_before_bytes) publish(next);
        else next.ring[next.written % ring_size] = id;
        next.where = at::publishing;
        break;
      case at::publishing:
        if (flaw_ == flaw::end_before_bytes) next.ring[next.written % ring_size] = id;
        else if (flaw_ != flaw::end_after_send) publish(next);
        else next.tasks[id].published = true;
        ++next.written;
        next.where = at::reading;
        break;
    }
    out.push_back(next);
  }

  flaw flaw_;
};

}  // namespace shmpool::model
