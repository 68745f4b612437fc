// How likely a victim of the out-of-memory killer the next worker is.
//
// Thread safety: none; the server has one thread.
#pragma once

#include "process/unique_fd.hpp"

namespace shmpool::server {

/// The out-of-memory killer's score of this process. A child inherits it: raising it in the server around a fork costs
/// two short writes, while opening the file in each worker would cost more than any other step of a worker's start.
/// Without permission or without /proc it does nothing, and a worker is merely as likely a victim as its parent.
class oom_score {
 public:
  oom_score() noexcept;
  /// Raises the score above the application's, if it is not high already.
  void raise() noexcept { write(raised_); }
  void restore() noexcept { write(own_); }

 private:
  void write(int score) noexcept;

  unique_fd file_;
  int own_ = 0;
  int raised_ = 500;
};

}  // namespace shmpool::server
