// Hands segments to workers: turns a task's arrays and the memory for its results into references in frames, answers
// workers that ask for more memory, takes in the segments that they return, and tells them which were freed.
//
// Thread safety: none; the engine's lock guards it. The store has its own lock.
#pragma once

#include "pool/freed_segments.hpp"
#include "pool/reply_check.hpp"
#include "pool/task_entry.hpp"
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

  /// The references for a task's frame: its arrays, and segments that it is leased in advance, of the `sizes` that the
  /// last run of its function used for results. Throws std::bad_alloc.
  std::vector<wire::segment_ref> pack(worker_channel& to, task_entry& task, std::span<const std::size_t> sizes);

  /// Answers `need` with memory, with more of it than one segment where small ones are at hand, or with the reason for
  /// a refusal. `of`: the task that asks; null: the initializer.
  void answer_need(worker_channel& to, task_entry* task, const wire::frame& in);
  /// Answers `open` with the segment's descriptor, or with the reason for a refusal. Returns null, or why the worker
  /// may not ask for the segment.
  const char* answer_open(worker_channel& to, task_entry* task, const wire::frame& in);

  /// Records the worker's account of its memory in a frame. Returns null, or why the account makes no sense.
  const char* take_account(worker_channel& from, task_entry* task, const wire::frame& in);
  /// Takes in the result segments of the frame that take_account() got last. Returns null, or why they make no sense.
  /// If this process cannot map one of them, `to` gets an error and no attachments. `used`: bytes of the leased
  /// segments in the result. Throws std::bad_alloc.
  const char* take_result(const wire::frame& in, detail::outcome& to, std::vector<std::size_t>& used);
  /// The worker has dropped kept segments.
  static void take_released(worker_channel& from, const wire::frame& in);

  /// The segments that were freed; tell_freed() tells a worker to unmap those that it knows.
  std::vector<std::uint64_t> take_freed() { return freed_->take(); }
  static void tell_freed(worker_channel& to, std::span<const std::uint64_t> segments);

 private:
  /// The reference to one segment; introduces the segment to the worker if a name is not enough.
  wire::segment_ref reference(worker_channel& to, const shm_handle& handle, std::uint64_t offset, std::uint64_t length,
                              detail::access mode);
  void lease_more(worker_channel& to, std::vector<shm_handle>& leases, std::size_t bytes, std::size_t count,
                  std::vector<wire::segment_ref>& refs);
  /// Collects the worker's holdings of the segments that the frame names, in holdings_ and sources_.
  void collect_holdings(const worker_channel& from, const task_entry* task, const wire::frame& in);

  std::shared_ptr<shm::store> store_;
  std::shared_ptr<freed_segments> freed_;
  // For the frame that is being read; members so that their memory is reused.
  holdings holdings_;
  struct source {
    const shm_handle* handle;
    bool leased;
  };
  std::vector<source> sources_;
  std::vector<const holding*> found_;
};

}  // namespace shmpool::pool
