// Texts for errc::shm_exhausted. The category's own message follows each of them.
#include "shm/exhausted.hpp"

#include "shm/mapping.hpp"

#include <shmpool/error.hpp>

#include <cerrno>
#include <string>

namespace shmpool::shm {

bool is_shortage(const std::error_code& error) noexcept {
  if (error.category() != std::system_category()) return false;
  switch (error.value()) {
    case ENOSPC:
    case ENOMEM:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
      return true;
    default:
      return false;
  }
}

void throw_budget_exhausted(std::size_t asked, std::uint64_t held, std::size_t budget) {
  const std::uint64_t left = held < budget ? budget - held : 0;
  throw std::system_error(make_error_code(errc::shm_exhausted),
                          std::to_string(asked) + " bytes asked, " + std::to_string(left) +
                              " bytes left of pool_options::max_shm_bytes = " + std::to_string(budget));
}

void throw_machine_exhausted(std::size_t asked, std::uint64_t memory) {
  throw std::system_error(make_error_code(errc::shm_exhausted),
                          std::to_string(asked) + " bytes asked, the machine has " + std::to_string(memory));
}

void throw_memory_exhausted(std::size_t asked, bool named, const std::error_code& error) {
  std::string text = std::to_string(asked) + " bytes asked, ";
  if (named && (error.value() == ENOSPC || error.value() == EDQUOT)) {
    const auto free = free_space();
    text += free ? std::to_string(*free) + " bytes free in " : std::string{"no room in "};
    text += shm_directory();
    text +=
        "; make it larger (mount -o remount,size=..., docker run --shm-size=...), use backing::memfd, or free arrays "
        "and call clear_shm()";
  } else if (error.value() == EMFILE || error.value() == ENFILE) {
    text += error.message() +
            "; every array without a name keeps a descriptor open: raise RLIMIT_NOFILE, or use "
            "backing::posix";
  } else {
    text += (named ? std::string{shm_directory()} : std::string{"memfd"}) + " says: " + error.message();
  }
  throw std::system_error(make_error_code(errc::shm_exhausted), text);
}

}  // namespace shmpool::shm
