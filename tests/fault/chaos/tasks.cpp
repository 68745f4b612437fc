#include "fault/chaos/tasks.hpp"

#include "fault/chaos/ledger.hpp"

#include <shmpool/this_task.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <bit>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <deque>
#include <exception>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>

namespace shmpool::chaos {

namespace {

/// The first thing that every task does.
void enter(run_id id) {
  run_record& record = open_ledger()->run(id);
  record.worker = ::getpid();
  record.server = ::getppid();
  ++record.runs;
}

bool time_is_up(std::chrono::steady_clock::time_point since, std::chrono::microseconds time) {
  return std::chrono::steady_clock::now() - since >= time;
}

}  // namespace

std::uint64_t pattern(std::uint64_t seed, std::size_t i) noexcept {
  return (seed + i) * 0x9e3779b97f4a7c15U ^ ((seed + i) >> 17);  // of the sum, so that a part has a pattern, too
}

void fill_with(std::span<std::uint64_t> values, std::uint64_t seed) noexcept {
  for (std::size_t i = 0; i != values.size(); ++i) values[i] = pattern(seed, i);
}

bool holds(std::span<const std::uint64_t> values, std::uint64_t seed) noexcept {
  for (std::size_t i = 0; i != values.size(); ++i) {
    if (values[i] != pattern(seed, i)) return false;
  }
  return true;
}

std::uint64_t digest(std::span<const std::uint64_t> values) noexcept {
  std::uint64_t hash = values.size();
  for (const std::uint64_t each : values) hash = std::rotl(hash, 5) ^ each;
  return hash;
}

std::uint64_t mix(run_id id, std::uint64_t x) {
  enter(id);
  return scramble(x);
}

std::string repeat(run_id id, const std::string& text, int times) {
  enter(id);
  std::string result;
  for (int i = 0; i != times; ++i) result += text;
  return result;
}

std::vector<std::string> list(run_id id, int elements) {
  enter(id);
  std::vector<std::string> result;
  for (int i = 0; i != elements; ++i) result.push_back("element " + std::to_string(i));
  return result;
}

const_words make(run_id id, std::uint64_t seed, std::size_t size) {
  enter(id);
  auto result = make_array<std::uint64_t>(size);
  fill_with(result, seed);
  return result;
}

words invert(run_id id, const_words values) {
  enter(id);
  auto result = make_array<std::uint64_t>(values.size());
  for (std::size_t i = 0; i != values.size(); ++i) result[i] = ~values[i];
  return result;
}

void increment(run_id id, words& values) {
  enter(id);
  for (std::uint64_t& each : values) each = next_value(each);
}

words take(run_id id, words values, std::uint64_t first) {
  enter(id);
  values[0] = first;
  return values;
}

std::uint64_t digest_of(run_id id, std::span<const std::uint64_t> values) {
  enter(id);
  return digest(values);
}

record rearrange(run_id id, record in) {
  enter(id);
  record out;
  out.name = in.name + "'";
  out.samples = make_array<std::uint64_t>(in.samples.size());
  for (std::size_t i = 0; i != in.samples.size(); ++i) out.samples[i] = in.samples[in.samples.size() - 1 - i];
  out.more = std::move(in.more);
  out.more["samples"] = in.samples;
  return out;
}

std::vector<words> make_many(run_id id, std::uint64_t seed, int count, std::size_t size) {
  enter(id);
  std::vector<words> result;
  for (int i = 0; i != count; ++i) {
    auto dropped = make_array<std::uint64_t>(size, shmpool::fill(seed));
    result.push_back(make_array<std::uint64_t>(size + static_cast<std::size_t>(i)));
    fill_with(result.back(), seed + static_cast<std::uint64_t>(i));
  }
  return result;
}

bool keep(run_id id, std::uint64_t seed, const_words values) {
  enter(id);
  static std::deque<std::pair<std::uint64_t, const_words>> kept;
  bool intact = holds(values, seed);
  for (const auto& [its_seed, each] : kept) intact = intact && holds(each, its_seed);
  kept.emplace_back(seed, std::move(values));
  if (kept.size() > 3) kept.pop_front();
  return intact;
}

std::uint64_t leave_thread(run_id id, std::uint64_t x) {
  enter(id);
  std::thread([] {
    std::deque<words> kept;
    for (int i = 0; i != 3'000; ++i) {
      auto made = make_array<std::uint64_t>(3'000);
      made[static_cast<std::size_t>(i)] = ~std::uint64_t{0};
      if (i % 32 == 0) kept.push_back(std::move(made));
      if (kept.size() > 3) kept.pop_front();
    }
  }).detach();
  return scramble(x);
}

const_words fork_and_make(run_id id, std::uint64_t seed, std::size_t size) {
  enter(id);
  auto result = make_array<std::uint64_t>(size);
  const pid_t copy = ::fork();
  if (copy < 0) return {};
  if (copy == 0) return make_array<std::uint64_t>(size, shmpool::fill(seed));
  fill_with(result, seed);
  int status = 0;
  while (::waitpid(copy, &status, 0) < 0) {
  }
  if (status != 255 << 8) return {};
  return result;
}

int spin(run_id id, int microseconds) {
  enter(id);
  const auto begin = std::chrono::steady_clock::now();
  while (!time_is_up(begin, std::chrono::microseconds(microseconds))) {
  }
  return microseconds;
}

int heed(run_id id, int milliseconds) {
  enter(id);
  const auto begin = std::chrono::steady_clock::now();
  while (!time_is_up(begin, std::chrono::milliseconds(milliseconds))) {
    if (this_task::stop_requested()) return -milliseconds;
    ::usleep(200);
  }
  return milliseconds;
}

void endless(run_id id) {
  enter(id);
  ::signal(SIGTERM, SIG_IGN);
  for (volatile bool forever = true; forever;) ::usleep(1000);
}

void report(run_id id, int steps) {
  enter(id);
  for (int i = 0; i <= steps; ++i) this_task::report_progress(static_cast<double>(i) / steps);
}

void refuse(run_id id, int how) {
  enter(id);
  switch (how) {
    case 0: throw std::domain_error("as it should");
    case 1: throw std::system_error(std::make_error_code(std::errc::no_child_process), "a code");
    default: try { throw std::out_of_range("the inner one");
      } catch (...) {
        std::throw_with_nested(std::runtime_error("the outer one"));
      }
  }
}

void crash(run_id id, int how) {
  enter(id);
  switch (how) {
    case 0: ::kill(::getpid(), SIGKILL); break;
    case 1: ::raise(SIGSEGV); break;
    case 2: std::abort();
    default: ::_exit(99);
  }
}

bool is_end_of_crash(int how, int signal, int exit_code) noexcept {
  switch (how) {
    case 0: return signal == SIGKILL;
    case 1: return signal == SIGSEGV;
    case 2: return signal == SIGABRT;
    default: return signal == 0 && exit_code == 99;
  }
}

std::uint64_t mapped(const item& each) {
  enter(each.id);
  return scramble(each.x);
}

}  // namespace shmpool::chaos
