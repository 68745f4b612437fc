#include "functions.hpp"

#include "worker/code_ref.hpp"

#include <shmpool/error.hpp>

#include <system_error>

namespace shmpool::detail {

std::uint32_t function_table::number(const callable_ref& callable) {
  if (const auto found = numbers_.find(callable); found != numbers_.end()) return found->second;
  function_record made;
  made.callable = callable;
  const auto entry = worker::locate(reinterpret_cast<const void*>(callable.entry));
  if (!entry) throw std::system_error(errc::function_not_found, "the code that calls the function is in no module of this program");
  worker::append_code_ref(made.definition, *entry);
  made.definition.push_back(std::byte{callable.target != nullptr});
  if (callable.target) {
    const auto target = worker::locate(callable.target);
    if (!target) throw std::system_error(errc::function_not_found, "the function's address is in no module of this program");
    worker::append_code_ref(made.definition, *target);
  }
  const auto number = static_cast<std::uint32_t>(records_.size());
  records_.push_back(std::move(made));
  numbers_.emplace(callable, number);
  return number;
}

void function_table::ran(std::uint32_t number, std::chrono::nanoseconds run) {
  auto& expected = records_[number].expected;
  expected = expected ? (*expected * 3 + run) / 4 : run;
}

}  // namespace shmpool::detail
