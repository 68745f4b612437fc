// Finds the index with the least key: a binary heap that records the place of every index, so that a key can be changed
// or an index removed without a search, and the heap never holds more than the indexes that have a key.
//
// Thread safety: none.
#pragma once

#include "sched/task_table.hpp"

#include <cstddef>
#include <utility>
#include <vector>

namespace shmpool::sched {

/// Owns a key for each of some indexes. Equal keys come in no order.
template <class Key>
class indexed_heap {
 public:
  /// Puts the index in, or changes its key.
  void set(index_type index, const Key& key) {
    if (index >= places_.size()) places_.resize(index + std::size_t{1}, absent);
    const std::size_t place = places_[index];
    if (place == absent) {
      places_[index] = entries_.size();
      entries_.push_back({key, index});
      rise(entries_.size() - 1);
    } else {
      const bool less = key < entries_[place].key;
      entries_[place].key = key;
      less ? rise(place) : sink(place);
    }
  }

  /// The key of the first index becomes this, which is not less.
  void raise_first(const Key& key) noexcept {
    entries_.front().key = key;
    sink(0);
  }

  /// Does nothing if the index is not in.
  void clear(index_type index) noexcept {
    if (!contains(index)) return;
    const std::size_t place = std::exchange(places_[index], absent);
    const entry last = entries_.back();
    entries_.pop_back();
    if (place == entries_.size()) return;
    put(place, last);
    rise(place);
    sink(place);  // if `last` has risen, its former parent stays at `place`
  }

  /// The key of the index, or null if it is not in.
  const Key* key(index_type index) const noexcept { return contains(index) ? &entries_[places_[index]].key : nullptr; }
  bool contains(index_type index) const noexcept { return index < places_.size() && places_[index] != absent; }

  /// The index with the least key, or no_index. It stays until it is set or cleared.
  index_type first() const noexcept { return entries_.empty() ? no_index : entries_.front().index; }
  /// The least key; the heap must not be empty.
  const Key& first_key() const noexcept { return entries_.front().key; }

  std::size_t size() const noexcept { return entries_.size(); }

  /// From here on, putting in indexes below `count` needs no memory.
  void reserve(std::size_t count) {
    if (places_.size() >= count) return;
    entries_.reserve(2 * count);
    places_.resize(2 * count, absent);
  }

 private:
  struct entry {
    Key key;
    index_type index;
  };
  static constexpr std::size_t absent = static_cast<std::size_t>(-1);

  void rise(std::size_t place) noexcept {
    if (place == 0 || !(entries_[place].key < entries_[(place - 1) / 2].key)) return;
    const entry moving = entries_[place];
    do {
      put(place, entries_[(place - 1) / 2]);
      place = (place - 1) / 2;
    } while (place != 0 && moving.key < entries_[(place - 1) / 2].key);
    put(place, moving);
  }

  void sink(std::size_t place) noexcept {
    std::size_t child = least_child(place);
    if (child == absent || !(entries_[child].key < entries_[place].key)) return;
    const entry moving = entries_[place];
    do {
      put(place, entries_[child]);
      place = child;
      child = least_child(place);
    } while (child != absent && entries_[child].key < moving.key);
    put(place, moving);
  }

  std::size_t least_child(std::size_t place) const noexcept {
    const std::size_t child = 2 * place + 1;
    if (child >= entries_.size()) return absent;
    return child + 1 < entries_.size() && entries_[child + 1].key < entries_[child].key ? child + 1 : child;
  }

  void put(std::size_t place, const entry& what) noexcept {
    entries_[place] = what;
    places_[what.index] = place;
  }

  std::vector<entry> entries_;
  std::vector<std::size_t> places_;
};

}  // namespace shmpool::sched
