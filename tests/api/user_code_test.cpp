// Every piece of code that a user gives to a pool may come back to the pool: submit, look at stats(), cancel, and be
// its end. on_progress and on_worker_exit were copied and destroyed, and exceptions decoded, under the engine's lock:
// what came back from there waited for itself, for ever.
#include "pool_fixture.hpp"

#include "support/pending_result.hpp"

#include <shmpool/register_exception.hpp>
#include <shmpool/serialize.hpp>

#include <atomic>
#include <cstddef>
#include <iterator>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace shmpool::testing;
using shmpool::pool_options;
using shmpool::process_pool;
using shmpool::task_options;
using shmpool::worker_exit;

int add(int a, int b) {
  return a + b;
}

/// The pool that everything below comes back to. Null in workers, which are the program executed again.
struct target {
  process_pool* pool = nullptr;
  asio::cancellation_signal* signal = nullptr;
  std::map<std::string, int> calls;  // by what has called back
  int submitted = 0, completed = 0;
};
target* aim = nullptr;
thread_local bool calling = false;

/// Uses the pool in every way that waits for its locks. Not from inside itself, or it would never end.
void call_back(const char* from) {
  if (!aim || !aim->pool || calling) return;
  calling = true;
  ++aim->calls[from];
  (void)aim->pool->stats();
  (void)aim->pool->clear_shm();
  if (aim->submitted < 500) {
    ++aim->submitted;
    aim->pool->submit(add, 1, 2, [](std::exception_ptr, int) {
      if (aim) ++aim->completed;
    });
  }
  if (aim->signal) aim->signal->emit(asio::cancellation_type::total);
  calling = false;
}

/// Part of whatever a user gives: comes back when it is copied, moved or destroyed.
struct caller {
  explicit caller(const char* name) : name_(name) {}
  caller(const caller& other) : name_(other.name_) { call_back(name_); }
  caller(caller&& other) noexcept : name_(other.name_) { call_back(name_); }
  caller& operator=(const caller&) = default;
  ~caller() { call_back(name_); }
  const char* name_;
};

class user_code : public ::testing::Test {
 protected:
  user_code() { aim = &aimed_; }
  ~user_code() override { aim = nullptr; }

  /// Until all that was submitted from inside has completed, too.
  void run_all(asio::io_context& io) {
    while (aimed_.completed != aimed_.submitted || !done) {
      if (io.run_one() == 0) io.restart();
    }
    aimed_.pool = nullptr;
  }
  void expect_called(std::initializer_list<const char*> names) {
    for (const char* name : names) EXPECT_GT(aimed_.calls[name], 0) << name;
  }

  watchdog guard;
  target aimed_;
  bool done = false;
};

int tell_twice(int x) {
  shmpool::this_task::report_progress(0.25);
  shmpool::this_task::report_progress(0.75);
  return x;
}

TEST_F(user_code, on_progress_may_come_back_when_it_is_called_and_when_it_is_destroyed) {
  asio::io_context io;
  process_pool pool(io, options());
  aimed_.pool = &pool;
  pool.submit(
      task_options{.on_progress = [part = caller("on_progress, as an object")](double) { call_back("on_progress"); }},
      tell_twice, 1, [&](std::exception_ptr error, int) {
        EXPECT_FALSE(error);
        done = true;
      });
  run_all(io);
  expect_called({"on_progress", "on_progress, as an object"});
}

TEST_F(user_code, on_progress_may_own_the_pool_and_be_its_end) {
  asio::io_context io;
  auto pool = std::make_shared<process_pool>(io, options());
  const std::weak_ptr<process_pool> alive = pool;
  auto& it = *pool;
  it.submit(task_options{.on_progress = [pool](double) { (void)pool->stats(); }}, tell_twice, 1,
            [&](std::exception_ptr error, int) {
              EXPECT_FALSE(error);
              done = true;
            });
  pool.reset();
  io.run();
  EXPECT_TRUE(done);
  EXPECT_TRUE(alive.expired());
}

TEST_F(user_code, on_progress_of_a_map_may_own_the_pool_and_be_its_end) {
  asio::io_context io;
  auto pool = std::make_shared<process_pool>(io, options());
  const std::weak_ptr<process_pool> alive = pool;
  auto& it = *pool;
  it.map(task_options{.on_progress = [pool](double) { (void)pool->stats(); }}, tell_twice, std::vector<int>{1, 2, 3},
         [&](std::exception_ptr error, std::vector<int>) {
           EXPECT_FALSE(error);
           done = true;
         });
  pool.reset();
  io.run();
  EXPECT_TRUE(done);
  EXPECT_TRUE(alive.expired());
}

int leave(int code) {
  ::_exit(code);
}

