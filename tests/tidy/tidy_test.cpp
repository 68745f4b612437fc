// The rules of CONTRIBUTING.md that a program can check, held against the sources themselves. SHMPOOL_SOURCE_DIR is
// where they are.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace {

namespace fs = std::filesystem;

struct source_file {
  std::string path;  // from the root: "src/pool/crew.cpp"
  std::vector<std::string> lines;

  bool is_header() const { return path.ends_with(".hpp"); }
  /// "pool" of "src/pool/crew.cpp"
  std::string folder() const {
    const auto begin = path.find('/') + 1;
    const auto end = path.find('/', begin);
    return end == std::string::npos ? "" : path.substr(begin, end - begin);
  }
  std::string stem() const { return fs::path(path).stem().string(); }
};

std::vector<source_file> files_under(std::initializer_list<const char*> folders) {
  std::vector<source_file> result;
  const fs::path root(SHMPOOL_SOURCE_DIR);
  for (const char* folder : folders) {
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      const auto extension = entry.path().extension();
      if (!entry.is_regular_file() || (extension != ".cpp" && extension != ".hpp")) continue;
      source_file made;
      made.path = fs::relative(entry.path(), root).generic_string();
      std::ifstream stream(entry.path());
      for (std::string line; std::getline(stream, line);) made.lines.push_back(line);
      result.push_back(std::move(made));
    }
  }
  std::sort(result.begin(), result.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
  return result;
}

struct include_line {
  std::string name;
  bool quoted;
};

std::vector<include_line> includes_of(const source_file& file) {
  std::vector<include_line> result;
  for (const std::string& line : file.lines) {
    if (!line.starts_with("#include ") || line.size() < 11) continue;
    const auto end = line.find_first_of("\">", 10);
    result.push_back({line.substr(10, end - 10), line[9] == '"'});
  }
  return result;
}

bool starts_with_any(std::string_view text, std::initializer_list<std::string_view> beginnings) {
  return std::any_of(beginnings.begin(), beginnings.end(), [&](auto each) { return text.starts_with(each); });
}

/// What the folders of src/ may include of each other: whoever opens a file knows which process it runs in, and what
/// lies below. A name with a slash is one header: the door to another process, which is forked there.
const std::map<std::string, std::set<std::string>> below = {
    {"process", {}},
    {"errors", {"process"}},
    {"codec", {"process"}},
    {"code", {"process"}},
    {"wire", {"process", "code"}},
    {"sched", {"process/assert.hpp"}},
    {"loop", {"process"}},
    {"shm", {"process"}},
    {"worker", {"process", "code", "wire", "shm"}},
    {"server", {"process", "code", "wire", "shm", "worker"}},
    {"pool", {"process", "code", "wire", "shm", "sched", "loop", "server/server_main.hpp"}},
};

TEST(tidy, includes_point_downward) {
  for (const source_file& file : files_under({"src"})) {
    const auto allowed = below.find(file.folder());
    ASSERT_NE(allowed, below.end()) << file.path << " is in a folder without rules";
    for (const auto& [name, quoted] : includes_of(file)) {
      if (!quoted) continue;
      const std::string from = name.substr(0, name.find('/'));
      EXPECT_TRUE(from == file.folder() || allowed->second.contains(from) || allowed->second.contains(name))
          << file.path << " includes " << name << ", which is not below it";
    }
  }
}

TEST(tidy, sources_include_what_is_theirs_in_quotes) {
  for (const source_file& file : files_under({"src"})) {
    for (const auto& [name, quoted] : includes_of(file)) {
      const bool own = fs::exists(fs::path(SHMPOOL_SOURCE_DIR) / "src" / name);
      EXPECT_EQ(own, quoted) << file.path << " includes " << name;
    }
  }
}

TEST(tidy, only_one_header_includes_asio) {
  const std::string_view the_one = "include/shmpool/asio.hpp";
  for (const source_file& file : files_under({"src", "include"})) {
    if (file.path == the_one) continue;
    for (const auto& [name, quoted] : includes_of(file)) {
      EXPECT_FALSE(name == "asio.hpp" || starts_with_any(name, {"asio/", "boost/asio"}))
          << file.path << " includes " << name << "; " << the_one << " is there for that";
    }
  }
}

