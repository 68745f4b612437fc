#include "worker/worker_main.hpp"

#include "process/clock.hpp"
#include "process/fault_point.hpp"
#include "process/fork_mark.hpp"
#include "process/mutex.hpp"
#include "process/own_descriptors.hpp"
#include "process/program_start.hpp"
#include "process/standard_streams.hpp"
#include "shm/exhausted.hpp"
#include "wire/control_page.hpp"
#include "wire/frame.hpp"
#include "wire/hello.hpp"
#include "worker/bound_call.hpp"
#include "worker/known_functions.hpp"
#include "worker/leaving.hpp"
#include "worker/memory_limit.hpp"
#include "worker/reply_stream.hpp"
#include "worker/request_stream.hpp"
#include "worker/segment_table.hpp"
#include "worker/task_state.hpp"

#include <shmpool/array.hpp>
#include <shmpool/detail/attachment.hpp>
#include <shmpool/detail/codec/exception_codec.hpp>
#include <shmpool/detail/codec/message.hpp>
#include <shmpool/error.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <exception>
#include <new>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

namespace shmpool::worker {

namespace {

std::uint64_t monotonic_ns() noexcept {
  return static_cast<std::uint64_t>(std::chrono::nanoseconds(monotonic_clock::now().time_since_epoch()).count());
}

constexpr std::uint64_t progress_interval_ns = 10'000'000;

class worker final : lease_source, progress_sink {
 public:
  worker(unique_fd socket, wire::control_page& page, const setup_failure& failure)
      : socket_(std::move(socket)),
        page_(page),
        failure_(failure),
        replies_(socket_.get(), page),
        memory_(*this),
        requests_(socket_.get(), page) {
    report_progress_to(*this);
  }

  [[noreturn]] void run() {
    for (;;) {
      if (!inbox_.empty()) {
        stored_frame next = std::move(inbox_.front());
        inbox_.pop_front();
        // Its descriptor is older than any that has come since.
        if (next.header.type == wire::frame_type::segment) requests_.return_descriptor(std::move(next.descriptor));
        serve(next.view());
      } else if (wire::frame next; requests_.next(next)) {
        serve(next);
      } else {
        flush();
        if (!receive() && !requests_.is_within_frame()) leave_idle();
      }
    }
  }

 private:
  /// A frame that came while a task waited for an answer.
  struct stored_frame {
    wire::frame_header header;
    std::vector<std::byte> segments, body;
    unique_fd descriptor;
    wire::frame view() const noexcept { return {header, segments, body}; }
  };

  /// False if no bytes have come for the idle timeout.
  bool receive() {
    const request_stream::arrival what = requests_.receive();
    if (what == request_stream::arrival::end) ::_exit(0);  // no parent waits for an exit; a task may be running
    return what == request_stream::arrival::bytes;
  }

  /// Tasks that the parent sends meanwhile are not lost: it learns that this worker has begun none and takes them back.
  [[noreturn]] void leave_idle() {
    wire::frame_header header;
    header.type = wire::frame_type::leaving;
    reply(header, {}, {});
    flush();
    leave();
  }

  /// Ends like a program, which may take a while: destructors of static objects may drop arrays or call any function.
  /// This object stays alive on the stack of the thread that runs exit().
  [[noreturn]] void leave() {
    SHMPOOL_FAULT_POINT("worker.leaving");
    limit_leaving(leave_grace);
    detail::set_local_allocator(nullptr, 0);  // the parent gives this worker no more memory
    int status = EXIT_SUCCESS;
    if (finalizer_) {
      enter_task(nullptr, 0);
      try {
        (*finalizer_)(memory_, inline_bytes_);
      } catch (...) {
        status = EXIT_FAILURE;
      }
      leave_copy();
      leave_task();
    }
    std::exit(status);
  }

  /// A task may fork, and the copy may return from the task: it must not reply for the worker, nor run the worker's
  /// next tasks.
  void leave_copy() const noexcept {
    if (original_.inherited_for_certain()) ::_exit(copy_status);
  }

  void serve(const wire::frame& in) {
    SHMPOOL_FAULT_POINT("worker.frame_read");
    switch (in.header.type) {
      case wire::frame_type::hello: return start(in);
      case wire::frame_type::function: return functions_.define(in.header.value, in.body);
      case wire::frame_type::task: return run_task(in);
      case wire::frame_type::segment: return introduce(in);
      case wire::frame_type::unmap: return unmap(in);
      case wire::frame_type::leave: flush(); leave();
      default: ::_exit(125);
    }
  }

