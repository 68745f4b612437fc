#include "server/oom_score.hpp"

#include "process/own_descriptors.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>

namespace shmpool::server {

oom_score::oom_score() noexcept
    : file_(move_out_of_the_way(unique_fd(::open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC)))) {
  char text[16]{};
  if (file_ && ::read(file_.get(), text, sizeof text - 1) <= 0) file_.reset();
  own_ = std::atoi(text);
  raised_ = std::max(raised_, own_);
}

void oom_score::write(int score) noexcept {
  char text[16]{};
  const auto end = std::to_chars(text, text + sizeof text, score).ptr;
  if (file_) [[maybe_unused]]
    auto written = ::pwrite(file_.get(), text, static_cast<std::size_t>(end - text), 0);
}

}  // namespace shmpool::server
