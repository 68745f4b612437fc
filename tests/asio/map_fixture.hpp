// Maps on a fake engine: their initiation as process_pool::map() does it, what they end with, and a range that a test
// looks into.
//
// Thread safety: none; a test has one thread.
#pragma once

#include "asio/driver_fixture.hpp"
#include "asio/fake_engine.hpp"
#include "support/pending_result.hpp"

#include <shmpool/detail/asio/map_operation.hpp>
#include <shmpool/error.hpp>
#include <shmpool/remote_error.hpp>

#include <algorithm>
#include <cstddef>
#include <exception>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <ranges>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace shmpool::testing {

inline std::exception_ptr refused_with(errc code) {
  return std::make_exception_ptr(std::system_error(code));
}

/// What a map has ended with.
struct map_result {
  int calls = 0;
  std::exception_ptr error;
  std::vector<int> values;

  std::error_code code() const { return code_of(error); }
  template <class E>
  bool failed_with() const {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const E&) {
      return true;
    } catch (...) {
    }
    return false;
  }
  /// That at which a task threw.
  std::optional<std::size_t> element() const {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const remote_error& thrown) {
      return thrown.element();
    } catch (...) {
    }
    return std::nullopt;
  }
  auto handler() {
    return [this](std::exception_ptr failed, std::vector<int> results) {
      ++calls;
      error = failed;
      values = std::move(results);
    };
  }
  /// For a map without results.
  auto void_handler() {
    return [this](std::exception_ptr failed) {
      ++calls;
      error = failed;
    };
  }
};

/// What is done with a range.
enum class access { begin, end, read, advance, size };

struct range_failed {};

/// The numbers from 0, to be read once. Each access is first shown to `seen`, which may throw.
template <bool Sized>
class watched_numbers : public std::ranges::view_interface<watched_numbers<Sized>> {
 public:
  using watcher = std::function<void(access, int)>;

  watched_numbers(int size, watcher seen) : size_(size), seen_(std::make_shared<watcher>(std::move(seen))) {}

  class iterator {
   public:
    using value_type = int;
    using difference_type = std::ptrdiff_t;

    iterator(int size, std::shared_ptr<watcher> seen) : size_(size), seen_(std::move(seen)) {}
    iterator(iterator&&) = default;
    iterator& operator=(iterator&&) = default;
    int operator*() const {
      (*seen_)(access::read, at_);
      return at_;
    }
    iterator& operator++() {
      (*seen_)(access::advance, at_);
      ++at_;
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const iterator& which, std::default_sentinel_t) {
      (*which.seen_)(access::end, which.at_);
      return which.at_ == which.size_;
    }

   private:
    int size_;
    int at_ = 0;
    std::shared_ptr<watcher> seen_;
  };

  iterator begin() const {
    (*seen_)(access::begin, 0);
    return iterator(size_, seen_);
  }
  std::default_sentinel_t end() const noexcept { return {}; }
  std::size_t size() const
    requires Sized
  {
    (*seen_)(access::size, size_);
    return static_cast<std::size_t>(size_);
  }

 private:
  int size_;
  std::shared_ptr<watcher> seen_;
};

class map_fixture : public driver_fixture {
 protected:
  template <class Handler, class Function, class Range>
  void map(Handler handler, Function function, Range&& range, const task_options& options = {}) {
    const detail::initiate_map<net::any_io_executor> initiate{pool, pool->executor()};
    initiate(std::move(handler), std::move(function), options, std::views::all(std::forward<Range>(range)));
  }

  /// The numbers from 0 to size - 1; `seen` is told of each access.
  static auto numbers(
      int size, watched_numbers<false>::watcher seen = [](access, int) {}) {
    return watched_numbers<false>(size, std::move(seen));
  }
  static auto sized_numbers(
      int size, watched_numbers<true>::watcher seen = [](access, int) {}) {
    return watched_numbers<true>(size, std::move(seen));
  }
  /// Throws range_failed at the access `what` to element `which`.
  static auto fail_at(access what, int which) {
    return [=](access now, int element) {
      if (now == what && element == which) throw range_failed();
    };
  }

  /// Something happens in the engine, and the loop hears of it and does what is due; true if run() would go on to wait.
  template <class Happening>
  bool turn(Happening happening) {
    engine->drains.then(std::move(happening));
    engine->ring();
    return waits();
  }
  void do_task(std::size_t which = 0) {
    turn([this, which] { engine->do_task(which); });
  }
  void grant(std::uint64_t number) {
    turn([this, number] { engine->grant(number); });
  }
  void do_all_tasks() {
    while (engine->task_count() != 0) do_task();
  }

  std::ptrdiff_t count_of_calls(const std::string& beginning) const {
    return std::count_if(engine->calls.begin(), engine->calls.end(),
                         [&](const std::string& call) { return call.starts_with(beginning); });
  }
  std::ptrdiff_t submits() const { return count_of_calls("submit"); }
  std::ptrdiff_t releases_of(std::uint64_t number) const {
    return count_of_calls("release " + std::to_string(number) + " of ");
  }
  std::ptrdiff_t releases() const { return count_of_calls("release"); }

  map_result got;
};

inline std::vector<int> done;  // the elements on which the functions below were called

inline int twice(int x) {
  done.push_back(x);
  return 2 * x;
}
inline int twice_unless_negative(int x) {
  done.push_back(x);
  if (x < 0) throw std::invalid_argument("negative");
  return 2 * x;
}
inline void note(int x) {
  done.push_back(x);
}
inline void note_unless_negative(int x) {
  if (x < 0) throw std::invalid_argument("negative");
  done.push_back(x);
}

inline const std::error_code aborted = asio::error::make_error_code(asio::error::operation_aborted);

class maps : public map_fixture {
 protected:
  maps() { done.clear(); }
};

}  // namespace shmpool::testing
