#include "pool/segment_courier.hpp"

#include "shm/exhausted.hpp"

#include <shmpool/error.hpp>

#include <algorithm>
#include <cstring>
#include <new>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace shmpool::pool {

namespace {

/// How many segments one task may ask for.
constexpr std::size_t most_leases = wire::max_arrays;

/// How many segments a task is leased in advance at most, by the result of its function's last run.
constexpr std::size_t most_expected = 64;

shm::pool_segment& segment_of(const shm_handle& handle) noexcept {
  return static_cast<shm::pool_segment&>(*handle.get());
}

wire::segment_ref describe(const shm::pool_segment& segment, std::uint64_t offset, std::uint64_t length,
                           detail::access mode) noexcept {
  const shm::file_segment& file = segment.file();
  wire::segment_ref ref;
  ref.id = segment.id();
  ref.file = file.id();
  ref.pool = file.pool_id();
  ref.capacity = file.capacity();
  ref.reserved = segment.reserved();
  ref.place = static_cast<std::uint32_t>(segment.place());
  ref.offset = offset;
  ref.length = length;
  ref.access = static_cast<std::uint8_t>(mode);
  return ref;
}

/// Sees to it that this process can read the first `bytes` bytes.
shm::call_error make_readable(const shm::pool_segment& segment, std::size_t bytes) noexcept {
  return segment.is_block() ? shm::call_error{} : segment.file().map(bytes);  // arenas are mapped
}

/// The worker is about to hear of the file. True if it had not yet.
bool introduce(worker_channel& to, shm::file_segment& file) {
  if (!to.known_files.insert(file.id()).second) return false;
  if (file.created()) file.note_mapped_by(to.id);  // else when it says that it has created it
  return true;
}

/// Answers a waiting worker with a refusal.
void refuse(worker_channel& to, std::uint64_t task, errc why, std::string_view text) {
  wire::frame_header header;
  header.type = wire::frame_type::refuse;
  header.task = task;
  header.value = static_cast<std::uint64_t>(why);
  to.queue_frame(header, {}, std::as_bytes(std::span(text)));
}

errc code_of(const std::system_error& error) noexcept {
  return error.code().category() == make_error_code(errc{}).category() ? static_cast<errc>(error.code().value())
                                                                       : errc::shm_exhausted;
}

}  // namespace

segment_courier::segment_courier(const shm::store_options& options)
    : store_(shm::store::open(options)), freed_(std::make_shared<freed_segments>()) {
  store_->subscribe(freed_);
}

wire::segment_ref segment_courier::reference(worker_channel& to, const shm_handle& handle, std::uint64_t offset,
                                             std::uint64_t length, detail::access mode) {
  shm::file_segment& file = segment_of(handle).file();
  wire::segment_ref ref = describe(segment_of(handle), offset, length, mode);
  const bool known = !introduce(to, file);
  if (!known && ref.pool != store_->pool_id()) file.owner().subscribe(freed_);
  if (file.descriptor() < 0) return ref;
  ref.flags |= wire::flag_memfd;
  if (!known) {
    wire::segment_ref introduced = ref;
    introduced.flags |= wire::flag_with_fd;
    wire::frame_header header;
    header.type = wire::frame_type::segment;
    to.queue_frame(header, introduced, file.descriptor(), handle);
  }
  return ref;
}

std::vector<wire::segment_ref> segment_courier::pack(worker_channel& to, task_entry& task,
                                                     std::span<const std::size_t> sizes) {
  std::vector<wire::segment_ref> refs;
  for (const detail::attachment& each : task.arrays.all()) {
    refs.push_back(reference(to, each.handle, each.offset, each.length, each.mode));
  }
  for (const std::size_t bytes : sizes) {
    shm_handle leased = store_->lease_cached(bytes, to.id);
    if (!leased) continue;
    refs.push_back(reference(to, leased, 0, bytes, detail::access::lease));
    task.leases.push_back(std::move(leased));
  }
  return refs;
}

