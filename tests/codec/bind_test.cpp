// shmpool::bind and bound_function: which functions and arguments they take, and that copies of any kind do no harm.
#include <shmpool/bind.hpp>

#include "code/code_ref.hpp"
#include "wire/hello.hpp"
#include "worker/bound_call.hpp"

#include <shmpool/detail/codec/little_endian.hpp>

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <map>
#include <new>
#include <numeric>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace shmpool {
namespace {

/// Calls it as a worker does.
void call(const bound_function& which) {
  const auto bound = which.call();
  ASSERT_NE(bound, nullptr);
  detail::no_shared_memory memory;
  detail::unpacker arguments(bound->arguments, {});
  detail::packer nothing(memory, 0);
  detail::invocation now{arguments, nothing, bound->code.target};
  bound->code.entry(now);
}

std::string heard;

void plain() {
  heard = "plain";
}
void plain_noexcept() noexcept {
  heard = "noexcept";
}

TEST(bound_function, is_made_of_a_plain_function_a_captureless_lambda_or_nothing) {
  bound_function which = plain;
  call(which);
  EXPECT_EQ(heard, "plain");
  which = &plain_noexcept;
  call(which);
  EXPECT_EQ(heard, "noexcept");
  which = [] { heard = "lambda"; };
  call(which);
  EXPECT_EQ(heard, "lambda");
  EXPECT_TRUE(which);
  EXPECT_TRUE(which != nullptr);
  which = nullptr;
  EXPECT_FALSE(which);
  EXPECT_TRUE(which == nullptr);
  EXPECT_EQ(which.call(), nullptr);
  void (*none)() = nullptr;
  EXPECT_FALSE(bound_function(none));
  EXPECT_FALSE(bound_function());
}

struct limits {
  int least = 0;
  std::map<std::string, double> named;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(least, named);
  }
};

void configure(const std::string& name, int number, std::vector<double> values, const limits& bounds,
               std::span<const float> weights, std::string_view view, std::optional<bool> flag) {
  heard = name + " " + std::to_string(number) + " " +
          std::to_string(std::accumulate(values.begin(), values.end(), 0.0)) + " " + std::to_string(bounds.least) +
          " " + std::to_string(bounds.named.at("x")) + " " + std::to_string(weights[1]) + " " + std::string(view) +
          (flag && *flag ? " true" : "");
}

TEST(bind, takes_the_arguments_of_tasks_but_for_arrays) {
  std::vector<float> weights{1, 2};
  bound_function which =
      bind(configure, "name", 3, std::vector<double>{1, 2}, limits{4, {{"x", 5}}}, weights, "view", true);
  weights = {7, 7};  // they are read at once
  call(which);
  EXPECT_EQ(heard, "name 3 3.000000 4 5.000000 2.000000 view true");
}

std::size_t count(const std::vector<double>& values) {
  heard = std::to_string(values.size());
  return values.size();
}

TEST(bind, carries_arguments_of_any_size_in_the_message) {
  const auto which = bind(count, std::vector<double>(1'000'000));
  EXPECT_GE(which.call()->arguments.size(), 8'000'000u);
  call(which);
  EXPECT_EQ(heard, "1000000");
}

TEST(bind, takes_function_objects_and_drops_what_they_return) {
  call(bind([] { return heard = "no arguments"; }));
  EXPECT_EQ(heard, "no arguments");
  call(bind([](auto text, int times) -> const std::string& { return heard = text + std::to_string(times); },
            std::string("x"), 2));
  EXPECT_EQ(heard, "x2");
  int factor = 6;
  call(bind(by_value([factor](int x) { heard = std::to_string(factor * x); }), 7));
  EXPECT_EQ(heard, "42");
}

struct unwilling {
  template <class Archive>
  void save(Archive&) const {
    throw std::runtime_error("not to be saved");
  }
  template <class Archive>
  void load(Archive&) {}
};

TEST(bind, throws_what_an_argument_throws_when_it_is_serialized) {
  EXPECT_THROW(bind([](const unwilling&) {}, unwilling()), std::runtime_error);
}

TEST(bound_function, copies_share_the_arguments_and_live_on_their_own) {
  std::optional<bound_function> first = bind(count, std::vector<double>(3));
  const bound_function second = *first;
  bound_function third = std::move(*first);
  EXPECT_TRUE(*first) << "there is no move";
  EXPECT_EQ(first->call(), second.call());
  std::weak_ptr<const detail::bound_call> held = second.call();
  first.reset();
  call(second);
  EXPECT_EQ(heard, "3");
  const bound_function& same = third;
  third = same;
  call(third);
  third = plain;
  call(second);
  EXPECT_EQ(heard, "3");
  EXPECT_FALSE(held.expired());
  const_cast<bound_function&>(second) = {};
  EXPECT_TRUE(held.expired()) << "with the last copy the arguments are gone";
}

// g++ 12 does this to temporaries within a co_await expression: the bytes are copied, and both are destroyed.
TEST(bound_function, may_be_copied_byte_by_byte_and_destroyed_twice) {
  alignas(bound_function) std::array<std::byte, sizeof(bound_function)> home, moved;
  auto* const original = new (home.data()) bound_function(bind(count, std::vector<double>(4)));
  std::memcpy(moved.data(), home.data(), home.size());
  auto* const copy = std::launder(reinterpret_cast<bound_function*>(moved.data()));
  std::weak_ptr<const detail::bound_call> held = original->call();
  {
    const bound_function real = *copy;
    copy->~bound_function();
    original->~bound_function();
    call(real);
    EXPECT_EQ(heard, "4");
  }
  EXPECT_TRUE(held.expired());
}

// ---- As the hello frame carries one.

wire::hello hello(const bound_function& which) {
  const auto call = which.call();
  wire::named_call named;
  named.function.entry = *code::locate(reinterpret_cast<const void*>(call->code.entry));
  if (call->code.target) named.function.target = code::locate(call->code.target);
  named.arguments.assign(call->arguments.begin(), call->arguments.end());
  wire::hello told;
  told.inline_bytes = 4096;
  told.initializer = named;
  return told;
}

TEST(bound_call, is_read_whole_and_called_when_its_frame_is_gone) {
  std::optional<worker::bound_call> found;
  {
    const auto told = wire::hello::decode(hello(bind(count, std::vector<double>(5))).encode());
    EXPECT_EQ(told.inline_bytes, 4096u);
    EXPECT_FALSE(told.finalizer);
    ASSERT_TRUE(told.initializer);
    found.emplace(*told.initializer);
  }
  found->resolve();
  detail::no_shared_memory memory;
  (*found)(memory, 0);
  EXPECT_EQ(heard, "5");
}

TEST(bound_call, refuses_a_frame_that_ends_too_soon) {
  const auto body = hello(bind(count, std::vector<double>(2))).encode();
  for (std::size_t size = 0; size != body.size(); ++size) {
    EXPECT_THROW(wire::hello::decode(std::span(body).first(size)), std::system_error) << size;
  }
}

}  // namespace
}  // namespace shmpool
