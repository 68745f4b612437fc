// An object of static storage that is never destroyed, because destructors of other static objects may still use it.
// Thread safety: that of T.
#pragma once

namespace shmpool {

template <class T>
union no_destructor {
  T value{};
  no_destructor() {}
  ~no_destructor() {}
};

}  // namespace shmpool
