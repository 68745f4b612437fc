// What is fuzzed: one function per place where the parent (or a worker) reads what another process wrote. libFuzzer
// drives them (fuzz_main.cpp), and the ordinary test suite feeds them the committed corpus (corpus_test.cpp).
//
// Thread safety: none is needed; each call is on its own.
#pragma once

#include <cstddef>
#include <span>
#include <stdexcept>

namespace shmpool::fuzz {

using input = std::span<const std::byte>;

/// A target throws this, and nothing else, if the library did not keep its word.
struct broken_promise : std::logic_error {
  using std::logic_error::logic_error;
};

inline void promise(bool kept, const char* what) {
  if (!kept) throw broken_promise(what);
}

void frames(input from);        ///< a worker's stream, cut into frames
void arguments(input from);     ///< the body and the attachments of a task
void results(input from);       ///< the body and the attachments of a reply
void exceptions(input from);    ///< the body of an error reply
void replies(input from);       ///< what a reply claims, beside what the worker has
void control_page(input from);  ///< what a dead worker left in its socket and in its control page

struct target {
  const char* name;  ///< of its corpus, too
  void (*run)(input from);
};

inline constexpr target targets[] = {
    {"frames", frames},         {"arguments", arguments}, {"results", results},
    {"exceptions", exceptions}, {"replies", replies},     {"control_page", control_page},
};

/// Takes an input apart: numbers from its front, as long as there are any, then the rest. Short inputs read as zeros,
/// so that every input means something.
class input_reader {
 public:
  explicit input_reader(input from) noexcept : left_(from) {}

  unsigned byte() noexcept {
    if (left_.empty()) return 0;
    const auto value = std::to_integer<unsigned>(left_.front());
    left_ = left_.subspan(1);
    return value;
  }
  input take(std::size_t most) noexcept {
    const input taken = left_.first(most < left_.size() ? most : left_.size());
    left_ = left_.subspan(taken.size());
    return taken;
  }
  input rest() noexcept { return take(left_.size()); }
  bool empty() const noexcept { return left_.empty(); }

 private:
  input left_;
};

}  // namespace shmpool::fuzz
