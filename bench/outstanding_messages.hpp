// Many messages at once through a channel to somebody who sends each of them back: ZeroMQ, iceoryx, a message queue,
// two rings.
#pragma once

#include "completions.hpp"
#include "tasks.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>

namespace bench {

/// A contestant. A Channel has send(), which returns false if there is no room now, and receive(), which returns the
/// size of the next message, 0 if there is none. Each message begins with its number, so it has 8 bytes at least. As
/// many are outstanding as asked for, or as the channel holds.
template <class Channel>
class outstanding_messages {
 public:
  outstanding_messages(std::size_t outstanding, std::size_t size, bool poll)
      : message_(std::max(size, sizeof(std::uint64_t))),
        in_(message_.sent.size()),
        outstanding_(std::min(outstanding, Channel::most_outstanding)),
        batch_(std::max<std::uint64_t>(1, outstanding_ / 4)),
        channel_(poll, in_.size()) {}

  void measure(benchmark::State& state) {
    completions done(state, total_);
    for (bool more = true; more || received_ != sent_;) {
      while (more && sent_ - received_ < outstanding_ && send()) ++sent_;
      // What is there, but not so much that few are outstanding.
      for (std::uint64_t n = 0; n != batch_ && received_ != sent_; ++n) {
        const std::size_t size = channel_.receive(in_, n == 0);
        if (size == 0 && n != 0) break;
        more = done.count(size == in_.size() && right()) && more;
      }
    }
    state.counters["tasks"] = static_cast<double>(total_);
  }

 private:
  bool send() {
    std::memcpy(message_.sent.data(), &sent_, sizeof sent_);
    return channel_.send(message_.sent);
  }
  bool right() {
    std::uint64_t number = 0;
    std::memcpy(&number, in_.data(), sizeof number);
    return number == received_++ && (in_.size() == sizeof number || in_.back() == message_.sent.back());
  }

  echo_task message_;
  bytes in_;
  const std::uint64_t outstanding_, batch_;
  Channel channel_;
  std::uint64_t sent_ = 0, received_ = 0, total_ = 0;
};

}  // namespace bench
