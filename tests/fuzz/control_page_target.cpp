// What the parent reads when a worker is dead: its last words, which are what the socket holds and then what the ring
// holds up to the published end, if that makes sense; and its slots, of which each counts as started, as taken back or
// as neither, and none can change what the parent knows by itself.
#include "fuzz/control_page_input.hpp"
#include "wire/control_page.hpp"
#include "worker/link.hpp"

#include <sys/socket.h>

#include <vector>

namespace shmpool::fuzz {

namespace {

/// The ring's part of the last words, as docs/control-page.md has it.
std::vector<std::byte> expected_from_ring(const wire::control_page& page, std::uint64_t received, std::uint64_t end) {
  std::vector<std::byte> result;
  if (end <= received || end - received > wire::reply_ring_bytes) return result;
  for (std::uint64_t at = received; at != end; ++at) result.push_back(page.reply_ring[at % wire::reply_ring_bytes]);
  return result;
}

void check_last_words(worker::link& dead, const control_page_input& left) {
  dead.received = left.received;
  dead.control.page().reply_end.store(left.reply_end);
  left.fill_ring(dead.control.page());
  const ssize_t sent =
      ::send(dead.worker_end.get(), left.socket.data(), left.socket.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  promise(sent == static_cast<ssize_t>(left.socket.size()), "the socket does not take what the input has for it");
  dead.worker_end.reset();

  dead.collect_last_words();
  std::vector<std::byte> expected(left.socket.begin(), left.socket.end());
  const auto from_ring =
      expected_from_ring(dead.control.page(), std::uint64_t{left.received} + expected.size(), left.reply_end);
  expected.insert(expected.end(), from_ring.begin(), from_ring.end());
  promise(dead.received == left.received + expected.size(), "the bytes of a dead worker were not counted right");
  promise(dead.reader.pending() == expected.size(), "the last words of a worker are not as long as they should be");

  // Frames encode to what they came from, so that the words themselves can be compared.
  std::vector<std::byte> said;
  wire::frame next;
  while (dead.reader.next(next) == wire::frame_reader::status::frame) {
    std::vector<wire::segment_ref> segments;
    for (std::size_t i = 0; i != next.segment_count(); ++i) segments.push_back(next.segment(i));
    wire::append_frame(said, next.header, segments, next.body);
  }
  promise(said.size() <= expected.size() && std::equal(said.begin(), said.end(), expected.begin()),
          "a worker's last words are not what it said");
}

void check_slots(worker::link& dead, const control_page_input& left) {
  std::vector<std::uint64_t> tasks;
  for (std::uint64_t task = 1000; const auto slot = dead.take_slot(task); task += 3) {
    promise(*slot == tasks.size(), "slots are not given out in order");
    tasks.push_back(task);
  }
  promise(tasks.size() == wire::slot_count, "there are fewer slots than there should be");
  for (std::uint16_t i = 0; i != wire::slot_count; ++i) {
    const std::uint64_t written = left.word(i, tasks[i]);
    dead.slot(i).word.store(written);
    const bool taken = wire::take_back(dead.slot(i), tasks[i]);
    promise(taken == (written == wire::slot_word(tasks[i], wire::slot_state::queued)),
            "a task was taken back that was not waiting, or was not although it was");
    promise(!wire::claim(dead.slot(i), tasks[i], 1), "a task can be claimed that the parent has decided about");
    promise(dead.task_in(i) == tasks[i], "what a worker wrote has changed what the parent knows");
  }
  for (std::uint16_t i = 0; i != wire::slot_count; ++i) dead.free_slot(i);
  promise(!dead.has_tasks(), "slots were lost");
  promise(dead.task_in(wire::slot_count) == 0 && dead.task_in(0xffff) == 0,
          "there is a task in a slot that does not exist");
}

}  // namespace

void control_page(input from) {
  const control_page_input left(from);
  worker::link dead(1);
  check_slots(dead, left);
  check_last_words(dead, left);
}

}  // namespace shmpool::fuzz
