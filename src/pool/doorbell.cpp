#include "pool/doorbell.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace shmpool::pool {

doorbell::doorbell() noexcept {
  // O_DIRECT: packets, so that whatever a stray write puts in, the next number begins where it should.
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK | O_DIRECT) != 0) return;
  to_hear_ = unique_fd(ends[0]);
  to_ring_ = unique_fd(ends[1]);
}

std::optional<std::uint32_t> doorbell::next() noexcept {
  std::uint32_t number = 0;
  for (;;) {
    const ssize_t size = ::read(to_hear_.get(), &number, sizeof number);
    if (size > 0) return size == sizeof number ? number : 0;
    if (size == 0 || errno != EINTR) return std::nullopt;
  }
}

}  // namespace shmpool::pool
