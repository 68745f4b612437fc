// The owner of a file descriptor that a completion queue opened.
//
// Thread safety: as for int.
#pragma once

#include <unistd.h>

namespace shmpool::loop {

class unique_fd {
 public:
  explicit unique_fd(int fd) noexcept : fd_(fd) {}
  unique_fd(const unique_fd&) = delete;
  unique_fd& operator=(const unique_fd&) = delete;
  ~unique_fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const noexcept { return fd_; }

 private:
  int fd_;
};

}  // namespace shmpool::loop
