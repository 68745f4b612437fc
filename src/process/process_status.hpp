// The fields of /proc/thread-self/status for this process.
//
// Thread safety: any thread; some fields are those of the calling thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace shmpool {

class process_status {
 public:
  /// Reads the current status; without /proc all fields are missing.
  process_status();
  /// The text after "<name>:" without the space around it; `name`: "Threads", for example.
  std::optional<std::string_view> field(std::string_view name) const noexcept;

  /// How many threads of this process belong to the program (a sanitizer may have one of its own); 2 if unknown, so
  /// that actions which are safe with one thread only are not done.
  unsigned threads() const noexcept;

 private:
  std::string text_;
};

}  // namespace shmpool
