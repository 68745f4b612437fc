// What the engine does when the kernel refuses it something: try again what may pass, and break the pool, with an error
// that names the call, where it does not.
#include "pool/pool_engine.hpp"

#include "pool/fork_server.hpp"
#include "process/program_start.hpp"

#include <algorithm>
#include <string>
#include <system_error>

namespace shmpool::pool {

namespace {

/// How long the kernel may go on refusing what it can be expected to do before the pool is given up.
constexpr auto patience = std::chrono::seconds(2);

/// How often the fork server is started in vain.
constexpr unsigned most_server_attempts = 8;

}  // namespace

std::chrono::milliseconds pool_engine::retry_after() const noexcept {
  if (made_here_.inherited()) return {};
  std::lock_guard lock(mutex_);
  if (closed_ || !refused_since_) return {};
  const auto waited = std::chrono::duration_cast<std::chrono::milliseconds>(clock::now() - *refused_since_);
  return std::clamp<std::chrono::milliseconds>(waited / 4, std::chrono::milliseconds(1), std::chrono::milliseconds(50));
}

/// Something has stopped half-way, and nobody knows what was left undone: every task ends here.
void pool_engine::collapse(const std::exception_ptr& cause) noexcept {
  const auto now = clock::now();
  std::string why;
  try {
    try {
      std::rethrow_exception(cause);
    } catch (const std::exception& error) {
      why = std::string("the pool cannot go on: ") + error.what();
    }
  } catch (...) {
    // Not even memory for the text.
  }
  if (!scheduler_->broken()) break_pool({std::move(why), cause, std::nullopt, 0}, now);
  // An action that fails for want of memory is off the list: the others are still to be done.
  for (bool done = false; !done;) {
    try {
      run_actions(now);
      done = true;
    } catch (...) {
    }
  }
}

void pool_engine::loop_refused(const std::error_code& error) {
  refusal_ = error;
  if (!refused_since_) refused_since_ = clock::now();
}

void pool_engine::heed_refusal(clock::time_point now) {
  if (!refused_since_ || now - *refused_since_ < patience) return;
  refused_since_.reset();
  loop_lost_ = true;
  break_pool({std::string("the system does not take what is to be waited for (") + queue_->name() +
              "): " + refusal_.message()},
             now);
  run_actions(now);
  // The end of the workers cannot be waited for through the loop, so it is seen to here.
  const auto deadline = clock::now() + patience;
  meet_last_workers(deadline);
  for (const auto& [id, each] : links_) {
    each->await_end(deadline);
  }
  queue_->cancel_all();
  server_.reset();
  for (const auto& [id, each] : links_) {
    if (each->state != worker_channel::stage::gone) exited(*each, now);
  }
  for (auto& [id, each] : links_) outlast_loop_.push_back(std::move(each));
  links_.clear();
}

/// Tries again what has failed with the sockets and processes of workers, and with the socket of the fork server.
void pool_engine::retry_transfers(clock::time_point now) {
  std::string why;
  for (const auto& [id, each] : links_) {
    if (!each->retry_due || now < *each->retry_due) continue;
    each->retry_due.reset();
    if (each->state == worker_channel::stage::gone) continue;
    if (now - each->failing_since >= patience) why = each->failure;
    if (!each->receive.pending && each->violation.empty()) each->start_receiving(*queue_);
    if (each->process && !each->process_ended && !each->exit_watch.pending) queue_->start(each->exit_watch);
  }
  if (!why.empty()) break_pool({"a worker cannot be talked to: " + why}, now);
  if (server_due_ && now >= *server_due_) {
    server_due_.reset();
    connect_server(now);
    check_exits(now);
  }
  send_to_server();
}

bool pool_engine::server_may_recover(clock::time_point now) {
  if (!server_failing_since_) server_failing_since_ = now;
  return now - *server_failing_since_ < patience;
}

/// Connects to the fork server anew, which starts one if need be. Tried again for a while: descriptors or memory may be
/// short now, and a server that dies at once may find what it needs the next time.
void pool_engine::connect_server(clock::time_point now) {
  if (!scheduler_->broken() && !drained_) {
    std::string why;
    if (++server_attempts_ <= most_server_attempts) {
      try {
        server_ = pool::connect_pool(store_->pool_id(), surroundings_, pool::server_start::only_executing);
        watch_server();
        return send_to_server();
      } catch (const std::exception& error) {
        why = error.what();
      }
      if (init_was_called() && server_attempts_ != most_server_attempts && !pool::server_took_too_long()) {
        server_due_ = now + std::chrono::milliseconds(5) * (1U << server_attempts_);
        return;
      }
    }
    if (why.empty()) why = pool::how_server_ended();
    break_pool({"the fork server died and cannot be started again: " + why}, now);
    run_actions(now);
  }
  // Workers that no server was told of are not there, and never will be.
  for (const auto& [id, each] : links_) {
    if (!each->process) each->process_ended = true;
  }
  unsent_.clear();
}

}  // namespace shmpool::pool
