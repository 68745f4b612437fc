// A pool's socket to its fork server: asks to start and to kill workers, keeps messages that the socket does not take
// yet, reads the server's messages, and connects to a new server when the old one has died. A server_retries decides
// when it tries again, and when it gives up.
//
// Thread safety: none; the engine's lock guards it.
#pragma once

#include "loop/completion_queue.hpp"
#include "pool/server_retries.hpp"
#include "process/clock.hpp"
#include "process/unique_fd.hpp"
#include "wire/server_protocol.hpp"

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>

namespace shmpool::pool {

class server_channel {
 public:
  using time_point = monotonic_clock::time_point;

  /// Where servers come from: pool/fork_server, or a test.
  class source {
   public:
    virtual ~source() = default;
    /// A socket to a server (SOCK_SEQPACKET, non-blocking), which is started if there is none; `again`: the previous
    /// server has died. Throws a std::exception that says why there is no server.
    virtual unique_fd connect(bool again) = 0;
    /// False if connect() has failed for a reason that stays.
    virtual bool may_try_again() = 0;
    /// How the server that died last ended.
    virtual std::string how_it_ended() = 0;
    /// The server has started a worker: it works.
    virtual void works() noexcept = 0;
  };

  /// An event for the engine.
  struct report {
    enum class kind : std::uint8_t {
      told,          ///< the server has been asked for `worker`
      spawned,       ///< the worker is process `pid`; no `process` if there was no descriptor left to receive its pidfd
      spawn_failed,  ///< the worker could not be started, or not be asked for: `why`
      exited,        ///< the worker has ended, with the wait status in `message`
      lost,          ///< the server is dead: forget() workers that are not wanted any more, then reconnect()
      gone,          ///< there will be no server any more: `why`, or empty if none was wanted
      stuck,         ///< the server is alive but cannot be reached: `why`
    };
    kind what{};
    std::uint32_t worker = 0;
    wire::server_message message{};
    unique_fd process = {};
    std::string why = {};
  };

  /// How many attempts to connect may fail in a row.
  static constexpr unsigned most_attempts = server_retries::most_attempts;

  /// Connects. Throws what source::connect() does.
  server_channel(loop::completion_queue& queue, std::unique_ptr<source> servers);

  /// Asks for a worker; `socket`: the worker's end; `control`: its control memory.
  void spawn(std::uint32_t worker, const wire::worker_settings& settings, unique_fd socket, unique_fd control,
             time_point now);
  /// Asks to kill a worker. The request is never lost: sending is retried.
  void kill(std::uint32_t worker, time_point now);
  /// Drops an unsent spawn() of a worker that is not wanted any more.
  void forget(std::uint32_t worker) noexcept;

  /// After the queue has returned an operation with owns(op).
  void reaped(const loop::operation& op, time_point now);
  bool owns(const loop::operation& op) const noexcept { return &op == &watch_ || &op == &send_; }
  /// When tick() has something to do.
  time_point due() const noexcept { return retries_.due(); }
  /// Retries what has failed. `wanted`: false if no worker is to be started any more, so that no server is needed.
  void tick(time_point now, bool wanted);
  /// Connects to another server after one was lost; as tick() otherwise.
  void reconnect(time_point now, bool wanted);
  /// The oldest report that was not taken.
  std::optional<report> next_report();

  /// The pool is at its end and ignores the server's messages from now on.
  void stop_watching();
  /// Makes the server kill the pool's workers and close its end of the socket.
  void half_close() noexcept;
  /// Waits for the server's messages after half_close(). False if none comes any more, or none in time.
  bool wait(time_point deadline);
  /// Makes the server kill the remaining workers; drops unsent messages.
  void close() noexcept {
    socket_.reset();
    outbox_.clear();
  }
  bool is_open() const noexcept { return static_cast<bool>(socket_); }

 private:
  struct outgoing {
    wire::spawn_message message{};  // a kill uses its head only
    unique_fd socket = {}, control = {};
  };

  void watch();
  void flush(time_point now);
  /// Reads what there is, and waits for more.
  void receive(time_point now);
  /// False if there is nothing to read for now.
  bool receive_one(time_point now);
  void lost();
  void add(report::kind what, std::uint32_t worker, std::string why);

  loop::completion_queue& queue_;
  std::unique_ptr<source> servers_;
  unique_fd socket_;
  loop::operation watch_, send_;
  bool watched_ = true;
  std::deque<outgoing> outbox_;
  std::deque<report> reports_;
  server_retries retries_;
};

}  // namespace shmpool::pool
