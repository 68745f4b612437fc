// The retries of a pool's socket to its fork server: when it tries again to connect to another server, to send a
// message and to receive one, and when it gives up.
//
// A number of attempts limits connecting, and the pause after each is longer than the one before: each may start a
// process. The patience with the kernel limits sending and receiving: the message is still there, and another try
// costs one call.
//
// Decides only: it does no I/O, and the time is an argument. Thread safety: none; the engine's lock guards it.
#pragma once

#include "pool/kernel_patience.hpp"
#include "process/clock.hpp"

#include <algorithm>
#include <chrono>

namespace shmpool::pool {

class server_retries {
 public:
  using time_point = monotonic_clock::time_point;

  /// How many attempts to connect may be made without a word from any server.
  static constexpr unsigned most_attempts = 8;
  /// The pause after the first attempt that failed. It doubles with each further one.
  static constexpr std::chrono::milliseconds first_pause{10};
  /// The pause before a message that the kernel refused to send or to receive is tried again.
  static constexpr std::chrono::milliseconds message_pause{2};

  // ---- Connecting.

  /// The server is gone, and with it the messages that the kernel has refused.
  void server_lost() noexcept;
  /// A server was lost, or reconnect_is_due(). True if an attempt to connect is to be made, which counts; false if no
  /// server is `wanted`, or there were as many attempts as there may be.
  bool begin_attempt(bool wanted) noexcept;
  /// False if the attempt that was begun was the last: do not call attempt_failed() then.
  bool attempts_left() const noexcept { return attempts_ < most_attempts; }
  /// The attempt has failed, and another one is to be made later.
  void attempt_failed(time_point now) noexcept;
  /// A server has sent a message, so it can live: attempts are counted anew.
  void server_spoke() noexcept { attempts_ = 0; }
  /// True if begin_attempt() is to be called.
  bool reconnect_is_due(time_point now) const noexcept { return is_due(reconnect_due_, now); }

  // ---- Sending and receiving.

  /// The kernel has refused to send a message that must not be lost. True if it has for too long, and that is to be
  /// reported; the message is sent again nevertheless, and the time until the next report begins.
  bool send_refused(time_point now) noexcept;
  /// The kernel has taken a message, or the message was dropped.
  void sent() noexcept { sending_.accepted(); }
  /// True, once, if messages are to be sent again.
  bool resend_is_due(time_point now) noexcept;

  /// The kernel has refused to receive. True if it has for too long, and the server is to be given up. Otherwise do not
  /// wait for the socket, which stays readable, but for receive_is_due().
  bool receive_refused(time_point now) noexcept;
  /// The kernel has received a message or the end of the stream, or has nothing; or the server is given up.
  void received() noexcept;
  /// True, once, if it is time to receive again.
  bool receive_is_due(time_point now) noexcept;
  /// True if the kernel keeps back what the server may have said.
  bool is_receiving_refused() const noexcept { return receiving_.is_refused(); }

  /// When the first of reconnect_is_due(), resend_is_due() and receive_is_due() turns true; the end of time if none
  /// does.
  time_point due() const noexcept { return std::min({reconnect_due_, resend_due_, receive_due_}); }

 private:
  static bool is_due(time_point due, time_point now) noexcept { return due != time_point::max() && now >= due; }

  unsigned attempts_ = 0;  // to connect, since the last message of a server
  // When to try again; the end of time: not.
  time_point reconnect_due_ = time_point::max();
  time_point resend_due_ = time_point::max();
  time_point receive_due_ = time_point::max();
  kernel_patience sending_, receiving_;
};

}  // namespace shmpool::pool
