// The interface of the two completion queues, io_uring and epoll: operations are started, submitted together, and
// reaped when the queue's descriptor turns readable. The engine sees no difference between the two.
//
// Thread safety: none; the engine's lock serialises all calls. They may come from different threads.
#pragma once

#include <shmpool/backend.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <system_error>

namespace shmpool::loop {

/// One request. Its owner keeps it, its buffer and its descriptor alive until it was reaped. Receives and sends are for
/// sockets, in blocking or non-blocking mode; waits are for every descriptor that poll(2) accepts. Operations of one
/// direction on one descriptor may end in any order, so bytes that must stay in order need one send at a time.
struct operation {
  enum class kind : std::uint8_t {
    receive,   ///< read once what is there, up to size bytes; result 0 is end of stream
    send,      ///< write all of size bytes; result is size or a negative errno, with `done` bytes written before it
    poll_in,   ///< wait until fd is readable (or hung up); result >= 0
    poll_out,  ///< wait until fd is writable (or hung up); result >= 0
  };
  kind what = kind::poll_in;
  int fd = -1;
  std::byte* data = nullptr;
  std::size_t size = 0;   ///< at most INT_MAX for a send, which fails with -EINVAL otherwise
  void* owner = nullptr;  ///< for the code that started it; the queue does not look at it

  // Written by the queue.
  int result = 0;             ///< bytes moved or 0, or a negative errno; -ECANCELED after cancel()
  std::size_t done = 0;       ///< send: bytes written so far
  bool pending = false;       ///< started and not yet reaped
  bool cancelling = false;    ///< cancel() was called and it is not yet reaped
  operation* next = nullptr;  ///< link in the queue's lists
  operation* prev = nullptr;

  // Private to the queue: where a pending operation is.
  enum class place : std::uint8_t {
    nowhere,  ///< not pending
    waiting,  ///< started, not yet handed to the kernel
    armed,    ///< the kernel has it
    ended,    ///< it has its result and waits for reap()
  };
  place where = place::nowhere;
  bool parked = false;  ///< the kernel is asked for readiness first, and for the operation itself afterwards
};

class completion_queue {
 public:
  virtual ~completion_queue() = default;

  /// Readable whenever reap() may have something to return. Owned by the queue; never read from it.
  virtual int descriptor() const noexcept = 0;
  /// "io_uring" or "epoll".
  virtual const char* name() const noexcept = 0;

  /// Takes note of an operation; it begins at the next submit() at the latest. `op.pending` is true from here until
  /// reap() returned it. Never blocks and never fails: an error becomes the operation's result.
  virtual void start(operation& op) = 0;
  /// Asks for an early end; the operation is still reaped, with -ECANCELED or with its result if that was faster. Takes
  /// effect at the next submit(). No effect if the operation is not pending.
  virtual void cancel(operation& op) = 0;
  /// Hands everything that was started to the kernel, in one system call where the backend can. Operations that end at
  /// once are ready for reap() when it returns. After an error (the kernel is short of memory, say) nothing is lost:
  /// operations that could not be handed over are kept for the next submit() or reap().
  virtual std::error_code submit() = 0;
  /// The next operation that has ended, or null. Never blocks. The descriptor stays readable until it returned null.
  virtual operation* reap() = 0;
  /// Cancels everything and waits until nothing is pending; the operations are not reported. For teardown. Operations
  /// have pending == false afterwards, and the kernel writes into no buffer any more. In a process that was forked
  /// after the queue was made it only forgets the operations and leaves those of the parent alone. So does the
  /// destructor.
  virtual void cancel_all() noexcept = 0;
};

/// Makes the queue that `which` asks for; `automatic` tries a real round trip through a ring once per process and
/// settles for epoll if that fails. Throws std::system_error that says why (naming the system call).
std::unique_ptr<completion_queue> make_completion_queue(backend which);

}  // namespace shmpool::loop
