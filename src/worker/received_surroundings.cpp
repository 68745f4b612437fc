#include "worker/received_surroundings.hpp"

#include "process/no_destructor.hpp"
#include "process/own_descriptors.hpp"
#include "process/program_start.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

extern char** environ;  // NOLINT(readability-redundant-declaration)

namespace shmpool::worker {

namespace {

std::vector<char> read_all(const unique_fd& file) {
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) throw std::system_error(errno, std::system_category(), "fstat");
  std::vector<char> text(static_cast<std::size_t>(info.st_size));
  if (::pread(file.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
    throw std::system_error(errno, std::system_category(), "pread");
  }
  text.push_back('\0');  // terminated even if the file is not
  return text;
}

/// The environment of a worker, which lives as long as the process.
struct own_environment {
  std::vector<char> text;
  std::vector<char*> variables;
};

}  // namespace

received_surroundings::received_surroundings(const wire::pool_surroundings& values, std::vector<unique_fd>& descriptors,
                                             std::size_t first)
    : values_(values) {
  const auto take = [&] {
    unique_fd taken = first < descriptors.size() ? move_out_of_the_way(std::move(descriptors[first++])) : unique_fd();
    if (!taken) throw std::system_error(EMFILE, std::system_category());
    return taken;
  };
  if (values.has_directory != 0) directory_ = take();
  if (values.has_streams != 0) {
    output_ = take();
    error_ = take();
  }
  if (values.has_environment == 0) return;
  environment_text_ = read_all(take());
  for (std::size_t at = 0; at + 1 < environment_text_.size(); at += std::strlen(environment_text_.data() + at) + 1) {
    environment_.push_back(environment_text_.data() + at);
  }
  environment_.push_back(nullptr);
}

setup_failure received_surroundings::apply() noexcept {
  if (directory_ && ::fchdir(directory_.get()) != 0)
    return {"fchdir to the directory in which the pool was made", errno};
  if (output_ && ::dup2(output_.get(), STDOUT_FILENO) < 0) return {"dup2 of standard output", errno};
  if (error_ && ::dup2(error_.get(), STDERR_FILENO) < 0) return {"dup2 of standard error", errno};
  if (!environment_.empty()) {
    static no_destructor<own_environment> own;
    own.value = {std::move(environment_text_), std::move(environment_)};
    environ = own.value.variables.data();
  }
  if (values_.umask >= 0) ::umask(static_cast<mode_t>(values_.umask));
  if (CPU_COUNT(&values_.cpus) != 0 && ::sched_setaffinity(0, sizeof values_.cpus, &values_.cpus) == 0) {
    set_process_cpus(values_.cpus);  // for a pool that a task makes
  }
  ::setpriority(PRIO_PROCESS, 0, values_.nice);
  for (unsigned i = 0; i != wire::resource_count; ++i) {
    const auto resource = static_cast<__rlimit_resource_t>(i);
    const rlimit wanted{values_.limits[i].soft, values_.limits[i].hard};
    rlimit now{};
    if (::getrlimit(resource, &now) != 0 || (now.rlim_cur == wanted.rlim_cur && now.rlim_max == wanted.rlim_max))
      continue;
    if (::setrlimit(resource, &wanted) == 0) continue;
    now.rlim_cur = std::min(wanted.rlim_cur, now.rlim_max);  // a limit that was given up cannot be had back
    ::setrlimit(resource, &now);
  }
  return {};
}

}  // namespace shmpool::worker
