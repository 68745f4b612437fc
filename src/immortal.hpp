// An object of static storage that is never destroyed, for what destructors of other static objects may still use.
// Thread safety: that of T.
#pragma once

namespace shmpool::detail {

template <class T>
union immortal {
  T value{};
  immortal() {}
  ~immortal() {}
};

}  // namespace shmpool::detail
