// What a worker knows of the functions that it was told about.
#include "worker/known_functions.hpp"

#include "code/code_ref.hpp"
#include "wire/hello.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <system_error>
#include <vector>

namespace shmpool::worker {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

void run(detail::invocation&) {
}
int add(int a, int b) {
  return a + b;
}

code::code_ref where(const void* address) {
  return code::locate_or_throw(address, "a test");
}
std::vector<std::byte> body_of(const wire::function_name& name) {
  std::vector<std::byte> body;
  name.append_to(body);
  return body;
}
wire::function_name runs() {
  wire::function_name name;
  name.entry = where(reinterpret_cast<const void*>(&run));
  return name;
}
/// In no module that this system has.
code::code_ref nowhere() {
  code::code_ref ref;
  ref.module_id = {std::byte{1}, std::byte{0xab}, std::byte{0xcd}};
  ref.path = "/nowhere/libgone.so";
  return ref;
}

TEST(known_function, is_found_by_the_name_of_its_code) {
  known_functions all;
  all.define(3, body_of(runs()));
  EXPECT_EQ(all[3].entry, &run);
  EXPECT_EQ(all[3].target, nullptr);
  EXPECT_EQ(all[3].problem, "");
}

TEST(known_function, has_a_target_where_its_trampoline_takes_one) {
  wire::function_name name = runs();
  name.target = where(reinterpret_cast<const void*>(&add));
  known_functions all;
  all.define(3, body_of(name));
  EXPECT_EQ(all[3].entry, &run);
  EXPECT_EQ(all[3].target, reinterpret_cast<const void*>(&add));
}

TEST(known_function, that_is_not_here_says_what_is_missing) {
  wire::function_name name;
  name.entry = nowhere();
  known_functions all;
  all.define(3, body_of(name));
  EXPECT_EQ(all[3].entry, nullptr);
  EXPECT_THAT(all[3].problem, HasSubstr("/nowhere/libgone.so"));
}

// The trampoline alone would call through a null pointer.
TEST(known_function, without_its_target_cannot_be_called) {
  wire::function_name name = runs();
  name.target = nowhere();
  known_functions all;
  all.define(3, body_of(name));
  EXPECT_EQ(all[3].entry, nullptr);
  EXPECT_THAT(all[3].problem, HasSubstr("/nowhere/libgone.so"));
}

TEST(known_function, is_refused_if_its_name_is_cut) {
  std::vector<std::byte> body = body_of(runs());
  body.pop_back();
  known_functions all;
  EXPECT_THROW(all.define(3, body), std::system_error);
}

TEST(known_function, may_be_long_until_it_has_run_and_as_long_as_a_run_in_a_hundred_was) {
  known_function fn;
  EXPECT_TRUE(fn.may_be_long());
  fn.ran(1us);
  EXPECT_FALSE(fn.may_be_long());
  fn.ran(10ms);
  for (int i = 0; i != 98; ++i) fn.ran(1us);
  EXPECT_LT(fn.recent.get(), 2us);
  EXPECT_TRUE(fn.may_be_long());
}

}  // namespace
}  // namespace shmpool::worker
