#include "server/descendants.hpp"

#include "process/unique_fd.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace shmpool::server {

namespace {

std::optional<std::string> contents(const char* path) {
  const unique_fd file(::open(path, O_RDONLY | O_CLOEXEC));
  if (!file) return std::nullopt;
  std::string text;
  char part[1024];
  for (ssize_t size; (size = ::read(file.get(), part, sizeof part)) != 0;) {
    if (size > 0) text.append(part, static_cast<std::size_t>(size));
    else if (errno != EINTR) return std::nullopt;
  }
  return text;
}

std::optional<pid_t> number(std::string_view text) {
  pid_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// Field 4 of /proc/<pid>/stat. The name before it, in parentheses, may contain anything.
std::optional<pid_t> parent_of(pid_t pid) {
  const auto text = contents(("/proc/" + std::to_string(pid) + "/stat").c_str());
  const auto name_end = text ? text->rfind(')') : std::string::npos;
  if (name_end == std::string::npos || name_end + 4 >= text->size()) return std::nullopt;
  const std::string_view rest = std::string_view(*text).substr(name_end + 4);  // ") S "
  return number(rest.substr(0, rest.find(' ')));
}

}  // namespace

std::vector<pid_t> children_of_this_process() {
  std::vector<pid_t> children;
  if (const auto list = contents("/proc/thread-self/children")) {
    std::string_view rest = *list;
    while (!rest.empty()) {
      const std::size_t end = std::min(rest.find(' '), rest.size());
      if (const auto pid = number(rest.substr(0, end))) children.push_back(*pid);
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    return children;
  }
  // A kernel without CONFIG_PROC_CHILDREN.
  const std::unique_ptr<DIR, int (*)(DIR*)> processes(::opendir("/proc"), ::closedir);
  while (const dirent* each = processes ? ::readdir(processes.get()) : nullptr) {
    if (const auto pid = number(each->d_name); pid && parent_of(*pid) == ::getpid()) children.push_back(*pid);
  }
  return children;
}

descendants::descendants() noexcept {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
}

void descendants::end_session(pid_t worker) {
  ::kill(-worker, SIGKILL);  // its process group: nearly always all of its processes
  sessions_.push_back(worker);
}

void descendants::look(const std::function<bool(pid_t)>& is_worker) {
  if (sessions_.empty()) return;
  std::vector<pid_t> alive;
  for (const pid_t child : children_of_this_process()) {
    if (is_worker(child)) continue;
    const pid_t session = ::getsid(child);
    if (std::find(sessions_.begin(), sessions_.end(), session) == sessions_.end()) continue;
    ::kill(child, SIGKILL);
    alive.push_back(session);
  }
  sessions_ = std::move(alive);
}

void descendants::end_all() {
  // A process that does not die at once (it waits for a disk, say) must not keep the server from removing names.
  for (int pauses = 0; pauses != 1000;) {
    const auto children = children_of_this_process();
    if (children.empty()) return;
    for (const pid_t child : children) ::kill(child, SIGKILL);
    bool any = false;
    while (::waitpid(-1, nullptr, WNOHANG) > 0) any = true;
    if (any) continue;
    ::usleep(1000);
    ++pauses;
  }
}

}  // namespace shmpool::server
