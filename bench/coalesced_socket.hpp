// The least that many messages to another process cost: frames through a socket, as many in a batch as there are.
#pragma once

#include "completions.hpp"
#include "echo_process.hpp"
#include "tasks.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>

namespace bench {

/// A contestant. Each frame begins with its number, so it has 8 bytes at least. As many are outstanding as asked for,
/// or as the buffers of the socket hold.
class coalesced_socket {
 public:
  coalesced_socket(std::size_t outstanding, std::size_t size)
      : frame_(std::max(size, sizeof(std::uint64_t))),
        outstanding_(outstanding),
        out_(echo_process::most / frame_ * frame_),
        in_(out_.size()) {}

  void measure(benchmark::State& state) {
    completions done(state, total_);
    for (bool more = true; more || received_ != sent_;) {
      if (more && first_ == last_) number_frames();
      if (first_ != last_) first_ += socket_.send_some(std::span(out_).subspan(first_, last_ - first_));
      more = receive(done) && more;
    }
    state.counters["tasks"] = static_cast<double>(total_);
  }

 private:
  // As many as may be outstanding and fit.
  void number_frames() {
    first_ = last_ = 0;
    for (; sent_ - received_ < outstanding_ && last_ + frame_ <= out_.size(); last_ += frame_, ++sent_)
      std::memcpy(out_.data() + last_, &sent_, sizeof sent_);
  }

  // Reads what is there, at least one byte; the beginning of a frame stays until its end arrives.
  bool receive(completions& done) {
    const std::size_t n = socket_.receive(std::span(in_).subspan(held_));
    if (n == 0) throw std::runtime_error("the echo process is gone");
    held_ += n;
    bool more = true;
    std::size_t at = 0;
    for (; held_ - at >= frame_; at += frame_) {
      std::uint64_t number = 0;
      std::memcpy(&number, in_.data() + at, sizeof number);
      more = done.count(number == received_++) && more;
    }
    held_ -= at;
    std::memmove(in_.data(), in_.data() + at, held_);
    return more;
  }

  const std::size_t frame_, outstanding_;
  echo_process socket_{false};
  bytes out_, in_;
  std::size_t first_ = 0, last_ = 0;  // in out_: not sent yet
  std::size_t held_ = 0;              // in in_
  std::uint64_t sent_ = 0, received_ = 0, total_ = 0;
};

}  // namespace bench
