// Why workers do not live, in the words of the errors that tasks end with.
#include "pool/diagnosis.hpp"

#include <shmpool/error.hpp>

#include <gmock/gmock.h>

#include <chrono>
#include <csignal>
#include <exception>
#include <string>

namespace shmpool::pool {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::Not;

std::string text_of(const detail::breakage& why) {
  try {
    std::rethrow_exception(error_of(why));
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code(), errc::pool_broken);
    return error.what();
  }
}

worker_life killed_by(int signal, bool ready) {
  worker_life life;
  life.told_to_server();
  life.spawned(17);
  if (ready) life.ready();
  life.exit_status(signal, 0, 0us);
  return life;
}

TEST(diagnosis, says_how_the_last_worker_died) {
  diagnosis problems(false);
  problems.died_idle(killed_by(SIGSEGV, true));
  EXPECT_THAT(text_of(*problems.why_broken(false, std::nullopt)), HasSubstr("the last one: killed by signal 11"));
}

TEST(diagnosis, says_what_a_worker_was_at_that_was_not_ready) {
  diagnosis with(true), without(false);
  with.died_idle(killed_by(SIGSEGV, false));
  without.died_idle(killed_by(SIGSEGV, false));
  EXPECT_THAT(text_of(*with.why_broken(false, std::nullopt)), HasSubstr("in pool_options::initializer"));
  EXPECT_THAT(text_of(*without.why_broken(false, std::nullopt)), HasSubstr("while it started"));
}

TEST(diagnosis, says_what_a_worker_says_of_itself) {
  diagnosis problems(true);
  wire::frame said;
  said.header.value = 2;
  problems.is_unfit(said, 17);
  const auto why = problems.why_broken(false, std::nullopt);
  EXPECT_EQ(why->why, "pool_options::finalizer cannot be called");
  EXPECT_EQ(why->worker_pid, 17);
}

TEST(diagnosis, tells_the_last_problem_and_not_an_earlier_one) {
  diagnosis problems(true);
  problems.is_unfit(wire::frame{}, 17);
  problems.died_idle(killed_by(SIGABRT, true));
  EXPECT_THAT(text_of(*problems.why_broken(false, std::nullopt)), HasSubstr("signal 6"));
}

TEST(diagnosis, says_when_it_is_tried_again) {
  diagnosis problems(false);
  problems.died_idle(killed_by(SIGSEGV, true));
  EXPECT_THAT(text_of(*problems.why_broken(false, monotonic_clock::now() + 1h)), HasSubstr("first submit after 3"));
  EXPECT_THAT(text_of(*problems.why_broken(false, std::nullopt)), Not(HasSubstr("tried again")));
}

TEST(diagnosis, keeps_the_first_reason_for_good) {
  diagnosis problems(false);
  problems.breaks({"the first"});
  problems.breaks({"the second"});
  problems.died_idle(killed_by(SIGSEGV, true));
  EXPECT_THAT(text_of(*problems.why_broken(true, monotonic_clock::now() + 1h)), HasSubstr("the first"));
}

TEST(diagnosis, remembers_why_no_worker_could_be_started) {
  diagnosis problems(false);
  problems.cannot_start("fork: Resource temporarily unavailable");
  EXPECT_EQ(problems.why_not_started(), "fork: Resource temporarily unavailable");
}

}  // namespace
}  // namespace shmpool::pool
