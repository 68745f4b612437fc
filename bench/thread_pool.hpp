// asio::thread_pool with the face of a process_pool, so that the same coroutines and callbacks run on both.
#pragma once

#include <asio.hpp>

#include <exception>
#include <functional>
#include <type_traits>
#include <utility>

namespace bench {

/// Runs functions in a thread; like the process pool's, completions run on the handler's executor, or that of `io`.
///
/// Thread safety: submit() may be called from any thread.
class thread_pool {
 public:
  thread_pool(asio::io_context& io, unsigned threads) : io_(io), threads_(threads) {}

  /// Completion signature: void(std::exception_ptr, R), or without R where `function` returns void.
  template <class Result, class Token>
  auto submit(Result (*function)(), Token&& token) {
    return start<Result>(function, std::forward<Token>(token));
  }

  /// The argument is not copied and must live until the completion.
  template <class Result, class Parameter, class Argument, class Token>
  auto submit(Result (*function)(Parameter), const Argument& argument, Token&& token) {
    return start<Result>([function, &argument] { return function(argument); }, std::forward<Token>(token));
  }

 private:
  template <class Result>
  struct signature {
    using type = void(std::exception_ptr, Result);
  };

  template <class Result, class Function, class Token>
  auto start(Function function, Token&& token) {
    return asio::async_initiate<Token, typename signature<Result>::type>(
        [this, function](auto handler) {
          auto executor = asio::get_associated_executor(handler, io_.get_executor());
          auto work = asio::make_work_guard(executor);
          asio::post(threads_, [function, handler = std::move(handler), work = std::move(work)]() mutable {
            run<Result>(function, std::move(handler), work.get_executor());
          });
        },
        token);
  }

  template <class Result, class Function, class Handler, class Executor>
  static void run(const Function& function, Handler handler, const Executor& executor) {
    if constexpr (std::is_void_v<Result>) {
      function();
      asio::dispatch(executor, [handler = std::move(handler)]() mutable { handler(std::exception_ptr{}); });
    } else {
      asio::dispatch(executor, [handler = std::move(handler), result = function()]() mutable {
        handler(std::exception_ptr{}, std::move(result));
      });
    }
  }

  asio::io_context& io_;
  asio::thread_pool threads_;
};

template <>
struct thread_pool::signature<void> {
  using type = void(std::exception_ptr);
};

}  // namespace bench
