// Writes the seeds of the fuzzers: what the library itself sends, made by its own encoders. Usage: record_corpus <dir>;
// the files go to <dir>/<target>/.
#include "fuzz/control_page_input.hpp"
#include "fuzz/messages.hpp"
#include "process/unique_fd.hpp"
#include "wire/control_page.hpp"
#include "wire/frame.hpp"
#include "worker/reply_stream.hpp"

#include <shmpool/detail/codec/exception_codec.hpp>

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <tuple>
#include <vector>

namespace {

using namespace shmpool;
using bytes = std::vector<std::byte>;

class recorder {
 public:
  recorder(const std::filesystem::path& root, const char* target) : directory_(root / target) {
    std::filesystem::create_directories(directory_);
  }
  void write(const bytes& content) {
    const auto file = directory_ / ("seed" + std::to_string(count_++));
    std::ofstream stream(file, std::ios::binary);
    stream.write(reinterpret_cast<const char*>(content.data()), static_cast<std::streamsize>(content.size()));
    if (!stream.flush()) throw std::runtime_error("cannot write " + file.string());
  }

 private:
  std::filesystem::path directory_;
  int count_ = 0;
};

template <class T>
void append(bytes& to, const T& value) {
  const auto raw = std::as_bytes(std::span(&value, 1));
  to.insert(to.end(), raw.begin(), raw.end());
}

void append(bytes& to, const bytes& more) {
  to.insert(to.end(), more.begin(), more.end());
}

// ---- Arguments and results.

/// As read_message() of messages.hpp reads it.
bytes coded(std::size_t kind, const testing::message& message) {
  bytes result{static_cast<std::byte>(kind), static_cast<std::byte>(message.attachments.size())};
  for (const detail::attachment& each : message.attachments) {
    const auto units = [](std::uint64_t size) { return static_cast<std::byte>((size + 7) / 8); };
    result.push_back(units(each.handle.size()));
    result.push_back(units(each.offset));
    result.push_back(units(each.length));
    result.push_back(static_cast<std::byte>(each.mode));
  }
  append(result, message.bytes);
  return result;
}

fuzz::recording sample_recording() {
  fuzz::recording made;
  made.name = "a recording";
  made.samples = make_array<float>(4, 8, 1.0f);
  made.channels = {make_array<int>(3, fill(1)), make_array<int>(40, fill(2))};
  made.marks = {{"begin", {1, 2, 3, 4}}, {"end", {5, 6, 7, 8}}};
  return made;
}

fuzz::result_types sample_results() {
  fuzz::result_types samples;
  auto& [number, real, truth, text, reals, texts, truths, plain, structure, option, variant, table, pointer, row,
         constant, cube, rows, pointers, code, codes] = samples;
  number = 42;
  real = 0.5;
  truth = true;
  text = std::string(100, 's');
  reals.assign(20, 1.5);
  texts = {"one", std::string(80, 't'), ""};
  truths = {true, false, true};
  plain = {1, 2, 3, 4};
  structure = sample_recording();
  option = "maybe";
  variant = make_array<double>(3, 4, 1.0);
  table = {{1, {"a"}}, {2, {}}};
  pointer = std::make_shared<std::string>("shared");
  row = make_array<float>(30, fill(1.0f));
  constant = make_array<double>(2, 2, 1.0);
  cube = make_array<int>(2, 3, 4, fill(7));
  rows = {make_array<fuzz::point>(4)};
  pointers = {std::make_shared<std::vector<int>>(5), std::make_unique<std::string>("owned")};
  code = std::make_error_code(std::errc::io_error);
  codes = {
      {"condition", std::make_error_condition(std::errc::timed_out)},
      {"codes", std::vector{shmpool::make_error_code(errc::queue_full), std::error_code(7, std::system_category())}}};
  return samples;
}

void record_results(const std::filesystem::path& root) {
  recorder to(root, "results");
  const auto samples = sample_results();
  const auto record = [&]<class T>(std::size_t kind, const T& value) {
    for (const std::size_t limit : {std::size_t{0}, std::size_t{64}, std::size_t{4096}}) {
      testing::memory_source source;
      detail::packer packed(source, limit);
      detail::result_codec<T>::put(packed, value);
      to.write(coded(kind, {packed.bytes(), packed.attachments()}));
    }
  };
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    (record(I, std::get<I>(samples)), ...);
  }(std::make_index_sequence<fuzz::result_type_count>{});
}

