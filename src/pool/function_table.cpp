#include "pool/function_table.hpp"

#include "code/code_ref.hpp"
#include "process/no_destructor.hpp"
#include "wire/hello.hpp"

#include <shmpool/error.hpp>

#include <sys/auxv.h>

#include <optional>
#include <string>
#include <system_error>
#include <utility>

namespace shmpool::pool {

namespace {

/// The program itself stays loaded for as long as the process lives.
bool in_program(const code::code_ref& where) {
  // no_destructor: destructors that run at the end of the process may submit.
  static no_destructor<std::optional<code::code_ref>> program;
  static const bool found = [] {
    program.value = code::locate(reinterpret_cast<const void*>(::getauxval(AT_ENTRY)));
    return program.value.has_value();
  }();
  return found && where.module_id == program.value->module_id;
}

}  // namespace

std::uint32_t function_table::number(const detail::callable_ref& callable) {
  // Another library may have been loaded at the same address since. Workers know functions by number, so old numbers
  // keep their meaning.
  if (beyond_program_ && code::unload_count() != unloads_) {
    numbers_.clear();
    latest_ = none;
    beyond_program_ = false;
  }
  if (latest_ != none && records_[latest_].callable == callable) return latest_;
  if (const auto found = numbers_.find(callable); found != numbers_.end()) return latest_ = found->second;
  function_record made;
  made.callable = callable;
  wire::function_name name;
  name.entry = code::locate_or_throw(reinterpret_cast<const void*>(callable.entry), "the code that calls the function");
  if (callable.target) name.target = code::locate_or_throw(callable.target, "the function's address");
  name.append_to(made.definition);
  const bool beyond_program = !in_program(name.entry) || (name.target && !in_program(*name.target));
  if (beyond_program && !std::exchange(beyond_program_, true)) unloads_ = code::unload_count();
  const auto number = static_cast<std::uint32_t>(records_.size());
  records_.push_back(std::move(made));
  numbers_.emplace(callable, number);
  return latest_ = number;
}

}  // namespace shmpool::pool
