#include "pool/reply_check.hpp"

#include <algorithm>

namespace shmpool::pool {

namespace {

std::uint64_t end_of(const holding& each) noexcept {
  return each.offset + each.length;
}

}  // namespace

void holdings::settle() {
  const auto earlier = [](const entry& a, const entry& b) {
    return a.what.segment != b.what.segment ? a.what.segment < b.what.segment : a.what.offset < b.what.offset;
  };
  if (!std::is_sorted(all_.begin(), all_.end(), earlier)) std::stable_sort(all_.begin(), all_.end(), earlier);
  segments_.clear();
  for (std::size_t i = 0; i != all_.size(); ++i) {
    entry& each = all_[i];
    const bool is_first = segments_.empty() || segments_.back().id != each.what.segment;
    if (is_first) segments_.push_back({each.what.segment, i, i, false, false});
    of_segment& whole = segments_.back();
    whole.end = i + 1;
    whole.writable |= each.what.writable;
    whole.created |= each.what.created;
    each.farthest = is_first ? i : all_[i - 1].farthest;
    each.farthest_writable = is_first ? none : all_[i - 1].farthest_writable;
    if (end_of(each.what) > end_of(all_[each.farthest].what)) each.farthest = i;
    if (!each.what.writable) continue;
    if (each.farthest_writable == none || end_of(each.what) > end_of(all_[each.farthest_writable].what))
      each.farthest_writable = i;
  }
}

const holdings::of_segment* holdings::look_up(std::uint64_t segment) const noexcept {
  const auto at = std::lower_bound(segments_.begin(), segments_.end(), segment,
                                   [](const of_segment& each, std::uint64_t id) { return each.id < id; });
  return at != segments_.end() && at->id == segment ? &*at : nullptr;
}

void holdings::note_created(std::uint64_t segment) noexcept {
  const of_segment* const whole = look_up(segment);
  if (whole != nullptr) segments_[static_cast<std::size_t>(whole - segments_.data())].created = true;
}

bool holdings::created(std::uint64_t segment) const noexcept {
  const of_segment* const whole = look_up(segment);
  return whole != nullptr && whole->created;
}

holdings::found holdings::find(std::uint64_t segment) const noexcept {
  const of_segment* const whole = look_up(segment);
  if (whole == nullptr) return {};
  return {&all_[whole->first].what, whole->writable};
}

const holding* holdings::cover(const wire::segment_ref& range) const noexcept {
  const of_segment* const whole = look_up(range.id);
  if (whole == nullptr) return nullptr;
  // Of all holdings that begin in time, the one that reaches farthest covers the range, or none does.
  const auto first = all_.begin() + static_cast<std::ptrdiff_t>(whole->first);
  const auto end = all_.begin() + static_cast<std::ptrdiff_t>(whole->end);
  const auto behind = std::upper_bound(
      first, end, range.offset, [](std::uint64_t offset, const entry& each) { return offset < each.what.offset; });
  if (behind == first) return nullptr;
  for (const std::size_t candidate : {(behind - 1)->farthest_writable, (behind - 1)->farthest}) {
    if (candidate == none) continue;
    const holding& each = all_[candidate].what;
    // The range comes from the worker: its end may not be a number.
    if (range.length <= each.length && range.offset - each.offset <= each.length - range.length) return &each;
  }
  return nullptr;
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
    if (!has.created(ref.id)) return "result in a file that it has not made";
    from.push_back(source);
  }
  return nullptr;
}

}  // namespace shmpool::pool
