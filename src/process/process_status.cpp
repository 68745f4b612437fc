#include "process/process_status.hpp"

#include "process/unique_fd.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

namespace shmpool {

namespace {

#if defined(__SANITIZE_THREAD__)
constexpr unsigned threads_of_sanitizer = 1;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
constexpr unsigned threads_of_sanitizer = 1;
#else
constexpr unsigned threads_of_sanitizer = 0;
#endif
#else
constexpr unsigned threads_of_sanitizer = 0;
#endif

}  // namespace

process_status::process_status() {
  const unique_fd file(::open("/proc/thread-self/status", O_RDONLY | O_CLOEXEC));
  if (!file) return;
  char part[4096];
  for (ssize_t size; (size = ::read(file.get(), part, sizeof part)) != 0;) {
    if (size > 0) text_.append(part, static_cast<std::size_t>(size));
    else if (errno != EINTR) break;
  }
}

std::optional<std::string_view> process_status::field(std::string_view name) const noexcept {
  std::string_view rest = text_;
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    if (!line.starts_with(name) || line.size() == name.size() || line[name.size()] != ':') continue;
    const std::size_t begin = line.find_first_not_of(" \t", name.size() + 1);
    return begin == std::string_view::npos ? std::string_view() : line.substr(begin);
  }
  return std::nullopt;
}

unsigned process_status::threads() const noexcept {
  unsigned count = 0;
  const auto text = field("Threads");
  if (!text || std::from_chars(text->data(), text->data() + text->size(), count).ec != std::errc{}) return 2;
  return std::max(count, threads_of_sanitizer + 1) - threads_of_sanitizer;
}

}  // namespace shmpool
