// An operation without a handler.
//
// Thread safety: none.
#pragma once

#include <shmpool/detail/engine.hpp>

#include <cstdint>

namespace shmpool::pool {

class fake_operation final : public detail::operation {
 public:
  explicit fake_operation(std::uint64_t key = 0) { cancel_key = key; }
  void complete(detail::delivery) override {}
  void destroy() noexcept override { ++destroyed; }
  int destroyed = 0;
};

}  // namespace shmpool::pool
