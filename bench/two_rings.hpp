// The least that many messages to another process cost: two rings in shared memory, for one writer and one reader each,
// both of which poll.
#pragma once

#include "child_process.hpp"

#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>
#include <optional>
#include <span>
#include <system_error>
#include <vector>

namespace bench {

/// A ring of messages of one size, in memory that two processes share. One writes, the other reads.
///
/// Thread safety: one thread writes, one reads.
class message_ring {
 public:
  /// Bytes of all messages: as many as fit may be under way. More would not fit into a CPU's cache.
  static constexpr std::size_t capacity = 256 * 1024;
  /// So many bytes are published at once, and freed at once, as long as there are more.
  static constexpr std::size_t at_once = 4096;

  explicit message_ring(std::size_t size)
      : size_(size), slots_(capacity / size), batch_(std::max<std::size_t>(1, at_once / size)) {
    void* const memory = ::mmap(nullptr, bytes(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
    shared_ = ::new (memory) header;
  }
  message_ring(const message_ring&) = delete;
  message_ring& operator=(const message_ring&) = delete;
  ~message_ring() { ::munmap(shared_, bytes()); }

  /// Copies a message in, which the reader sees after publish() at the latest; false if the ring is full.
  bool write(std::span<const std::byte> message) {
    if (written_ - freed_ == slots_) {
      publish();
      freed_ = shared_->read.load(std::memory_order_acquire);
      if (written_ - freed_ == slots_) return false;
    }
    std::memcpy(slot(next_write_), message.data(), size_);
    next_write_ = following(next_write_);
    if (++written_ - published_ == batch_) publish();
    return true;
  }
  void publish() {
    if (published_ == written_) return;
    published_ = written_;
    shared_->written.store(written_, std::memory_order_release);
  }

  /// Copies a message out; false if there is none.
  bool read(std::span<std::byte> into) {
    if (read_ == there_) {
      there_ = shared_->written.load(std::memory_order_acquire);
      if (read_ == there_) return false;
    }
    std::memcpy(into.data(), slot(next_read_), size_);
    next_read_ = following(next_read_);
    if (++read_ == there_ || read_ % batch_ == 0) shared_->read.store(read_, std::memory_order_release);
    return true;
  }

 private:
  // Each on a cache line of its own: the other side writes one of them.
  struct header {
    alignas(64) std::atomic<std::uint64_t> written = 0;
    alignas(64) std::atomic<std::uint64_t> read = 0;
  };

  std::size_t bytes() const { return sizeof(header) + slots_ * size_; }
  std::byte* slot(std::size_t n) const { return reinterpret_cast<std::byte*>(shared_ + 1) + n * size_; }
  std::size_t following(std::size_t n) const { return n + 1 == slots_ ? 0 : n + 1; }

  const std::size_t size_, slots_, batch_;
  header* shared_ = nullptr;
  // The writer's: how many it wrote and published, and of how many it knows that they were read. The reader's likewise.
  // Each process has its own copy of this object and uses one half of it.
  std::uint64_t written_ = 0, published_ = 0, freed_ = 0;
  std::size_t next_write_ = 0;
  alignas(64) std::uint64_t read_ = 0;
  std::uint64_t there_ = 0;
  std::size_t next_read_ = 0;
};

/// A ring to a process that copies each message out and into the ring back. Each process has a CPU of its own. What is
/// written is published when there is nothing to read, at the latest.
///
/// Thread safety: none.
class two_rings {
 public:
  static constexpr std::size_t most_outstanding = std::numeric_limits<std::size_t>::max();

  two_rings(bool, std::size_t size) : size_(size), there_(size), back_(size) {
    child_.emplace([&] {
      pinned_.to(1);
      std::vector<std::byte> message(size_);
      for (;;) {
        if (!there_.read(message)) {
          back_.publish();
          wait_until([&] { return there_.read(message); });
        }
        wait_until([&] { return back_.write(message); });
      }
    });
  }

  bool send(std::span<const std::byte> message) { return there_.write(message); }
  std::size_t receive(std::span<std::byte> into, bool wait) {
    there_.publish();
    if (wait) wait_until([&] { return back_.read(into); });
    return wait || back_.read(into) ? size_ : 0;
  }

 private:
  // Gives the CPU away now and then, for the case that something else wants it.
  template <class Condition>
  static void wait_until(Condition condition) {
    for (unsigned n = 1; !condition(); ++n) {
      if (n % 1024 == 0) ::sched_yield();
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
  }

  const std::size_t size_;
  pinned pinned_;
  message_ring there_, back_;
  std::optional<child_process> child_;
};

}  // namespace bench
