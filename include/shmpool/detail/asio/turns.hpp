// Runs the pool's functions in turns of the user's loop: between the other handlers that are due, and never from inside
// the call that asks for them.
//
// Thread safety: all members may be called from any thread.
#pragma once

#include <shmpool/asio.hpp>
#include <shmpool/detail/engine.hpp>

#include <cstddef>
#include <memory>
#include <optional>
#include <typeinfo>
#include <utility>

namespace shmpool::detail {
inline namespace SHMPOOL_ASIO_ABI {

/// Memory for the turn of an operation: the operation's turn_memory, if that is enough. Asio frees the memory of a
/// function before it calls or destroys the function, which owns the operation.
template <class T>
class turn_allocator {
 public:
  using value_type = T;

  explicit turn_allocator(operation& of) noexcept : of_(&of) {}
  template <class Other>
  turn_allocator(const turn_allocator<Other>& other) noexcept : of_(other.of_) {}

  T* allocate(std::size_t count) {
    if (fits(count)) return reinterpret_cast<T*>(of_->turn_memory);
    return std::allocator<T>().allocate(count);
  }
  void deallocate(T* memory, std::size_t count) noexcept {
    if (!fits(count)) std::allocator<T>().deallocate(memory, count);
  }

  template <class Other>
  bool operator==(const turn_allocator<Other>& other) const noexcept {
    return of_ == other.of_;
  }

 private:
  template <class>
  friend class turn_allocator;

  /// Asio makes one object for one function.
  static constexpr bool fits(std::size_t count) noexcept {
    return count == 1 && sizeof(T) <= sizeof(operation::turn_memory) && alignof(T) <= alignof(std::max_align_t);
  }

  operation* of_;
};

class turns {
 public:
  explicit turns(const net::any_io_executor& executor)
      : any_(net::prefer(net::require(executor, net::execution::blocking.never), net::execution::relationship.fork)) {
    // Most pools run on this executor. Any other allocates memory twice for each turn, as its type is not known here.
    // target() does not compare the types.
    using loop = net::io_context::executor_type;
    if (executor.target_type() == typeid(loop)) loop_.emplace(*executor.target<loop>());
  }

  /// Calls `function` in a turn of its own. Throws what the executor throws.
  template <class Function>
  void execute(Function function) const {
    any_.execute(std::move(function));
  }

  /// Completes an operation that has ended in a turn of its own; destroys it with the context if that goes first, or if
  /// this throws what the executor throws.
  void complete(operation& op) const {
    completion completing(op);
    if (loop_) net::post(*loop_, std::move(completing));
    else any_.execute(std::move(completing));
  }

 private:
  class completion {
   public:
    using allocator_type = turn_allocator<std::byte>;

    explicit completion(operation& op) noexcept : memory_(op) { ended_.push(op); }
    allocator_type get_allocator() const noexcept { return memory_; }
    void operator()() {
      if (operation* op = ended_.pop()) op->complete(delivery::dispatch);
    }

   private:
    completion_list ended_;  // holds one operation
    allocator_type memory_;
  };

  net::any_io_executor any_;  // with the properties that post() would ask for
  std::optional<net::io_context::executor_type> loop_;
};

}  // namespace SHMPOOL_ASIO_ABI
}  // namespace shmpool::detail
