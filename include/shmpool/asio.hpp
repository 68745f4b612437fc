// The only file that includes Asio: standalone Asio from 1.22.1, or Boost.Asio from 1.81 where SHMPOOL_USE_BOOST_ASIO
// is defined. All other code says shmpool::net. This file bridges the differences between versions.
//
// Thread safety: types and functions without state.
#pragma once

// Clang has coroutines since version 16 without saying so the way Asio before 1.26 asks.
#if defined(__clang__) && __has_include(<coroutine>)
#if !defined(ASIO_HAS_CO_AWAIT)
#define ASIO_HAS_CO_AWAIT 1
#endif
#if !defined(ASIO_HAS_STD_COROUTINE)
#define ASIO_HAS_STD_COROUTINE 1
#endif
#if !defined(BOOST_ASIO_HAS_CO_AWAIT)
#define BOOST_ASIO_HAS_CO_AWAIT 1
#endif
#if !defined(BOOST_ASIO_HAS_STD_COROUTINE)
#define BOOST_ASIO_HAS_STD_COROUTINE 1
#endif
#endif

#if defined(SHMPOOL_USE_BOOST_ASIO)

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/associated_allocator.hpp>
#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/execution/blocking.hpp>
#include <boost/asio/execution/context.hpp>
#include <boost/asio/execution/executor.hpp>
#include <boost/asio/execution/outstanding_work.hpp>
#include <boost/asio/execution/relationship.hpp>
#include <boost/asio/execution_context.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/prefer.hpp>
#include <boost/asio/query.hpp>
#include <boost/asio/require.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/wait_traits.hpp>
#include <boost/system/error_code.hpp>
#include <boost/system/system_error.hpp>

#include <shmpool/boost_system.hpp>

namespace shmpool {
namespace net = boost::asio;
using net_error_code = boost::system::error_code;
using net_system_error = boost::system::system_error;
}  // namespace shmpool

// A program may hold code for both Asios; code compiled against one must not be taken for that of the other.
#define SHMPOOL_ASIO_ABI boost_asio

#else

#include <asio/any_io_executor.hpp>
#include <asio/associated_allocator.hpp>
#include <asio/associated_cancellation_slot.hpp>
#include <asio/associated_executor.hpp>
#include <asio/async_result.hpp>
#include <asio/basic_waitable_timer.hpp>
#include <asio/cancellation_type.hpp>
#include <asio/dispatch.hpp>
#include <asio/error.hpp>
#include <asio/error_code.hpp>
#include <asio/execution/blocking.hpp>
#include <asio/execution/context.hpp>
#include <asio/execution/executor.hpp>
#include <asio/execution/outstanding_work.hpp>
#include <asio/execution/relationship.hpp>
#include <asio/execution_context.hpp>
#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <asio/post.hpp>
#include <asio/prefer.hpp>
#include <asio/query.hpp>
#include <asio/require.hpp>
#include <asio/system_error.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/wait_traits.hpp>

namespace shmpool {
namespace net = asio;
using net_error_code = asio::error_code;
using net_system_error = asio::system_error;
}  // namespace shmpool

#define SHMPOOL_ASIO_ABI standalone_asio

#endif

#include <shmpool/register_error_category.hpp>

#include <system_error>
#include <type_traits>

namespace shmpool::detail {
inline namespace SHMPOOL_ASIO_ABI {

/// Users of Asio compare codes with its errors, so these keep their categories when they come from a task. OpenSSL's
/// category is not among them, because naming it would need that library.
struct asio_categories {
  category_registration system{net::error::get_system_category()};
  category_registration netdb{net::error::get_netdb_category()};
  category_registration addrinfo{net::error::get_addrinfo_category()};
  category_registration misc{net::error::get_misc_category()};
#if defined(SHMPOOL_USE_BOOST_ASIO)
  // A std::error_code made from one of Boost.Asio's has a category that stands for Boost's.
  category_registration standard_netdb = view_of(net::error::get_netdb_category());
  category_registration standard_addrinfo = view_of(net::error::get_addrinfo_category());
  category_registration standard_misc = view_of(net::error::get_misc_category());

  static category_registration view_of(const std::error_category& category) noexcept {
    return category_registration(category, category_rank::view);
  }
#endif
};

// Every program that has a pool includes this file somewhere, so the categories are there before main, in the
// application and in its workers. One object per module, and hidden: each module has its own Asio, or shares it with
// others, and its registrations go when it is unloaded.
[[gnu::visibility("hidden")]] inline const asio_categories known_to_asio;

}  // namespace SHMPOOL_ASIO_ABI

/// The completion token where none is given: the executor's default, or use_awaitable if it has none (any_io_executor
/// has none before Asio 1.31), so that `co_await pool.submit(...)` works with every version.
template <class Executor>
using default_token =
    std::conditional_t<std::is_void_v<typename net::default_completion_token<Executor>::type>, net::use_awaitable_t<>,
                       typename net::default_completion_token<Executor>::type>;

}  // namespace shmpool::detail
