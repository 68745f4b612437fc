// The protocol of a worker's slots and of its reply ring as a small state machine, so that all its interleavings can be
// walked: the steps of the parent, of the worker and of death, one memory access each, as src/wire/control_page.hpp,
// src/worker/link.cpp, src/worker/worker_main.cpp and src/worker/reply_stream.cpp make them. docs/adr/0008 argues why
// single accesses, one after the other, are a fair picture of what the memory orders allow.
//
// The world: two slots, a ring that holds two replies, four tasks, and two workers, of which the second comes when the
// first is dead. So slots and ring are used again, replies wait in the ring, and what the first worker left is run
// again. Any task that waits may be recalled and handed to the same worker once more, in the same slot or in the other,
// while the frame of the first time is unread. One recall in each history is enough for that; a second would make five
// times as many states.
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
  word_with_task_only,        ///< the words name the task, so that a stale frame fits when it is handed over again
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
  runs_with_stale_frame,  ///< with the leases of an earlier hand-over, which may be somebody else's by now
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
inline constexpr std::uint8_t most_recalls = 1;  // of all tasks together

enum word_state : std::uint8_t { word_free, word_queued, word_started, word_taken };

struct word {
  std::uint8_t name = 0;  // the number of a hand-over, as in the stop words and in replies
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

/// What a frame carries, and what the parent notes of a slot. No worker gets a number twice.
struct handover {
  std::uint8_t task = 0, number = 0, slot = 0;
  bool operator==(const handover&) const = default;
};

struct reply {
  std::uint8_t name = 0, slot = 0;
  bool operator==(const reply&) const = default;
};

template <class Item>
struct fifo {
  std::array<Item, task_count + most_recalls> items{};  // Item{}: none
  bool empty() const noexcept { return items[0] == Item{}; }
  void push(Item value) noexcept {
    for (Item& each : items) {
      if (each == Item{}) {
        each = value;
        return;
      }
    }
  }
  Item pop() noexcept {
    const Item first = items[0];
    for (std::size_t i = 0; i + 1 != items.size(); ++i) items[i] = items[i + 1];
    items.back() = {};
    return first;
  }
};

/// Everything that there is, in single bytes: a state is its bytes.
struct state {
  // The control page of the worker that lives or was the last to: a new worker gets a new page.
  std::array<word, slot_count> words{};
  std::array<std::uint8_t, slot_count> stops{};
  std::array<reply, ring_size> ring{};
  std::uint8_t reply_end = 0;  // counted in replies

  // The worker, and its socket.
  bool alive = true;
  at where = at::reading;
  handover doing;            // the frame that it is at
  std::uint8_t written = 0;  // replies in the ring since it began
  std::uint8_t sent = 0;
  fifo<handover> frames;
  fifo<reply> replies;

  // The parent.
  std::uint8_t worker = 1;
  std::uint8_t received = 0;
  std::uint8_t last_number = 0;
  std::array<handover, slot_count> in_slot{};
  std::uint8_t recalls = 0;
  struct task {
    bool recalled = false;  // it was taken back from this worker, to be handed over again
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
    recall(from, out);
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
      dead.where = at::reading;
      dead.doing = {};
      dead.written = dead.sent = 0;
      out.push_back(dead);
    } else {
      state next = from;
      bury(next);
      out.push_back(next);
    }
    return out;
  }

 private:
  /// What stands for a hand-over in a reply, in a word and in a stop word.
  std::uint8_t name(const handover& of) const noexcept {
    return flaw_ == flaw::word_with_task_only ? of.task : of.number;
  }
  std::uint8_t word_name(const handover& of) const noexcept { return flaw_ == flaw::word_without_task ? 0 : name(of); }
  std::uint8_t stop_name(const handover& of) const noexcept { return flaw_ == flaw::stop_without_task ? 1 : name(of); }

  /// The first breach counts: what comes of it is not another.
  static void break_promise(state& in, breach how) noexcept {
    if (in.broken == breach::none) in.broken = how;
  }

  // ---- The parent.

  void hand_over(const state& from, std::vector<state>& out) const {
    if (!from.alive) return;  // what it is handed now goes with the socket, as if it had not been
    std::uint8_t slot = 0;    // the first that is free
    while (slot != slot_count && from.in_slot[slot].task != 0) ++slot;
    if (slot == slot_count) return;
    for (std::uint8_t id = 1; id <= task_count; ++id) {
      if (from.tasks[id].ended != 0 || number_of(from, id) != 0) continue;
      state next = from;
      const handover made{id, ++next.last_number, slot};
      if (flaw_ != flaw::stop_without_task) next.stops[slot] = 0;
      next.words[slot] = {word_name(made), word_queued};
      next.in_slot[slot] = made;
      next.tasks[id].taken_back = false;
      next.frames.push(made);
      out.push_back(next);
      if (!from.tasks[id].recalled) break;  // in order, but one that was recalled may let the next go first
    }
  }

  /// Of the hand-over that counts; 0 if the task is not handed over.
  static std::uint8_t number_of(const state& in, std::uint8_t id) noexcept {
    for (const handover& each : in.in_slot) {
      if (each.task == id) return each.number;
    }
    return 0;
  }

  bool take_back(state& in, std::uint8_t slot) const {
    const handover& of = in.in_slot[slot];
    const bool queued = in.words[slot] == word{word_name(of), word_queued};
    if (flaw_ != flaw::take_back_without_compare && !queued) return false;
    in.words[slot] = {word_name(of), word_taken};
    in.tasks[of.task].taken_back = true;
    return true;
  }

