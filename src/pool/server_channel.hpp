// A pool's socket to its fork server: asks for workers and for their end, keeps what the socket does not take, hears
// what the server says, and connects anew when it has died.
//
// Thread safety: none; the engine's lock guards it.
#pragma once

#include "loop/completion_queue.hpp"
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
    /// A socket to a server (SOCK_SEQPACKET, non-blocking), which is started if there is none; `again` if one has died.
    /// Throws std::exception that says why there is none.
    virtual unique_fd connect(bool again) = 0;
    /// False if connect() has failed for a reason that stays.
    virtual bool may_try_again() = 0;
    /// How the server that died last did.
    virtual std::string how_it_ended() = 0;
    /// The server has started a worker: it is of use.
    virtual void works() noexcept = 0;
  };

  /// Something to tell the engine.
  struct report {
    enum class kind : std::uint8_t {
      told,          ///< the server has been asked for `worker`
      spawned,       ///< its process is `pid`; no `process` if there was no descriptor left to take it in
      spawn_failed,  ///< it could not be started, or asked for: `why`
      exited,        ///< it has ended, with the wait status in `message`
      lost,          ///< the server is dead: forget() whom nobody wants any more, then reconnect()
      gone,          ///< there will be none any more: `why`, or nothing if none was wanted
      stuck,         ///< it cannot be reached although it is there: `why`
    };
    kind what{};
    std::uint32_t worker = 0;
    wire::server_message message{};
    unique_fd process = {};
    std::string why = {};
  };

  /// How long the kernel may refuse to transfer messages, and how often a server is started in vain.
  static constexpr std::chrono::seconds patience{2};
  static constexpr unsigned most_attempts = 8;

  /// Connects. Throws what source::connect() does.
  server_channel(loop::completion_queue& queue, std::unique_ptr<source> servers);

  /// Asks for a worker, whose end of its socket and whose control memory these are.
  void spawn(std::uint32_t worker, const wire::worker_settings& settings, unique_fd socket, unique_fd control,
             time_point now);
  /// Asks to kill it. Never gets lost: what is not sent is tried again.
  void kill(std::uint32_t worker, time_point now);
  /// A worker that was to be asked for is not wanted any more.
  void forget(std::uint32_t worker) noexcept;

  /// After the queue has returned an operation with owns(op).
  void reaped(const loop::operation& op, time_point now);
  bool owns(const loop::operation& op) const noexcept { return &op == &watch_ || &op == &send_; }
  /// When tick() has something to do.
  time_point due() const noexcept;
  /// Tries again what has failed. No server is `wanted` if nobody is to be started any more.
  void tick(time_point now, bool wanted);
  /// Connects to another server after one was lost; as tick() otherwise.
  void reconnect(time_point now, bool wanted);
  /// The oldest that was not taken.
  std::optional<report> next_report();

  /// What the server says is of no interest any more: the pool is at its end.
  void stop_watching();
  /// Makes the server kill what it has started for the pool and close its end.
  void half_close() noexcept;
  /// Waits for what it says after that. False if nothing more comes, or not in time.
  bool wait(time_point deadline);
  /// Makes it kill what is left; nobody is asked for any more.
  void close() noexcept {
    socket_.reset();
    outbox_.clear();
  }
  bool is_open() const noexcept { return static_cast<bool>(socket_); }

 private:
  struct outgoing {
    wire::spawn_message message{};  // of a kill: its head only
    unique_fd socket = {}, control = {};
  };

  void watch();
  void flush(time_point now);
  void retry_sending(std::uint32_t worker, int error, time_point now);
  /// False if there is nothing to read any more for now.
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
  unsigned attempts_ = 0;                    // to connect, since it was heard of last
  std::optional<time_point> reconnect_due_;  // when to try again to connect
  std::optional<time_point> resend_due_;     // when to try again to send
  std::optional<time_point> sending_fails_since_, receiving_fails_since_;
};

}  // namespace shmpool::pool
