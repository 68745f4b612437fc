// The completion queue on epoll, for kernels and containers without io_uring. Sends are tried when they are submitted;
// everything else waits for readiness and is then done by reap().
//
// Thread safety: none; the engine's lock serialises all calls. They may come from different threads.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "loop/completion_queue.hpp"
#include "loop/operation_list.hpp"
#include "process/fork_mark.hpp"
#include "process/unique_fd.hpp"

namespace shmpool::loop {

class epoll_queue final : public completion_queue {
 public:
  /// Throws std::system_error if epoll or eventfd descriptors cannot be made.
  epoll_queue();
  ~epoll_queue() override;

  int descriptor() const noexcept override { return epoll_.get(); }
  const char* name() const noexcept override { return "epoll"; }
  void start(operation& op) override;
  void cancel(operation& op) override;
  std::error_code submit() override;
  operation* reap() override;
  void cancel_all() noexcept override;

 private:
  // The operations that wait on one descriptor, oldest first. Interest is one-shot: once it has fired, the kernel's
  // registration is silent, whatever becomes of the descriptor. So no registration has to be removed (and added again)
  // per operation, and one that stays behind when the descriptor is closed while another process shares it can neither
  // fire nor be mistaken for the next descriptor of that number.
  struct watch {
    operation_list readers;
    operation_list writers;
    std::uint32_t interest = 0;  // events that the kernel would report now
    bool registered = false;     // as far as we know; the descriptor may have been closed since
  };

  void begin(operation& op);
  void enqueue(operation& op);
  void update(int fd, watch& watched) noexcept;
  int set_interest(int fd, watch& watched, std::uint32_t wanted) noexcept;
  void dispatch(int fd, std::uint32_t events) noexcept;
  void advance(operation_list& list, std::uint32_t events) noexcept;
  void refuse(operation_list& list, int error) noexcept;
  void end(operation& op, int result) noexcept;
  std::error_code raise_wake() noexcept;

  unique_fd epoll_;
  unique_fd wake_;  // always readable; armed while operations wait in ended_
  bool wake_armed_ = false;
  fork_mark made_here_;
  std::unordered_map<int, watch> watches_;
  operation_list waiting_;  // started, not submitted
  operation_list ended_;    // for reap()
};

}  // namespace shmpool::loop
