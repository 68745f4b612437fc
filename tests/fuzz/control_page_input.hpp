// How an input of the target `control_page` is made up: what the worker had sent, what it had published, and what it
// had left in its slots and its ring; and, if it lives, in which order the parent gets to see that. record_corpus.cpp
// writes such inputs from what a worker's reply stream leaves.
//
// Layout, little endian: u32 bytes that were sent and taken in before, u64 reply_end; 64 bytes, one per slot, which say
// what the word is to be, or, if the highest bit is set, that eight bytes of the rest are; u16 length of what is in the
// socket, its highest bit set if the worker lives; that; if the worker lives, u64 reply_begin, one byte with the number
// of steps, two bytes for each: what it is, and its number. The rest is the ring, from its start, repeated as often as
// it fits.
#pragma once

#include "fuzz/targets.hpp"
#include "wire/control_page.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace shmpool::fuzz {

struct control_page_input {
  /// What happens next while the worker lives.
  struct step {
    enum kind : unsigned { receive, poll, publish, reuse } what;
    unsigned number;
  };

  std::uint32_t received = 0;
  std::uint64_t reply_end = 0, reply_begin = 0;
  unsigned slots[wire::slot_count] = {};
  input socket;
  bool lives = false;
  std::vector<step> steps;
  input ring;

  explicit control_page_input(input from) {
    input_reader reader(from);
    // What was taken in earlier is a matter of counting only, so it may be as much as a worker ever sends.
    received = static_cast<std::uint32_t>(number(reader, 4));
    reply_end = number(reader, 8);
    for (unsigned& each : slots) each = reader.byte();
    const auto size = static_cast<std::size_t>(number(reader, 2));
    socket = reader.take(size & 0x7fffU);  // less than a socket takes at once
    lives = (size & 0x8000U) != 0;
    if (lives) {
      reply_begin = number(reader, 8);
      for (unsigned left = reader.byte(); left != 0; --left) {
        const auto what = static_cast<step::kind>(reader.byte() % 4);
        steps.push_back({what, reader.byte()});
      }
    }
    ring = reader.rest();
  }

  static std::uint64_t number(input_reader& from, unsigned size) {
    std::uint64_t result = 0;
    for (unsigned i = 0; i != size; ++i) result |= std::uint64_t{from.byte()} << (8 * i);
    return result;
  }

  void fill_ring(wire::control_page& page) const {
    if (ring.empty()) return;
    for (std::size_t at = 0; at < wire::reply_ring_bytes; at += ring.size()) {
      std::memcpy(page.reply_ring + at, ring.data(), std::min(ring.size(), wire::reply_ring_bytes - at));
    }
  }

  /// The word that the worker has left in a slot in which the parent has put `task`.
  std::uint64_t word(unsigned slot, std::uint64_t task) const noexcept {
    const unsigned code = slots[slot];
    if ((code & 0x80) != 0 && !ring.empty()) {
      std::uint64_t word = 0;
      const std::size_t at = (code & 0x7f) * 8 % ring.size();
      std::memcpy(&word, ring.data() + at, std::min<std::size_t>(8, ring.size() - at));
      return word;
    }
    // The state is right or wrong, and the task is this one, the one before or the one behind.
    const std::uint64_t of = (code & 4) == 0 ? task : (code & 8) == 0 ? task - 1 : task + 1;
    return wire::slot_word(of, static_cast<wire::slot_state>(code & 3));
  }
};

}  // namespace shmpool::fuzz