  void start(const wire::frame& in) {
    if (in.is_cut())
      return refuse_start("the worker has no memory (RLIMIT_AS, say) for its settings of " +
                          std::to_string(in.header.body) + " bytes");
    wire::hello told;
    try {
      told = wire::hello::decode(in.body);
    } catch (const std::bad_alloc&) {
      return refuse_start(
          "the worker has no memory (RLIMIT_AS, say) for the arguments of its initializer and finalizer");
    }
    inline_bytes_ = static_cast<std::size_t>(told.inline_bytes);
    memory_.set_dumped(told.dump_arrays);
    detail::set_local_allocator(&memory_, inline_bytes_);
    if (in.header.slot != 0) {
      unique_fd bell = move_out_of_the_way(requests_.take_descriptor());
      const mutex_lock lock(replies_mutex_);
      replies_.have_bell(std::move(bell), static_cast<std::uint32_t>(in.header.value));
    }
    wire::frame_header header;
    header.type = wire::frame_type::ready;
    header.task =
        static_cast<std::uint64_t>(::getpid());  // the parent may read later replies before the fork server's report
    std::vector<std::byte> body;
    if (failure_.call) {
      body = detail::encode_exception(
          std::make_exception_ptr(std::system_error(failure_.error, std::system_category(), failure_.call)));
      header.type = wire::frame_type::init_failed;
      header.value = 1;
    } else {
      try {
        if (told.finalizer) {
          finalizer_.emplace(*std::move(told.finalizer));
          header.value = 2;
          finalizer_->resolve();
          header.value = 0;
        }
        if (told.initializer) {
          bound_call initializer(*std::move(told.initializer));
          initializer.resolve();
          memory_.begin_task();
          enter_task(nullptr, 0);
          initializer(memory_, inline_bytes_);
          leave_copy();
        }
      } catch (...) {
        leave_copy();
        body = detail::encode_exception(std::current_exception());
        header.type = wire::frame_type::init_failed;
      }
      flush_standard_streams();
      leave_task();
      memory_.close_task();
    }
    reply(header, {}, body);
    flush();
    if (header.type == wire::frame_type::init_failed) {  // the parent may have sent tasks already: none must run
      std::fflush(nullptr);
      ::_exit(0);
    }
    if (told.max_resident_bytes != 0) memory_limit_.emplace(told.max_resident_bytes);
    requests_.wait_at_most(std::chrono::milliseconds(told.idle_ms));
  }

  [[noreturn]] void refuse_start(const std::string& why) {
    wire::frame_header header;
    header.type = wire::frame_type::init_failed;
    header.task = static_cast<std::uint64_t>(::getpid());
    header.value = 1;
    reply(header, {}, detail::encode_exception(std::make_exception_ptr(std::system_error(errc::shm_exhausted, why))));
    flush();
    ::_exit(0);
  }

  void unmap(const wire::frame& in) {
    detail::unpacker ids(in.body, {});
    while (ids.remaining() != 0) memory_.forget(ids.get<std::uint64_t>());
  }

  void introduce(const wire::frame& in) {
    if (in.segment_count() != 1) ::_exit(125);
    memory_.introduce(in.segment(0), requests_.take_descriptor());
  }

