// Owners of descriptors and mappings, and the files behind segments: thin wrappers around system calls, no state.
//
// Thread safety: free functions may be called from any thread; an owner belongs to one thread at a time.
#include "shm/mapping.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <limits>

#ifndef MFD_NOEXEC_SEAL  // Linux 6.3; older headers do not know it
#define MFD_NOEXEC_SEAL 0x0008U
#endif

namespace shmpool::shm {
namespace {

std::error_code last_error() noexcept {
  return {errno, std::system_category()};
}

/// A path under the shm directory, built without allocating: names are unlinked where nothing may throw.
class shm_path {
 public:
  explicit shm_path(const std::string& name) noexcept {
    const int length = std::snprintf(text_.data(), text_.size(), "%s/%s", shm_directory(), name.c_str());
    if (length < 0 || static_cast<std::size_t>(length) >= text_.size()) text_[0] = '\0';  // every call: ENOENT
  }
  const char* c_str() const noexcept { return text_.data(); }

 private:
  std::array<char, 288> text_;
};

unique_fd open_path(const char* path, int flags, std::error_code& error) noexcept {
  for (int tries = 0;; ++tries) {
    unique_fd fd{::open(path, flags | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR)};
    if (!fd && errno == EINTR) continue;
    if (!fd && errno == EWOULDBLOCK && tries < 100) {  // a reaper checks whether the file is in use; see orphans.cpp
      ::usleep(1000);
      continue;
    }
    error = fd ? std::error_code{} : last_error();
    return fd;
  }
}

std::error_code set_length(int fd, std::size_t capacity) noexcept {
  // Growing a file past RLIMIT_FSIZE would not only fail, it would raise SIGXFSZ, which kills.
  rlimit limit{};
  if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && capacity > limit.rlim_cur) {
    return {EFBIG, std::system_category()};
  }
  while (::ftruncate(fd, static_cast<off_t>(capacity)) != 0) {
    if (errno != EINTR) return last_error();
  }
  return {};
}

}  // namespace

mapping::~mapping() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

mapping mapping::map(int fd, std::size_t size, bool writable, std::error_code& error, bool dumped) noexcept {
  const int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
  error.clear();
  // A core file with all arrays in it takes seconds to write, while the task's caller waits to hear of the crash. Best
  // effort.
  const auto leave_out = [dumped](void* at, std::size_t length) {
    if (!dumped) ::madvise(at, length, MADV_DONTDUMP);
  };
  if (size < huge_page_bytes) {
    void* at = ::mmap(nullptr, size, protection, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED) {
      leave_out(at, size);
      return {static_cast<std::byte*>(at), size};
    }
    error = last_error();
    return {};
  }
  // Take an address range with room to choose a boundary in, put the file there, give the edges back.
  const std::size_t whole = (size + page_bytes - 1) / page_bytes * page_bytes;
  void* range = ::mmap(nullptr, whole + huge_page_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED) {
    error = last_error();
    return {};
  }
  auto* const first = static_cast<std::byte*>(range);
  const std::size_t past = reinterpret_cast<std::uintptr_t>(first) % huge_page_bytes;
  const std::size_t before = past == 0 ? 0 : huge_page_bytes - past;
  std::byte* const at = first + before;
  if (::mmap(at, size, protection, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
    error = last_error();
    ::munmap(first, whole + huge_page_bytes);
    return {};
  }
  if (before != 0) ::munmap(first, before);
  if (before != huge_page_bytes) ::munmap(at + whole, huge_page_bytes - before);
  leave_out(at, size);
  return {at, size};
}

const char* shm_directory() noexcept {
  return "/dev/shm";
}

std::string segment_name(std::uint64_t pool_id, std::uint64_t segment_id) {
  std::array<char, 80> text;
  const int length =
      std::snprintf(text.data(), text.size(), "shmpool.%llu.%016llx.%llu", static_cast<unsigned long long>(::geteuid()),
                    static_cast<unsigned long long>(pool_id), static_cast<unsigned long long>(segment_id));
  return {text.data(), static_cast<std::size_t>(length)};
}

std::optional<std::uint64_t> free_space() noexcept {
  struct statfs info {};
  while (::statfs(shm_directory(), &info) != 0) {
    if (errno != EINTR) return std::nullopt;
  }
  // In some containers and chroots it is a plain directory: arrays would be written to a disk.
  if (info.f_type != TMPFS_MAGIC && info.f_type != RAMFS_MAGIC) return std::nullopt;
  // A file system that was mounted without a bound reports no blocks at all.
  if (info.f_blocks == 0) return std::numeric_limits<std::uint64_t>::max();
  return std::uint64_t{info.f_bavail} * static_cast<std::uint64_t>(info.f_bsize);
}

unique_fd create_named(const std::string& name, std::size_t capacity, std::error_code& error) noexcept {
  const shm_path path{name};
  unique_fd fd = open_path(path.c_str(), O_RDWR | O_CREAT | O_EXCL, error);
  if (error) return {};
  // A umask could have taken the owner's rights away, and the worker's open() would fail.
  if (::fchmod(fd.get(), S_IRUSR | S_IWUSR) != 0) error = last_error();
  if (!error) error = set_length(fd.get(), capacity);
  if (error) {
    ::unlink(path.c_str());
    return {};
  }
  return fd;
}

unique_fd open_named(const std::string& name, bool writable, std::error_code& error) noexcept {
  return open_path(shm_path{name}.c_str(), (writable ? O_RDWR : O_RDONLY) | O_NONBLOCK, error);
}

void unlink_named(const std::string& name) noexcept {
  ::unlink(shm_path{name}.c_str());
}

std::error_code rename_named(const std::string& from, const std::string& to) noexcept {
  return ::rename(shm_path{from}.c_str(), shm_path{to}.c_str()) == 0 ? std::error_code{} : last_error();
}

unique_fd create_memfd(std::uint64_t segment_id, std::size_t capacity, std::error_code& error) noexcept {
  std::array<char, 40> label;  // shows in /proc/<pid>/maps
  std::snprintf(label.data(), label.size(), "shmpool.%llu", static_cast<unsigned long long>(segment_id));
  constexpr unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  unique_fd fd{::memfd_create(label.data(), flags | MFD_NOEXEC_SEAL)};
  if (!fd && errno == EINVAL) fd = unique_fd{::memfd_create(label.data(), flags)};
  error = fd ? set_length(fd.get(), capacity) : last_error();
  if (!error && ::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) error = last_error();
  if (error) return {};
  return fd;
}

}  // namespace shmpool::shm
