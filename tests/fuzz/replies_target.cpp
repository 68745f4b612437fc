// What a reply may claim: whatever a worker has and whatever it sends, a frame that is allowed names nothing that the
// worker does not have. The check is held against an own one, which looks at single bytes.
//
// Input: one byte with what the parent knows of the worker, eight for the number of the task in the slot, one with the
// number of holdings and four for each (segment, offset, length, and whether it is writable and created), then the
// stream.
#include "fuzz/targets.hpp"
#include "pool/reply_check.hpp"
#include "wire/frame.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

namespace shmpool::fuzz {

namespace {

constexpr std::uint64_t unit = 8;

struct known {
  pool::sender from;
  std::vector<pool::holding> all;
  pool::holdings has;
};

known read_known(input_reader& reader) {
  known result;
  const unsigned facts = reader.byte();
  result.from.ready = (facts & 1) != 0;
  result.from.answer_waits = (facts & 2) != 0;
  result.from.any_started = (facts & 4) != 0;
  result.from.has_task = (facts & 8) != 0;
  for (unsigned i = 0; i != 8; ++i) result.from.in_slot |= std::uint64_t{reader.byte()} << (8 * i);
  for (unsigned left = reader.byte() % 32; left != 0; --left) {
    pool::holding each;
    each.segment = reader.byte();
    each.offset = reader.byte() * unit;
    each.length = reader.byte() * unit;
    const unsigned rights = reader.byte();
    each.writable = (rights & 1) != 0;
    each.created = (rights & 2) != 0;
    each.source = static_cast<std::uint32_t>(result.all.size());
    result.all.push_back(each);
    result.has.add(each);
  }
  result.has.settle();
  return result;
}

/// All bytes of the range are in the holding; an empty range lies at a place that is, or at its end.
bool contains(const pool::holding& whole, const wire::segment_ref& part) {
  const auto place = [&](std::uint64_t at) { return at >= whole.offset && at <= whole.offset + whole.length; };
  if (part.id != whole.segment || part.length > whole.length || !place(part.offset)) return false;
  for (std::uint64_t i = 0; i != part.length; ++i) {
    if (!place(part.offset + i) || part.offset + i == whole.offset + whole.length) return false;
  }
  return true;
}

void check_segments(known& parent, const wire::frame& in) {
  const auto has_segment = [&](std::uint64_t id) {
    return std::any_of(parent.all.begin(), parent.all.end(), [id](const auto& each) { return each.segment == id; });
  };
  const bool accounted = pool::check_account(in, parent.has) == nullptr;
  for (std::size_t i = 0; i != in.segment_count(); ++i) {
    const wire::segment_ref ref = in.segment(i);
    if ((ref.flags & wire::flag_result) != 0) continue;
    promise(!accounted || has_segment(ref.id), "an account was believed of memory that the worker was not given");
    if (accounted && (ref.flags & wire::flag_created) != 0) {
      parent.has.note_created(ref.id);
      for (pool::holding& each : parent.all) each.created |= each.segment == ref.id;
    }
  }
  std::vector<const pool::holding*> from;
  if (pool::check_result(in, parent.has, from) != nullptr) return;
  std::size_t next = 0;
  for (std::size_t i = 0; i != in.segment_count(); ++i) {
    const wire::segment_ref ref = in.segment(i);
    if ((ref.flags & wire::flag_result) == 0) continue;
    promise(next < from.size(), "a part of a result is in no memory");
    const pool::holding& source = parent.all[from[next++]->source];
    promise(contains(source, ref), "a result reaches beyond what the worker was given");
    const bool created = std::any_of(parent.all.begin(), parent.all.end(),
                                     [&](const auto& each) { return each.segment == source.segment && each.created; });
    promise(created, "a result is in a file that is not there");
    const bool writable = std::any_of(parent.all.begin(), parent.all.end(),
                                      [&](const auto& each) { return each.writable && contains(each, ref); });
    promise(source.writable == writable, "a result is not as writable as what the worker was given");
  }
  promise(next == from.size(), "a result is in more memory than it has parts");
}

}  // namespace

void replies(input from) {
  input_reader reader(from);
  known parent = read_known(reader);
  const input stream = reader.rest();
  wire::frame_reader frames;
  const auto room = frames.prepare(stream.size());
  if (!stream.empty()) std::memcpy(room.data(), stream.data(), stream.size());
  frames.commit(stream.size());
  wire::frame next;
  while (frames.next(next) == wire::frame_reader::status::frame) {
    const char* const why = pool::check_frame(next, parent.from);
    promise(why == nullptr || *why != '\0', "a frame was refused without a reason");
    if (why != nullptr) continue;
    using type = wire::frame_type;
    const type said = next.header.type;
    promise(static_cast<unsigned>(said) >= static_cast<unsigned>(type::ready), "a worker spoke as the parent");
    if (said == type::value || said == type::error) {
      promise(next.header.task != 0 && next.header.task == parent.from.in_slot, "a result of no task was believed");
    }
    check_segments(parent, next);
  }
}

}  // namespace shmpool::fuzz
