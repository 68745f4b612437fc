// The worker's end of a channel: the frames that a worker would get, without a process.
//
// Thread safety: none.
#pragma once

#include "loop/completion_queue.hpp"
#include "pool/worker_channel.hpp"
#include "process/unique_fd.hpp"
#include "wire/frame.hpp"
#include "worker/request_stream.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

namespace shmpool::pool {

class worker_end {
 public:
  struct heard {
    wire::frame_header header;
    std::vector<wire::segment_ref> segments;
    std::vector<std::byte> body;
    std::string text() const { return {reinterpret_cast<const char*>(body.data()), body.size()}; }
    unique_fd descriptor;
  };

  explicit worker_end(worker_channel& channel)
      : channel_(channel), stream_(channel.worker_end.get(), channel.control.page()) {
    stream_.wait_at_most(std::chrono::microseconds(1));
  }

  /// Has all that is queued sent, and reads it.
  std::vector<heard> hears(loop::completion_queue& queue) {
    channel_.start_sending(queue, monotonic_clock::now());
    while (channel_.send.pending) {
      EXPECT_FALSE(queue.submit());
      if (queue.reap() != &channel_.send) {
        ADD_FAILURE() << "the socket has no room";
        return {};
      }
      channel_.sent(queue, monotonic_clock::now());
    }
    std::vector<heard> all;
    do {
      for (wire::frame in; stream_.next(in);) {
        heard& each = all.emplace_back();
        each.header = in.header;
        for (std::size_t i = 0; i != in.segment_count(); ++i) each.segments.push_back(in.segment(i));
        each.body.assign(in.body.begin(), in.body.end());
        const bool with_descriptor = !each.segments.empty() && (each.segments[0].flags & wire::flag_with_fd) != 0;
        if (with_descriptor) each.descriptor = stream_.take_descriptor();
      }
    } while (stream_.receive() == worker::request_stream::arrival::bytes);
    return all;
  }

 private:
  worker_channel& channel_;
  worker::request_stream stream_;
};

}  // namespace shmpool::pool
