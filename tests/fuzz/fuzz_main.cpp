// libFuzzer's entry; SHMPOOL_FUZZ_TARGET names the function of targets.hpp that this program is for. What escapes from
// it ends the program, which is what libFuzzer calls a finding.
#include "fuzz/targets.hpp"

#include <cstddef>
#include <cstdint>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) noexcept;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) noexcept {
  shmpool::fuzz::SHMPOOL_FUZZ_TARGET(std::as_bytes(std::span(bytes, size)));
  return 0;
}
