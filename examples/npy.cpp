// The .npy reader. The header of such a file is a Python dictionary literal, {'descr': '<f8', 'fortran_order': False,
// 'shape': (3, 4)}; cursor reads the part of that language that headers use.
// Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
#include "npy.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <optional>
#include <system_error>
#include <utility>

namespace npy {
namespace {

struct type_row {
  std::string_view descr;  // without the byte order
  std::string_view name;
  std::size_t size;
};

// In the order of dtype.
constexpr std::array<type_row, 11> types{{{"b1", "bool", 1},
                                          {"i1", "int8", 1},
                                          {"i2", "int16", 2},
                                          {"i4", "int32", 4},
                                          {"i8", "int64", 8},
                                          {"u1", "uint8", 1},
                                          {"u2", "uint16", 2},
                                          {"u4", "uint32", 4},
                                          {"u8", "uint64", 8},
                                          {"f4", "float32", 4},
                                          {"f8", "float64", 8}}};

// numpy allows 64.
constexpr std::size_t max_rank = 64;

// What a file says is shown to people: quoted, short, and with nothing in it that a terminal would obey.
std::string quoted(std::string_view text) {
  constexpr std::size_t longest = 40;
  std::string shown = "'";
  for (char c : text.substr(0, longest)) shown += c >= ' ' && c <= '~' ? c : '?';
  return shown + (text.size() > longest ? "...'" : "'");
}

class cursor {
 public:
  explicit cursor(std::string_view text) noexcept : rest_(text) {}

  bool accept(char c) {
    skip_spaces();
    if (!rest_.starts_with(c)) return false;
    rest_.remove_prefix(1);
    return true;
  }

  void expect(char c) {
    if (!accept(c))
      throw error("the header is not a dictionary as numpy writes it: '" + std::string(1, c) + "' expected before " +
                  quoted(rest_));
  }

  bool at_end() {
    skip_spaces();
    return rest_.empty();
  }

  bool at_string() {
    skip_spaces();
    return rest_.starts_with('\'') || rest_.starts_with('"');
  }

  std::string_view string() {
    if (!at_string()) throw error("the header has " + quoted(rest_) + " where a string belongs");
    const std::size_t end = rest_.find(rest_.front(), 1);
    if (end == std::string_view::npos) throw error("the header has a string without an end");
    const std::string_view text = rest_.substr(1, end - 1);
    rest_.remove_prefix(end + 1);
    return text;
  }

  bool boolean() {
    skip_spaces();
    for (auto [text, value] : {std::pair{std::string_view("True"), true}, {std::string_view("False"), false}}) {
      if (rest_.starts_with(text)) {
        rest_.remove_prefix(text.size());
        return value;
      }
    }
    throw error("the header has " + quoted(rest_) + " where True or False belongs");
  }

  std::size_t number() {
    skip_spaces();
    std::size_t value = 0, digits = 0;
    for (; digits < rest_.size() && rest_[digits] >= '0' && rest_[digits] <= '9'; ++digits) {
      const auto digit = static_cast<std::size_t>(rest_[digits] - '0');
      if (value > (std::numeric_limits<std::size_t>::max() - digit) / 10)
        throw error("the shape has a number that is too large: " + quoted(rest_));
      value = value * 10 + digit;
    }
    if (digits == 0) throw error("the shape has " + quoted(rest_) + " where a length belongs");
    rest_.remove_prefix(digits);
    if (rest_.starts_with('L')) rest_.remove_prefix(1);  // Python 2 wrote 10L
    return value;
  }

