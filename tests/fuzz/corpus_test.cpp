// Every file of the fuzzers' corpora, and so every input that once broke something, keeps the promises of its target.
#include "fuzz/targets.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace shmpool::fuzz {
namespace {

std::vector<std::filesystem::path> corpus_of(const target& which) {
  std::vector<std::filesystem::path> files;
  const auto directory = std::filesystem::path(SHMPOOL_FUZZ_CORPUS) / which.name;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

/// Exactly as long as the file, so that AddressSanitizer sees the first byte that is read behind it.
std::vector<std::byte> content_of(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

class corpus : public ::testing::TestWithParam<target> {};

TEST_P(corpus, keeps_what_is_promised) {
  const auto files = corpus_of(GetParam());
  EXPECT_GE(files.size(), 3u) << "the corpus of " << GetParam().name << " is missing";
  for (const auto& file : files) EXPECT_NO_THROW(GetParam().run(content_of(file))) << file;
}

/// Inputs that a fuzzer has at hand at once: nothing, and each file cut short.
TEST_P(corpus, cut_short_keeps_it_too) {
  EXPECT_NO_THROW(GetParam().run({}));
  for (const auto& file : corpus_of(GetParam())) {
    const auto whole = content_of(file);
    const std::size_t step = std::max<std::size_t>(1, whole.size() / 64);
    for (std::size_t size = 0; size < whole.size(); size += step) {
      const std::vector<std::byte> cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
      EXPECT_NO_THROW(GetParam().run(cut)) << file << ", the first " << size << " bytes";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(of, corpus, ::testing::ValuesIn(targets),
                         [](const auto& instance) { return std::string(instance.param.name); });

}  // namespace
}  // namespace shmpool::fuzz
