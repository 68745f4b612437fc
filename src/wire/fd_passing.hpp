// sendmsg and recvmsg with descriptors attached. A received descriptor has an owner at once; truncation is an error.
//
// Thread safety: functions without state; each call makes one system call, or more if it is interrupted.
#pragma once

#include "process/unique_fd.hpp"

#include <cstddef>
#include <span>
#include <system_error>
#include <vector>

namespace shmpool::wire {

inline constexpr std::size_t max_passed_fds = 64;

/// Sends `bytes` with `fds`; returns the bytes sent or a negative errno. MSG_NOSIGNAL is added to `flags`.
ssize_t send_with_fds(int socket, std::span<const std::byte> bytes, std::span<const int> fds, int flags) noexcept;

/// Receives into `bytes` and appends descriptors to `fds`; returns the bytes received, 0 at the end of the stream, or a
/// negative errno. If the kernel had to drop descriptors (MSG_CTRUNC) it returns -EMFILE, and the bytes are of no use;
/// given `dropped`, it sets that instead.
ssize_t receive_with_fds(int socket, std::span<std::byte> bytes, std::vector<unique_fd>& fds, int flags,
                         bool* dropped = nullptr) noexcept;

}  // namespace shmpool::wire
