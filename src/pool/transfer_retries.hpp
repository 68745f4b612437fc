// The retries of one worker's transfers: when a call that the kernel has refused is made again, and when the worker
// counts as out of reach. No transfer says that it has worked, so a time without failures does.
//
// Decides only: it does no I/O, and the time is an argument. Thread safety: none; the engine's lock guards it.
#pragma once

#include "pool/kernel_patience.hpp"
#include "process/clock.hpp"

#include <chrono>
#include <string>
#include <system_error>

namespace shmpool::pool {

class transfer_retries {
 public:
  using time_point = monotonic_clock::time_point;

  /// The pause before a transfer is tried again.
  static constexpr std::chrono::milliseconds pause{2};
  /// After so long a time without a failure, transfers have worked.
  static constexpr std::chrono::milliseconds calm{200};

  /// A transfer has failed: `call` is a literal, `error` an errno.
  void failed(const char* call, int error, time_point now) noexcept {
    if (last_ == never || now - last_ > calm) since_ = now;
    last_ = now;
    due_ = now + pause;
    call_ = call;
    error_ = error;
  }
  /// True if transfers wait for due().
  bool is_waiting() const noexcept { return due_ != never; }
  /// When to try again; the end of time if nothing has failed.
  time_point due() const noexcept { return due_; }
  /// True, once, if transfers are to be tried again.
  bool is_due(time_point now) noexcept {
    if (due_ == never || now < due_) return false;
    due_ = never;
    return true;
  }
  /// True if transfers have failed for as long as the kernel may refuse.
  bool is_over(time_point now) const noexcept { return last_ != never && now - since_ >= kernel_patience::limit; }
  /// The last failure: "sendmsg: Cannot allocate memory".
  std::string why() const { return std::string(call_) + ": " + std::system_category().message(error_); }

 private:
  static constexpr time_point never = time_point::max();

  time_point since_ = never, last_ = never, due_ = never;
  const char* call_ = "";
  int error_ = 0;
};

}  // namespace shmpool::pool
