// The shared memory of one worker: which segments it knows and how they are mapped, which it may use for results
// (leases), and which a task has kept. Mappings stay when nobody uses them, so that a segment which comes again costs
// nothing.
//
// Thread safety: all members may be called from any thread of the worker (a task may start threads, and leave them),
// and handles may be copied and dropped by any. The count of a segment falls to zero under the table's lock only.
#pragma once

#include "process/fork_mark.hpp"
#include "process/mutex.hpp"
#include "shm/call_error.hpp"
#include "shm/mapping.hpp"
#include "wire/frame.hpp"

#include <shmpool/detail/message.hpp>
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

/// A mapped segment in a worker, once for reading and once for writing.
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

/// Asks the parent for memory: its answer, with a descriptor if the segment is a memfd that is new here. Throws
/// std::system_error(errc::shm_exhausted) if it refuses.
class lease_source {
 public:
  virtual std::pair<wire::segment_ref, unique_fd> need(std::size_t bytes, bool posix_full) = 0;
  /// Asks it for the descriptor of a segment that cannot be opened here. Throws the same if there is none.
  virtual unique_fd open(std::uint64_t segment) = 0;

 protected:
  ~lease_source() = default;
};

class segment_table final : public detail::segment_source {
 public:
  explicit segment_table(lease_source& parent) noexcept : parent_(parent) {}

  /// Whether core files of this worker have the segments that are mapped from here on.
  void set_dumped(bool dumped) noexcept { dumped_ = dumped; }

  /// A segment that came with a task: knows it from here on; keeps the descriptor of a memfd.
  void introduce(const wire::segment_ref& ref, unique_fd descriptor);
  /// The range as an attachment, mapped as its access says. Throws std::system_error(errc::shm_exhausted) if it cannot
  /// be mapped. May ask the parent: what the segment references of the task are read from must not be its receive
  /// buffer.
  detail::attachment resolve(const wire::segment_ref& ref);
  /// Memory that the running task may use.
  void add_lease(const wire::segment_ref& ref);
  /// A segment was freed by the parent.
  void forget(std::uint64_t id);

  /// From here to close_task() the parent may be asked for memory, by any thread: whoever serves must have read all
  /// that it needs from the stream before, since the answer comes there.
  void begin_task() noexcept;
  /// A lease that fits, or what the parent gives. Outside a task (from a thread that a task left behind) private
  /// memory, since the parent is not there to be asked; so in a copy of the worker that a task has forked.
  shm_handle allocate(std::size_t bytes, std::size_t alignment) override;
  bool can_lend(const shm_handle& handle) const noexcept override;

  /// The task is over: from here no thread gets memory of it, so that its result can be given up without being taken
  /// for free.
  void close_task() noexcept;
  /// And its values are destroyed: leases lapse. Appends a reference for each segment that the worker created or still
  /// holds, and returns the kept ones that were released since the last call: what a thread drops from here on is told
  /// by the next.
  std::vector<std::uint64_t> end_task(std::vector<wire::segment_ref>& report);

 private:
  friend class worker_segment;

  struct entry {
    wire::segment_ref ref;
    unique_fd memfd;
    std::unique_ptr<worker_segment> readable, writable;
    bool leased = false;   // may be used for results of the running task
    bool created = false;  // the file was made here, and the parent does not know yet
    bool fresh = false;    // leased, and the file is still to be made
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
  /// Its file: the descriptor that is known, or in `opened` another one.
  int file_of(entry& which, bool writable, unique_fd& opened) SHMPOOL_REQUIRES(mutex_);
  /// A new mapping; once more without those that nobody uses, if there are too many.
  shm::mapping map_file(int fd, std::size_t size, bool writable, std::error_code& error) SHMPOOL_REQUIRES(mutex_);
  bool drop_idle_mappings() SHMPOOL_REQUIRES(mutex_);
  /// Makes the file of a fresh lease; the call that failed, if any.
  shm::call_error create(entry& which) SHMPOOL_REQUIRES(mutex_);
  shm_handle take_lease(std::size_t bytes) SHMPOOL_REQUIRES(mutex_);

  lease_source& parent_;
  fork_mark original_;
  bool in_task_ SHMPOOL_GUARDED_BY(mutex_) = false;
  bool dumped_ = false;
  mutable mutex mutex_;
  std::unordered_map<std::uint64_t, entry> entries_ SHMPOOL_GUARDED_BY(mutex_);
  std::vector<std::uint64_t> touched_ SHMPOOL_GUARDED_BY(mutex_);   // ids that this task was given
  std::vector<std::uint64_t> released_ SHMPOOL_GUARDED_BY(mutex_);  // kept ones that were dropped
};

}  // namespace shmpool::worker