 private:
  void skip_spaces() {
    while (!rest_.empty() && (rest_.front() == ' ' || rest_.front() == '\n' || rest_.front() == '\t'))
      rest_.remove_prefix(1);
  }
  std::string_view rest_;
};

std::vector<std::size_t> read_shape(cursor& in) {
  std::vector<std::size_t> shape;
  in.expect('(');
  while (!in.accept(')')) {
    if (shape.size() == max_rank) throw error("the shape has more than 64 dimensions");
    shape.push_back(in.number());
    if (in.accept(',')) continue;
    in.expect(')');
    break;
  }
  return shape;
}

dtype type_from(std::string_view descr) {
  const std::string_view kind = descr.substr(descr.empty() ? 0 : 1);
  const char order = descr.empty() ? ' ' : descr.front();
  const auto* row = std::find_if(types.begin(), types.end(), [&](const type_row& r) { return r.descr == kind; });
  const std::string intro = "dtype " + quoted(descr) + ": ";
  if (row == types.end()) {
    if (kind == "f2") throw error(intro + "C++20 has no 2-byte float; save x.astype('<f4')");
    if (kind.starts_with('f')) throw error(intro + "this size of float is not portable; save x.astype('<f8')");
    if (kind.starts_with('c')) throw error(intro + "complex elements are not supported");
    if (kind == "O") throw error(intro + "Python objects cannot be read outside Python");
    if (kind.starts_with('S') || kind.starts_with('U') || kind.starts_with('a'))
      throw error(intro + "strings are not supported");
    if (kind.starts_with('M') || kind.starts_with('m'))
      throw error(intro + "dates are not supported; save x.view('<i8')");
    throw error(intro + "not a dtype that this program knows");
  }
  if (order == '>' && row->size > 1) throw error(intro + "big-endian; save x.astype('<" + std::string(kind) + "')");
  if (order != '<' && order != '|' && order != '=' && order != '>') throw error(intro + "unknown byte order");
  if (order == '|' && row->size > 1) throw error(intro + "its byte order is missing");
  return static_cast<dtype>(row - types.begin());
}

std::optional<std::size_t> product(std::size_t a, std::size_t b) {
  std::size_t result = 0;
  if (__builtin_mul_overflow(a, b, &result)) return std::nullopt;
  return result;
}

// Sets count and bytes. A length of zero makes the array empty, whatever the other lengths are.
void measure(header& h) {
  const bool empty = std::find(h.shape.begin(), h.shape.end(), std::size_t{0}) != h.shape.end();
  std::optional<std::size_t> bytes = empty ? 0 : size_of(h.type);
  if (!empty) {
    for (std::size_t length : h.shape) {
      if (bytes) bytes = product(*bytes, length);
    }
  }
  if (!bytes || *bytes > std::numeric_limits<std::size_t>::max() / 2)
    throw error("the shape " + to_string(h.shape) + " is larger than memory can be");
  h.bytes = *bytes;
  h.count = h.bytes / size_of(h.type);
}

void parse_dictionary(std::string_view text, header& h) {
  bool has_descr = false, has_order = false, has_shape = false;
  cursor in(text);
  in.expect('{');
  while (!in.accept('}')) {
    const std::string_view key = in.string();
    in.expect(':');
    const auto once = [key](bool& seen) {
      if (std::exchange(seen, true)) throw error("the header has " + quoted(key) + " twice");
    };
    if (key == "descr") {
      once(has_descr);
      if (!in.at_string()) throw error("structured dtypes are not supported; save one field of it");
      h.type = type_from(in.string());
    } else if (key == "fortran_order") {
      once(has_order);
      if (in.boolean()) throw error("the array is in Fortran order; save numpy.ascontiguousarray(x)");
    } else if (key == "shape") {
      once(has_shape);
      h.shape = read_shape(in);
    } else {
      throw error("the header has the unknown key " + quoted(key));
    }
    if (in.accept(',')) continue;
    in.expect('}');
    break;
  }
  if (!in.at_end()) throw error("the header goes on after its dictionary");
  if (!has_descr || !has_order || !has_shape) throw error("the header lacks one of 'descr', 'fortran_order', 'shape'");
}

}  // namespace

std::size_t size_of(dtype type) noexcept {
  return types[static_cast<std::size_t>(type)].size;
}

std::string_view name_of(dtype type) noexcept {
  return types[static_cast<std::size_t>(type)].name;
}

std::string to_string(const std::vector<std::size_t>& shape) {
  std::string text = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + (shape.size() == 1 ? ",)" : ")");
}

header parse(std::span<const std::byte> start, std::uint64_t file_size) {
  const auto byte_at = [&](std::size_t i) { return std::to_integer<std::size_t>(start[i]); };
  constexpr std::string_view magic = "\x93NUMPY";
  constexpr std::size_t version_at = magic.size(), length_at = version_at + 2;
  if (start.size() < length_at || std::memcmp(start.data(), magic.data(), magic.size()) != 0)
    throw error("not a .npy file: it does not begin with \\x93NUMPY and a version");
  const std::size_t major = byte_at(version_at), minor = byte_at(version_at + 1);
  if (major < 1 || major > 3 || minor != 0)
    throw error("format version " + std::to_string(major) + "." + std::to_string(minor) +
                "; known are 1.0, 2.0 and 3.0");

  // The length of the dictionary is little-endian, of 2 bytes in version 1 and of 4 from version 2.
  const std::size_t text_at = length_at + (major == 1 ? 2 : 4);
  if (start.size() < text_at) throw error("the file ends in its header");
  std::size_t text_size = 0;
  for (std::size_t i = text_at; i-- > length_at;) text_size = text_size << 8 | byte_at(i);
  if (text_size > max_header_bytes - text_at) throw error("the header is longer than 64 KiB");
  if (text_size > start.size() - text_at) throw error("the file ends in its header");

  header h;
  const auto* text = reinterpret_cast<const char*>(start.data() + text_at);
  parse_dictionary({text, text_size}, h);
  measure(h);
  h.data_offset = text_at + text_size;
  if (file_size < h.data_offset || file_size - h.data_offset < h.bytes)
    throw error("the file ends too early: " + to_string(h.shape) + " of " + std::string(name_of(h.type)) + " takes " +
                std::to_string(h.bytes) + " bytes after the header, and there are " +
                std::to_string(file_size < h.data_offset ? 0 : file_size - h.data_offset));
  return h;
}

namespace {

// Fills `to` from `offset` on, or as far as the file goes; returns how many bytes.
std::size_t read_at(int fd, std::span<std::byte> to, std::size_t offset) {
  std::size_t done = 0;
  while (done < to.size()) {
    const ssize_t n = ::pread(fd, to.data() + done, to.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw std::system_error(errno, std::generic_category(), "pread");
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  return done;
}

}  // namespace

// Without O_NONBLOCK, opening a named pipe would wait for a writer.
file::descriptor::descriptor(const std::string& path) : fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
  if (fd < 0) throw std::system_error(errno, std::generic_category(), "open " + path);
}

file::descriptor::~descriptor() {
  ::close(fd);
}

file::file(const std::string& path) : path_(path), descriptor_(path) {
  struct stat status {};
  if (::fstat(descriptor_.fd, &status) != 0) throw std::system_error(errno, std::generic_category(), "fstat " + path);
  if (!S_ISREG(status.st_mode)) throw error(path + ": not a regular file");
  std::vector<std::byte> start(max_header_bytes);
  start.resize(read_at(descriptor_.fd, start, 0));
  try {
    header_ = parse(start, static_cast<std::uint64_t>(status.st_size));
  } catch (const error& why) {
    throw error(path + ": " + why.what());
  }
}

void file::read_elements(std::span<std::byte> to) const {
  if (to.size() != header_.bytes) throw std::invalid_argument("npy::file::read_elements: wrong size");
  if (read_at(descriptor_.fd, to, header_.data_offset) != to.size())
    throw error(path_ + ": the file has become shorter");
}

}  // namespace npy
