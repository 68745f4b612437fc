// What a task can do that does not keep to the rules: it finds the socket and the control memory of its own worker, and
// says there what it likes.
//
// Thread safety: the functions are for the thread that runs the task.
#pragma once

#include "wire/control_page.hpp"
#include "wire/frame.hpp"

#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

namespace shmpool::testing::hostile {

/// The worker's socket to its parent: the only stream socket that it has.
inline int own_socket() {
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    const int fd = std::stoi(entry.path().filename());
    int type = 0;
    socklen_t size = sizeof type;
    if (fd > 2 && ::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM) return fd;
  }
  return -1;
}

inline wire::control_page* own_control_page() {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find("shmpool.control") == std::string::npos) continue;
    unsigned long begin = 0;
    if (std::sscanf(line.c_str(), "%lx-", &begin) == 1) return reinterpret_cast<wire::control_page*>(begin);
  }
  return nullptr;
}

/// The header of an answer to the task that runs.
inline wire::frame_header answer(wire::frame_type type) {
  wire::frame_header header;
  header.type = type;
  wire::control_page& page = *own_control_page();
  for (std::uint16_t i = 0; i != wire::slot_count; ++i) {
    const auto word = page.slots[i].word.load();
    if ((word & 3) != static_cast<std::uint64_t>(wire::slot_state::started)) continue;
    header.task = word >> 2;
    header.slot = i;
  }
  return header;
}

/// The pipe to the pool's bell: the only pipe that it has.
inline int own_bell() {
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    const std::string what = std::filesystem::read_symlink(entry.path(), gone).string();
    const int fd = std::stoi(entry.path().filename());
    if (fd > 2 && what.rfind("pipe:", 0) == 0) return fd;
  }
  return -1;
}

/// Closes the bell, so that the worker's own replies follow the lies on the socket.
inline void drop_bell() {
  if (const int bell = own_bell(); bell >= 0) ::close(bell);
}

/// Says what the worker itself would before it sends something: that the parent has taken all that came before. Without
/// it, the first lie would be found for its place in the stream alone wherever the parent has looked at the ring.
inline void catch_up() {
  static bool done = false;
  if (std::exchange(done, true)) return;
  wire::control_page& page = *own_control_page();
  // Who looks at the ring takes what is there before it reads this. There is no event to wait for.
  while (page.parent_sleeps.load() % 2 == 0 || page.reply_taken.load() != page.reply_end.load()) ::sched_yield();
  drop_bell();
  wire::frame_header header;
  header.type = wire::frame_type::skipped;
  header.value = page.reply_end.load();
  [[maybe_unused]] auto sent = ::send(own_socket(), &header, sizeof header, MSG_NOSIGNAL);
}

inline void say(const void* bytes, std::size_t size) {
  catch_up();
  [[maybe_unused]] auto sent = ::send(own_socket(), bytes, size, MSG_NOSIGNAL);
}

inline void say(const wire::frame_header& header, std::vector<wire::segment_ref> segments = {}, std::size_t body = 0) {
  std::vector<std::byte> bytes;
  wire::append_frame(bytes, header, segments, std::vector<std::byte>(body, std::byte{0xa5}));
  say(bytes.data(), bytes.size());
}

inline void say_raw(wire::frame_header header) {
  say(&header, sizeof header);
}

inline wire::segment_ref result_in(std::uint64_t id, std::uint64_t offset, std::uint64_t length) {
  wire::segment_ref ref;
  ref.id = id;
  ref.offset = offset;
  ref.length = length;
  ref.flags = wire::flag_result;
  return ref;
}

}  // namespace shmpool::testing::hostile
