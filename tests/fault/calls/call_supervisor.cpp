#include "call_supervisor.hpp"

#include "support/processes.hpp"
#include "wire/fd_passing.hpp"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <vector>

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV  // Linux 5.19
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

namespace shmpool::testing {

namespace {

int install(const sock_fprog& program, unsigned long flags) {
  return static_cast<int>(::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program));
}

/// By sendmmsg: sendmsg may be under the filter already, and nobody answers yet.
bool send_descriptor(int channel, int fd) {
  char byte = 0;
  iovec part{&byte, 1};
  union {
    cmsghdr alignment;
    char bytes[CMSG_SPACE(sizeof(int))];
  } control{};
  mmsghdr message{};
  message.msg_hdr.msg_iov = &part;
  message.msg_hdr.msg_iovlen = 1;
  message.msg_hdr.msg_control = control.bytes;
  message.msg_hdr.msg_controllen = sizeof control.bytes;
  cmsghdr* header = CMSG_FIRSTHDR(&message.msg_hdr);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fd);
  std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  return ::sendmmsg(channel, &message, 1, MSG_NOSIGNAL) == 1;
}

}  // namespace

bool hand_over_calls(std::span<const int> numbers, int channel) {
  std::vector<sock_filter> program;
  program.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
  for (const int number : numbers) {
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(number), 0, 1));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF));
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  const sock_fprog filter{.len = static_cast<unsigned short>(program.size()), .filter = program.data()};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return false;
  // A call that the supervisor has begun to look at must not be interrupted and made again: it would be counted twice.
  unique_fd listener{install(filter, SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)};
  if (!listener && errno == EINVAL) listener = unique_fd{install(filter, SECCOMP_FILTER_FLAG_NEW_LISTENER)};
  return listener && send_descriptor(channel, listener.get());
}

bool call_supervisor::take_listener(int channel) {
  std::array<std::byte, 1> byte{};
  std::vector<unique_fd> received;
  if (wire::receive_with_fds(channel, byte, received, 0) != 1 || received.size() != 1) return false;
  listener_ = std::move(received.front());
  return true;
}

void call_supervisor::answer() {
  seccomp_notif asked{};
  if (::ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_RECV, &asked) != 0) return;  // whoever called is dead
  seccomp_notif_resp reply{};
  reply.id = asked.id;
  reply.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
  if (const auto whose = role_of(static_cast<pid_t>(asked.pid))) {
    const unsigned count = ++seen_[{*whose, asked.data.nr}];
    if (target_ && target_->whose == *whose && target_->number == asked.data.nr &&
        (target_->for_good ? count >= target_->occurrence : count == target_->occurrence)) {
      reply.flags = 0;
      reply.error = -target_->error;
      ++failed_;
    }
  }
  ::ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_SEND, &reply);
}

/// Nothing if it is gone, or is nobody's.
std::optional<role> call_supervisor::role_of(pid_t pid) const {
  if (pid == program_) return role::parent;
  process self, above;
  if (!look_at(pid, self)) return std::nullopt;
  if (self.parent == program_) return self.name == "shmpool-server" ? role::server : role::starter;
  if (look_at(self.parent, above) && above.parent == program_) return role::worker;
  return std::nullopt;
}

}  // namespace shmpool::testing
