// The least that two processes pay for a message through shared memory: bytes, and a word that says whose turn it is.
#pragma once

#include "child_process.hpp"

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <optional>
#include <span>
#include <system_error>
#include <vector>

namespace bench {

/// Two processes that take turns at one message. Both copy it in and out, as anything would that keeps what it
/// received.
///
/// Thread safety: none.
class shared_word {
 public:
  /// With `poll` neither side sleeps while it waits, and each has a CPU of its own; otherwise both sleep in a futex.
  shared_word(bool poll, std::size_t most) : poll_(poll), size_(sizeof(header) + most) {
    if (poll) pinned_.emplace();
    void* memory = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
    shared_ = new (memory) header;
    child_.emplace([&] {
      if (pinned_) pinned_->to(1);
      std::vector<std::byte> message(most);
      for (;;) {
        wait_for(theirs);
        const std::size_t n = shared_->bytes;
        std::memcpy(message.data(), payload(), n);
        std::memcpy(payload(), message.data(), n);
        pass_to(ours);
      }
    });
  }
  shared_word(const shared_word&) = delete;
  shared_word& operator=(const shared_word&) = delete;
  ~shared_word() {
    child_.reset();
    ::munmap(shared_, size_);
  }

  bool round_trip(std::span<const std::byte> message, std::span<std::byte> received) {
    std::memcpy(payload(), message.data(), message.size());
    shared_->bytes = message.size();
    pass_to(theirs);
    wait_for(ours);
    std::memcpy(received.data(), payload(), received.size());
    return shared_->bytes == received.size();
  }

 private:
  static constexpr std::uint32_t ours = 0, theirs = 1;
  struct header {
    alignas(64) std::atomic<std::uint32_t> turn = ours;
    alignas(64) std::size_t bytes = 0;
  };

  std::byte* payload() const { return reinterpret_cast<std::byte*>(shared_ + 1); }

  void wait_for(std::uint32_t turn) const {
    while (shared_->turn.load(std::memory_order_acquire) != turn)
      if (!poll_) ::syscall(SYS_futex, &shared_->turn, FUTEX_WAIT, 1 - turn, nullptr, nullptr, 0);
  }
  void pass_to(std::uint32_t turn) const {
    shared_->turn.store(turn, std::memory_order_release);
    if (!poll_) ::syscall(SYS_futex, &shared_->turn, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
  }

  const bool poll_;
  const std::size_t size_;
  std::optional<pinned> pinned_;
  header* shared_ = nullptr;
  std::optional<child_process> child_;
};

}  // namespace bench