void record_arguments(const std::filesystem::path& root) {
  recorder to(root, "arguments");
  testing::round_trip call;
  const auto shared = [](auto sample) {
    using element = typename decltype(sample)::value_type;
    const std::size_t size = sample.size() * sizeof(element);
    return decltype(sample)(testing::memory_segment::make(size, 64), 0, sample.extents());
  };
  using namespace fuzz::functions;
  call(&numbers, 1, 2.5, true, fuzz::point{});
  to.write(coded(0, call.arguments));
  call(&texts, std::string("short"), std::string(90, 'l'), std::vector<std::string>{"a", "bb"});
  to.write(coded(1, call.arguments));
  auto doubles = shared(make_array<double>(20));
  auto ints = shared(make_array<int>(4));
  std::vector<float> floats(30, 1.0f);
  call(&views, doubles, ints, floats);
  to.write(coded(2, call.arguments));
  auto edited = shared(make_array<int>(24));
  auto span = shared(make_array<double>(3));
  call(&edits, edited, span, shared(make_array<float>(4, 4)));
  to.write(coded(3, call.arguments));
  call(&structures, sample_recording(), std::optional<std::string>("some"),
       std::variant<int, std::string, array<double, 2>>(make_array<double>(3, 3, 1.0)));
  to.write(coded(4, call.arguments));
  call(&nothing);
  to.write(coded(5, call.arguments));
  call(&codes, std::make_error_code(std::errc::io_error),
       std::vector<std::optional<std::error_condition>>{std::nullopt, std::make_error_condition(std::errc::timed_out)});
  to.write(coded(6, call.arguments));
}

// ---- Exceptions.

template <class E>
bytes nested(E outer) {
  try {
    try {
      throw std::out_of_range("inner");
    } catch (...) {
      std::throw_with_nested(std::move(outer));
    }
  } catch (...) {
    return detail::encode_exception(std::current_exception());
  }
}

std::vector<bytes> exception_records() {
  using std::filesystem::filesystem_error;
  return {detail::encode_exception(std::make_exception_ptr(std::runtime_error("text"))),
          detail::encode_exception(std::make_exception_ptr(42)),
          detail::encode_exception(std::make_exception_ptr(std::bad_alloc())),
          detail::encode_exception(std::make_exception_ptr(std::system_error(errc::shm_exhausted, "no room"))),
          nested(filesystem_error("files", "/one", "/two", std::make_error_code(std::errc::io_error))),
          nested(std::invalid_argument("outer"))};
}

// ---- Frames and the control page: a worker's replies.

struct reply {
  wire::frame_header header;
  std::vector<wire::segment_ref> segments;
  bytes body;
};

std::vector<reply> replies() {
  std::vector<reply> result;
  const auto add = [&](wire::frame_type type, std::uint64_t task, std::uint64_t value,
                       std::vector<wire::segment_ref> segments, bytes body) {
    reply made;
    made.header.type = type;
    made.header.task = task;
    made.header.value = value;
    made.header.slot = static_cast<std::uint16_t>(task % wire::slot_count);
    made.segments = std::move(segments);
    made.body = std::move(body);
    result.push_back(std::move(made));
  };
  wire::segment_ref in_result;
  in_result.id = 7;
  in_result.length = 4096;
  in_result.flags = wire::flag_result;
  wire::segment_ref kept;
  kept.id = 8;
  kept.flags = wire::flag_created | wire::flag_kept;
  testing::memory_source source;
  const auto text = testing::pack_value(source, std::string("forty two"), detail::direction::result);
  add(wire::frame_type::ready, 4321, 0, {}, {});
  add(wire::frame_type::value, 1, 1200, {}, text.bytes);
  add(wire::frame_type::need, 2, 1 << 20, {}, {});
  add(wire::frame_type::progress, 2, 0x3fe0000000000000, {}, {});
  add(wire::frame_type::value, 2, 99'000, {in_result, kept}, bytes(24));
  add(wire::frame_type::error, 3, 50, {}, exception_records().front());
  add(wire::frame_type::released, 0, 0, {}, bytes(16, std::byte{8}));
  add(wire::frame_type::outgrown, 0, 0, {}, {});
  add(wire::frame_type::leaving, 0, 0, {}, {});
  add(wire::frame_type::init_failed, 4321, 0, {}, exception_records().back());
  return result;
}

void record_frames(const std::filesystem::path& root) {
  recorder to(root, "frames");
  bytes all{std::byte{1}};
  for (const reply& each : replies()) {
    bytes one{std::byte{0}};
    wire::append_frame(one, each.header, each.segments, each.body);
    all.insert(all.end(), one.begin() + 1, one.end());
    to.write(one);
  }
  to.write(all);
  wire::frame_header announced;
  announced.body = wire::max_body;
  announced.type = wire::frame_type::value;
  bytes huge{std::byte{0}};
  append(huge, announced);
  huge.resize(8192);
  to.write(huge);
}

/// A worker's end of a stream, with what it has said on its socket; see control_page_input.hpp.
struct recorded_worker {
  recorded_worker() {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
      throw std::system_error(errno, std::system_category(), "socketpair");
    }
    parent = unique_fd(ends[0]);
    worker_end = unique_fd(ends[1]);
    stream.emplace(worker_end.get(), *page);
  }
  void say(const reply& what) { stream->append(what.header, what.segments, what.body); }

  /// The input up to what is in the socket.
  bytes seed(std::uint64_t reply_end, bool lives) const {
    bytes socket(4096);
    const ssize_t size = ::recv(parent.get(), socket.data(), socket.size(), MSG_DONTWAIT);
    socket.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
    bytes seed;
    append(seed, std::uint32_t{0});
    append(seed, reply_end);
    // Some tasks have been started, one of them in a slot that was used before.
    for (unsigned slot = 0; slot != wire::slot_count; ++slot) {
      seed.push_back(static_cast<std::byte>(slot < 3 ? 2 : slot == 3 ? 6 : 1));
    }
    append(seed, static_cast<std::uint16_t>(socket.size() | (lives ? 0x8000U : 0U)));
    append(seed, socket);
    return seed;
  }
  void append_ring(bytes& to) const {
    to.insert(to.end(), page->reply_ring, page->reply_ring + page->reply_end.load());
  }

  std::unique_ptr<wire::control_page> page = std::make_unique<wire::control_page>();
  unique_fd parent, worker_end;
  std::optional<worker::reply_stream> stream;
};