void segment_courier::answer_need(worker_channel& to, task_entry* task, const wire::frame& in) {
  auto& leases = task ? task->leases : to.initializer_leases;
  try {
    if (leases.size() >= most_leases) {
      throw std::system_error(errc::shm_exhausted,
                              "a task may have " + std::to_string(most_leases) + " segments of its own");
    }
    const auto bytes = static_cast<std::size_t>(in.header.value);
    shm_handle leased = store_->lease(bytes, to.id, (in.header.slot & wire::need_no_file) != 0);
    shm::file_segment& file = segment_of(leased).file();
    const bool known = !introduce(to, file);
    wire::segment_ref ref = describe(segment_of(leased), 0, bytes, detail::access::lease);
    const int descriptor = file.descriptor();
    if (descriptor >= 0) ref.flags = wire::flag_memfd;
    else if (!file.created()) ref.flags = wire::flag_fresh;
    wire::frame_header header;
    header.type = wire::frame_type::grant;
    header.task = in.header.task;
    leases.push_back(leased);
    if (descriptor >= 0 && !known) {
      ref.flags |= wire::flag_with_fd;
      return to.queue_frame(header, ref, descriptor, std::move(leased));
    }
    std::vector<wire::segment_ref> refs{ref};
    if (segment_of(leased).is_block()) lease_more(to, leases, bytes, in.header.slot >> 1, refs);
    to.queue_frame(header, refs, {});
  } catch (const std::system_error& error) {
    refuse(to, in.header.task, code_of(error), error.what());
  } catch (const std::bad_alloc&) {
    refuse(to, in.header.task, errc::shm_exhausted, "the application had no memory left (new threw std::bad_alloc)");
  }
}

/// Adds up to `count` blocks that are there to a grant, so that a task which makes many small arrays asks rarely.
void segment_courier::lease_more(worker_channel& to, std::vector<shm_handle>& leases, std::size_t bytes,
                                 std::size_t count, std::vector<wire::segment_ref>& refs) {
  if (store_->tight()) return;  // what this task takes in advance, another may need
  count = std::min(count, most_leases - leases.size());
  for (; count != 0; --count) {
    shm_handle next = store_->lease_cached(bytes, to.id);
    if (!next) return;
    shm::file_segment& file = segment_of(next).file();
    if (file.descriptor() >= 0 && !to.known_files.contains(file.id())) return;
    introduce(to, file);
    refs.push_back(describe(segment_of(next), 0, bytes, detail::access::lease));
    if (file.descriptor() >= 0) refs.back().flags = wire::flag_memfd;
    leases.push_back(std::move(next));
  }
}

/// A worker opens a segment by its name if it can. If the name was removed, or the worker cannot reach it any more (a
/// chroot, a filter of system calls), it gets the descriptor.
const char* segment_courier::answer_open(worker_channel& to, task_entry* task, const wire::frame& in) {
  shm_handle handle;
  const auto look_at = [&](const shm_handle& each) {
    if (each.get()->id() == in.header.value) handle = each;
  };
  if (const auto kept = to.kept.find(in.header.value); kept != to.kept.end()) handle = kept->second.handle;
  for (const shm_handle& each : task ? task->leases : to.initializer_leases) look_at(each);
  if (task) {
    for (const detail::attachment& each : task->arrays.all()) look_at(each.handle);
  }
  if (!handle) return "request for a segment that it was not given";
  int descriptor = -1;
  if (const shm::call_error failed = segment_of(handle).file().find_descriptor(descriptor)) {
    refuse(to, in.header.task, errc::shm_exhausted, shm::describe(failed));
    return nullptr;
  }
  wire::segment_ref ref;
  ref.id = in.header.value;
  ref.flags = wire::flag_with_fd;
  wire::frame_header header;
  header.type = wire::frame_type::grant;
  header.task = in.header.task;
  to.queue_frame(header, ref, descriptor, std::move(handle));
  return nullptr;
}

