#include "worker/segment_table.hpp"

#include "process/fault_point.hpp"
#include "process/mutex.hpp"
#include "shm/exhausted.hpp"

#include <shmpool/error.hpp>

#include <algorithm>
#include <cerrno>
#include <system_error>

namespace shmpool::worker {

namespace {

[[noreturn]] void throw_unmappable(const shm::call_error& failed,
                                   const std::string& what = "mapping an array in a worker") {
  throw std::system_error(errc::shm_exhausted, what + ": " + shm::describe(failed));
}

}  // namespace

worker_segment::worker_segment(segment_table& table, const wire::segment_ref& ref) noexcept
    : segment(kind::worker, ref.id), table_(table), pool_(ref.pool), memfd_((ref.flags & wire::flag_memfd) != 0) {
}

std::string worker_segment::name() const {
  return memfd_ ? std::string() : shm::segment_name(pool_, id());
}

void worker_segment::last_release() noexcept {
  table_.give_up(*this);
}

void worker_segment::use(shm::mapping memory) noexcept {
  memory_ = std::move(memory);
  data_ = memory_.data();
  size_ = memory_.size();
}

segment_table::entry& segment_table::note(const wire::segment_ref& ref) {
  entry& found = entries_.try_emplace(ref.id).first->second;
  found.ref = ref;
  return found;
}

void segment_table::touch(entry& which) {
  if (std::exchange(which.touched, true)) return;
  touched_.push_back(which.ref.id);
}

void segment_table::introduce(const wire::segment_ref& ref, unique_fd descriptor) {
  const mutex_lock lock(mutex_);
  entry& known = note(ref);
  if (descriptor) known.memfd = std::move(descriptor);
}

shm::mapping segment_table::map_file(int fd, std::size_t size, bool writable, std::error_code& error) {
  shm::mapping made = shm::mapping::map(fd, size, writable, error, dumped_);
  if (error == std::errc::not_enough_memory && drop_idle_mappings()) {
    made = shm::mapping::map(fd, size, writable, error, dumped_);
  }
  return made;
}

/// Unused mappings save time, but their number is limited: unmaps them. True if there were any.
bool segment_table::drop_idle_mappings() {
  bool any = false;
  for (auto& [id, each] : entries_) {
    if (each.touched || each.in_use()) continue;
    any = any || each.readable || each.writable;
    each.readable.reset();
    each.writable.reset();
  }
  return any;
}

shm::call_error segment_table::create(entry& which) {
  std::error_code error;
  const std::string name = shm::segment_name(which.ref.pool, which.ref.id);
  const unique_fd file = shm::create_named(name, which.ref.capacity, error);
  if (error) return {"open to create", error};
  SHMPOOL_FAULT_POINT("worker.segment_named");
  shm::call_error failed;
  shm::mapping memory = map_file(file.get(), which.ref.capacity, true, error);
  if (error) failed = {"mmap", error};
  else if ((error = shm::reserve(file.get(), memory, 0, which.ref.reserved))) failed = {"fallocate", error};
  if (failed) {
    shm::unlink_named(name);
    return failed;
  }
  which.writable = std::make_unique<worker_segment>(*this, which.ref);
  which.writable->use(std::move(memory));
  which.fresh = false;
  which.created = true;
  SHMPOOL_FAULT_POINT("worker.segment_created");
  return {};
}

int segment_table::file_of(entry& which, bool writable, unique_fd& opened) {
  if (which.memfd) return which.memfd.get();
  std::error_code error;
  if ((which.ref.flags & wire::flag_memfd) == 0) {
    opened = shm::open_named(shm::segment_name(which.ref.pool, which.ref.id), writable, error);
    if (!error) return opened.get();
    if (shm::is_shortage(error)) throw_unmappable({"open", error});
  }
  // The name was removed, or this worker cannot reach it any more. The parent may have the file open.
  which.memfd = parent_.open(which.ref.id);
  return which.memfd.get();
}

worker_segment& segment_table::map(entry& which, bool writable) {
  auto& mapped = writable ? which.writable : which.readable;
  if (mapped) return *mapped;
  unique_fd opened;
  const int file = file_of(which, writable, opened);
  std::error_code error;
  shm::mapping memory = map_file(file, which.ref.capacity, writable, error);
  if (error) throw_unmappable({"mmap", error});
  mapped = std::make_unique<worker_segment>(*this, which.ref);
  mapped->use(std::move(memory));
  SHMPOOL_FAULT_POINT("worker.mapped");
  return *mapped;
}

detail::attachment segment_table::resolve(const wire::segment_ref& ref) {
  const mutex_lock lock(mutex_);
  entry& known = note(ref);
  touch(known);
  const auto mode = static_cast<detail::access>(ref.access);
  worker_segment& mapped = map(known, mode != detail::access::read);
  return {shm_handle(&mapped), ref.offset, ref.length, mode};
}

void segment_table::add_lease(const wire::segment_ref& ref) {
  const mutex_lock lock(mutex_);
  entry& known = note(ref);
  touch(known);
  known.leased = true;
  known.fresh = (ref.flags & wire::flag_fresh) != 0;
}

void segment_table::forget(std::uint64_t id) {
  const mutex_lock lock(mutex_);
  const auto found = entries_.find(id);
  // The parent frees only segments without handles; if it is wrong, the mapping stays valid at least in this worker.
  if (found != entries_.end() && !found->second.in_use()) entries_.erase(found);
}

shm_handle segment_table::take_lease(std::size_t bytes) {
  entry* best = nullptr;
  for (const std::uint64_t id : touched_) {
    entry& candidate = entries_.find(id)->second;
    if (!candidate.leased || candidate.in_use() || candidate.ref.reserved < bytes) continue;
    if (!best || candidate.ref.reserved < best->ref.reserved) best = &candidate;
  }
  if (!best) return {};
  // Drop a lease whose file cannot be created, and ask the parent for another, which may fail for the same reason.
  if (best->fresh && create(*best)) {
    best->leased = false;
    return {};
  }
  try {
    return shm_handle(&map(*best, true));
  } catch (const std::system_error&) {
    best->leased = false;
    return {};
  }
}

shm_handle segment_table::allocate(std::size_t bytes, std::size_t alignment) {
  if (alignment > 4096)
    throw std::system_error(std::make_error_code(std::errc::invalid_argument), "shmpool: alignment above a page");
  bytes = std::max<std::size_t>(bytes, 1);
  // A thread that the copy does not have may hold the lock, and the leases belong to the worker.
  if (original_.inherited()) return shm_handle(detail::make_heap_segment(bytes, alignment));
  const mutex_lock lock(mutex_);
  if (!in_task_) return shm_handle(detail::make_heap_segment(bytes, alignment));
  if (shm_handle leased = take_lease(bytes)) return leased;
  for (bool again = false, no_file = false;; again = true) {
    auto [ref, descriptor] = parent_.need(bytes, no_file);
    entry& known = note(ref);
    if (descriptor) known.memfd = std::move(descriptor);
    touch(known);
    known.leased = true;
    known.fresh = (ref.flags & wire::flag_fresh) != 0;
    if (known.fresh) {
      if (const shm::call_error failed = create(known)) {
        known.leased = false;
        // /dev/shm has become full since the parent checked, or a sandboxed worker cannot reach it: try once more, with
        // other memory if the pool allows it.
        if (again) throw_unmappable(failed, "creating a segment of " + std::to_string(bytes) + " bytes in a worker");
        no_file = true;
        continue;
      }
    }
    try {
      return shm_handle(&map(known, true));
    } catch (const std::system_error&) {
      // The name was removed since the parent checked. If the cause is another one, the next attempt shows it.
      known.leased = false;
      if (again) throw;
    }
  }
}

bool segment_table::can_lend(const shm_handle& handle) const noexcept {
  return handle && handle.get()->what() == detail::segment::kind::worker;
}

void segment_table::give_up(worker_segment& which) noexcept {
  if (original_.inherited()) {
    which.give_up();
    return;
  }
  const mutex_lock lock(mutex_);
  if (!which.give_up()) return;
  const auto found = entries_.find(which.id());
  if (found == entries_.end()) return;
  if (found->second.kept && !found->second.in_use()) {
    found->second.kept = false;
    released_.push_back(which.id());
  }
}

void segment_table::begin_task() noexcept {
  const mutex_lock lock(mutex_);
  in_task_ = true;
}

void segment_table::close_task() noexcept {
  const mutex_lock lock(mutex_);
  in_task_ = false;
}

std::vector<std::uint64_t> segment_table::end_task(std::vector<wire::segment_ref>& report) {
  const mutex_lock lock(mutex_);
  for (const std::uint64_t id : touched_) {
    entry& each = entries_.find(id)->second;
    each.touched = false;
    const bool in_use = each.in_use();
    std::uint8_t flags = 0;
    if (std::exchange(each.created, false)) flags |= wire::flag_created;
    if (in_use) {
      each.kept = true;
      flags |= wire::flag_kept;
    }
    if (flags != 0) {
      wire::segment_ref ref = each.ref;
      ref.flags = flags;
      report.push_back(ref);
    }
    if (each.fresh) entries_.erase(id);  // never created: the parent takes the name back
    else each.leased = false;
  }
  touched_.clear();
  return std::exchange(released_, {});
}

}  // namespace shmpool::worker
