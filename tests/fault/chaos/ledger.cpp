#include "fault/chaos/ledger.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <system_error>
#include <utility>

namespace shmpool::chaos {

namespace {

ledger* map(const char* path, int flags) noexcept {
  const int fd = ::open(path, O_RDWR | O_CLOEXEC | flags, 0600);
  if (fd < 0) return nullptr;
  void* memory = MAP_FAILED;
  if ((flags & O_CREAT) == 0 || ::ftruncate(fd, sizeof(ledger)) == 0) {
    memory = ::mmap(nullptr, sizeof(ledger), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  }
  ::close(fd);
  return memory == MAP_FAILED ? nullptr : static_cast<ledger*>(memory);  // zeros, which are valid values of all members
}

}  // namespace

std::uint64_t now_ns() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

bool ledger::note_fault(const char* point, int signal) noexcept {
  if (fault_budget.fetch_sub(1) <= 0) {
    ++fault_budget;
    return false;
  }
  fault_record& record = faults[fault_total.fetch_add(1) % fault_slots];
  std::strncpy(record.point.data(), point, record.point.size() - 1);
  record.signal = signal;
  record.pid = ::getpid();
  return true;
}

const fault_record* ledger::fault_of(pid_t pid) const noexcept {
  const std::uint64_t total = fault_total;
  for (std::uint64_t i = total < fault_slots ? total : fault_slots; i-- != 0;) {
    if (faults[i].pid == pid) return &faults[i];
  }
  return nullptr;
}

bool ledger::struck_at(std::string_view prefix) const noexcept {
  const std::uint64_t total = fault_total;
  for (std::uint64_t i = total < fault_slots ? total : fault_slots; i-- != 0;) {
    if (std::string_view(faults[i].point.data()).starts_with(prefix)) return true;
  }
  return false;
}

ledger* open_ledger() noexcept {
  static std::atomic<ledger*> known{nullptr};
  if (ledger* already = known.load()) return already;
  const char* path = std::getenv(ledger_variable);
  ledger* mapped = path ? map(path, 0) : nullptr;
  if (ledger* first = nullptr; mapped && !known.compare_exchange_strong(first, mapped)) {
    ::munmap(mapped, sizeof(ledger));
    return first;
  }
  return mapped;
}

ledger_file::ledger_file(std::string path) : path_(std::move(path)), book_(map(path_.c_str(), O_CREAT | O_EXCL)) {
  if (!book_) throw std::system_error(errno, std::system_category(), "the ledger " + path_);
}

ledger_file::~ledger_file() {
  ::munmap(book_, sizeof(ledger));
  ::unlink(path_.c_str());
}

}  // namespace shmpool::chaos
