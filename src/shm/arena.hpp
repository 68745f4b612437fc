// Small segments share files: an arena is a file cut into blocks of one length, each of which is a segment with a count
// and lends of its own. The file is mapped once, so a small segment costs no system call and no mapping.
//
// Decides only: the store makes the files. Thread safety: none; the store's mutex guards arenas and arena_table.
#pragma once

#include "shm/segment.hpp"

#include <shmpool/shm_handle.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>

namespace shmpool::shm {

/// A segment that is a block of an arena's file.
class block_segment final : public pool_segment {
 public:
  std::string name() const override { return file().name(); }

 private:
  friend class arena;
  friend class arena_table;

  block_segment(arena& owner, file_segment& file, std::uint64_t id, std::byte* data, std::size_t size) noexcept;
  void last_release() noexcept override;

  arena& arena_;
  block_segment* next_free_ = nullptr;
};

/// A file and its blocks. It holds the file for as long as it exists.
class arena {
 public:
  /// `file` is a file_segment that is mapped, and of which all pages exist; its blocks get ids from `first_id` on.
  /// Throws std::bad_alloc.
  arena(shm_handle file, std::size_t block_bytes, std::uint64_t first_id);
  /// No block is held.
  ~arena();
  arena(const arena&) = delete;
  arena& operator=(const arena&) = delete;

  /// How many blocks of `block_bytes` lie in a file.
  static std::uint32_t count_in(const file_segment& file, std::size_t block_bytes) noexcept;

  file_segment& file() const noexcept;
  /// A free block, the one that was given back last if there is one; null if all are held.
  block_segment* take() noexcept;
  void give_back(block_segment& block) noexcept;
  bool full() const noexcept { return held_ == count_; }
  bool empty() const noexcept { return held_ == 0; }

 private:
  friend class arena_table;

  const shm_handle file_;
  const std::size_t block_bytes_;
  const std::uint64_t first_id_;
  const std::uint32_t count_;
  std::uint32_t made_ = 0;  // blocks that were ever held: the objects before this one exist
  std::uint32_t held_ = 0;
  block_segment* blocks_;  // raw memory for `count_`
  block_segment* free_ = nullptr;
  // Links of arena_table; an arena is in its list while a block is free.
  arena* next_ = nullptr;
  arena* previous_ = nullptr;
};

/// All arenas of a store that have blocks in use, by length of block. It owns them.
class arena_table {
 public:
  arena_table() = default;
  arena_table(const arena_table&) = delete;
  arena_table& operator=(const arena_table&) = delete;

  /// Makes the list for a length; may throw. Call it before the first add() for the length.
  void prepare(std::size_t block_bytes) { lines_.try_emplace(block_bytes); }
  /// A free block of that length; null if there is none.
  block_segment* take(std::size_t block_bytes) noexcept;
  /// Adds an arena, and takes its first block.
  block_segment& add(std::unique_ptr<arena> fresh) noexcept;
  /// Takes a block back. Returns its arena if that is empty now, so that its file can be freed.
  std::unique_ptr<arena> give_back(block_segment& block) noexcept;
  /// How long the file of the next arena for the length should be: as long as all that there are together, so that a
  /// few segments take little memory and many take few files.
  std::size_t next_file(std::size_t block_bytes) const noexcept;
  /// How long the first one is.
  static std::size_t first_file(std::size_t block_bytes) noexcept;

 private:
  struct line {
    arena* open = nullptr;    // first of the arenas with free blocks
    std::uint64_t bytes = 0;  // of all files
  };
  static void link(line& to, arena& which) noexcept;
  static void unlink(line& from, arena& which) noexcept;

  std::unordered_map<std::size_t, line> lines_;
};

}  // namespace shmpool::shm
