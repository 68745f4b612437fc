// Hands segments to workers: turns what a task is lent, and memory for its results, into references in frames, answers
// workers that ask for more, takes in what they return, and tells them what is gone.
//
// Thread safety: none; the engine's lock guards it. The store has its own.
#pragma once

#include "pool/freed_segments.hpp"
#include "pool/reply_check.hpp"
#include "pool/task.hpp"
#include "pool/worker_channel.hpp"
#include "shm/store.hpp"
#include "wire/frame.hpp"

#include <shmpool/detail/engine.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace shmpool::pool {

class segment_courier {
 public:
  /// Opens the pool's store. Throws std::system_error.
  explicit segment_courier(const shm::store_options& options);

  shm::store& store() const noexcept { return *store_; }

  /// The references of a task's frame: what it is lent, and memory that it is leased in advance, as the last run of its
  /// function has used results of these `sizes`. Throws std::bad_alloc.
  std::vector<wire::segment_ref> pack(worker_channel& to, task& which, std::span<const std::size_t> sizes);

  /// Answers `need` with memory, or with why there is none. `of`: the task that asks; null: the initializer.
  void answer_need(worker_channel& to, task* of, const wire::frame& in);
  /// Answers `open` with the segment's descriptor, or with why there is none: null, or why the worker may not ask for
  /// it.
  const char* answer_open(worker_channel& to, task* of, const wire::frame& in);

  /// Takes note of the worker's account of its memory in a frame: null, or why it makes no sense.
  const char* take_account(worker_channel& from, task* of, const wire::frame& in);
  /// Takes in the segments of the result in the frame of which take_account() was called last: null, or why they make
  /// no sense. Where this process cannot have one of them, `to` gets an error and no attachments. `used`: bytes of the
  /// leases in it. Throws std::bad_alloc.
  const char* take_result(const wire::frame& in, detail::outcome& to, std::vector<std::size_t>& used);
  /// The worker has dropped segments that it had kept.
  static void take_released(worker_channel& from, const wire::frame& in);

  /// Tells a worker to unmap what was freed, as far as it has it.
  std::vector<std::uint64_t> take_freed() { return freed_->take(); }
  static void tell_freed(worker_channel& to, std::span<const std::uint64_t> segments);

 private:
  /// One segment in a frame; introduces it to the worker where a name is not enough.
  wire::segment_ref reference(worker_channel& to, const shm_handle& handle, std::uint64_t offset, std::uint64_t length,
                              detail::access mode);
  /// What the worker has, as far as the frame speaks of it, in holdings_ and sources_.
  void collect_holdings(const worker_channel& from, const task* of, const wire::frame& in);

  std::shared_ptr<shm::store> store_;
  std::shared_ptr<freed_segments> freed_;
  // Of the frame that is read; kept for their memory.
  holdings holdings_;
  struct source {
    const shm_handle* handle;
    bool leased;
  };
  std::vector<source> sources_;
  std::vector<const holding*> found_;
};

}  // namespace shmpool::pool
