// A file descriptor and its owner.
//
// Thread safety: as for int.
#pragma once

#include <unistd.h>

#include <utility>

namespace shmpool {

class unique_fd {
 public:
  unique_fd() noexcept = default;
  explicit unique_fd(int fd) noexcept : fd_(fd) {}
  unique_fd(unique_fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  unique_fd& operator=(unique_fd other) noexcept {
    swap(other);
    return *this;
  }
  ~unique_fd() {
    if (fd_ >= 0) ::close(fd_);  // no retry on EINTR: Linux has closed it already
  }
  int get() const noexcept { return fd_; }
  int release() noexcept { return std::exchange(fd_, -1); }
  void reset() noexcept { unique_fd{}.swap(*this); }
  void swap(unique_fd& other) noexcept { std::swap(fd_, other.fd_); }
  explicit operator bool() const noexcept { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

}  // namespace shmpool