  static void free_slot(state& in, std::uint8_t slot) {
    in.in_slot[slot] = {};
    in.words[slot] = {};
  }

  static void end(state& in, std::uint8_t id) {
    state::task& task = in.tasks[id];
    if (++task.ended > 1) break_promise(in, breach::ended_twice);
    // Nothing depends on these any more: states that differ in them alone are one.
    task.recalled = task.stop_asked = task.published = task.saw_stop = false;
  }

  /// A task that waits behind a long one is taken back, to be handed over once more: to this worker, or to the next if
  /// this one dies first.
  void recall(const state& from, std::vector<state>& out) const {
    if (from.recalls == most_recalls) return;
    for (std::uint8_t slot = 0; slot != slot_count; ++slot) {
      const std::uint8_t id = from.in_slot[slot].task;
      state next = from;
      if (id == 0 || !take_back(next, slot)) continue;
      free_slot(next, slot);
      ++next.recalls;
      next.tasks[id].recalled = true;
      if (next.tasks[id].runs != 0) break_promise(next, breach::taken_back_though_started);
      out.push_back(next);
    }
  }

  /// A terminal cancellation: the task is taken back, or it has started and is asked to stop.
  void cancel(const state& from, std::vector<state>& out) const {
    for (std::uint8_t slot = 0; slot != slot_count; ++slot) {
      const handover& of = from.in_slot[slot];
      if (of.task == 0 || from.tasks[of.task].stop_asked) continue;
      state next = from;
      if (take_back(next, slot)) {
        free_slot(next, slot);
        end(next, of.task);
        if (next.tasks[of.task].runs != 0) break_promise(next, breach::taken_back_though_started);
      } else {
        next.tasks[of.task].stop_asked = true;
        next.stops[slot] = stop_name(of);
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

  /// As the engine: a reply counts for the hand-over that is in its slot; anything else is a violation of the protocol.
  void take_reply(state& in, reply what) const {
    ++in.received;
    const handover of = in.in_slot[what.slot];
    if (of.task == 0 || name(of) != what.name) {
      break_promise(in, breach::reply_of_no_task);
      return;
    }
    free_slot(in, what.slot);
    end(in, of.task);
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
      const std::uint8_t id = dead.in_slot[slot].task;
      if (id == 0) continue;
      const state::task& task = dead.tasks[id];
      if (take_back(dead, slot)) {
        if (task.runs != 0) break_promise(dead, breach::counts_as_waiting_though_started);
      } else {
        if (task.runs == 0) break_promise(dead, breach::counts_as_started_though_not);
        if (task.published) break_promise(dead, breach::reply_lost);
        end(dead, id);  // worker_lost
      }
      free_slot(dead, slot);
    }
    if (dead.worker == worker_count) return;
    ++dead.worker;
    dead.words = {};
    dead.stops = {};
    dead.ring = {};
    dead.reply_end = dead.received = dead.last_number = 0;
    for (state::task& each : dead.tasks) each.recalled = false;
    dead.alive = true;
  }

  // ---- The worker.

  bool claim(state& in, const handover& what) const {
    word& of = in.words[what.slot];
    const bool queued = of == word{word_name(what), word_queued};
    if (flaw_ == flaw::started_after_run) return queued;  // looks, and does not write
    if (flaw_ != flaw::claim_without_compare && !queued) return false;
    of = {word_name(what), word_started};
    return true;
  }

  void publish(state& in) const {
    ++in.reply_end;
    in.tasks[in.doing.task].published = true;
  }

  void send(state& in) const {
    in.replies.push(in.ring[in.sent % ring_size]);
    ++in.sent;
    if (flaw_ == flaw::end_after_send) in.reply_end = in.sent;
  }

  void work(const state& from, std::vector<state>& out) const {
    state next = from;
    const handover& doing = from.doing;
    state::task& task = next.tasks[doing.task];
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
        if (claim(next, doing)) {
          next.where = at::running;
          if (++task.runs > 1) break_promise(next, breach::runs_twice);
          if (task.taken_back) break_promise(next, breach::runs_though_taken_back);
          if (number_of(next, doing.task) != doing.number) break_promise(next, breach::runs_with_stale_frame);
        } else {
          next.doing = {};
          next.where = at::reading;
        }
        break;
      case at::running:
        if (from.stops[doing.slot] == stop_name(doing) && !task.saw_stop) {
          state stopped = from;
          stopped.tasks[doing.task].saw_stop = true;
          if (!task.stop_asked) break_promise(stopped, breach::stopped_by_mistake);
          out.push_back(stopped);
        }
        next.where = at::replying;
        break;
      case at::replying:
        if (from.written - from.sent == ring_size) {  // no room: what is there is sent first
          send(next);
          break;
        }
        if (flaw_ == flaw::started_after_run) next.words[doing.slot] = {word_name(doing), word_started};
        if (flaw_ == flaw::end_before_bytes) publish(next);
        else next.ring[next.written % ring_size] = {name(doing), doing.slot};
        next.where = at::publishing;
        break;
      case at::publishing:
        if (flaw_ == flaw::end_before_bytes) next.ring[next.written % ring_size] = {name(doing), doing.slot};
        else if (flaw_ != flaw::end_after_send) publish(next);
        else task.published = true;
        ++next.written;
        next.doing = {};
        next.where = at::reading;
        break;
    }
    out.push_back(next);
  }

  flaw flaw_;
};

}  // namespace shmpool::model
