// Texts of the error codes, and of the death of a worker. Thread safety: stateless.
#include <shmpool/detail/codec/message.hpp>
#include <shmpool/error.hpp>

#include <csignal>
#include <cstring>

#include "process/no_destructor.hpp"

namespace shmpool {
namespace {

class category final : public std::error_category {
 public:
  const char* name() const noexcept override { return "shmpool"; }

  std::string message(int value) const override {
    switch (static_cast<errc>(value)) {
      case errc::worker_lost: return "the worker process died while it had the task";
      case errc::deadline_exceeded: return "the task ran longer than its timeout, or was not done by its deadline";
      case errc::queue_full:
        return "the pool has as many pending tasks or bytes as its bounds allow; wait for tasks to complete";
      case errc::array_busy: return "an overlapping part of the array is in use, and one of the two uses writes to it";
      case errc::shm_exhausted: return "an array cannot be made, taken in or handed on";
      case errc::pool_closed: return "the pool was shut down or stopped";
      case errc::pool_broken: return "the pool has failed and accepts no tasks";
      case errc::protocol_violation: return "a worker sent a malformed message; a task probably overwrote its memory";
      case errc::function_not_found:
        return "the worker cannot find the function; its module must be the same file for the parent and the worker";
      case errc::worker_start_failed:
        return "no worker process could be started; check the limits on processes, memory and descriptors";
      case errc::message_too_large:
        return "more than a message can hold: 1 GiB, arrays of the pool not counted, and 131,072 such arrays";
      case errc::fork_server:
        return "the fork server could not be started; call shmpool::init(argc, argv) on the first line of main";
      case errc::quarantined:
        return "the function, or this call of it, has killed too many workers and is not tried for now";
    }
    return "unknown shmpool error " + std::to_string(value);
  }

  // Lets generic code ask its usual questions, such as `code == std::errc::timed_out`.
  bool equivalent(int value, const std::error_condition& condition) const noexcept override {
    if (std::error_category::equivalent(value, condition)) return true;
    switch (static_cast<errc>(value)) {
      case errc::deadline_exceeded: return condition == std::errc::timed_out;
      case errc::array_busy: return condition == std::errc::device_or_resource_busy;
      case errc::shm_exhausted:  // a full budget looks like the first, a full tmpfs like the second
        return condition == std::errc::not_enough_memory || condition == std::errc::no_space_on_device;
      case errc::protocol_violation: return condition == std::errc::protocol_error;
      case errc::message_too_large: return condition == std::errc::message_size;
      default: return false;
    }
  }
};

// Not strsignal(), which may write to a buffer that all threads share.
const char* describe_signal(int signal) noexcept {
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 32)
  return ::sigdescr_np(signal);
#else
  static_cast<void>(signal);
  return nullptr;
#endif
}

std::string seconds(std::chrono::milliseconds time) {
  const auto tenths = (time.count() + 50) / 100;
  return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10);
}

std::string how_it_ended(const worker_lost::details& why) {
  // The worker may have died of something else just before.
  if (why.killed_because != nullptr && (!why.status_known || why.signal == SIGKILL)) {
    return std::string("killed by the pool: ") + why.killed_because;
  }
  if (!why.status_known) return "how it ended is unknown";
  if (why.signal == 0) return "it exited with code " + std::to_string(why.exit_code);
  std::string text = "killed by signal " + std::to_string(why.signal);
  if (const char* name = describe_signal(why.signal)) text.append(" (").append(name).append(")");
  if (why.cpu_limit.count() != 0) {
    text += ": it had used " + seconds(why.cpu_time) + " s of CPU time, and its RLIMIT_CPU is " +
            std::to_string(why.cpu_limit.count()) + " s";
  } else if (why.signal == SIGKILL) {
    text += ", which is also what the kernel sends when memory runs out";
  }
  return text;
}

std::string describe_loss(const worker_lost::details& why) {
  constexpr std::uint64_t mebibyte = 1024 * 1024;
  std::string text = "worker " + std::to_string(why.pid) + " was lost ";
  text += why.started ? "while it ran the task: " : "before it started the task: ";
  text += how_it_ended(why);
  if (why.max_rss_bytes >= mebibyte) {
    text += "; peak memory " + std::to_string(why.max_rss_bytes / mebibyte) + " MiB";
  } else if (why.max_rss_bytes != 0) {
    text += "; peak memory " + std::to_string(why.max_rss_bytes / 1024) + " KiB";
  }
  return text;
}

}  // namespace

const std::error_category& shmpool_category() noexcept {
  static const no_destructor<category> instance;
  return instance.value;
}

std::error_code make_error_code(errc code) noexcept {
  return {static_cast<int>(code), shmpool_category()};
}

worker_lost::worker_lost(const details& why)
    : std::system_error(make_error_code(errc::worker_lost)), text_(describe_loss(why)), details_(why) {
}

worker_lost::~worker_lost() = default;

namespace detail {

void throw_protocol_violation(const char* what) {
  throw std::system_error(errc::protocol_violation, what);
}

void throw_array_busy(bool same_call) {
  const char* const in_the_way =
      same_call ? "two arguments of this call share a part of an array; give disjoint parts, or a clone()"
                : "a task in flight has the array; await that task first";
  throw std::system_error(errc::array_busy, in_the_way);
}

}  // namespace detail
}  // namespace shmpool
