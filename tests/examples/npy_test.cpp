// The .npy reader: what it reads, byte by byte, and that it refuses everything else with the reason. (Files that numpy
// itself writes are tested through the quickstart, in quickstart_npy.sh.)
#include "npy.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/types.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::uint64_t huge_file = std::uint64_t{1} << 60;

// A header as numpy writes it: padded with spaces to a multiple of 64 bytes, ended by a newline.
std::string with_header(std::string dictionary, char major = 1) {
  const std::size_t preamble = major == 1 ? 10 : 12;
  while ((preamble + dictionary.size() + 1) % 64 != 0) dictionary += ' ';
  dictionary += '\n';
  std::string file = std::string("\x93NUMPY") + major + '\0';
  for (std::size_t i = 0; i < preamble - 8; ++i) file += static_cast<char>(dictionary.size() >> (8 * i) & 0xff);
  return file + dictionary;
}

std::string dictionary(const std::string& descr, const std::string& shape, const std::string& order = "False") {
  return "{'descr': " + descr + ", 'fortran_order': " + order + ", 'shape': " + shape + ", }";
}

npy::header parse(const std::string& file, std::uint64_t size = huge_file) {
  return npy::parse(std::as_bytes(std::span(file)), size);
}

std::string refusal(const std::string& file, std::uint64_t size = huge_file) {
  try {
    parse(file, size);
  } catch (const npy::error& why) {
    return why.what();
  }
  return "(accepted)";
}

