// An intrusive list of operations. Nothing is allocated, and an operation leaves its list without knowing which list
// that is.
//
// Thread safety: none.
#pragma once

#include "loop/completion_queue.hpp"
#include "process/assert.hpp"

namespace shmpool::loop {

class operation_list {
 public:
  operation_list() noexcept { head_.next = head_.prev = &head_; }
  operation_list(const operation_list&) = delete;
  operation_list& operator=(const operation_list&) = delete;

  bool empty() const noexcept { return head_.next == &head_; }
  bool has_several() const noexcept { return head_.next != head_.prev; }
  operation& front() noexcept { return *head_.next; }

  void push_back(operation& op) noexcept {
    SHMPOOL_ASSERT(op.next == nullptr && op.prev == nullptr);  // it is in no list
    op.prev = head_.prev;
    op.next = &head_;
    head_.prev->next = &op;
    head_.prev = &op;
  }

  /// The first operation, taken out of the list, or null.
  operation* pop_front() noexcept {
    if (empty()) return nullptr;
    operation& first = front();
    unlink(first);
    return &first;
  }

  /// Takes `op` out of the list that it is in.
  static void unlink(operation& op) noexcept {
    SHMPOOL_ASSERT(op.next != nullptr && op.next->prev == &op && op.prev->next == &op);
    op.prev->next = op.next;
    op.next->prev = op.prev;
    op.next = op.prev = nullptr;
  }

  /// Moves all of `other` to the end of this list.
  void append(operation_list& other) noexcept {
    while (operation* op = other.pop_front()) push_back(*op);
  }

 private:
  operation head_;  // start of the circular list; never handed out
};

}  // namespace shmpool::loop
