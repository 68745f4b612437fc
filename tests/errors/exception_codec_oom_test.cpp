// Promises about exceptions in a worker that has run out of memory. Replaces operator new, so this file is a test
// program of its own.
#include "support/failing_new.hpp"

#include <shmpool/detail/codec/exception_codec.hpp>
#include <shmpool/remote_error.hpp>

#include <gtest/gtest.h>

#include <new>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using shmpool::testing::allocations_left;
using shmpool::testing::memory_recovers;
using shmpool::testing::unlimited;

/// Without memory from the allocation after so many on.
std::vector<std::byte> encode_with(int allocations, const std::exception_ptr& error, bool recovers = false) {
  memory_recovers = recovers;
  allocations_left = allocations;
  auto record = shmpool::detail::encode_exception(error);
  allocations_left = unlimited;
  return record;
}

TEST(encode_exception, gives_an_empty_record_without_any_memory) {
  const auto record = encode_with(0, std::make_exception_ptr(std::out_of_range("some index")));
  EXPECT_TRUE(record.empty());
  EXPECT_THROW(std::rethrow_exception(shmpool::detail::decode_exception(record, 1)), std::bad_alloc);
}

TEST(encode_exception, gives_a_record_that_decodes_wherever_memory_ends) {
  const std::string text(1000, 'x');
  std::exception_ptr error;
  try {
    try {
      throw std::bad_alloc();
    } catch (...) {
      std::throw_with_nested(std::out_of_range(text));
    }
  } catch (...) {
    error = std::current_exception();
  }
  const auto full = encode_with(unlimited, error);
  int budget = 0;
  for (;; ++budget) {
    ASSERT_LT(budget, 1000);
    const auto record = encode_with(budget, error);
    if (record == full) break;
    try {
      std::rethrow_exception(shmpool::detail::decode_exception(record, 1));
    } catch (const shmpool::remote_error& caught) {
      EXPECT_NE(caught.message().find("no memory left"), std::string::npos);
    }
  }
  EXPECT_GT(budget, 3);  // it did fail at several places
}

TEST(encode_exception, keeps_the_kind_if_only_the_full_record_does_not_fit) {
  const auto error = std::make_exception_ptr(std::out_of_range(std::string(1000, 'x')));
  const auto full = encode_with(unlimited, error);
  int budget = 0;
  for (;; ++budget) {
    ASSERT_LT(budget, 1000);
    const auto record = encode_with(budget, error, true);  // there is memory again after the one that fails
    if (record == full) break;
    ASSERT_EQ(record.size(), 2u);
    EXPECT_THROW(std::rethrow_exception(shmpool::detail::decode_exception(record, 1)), std::out_of_range);
  }
  EXPECT_GT(budget, 3);
}

}  // namespace
