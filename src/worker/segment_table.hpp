// The shared memory of one worker: the files that it knows and their mappings, the segments in them, those that it may
// use for results (leases), and those that a task has kept. Unused mappings stay, so that a segment which comes again
// costs next to nothing.
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
#include <map>
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
  /// `file`: a mapping of the file in which it lies.
  worker_segment(segment_table& table, const wire::segment_ref& ref, const shm::mapping& file) noexcept;
  /// For shm_handle::name().
  std::string name() const override;

 private:
  friend class segment_table;
  void last_release() noexcept override;

  segment_table& table_;
  std::uint64_t pool_, file_;
  bool memfd_;
};

/// The parent's answer to a worker that needs memory.
struct granted {
  std::vector<wire::segment_ref> segments;  ///< at least one
  unique_fd descriptor;                     ///< of the first, if that lies in a memfd that is new here
};

class lease_source {
 public:
  /// Asks the parent for a segment of `bytes` bytes; up to `more` further ones are welcome. Throws
  /// std::system_error(errc::shm_exhausted) if the parent refuses.
  virtual granted need(std::size_t bytes, bool posix_full, std::size_t more) = 0;
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

  /// Adds a memfd that the parent introduces, and keeps its descriptor.
  void introduce(const wire::segment_ref& ref, unique_fd descriptor);
  /// The range as an attachment, mapped as its access says. Throws std::system_error(errc::shm_exhausted) if mapping
  /// fails. May ask the parent, which overwrites the receive buffer: `ref` must not depend on that buffer.
  detail::attachment resolve(const wire::segment_ref& ref);
  /// Adds memory that the running task may use.
  void add_lease(const wire::segment_ref& ref);
  /// The parent has freed a file.
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

  /// A file; it stays mapped until the parent has freed it.
  struct known_file {
    unique_fd memfd;
    shm::mapping readable, writable;
    std::size_t segments = 0;  // entries that lie in it
    bool busy = false;         // for drop_idle_mappings()
  };
  using leases = std::multimap<std::size_t, std::uint64_t>;  // ids by bytes

  struct entry {
    wire::segment_ref ref;
    known_file* in = nullptr;
    std::unique_ptr<worker_segment> readable, writable;
    leases::node_type lease;  // of a lease that is not free: its place among those that are
    bool created = false;     // the worker has created the file, and the parent does not know yet
    bool fresh = false;       // leased, but the file does not exist yet
    bool kept = false;        // the parent was told that a handle outlives its task
    bool touched = false;     // in touched_

    bool in_use() const noexcept {
      return (readable && readable->use_count() != 0) || (writable && writable->use_count() != 0);
    }
    bool is_block() const noexcept { return ref.id != ref.file; }
  };
  using entries = std::unordered_map<std::uint64_t, entry>;

  void give_up(worker_segment& which) noexcept;
  /// The entry of a segment that the task is given.
  entry& note(const wire::segment_ref& ref) SHMPOOL_REQUIRES(mutex_);
  void erase(entries::iterator which) noexcept SHMPOOL_REQUIRES(mutex_);
  worker_segment& map(entry& which, bool writable) SHMPOOL_REQUIRES(mutex_);
  /// The segment's file: the known descriptor, or a new one, which `opened` owns.
  int file_of(entry& which, bool writable, unique_fd& opened) SHMPOOL_REQUIRES(mutex_);
  /// A new mapping; if there are too many, drops unused mappings and tries once more.
  shm::mapping map_file(int fd, std::size_t size, bool writable, std::error_code& error) SHMPOOL_REQUIRES(mutex_);
  bool drop_idle_mappings() SHMPOOL_REQUIRES(mutex_);
  /// Creates the file of a fresh lease. Returns the call that failed, if any.
  shm::call_error create(entry& which) SHMPOOL_REQUIRES(mutex_);
  entry& lease(const wire::segment_ref& ref) SHMPOOL_REQUIRES(mutex_);
  leases& free_leases(const entry& which) noexcept SHMPOOL_REQUIRES(mutex_) {
    return which.is_block() ? free_blocks_ : free_files_;
  }
  /// The smallest free lease that fits; null if there is none, or it cannot be used.
  shm_handle take_lease(std::size_t bytes) SHMPOOL_REQUIRES(mutex_);
  /// A segment that the parent grants. Throws std::system_error(errc::shm_exhausted).
  shm_handle ask_for(std::size_t bytes) SHMPOOL_REQUIRES(mutex_);
  /// How many segments more are to be asked for: about as many as the task has had of this length one after the other.
  std::size_t further(std::size_t bytes) noexcept SHMPOOL_REQUIRES(mutex_);

  lease_source& parent_;
  fork_mark original_;
  bool in_task_ SHMPOOL_GUARDED_BY(mutex_) = false;
  bool dumped_ = false;
  mutable mutex mutex_;
  std::unordered_map<std::uint64_t, known_file> files_ SHMPOOL_GUARDED_BY(mutex_);
  /// Of blocks only those that a task has, or keeps: they are many, and their files stay mapped.
  entries entries_ SHMPOOL_GUARDED_BY(mutex_);
  leases free_blocks_ SHMPOOL_GUARDED_BY(mutex_), free_files_ SHMPOOL_GUARDED_BY(mutex_);
  /// How many more blocks to ask for next time, if they are of this length.
  std::size_t further_ SHMPOOL_GUARDED_BY(mutex_) = 0, further_length_ SHMPOOL_GUARDED_BY(mutex_) = 0;
  std::vector<std::uint64_t> touched_ SHMPOOL_GUARDED_BY(mutex_);   // ids that this task was given
  std::vector<std::uint64_t> released_ SHMPOOL_GUARDED_BY(mutex_);  // kept segments that were dropped
};

}  // namespace shmpool::worker
