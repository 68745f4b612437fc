// The frame decoder: how a stream is cut up by the socket makes no difference, what was decoded encodes to the bytes
// that it came from, and the buffer grows with what has arrived, never with what is announced.
//
// Input: one byte that seeds the sizes of the pieces, then the stream.
#include "fuzz/targets.hpp"
#include "wire/frame.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

namespace shmpool::fuzz {

namespace {

using status = wire::frame_reader::status;

/// All frames of a stream as one encodes them, which stops where the reader stops.
struct reading {
  std::vector<std::byte> encoded;
  bool malformed = false;
};

/// Takes out what is complete. False when the stream is of no use any more.
bool take_frames(wire::frame_reader& reader, reading& result) {
  for (;;) {
    wire::frame next;
    switch (reader.next(next)) {
      case status::incomplete: return true;
      case status::malformed:
        promise(*reader.why() != '\0', "a stream was refused without a reason");
        result.malformed = true;
        return false;
      case status::frame: break;
    }
    promise(next.header.segments <= wire::max_segments, "a frame has more segments than there can be");
    promise(next.header.body == next.body.size(), "a body is not as long as its header says");
    std::vector<wire::segment_ref> segments;
    for (std::size_t i = 0; i != next.segment_count(); ++i) segments.push_back(next.segment(i));
    wire::append_frame(result.encoded, next.header, segments, next.body);
  }
}

template <class NextSize>
reading read_in_pieces(input stream, NextSize next_size) {
  wire::frame_reader reader;
  reading result;
  std::size_t received = 0;
  while (received != stream.size()) {
    const auto room = reader.prepare();
    promise(room.size() >= 4096, "there is no room to receive into");
    promise(room.size() + reader.pending() <= 2 * received + 1024 * 1024, "the buffer is larger than what has arrived");
    const std::size_t size = std::min({room.size(), next_size(), stream.size() - received});
    std::memcpy(room.data(), stream.data() + received, size);
    reader.commit(size);
    received += size;
    if (!take_frames(reader, result)) break;
    promise(result.encoded.size() + reader.pending() == received, "bytes of a stream were lost");
  }
  promise(result.encoded.size() <= stream.size() &&
              std::equal(result.encoded.begin(), result.encoded.end(), stream.begin()),
          "a frame does not encode to what it was decoded from");
  return result;
}

}  // namespace

void frames(input from) {
  input_reader reader(from);
  unsigned seed = reader.byte();
  const input stream = reader.rest();
  const reading whole = read_in_pieces(stream, [] { return std::size_t{1} << 16; });
  const reading pieces = read_in_pieces(stream, [&] {
    seed = seed * 1664525 + 1013904223;
    return std::size_t{1} + (seed >> 16) % 97;
  });
  promise(whole.encoded == pieces.encoded && whole.malformed == pieces.malformed,
          "a stream means something else when it arrives in pieces");
}

}  // namespace shmpool::fuzz
