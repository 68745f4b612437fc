// What a hostile task does, by a seed: it writes random and nearly right things to its worker's socket and control
// memory, and then dies, sleeps or talks on until it is stopped.
//
// Thread safety: the functions are for the thread that runs the task.
#pragma once

#include "fault/hostile.hpp"

#include <shmpool/detail/codec/exception_codec.hpp>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <random>
#include <stdexcept>
#include <vector>

namespace shmpool::testing::hostile {

class liar {
 public:
  /// `lent`: id of a segment that the task was given, so that some lies are near the truth.
  liar(std::uint64_t seed, std::uint64_t lent)
      : random_(seed),
        lent_(lent),
        socket_(own_socket()),
        page_(*own_control_page()),
        own_(answer(wire::frame_type::value)) {}

  /// Some acts, then an end, from which there is no return. What could be taken for the task's own reply comes last:
  /// the worker may be given another task once it is read, and who is no worker any more must not answer for that one.
  [[noreturn]] void perform() {
    if (!chance(8)) catch_up();
    for (auto acts = random_() % 3; acts != 0; --acts) harmless_alone();
    if (chance(2)) may_be_an_answer();
    end();
  }

 private:
  using bytes = std::vector<std::byte>;

  bool chance(unsigned one_in) { return random_() % one_in == 0; }
  std::uint64_t number() {
    switch (random_() % 6) {
      case 0: return random_() % 16;
      case 1: return std::uint64_t{1} << random_() % 64;
      case 2: return ~(random_() % 4096);
      case 3: return random_() % (1 << 20);
      case 4: return lent_ + random_() % 9 - 4;
      default: return random_();
    }
  }
  bytes noise(std::size_t most) {
    bytes made(random_() % (most + 1));
    for (auto& each : made) each = static_cast<std::byte>(random_());
    return made;
  }

  /// Whole, in pieces, or not to the end.
  void send(const bytes& all) {
    std::size_t left = chance(8) ? all.size() / 2 : all.size();
    for (const std::byte* at = all.data(); left != 0;) {
      const std::size_t piece = chance(4) ? 1 + random_() % left : left;
      const ssize_t sent = ::send(socket_, at, piece, MSG_NOSIGNAL);
      if (sent < 0) return;
      at += sent;
      left -= static_cast<std::size_t>(sent);
    }
  }

  static bytes encoded(const wire::frame_header& header, const std::vector<wire::segment_ref>& segments,
                       const bytes& body) {
    bytes made;
    wire::append_frame(made, header, segments, body);
    return made;
  }

  // ---- Nothing of this can be an answer to a task.

  void harmless_alone() {
    switch (random_() % 11) {
      case 0: return send(noise(5000));
      case 1: return someone_elses_result();
      case 2: return wrong_request();
      case 3: return nonsense_in_the_page();
      case 4: return endless_frame();
      case 5: return flood();
      case 6: return urgent_byte();
      case 7: return descriptors();
      case 8: return lies_about_the_ring();
      case 9: return skip();
      default: ::shutdown(socket_, static_cast<int>(random_() % 3));
    }
  }

  void someone_elses_result() {
    wire::frame_header header = own_;
    if (chance(2)) header.task += 1 + random_() % 8;
    else header.task -= 1 + random_() % 8;
    if (chance(2)) header.slot = static_cast<std::uint16_t>(number());
    if (chance(3)) header.type = wire::frame_type::error;
    send(encoded(header, {}, noise(64)));
  }

  void wrong_request() {
    wire::frame_header header = own_;
    header.type = static_cast<wire::frame_type>(chance(2) ? 35 : random_() % 64);
    if (header.type == wire::frame_type::value || header.type == wire::frame_type::error) return;
    header.value = number();
    header.slot = static_cast<std::uint16_t>(random_() % 2);
    if (chance(3)) header.task = number() | 1;
    send(encoded(header, {}, chance(2) ? bytes{} : noise(40)));
  }

  void nonsense_in_the_page() {
    // Not the word of its own slot, which would be an answer of a kind: it says whether the task has begun.
    for (auto& each : page_.slots) {
      if (&each == &page_.slots[own_.slot] || chance(2)) continue;
      each.word = number();
      each.started_ns = number();
      each.stop = number();
    }
    page_.slots[own_.slot].started_ns = number();
    if (chance(2)) page_.reply_end = chance(2) ? number() : page_.reply_end + random_() % 70'000;
    const bytes filling = noise(4096);
    for (std::size_t at = 0; !filling.empty() && at < wire::reply_ring_bytes; at += filling.size()) {
      std::memcpy(page_.reply_ring + at, filling.data(), std::min(filling.size(), wire::reply_ring_bytes - at));
    }
    if (chance(2)) page_.magic = static_cast<std::uint32_t>(number());
  }

  /// Positions, also those that only the parent writes, near the truth or far from it, while the parent may look.
  void lies_about_the_ring() {
    const auto near = [this](std::uint64_t position) {
      return chance(2) ? number() : position + random_() % 257 - 128;
    };
    for (auto times = 1 + random_() % 200; times != 0; --times) {
      switch (random_() % 10) {
        case 0: page_.reply_end = near(page_.reply_end); break;
        case 1: page_.reply_begin = near(page_.reply_begin); break;
        case 2: page_.reply_taken = near(page_.reply_taken); break;
        case 3: page_.parent_sleeps = random_() % 4; break;
        case 4: page_.frames_end = near(page_.frames_end); break;
        case 5: page_.frames_taken = near(page_.frames_taken); break;
        case 6: page_.sleeps = static_cast<std::uint32_t>(number()); break;
        case 7: page_.sleeps_at_socket = random_() % 2; break;
        case 8: page_.wakes_by_futex = random_() % 2; break;
        default: page_.spin_ns = static_cast<std::uint32_t>(number());
      }
    }
  }

