// What the targets `arguments` and `results` have in common: how an input becomes a message with attachments, and the
// types and functions that stand for all that users send. record_corpus.cpp writes such inputs from real messages.
//
// Input: the number of the type or function, the number of attachments, four bytes for each of those, then the body.
//
// Thread safety: none is needed.
#pragma once

#include "fuzz/targets.hpp"
#include "support/round_trip.hpp"

#include <shmpool/array.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

namespace shmpool::fuzz {

struct point {
  double x = 0, y = 0;
  std::int32_t tag = 0, more = 0;  // no padding: values are compared by their bytes
};

/// A nested structure that cereal writes, with arrays that travel out of band.
struct recording {
  std::string name;
  array<const float, 2> samples;
  std::vector<array<int>> channels;
  std::map<std::string, point> marks;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(name, samples, channels, marks);
  }
};

using result_types =
    std::tuple<int, double, bool, std::string, std::vector<double>, std::vector<std::string>, std::vector<bool>, point,
               recording, std::optional<std::string>, std::variant<int, std::string, array<double, 2>>,
               std::map<int, std::vector<std::string>>, std::shared_ptr<std::string>, array<float>,
               array<const double, 2>, array<int, 3>, std::vector<array<point>>,
               std::pair<std::shared_ptr<std::vector<int>>, std::unique_ptr<std::string>>, std::error_code,
               std::map<std::string, std::variant<std::error_condition, std::vector<std::error_code>>>>;
inline constexpr std::size_t result_type_count = std::tuple_size_v<result_types>;

/// Calls `visit.operator()<T>()` with the result type of that number.
template <class Visitor>
void visit_result_type(std::size_t number, Visitor&& visit) {
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    (void)((I == number ? (visit.template operator()<std::tuple_element_t<I, result_types>>(), true) : false) || ...);
  }(std::make_index_sequence<result_type_count>{});
}

// ---- Attachments: four bytes each.

inline constexpr std::size_t most_attachments = 4;
inline constexpr std::size_t attachment_unit = 8;

/// Segment size, offset and length in units of 8 bytes, and the access.
struct attachment_code {
  std::uint8_t size = 0, offset = 0, length = 0, mode = 0;
};

/// A segment of that size. Its bytes are those of small numbers.
inline detail::attachment make_attachment(const attachment_code& code) {
  detail::attachment made;
  const std::size_t bytes = std::size_t{code.size} * attachment_unit;
  if (bytes != 0) {
    made.handle = testing::memory_segment::make(bytes, 64);
    std::memset(made.handle.data(), 1, bytes);
  }
  made.offset = std::uint64_t{code.offset} * attachment_unit;
  // One that reaches far beyond its end, as only a length that came over the wire could.
  made.length = code.length == 0xff ? ~std::uint64_t{0} - made.offset : std::uint64_t{code.length} * attachment_unit;
  made.mode = static_cast<detail::access>(code.mode);
  return made;
}

struct coded_message {
  std::size_t kind = 0;
  testing::message message;
};

inline coded_message read_message(input from, std::size_t kinds) {
  input_reader reader(from);
  coded_message result;
  result.kind = reader.byte() % kinds;
  for (std::size_t n = reader.byte() % (most_attachments + 1); n != 0; --n) {
    attachment_code code;
    for (std::uint8_t* each : {&code.size, &code.offset, &code.length, &code.mode}) {
      *each = static_cast<std::uint8_t>(reader.byte());
    }
    result.message.attachments.push_back(make_attachment(code));
  }
  const input body = reader.rest();
  result.message.bytes.assign(body.begin(), body.end());
  return result;
}

// ---- Functions whose arguments are fuzzed. Each touches all that it gets, and returns a number that depends on it.

namespace functions {

inline std::uint64_t numbers(int a, double b, bool c, point d) {
  return static_cast<std::uint64_t>(a) + (b > d.x ? 1U : 0U) + (c ? 2U : 0U);
}
inline std::uint64_t texts(const std::string& a, std::string_view b, std::vector<std::string> c) {
  std::uint64_t sum = a.size() + b.size();
  for (const auto& each : c) sum += each.size();
  return sum;
}
inline std::uint64_t views(array<const double> a, std::span<const int> b, const std::vector<float>& c) {
  std::uint64_t sum = 0;
  for (const double each : a) sum += each > 0 ? 1U : 0U;
  for (const int each : b) sum += static_cast<std::uint64_t>(each);
  for (const float each : c) sum += each > 0 ? 1U : 0U;
  return sum;
}
/// Writes where it may write: AddressSanitizer sees it if that is not there.
inline std::uint64_t edits(array<int>& a, std::span<double> b, array<float, 2> c) {
  for (int& each : a) each = 3;
  for (double& each : b) each = 3;
  for (float& each : c) each = 3;
  return a.size() + b.size() + c.size();
}
inline std::uint64_t structures(const recording& a, std::optional<std::string> b,
                                std::variant<int, std::string, array<double, 2>> c) {
  std::uint64_t sum = a.name.size() + a.marks.size() + (b ? b->size() : 0) + c.index();
  for (const float each : a.samples) sum += each > 0 ? 1U : 0U;
  for (const auto& channel : a.channels) {
    for (const int each : channel) sum += static_cast<std::uint64_t>(each);
  }
  return sum;
}
inline std::uint64_t nothing() {
  return 1;
}
inline std::uint64_t codes(std::error_code a, const std::vector<std::optional<std::error_condition>>& b) {
  std::uint64_t sum = a.message().size();
  for (const auto& each : b) sum += each ? each->message().size() : 0;
  return sum;
}

}  // namespace functions

/// As submit() would name them.
inline std::vector<detail::callable_ref> argument_functions() {
  using namespace functions;
  return {
      detail::task_for<decltype(&numbers), int, double, bool, point>::ref(&numbers),
      detail::task_for<decltype(&texts), std::string, std::string, std::vector<std::string>>::ref(&texts),
      detail::task_for<decltype(&views), array<double>&, array<int>&, array<float>&>::ref(&views),
      detail::task_for<decltype(&edits), array<int>&, array<double>&, array<float, 2>>::ref(&edits),
      detail::task_for<decltype(&structures), recording, std::optional<std::string>,
                       std::variant<int, std::string, array<double, 2>>>::ref(&structures),
      detail::task_for<decltype(&nothing)>::ref(&nothing),
      detail::task_for<decltype(&codes), std::error_code, std::vector<std::optional<std::error_condition>>>::ref(
          &codes),
  };
}

}  // namespace shmpool::fuzz
