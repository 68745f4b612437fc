// Keeps the descriptors of a fork server and of its workers above the numbers that the program's own objects use: these
// may have opened files before main (a log, say) and go on using their numbers.
//
// Thread safety: none; the server and a fresh worker have one thread.
#pragma once

#include "process/unique_fd.hpp"

#include <initializer_list>

namespace shmpool {

/// Moves it to a number above those of the program, close-on-exec. If there is no such number, closes it and returns an
/// empty one: a descriptor that stayed at its number would leak into workers.
unique_fd move_out_of_the_way(unique_fd descriptor) noexcept;

/// For use before settle_own_descriptors(): moves the descriptor to a high number if possible.
unique_fd move_up(unique_fd descriptor) noexcept;

/// Reserves the numbers above all open descriptors except `own` for the server, and moves `own` there.
void settle_own_descriptors(unique_fd& own) noexcept;

/// In a fresh worker: closes the server's descriptors except `keep`, and leaves the program's own open. If no numbers
/// were reserved for the server, closes all above 2 except `keep`. 0 or an errno.
int close_own_descriptors_except(std::initializer_list<int> keep) noexcept;

/// Closes every descriptor from `first` on except `keep`. 0 or an errno.
int close_descriptors_except(std::initializer_list<int> keep, unsigned first = 3) noexcept;

}  // namespace shmpool
