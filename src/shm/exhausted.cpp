// Texts for errc::shm_exhausted. The category's own message follows each of them.
#include "shm/exhausted.hpp"

#include "shm/mapping.hpp"

#include <shmpool/error.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <optional>
#include <string>
#include <string_view>

namespace shmpool::shm {
namespace {

/// The first number in a small file under /proc.
std::optional<std::uint64_t> number_in(const char* path) noexcept {
  const unique_fd file{::open(path, O_RDONLY | O_CLOEXEC)};
  std::array<char, 64> text{};
  const ssize_t size = file ? ::read(file.get(), text.data(), text.size()) : 0;
  std::uint64_t number = 0;
  if (size <= 0 || std::from_chars(text.data(), text.data() + size, number).ec != std::errc{}) return std::nullopt;
  return number;
}

/// The soft limit, where there is one.
std::optional<std::uint64_t> limit_of(decltype(RLIMIT_AS) resource) noexcept {
  rlimit limit{};
  if (::getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return std::nullopt;
  return limit.rlim_cur;
}

/// The error of mmap does not tell what has run out. If it is the number of mappings, the kernel refuses even the
/// smallest one; counting the mappings instead would take long.
std::string describe_lack_of_mappings() {
  const auto address_space = limit_of(RLIMIT_AS);
  const auto used = number_in("/proc/self/statm");
  const bool space_left = !address_space || (used && (*used + 16) * page_bytes < *address_space);
  const auto most = number_in("/proc/sys/vm/max_map_count");
  if (space_left && most) {
    void* const probe = ::mmap(nullptr, page_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (probe == MAP_FAILED) {
      return "this process has as many mappings as vm.max_map_count = " + std::to_string(*most) +
             " allows: raise it (sysctl vm.max_map_count), or keep fewer arrays at a time";
    }
    ::munmap(probe, page_bytes);
  }
  if (address_space) {
    return "RLIMIT_AS of this process is " + std::to_string(*address_space) + " bytes, of which it uses " +
           (used ? std::to_string(*used * page_bytes) : std::string("most")) +
           ": raise it, or keep fewer or smaller arrays at a time";
  }
  return "memory is short, or this process has nearly as many mappings as vm.max_map_count" +
         (most ? " = " + std::to_string(*most) : std::string()) + " allows: keep fewer arrays at a time, or raise it";
}

}  // namespace

bool is_shortage(const std::error_code& error) noexcept {
  if (error.category() != std::system_category()) return false;
  switch (error.value()) {
    case ENOSPC:
    case ENOMEM:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
    case EFBIG:   // RLIMIT_FSIZE
    case EAGAIN:  // mlockall(MCL_FUTURE) and RLIMIT_MEMLOCK
      return true;
    default: return false;
  }
}

std::string describe(const call_error& failed) {
  return std::string(failed.call) + ": " + failed.code.message() + advice(failed.call, failed.code);
}

std::string advice(std::string_view call, const std::error_code& error) {
  if (error.category() != std::system_category()) return {};
  const auto limit = [](decltype(RLIMIT_AS) resource) {
    const auto value = limit_of(resource);
    return value ? " = " + std::to_string(*value) : std::string();
  };
  switch (error.value()) {
    case ENOMEM: return call.find("mmap") == call.npos ? std::string() : "; " + describe_lack_of_mappings();
    case EAGAIN:
      if (call.find("mmap") == call.npos) return {};
      return "; RLIMIT_MEMLOCK" + limit(RLIMIT_MEMLOCK) + " is too small for a process that locks all of its memory";
    case EMFILE:
      return "; this process has as many descriptors as RLIMIT_NOFILE" + limit(RLIMIT_NOFILE) +
             " allows: raise it, or close some";
    case ENFILE: return "; the machine has as many open files as fs.file-max allows";
    case EFBIG: return "; RLIMIT_FSIZE" + limit(RLIMIT_FSIZE) + " bytes is too small";
    case ENOENT:
      if (call != "open") return {};  // on creation, the directory is missing
      return std::string("; somebody has removed its name from ") + shm_directory() +
             " (systemd-logind does when a user logs out, unless RemoveIPC=no; so does rm)";
    default: return {};
  }
}

void throw_budget_exhausted(std::size_t asked, std::uint64_t held, std::size_t budget) {
  const std::uint64_t left = held < budget ? budget - held : 0;
  throw std::system_error(make_error_code(errc::shm_exhausted),
                          std::to_string(asked) + " bytes asked, " + std::to_string(left) +
                              " bytes left of pool_options::max_shm_bytes = " + std::to_string(budget) +
                              "; raise it, or release arrays");
}

void throw_machine_exhausted(std::size_t asked, std::uint64_t memory) {
  throw std::system_error(make_error_code(errc::shm_exhausted),
                          std::to_string(asked) + " bytes asked, the machine has " + std::to_string(memory));
}

void throw_memory_exhausted(std::size_t asked, bool named, const call_error& failed) {
  std::string text = std::to_string(asked) + " bytes asked, ";
  const std::error_code& error = failed.code;
  if (named && (error.value() == ENOSPC || error.value() == EDQUOT)) {
    const auto free = free_space();
    text += free ? std::to_string(*free) + " bytes free in " : std::string{"no room in "};
    text += shm_directory();
    text +=
        "; make it larger (mount -o remount,size=..., docker run --shm-size=...), use backing::memfd, or free arrays "
        "and call clear_shm()";
  } else if (!named && (error.value() == EMFILE || error.value() == ENFILE)) {
    text += describe(failed) + "; every array without a name keeps a descriptor open: backing::posix needs none";
  } else {
    text += (named ? std::string{shm_directory()} : std::string{"memfd"}) + " says: " + describe(failed);
  }
  throw std::system_error(make_error_code(errc::shm_exhausted), text);
}

}  // namespace shmpool::shm
