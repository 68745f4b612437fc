#include "wire/fd_passing.hpp"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <new>

namespace shmpool::wire {

namespace {

union control_buffer {
  cmsghdr alignment;
  char bytes[CMSG_SPACE(sizeof(int) * max_passed_fds)];
};

}  // namespace

ssize_t send_with_fds(int socket, std::span<const std::byte> bytes, std::span<const int> fds, int flags) noexcept {
  if (fds.size() > max_passed_fds) return -EINVAL;
  iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  control_buffer control{};
  if (!fds.empty()) {
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
  }
  for (;;) {
    const ssize_t sent = ::sendmsg(socket, &message, flags | MSG_NOSIGNAL);
    if (sent >= 0) return sent;
    if (errno != EINTR) return -errno;
  }
}

ssize_t receive_with_fds(int socket, std::span<std::byte> bytes, std::vector<unique_fd>& fds, int flags,
                         bool* dropped) noexcept {
  iovec part{bytes.data(), bytes.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  control_buffer control{};
  message.msg_control = control.bytes;
  message.msg_controllen = sizeof control.bytes;
  try {
    fds.reserve(fds.size() + max_passed_fds);  // received descriptors cannot be given back
  } catch (const std::bad_alloc&) {
    return -ENOMEM;
  }
  ssize_t received;
  do {
    received = ::recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
  } while (received < 0 && errno == EINTR);
  if (received < 0) return -errno;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i != count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
      fds.emplace_back(fd);
    }
  }
  const bool cut_off = (message.msg_flags & MSG_CTRUNC) != 0;
  if (dropped) *dropped = cut_off;
  else if (cut_off) return -EMFILE;
  return received;
}

}  // namespace shmpool::wire