  void run_task(const wire::frame& in) {
    known_function& fn = functions_[in.header.value];
    if (fn.may_be_long()) flush();
    wire::slot& slot = page_.slots[in.header.slot % wire::slot_count];
    const std::uint64_t started = monotonic_ns();
    if (!wire::claim(slot, in.header.task, started)) return;  // taken back
    SHMPOOL_FAULT_POINT("worker.claimed");

    wire::frame_header header;
    header.task = in.header.task;
    header.slot = in.header.slot;
    task_ = in.header.task;
    detail::packer result(memory_, inline_bytes_);
    try {
      take_in(in);
      memory_.begin_task();
      enter_task(&slot, header.task);
      if (!fn.entry) throw std::system_error(errc::function_not_found, fn.problem);
      std::vector<detail::attachment> attachments;
      for (const wire::segment_ref& ref : segments_) {
        if (static_cast<detail::access>(ref.access) == detail::access::lease) memory_.add_lease(ref);
        else attachments.push_back(memory_.resolve(ref));
      }
      detail::unpacker arguments(arguments_, attachments);
      detail::invocation call{arguments, result, fn.target};
      fn.entry(call);
      leave_copy();
      if (result.bytes().size() > wire::max_body) {
        throw std::system_error(errc::message_too_large,
                                "the result takes " + std::to_string(result.bytes().size()) + " bytes");
      }
      {
        const mutex_lock lock(replies_mutex_);
        replies_.make_room(result.bytes().size(), result.attachments().size());
      }
      if (result.attachments().size() > wire::max_arrays) {
        throw std::system_error(errc::message_too_large,
                                "the result has " + std::to_string(result.attachments().size()) + " arrays");
      }
      header.type = wire::frame_type::value;
    } catch (...) {
      leave_copy();
      result.attachments().clear();
      result.bytes() = detail::encode_exception(std::current_exception());
      header.type = wire::frame_type::error;
    }
    flush_standard_streams();
    SHMPOOL_FAULT_POINT("worker.ran");
    leave_task();
    memory_.close_task();
    const std::uint64_t run = monotonic_ns() - started;
    fn.ran(std::chrono::nanoseconds(run));
    header.value = run;
    reply(header, std::exchange(result.attachments(), {}), result.bytes());
    task_ = 0;
    if (memory_limit_) {
      if (const std::uint64_t resident = memory_limit_->exceeded_by(started + run, run); resident != 0) {
        header = {};
        header.type = wire::frame_type::outgrown;
        header.value = resident;
        reply(header, {}, {});
      }
    }
    if (arguments_.capacity() > 1024 * 1024) std::vector<std::byte>().swap(arguments_);
    if (segments_.capacity() > 1024) std::vector<wire::segment_ref>().swap(segments_);
  }

  /// Copies the task's frame out of the receive buffer. The answer to a request for memory or for a segment overwrites
  /// the buffer; even a thread that an earlier task has left may send a request.
  void take_in(const wire::frame& in) {
    segments_.clear();
    try {
      if (in.is_cut()) throw std::bad_alloc();
      arguments_.assign(in.body.begin(), in.body.end());
      segments_.reserve(in.segment_count());
    } catch (const std::bad_alloc&) {
      throw std::system_error(errc::shm_exhausted, "the worker has no memory (RLIMIT_AS, say) for arguments of " +
                                                       std::to_string(in.header.body) + " bytes");
    }
    for (std::size_t i = 0; i != in.segment_count(); ++i) segments_.push_back(in.segment(i));
  }

  /// Sends the reply of a task (or of the initializer), with the account of its memory.
  void reply(const wire::frame_header& header, std::vector<detail::attachment> results,
             std::span<const std::byte> body) {
    std::vector<wire::segment_ref> refs;
    for (const detail::attachment& each : results) {
      wire::segment_ref ref;
      ref.id = each.handle.get()->id();
      ref.offset = each.offset;
      ref.length = each.length;
      ref.flags = wire::flag_result;
      refs.push_back(ref);
    }
    results.clear();  // before the account, after close_task(): the segments belong to the parent from here
    // Report releases before the reply: a segment that was dropped and kept anew is kept. But a segment that the reply
    // returns is the worker's until then. Call end_task() before locking: a thread that asks for memory locks
    // replies_mutex_ while it holds the table's lock.
    std::vector<std::uint64_t> before = memory_.end_task(refs), after;
    SHMPOOL_FAULT_POINT("worker.accounted");
    const mutex_lock lock(replies_mutex_);
    // A segment that was dropped and is kept again needs no release: the parent has it as kept, as does the reply.
    if (!before.empty()) {
      std::unordered_set<std::uint64_t> kept, returned;
      for (const wire::segment_ref& each : refs) {
        if ((each.flags & wire::flag_kept) != 0) kept.insert(each.id);
        if ((each.flags & wire::flag_result) != 0) returned.insert(each.id);
      }
      std::erase_if(before, [&](std::uint64_t id) {
        if (kept.contains(id) || !returned.contains(id)) return kept.contains(id);
        after.push_back(id);
        return true;
      });
    }
    append_released(before);
    replies_.append(header, refs, body);
    SHMPOOL_FAULT_POINT("worker.replied");
    append_released(after);
  }

  void append_released(const std::vector<std::uint64_t>& ids) SHMPOOL_REQUIRES(replies_mutex_) {
    if (ids.empty()) return;
    wire::frame_header header;
    header.type = wire::frame_type::released;
    replies_.append(header, {}, std::as_bytes(std::span(ids)));
  }

  void flush() noexcept {
    const mutex_lock lock(replies_mutex_);
    replies_.flush();
  }

