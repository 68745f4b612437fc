// How an input of the target `control_page` is made up: what the worker had sent, what it had published, and what it
// had left in its slots and its ring. record_corpus.cpp writes such inputs from what a worker's reply stream leaves.
//
// Layout, little endian: u32 bytes that were sent and taken in before the worker died, u64 reply_end; 64 bytes, one per
// slot, which say what the word is to be, or, if the highest bit is set, that eight bytes of the rest are; u16 length
// of what is left in the socket; that; the rest is the ring, from its start, repeated as often as it fits.
#pragma once

#include "fuzz/targets.hpp"
#include "wire/control_page.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace shmpool::fuzz {

struct control_page_input {
  std::uint32_t received = 0;
  std::uint64_t reply_end = 0;
  unsigned slots[wire::slot_count] = {};
  input socket;
  input ring;

  explicit control_page_input(input from) {
    input_reader reader(from);
    // What was taken in earlier is a matter of counting only, so it may be as much as a worker ever sends.
    for (unsigned i = 0; i != 4; ++i) received |= reader.byte() << (8 * i);
    for (unsigned i = 0; i != 8; ++i) reply_end |= std::uint64_t{reader.byte()} << (8 * i);
    for (unsigned& each : slots) each = reader.byte();
    const unsigned low = reader.byte();
    socket = reader.take((low | reader.byte() << 8) & 0x7fffU);  // less than a socket takes at once
    ring = reader.rest();
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
