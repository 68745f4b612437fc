// A lock file is made and locked in two steps, so a reaper can come in between: after locking, the pool checks that the
// file is still the one under its name, and takes another id if it is not.
#include "shm/pool_lock.hpp"

#include "process/fault_point.hpp"
#include "process/mutex.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>

namespace shmpool::shm {

namespace {

constinit mutex registry_mutex;  // a leaf
constinit pool_lock* first_pool SHMPOOL_GUARDED_BY(registry_mutex) = nullptr;

}  // namespace

/// The pools of this process, linked through their locks. All static: a handle in a static object may outlive any
/// object here. Hidden, so that a plugin with a copy of the library has its own registry, functions and variables
/// alike.
class [[gnu::visibility("hidden")]] pool_registry {
 public:
  static void add(pool_lock& entry) noexcept SHMPOOL_REQUIRES(registry_mutex) {
    entry.next_ = first_pool;
    entry.link_ = &first_pool;
    if (first_pool != nullptr) first_pool->link_ = &entry.next_;
    first_pool = &entry;
  }
  static void remove(pool_lock& entry) noexcept SHMPOOL_REQUIRES(registry_mutex) {
    if (entry.link_ == nullptr) return;
    *entry.link_ = entry.next_;
    if (entry.next_ != nullptr) entry.next_->link_ = entry.link_;
    entry.link_ = nullptr;
  }
  static bool contains(std::uint64_t pool_id) noexcept SHMPOOL_REQUIRES(registry_mutex) {
    for (const pool_lock* entry = first_pool; entry != nullptr; entry = entry->next_) {
      if (entry->pool_id_ == pool_id) return true;
    }
    return false;
  }

  /// A flock belongs to the open file, which a fork shares: a child that kept the descriptor would keep a dead pool
  /// locked.
  static void watch_forks() {
    static const int result = ::pthread_atfork(&lock_all, &unlock_all, &in_child);
    if (result != 0) throw std::system_error(result, std::system_category(), "pthread_atfork");
  }

 private:
  // The lock is held over a fork.
  static void lock_all() SHMPOOL_NO_THREAD_SAFETY_ANALYSIS { registry_mutex.lock(); }
  static void unlock_all() SHMPOOL_NO_THREAD_SAFETY_ANALYSIS { registry_mutex.unlock(); }
  static void in_child() SHMPOOL_NO_THREAD_SAFETY_ANALYSIS {
    while (first_pool != nullptr) {
      pool_lock& entry = *first_pool;
      entry.inherited_.store(true, std::memory_order_relaxed);
      entry.fd_.reset();
      remove(entry);
    }
    registry_mutex.unlock();
  }
};

namespace {

std::uint64_t random_id() {
  std::uint64_t id = 0;
  for (;;) {
    const ssize_t got = ::getrandom(&id, sizeof id, 0);
    if (got == static_cast<ssize_t>(sizeof id)) return id;
    if (got < 0 && errno != EINTR) throw std::system_error(errno, std::system_category(), "getrandom");
  }
}

/// True if the open file is the one that the name stands for; false with an `error` if that cannot be determined.
bool is_still_named(int fd, const std::string& name, std::error_code& error) noexcept {
  struct stat opened {};
  if (::fstat(fd, &opened) != 0) error = {errno, std::system_category()};
  if (error || opened.st_nlink == 0) return false;
  const unique_fd again = open_named(name, false, error);
  if (error == std::errc::no_such_file_or_directory) error.clear();
  struct stat named {};
  if (again && ::fstat(again.get(), &named) != 0) error = {errno, std::system_category()};
  return again && !error && named.st_dev == opened.st_dev && named.st_ino == opened.st_ino;
}

/// A lock file of its own for this id, locked; null without an error if somebody else has the name, or a reaper was
/// faster. The registry is locked.
unique_fd make_locked(std::uint64_t id, std::error_code& error) {
  const std::string name = lock_name(id);
  unique_fd fd = create_named(name, 0, error);
  if (error == std::errc::file_exists) error.clear();
  if (!fd) return {};
  SHMPOOL_FAULT_POINT("parent.lock_file");
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) {
    SHMPOOL_FAULT_POINT("parent.locked");
    if (is_still_named(fd.get(), name, error)) return fd;
  } else if (errno != EWOULDBLOCK && errno != EINTR) {
    error = {errno, std::system_category()};
  }
  if (error) unlink_named(name);
  return {};  // without an error: a reaper has it and removes it
}

}  // namespace

std::string lock_name(std::uint64_t pool_id) {
  std::array<char, 80> text;
  const int length =
      std::snprintf(text.data(), text.size(), "shmpool.%llu.%016llx.lock", static_cast<unsigned long long>(::geteuid()),
                    static_cast<unsigned long long>(pool_id));
  return {text.data(), static_cast<std::size_t>(length)};
}

/// The registry is locked.
pool_lock::pool_lock(std::uint64_t pool_id, unique_fd fd) noexcept SHMPOOL_NO_THREAD_SAFETY_ANALYSIS
    : pool_id_(pool_id),
      fd_(std::move(fd)),
      owner_(::getpid()) {
  pool_registry::add(*this);
}

std::unique_ptr<pool_lock> pool_lock::acquire(std::error_code& error) {
  pool_registry::watch_forks();
  for (;;) {
    const std::uint64_t id = random_id();
    // Held from before the file exists until its lock is in the list, so that no fork can copy a descriptor that the
    // list misses.
    const mutex_lock lock(registry_mutex);
    unique_fd fd = make_locked(id, error);
    if (fd) return std::unique_ptr<pool_lock>{new pool_lock{id, std::move(fd)}};
    if (error) return nullptr;
  }
}

void pool_lock::restore() noexcept {
  if (inherited()) return;
  const mutex_lock lock(registry_mutex);
  struct stat info {};
  if (!fd_ || ::fstat(fd_.get(), &info) != 0 || info.st_nlink != 0) return;
  try {
    // Made and locked under another id, and only then given the pool's name: a reaper that came in between the two
    // steps would take this pool, which has segments, for dead. It may take that id for dead, too; then try another.
    std::uint64_t id = 0;
    std::error_code error;
    unique_fd fd;
    for (int attempts = 100; !fd && !error && attempts != 0; --attempts) fd = make_locked(id = random_id(), error);
    if (!fd) return;
    if (rename_named(lock_name(id), lock_name(pool_id_))) return unlink_named(lock_name(id));
    fd_ = std::move(fd);
  } catch (const std::exception&) {
    // Out of memory, or of random numbers.
  }
}

std::unique_ptr<pool_lock> pool_lock::without_file() {
  pool_registry::watch_forks();
  const std::uint64_t id = random_id();
  const mutex_lock lock(registry_mutex);
  return std::unique_ptr<pool_lock>{new pool_lock{id, unique_fd{}}};
}

pool_lock::~pool_lock() {
  if (inherited()) return;
  drop_file();
  const mutex_lock lock(registry_mutex);
  pool_registry::remove(*this);
}

void pool_lock::drop_file() noexcept {
  if (inherited()) return;
  const mutex_lock lock(registry_mutex);
  if (!fd_) return;
  unlink_named(lock_name(pool_id_));  // while it is locked, so that no reaper works on it at the same time
  fd_.reset();
}

bool pool_lock::inherited() const noexcept {
  return inherited_.load(std::memory_order_relaxed) || ::getpid() != owner_;
}

bool is_pool_of_this_process(std::uint64_t pool_id) noexcept {
  const mutex_lock lock(registry_mutex);
  return pool_registry::contains(pool_id);
}

}  // namespace shmpool::shm
