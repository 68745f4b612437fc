// Locking: one mutex guards the counts and the cache. It is a leaf: files, mappings and mailboxes are touched without
// it, by the thread that took a segment out under the mutex and so is its only owner.
#include "shm/store.hpp"

#include "process/clock.hpp"
#include "process/mutex.hpp"
#include "shm/exhausted.hpp"
#include "shm/pool_lock.hpp"
#include "shm/store_state.hpp"

#include <shmpool/error.hpp>

#include <sys/sysinfo.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <chrono>
#include <limits>
#include <utility>

namespace shmpool::shm {
namespace {

/// Of the whole process, so that ids are unique over all of its pools.
constinit std::atomic<std::uint64_t> next_segment_id{1};

/// How often an active pool checks that its lock file is there.
constexpr std::chrono::milliseconds lock_interval{500};

/// Memory and swap: a larger request would call the out-of-memory killer.
std::uint64_t machine_memory() noexcept {
  static const std::uint64_t total = [] {
    struct sysinfo info {};
    if (::sysinfo(&info) != 0) return std::numeric_limits<std::uint64_t>::max();
    return (std::uint64_t{info.totalram} + info.totalswap) * info.mem_unit;
  }();
  return total;
}

}  // namespace

std::shared_ptr<store> store::open(const store_options& options) {
  reap_orphans();
  std::error_code error;
  std::unique_ptr<pool_lock> lock;
  const bool usable = options.backing != backing::memfd && free_space().has_value();
  if (usable) lock = pool_lock::acquire(error);
  if (!lock && options.backing == backing::posix) {
    if (!error) error = {ENOENT, std::system_category()};
    throw std::system_error(error,
                            std::string{"backing::posix needs a tmpfs that can be written to at "} + shm_directory());
  }
  // No fallback then: segments without names would need even more descriptors.
  if (error == std::errc::too_many_files_open || error == std::errc::too_many_files_open_in_system) {
    throw std::system_error(error, "shmpool: making the pool's lock file");
  }
  const bool named = lock != nullptr;
  if (!named) lock = pool_lock::without_file();
  store_options bounded = options;
  bounded.cache_idle =
      std::clamp<std::chrono::milliseconds>(options.cache_idle, std::chrono::milliseconds{0}, std::chrono::years{100});
  return std::shared_ptr<store>{new store{std::make_unique<impl>(bounded, std::move(lock), named)}};
}

store::store(std::unique_ptr<impl> state) noexcept : impl_(std::move(state)) {
}

store::~store() {
  // Live segments keep the store, so only cached ones are left. In a forked copy their lists may be half changed, if
  // another thread was changing them at the fork: they stay as they are until the process goes.
  if (!impl_->inert()) close();
}

std::uint64_t store::pool_id() const noexcept {
  return impl_->lock->pool_id();
}

void store::require_usable(std::size_t bytes) const {
  if (impl_->inert()) {
    throw std::system_error(make_error_code(errc::pool_closed),
                            "the pool belongs to the process that this one was forked from");
  }
  if (impl_->closed.load(std::memory_order_relaxed)) throw std::system_error(make_error_code(errc::pool_closed));
  if (bytes > machine_memory()) throw_machine_exhausted(bytes, machine_memory());
}

shm_handle store::hand_out(file_segment& segment) noexcept {
  segment.owner_ = shared_from_this();
  return shm_handle{&segment};
}

shm_handle store::grant(std::size_t bytes, bool named) {
  const std::size_t capacity = size_class(bytes);
  const std::size_t reserved = reserved_length(bytes, capacity);
  const std::uint64_t id = next_segment_id.fetch_add(1, std::memory_order_relaxed);
  if (named) impl_->lock->restore();  // before there is a name that it protects
  std::unique_ptr<file_segment> segment{
      new file_segment{shared_from_this(), pool_id(), id, named, capacity, reserved, impl_->options.dump}};
  segment_chain evicted;
  {
    const mutex_lock guard(impl_->mutex);
    if (impl_->closed.load(std::memory_order_relaxed)) throw std::system_error(make_error_code(errc::pool_closed));
    impl_->cache.prepare(capacity);
    impl_->charge(reserved, bytes, evicted);
    ++impl_->live_segments;
  }
  impl_->destroy(evicted);
  return shm_handle{segment.release()};
}

shm_handle store::create(std::size_t bytes, bool named) {
  shm_handle handle = grant(bytes, named);  // if anything fails, its release gives the budget back
  auto& segment = static_cast<file_segment&>(*handle.get());
  call_error failed = segment.create(!named);
  if (is_shortage(failed.code) && impl_->drop_cache() != 0) failed = segment.create(!named);
  if (failed && named && impl_->options.backing == backing::automatic) {
    named = false;
    failed = segment.create(true);
  }
  if (failed) throw_memory_exhausted(bytes, named, failed);
  if (!named) {
    const mutex_lock guard(impl_->mutex);
    impl_->memfd_used = true;
  }
  return handle;
}

shm_handle store::take_warm(std::size_t bytes, std::optional<std::uint32_t> worker, bool mapped) {
  file_segment* const taken = impl_->revive({.capacity = size_class(bytes), .bytes = bytes, .worker = worker});
  if (taken == nullptr) return {};
  const bool reachable = taken->still_named();
  shm_handle handle = hand_out(*taken);
  if (!reachable) return {};  // its release frees it
  const bool was_mapped = taken->mapped();
  if (taken->complete() && bytes <= taken->reserved_ && (was_mapped || !mapped)) return handle;

  const std::size_t wanted = std::max(taken->reserved_, reserved_length(bytes, taken->capacity()));
  if (wanted > taken->reserved_) {
    segment_chain evicted;
    {
      const mutex_lock guard(impl_->mutex);
      impl_->charge(wanted - taken->reserved_, bytes, evicted);
      taken->reserved_ = wanted;
    }
    impl_->destroy(evicted);
  }
  if (taken->map(wanted)) {
    // The file is gone or short, or has no room to grow. The segment is freed and a new one made instead, whose error
    // will say why.
    taken->created_.store(false, std::memory_order_relaxed);
    return {};
  }
  if (!was_mapped) populate(taken->mapping_, 0, bytes);
  return handle;
}

bool store::is_small(std::size_t bytes) const noexcept {
  return std::max<std::size_t>(bytes, 1) <= impl_->options.arena_bytes;
}

shm_handle store::take_free_block(std::size_t length) noexcept {
  for (;;) {
    shm_handle block;
    {
      const mutex_lock guard(impl_->mutex);
      if (!impl_->closed.load(std::memory_order_relaxed)) block = shm_handle{impl_->arenas.take(length)};
    }
    if (!block || !static_cast<pool_segment&>(*block.get()).file().found_nameless(monotonic_clock::now())) return block;
  }
}

std::size_t store::next_arena(std::size_t length) const noexcept {
  std::size_t wanted = 0;
  {
    const mutex_lock guard(impl_->mutex);
    wanted = impl_->arenas.next_file(length);
  }
  if (impl_->options.max_bytes == 0) return wanted;
  // Free blocks are lost to all other lengths, of which there are 80.
  const std::size_t most = std::bit_floor(impl_->options.max_bytes / 64), least = arena_table::first_file(length);
  return least > most ? 0 : std::max(least, std::min(wanted, most));
}

shm_handle store::take_first_block(shm_handle file, std::size_t length) {
  const std::uint32_t count = arena::count_in(static_cast<file_segment&>(*file.get()), length);
  const std::uint64_t first_id = next_segment_id.fetch_add(count, std::memory_order_relaxed);
  auto fresh = std::make_unique<arena>(std::move(file), length, first_id);
  const mutex_lock guard(impl_->mutex);
  impl_->arenas.prepare(length);
  return shm_handle{&impl_->arenas.add(std::move(fresh))};
}

shm_handle store::take_block(std::size_t bytes, std::size_t alignment) {
  if (!is_small(bytes)) return {};
  const std::size_t length = block_length(bytes, alignment), smallest = arena_table::first_file(length);
  if (shm_handle block = take_free_block(length)) return block;
  std::size_t file_bytes = next_arena(length);
  if (file_bytes == 0) return {};
  shm_handle file;
  for (; !file; file_bytes = smallest) {
    try {
      file = allocate_file(file_bytes);
    } catch (const std::system_error& error) {
      if (error.code() != errc::shm_exhausted) throw;
      if (file_bytes == smallest) return {};  // a file of its own may fit, or its error says the right numbers
    }
  }
  return take_first_block(std::move(file), length);
}

shm_handle store::allocate(std::size_t bytes, std::size_t alignment) {
  if (alignment > page_bytes) {
    throw std::system_error(std::make_error_code(std::errc::invalid_argument), "shared memory is aligned to a page");
  }
  require_usable(bytes);
  if (shm_handle block = take_block(bytes, alignment)) return block;
  return allocate_file(bytes);
}

shm_handle store::allocate_file(std::size_t bytes) {
  if (shm_handle warm = take_warm(bytes, std::nullopt, true)) return warm;
  const bool named = impl_->names && (impl_->options.backing == backing::posix || free_space().value_or(0) >= bytes);
  return create(bytes, named);
}

shm_handle store::lease(std::size_t bytes, std::uint32_t worker, bool avoid_posix) {
  require_usable(bytes);
  if (shm_handle block = take_block(bytes, block_alignment)) return block;
  if (shm_handle warm = take_warm(bytes, worker, false)) return warm;
  if (!impl_->names) return create(bytes, false);
  if (impl_->options.backing == backing::automatic) {
    if (avoid_posix || free_space().value_or(0) < bytes) return create(bytes, false);
  } else if (free_space().value_or(0) < bytes) {
    impl_->drop_cache();
    if (free_space().value_or(0) < bytes) {
      throw_memory_exhausted(bytes, true, {"statfs", {ENOSPC, std::system_category()}});
    }
  }
  if (avoid_posix) return create(bytes, true);
  return grant(bytes, true);
}

shm_handle store::take_cached(std::size_t bytes, std::uint32_t worker) noexcept {
  file_segment* const taken =
      impl_->revive({.capacity = size_class(bytes), .bytes = bytes, .worker = worker, .may_grow = false});
  if (taken == nullptr) return {};
  const bool reachable = taken->still_named();
  shm_handle handle = hand_out(*taken);
  if (!reachable) handle.reset();  // which frees it
  return handle;
}

shm_handle store::lease_cached(std::size_t bytes, std::uint32_t worker) noexcept {
  if (impl_->inert()) return {};
  if (!is_small(bytes)) return take_cached(bytes, worker);
  const std::size_t length = block_length(bytes);
  if (shm_handle block = take_free_block(length)) return block;
  const std::size_t file_bytes = next_arena(length);
  if (file_bytes == 0) return take_cached(bytes, worker);
  shm_handle file = take_cached(file_bytes, worker);
  if (!file.data()) return {};  // none, or it is not mapped here
  try {
    return take_first_block(std::move(file), length);
  } catch (const std::bad_alloc&) {
    return {};
  }
}

bool store::can_lend(const shm_handle& handle) const noexcept {
  if (!handle || handle.get()->what() != detail::segment::kind::pool) return false;
  // The segment's store may be closed: the name and the lock stay for as long as the segment is held.
  return !static_cast<const pool_segment*>(handle.get())->file().owner_->impl_->inert();
}

bool store::begin_read(const shm_handle& handle, std::uint64_t offset, std::uint64_t length) {
  if (!handle || handle.get()->what() != detail::segment::kind::pool) return true;
  return begin_lend(static_cast<pool_segment&>(*handle.get()), offset, length, false);
}

void store::end_read(const shm_handle& handle, std::uint64_t offset, std::uint64_t length) noexcept {
  if (!handle || handle.get()->what() != detail::segment::kind::pool) return;
  end_lend(static_cast<pool_segment&>(*handle.get()), offset, length, false);
}

void store::released(file_segment& segment) noexcept {
  const std::shared_ptr<store> self = std::move(segment.owner_);  // may be the last one: goes at the very end
  impl& state = *self->impl_;
  if (state.inert()) {
    delete &segment;
    return;
  }
  segment.forget_lends();
  if (!state.keep(segment)) state.retire(segment);
}

void store::released(block_segment& segment) noexcept {
  const std::shared_ptr<store> self = segment.file().owner_;  // the arena may hold the last one
  if (self->impl_->inert()) return;
  std::unique_ptr<arena> emptied;  // goes without the mutex, as it releases its file
  const mutex_lock guard(self->impl_->mutex);
  emptied = self->impl_->arenas.give_back(segment);
}

clear_result store::clear() noexcept {
  if (impl_->inert()) return {};
  clear_result result;
  result.freed = impl_->drop_cache();
  const mutex_lock guard(impl_->mutex);
  result.still_held = impl_->live_segments;
  return result;
}

void store::trim(monotonic_clock::time_point now) noexcept {
  const auto ticks = now.time_since_epoch().count();
  if (ticks > impl_->lock_due.load(std::memory_order_relaxed) && !impl_->inert()) {
    impl_->lock_due.store((now + lock_interval).time_since_epoch().count(), std::memory_order_relaxed);
    impl_->lock->restore();
  }
  if (ticks <= impl_->trim_due.load(std::memory_order_relaxed) || impl_->inert()) return;
  impl_->drop_older_than(now - impl_->options.cache_idle);
}

void store::close() noexcept {
  if (impl_->inert()) return;
  {
    const mutex_lock guard(impl_->mutex);
    impl_->closed.store(true, std::memory_order_relaxed);
  }
  impl_->drop_cache();
  impl_->drop_lock_if_done();
}

void store::subscribe(std::weak_ptr<freed_mailbox> mailbox) {
  if (impl_->inert()) return;
  const mutex_lock guard(impl_->mutex);
  auto extended = std::make_shared<impl::mailbox_list>();
  for (const auto& weak : *impl_->mailboxes) {
    if (!weak.expired()) extended->push_back(weak);
  }
  extended->push_back(std::move(mailbox));
  impl_->mailboxes = std::move(extended);
}

bool store::tight() const noexcept {
  if (impl_->options.max_bytes == 0) return false;
  const mutex_lock guard(impl_->mutex);
  return impl_->live_bytes > impl_->options.max_bytes / 2;
}

store_stats store::stats() const {
  if (impl_->inert()) return {};
  const mutex_lock guard(impl_->mutex);
  return {.live_segments = impl_->live_segments,
          .cached_segments = impl_->cache.count(),
          .live_bytes = impl_->live_bytes,
          .cached_bytes = impl_->cache.bytes(),
          .peak_bytes = impl_->peak_bytes,
          .memfd_used = impl_->memfd_used};
}

}  // namespace shmpool::shm
