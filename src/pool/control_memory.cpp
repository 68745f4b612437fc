#include "pool/control_memory.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <system_error>

namespace shmpool::pool {

namespace {

/// The slots are there from the beginning. The pages of the rings come as they are used: a memfd has no limit but that
/// of all memory, and where that ends the kernel kills somebody. But if it promises no more memory than there is
/// (vm.overcommit_memory = 2), a page that cannot be had is a SIGBUS, so all of them are made at once.
std::size_t allocated_bytes() noexcept {
  char mode = 0;
  const unique_fd setting(::open("/proc/sys/vm/overcommit_memory", O_RDONLY | O_CLOEXEC));
  const bool overcommits = setting && ::read(setting.get(), &mode, 1) == 1 && mode != '2';
  return overcommits ? offsetof(wire::control_page, reply_ring) : sizeof(wire::control_page);
}

}  // namespace

control_memory::control_memory() {
  descriptor_ = unique_fd(::memfd_create("shmpool.control", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!descriptor_) throw std::system_error(errno, std::system_category(), "shmpool: memfd_create");
  // Growing a file past RLIMIT_FSIZE would not only fail, it would raise SIGXFSZ, which kills.
  rlimit limit{};
  if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < sizeof(wire::control_page))
    throw std::system_error(EFBIG, std::system_category(), "shmpool: ftruncate of control memory");
  if (::ftruncate(descriptor_.get(), sizeof(wire::control_page)) != 0 ||
      ::fallocate(descriptor_.get(), 0, 0, static_cast<off_t>(allocated_bytes())) != 0) {
    throw std::system_error(errno, std::system_category(), "shmpool: allocating control memory");
  }
  if (::fcntl(descriptor_.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    throw std::system_error(errno, std::system_category(), "shmpool: fcntl F_ADD_SEALS");
  }
  void* memory = ::mmap(nullptr, sizeof(wire::control_page), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor_.get(), 0);
  if (memory == MAP_FAILED) throw std::system_error(errno, std::system_category(), "shmpool: mmap of control memory");
  page_ = static_cast<wire::control_page*>(memory);  // zeros, which are valid values of all its members
  page_->magic = wire::control_magic;
  page_->version = wire::control_version;
}

control_memory::~control_memory() {
  if (page_) ::munmap(page_, sizeof(wire::control_page));
}

}  // namespace shmpool::pool
