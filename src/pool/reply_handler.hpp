// Processes the frames of workers: reads their streams, checks each frame (reply_check), and turns it into scheduler
// events, results, notices and answers. Kills no worker itself, but marks it as condemned.
//
// Thread safety: none; the engine's lock guards it.
#pragma once

#include "pool/diagnosis.hpp"
#include "pool/function_table.hpp"
#include "pool/killer_table.hpp"
#include "pool/segment_courier.hpp"
#include "pool/task_ledger.hpp"
#include "pool/worker_channel.hpp"
#include "process/clock.hpp"
#include "sched/scheduler.hpp"
#include "wire/frame.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

namespace shmpool::pool {

class reply_handler {
 public:
  using time_point = monotonic_clock::time_point;

  reply_handler(sched::scheduler& scheduler, task_ledger& ledger, segment_courier& courier, function_table& functions,
                killer_table& killers, diagnosis& problems) noexcept
      : scheduler_(scheduler),
        ledger_(ledger),
        courier_(courier),
        functions_(functions),
        killers_(killers),
        problems_(problems) {}

  /// Processes the frames that were received from the socket.
  void read(worker_channel& from, time_point now) noexcept;
  /// Processes the frames in the worker's ring. False if there was none.
  bool read_ring(worker_channel& from, time_point now) noexcept;
  /// Processes the remaining frames of a dead worker.
  void read_last_words(worker_channel& from, time_point now) noexcept;

 private:
  /// False if the stream was given up. If std::bad_alloc is thrown, the frame is lost.
  bool read_frames(worker_channel& from, time_point now);
  /// Null, or why the frame makes no sense.
  const char* take(worker_channel& from, const wire::frame& in, time_point now);
  const char* take_ready(worker_channel& from, const wire::frame& in, time_point now);
  const char* take_result(worker_channel& from, const wire::frame& in, time_point now);
  /// Reads the result into the task's operation. `used`: the bytes of each segment that it takes.
  const char* read_result(worker_channel& from, task_entry& task, const wire::frame& in,
                          std::vector<std::size_t>& used);
  void take_progress(worker_channel& from, const wire::frame& in);
  void violated(worker_channel& from, const char* what);
  /// Whether the body of an error frame is an exception. Throws std::bad_alloc.
  static bool is_exception(std::span<const std::byte> body);

  sched::scheduler& scheduler_;
  task_ledger& ledger_;
  segment_courier& courier_;
  function_table& functions_;
  killer_table& killers_;
  diagnosis& problems_;
};

}  // namespace shmpool::pool
