// A message through boost::interprocess::message_queue, the shared-memory queue that C++ programs find first.
#pragma once

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
  explicit message_queues(std::size_t most) : there_("there", most), back_("back", most) {
    child_.emplace([&] {
      std::vector<std::byte> message(most);
      for (;;) back_.send(std::span(message).first(there_.receive(message)));
    });
  }

  bool round_trip(std::span<const std::byte> message, std::span<std::byte> received) {
    there_.send(message);
    return back_.receive(received) == received.size();
  }

 private:
  class queue {
   public:
    // The name is removed at once: the other process inherits the mapping, and nothing is left behind.
    queue(const char* direction, std::size_t most)
        : name_("shmpool_bench." + std::to_string(::getpid()) + "." + direction),
          queue_(boost::interprocess::create_only, name_.c_str(), 4, most) {
      boost::interprocess::message_queue::remove(name_.c_str());
    }
    void send(std::span<const std::byte> message) { queue_.send(message.data(), message.size(), 0); }
    std::size_t receive(std::span<std::byte> into) {
      boost::interprocess::message_queue::size_type size = 0;
      unsigned priority = 0;
      queue_.receive(into.data(), into.size(), size, priority);
      return size;
    }

   private:
    std::string name_;
    boost::interprocess::message_queue queue_;
  };

  queue there_, back_;
  std::optional<child_process> child_;
};

}  // namespace bench
