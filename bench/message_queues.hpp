// Messages through boost::interprocess::message_queue, the shared-memory queue that C++ programs find first.
#pragma once

#include "absent.hpp"

#if !defined(BENCH_HAS_BOOST)
namespace bench {
using message_queues = absent;
}  // namespace bench
#else

#include "child_process.hpp"

#include <boost/interprocess/ipc/message_queue.hpp>

#include <unistd.h>

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace bench {

/// A queue to another process, and one back.
///
/// Thread safety: none.
class message_queues {
 public:
  /// Its memory is taken at once, for so many messages as large as they may be.
  static constexpr std::size_t most_outstanding = 1000;

  /// With `poll` neither side sleeps while it waits, and each has a CPU of its own.
  message_queues(bool poll, std::size_t most, std::size_t count = most_outstanding)
      : poll_(poll), there_("there", most, count), back_("back", most, count) {
    if (poll) pinned_.emplace();
    child_.emplace([&] {
      if (pinned_) pinned_->to(1);
      std::vector<std::byte> message(most);
      for (;;) back_.send(std::span(message).first(there_.receive(message, poll_)));
    });
  }

  bool send(std::span<const std::byte> message) { return there_.try_send(message); }
  std::size_t receive(std::span<std::byte> into, bool wait) {
    return wait ? back_.receive(into, poll_) : back_.try_receive(into);
  }
  bool round_trip(std::span<const std::byte> message, std::span<std::byte> received) {
    return send(message) && receive(received, true) == received.size();
  }

 private:
  class queue {
   public:
    // The name is removed at once: the other process inherits the mapping, and nothing is left behind.
    queue(const char* direction, std::size_t most, std::size_t count)
        : name_("shmpool_bench." + std::to_string(::getpid()) + "." + direction),
          queue_(boost::interprocess::create_only, name_.c_str(), count, most) {
      boost::interprocess::message_queue::remove(name_.c_str());
    }
    void send(std::span<const std::byte> message) { queue_.send(message.data(), message.size(), 0); }
    bool try_send(std::span<const std::byte> message) { return queue_.try_send(message.data(), message.size(), 0); }
    std::size_t receive(std::span<std::byte> into, bool poll) {
      if (poll) {
        for (;;)
          if (const std::size_t size = try_receive(into); size != 0) return size;
      }
      size_type size = 0;
      unsigned priority = 0;
      queue_.receive(into.data(), into.size(), size, priority);
      return size;
    }
    // 0 if there is none.
    std::size_t try_receive(std::span<std::byte> into) {
      size_type size = 0;
      unsigned priority = 0;
      return queue_.try_receive(into.data(), into.size(), size, priority) ? size : 0;
    }

   private:
    using size_type = boost::interprocess::message_queue::size_type;

    std::string name_;
    boost::interprocess::message_queue queue_;
  };

  const bool poll_;
  std::optional<pinned> pinned_;
  queue there_, back_;
  std::optional<child_process> child_;
};

}  // namespace bench
#endif