/// What a worker leaves that dies with `unsent` of its replies not sent.
bytes dead_worker(const std::vector<reply>& all, std::size_t unsent) {
  recorded_worker of;
  for (std::size_t i = 0; i != all.size(); ++i) {
    of.say(all[i]);
    if (i + unsent < all.size()) of.stream->flush();
  }
  bytes seed = of.seed(of.page->reply_end, false);
  of.append_ring(seed);
  return seed;
}

/// A worker of whose replies `polled` are taken from the ring, and the others are sent.
bytes polled_worker(const std::vector<reply>& all, std::size_t polled) {
  using kind = fuzz::control_page_input::step;
  recorded_worker of;
  bytes steps;
  const auto add = [&](kind::kind what, std::uint64_t number) {
    steps.push_back(static_cast<std::byte>(what));
    steps.push_back(static_cast<std::byte>(number));
  };
  for (std::size_t i = 0; i != all.size(); ++i) {
    const std::uint64_t before = of.page->reply_end;
    of.page->parent_sleeps = i < polled ? 0 : 1;
    of.say(all[i]);
    of.stream->flush();
    for (std::uint64_t left = of.page->reply_end - before; left != 0;) {
      const std::uint64_t part = std::min<std::uint64_t>(left, 127);
      add(kind::publish, part);
      left -= part;
    }
    if (i >= polled) continue;
    add(kind::poll, 0);
    of.page->reply_taken = of.page->reply_end.load();
  }
  for (int i = 0; i != 16; ++i) add(kind::receive, 255);
  add(kind::poll, 0);
  bytes seed = of.seed(0, true);
  append(seed, std::uint64_t{0});
  seed.push_back(static_cast<std::byte>(steps.size() / 2));
  append(seed, steps);
  of.append_ring(seed);
  return seed;
}

void record_control_page(const std::filesystem::path& root) {
  recorder to(root, "control_page");
  const auto all = replies();
  for (std::size_t unsent = 0; unsent <= all.size(); unsent += 2) to.write(dead_worker(all, unsent));
  for (std::size_t polled = 0; polled <= all.size(); polled += 5) to.write(polled_worker(all, polled));
}

/// What the worker of replies() has, as replies_target.cpp reads it; `rights` of both segments.
bytes with_holdings(unsigned facts, std::uint64_t in_slot, unsigned rights) {
  bytes seed{static_cast<std::byte>(facts)};
  append(seed, in_slot);
  seed.push_back(std::byte{2});
  for (const unsigned each : {7U, 0U, 255U, rights, 8U, 0U, 64U, rights}) seed.push_back(static_cast<std::byte>(each));
  return seed;
}

void record_replies(const std::filesystem::path& root) {
  recorder to(root, "replies");
  const auto all = replies();
  for (const unsigned facts : {0U, 1U, 9U, 15U}) {
    for (std::uint64_t task = 1; task != 4; ++task) {
      bytes seed = with_holdings(facts, task, static_cast<unsigned>(task));
      for (const reply& each : all) wire::append_frame(seed, each.header, each.segments, each.body);
      to.write(seed);
    }
  }
}

void record_exceptions(const std::filesystem::path& root) {
  recorder to(root, "exceptions");
  for (const bytes& each : exception_records()) to.write(each);
}

}  // namespace

int main(int count, char** values) {
  if (count != 2) return std::fputs("usage: record_corpus <directory>\n", stderr), 2;
  try {
    const std::filesystem::path root = values[1];
    record_frames(root);
    record_arguments(root);
    record_results(root);
    record_exceptions(root);
    record_replies(root);
    record_control_page(root);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "record_corpus: %s\n", error.what());
    return 1;
  }
}
