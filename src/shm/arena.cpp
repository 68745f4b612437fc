#include "shm/arena.hpp"

#include "process/assert.hpp"
#include "shm/store.hpp"

#include <algorithm>
#include <bit>
#include <memory>
#include <new>
#include <utility>

namespace shmpool::shm {

// ---- block_segment.

block_segment::block_segment(arena& owner, file_segment& file, std::uint64_t id, std::byte* data,
                             std::size_t size) noexcept
    : pool_segment(file, id), arena_(owner) {
  data_ = data;
  size_ = size;
}

void block_segment::last_release() noexcept {
  if (give_up()) store::released(*this);
}

// ---- arena.

arena::arena(shm_handle file, std::size_t block_bytes, std::uint64_t first_id)
    : file_(std::move(file)),
      block_bytes_(block_bytes),
      first_id_(first_id),
      count_(count_in(this->file(), block_bytes)),
      blocks_(std::allocator<block_segment>().allocate(count_)) {
}

arena::~arena() {
  SHMPOOL_ASSERT(empty());
  std::destroy_n(blocks_, made_);
  std::allocator<block_segment>().deallocate(blocks_, count_);
}

std::uint32_t arena::count_in(const file_segment& file, std::size_t block_bytes) noexcept {
  return static_cast<std::uint32_t>(file.reserved() / block_bytes);
}

file_segment& arena::file() const noexcept {
  return static_cast<file_segment&>(*file_.get());
}

block_segment* arena::take() noexcept {
  if (full()) return nullptr;
  ++held_;
  if (free_ != nullptr) {
    block_segment* const block = free_;
    free_ = std::exchange(block->next_free_, nullptr);
    return block;
  }
  std::byte* const data = file_.data() + made_ * block_bytes_;
  const std::uint64_t id = first_id_ + made_;
  return ::new (static_cast<void*>(blocks_ + made_++)) block_segment(*this, file(), id, data, block_bytes_);
}

void arena::give_back(block_segment& block) noexcept {
  SHMPOOL_ASSERT(held_ != 0 && &block.arena_ == this);
  block.lends_.clear();
  block.next_free_ = std::exchange(free_, &block);
  --held_;
}

// ---- arena_table.

void arena_table::link(line& to, arena& which) noexcept {
  which.previous_ = nullptr;
  which.next_ = std::exchange(to.open, &which);
  if (which.next_ != nullptr) which.next_->previous_ = &which;
}

void arena_table::unlink(line& from, arena& which) noexcept {
  if (which.previous_ == nullptr && from.open != &which) return;
  (which.previous_ != nullptr ? which.previous_->next_ : from.open) = which.next_;
  if (which.next_ != nullptr) which.next_->previous_ = which.previous_;
  which.next_ = which.previous_ = nullptr;
}

block_segment* arena_table::take(std::size_t block_bytes) noexcept {
  const auto found = lines_.find(block_bytes);
  if (found == lines_.end()) return nullptr;
  line& of = found->second;
  // What has lost its name is better not used any more: workers cannot open it.
  while (of.open != nullptr && of.open->file().nameless()) unlink(of, *of.open);
  if (of.open == nullptr) return nullptr;
  block_segment* const block = of.open->take();
  if (of.open->full()) unlink(of, *of.open);
  return block;
}

block_segment& arena_table::add(std::unique_ptr<arena> fresh) noexcept {
  arena& added = *fresh.release();
  line& of = lines_.find(added.block_bytes_)->second;
  of.bytes += added.file().reserved();
  block_segment& block = *added.take();
  if (!added.full()) link(of, added);
  return block;
}

std::unique_ptr<arena> arena_table::give_back(block_segment& block) noexcept {
  arena& from = block.arena_;
  line& of = lines_.find(from.block_bytes_)->second;
  const bool was_full = from.full();
  from.give_back(block);
  if (!from.empty()) {
    if (was_full) link(of, from);
    return nullptr;
  }
  unlink(of, from);
  of.bytes -= from.file().reserved();
  return std::unique_ptr<arena>(&from);
}

std::size_t arena_table::first_file(std::size_t block_bytes) noexcept {
  return std::max({page_bytes, std::min(4 * block_bytes, largest_block), 2 * block_bytes});
}

std::size_t arena_table::next_file(std::size_t block_bytes) const noexcept {
  const auto found = lines_.find(block_bytes);
  const std::size_t present = found == lines_.end() ? 0 : static_cast<std::size_t>(found->second.bytes);
  return std::max(first_file(block_bytes),
                  std::min(std::bit_floor(std::max<std::size_t>(present, 1)), huge_page_bytes));
}

}  // namespace shmpool::shm
