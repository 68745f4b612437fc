// The numbers that functions have between the application and its workers.
#include "pool/function_table.hpp"

#include "code/code_ref.hpp"
#include "wire/hello.hpp"

#include <shmpool/error.hpp>

#include <gtest/gtest.h>

#include <string>
#include <system_error>

namespace shmpool::pool {
namespace {

void first_trampoline(detail::invocation&) {
}
void second_trampoline(detail::invocation& call) {
  (void)call.target;
}
int target() {
  return 1;
}

const void* address(auto* function) {
  return reinterpret_cast<const void*>(function);
}

TEST(function_table, gives_a_function_the_same_number_again) {
  function_table table;
  const auto first = table.number({&first_trampoline, nullptr});
  const auto second = table.number({&second_trampoline, nullptr});
  EXPECT_NE(first, second);
  EXPECT_EQ(table.number({&first_trampoline, nullptr}), first);
  EXPECT_EQ(table.number({&second_trampoline, nullptr}), second);
}

TEST(function_table, tells_functions_apart_by_what_their_trampoline_calls) {
  function_table table;
  EXPECT_NE(table.number({&first_trampoline, nullptr}), table.number({&first_trampoline, address(&target)}));
}

TEST(function_table, defines_a_function_so_that_another_process_finds_it) {
  function_table table;
  const auto number = table.number({&first_trampoline, address(&target)});
  detail::unpacker body(table[number].definition, {});
  const auto name = wire::function_name::decode(body);
  EXPECT_EQ(body.remaining(), 0u);
  std::string why_not;
  EXPECT_EQ(code::resolve(name.entry, why_not), address(&first_trampoline)) << why_not;
  ASSERT_TRUE(name.target);
  EXPECT_EQ(code::resolve(*name.target, why_not), address(&target)) << why_not;
}

TEST(function_table, refuses_an_address_that_is_in_no_module) {
  function_table table;
  int not_code = 0;
  try {
    table.number({&first_trampoline, &not_code});
    FAIL() << "it has a number";
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code(), errc::function_not_found);
  }
  EXPECT_EQ(table.number({&second_trampoline, nullptr}), 0u) << "what was refused has none";
}

}  // namespace
}  // namespace shmpool::pool
