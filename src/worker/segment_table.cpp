#include "worker/segment_table.hpp"

#include "process/fault_point.hpp"
#include "process/mutex.hpp"
#include "shm/exhausted.hpp"

#include <shmpool/error.hpp>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <system_error>

namespace shmpool::worker {

namespace {

[[noreturn]] void throw_unmappable(const shm::call_error& failed,
                                   const std::string& what = "mapping an array in a worker") {
  throw std::system_error(errc::shm_exhausted, what + ": " + shm::describe(failed));
}

}  // namespace

worker_segment::worker_segment(segment_table& table, const wire::segment_ref& ref, const shm::mapping& file) noexcept
    : segment(kind::worker, ref.id),
      table_(table),
      pool_(ref.pool),
      file_(ref.file),
      memfd_((ref.flags & wire::flag_memfd) != 0) {
  data_ = file.data() + ref.place;
  size_ = ref.id == ref.file ? file.size() : ref.reserved;
}

std::string worker_segment::name() const {
  return memfd_ ? std::string() : shm::segment_name(pool_, file_);
}

void worker_segment::last_release() noexcept {
  table_.give_up(*this);
}

segment_table::entry& segment_table::note(const wire::segment_ref& ref) {
  const auto [found, is_new] = entries_.try_emplace(ref.id);
  entry& noted = found->second;
  try {
    if (is_new) noted.in = &files_.try_emplace(ref.file).first->second;
    if (!noted.touched) touched_.push_back(ref.id);
  } catch (...) {
    if (is_new) entries_.erase(found);
    throw;
  }
  if (is_new) ++noted.in->segments;
  noted.touched = true;
  noted.ref = ref;
  return noted;
}

void segment_table::erase(entries::iterator which) noexcept {
  --which->second.in->segments;
  entries_.erase(which);
}

void segment_table::introduce(const wire::segment_ref& ref, unique_fd descriptor) {
  const mutex_lock lock(mutex_);
  if (descriptor) files_[ref.file].memfd = std::move(descriptor);
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
  for (auto& [id, each] : entries_) each.in->busy = each.in->busy || each.touched || each.in_use();
  for (auto& [id, each] : entries_) {
    if (each.in->busy) continue;
    each.readable.reset();
    each.writable.reset();
  }
  bool any = false;
  for (auto& [id, each] : files_) {
    if (std::exchange(each.busy, false)) continue;
    any = any || each.readable || each.writable;
    each.readable = {};
    each.writable = {};
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
  which.in->writable = std::move(memory);
  which.fresh = false;
  which.created = true;
  SHMPOOL_FAULT_POINT("worker.segment_created");
  return {};
}

int segment_table::file_of(entry& which, bool writable, unique_fd& opened) {
  if (which.in->memfd) return which.in->memfd.get();
  std::error_code error;
  if ((which.ref.flags & wire::flag_memfd) == 0) {
    opened = shm::open_named(shm::segment_name(which.ref.pool, which.ref.file), writable, error);
    if (!error) return opened.get();
    if (shm::is_shortage(error)) throw_unmappable({"open", error});
  }
  // The name was removed, or this worker cannot reach it any more. The parent may have the file open.
  which.in->memfd = parent_.open(which.ref.id);
  return which.in->memfd.get();
}

worker_segment& segment_table::map(entry& which, bool writable) {
  auto& mapped = writable ? which.writable : which.readable;
  if (mapped) return *mapped;
  shm::mapping& memory = writable ? which.in->writable : which.in->readable;
  if (!memory) {
    unique_fd opened;
    const int file = file_of(which, writable, opened);
    std::error_code error;
    shm::mapping made = map_file(file, which.ref.capacity, writable, error);
    if (error) throw_unmappable({"mmap", error});
    memory = std::move(made);
    SHMPOOL_FAULT_POINT("worker.mapped");
  }
  mapped = std::make_unique<worker_segment>(*this, which.ref, memory);
  return *mapped;
}

detail::attachment segment_table::resolve(const wire::segment_ref& ref) {
  const mutex_lock lock(mutex_);
  entry& known = note(ref);
  const auto mode = static_cast<detail::access>(ref.access);
  worker_segment& mapped = map(known, mode != detail::access::read);
  return {shm_handle(&mapped), ref.offset, ref.length, mode};
}

segment_table::entry& segment_table::lease(const wire::segment_ref& ref) {
  entry& known = note(ref);
  free_leases(known).emplace(ref.reserved, ref.id);
  known.fresh = (ref.flags & wire::flag_fresh) != 0;
  return known;
}

void segment_table::add_lease(const wire::segment_ref& ref) {
  const mutex_lock lock(mutex_);
  lease(ref);
}

void segment_table::forget(std::uint64_t id) {
  const mutex_lock lock(mutex_);
  // The parent frees only files without handles; if it is wrong, the mapping stays valid at least in this worker.
  if (const auto found = entries_.find(id); found != entries_.end() && !found->second.in_use()) erase(found);
  if (const auto found = files_.find(id); found != files_.end() && found->second.segments == 0) files_.erase(found);
}

shm_handle segment_table::take_lease(std::size_t bytes) {
  // A block has to be of the length that the parent would choose, or small arrays would use up the large ones.
  leases* from = &free_blocks_;
  auto best = free_blocks_.lower_bound(bytes);
  if (best == free_blocks_.end() || best->first > shm::block_length(bytes)) {
    from = &free_files_;
    best = free_files_.lower_bound(bytes);
  }
  if (best == from->end()) return {};
  entry& which = entries_.find(best->second)->second;
  leases::node_type taken = from->extract(best);
  // Drop a lease whose file cannot be created or mapped, and ask the parent for another, which may fail for the same
  // reason.
  if (which.fresh && create(which)) return {};
  try {
    shm_handle found(&map(which, true));
    which.lease = std::move(taken);
    return found;
  } catch (const std::system_error&) {
    return {};
  }
}

std::size_t segment_table::further(std::size_t bytes) noexcept {
  constexpr std::size_t most = 1023, most_bytes = std::size_t{4} << 20;
  if (bytes > shm::largest_block) return 0;
  if (std::exchange(further_length_, shm::block_length(bytes)) != shm::block_length(bytes)) further_ = 0;
  const std::size_t wanted = std::min(further_, most_bytes / bytes);
  further_ = std::min(2 * further_ + 1, most);
  return wanted;
}

shm_handle segment_table::ask_for(std::size_t bytes) {
  for (bool again = false, no_file = false;; again = true) {
    granted answer = parent_.need(bytes, no_file, further(bytes));
    const wire::segment_ref& first = answer.segments.front();
    if (answer.descriptor) files_[first.file].memfd = std::move(answer.descriptor);
    for (const wire::segment_ref& ref : answer.segments) lease(ref);
    entry& known = entries_.find(first.id)->second;
    leases& free = free_leases(known);
    const auto [begin, end] = free.equal_range(first.reserved);
    leases::node_type taken =
        free.extract(std::find_if(begin, end, [&](const auto& each) { return each.second == first.id; }));
    if (known.fresh) {
      if (const shm::call_error failed = create(known)) {
        // /dev/shm has become full since the parent checked, or a sandboxed worker cannot reach it: try once more, with
        // other memory if the pool allows it.
        if (again) throw_unmappable(failed, "creating a segment of " + std::to_string(bytes) + " bytes in a worker");
        no_file = true;
        continue;
      }
    }
    try {
      shm_handle found(&map(known, true));
      known.lease = std::move(taken);
      return found;
    } catch (const std::system_error&) {
      // The name was removed since the parent checked. If the cause is another one, the next attempt shows it.
      if (again) throw;
    }
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
  // Blocks whose length is a power of two begin at multiples of it; files begin at a page.
  if (alignment > shm::block_alignment && bytes <= shm::largest_block)
    bytes = std::bit_ceil(std::max(bytes, alignment));
  if (shm_handle leased = take_lease(bytes)) return leased;
  return ask_for(bytes);
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
  if (found == entries_.end() || found->second.in_use()) return;
  entry& free = found->second;
  if (free.lease) free_leases(free).insert(std::move(free.lease));
  if (std::exchange(free.kept, false)) released_.push_back(which.id());
  if (free.is_block() && !free.touched) erase(found);
}

void segment_table::begin_task() noexcept {
  const mutex_lock lock(mutex_);
  in_task_ = true;
  further_ = further_length_ = 0;
}

void segment_table::close_task() noexcept {
  const mutex_lock lock(mutex_);
  in_task_ = false;
}

std::vector<std::uint64_t> segment_table::end_task(std::vector<wire::segment_ref>& report) {
  const mutex_lock lock(mutex_);
  for (const std::uint64_t id : touched_) {
    const auto found = entries_.find(id);
    entry& each = found->second;
    each.touched = false;
    each.lease = {};
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
    if (each.fresh) {  // never created: the parent takes the name back
      const std::uint64_t file = each.ref.file;
      erase(found);
      files_.erase(file);
    } else if (each.is_block() && !in_use) {
      erase(found);
    }
  }
  touched_.clear();
  free_blocks_.clear();
  free_files_.clear();
  return std::exchange(released_, {});
}

}  // namespace shmpool::worker