void segment_courier::collect_holdings(const worker_channel& from, const task_entry* task, const wire::frame& in) {
  holdings_.clear();
  sources_.clear();
  const auto add = [&](const shm_handle& handle, std::uint64_t offset, std::uint64_t length, bool writable,
                       bool leased) {
    holding each;
    each.segment = handle.get()->id();
    each.offset = offset;
    each.length = length;
    each.writable = writable;
    each.created = segment_of(handle).file().created();
    each.source = static_cast<std::uint32_t>(sources_.size());
    holdings_.add(each);
    sources_.push_back({&handle, leased});
  };
  if (task) {
    for (const detail::attachment& each : task->arrays.all()) {
      add(each.handle, each.offset, each.length, each.mode != detail::access::read, false);
    }
  }
  if (!from.kept.empty()) {
    std::vector<std::uint64_t> named;
    for (std::size_t i = 0; i != in.segment_count(); ++i) named.push_back(in.segment(i).id);
    std::sort(named.begin(), named.end());
    named.erase(std::unique(named.begin(), named.end()), named.end());
    for (const std::uint64_t id : named) {
      const auto kept = from.kept.find(id);
      if (kept == from.kept.end()) continue;
      add(kept->second.handle, 0, segment_of(kept->second.handle).reserved(), kept->second.writable, false);
    }
  }
  for (const shm_handle& each : task ? task->leases : from.initializer_leases) {
    add(each, 0, segment_of(each).reserved(), true, true);
  }
  holdings_.settle();
}

const char* segment_courier::take_account(worker_channel& from, task_entry* task, const wire::frame& in) {
  if (in.segment_count() == 0) return nullptr;
  collect_holdings(from, task, in);
  if (const char* const why = check_account(in, holdings_)) return why;
  bool kept_more = false;
  for (std::size_t i = 0; i != in.segment_count(); ++i) {
    const wire::segment_ref ref = in.segment(i);
    if ((ref.flags & wire::flag_result) != 0) continue;
    const holdings::found has = holdings_.find(ref.id);
    const shm_handle& handle = *sources_[has.any->source].handle;
    if ((ref.flags & wire::flag_created) != 0) {
      segment_of(handle).file().mark_created();
      segment_of(handle).file().note_mapped_by(from.id);
      holdings_.note_created(ref.id);
    }
    if ((ref.flags & wire::flag_kept) == 0) continue;
    from.kept.insert_or_assign(ref.id, worker_channel::kept_segment{shm_handle(handle), has.writable});
    kept_more = true;
  }
  if (kept_more) collect_holdings(from, task, in);  // the result may lie in a newly kept segment
  return nullptr;
}

const char* segment_courier::take_result(const wire::frame& in, detail::outcome& to, std::vector<std::size_t>& used) {
  if (in.segment_count() == 0) return nullptr;
  if (const char* const why = check_result(in, holdings_, found_)) return why;
  std::size_t next = 0;
  for (std::size_t i = 0; i != in.segment_count(); ++i) {
    const wire::segment_ref ref = in.segment(i);
    if ((ref.flags & wire::flag_result) == 0) continue;
    const holding& place = *found_[next++];
    const source& from = sources_[place.source];
    const auto end = static_cast<std::size_t>(ref.offset + ref.length);
    if (from.leased && end != 0 && used.size() < most_expected) used.push_back(end);
    if (to.error) continue;
    if (const shm::call_error failed = make_readable(segment_of(*from.handle), end)) {
      // It is not the worker's fault if this process cannot map the result, or if the name was removed.
      if (!shm::is_shortage(failed.code) && failed.code != std::errc::no_such_file_or_directory) {
        return "result in a file that cannot be mapped";
      }
      to.error = std::make_exception_ptr(std::system_error(
          errc::shm_exhausted, "an array of the result cannot be taken in: " + shm::describe(failed)));
      to.attachments.clear();
      continue;
    }
    to.attachments.push_back(
        {*from.handle, ref.offset, ref.length, place.writable ? detail::access::own : detail::access::read});
  }
  return nullptr;
}

void segment_courier::take_released(worker_channel& from, const wire::frame& in) {
  for (std::size_t at = 0; at + sizeof(std::uint64_t) <= in.body.size(); at += sizeof(std::uint64_t)) {
    std::uint64_t id;
    std::memcpy(&id, in.body.data() + at, sizeof id);
    from.kept.erase(id);
  }
}

void segment_courier::tell_freed(worker_channel& to, std::span<const std::uint64_t> segments) {
  std::vector<std::uint64_t> known;
  for (const std::uint64_t segment : segments) {
    if (to.known_files.erase(segment) != 0) known.push_back(segment);
  }
  if (known.empty()) return;
  wire::frame_header header;
  header.type = wire::frame_type::unmap;
  to.queue_frame(header, {}, std::as_bytes(std::span(known)));
}

}  // namespace shmpool::pool
