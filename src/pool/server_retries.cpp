#include "pool/server_retries.hpp"

#include "process/assert.hpp"

namespace shmpool::pool {

bool server_retries::begin_attempt(bool wanted) noexcept {
  reconnect_due_ = time_point::max();
  return wanted && ++attempts_ <= most_attempts;
}

void server_retries::attempt_failed(time_point now) noexcept {
  SHMPOOL_ASSERT(attempts_ != 0 && attempts_left());
  reconnect_due_ = now + first_pause * (1U << (attempts_ - 1));
}

bool server_retries::send_refused(time_point now) noexcept {
  resend_due_ = now + message_pause;
  sending_.refused(now);
  if (!sending_.is_over(now)) return false;
  sending_ = kernel_patience();
  sending_.refused(now);
  return true;
}

bool server_retries::resend_is_due(time_point now) noexcept {
  if (!is_due(resend_due_, now)) return false;
  resend_due_ = time_point::max();
  return true;
}

bool server_retries::receive_refused(time_point now) noexcept {
  receiving_.refused(now);
  if (receiving_.is_over(now)) return true;
  receive_due_ = now + message_pause;
  return false;
}

void server_retries::received() noexcept {
  receiving_.accepted();
  receive_due_ = time_point::max();
}

bool server_retries::receive_is_due(time_point now) noexcept {
  if (!is_due(receive_due_, now)) return false;
  receive_due_ = time_point::max();
  return true;
}

void server_retries::server_lost() noexcept {
  sent();
  received();
}

}  // namespace shmpool::pool
