// Promises of remote_error and remote_exception to those who catch them.
#include <shmpool/error.hpp>

#include <gtest/gtest.h>

#include <stdexcept>
#include <system_error>
#include <type_traits>
#include <utility>

#include "errors/exception_fixture.hpp"

namespace {

using shmpool::errc;
using shmpool::remote_error;
using shmpool::testing_exceptions::catch_as;
using shmpool::testing_exceptions::is_a;
using shmpool::testing_exceptions::thrown;
using shmpool::testing_exceptions::travel;

TEST(remote_exception, is_caught_unambiguously_by_every_face) {
  const auto arrived = travel(thrown(std::invalid_argument("x")));
  EXPECT_TRUE(is_a<std::invalid_argument>(arrived));
  EXPECT_TRUE(is_a<std::logic_error>(arrived));
  EXPECT_TRUE(is_a<std::exception>(arrived));
  EXPECT_TRUE(is_a<remote_error>(arrived));
  static_assert(!std::is_base_of_v<std::exception, remote_error>);
}

TEST(remote_exception, leads_from_one_face_to_the_other) {
  const auto arrived = travel(thrown(std::invalid_argument("x")));
  catch_as<std::exception>(arrived,
                           [](const std::exception& e) { EXPECT_NE(dynamic_cast<const remote_error*>(&e), nullptr); });
  catch_as<remote_error>(arrived,
                         [](const remote_error& e) { EXPECT_NE(dynamic_cast<const std::exception*>(&e), nullptr); });
}

TEST(remote_exception, answers_code_without_ambiguity) {
  const auto arrived = travel(thrown(std::system_error(errc::array_busy)));
  catch_as<shmpool::remote_exception<std::system_error>>(arrived,
                                                         [](const auto& e) { EXPECT_EQ(e.code(), errc::array_busy); });
}

TEST(remote_error, names_no_element_until_it_is_told_one) {
  remote_error error({.type_name = "t", .message = "m", .code = {}, .causes = {}, .worker_pid = 1});
  const remote_error before = error;
  error.set_element(7);
  const remote_error after = error;
  EXPECT_FALSE(before.element());
  EXPECT_EQ(after.element(), 7u);
}

TEST(remote_error, still_speaks_after_it_was_moved_from) {
  remote_error first({.type_name = "t", .message = "m", .code = {}, .causes = {}, .worker_pid = 1});
  const remote_error second = std::move(first);
  EXPECT_EQ(first.message(), "m");
  EXPECT_EQ(second.message(), "m");
}

}  // namespace
