// The parent's mapping of one worker's control page (wire/control_page).
//
// Thread safety: none; the page itself is shared with the worker, see wire/control_page.
#pragma once

#include "process/unique_fd.hpp"
#include "wire/control_page.hpp"

#include <utility>

namespace shmpool::pool {

/// The control memory of one worker, mapped in the parent.
class control_memory {
 public:
  /// Creates a sealed memfd, so that no worker can shrink it under the parent. Throws std::system_error.
  control_memory();
  control_memory(const control_memory&) = delete;
  control_memory& operator=(const control_memory&) = delete;
  ~control_memory();
  wire::control_page& page() const noexcept { return *page_; }
  /// The descriptor for the worker; may be taken once.
  unique_fd take_descriptor() noexcept { return std::move(descriptor_); }

 private:
  unique_fd descriptor_;
  wire::control_page* page_ = nullptr;
};

}  // namespace shmpool::pool
