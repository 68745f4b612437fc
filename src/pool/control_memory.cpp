#include "pool/control_memory.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <system_error>

namespace shmpool::pool {

control_memory::control_memory() {
  descriptor_ = unique_fd(::memfd_create("shmpool.control", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!descriptor_) throw std::system_error(errno, std::system_category(), "shmpool: memfd_create");
  // The slots are there from the beginning. The pages of the rings come as they are used; a memfd has no limit but that
  // of all memory, so that a full machine is for the kernel to deal with, and never a SIGBUS.
  if (::ftruncate(descriptor_.get(), sizeof(wire::control_page)) != 0 ||
      ::fallocate(descriptor_.get(), 0, 0, offsetof(wire::control_page, reply_ring)) != 0) {
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
