// What the parent reads of a worker: its replies, from the socket and from the ring as far as what is published there
// makes sense, in any order while it lives, its last words when it is dead; and its slots, of which each counts as
// started, as taken back or as neither, and none can change what the parent knows by itself.
#include "fuzz/control_page_input.hpp"
#include "pool/reply_reader.hpp"
#include "pool/task_entry.hpp"
#include "pool/worker_channel.hpp"
#include "wire/control_page.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

namespace shmpool::fuzz {

namespace {

using status = pool::reply_reader::status;

std::vector<std::byte> bytes_of(const wire::frame& from) {
  std::vector<wire::segment_ref> segments;
  for (std::size_t i = 0; i != from.segment_count(); ++i) segments.push_back(from.segment(i));
  std::vector<std::byte> result;
  wire::append_frame(result, from.header, segments, from.body);
  return result;
}

/// The stream as the parent gets hold of it. Every frame must be, byte for byte, what the worker has said at this
/// position, on its socket or in its ring.
class listener {
 public:
  listener(wire::control_page& page, const control_page_input& said)
      : page_(page), said_(said), reader_(page, said.received), read_(said.received) {}

  void receive(std::size_t bytes) {
    for (input next = said_.socket.subspan(taken_).first(std::min(bytes, said_.socket.size() - taken_));
         !next.empty();) {
      const auto room = reader_.prepare();
      const std::size_t size = std::min(room.size(), next.size());
      std::memcpy(room.data(), next.data(), size);
      reader_.commit(size);
      next = next.subspan(size);
      taken_ += size;
      read();
    }
  }

  void poll() {
    const std::uint64_t begin = page_.reply_begin, end = page_.reply_end;
    const bool sense = end > read_ && end - read_ <= wire::reply_ring_bytes && begin <= read_;
    const std::uint64_t told = page_.reply_taken;
    promise(reader_.take_from_ring() == sense, "what the ring offered was not taken, or was although it made no sense");
    promise(page_.reply_taken == (sense ? end : told), "the worker was not told what was taken");
    in_ring_ = sense;
    read();
    promise(!sense || bad_ || read_ == end, "what was taken from the ring was not read to its end");
  }

  /// It is of no use any more.
  bool bad() const noexcept { return bad_; }

 private:
  void read() {
    wire::frame next;
    status found;
    while ((found = reader_.next(next)) == status::frame) check(next);
    bad_ = found == status::malformed;
    promise(!bad_ || reader_.why()[0] != '\0', "a stream was given up without a reason");
    in_ring_ = false;
  }

  void check(const wire::frame& next) {
    const std::vector<std::byte> bytes = bytes_of(next);
    promise(bytes.size() == next.size(), "a frame is not as long as it says");
    if (in_ring_) {
      for (std::size_t i = 0; i != bytes.size(); ++i) {
        promise(bytes[i] == page_.reply_ring[(read_ + i) % wire::reply_ring_bytes],
                "a frame is not what the ring held");
      }
    } else {
      const auto arrived = said_.socket.first(taken_);
      promise(std::search(arrived.begin(), arrived.end(), bytes.begin(), bytes.end()) != arrived.end(),
              "a frame is not what the socket brought");
      promise(next.header.type != wire::frame_type::skipped, "what is no reply was taken for one");
    }
    read_ += bytes.size();
  }

  wire::control_page& page_;
  const control_page_input& said_;
  pool::reply_reader reader_;
  std::uint64_t read_;
  std::size_t taken_ = 0;
  bool in_ring_ = false, bad_ = false;
};

/// What the socket holds and then what the ring holds, up to the published end: all of it, and in this order.
void check_last_words(wire::control_page& page, const control_page_input& left) {
  listener parent(page, left);
  parent.receive(left.socket.size());
  if (!parent.bad()) parent.poll();
}

/// A living worker's stream, seen in any order.
void check_polling(wire::control_page& page, const control_page_input& left) {
  using kind = control_page_input::step;
  listener parent(page, left);
  for (const auto& [what, number] : left.steps) {
    if (parent.bad()) return;
    switch (what) {
      case kind::receive: parent.receive(number); break;
      case kind::poll: parent.poll(); break;
      case kind::publish:
        page.reply_end += number < 128 ? std::uint64_t{number} : (std::uint64_t{number} - 127) * 509;
        break;
      case kind::reuse: page.reply_begin += (std::uint64_t{number} - 127) * 257; break;
    }
  }
}

void check_slots(pool::worker_channel& dead, const control_page_input& left) {
  std::array<pool::task_entry, wire::slot_count> tasks;
  for (std::size_t i = 0; i != tasks.size(); ++i) {
    promise(dead.take_slot(tasks[i]) == i, "slots are not given out in order, or are fewer than there should be");
  }
  pool::task_entry one_more;
  promise(!dead.take_slot(one_more), "there are more slots than there should be");
  for (std::uint16_t i = 0; i != wire::slot_count; ++i) {
    const std::uint64_t handover = dead.handover_in(i);
    const std::uint64_t written = left.word(i, handover);
    dead.slot(i).word.store(written);
    const bool taken = wire::take_back(dead.slot(i), handover);
    promise(taken == (written == wire::slot_word(handover, wire::slot_state::queued)),
            "a task was taken back that was not waiting, or was not although it was");
    promise(!wire::claim(dead.slot(i), handover, 1), "a task can be claimed that the parent has decided about");
    promise(dead.task_in(i) == &tasks[i], "what a worker wrote has changed what the parent knows");
  }
  for (std::uint16_t i = 0; i != wire::slot_count; ++i) dead.free_slot(i);
  promise(!dead.has_tasks(), "slots were lost");
  promise(!dead.task_in(wire::slot_count) && !dead.task_in(0xffff), "there is a task in a slot that does not exist");
}

}  // namespace

void control_page(input from) {
  const control_page_input left(from);
  pool::worker_channel of(1);
  check_slots(of, left);
  wire::control_page& page = of.control.page();
  page.reply_end = left.reply_end;
  page.reply_begin = left.reply_begin;
  left.fill_ring(page);
  if (left.lives) check_polling(page, left);
  else check_last_words(page, left);
}

}  // namespace shmpool::fuzz