// A file that goes away with the test.
class temporary_file {
 public:
  explicit temporary_file(const std::string& content) {
    char path[] = "/tmp/shmpool-npy-test-XXXXXX";
    const int fd = ::mkstemp(path);
    if (fd < 0) throw std::system_error(errno, std::generic_category(), "mkstemp");
    ::close(fd);
    path_ = path;
    std::ofstream(path_, std::ios::binary) << content;
  }
  temporary_file(const temporary_file&) = delete;
  temporary_file& operator=(const temporary_file&) = delete;
  ~temporary_file() { ::unlink(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

TEST(npy_header, reads_what_numpy_writes) {
  const npy::header h = parse(with_header(dictionary("'<f8'", "(3, 4)")));
  EXPECT_EQ(h.type, npy::dtype::float64);
  EXPECT_THAT(h.shape, ElementsAre(3u, 4u));
  EXPECT_EQ(h.count, 12u);
  EXPECT_EQ(h.bytes, 96u);
  EXPECT_EQ(h.data_offset, 128u);
}

TEST(npy_header, knows_every_type_that_it_promises) {
  const std::array<std::pair<const char*, npy::dtype>, 11> known{{{"'|b1'", npy::dtype::boolean},
                                                                  {"'|i1'", npy::dtype::int8},
                                                                  {"'<i2'", npy::dtype::int16},
                                                                  {"'<i4'", npy::dtype::int32},
                                                                  {"'<i8'", npy::dtype::int64},
                                                                  {"'|u1'", npy::dtype::uint8},
                                                                  {"'<u2'", npy::dtype::uint16},
                                                                  {"'<u4'", npy::dtype::uint32},
                                                                  {"'<u8'", npy::dtype::uint64},
                                                                  {"'<f4'", npy::dtype::float32},
                                                                  {"'<f8'", npy::dtype::float64}}};
  for (auto [descr, type] : known) {
    const npy::header h = parse(with_header(dictionary(descr, "(5,)")));
    EXPECT_EQ(h.type, type) << descr;
    EXPECT_EQ(h.bytes, 5 * static_cast<std::size_t>(descr[3] - '0')) << descr;
  }
}

TEST(npy_header, reads_format_versions_1_2_and_3) {
  for (char major : {'\1', '\2', '\3'})
    EXPECT_EQ(parse(with_header(dictionary("'<i4'", "(7,)"), major)).count, 7u) << static_cast<int>(major);
  EXPECT_THAT(refusal(with_header(dictionary("'<i4'", "(7,)"), 4)), HasSubstr("version 4.0"));
}

TEST(npy_header, reads_any_rank) {
  EXPECT_THAT(parse(with_header(dictionary("'<f8'", "()"))).shape, IsEmpty());
  EXPECT_EQ(parse(with_header(dictionary("'<f8'", "()"))).count, 1u);
  EXPECT_THAT(parse(with_header(dictionary("'<f8'", "(2, 1, 3, 1, 2)"))).shape, ElementsAre(2u, 1u, 3u, 1u, 2u));
}

TEST(npy_header, reads_keys_in_any_order_with_double_quotes_and_python_2_numbers) {
  const npy::header h = parse(with_header("{\"shape\": (10L, 2L), \"fortran_order\": False, \"descr\": \"<u2\"}"));
  EXPECT_EQ(h.type, npy::dtype::uint16);
  EXPECT_THAT(h.shape, ElementsAre(10u, 2u));
}

TEST(npy_header, an_array_with_a_zero_length_is_empty_however_long_the_others_are) {
  const npy::header h = parse(with_header(dictionary("'<f8'", "(0, 9223372036854775807, 9223372036854775807)")));
  EXPECT_EQ(h.count, 0u);
  EXPECT_EQ(h.bytes, 0u);
}

TEST(npy_header, refuses_types_it_has_no_type_for_and_says_what_to_do) {
  const auto with_type = [](const std::string& descr) { return refusal(with_header(dictionary(descr, "(3,)"))); };
  EXPECT_THAT(with_type("'>f8'"), HasSubstr("dtype '>f8': big-endian; save x.astype('<f8')"));
  EXPECT_THAT(with_type("'<f2'"), HasSubstr("2-byte float"));
  EXPECT_THAT(with_type("'<f16'"), HasSubstr("not portable"));
  EXPECT_THAT(with_type("'<c16'"), HasSubstr("complex"));
  EXPECT_THAT(with_type("'|O'"), HasSubstr("Python objects"));
  EXPECT_THAT(with_type("'<U3'"), HasSubstr("strings"));
  EXPECT_THAT(with_type("'|S3'"), HasSubstr("strings"));
  EXPECT_THAT(with_type("'<M8[ns]'"), HasSubstr("dates"));
  EXPECT_THAT(with_type("'<i16'"), HasSubstr("not a dtype"));
  EXPECT_THAT(with_type("'|f8'"), HasSubstr("byte order is missing"));
  EXPECT_THAT(with_type("'?f8'"), HasSubstr("unknown byte order"));
  EXPECT_THAT(with_type("''"), HasSubstr("not a dtype"));
  EXPECT_THAT(with_type("[('a', '<f8')]"), HasSubstr("structured"));
}

TEST(npy_header, big_endian_single_bytes_are_just_bytes) {
  EXPECT_EQ(parse(with_header(dictionary("'>i1'", "(3,)"))).type, npy::dtype::int8);
}

TEST(npy_header, refuses_fortran_order) {
  EXPECT_THAT(refusal(with_header(dictionary("'<f8'", "(3, 4)", "True"))), HasSubstr("Fortran order"));
}

TEST(npy_header, refuses_shapes_that_overflow) {
  const auto with_shape = [](const std::string& shape) { return refusal(with_header(dictionary("'<f8'", shape))); };
  EXPECT_THAT(with_shape("(4294967296, 4294967296)"), HasSubstr("larger than memory"));
  EXPECT_THAT(with_shape("(2305843009213693952,)"), HasSubstr("larger than memory"));  // 2^61 doubles: 2^64 bytes
  EXPECT_THAT(with_shape("(99999999999999999999999,)"), HasSubstr("too large"));
  EXPECT_THAT(with_shape("(18446744073709551616,)"), HasSubstr("too large"));  // 2^64
  EXPECT_THAT(with_shape("(-1,)"), HasSubstr("where a length belongs"));
}

TEST(npy_header, refuses_more_than_64_dimensions) {
  const auto ones = [](int n) {
    std::string shape = "(";
    for (int i = 0; i < n; ++i) shape += "1, ";
    return with_header(dictionary("'<f8'", shape + ")"));
  };
  EXPECT_EQ(parse(ones(64)).shape.size(), 64u);
  EXPECT_THAT(refusal(ones(65)), HasSubstr("more than 64"));
}

TEST(npy_header, refuses_what_is_not_a_dictionary_of_the_three_keys) {
  const std::string good = dictionary("'<f8'", "(3,)");
  EXPECT_THAT(refusal(with_header("")), HasSubstr("'{' expected"));
  EXPECT_THAT(refusal(with_header(good + "x")), HasSubstr("goes on"));
  EXPECT_THAT(refusal(with_header("{}")), HasSubstr("lacks one of"));
  EXPECT_THAT(refusal(with_header("{'descr': '<f8', 'descr': '<f8'}")), HasSubstr("twice"));
  EXPECT_THAT(refusal(with_header("{'more': 1}")), HasSubstr("unknown key 'more'"));
  EXPECT_THAT(refusal(with_header("{'descr: 1}")), HasSubstr("without an end"));
  EXPECT_THAT(refusal(with_header(dictionary("'<f8'", "(3 4)"))), HasSubstr("')' expected"));
  EXPECT_THAT(refusal(with_header(dictionary("'<f8'", "(3,)", "0"))), HasSubstr("where True or False belongs"));
}

TEST(npy_header, shows_nothing_of_a_file_that_a_terminal_would_obey) {
  EXPECT_THAT(refusal(with_header("{'\x1b[2Jx': 1}")), HasSubstr("'?[2Jx'"));
}

TEST(npy_header, refuses_a_file_that_is_not_npy) {
  EXPECT_THAT(refusal(""), HasSubstr("not a .npy file"));
  EXPECT_THAT(refusal("PK\x03\x04 and so on"), HasSubstr("not a .npy file"));
}

TEST(npy_header, refuses_a_file_that_ends_anywhere_before_its_last_element) {
  for (char major : {'\1', '\2'}) {
    const std::string whole = with_header(dictionary("'<f8'", "(2,)"), major) + std::string(16, '\0');
    for (std::size_t size = 0; size < whole.size(); ++size) {
      // A copy of exactly that length, so that a sanitizer sees a read beyond it.
      const std::vector<char> part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
      EXPECT_THROW(npy::parse(std::as_bytes(std::span(part)), size), npy::error) << size;
    }
    EXPECT_EQ(parse(whole, whole.size()).count, 2u);
  }
}

TEST(npy_header, refuses_a_header_longer_than_the_limit_without_reading_it) {
  std::string file = with_header(dictionary("'<f8'", "(2,)"), 2);
  for (std::size_t i = 8; i < 12; ++i) file[i] = '\xff';
  EXPECT_THAT(refusal(file), HasSubstr("longer than 64 KiB"));
}

TEST(npy_header, survives_any_single_byte_being_wrong) {
  const std::string good = with_header(dictionary("'<f8'", "(3, 4)")) + std::string(96, '\0');
  int accepted = 0;
  for (std::size_t at = 0; at < good.size() - 96; ++at) {
    for (int value = 0; value < 256; ++value) {
      std::string file = good;
      file[at] = static_cast<char>(value);
      try {
        const npy::header h = parse(file, file.size());
        EXPECT_LE(h.data_offset + h.bytes, file.size());
        ++accepted;
      } catch (const npy::error&) {
      }
    }
  }
  EXPECT_GT(accepted, 0);
}

TEST(npy_file, reads_the_elements) {
  const std::array<std::int16_t, 3> numbers{1, -2, 300};
  std::string content = with_header(dictionary("'<i2'", "(3,)"));
  content.append(reinterpret_cast<const char*>(numbers.data()), sizeof numbers);
  const temporary_file on_disk(content + "what follows the array is not looked at");

  const npy::file file(on_disk.path());
  std::array<std::int16_t, 3> read{};
  file.read_elements(std::as_writable_bytes(std::span(read)));
  EXPECT_EQ(read, numbers);
  std::array<std::int16_t, 2> small{};
  EXPECT_THROW(file.read_elements(std::as_writable_bytes(std::span(small))), std::invalid_argument);
}

TEST(npy_file, notices_that_the_file_became_shorter) {
  const std::string content = with_header(dictionary("'|u1'", "(9,)")) + "123456789";
  const temporary_file on_disk(content);
  const npy::file file(on_disk.path());
  ASSERT_EQ(::truncate(on_disk.path().c_str(), static_cast<off_t>(content.size() - 1)), 0);
  std::array<std::byte, 9> read{};
  EXPECT_THROW(file.read_elements(read), npy::error);
}

TEST(npy_file, names_the_file_in_every_error) {
  const temporary_file on_disk("nonsense");
  try {
    npy::file file(on_disk.path());
    FAIL() << "nonsense was read";
  } catch (const npy::error& why) {
    EXPECT_THAT(why.what(), HasSubstr(on_disk.path()));
  }
  EXPECT_THROW(npy::file("/nowhere/at/all.npy"), std::system_error);
  EXPECT_THROW(npy::file("/tmp"), npy::error);
}

}  // namespace
