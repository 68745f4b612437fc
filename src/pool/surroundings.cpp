#include "pool/surroundings.hpp"

#include "process/process_status.hpp"
#include "process/program_start.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <system_error>

extern char** environ;  // NOLINT(readability-redundant-declaration)

namespace shmpool::pool {

namespace {

/// Reads /proc: umask(2) would change the umask for a moment, visibly to other threads.
std::int32_t umask_now() {
  std::int32_t value = -1;
  const process_status status;
  if (const auto text = status.field("Umask")) std::from_chars(text->data(), text->data() + text->size(), value, 8);
  return value;
}

/// The value of the main thread, which `nice` and `renice` set for a process.
std::int32_t nice_now() noexcept {
  errno = 0;
  const int value = ::getpriority(PRIO_PROCESS, static_cast<id_t>(::getpid()));
  return errno == 0 ? value : 0;
}

unique_fd checked(unique_fd made, const char* call) {
  if (!made) throw std::system_error(errno, std::system_category(), call);
  return made;
}

unique_fd copy(int fd) {
  return checked(unique_fd(::fcntl(fd, F_DUPFD_CLOEXEC, 3)), "shmpool: fcntl(F_DUPFD_CLOEXEC)");
}

unique_fd write_down(const std::string& text) {
  unique_fd file = checked(unique_fd(::memfd_create("shmpool.environment", MFD_CLOEXEC)), "shmpool: memfd_create");
  if (::pwrite(file.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
    throw std::system_error(ENOSPC, std::system_category(), "shmpool: writing the environment down");
  }
  return file;
}

}  // namespace

std::string environment_now() {
  std::string text;
  for (char** each = environ; each && *each; ++each) text.append(*each, std::strlen(*each) + 1);
  return text;
}

surroundings::surroundings()
    : directory_(::open(".", O_PATH | O_DIRECTORY | O_CLOEXEC)), environment_(environment_now()) {
  values_.cpus = process_cpus();
  values_.nice = nice_now();
  values_.umask = umask_now();
  for (unsigned i = 0; i != wire::resource_count; ++i) {
    rlimit limit{RLIM_INFINITY, RLIM_INFINITY};
    ::getrlimit(static_cast<__rlimit_resource_t>(i), &limit);
    values_.limits[i] = {limit.rlim_cur, limit.rlim_max};
  }
}

wire::pool_surroundings surroundings::describe(const std::string& environment,
                                               std::vector<unique_fd>& descriptors) const {
  wire::pool_surroundings result = values_;
  descriptors.reserve(descriptors.size() + 4);
  if (directory_) {
    descriptors.push_back(copy(directory_.get()));
    result.has_directory = 1;
  }
  if (::fcntl(STDOUT_FILENO, F_GETFD) >= 0 && ::fcntl(STDERR_FILENO, F_GETFD) >= 0) {
    descriptors.push_back(copy(STDOUT_FILENO));
    descriptors.push_back(copy(STDERR_FILENO));
    result.has_streams = 1;
  }
  if (environment != environment_) {
    descriptors.push_back(write_down(environment_));
    result.has_environment = 1;
  }
  return result;
}

}  // namespace shmpool::pool
