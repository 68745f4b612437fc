#include "pool/reply_check.hpp"

#include <algorithm>

namespace shmpool::pool {

void holdings::settle() {
  const auto earlier = [](const holding& a, const holding& b) { return a.segment < b.segment; };
  if (!std::is_sorted(all_.begin(), all_.end(), earlier)) std::stable_sort(all_.begin(), all_.end(), earlier);
}

std::span<const holding> holdings::of(std::uint64_t segment) const noexcept {
  const auto first = std::lower_bound(all_.begin(), all_.end(), segment,
                                      [](const holding& each, std::uint64_t id) { return each.segment < id; });
  auto last = first;
  while (last != all_.end() && last->segment == segment) ++last;
  return {first, last};
}

void holdings::note_created(std::uint64_t segment) noexcept {
  for (const holding& each : of(segment)) all_[static_cast<std::size_t>(&each - all_.data())].created = true;
}

holdings::found holdings::find(std::uint64_t segment) const noexcept {
  found result;
  for (const holding& each : of(segment)) {
    result.any = &each;
    result.writable |= each.writable;
  }
  return result;
}

const holding* holdings::cover(const wire::segment_ref& range) const noexcept {
  const holding* result = nullptr;
  for (const holding& each : of(range.id)) {
    if (result && !each.writable) continue;
    if (range.offset < each.offset || range.length > each.length) continue;
    if (range.offset - each.offset > each.length - range.length) continue;
    result = &each;
  }
  return result;
}

const char* check_account(const wire::frame& in, const holdings& has) noexcept {
  for (std::size_t i = 0; i != in.segment_count(); ++i) {
    const wire::segment_ref ref = in.segment(i);
    if ((ref.flags & wire::flag_result) == 0 && !has.find(ref.id).any) return "account of memory that it was not given";
  }
  return nullptr;
}

const char* check_result(const wire::frame& in, const holdings& has, std::vector<const holding*>& from) {
  from.clear();
  for (std::size_t i = 0; i != in.segment_count(); ++i) {
    const wire::segment_ref ref = in.segment(i);
    if ((ref.flags & wire::flag_result) == 0) continue;
    const holding* const source = has.cover(ref);
    if (!source) return "result in memory that it was not given";
    if (!source->created) return "result in a file that it has not made";
    from.push_back(source);
  }
  return nullptr;
}

}  // namespace shmpool::pool
