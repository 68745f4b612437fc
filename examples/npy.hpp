// Reads .npy files as numpy.save() writes them: what the header says, checked, and the elements into memory of your
// own. Handles formats 1.0, 2.0 and 3.0, C order, any shape, little-endian integers and floats up to 8 bytes, and
// booleans. What it cannot read it refuses with a sentence that names the reason; no file, however broken, makes it
// read beyond the file or allocate more than the file holds.
//
// Thread safety: none is needed for parse(); one file belongs to one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace npy {

/// Why a file cannot be read.
class error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The element types that C++20 has a type for; boolean elements are one byte each, 0 or 1.
enum class dtype : std::uint8_t { boolean, int8, int16, int32, int64, uint8, uint16, uint32, uint64, float32, float64 };

/// Bytes of one element.
std::size_t size_of(dtype type) noexcept;
/// numpy's name, such as "float64".
std::string_view name_of(dtype type) noexcept;

/// What a header says.
struct header {
  dtype type = dtype::float64;
  std::vector<std::size_t> shape;  ///< empty for a single number
  std::size_t count = 0;           ///< number of elements: the product of the shape
  std::size_t bytes = 0;           ///< what the elements take: count * size_of(type)
  std::size_t data_offset = 0;     ///< where in the file they begin
};

/// "(3, 4)", as Python writes it.
std::string to_string(const std::vector<std::size_t>& shape);

/// The most bytes that a header may take, its preamble included; numpy writes 128.
inline constexpr std::size_t max_header_bytes = 64 * 1024;

/// Reads the header from the beginning of a file: `start` is its first max_header_bytes bytes, or all of it if it is
/// shorter; `file_size` is the length of the whole file. Throws error.
header parse(std::span<const std::byte> start, std::uint64_t file_size);

/// An open .npy file whose header was found good. Throws error, and std::system_error naming the system call.
class file {
 public:
  explicit file(const std::string& path);

  const npy::header& header() const noexcept { return header_; }
  /// Reads all elements to `to`, which has header().bytes bytes. May be called again.
  void read_elements(std::span<std::byte> to) const;

 private:
  struct descriptor {
    explicit descriptor(const std::string& path);
    descriptor(const descriptor&) = delete;
    descriptor& operator=(const descriptor&) = delete;
    ~descriptor();
    const int fd;
  };
  std::string path_;
  descriptor descriptor_;
  npy::header header_;
};

}  // namespace npy