TEST_F(user_code, on_worker_exit_may_come_back_and_be_the_end_of_the_pool) {
  asio::io_context io;
  auto chosen = options();
  std::unique_ptr<process_pool> pool;
  chosen.on_worker_exit = [&, part = caller("on_worker_exit, as an object")](const worker_exit&) {
    call_back("on_worker_exit");
    aimed_.pool = nullptr;
    pool.reset();
    done = true;
  };
  pool = std::make_unique<process_pool>(io, chosen);
  aimed_.pool = pool.get();
  int lost = 0;
  pool->submit(leave, 1, [&](std::exception_ptr error, int) { lost += error ? 1 : 0; });
  while (!done && io.run_one() != 0) {
  }
  io.run();
  EXPECT_TRUE(done);
  EXPECT_EQ(lost, 1);
  expect_called({"on_worker_exit"});
}

/// A type of the user's whose every part comes back, in the application; `text` is its state.
class talkative : public std::runtime_error {
 public:
  explicit talkative(const std::string& text) : std::runtime_error(text) {}
  talkative(const talkative&) = default;
  ~talkative() override { call_back("the destructor of an exception"); }

 private:
  caller part_{"an exception, as an object"};
};

}  // namespace

template <>
struct shmpool::exception_traits<talkative> {
  static std::vector<std::byte> save(const talkative&) { return std::vector<std::byte>(1); }
  static talkative load(std::span<const std::byte>) {
    call_back("the loader of an exception");
    return talkative("loaded");
  }
};

namespace {

SHMPOOL_REGISTER_EXCEPTION(talkative);

int throw_talkative(int) {
  throw talkative("thrown");
}

TEST_F(user_code, exceptions_may_come_back_when_they_are_loaded_copied_and_destroyed) {
  asio::io_context io;
  process_pool pool(io, options());
  aimed_.pool = &pool;
  pool.submit(throw_talkative, 1, [&](std::exception_ptr error, int) {
    EXPECT_EQ(text_of(error), "loaded");
    error = nullptr;
    pool.map(throw_talkative, std::vector<int>{1, 2}, [&](std::exception_ptr of_map, std::vector<int>) {
      EXPECT_EQ(text_of(of_map), "loaded");
      of_map = nullptr;
      done = true;
    });
  });
  run_all(io);
  expect_called({"the loader of an exception", "the destructor of an exception"});
}

TEST_F(user_code, an_exception_of_the_initializer_may_come_back_when_it_is_loaded) {
  asio::io_context io;
  auto chosen = options();
  chosen.initializer = [] { throw talkative("thrown"); };
  process_pool pool(io, chosen);
  aimed_.pool = &pool;
  int failed = 0;
  for (int i = 0; i != 3; ++i) {
    pool.submit(add, 1, 2, [&](std::exception_ptr error, int) {
      EXPECT_EQ(code_of(error), shmpool::errc::pool_broken) << text_of(error);
      EXPECT_NE(text_of(error).find("loaded"), std::string::npos) << text_of(error);
      done = ++failed == 3;
    });
  }
  run_all(io);
  // Also what is refused because the pool is broken is told why.
  aimed_.pool = &pool;
  pool.submit(add, 1, 2,
              [&](std::exception_ptr error, int) { EXPECT_NE(text_of(error).find("loaded"), std::string::npos); });
  io.restart();
  io.run();
  aimed_.pool = nullptr;
  expect_called({"the loader of an exception", "the destructor of an exception"});
}

/// An argument and result that comes back when it is packed and unpacked.
struct parcel {
  int value = 0;
  template <class Archive>
  void save(Archive& archive) const {
    call_back("save()");
    archive(value);
  }
  template <class Archive>
  void load(Archive& archive) {
    call_back("load()");
    archive(value);
  }
};

parcel twice(const parcel& in) {
  return {2 * in.value};
}

/// A range that comes back whenever it is moved on.
struct numbers {
  struct iterator {
    using difference_type = std::ptrdiff_t;
    using value_type = parcel;
    int at = 0;
    parcel operator*() const {
      call_back("an element of a range");
      return {at};
    }
    iterator& operator++() {
      call_back("an iterator");
      ++at;
      return *this;
    }
    iterator operator++(int) {
      auto before = *this;
      ++*this;
      return before;
    }
    bool operator==(const iterator&) const = default;
  };
  iterator begin() const { return {}; }
  iterator end() const { return {100}; }
};

TEST_F(user_code, serializers_and_ranges_may_come_back) {
  asio::io_context io;
  auto chosen = options();
  chosen.max_pending = 4;  // submits are held, too
  process_pool pool(io, chosen);
  aimed_.pool = &pool;
  pool.submit(twice, parcel{21}, [&](std::exception_ptr error, parcel result) {
    EXPECT_FALSE(error);
    EXPECT_EQ(result.value, 42);
    pool.map(twice, numbers{}, [&](std::exception_ptr of_map, std::vector<parcel> results) {
      EXPECT_FALSE(of_map);
      EXPECT_EQ(results.size(), 100U);
      EXPECT_EQ(results.empty() ? 0 : results.back().value, 198);
      done = true;
    });
  });
  run_all(io);
  expect_called({"save()", "load()", "an iterator", "an element of a range"});
}

template <class T>
struct calling_allocator {
  using value_type = T;
  calling_allocator() = default;
  template <class Other>
  calling_allocator(const calling_allocator<Other>&) noexcept {}
  T* allocate(std::size_t count) {
    call_back("allocate()");
    return std::allocator<T>().allocate(count);
  }
  void deallocate(T* memory, std::size_t count) noexcept {
    std::allocator<T>().deallocate(memory, count);
    call_back("deallocate()");
  }
  template <class Other>
  bool operator==(const calling_allocator<Other>&) const noexcept {
    return true;
  }
};

/// An executor that comes back whenever it is asked for anything. A pool holds copies of it.
class calling_executor {
 public:
  explicit calling_executor(asio::io_context& io) noexcept : inner_(io.get_executor()) {}
  calling_executor(const calling_executor& other) noexcept : inner_(other.inner_) {
    call_back("an executor, as an object");
  }
  calling_executor& operator=(const calling_executor&) = default;
  ~calling_executor() { call_back("an executor, as an object"); }

