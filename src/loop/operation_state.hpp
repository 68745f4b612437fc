// The steps that both completion queues share when they start an operation and when they give it back.
//
// Thread safety: none.
#pragma once

#include "loop/completion_queue.hpp"

namespace shmpool::loop {

/// Prepares `op` for a fresh run.
inline void set_started(operation& op) noexcept {
  op.result = 0;
  op.done = 0;
  op.pending = true;
  op.cancelling = false;
  op.next = op.prev = nullptr;
  op.where = operation::place::waiting;
  op.parked = false;
}

/// Hands `op` back to its owner, who may free it from here on.
inline operation* give_back(operation& op) noexcept {
  op.pending = false;
  op.cancelling = false;
  op.where = operation::place::nowhere;
  return &op;
}

inline bool is_poll(const operation& op) noexcept {
  return op.what == operation::kind::poll_in || op.what == operation::kind::poll_out;
}

}  // namespace shmpool::loop
