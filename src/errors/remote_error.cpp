// The home of remote_error's vtable and type information, so that every module catches the same type.
// Thread safety: as the header says.
#include <shmpool/remote_error.hpp>

namespace shmpool {

remote_error::remote_error(details origin) : origin_(std::make_shared<const details>(std::move(origin))) {
}

remote_error::~remote_error() = default;

}  // namespace shmpool