TEST(tidy, nothing_below_the_asio_side_includes_it) {
  const auto is_asio_side = [](std::string_view path) {
    return starts_with_any(path, {"shmpool/asio.hpp", "shmpool/process_pool.hpp", "shmpool/detail/asio/"}) ||
           path == "shmpool.hpp";
  };
  for (const source_file& file : files_under({"src", "include"})) {
    if (file.path.starts_with("include/") && is_asio_side(file.path.substr(8))) continue;
    for (const auto& [name, quoted] : includes_of(file)) {
      EXPECT_FALSE(is_asio_side(name)) << file.path << " includes " << name;
    }
  }
}

TEST(tidy, a_header_says_what_it_is_for_and_who_may_use_it_when) {
  for (const source_file& file : files_under({"src", "include"})) {
    if (!file.is_header()) continue;
    ASSERT_FALSE(file.lines.empty()) << file.path;
    EXPECT_TRUE(file.lines.front().starts_with("// ")) << file.path << " does not begin with a comment";
    // In the opening comment, or, where parts differ, at the parts.
    const bool said = std::any_of(file.lines.begin(), file.lines.end(), [](const std::string& line) {
      return line.find("Thread safety") != std::string::npos || line.find("Thread-safe") != std::string::npos;
    });
    EXPECT_TRUE(said) << file.path << " does not say \"Thread safety: ...\"";
  }
}

TEST(tidy, a_source_without_a_header_says_what_it_is_for) {
  std::set<std::string> headers;
  const auto files = files_under({"src", "include"});
  for (const source_file& file : files) {
    if (file.is_header()) headers.insert(file.stem());
  }
  for (const source_file& file : files) {
    if (file.is_header() || headers.contains(file.stem())) continue;
    EXPECT_TRUE(file.lines.front().starts_with("// ")) << file.path << " does not begin with a comment";
  }
}

TEST(tidy, lines_have_at_most_120_columns) {
  for (const source_file& file : files_under({"src", "include", "tests", "bench", "examples"})) {
    for (std::size_t i = 0; i != file.lines.size(); ++i) {
      // Characters, not bytes: those that begin one.
      const auto columns = std::count_if(file.lines[i].begin(), file.lines[i].end(),
                                         [](char each) { return (static_cast<unsigned char>(each) & 0xc0U) != 0x80U; });
      EXPECT_LE(columns, 120) << file.path << ':' << i + 1;
    }
  }
}

TEST(tidy, no_source_lies_outside_of_a_folder) {
  for (const source_file& file : files_under({"src"})) EXPECT_NE(file.folder(), "") << file.path;
}

/// Sources without a test of their name, and where they are tested.
const std::map<std::string, std::string> tested_elsewhere = {
#include "tidy/tested_elsewhere.inc"
};

TEST(tidy, a_source_has_a_test_of_its_name) {
  std::set<std::string> tests;
  for (const source_file& file : files_under({"tests"})) tests.insert(file.path.substr(6));
  for (const source_file& file : files_under({"src"})) {
    if (file.is_header()) continue;
    const std::string name = file.path.substr(4, file.path.size() - 8);
    const bool tested = tests.contains(name + "_test.cpp");
    const auto elsewhere = tested_elsewhere.find(name);
    EXPECT_NE(tested, elsewhere != tested_elsewhere.end())
        << file.path
        << (tested ? " has a test: take it off the list of those that have none"
                   : " has no test of its name, and the list does not say where it is tested");
  }
  for (const auto& [name, where] : tested_elsewhere) {
    EXPECT_TRUE(fs::exists(fs::path(SHMPOOL_SOURCE_DIR) / "src" / (name + ".cpp")))
        << name << " is listed and not there";
    EXPECT_TRUE(fs::exists(fs::path(SHMPOOL_SOURCE_DIR) / "tests" / where)) << where << ", for " << name;
  }
}

}  // namespace
