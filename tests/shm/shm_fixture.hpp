// What the tests of shared memory have in common: a look into /dev/shm, child processes, a private /dev/shm, and the
// check that no pool of a test has left a name behind.
#pragma once

#include "shm/mapping.hpp"
#include "shm/pool_lock.hpp"
#include "shm/store.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace shmpool::shm {

inline constexpr std::size_t KiB = 1024;
inline constexpr std::size_t MiB = 1024 * KiB;

inline std::string path_of(const std::string& name) {
  return std::string{shm_directory()} + "/" + name;
}
inline bool exists(const std::string& name) {
  return ::access(path_of(name).c_str(), F_OK) == 0;
}

/// All names under /dev/shm that belong to the pool, sorted.
inline std::vector<std::string> names_of(std::uint64_t pool_id) {
  const std::string lock = lock_name(pool_id);
  const std::string prefix = lock.substr(0, lock.rfind('.') + 1);
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(shm_directory(), error)) {
    const std::string name = entry.path().filename();
    if (name.starts_with(prefix)) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// How many pages of the range are in this process's page tables: those cost no page fault.
inline std::size_t pages_in_place(const std::byte* data, std::size_t bytes) {
  const unique_fd pagemap{::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)};
  std::vector<std::uint64_t> entries(bytes / page_bytes);
  const auto first = reinterpret_cast<std::uintptr_t>(data) / page_bytes;
  const std::size_t length = entries.size() * sizeof entries[0];
  const ssize_t got = ::pread(pagemap.get(), entries.data(), length, static_cast<off_t>(first * sizeof entries[0]));
  if (got != static_cast<ssize_t>(length)) throw std::system_error(errno, std::system_category(), "/proc/self/pagemap");
  return static_cast<std::size_t>(
      std::count_if(entries.begin(), entries.end(), [](std::uint64_t entry) { return (entry >> 63) != 0; }));
}

/// A pipe; reading blocks until the other side has written or is gone.
class pipe_pair {
 public:
  pipe_pair() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw std::system_error(errno, std::system_category(), "pipe2");
    read_ = unique_fd{ends[0]};
    write_ = unique_fd{ends[1]};
  }
  void close_read() { read_.reset(); }
  void close_write() { write_.reset(); }
  template <class T>
  void put(const T& value) {
    if (::write(write_.get(), &value, sizeof value) != static_cast<ssize_t>(sizeof value)) ::_exit(98);
  }
  template <class T>
  bool get(T& value) {
    return ::read(read_.get(), &value, sizeof value) == static_cast<ssize_t>(sizeof value);
  }
  /// True if all writers are gone by now.
  bool ended() const {
    pollfd watched{.fd = read_.get(), .events = POLLIN, .revents = 0};
    return ::poll(&watched, 1, 0) > 0 && (watched.revents & POLLHUP) != 0;
  }
  /// Waits until all writers are gone; false if something comes instead.
  bool at_end() {
    char byte;
    return ::read(read_.get(), &byte, 1) == 0;
  }

 private:
  unique_fd read_, write_;
};

/// A forked process that runs `body`, which returns its exit code. Killed and waited for by the destructor.
class child {
 public:
  template <class Body>
  explicit child(Body body) {
    pid_ = ::fork();
    if (pid_ < 0) throw std::system_error(errno, std::system_category(), "fork");
    if (pid_ != 0) return;
    ::alarm(60);  // a hang is a failure
    int code = 99;
    try {
      code = body();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "child: %s\n", error.what());
    }
    ::_exit(code);
  }
  child(const child&) = delete;
  ~child() { kill(); }
  void kill() {
    if (pid_ > 0) ::kill(pid_, SIGKILL);
    wait();
  }
  /// The exit code, or 128 and the signal.
  int wait() {
    if (pid_ <= 0) return -1;
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  pid_t pid_ = -1;
};

/// The exit code of a child that runs `body`, or 128 and the signal that ended it.
template <class Body>
int run_in_child(Body body) {
  return child{std::move(body)}.wait();
}

inline constexpr int not_permitted = 77;

/// Gives the calling process (a child) a /dev/shm of its own: a tmpfs with these options, or an empty directory that
/// cannot be used if `options` is null. False if the machine does not permit it.
inline bool take_private_shm(const char* options) {
  const uid_t uid = ::geteuid();
  const gid_t gid = ::getegid();
  if (uid != 0) {
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
    std::ofstream{"/proc/self/uid_map"} << uid << ' ' << uid << " 1";
    std::ofstream{"/proc/self/setgroups"} << "deny";
    std::ofstream{"/proc/self/gid_map"} << gid << ' ' << gid << " 1";
  } else if (::unshare(CLONE_NEWNS) != 0) {
    return false;
  }
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return false;
  if (options != nullptr) return ::mount("tmpfs", shm_directory(), "tmpfs", MS_NOSUID | MS_NODEV, options) == 0;
  // /dev itself without an shm in it.
  return ::mount("tmpfs", "/dev", "tmpfs", 0, "size=64k") == 0;
}

/// Runs `body` in a child with a private /dev/shm and expects it to return 0.
template <class Body>
int run_in_private_shm(const char* options, Body body) {
  return child{[&] { return take_private_shm(options) ? body() : not_permitted; }}.wait();
}
#define SHMPOOL_EXPECT_IN_PRIVATE_SHM(options, ...)                                       \
  if (const int code = run_in_private_shm(options, __VA_ARGS__); code == not_permitted) { \
    GTEST_SKIP() << "a private mount namespace is not permitted here";                    \
  } else EXPECT_EQ(code, 0) << "exit code of the child, or 128 and a signal; its checks are on stderr"

/// For children, where no assertion can report: says which check failed and leaves the body with 1.
#define SHMPOOL_CHECK(condition)                                                \
  if (!(condition)) {                                                           \
    std::fprintf(stderr, "%s:%d: child: %s\n", __FILE__, __LINE__, #condition); \
    return 1;                                                                   \
  }

class shm_fixture : public ::testing::Test {
 protected:
  void TearDown() override {
    for (const std::uint64_t pool : pools_) {
      EXPECT_EQ(names_of(pool), std::vector<std::string>{}) << "left behind";
      unlink_pool(pool);
    }
  }

  std::shared_ptr<store> open(store_options options = {}) {
    if (options.cache_bytes == 0) options.cache_bytes = 64 * MiB;
    auto opened = store::open(options);
    watch(opened->pool_id());
    return opened;
  }
  std::shared_ptr<store> open_without_cache() {
    auto opened = store::open({});
    watch(opened->pool_id());
    return opened;
  }
  /// Nothing of this pool may be left when the test ends.
  void watch(std::uint64_t pool_id) { pools_.push_back(pool_id); }

 private:
  std::vector<std::uint64_t> pools_;
};

inline file_segment& segment_of(const shm_handle& handle) {
  return static_cast<pool_segment&>(*handle.get()).file();
}

}  // namespace shmpool::shm
