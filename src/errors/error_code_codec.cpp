// Error codes as bytes. Thread safety: stateless.
#include <shmpool/detail/codec/archive.hpp>
#include <shmpool/detail/codec/error_code_codec.hpp>
#include <shmpool/exception_traits.hpp>

#include <algorithm>

namespace shmpool::detail {

void save_error_code(output_archive& to, const named_error_code& code) {
  const auto size = static_cast<std::uint32_t>(std::min(code.category.size(), max_exception_text));
  const std::uint8_t wrapped = code.wrapped ? 1 : 0;
  to.save_bytes(&code.value, sizeof code.value);
  to.save_bytes(&wrapped, sizeof wrapped);
  to.save_bytes(&size, sizeof size);
  to.save_bytes(code.category.data(), size);
}

named_error_code load_error_code(input_archive& from) {
  named_error_code code;
  std::uint8_t wrapped = 0;
  std::uint32_t size = 0;
  from.load_bytes(&code.value, sizeof code.value);
  from.load_bytes(&wrapped, sizeof wrapped);
  from.load_bytes(&size, sizeof size);
  if (wrapped > 1 || size > max_exception_text) throw_protocol_violation("malformed error code");
  code.wrapped = wrapped != 0;
  code.category.resize(size);
  from.load_bytes(code.category.data(), size);
  return code;
}

}  // namespace shmpool::detail