  asio::execution_context& query(asio::execution::context_t) const noexcept {
    call_back("query()");
    return inner_.context();
  }
  static constexpr asio::execution::blocking_t query(asio::execution::blocking_t) noexcept {
    return asio::execution::blocking.never;
  }
  calling_executor require(asio::execution::blocking_t::never_t) const {
    call_back("require()");
    return *this;
  }
  template <class Function>
  void execute(Function function) const {
    call_back("execute()");
    asio::post(inner_, std::move(function));
    call_back("execute()");
  }
  bool operator==(const calling_executor& other) const noexcept { return inner_ == other.inner_; }

 private:
  asio::io_context::executor_type inner_;
};

struct calling_handler {
  using allocator_type = calling_allocator<std::byte>;
  allocator_type get_allocator() const noexcept { return {}; }
  using executor_type = calling_executor;
  executor_type get_executor() const noexcept { return calling_executor(*io); }

  void operator()(std::exception_ptr error, int) {
    EXPECT_FALSE(error);
    call_back("a handler");
    if (++*calls == 20) *done = true;
  }
  asio::io_context* io;
  int* calls;
  bool* done;
  caller part{"a handler, as an object"};
};

TEST_F(user_code, handlers_allocators_and_executors_may_come_back) {
  asio::io_context io;
  process_pool pool(calling_executor(io), options());
  asio::cancellation_signal signal;
  aimed_.pool = &pool;
  aimed_.signal = &signal;
  int calls = 0;
  for (int i = 0; i != 20; ++i) {
    pool.submit(task_options{.on_progress = [](double) { call_back("on_progress"); }}, tell_twice, i,
                calling_handler{&io, &calls, &done});
  }
  run_all(io);
  aimed_.signal = nullptr;
  expect_called({"a handler", "a handler, as an object", "allocate()", "deallocate()", "execute()",
                 "an executor, as an object", "on_progress"});
}

TEST_F(user_code, a_handler_that_is_destroyed_with_its_context_may_come_back) {
  std::unique_ptr<process_pool> pool;
  {
    asio::io_context io;
    pool = std::make_unique<process_pool>(io, options());
    aimed_.pool = pool.get();
    pool->submit(
        task_options{.on_progress = [part = caller("on_progress, as an object")](double) {}}, tell_twice, 1,
        [part = caller("a handler, as an object")](std::exception_ptr, int) { ADD_FAILURE() << "nobody runs it"; });
    aimed_.submitted = 500;  // what would be submitted from here on would never complete
  }
  (void)pool->stats();
  aimed_.pool = nullptr;
  expect_called({"a handler, as an object", "on_progress, as an object"});
}

/// Comes back for the last time as the owner of the pool.
TEST_F(user_code, a_handler_may_be_the_end_of_the_pool) {
  asio::io_context io;
  auto pool = std::make_unique<process_pool>(io, options());
  int aborted = 0;
  for (int i = 0; i != 4; ++i) {
    pool->submit(task_options{.on_progress = [&](double) { pool.reset(); }}, tell_twice, 1,
                 [&](std::exception_ptr, int) { ++aborted; });
  }
  pool->submit(add, 1, 2, [&](std::exception_ptr, int) {
    ++aborted;
    pool.reset();
  });
  io.run();
  EXPECT_EQ(aborted, 5);
  EXPECT_FALSE(pool);
}

}  // namespace
