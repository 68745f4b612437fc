// The right to submit one task to a pool that bounds its pending tasks (pool_options::when_full = overload::wait).
//
// Thread safety: none; a permit belongs to one thread at a time.
#pragma once

#include <shmpool/asio.hpp>
#include <shmpool/detail/asio/pool_driver.hpp>
#include <shmpool/detail/engine.hpp>

#include <cstdint>
#include <memory>
#include <utility>

namespace shmpool::detail {
inline namespace SHMPOOL_ASIO_ABI {

/// Goes back to the pool when it is destroyed, unless a task was submitted with it.
class permit {
 public:
  /// For a pool without a bound: nothing is needed there, and nothing goes back.
  permit() noexcept = default;
  /// `number` is the permit that engine::acquire() gave for `op`.
  permit(std::shared_ptr<pool_driver> driver, const operation& op, std::uint64_t number) noexcept
      : driver_(std::move(driver)), cancel_key_(op.cancel_key), number_(number) {}
  permit(permit&& other) noexcept
      : driver_(std::move(other.driver_)), cancel_key_(other.cancel_key_), number_(std::exchange(other.number_, 0)) {}
  permit& operator=(permit) = delete;
  ~permit() {
    if (number_ != 0) driver_->follow(driver_->engine().release(number_, cancel_key_));
  }

  /// For engine::submit(); 0 without a bound.
  std::uint64_t number() const noexcept { return number_; }
  /// The engine has taken a task with it.
  void spent() noexcept { number_ = 0; }

 private:
  std::shared_ptr<pool_driver> driver_;
  std::uint64_t cancel_key_ = 0;
  std::uint64_t number_ = 0;
};

}  // namespace SHMPOOL_ASIO_ABI
}  // namespace shmpool::detail
