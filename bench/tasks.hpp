// The tasks that cost nothing but the trip: an empty one, and one that sends bytes back.
#pragma once

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace bench {

using bytes = std::vector<std::byte>;

inline void nothing() {
}

inline bytes echo(std::span<const std::byte> what) {
  return {what.begin(), what.end()};
}

/// Any pool can be asked for it: submit_to(pool, token). Or it is run where one is: run().
struct empty_task {
  using result = char;
  template <class Pool, class Token>
  auto submit_to(Pool& pool, Token&& token) const {
    return pool.submit(nothing, std::forward<Token>(token));
  }
  static result run() {
    nothing();
    return 1;
  }
  static bool right(result ran = 1) { return ran == 1; }
};

/// The same for so many bytes, there and back. The task must live until it is completed.
struct echo_task {
  using result = bytes;
  explicit echo_task(std::size_t size) : sent(size) {
    for (std::size_t i = 0; i < size; ++i) sent[i] = static_cast<std::byte>(i % 251);
  }
  template <class Pool, class Token>
  auto submit_to(Pool& pool, Token&& token) const {
    return pool.submit(echo, sent, std::forward<Token>(token));
  }
  result run() const { return echo(sent); }
  bool right(const bytes& received) const {
    return received.size() == sent.size() && received.front() == sent.front() && received.back() == sent.back();
  }
  bytes sent;
};

}  // namespace bench
