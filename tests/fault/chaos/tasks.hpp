// What the workers run in the chaos: each task enters itself into the ledger first, and has a result that the parent
// can compute, too, down to the last bit.
#pragma once

#include <shmpool/array.hpp>
#include <shmpool/serialize.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace shmpool::chaos {

/// Names a task in the ledger.
using run_id = std::uint64_t;
using words = array<std::uint64_t>;
using const_words = array<const std::uint64_t>;

/// Element `i` of the pattern that `seed` stands for.
std::uint64_t pattern(std::uint64_t seed, std::size_t i) noexcept;
void fill_with(std::span<std::uint64_t> values, std::uint64_t seed) noexcept;
bool holds(std::span<const std::uint64_t> values, std::uint64_t seed) noexcept;
std::uint64_t digest(std::span<const std::uint64_t> values) noexcept;

/// What increment() makes of an element.
constexpr std::uint64_t next_value(std::uint64_t x) noexcept {
  return x * 3 + 1;
}

std::uint64_t mix(run_id id, std::uint64_t x);
std::string repeat(run_id id, const std::string& text, int times);
std::vector<std::string> list(run_id id, int elements);

const_words make(run_id id, std::uint64_t seed, std::size_t size);
words invert(run_id id, const_words values);
void increment(run_id id, words& values);
words take(run_id id, words values, std::uint64_t first);
std::uint64_t digest_of(run_id id, std::span<const std::uint64_t> values);

/// Arrays inside of other values.
struct record {
  std::string name;
  words samples;
  std::map<std::string, const_words> more;

  template <class Archive>
  void serialize(Archive& archive) {
    archive(name, samples, more);
  }
};
record rearrange(run_id id, record in);
/// Makes twice as many arrays as it returns.
std::vector<words> make_many(run_id id, std::uint64_t seed, int count, std::size_t size);

/// Keeps the array in the worker beyond the task; false if one of those kept before is not what it was.
bool keep(run_id id, std::uint64_t seed, const_words values);

/// Leaves a thread behind that makes, keeps and drops arrays for some time, while others run.
std::uint64_t leave_thread(run_id id, std::uint64_t x);
/// As make(), in a process that has forked: the copy returns something else. Empty if the copy did not end as it
/// should.
const_words fork_and_make(run_id id, std::uint64_t seed, std::size_t size);

int spin(run_id id, int microseconds);
/// Ends early, with a negative result, if it is asked to.
int heed(run_id id, int milliseconds);
/// Ends never, whatever is asked of it.
void endless(run_id id);
void report(run_id id, int steps);

/// Throws one of several exceptions.
inline constexpr int refusals = 3;
void refuse(run_id id, int how);
/// Ends the worker in one of several ways.
inline constexpr int crash_ways = 4;
void crash(run_id id, int how);
bool is_end_of_crash(int how, int signal, int exit_code) noexcept;

struct item {
  run_id id;
  std::uint64_t x;
};
std::uint64_t mapped(const item& each);

}  // namespace shmpool::chaos
