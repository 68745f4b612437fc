// Signals that are sent to every process of a group, a session or a service (its cgroup): the server ignores them, to
// clean up afterwards, and workers leave them to the application.
//
// Thread safety: none but for ignored_group_signals(); a server and a fresh worker have one thread.
#pragma once

#include <cstdint>

namespace shmpool {

/// Default dispositions for all signals, then an empty mask.
void reset_signals() noexcept;

/// In a server: ignores the group signals.
void ignore_group_signals() noexcept;

/// The group signals that this process ignores: bit n for signal n.
std::uint32_t ignored_group_signals() noexcept;

/// In a worker: installs a handler that does nothing, since programs that a task starts would inherit SIG_IGN and could
/// not be asked to end. Signals that the application has `ignored` stay ignored, in such programs as well. Undoes
/// ignore_group_signals(), and empties the mask.
void leave_group_signals_to_the_application(std::uint32_t ignored) noexcept;

}  // namespace shmpool
