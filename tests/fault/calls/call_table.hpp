// The system calls that a pool makes, and the errors that each may plausibly give.
#pragma once

#include "call_supervisor.hpp"

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace shmpool::testing {

struct call_entry {
  int number;
  const char* name;
  std::vector<int> errors;
};

extern const std::span<const call_entry> call_table;

const char* call_name(int number);
int call_number(std::string_view name);  ///< -1 if it is not in the table
std::span<const int> errors_of(int number);
std::string errno_name(int error);
int errno_number(std::string_view name);  ///< 0 if it is none of the table's

/// True where a single failure may break a pool by design, or cannot be told from one that should.
bool may_break(const failing_call& what, bool with_init);

}  // namespace shmpool::testing
