// Where the descriptors of a fork server and of its workers live: above the numbers that the program's own objects use,
// which may have opened files before main (a log, say) and go on using their numbers.
//
// Thread safety: none; the server and a fresh worker have one thread.
#pragma once

#include "process/unique_fd.hpp"

#include <initializer_list>

namespace shmpool {

/// To a number above those of the program, close-on-exec. Closed, and none, if there is no such number: what stayed
/// where it is would reach workers.
unique_fd move_out_of_the_way(unique_fd descriptor) noexcept;

/// Before settle_own_descriptors(): to a high number, or else it stays.
unique_fd move_up(unique_fd descriptor) noexcept;

/// From here all descriptors above those that are open now, but for `own`, are the server's; moves that there.
void settle_own_descriptors(unique_fd& own) noexcept;

/// In a fresh worker: closes what is the server's, except `keep`. The program's own stay. Where they could not be told
/// apart, closes all above 2. 0 or an errno.
int close_own_descriptors_except(std::initializer_list<int> keep) noexcept;

/// Closes every descriptor from `first` on except `keep`. 0 or an errno.
int close_descriptors_except(std::initializer_list<int> keep, unsigned first = 3) noexcept;

}  // namespace shmpool
