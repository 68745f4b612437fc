// What the kernel says of this process in /proc/thread-self/status.
//
// Thread safety: any thread; some fields are those of the calling thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace shmpool {

class process_status {
 public:
  /// As it is now; without /proc all fields are missing.
  process_status();
  /// What follows "<name>:" without the space around it, "Threads" for example.
  std::optional<std::string_view> field(std::string_view name) const noexcept;

  /// Threads of this process that belong to the program (a sanitizer may have one of its own), 2 if nobody can tell:
  /// what is safe with one thread only is not done then.
  unsigned threads() const noexcept;

 private:
  std::string text_;
};

}  // namespace shmpool
