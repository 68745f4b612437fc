// Reads the type information that the Itanium C++ ABI prescribes. Thread safety: stateless.
#include "errors/type_names.hpp"

#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string_view>

namespace shmpool::detail {
namespace {

void erase_all(std::string& text, std::string_view part) {
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at)) text.erase(at, part.size());
}

struct c_free {
  void operator()(char* text) const noexcept { std::free(text); }
};

}  // namespace

std::string readable_name(const std::type_info& type) {
  int status = 0;
  const std::unique_ptr<char, c_free> demangled(abi::__cxa_demangle(type.name(), nullptr, nullptr, &status));
  std::string name = demangled ? demangled.get() : type.name();
  erase_all(name, "[abi:cxx11]");
  constexpr std::string_view nested = "std::_Nested_exception<";
  if (name.starts_with(nested) && name.ends_with('>')) {
    name.pop_back();
    name.erase(0, nested.size());
    if (name.ends_with(' ')) name.pop_back();
  }
  if (name == "std::__ios_failure") name = "std::ios_base::failure";  // what libstdc++'s own streams throw
  return name;
}

std::vector<const std::type_info*> lineage(const std::type_info& type) {
  std::vector<const std::type_info*> types = {&type};
#ifdef __GLIBCXX__
  constexpr std::size_t enough = 64;
  const auto add = [&](const std::type_info* base) {
    const auto known = std::any_of(types.begin(), types.end(), [&](const auto* other) { return *other == *base; });
    if (!known && types.size() < enough) types.push_back(base);
  };
  for (std::size_t i = 0; i < types.size(); ++i) {  // breadth first: `types` is also the queue
    if (const auto* single = dynamic_cast<const abi::__si_class_type_info*>(types[i])) {
      add(single->__base_type);
    } else if (const auto* several = dynamic_cast<const abi::__vmi_class_type_info*>(types[i])) {
      const abi::__base_class_type_info* bases = several->__base_info;
      for (unsigned n = 0; n != several->__base_count; ++n) {
        if (bases[n].__is_public_p()) add(bases[n].__base_type);
      }
    }
  }
#endif
  return types;
}

}  // namespace shmpool::detail
