// How likely a victim of the out-of-memory killer the next worker is.
//
// Thread safety: none; the server has one thread.
#pragma once

#include "process/unique_fd.hpp"

namespace shmpool::server {

/// How soon the out-of-memory killer takes this process. A child inherits that: to raise it in the server around a fork
/// costs two short writes, while to open the file in each worker costs more than anything else that a worker does to
/// begin. Without permission or without /proc it does nothing, and a worker is merely as likely a victim as its parent.
class oom_score {
 public:
  oom_score() noexcept;
  /// Above that of the application, if it is not high already.
  void raise() noexcept { write(raised_); }
  void restore() noexcept { write(own_); }

 private:
  void write(int score) noexcept;

  unique_fd file_;
  int own_ = 0;
  int raised_ = 500;
};

}  // namespace shmpool::server