  void skip() {
    wire::frame_header header;
    header.type = wire::frame_type::skipped;
    header.value = chance(2) ? page_.reply_taken.load() : number();
    for (auto times = 1 + random_() % 3; times != 0; --times)
      send(encoded(header, {}, chance(4) ? noise(40) : bytes{}));
  }

  void endless_frame() {
    wire::frame_header header = own_;
    header.task = number();
    header.body = wire::max_body - static_cast<std::uint32_t>(random_() % 4096);
    bytes start(sizeof header);
    std::memcpy(start.data(), &header, sizeof header);
    start.resize(64 * 1024);
    for (int i = 0; i != 64; ++i) send(start);
  }

  /// Frames that are allowed, or nearly, for as long as somebody takes them, or 100 ms.
  void flood() {
    wire::frame_header header = own_;
    header.type = chance(2) ? wire::frame_type::progress : wire::frame_type::released;
    bytes many;
    const bytes one = encoded(header, {}, bytes(header.type == wire::frame_type::progress ? 0 : 64));
    for (int i = 0; i != 500; ++i) many.insert(many.end(), one.begin(), one.end());
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(100);
    while (std::chrono::steady_clock::now() < until) {
      if (::send(socket_, many.data(), many.size(), MSG_NOSIGNAL) < 0) return;
    }
  }

  void urgent_byte() {
    const bytes some = noise(8);
    if (!some.empty()) ::send(socket_, some.data(), some.size(), MSG_OOB | MSG_NOSIGNAL);
  }

  void descriptors() {
    int fds[16];
    std::fill(std::begin(fds), std::end(fds), ::open("/dev/null", O_RDONLY | O_CLOEXEC));
    char byte = 0;
    iovec part{&byte, 1};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof fds)] = {};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof fds);
    std::memcpy(CMSG_DATA(head), fds, sizeof fds);
    ::sendmsg(socket_, &message, MSG_NOSIGNAL);
  }

  // ---- This can.

  void may_be_an_answer() {
    switch (random_() % 3) {
      case 0: return lies_about_segments();
      case 1: return nearly_right();
      default:
        // Its own slot: as if it had not begun, had been taken back, or were another's.
        page_.slots[own_.slot].word = chance(2) ? wire::slot_word(own_.task, wire::slot_state::taken) : number();
    }
  }

  void lies_about_segments() {
    std::vector<wire::segment_ref> refs(1 + random_() % (chance(8) ? 2000 : 2));
    for (auto& each : refs) {
      each.id = chance(2) ? lent_ : number();
      each.pool = number();
      each.offset = chance(2) ? 0 : number();
      each.length = chance(2) ? 4096 : number();
      each.capacity = number();
      each.reserved = number();
      each.access = static_cast<std::uint8_t>(random_());
      each.flags = static_cast<std::uint8_t>(chance(2) ? std::uint64_t{wire::flag_result} : random_());
    }
    send(encoded(own_, refs, array_of_ints()));
  }

  /// A frame as it could be, with some of its bytes changed.
  void nearly_right() {
    wire::frame_header header = own_;
    bytes body = array_of_ints();
    if (chance(3)) {
      header.type = wire::frame_type::error;
      body = detail::encode_exception(std::make_exception_ptr(std::runtime_error("nearly right")));
    }
    bytes frame = encoded(header, {}, body);
    for (auto changes = chance(2) ? 0 : random_() % 8; changes != 0; --changes) {
      std::byte& victim = frame[random_() % frame.size()];
      victim = chance(2) ? victim ^ std::byte{1} << random_() % 8 : static_cast<std::byte>(number());
    }
    // Never another task's: that one would be answered by this.
    std::memcpy(frame.data() + offsetof(wire::frame_header, task), &own_.task, sizeof own_.task);
    send(frame);
  }

  /// The result `array<int>` in the message or in a segment, more or less; see docs/wire-arrays.md.
  bytes array_of_ints() {
    bytes body;
    const auto put = [&body](const auto& value) {
      const auto raw = std::as_bytes(std::span(&value, 1));
      body.insert(body.end(), raw.begin(), raw.end());
    };
    const bool in_segment = chance(2);
    put(static_cast<std::uint8_t>(chance(8) ? random_() : in_segment ? 2U : 1U));
    put(std::uint8_t{1});
    put(std::uint16_t{0});
    put(std::uint32_t{4});
    put(chance(4) ? number() : std::uint64_t{in_segment ? 1024U : 4U});
    if (in_segment) {
      put(static_cast<std::uint32_t>(chance(4) ? number() : 0));
      put(std::uint32_t{0});
      put(chance(4) ? number() : std::uint64_t{0});
    } else {
      for (int i = 0; i != 4; ++i) put(i);
    }
    return body;
  }

  [[noreturn]] void end() {
    switch (random_() % 4) {
      case 0: ::_exit(static_cast<int>(random_() % 256));
      case 1: ::raise(SIGKILL); [[fallthrough]];
      case 2:
        for (;;) ::pause();
      default:
        for (;;) flood();
    }
  }

  std::mt19937_64 random_;
  std::uint64_t lent_;
  int socket_;
  wire::control_page& page_;
  wire::frame_header own_;
};

}  // namespace shmpool::testing::hostile