  void report(std::uint64_t task, double fraction) noexcept override {
    if (original_.inherited()) return;  // a copy must not report, and may lack the thread that holds the lock
    const mutex_lock lock(replies_mutex_);
    const std::uint64_t now = monotonic_ns();
    if (now - last_progress_ < progress_interval_ns && task == progress_task_) return;
    last_progress_ = now;
    progress_task_ = task;
    wire::frame_header header;
    header.type = wire::frame_type::progress;
    header.task = task;
    header.value = std::bit_cast<std::uint64_t>(fraction);
    replies_.append(header, {}, {});
    replies_.flush();
  }

  granted need(std::size_t bytes, bool posix_full, std::size_t more) override {
    wire::frame_header header;
    header.type = wire::frame_type::need;
    header.task = task_;
    header.value = bytes;
    header.slot = static_cast<std::uint16_t>(2 * more + (posix_full ? wire::need_no_file : 0));
    return ask(header);
  }

  unique_fd open(std::uint64_t segment) override {
    wire::frame_header header;
    header.type = wire::frame_type::open;
    header.task = task_;
    header.value = segment;
    unique_fd descriptor = ask(header).descriptor;
    if (descriptor) return descriptor;
    const shm::call_error failed{"recvmsg of a descriptor", {EMFILE, std::system_category()}};
    throw std::system_error(errc::shm_exhausted, "mapping an array in a worker: " + shm::describe(failed));
  }

  /// Sends a request and waits for the answer.
  granted ask(const wire::frame_header& request) {
    {
      const mutex_lock lock(replies_mutex_);
      replies_.append(request, {}, {});
      replies_.flush();
    }
    SHMPOOL_FAULT_POINT("worker.need_sent");
    for (;;) {
      wire::frame next;
      while (!requests_.next(next)) receive();  // without a time limit: this worker is not idle
      switch (next.header.type) {
        case wire::frame_type::grant: {
          if (next.segment_count() == 0) ::_exit(125);
          granted answer;
          // Before anything that may throw: a descriptor that is left would be taken for the next one's.
          if ((next.segment(0).flags & wire::flag_with_fd) != 0) answer.descriptor = requests_.take_descriptor();
          answer.segments.reserve(next.segment_count());
          for (std::size_t i = 0; i != next.segment_count(); ++i) answer.segments.push_back(next.segment(i));
          return answer;
        }
        case wire::frame_type::refuse:
          throw std::system_error(static_cast<errc>(next.header.value),
                                  std::string(reinterpret_cast<const char*>(next.body.data()), next.body.size()));
        default: store(next);
      }
    }
  }

  /// Keeps a frame for later, with its descriptor. noexcept: if memory runs out, the worker is useless, as a task would
  /// never begin, or the descriptor would be taken for another segment's.
  void store(const wire::frame& in) noexcept {
    stored_frame stored{
        in.header, {in.segment_bytes.begin(), in.segment_bytes.end()}, {in.body.begin(), in.body.end()}, {}};
    if (in.header.type == wire::frame_type::segment) stored.descriptor = requests_.take_descriptor();
    inbox_.push_back(std::move(stored));
  }

  fork_mark original_;
  unique_fd socket_;
  wire::control_page& page_;
  setup_failure failure_;
  mutex replies_mutex_;  // threads of a task may ask for memory and report progress
  reply_stream replies_ SHMPOOL_GUARDED_BY(replies_mutex_);
  std::uint64_t last_progress_ SHMPOOL_GUARDED_BY(replies_mutex_) = 0;
  std::uint64_t progress_task_ SHMPOOL_GUARDED_BY(replies_mutex_) = 0;
  segment_table memory_;
  request_stream requests_;
  std::deque<stored_frame> inbox_;
  known_functions functions_;
  std::optional<bound_call> finalizer_;
  // For the running task; members so that their memory is reused.
  std::vector<std::byte> arguments_;
  std::vector<wire::segment_ref> segments_;
  std::size_t inline_bytes_ = 0;
  std::optional<memory_limit> memory_limit_;
  std::uint64_t task_ = 0;
};

}  // namespace

void run_worker(unique_fd socket, unique_fd control, const setup_failure& failure) noexcept {
  void* memory = ::mmap(nullptr, sizeof(wire::control_page), PROT_READ | PROT_WRITE, MAP_SHARED, control.get(), 0);
  if (memory == MAP_FAILED) ::_exit(124);
  control.reset();
  auto& page = *static_cast<wire::control_page*>(memory);
  if (page.magic != wire::control_magic || page.version != wire::control_version) ::_exit(124);
  worker(std::move(socket), page, failure).run();
}

}  // namespace shmpool::worker
