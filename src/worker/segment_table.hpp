// The shared memory of one worker: the segments that it knows and their mappings, those that it may use for results
// (leases), and those that a task has kept. Unused mappings stay, so that a segment which comes again costs nothing.
//
// Thread safety: any thread of the worker may call all members, copy handles and drop them (a task may start threads,
// and leave them running). The count of a segment falls to zero under the table's lock only.
#pragma once

#include "process/fork_mark.hpp"
#include "process/mutex.hpp"
#include "shm/call_error.hpp"
#include "shm/mapping.hpp"
#include "wire/frame.hpp"

#include <shmpool/detail/attachment.hpp>
#include <shmpool/detail/segment_source.hpp>
#include <shmpool/shm_handle.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace shmpool::worker {

class segment_table;

/// A mapped segment in a worker; there may be one for reading and one for writing.
class worker_segment final : public detail::segment {
 public:
  worker_segment(segment_table& table, const wire::segment_ref& ref) noexcept;
  /// For shm_handle::name().
  std::string name() const override;

 private:
  friend class segment_table;
  void last_release() noexcept override;
  void use(shm::mapping memory) noexcept;

  segment_table& table_;
  std::uint64_t pool_;
  bool memfd_;
  shm::mapping memory_;
};

/// Asks the parent for memory, and returns its answer, with a descriptor if the segment is a memfd that is new here.
/// Throws std::system_error(errc::shm_exhausted) if the parent refuses.
class lease_source {
 public:
  virtual std::pair<wire::segment_ref, unique_fd> need(std::size_t bytes, bool posix_full) = 0;
  /// Asks the parent for the descriptor of a segment that the worker cannot open. Throws the same if it refuses.
  virtual unique_fd open(std::uint64_t segment) = 0;

 protected:
  ~lease_source() = default;
};

class segment_table final : public detail::segment_source {
 public:
  explicit segment_table(lease_source& parent) noexcept : parent_(parent) {}

  /// Whether core files of this worker contain the segments that are mapped from now on.
  void set_dumped(bool dumped) noexcept { dumped_ = dumped; }

  /// Adds a memfd segment that the parent introduces, and keeps its descriptor.
  void introduce(const wire::segment_ref& ref, unique_fd descriptor);
  /// The range as an attachment, mapped as its access says. Throws std::system_error(errc::shm_exhausted) if mapping
  /// fails. May ask the parent, which overwrites the receive buffer: `ref` must not depend on that buffer.
  detail::attachment resolve(const wire::segment_ref& ref);
  /// Adds memory that the running task may use.
  void add_lease(const wire::segment_ref& ref);
  /// The parent has freed a segment.
  void forget(std::uint64_t id);

  /// From here to close_task() any thread may ask the parent for memory. The answer comes in the request stream, so the
  /// caller must have copied the task's frame out of it.
  void begin_task() noexcept;
  /// A lease that fits, or memory that the parent grants. Outside a task (in a thread that a task left behind), and in
  /// a copy of the worker that a task has forked: private memory, since the parent cannot be asked.
  shm_handle allocate(std::size_t bytes, std::size_t alignment) override;
  bool can_lend(const shm_handle& handle) const noexcept override;

  /// The task is over: no thread gets memory of it any more, so none can reuse its result once the handles are gone.
  void close_task() noexcept;
  /// The task's values are destroyed: leases lapse. Appends a reference for each segment that the worker created or
  /// still holds. Returns the kept segments that were released since the last call; the next call returns those that a
  /// thread drops from now on.
  std::vector<std::uint64_t> end_task(std::vector<wire::segment_ref>& report);

 private:
  friend class worker_segment;

  struct entry {
    wire::segment_ref ref;
    unique_fd memfd;
    std::unique_ptr<worker_segment> readable, writable;
    bool leased = false;   // may be used for results of the running task
    bool created = false;  // the worker has created the file, and the parent does not know yet
    bool fresh = false;    // leased, but the file does not exist yet
    bool kept = false;     // the parent was told that a handle outlives its task
    bool touched = false;  // in touched_

    bool in_use() const noexcept {
      return (readable && readable->use_count() != 0) || (writable && writable->use_count() != 0);
    }
  };

  void give_up(worker_segment& which) noexcept;
  entry& note(const wire::segment_ref& ref) SHMPOOL_REQUIRES(mutex_);
  void touch(entry& which) SHMPOOL_REQUIRES(mutex_);
  worker_segment& map(entry& which, bool writable) SHMPOOL_REQUIRES(mutex_);
  /// The segment's file: the known descriptor, or a new one, which `opened` owns.
  int file_of(entry& which, bool writable, unique_fd& opened) SHMPOOL_REQUIRES(mutex_);
  /// A new mapping; if there are too many, drops unused mappings and tries once more.
  shm::mapping map_file(int fd, std::size_t size, bool writable, std::error_code& error) SHMPOOL_REQUIRES(mutex_);
  bool drop_idle_mappings() SHMPOOL_REQUIRES(mutex_);
  /// Creates the file of a fresh lease. Returns the call that failed, if any.
  shm::call_error create(entry& which) SHMPOOL_REQUIRES(mutex_);
  shm_handle take_lease(std::size_t bytes) SHMPOOL_REQUIRES(mutex_);

  lease_source& parent_;
  fork_mark original_;
  bool in_task_ SHMPOOL_GUARDED_BY(mutex_) = false;
  bool dumped_ = false;
  mutable mutex mutex_;
  std::unordered_map<std::uint64_t, entry> entries_ SHMPOOL_GUARDED_BY(mutex_);
  std::vector<std::uint64_t> touched_ SHMPOOL_GUARDED_BY(mutex_);   // ids that this task was given
  std::vector<std::uint64_t> released_ SHMPOOL_GUARDED_BY(mutex_);  // kept segments that were dropped
};

}  // namespace shmpool::worker
