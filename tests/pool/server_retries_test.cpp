// The retries of a pool's socket to its fork server: each test is a story of failures, without a socket. The last one
// holds random stories against a restatement of the rule.
#include "pool/server_retries.hpp"

#include "support/environment.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <random>
#include <string>

namespace shmpool::pool {
namespace {

using namespace std::chrono_literals;
using time_point = server_retries::time_point;

constexpr time_point start{1h};
constexpr time_point never = time_point::max();
constexpr auto patience = kernel_patience::limit;

TEST(server_retries, have_nothing_to_do_if_nothing_fails) {
  server_retries retries;
  EXPECT_EQ(retries.due(), never);
  EXPECT_FALSE(retries.reconnect_is_due(never));
  EXPECT_FALSE(retries.resend_is_due(never));
  EXPECT_FALSE(retries.is_receiving_refused());
}

// ---- Connecting.

TEST(server_retries, make_the_first_attempt_to_connect_at_once) {
  server_retries retries;
  EXPECT_TRUE(retries.begin_attempt(true));
  EXPECT_TRUE(retries.attempts_left());
  EXPECT_EQ(retries.due(), never) << "it has not failed yet";
}

TEST(server_retries, make_another_attempt_to_connect_after_the_pause) {
  server_retries retries;
  retries.begin_attempt(true);
  retries.attempt_failed(start);
  EXPECT_EQ(retries.due(), start + 10ms);
  EXPECT_FALSE(retries.reconnect_is_due(start + 10ms - 1ns));
  EXPECT_TRUE(retries.reconnect_is_due(start + 10ms));
  EXPECT_TRUE(retries.reconnect_is_due(start + 10ms)) << "until it is made";
  EXPECT_TRUE(retries.begin_attempt(true));
  EXPECT_FALSE(retries.reconnect_is_due(never));
  EXPECT_EQ(retries.due(), never);
}

TEST(server_retries, double_the_pause_between_attempts_to_connect) {
  server_retries retries;
  time_point now = start;
  for (const auto pause : {10ms, 20ms, 40ms, 80ms, 160ms, 320ms, 640ms}) {
    ASSERT_TRUE(retries.begin_attempt(true));
    ASSERT_TRUE(retries.attempts_left());
    retries.attempt_failed(now);
    EXPECT_EQ(retries.due(), now + pause);
    now += pause;
  }
}

TEST(server_retries, make_eight_attempts_to_connect) {
  server_retries retries;
  for (unsigned i = 1; i != server_retries::most_attempts; ++i) {
    ASSERT_TRUE(retries.begin_attempt(true));
    ASSERT_TRUE(retries.attempts_left());
    retries.attempt_failed(start);
  }
  EXPECT_TRUE(retries.begin_attempt(true)) << "the last one";
  EXPECT_FALSE(retries.attempts_left());
  EXPECT_EQ(retries.due(), never);
  EXPECT_FALSE(retries.begin_attempt(true));
  EXPECT_FALSE(retries.begin_attempt(true)) << "nor later";
  EXPECT_FALSE(retries.attempts_left());
  EXPECT_EQ(server_retries::most_attempts, 8U);
}

// A server that can be connected to and dies before it says anything is as bad as one that cannot.
TEST(server_retries, count_attempts_that_led_to_a_server_without_a_word) {
  server_retries retries;
  for (unsigned i = 0; i != server_retries::most_attempts; ++i) ASSERT_TRUE(retries.begin_attempt(true));
  EXPECT_FALSE(retries.begin_attempt(true));
}

TEST(server_retries, count_attempts_anew_when_a_server_has_spoken) {
  server_retries retries;
  for (int i = 0; i != 5; ++i) retries.begin_attempt(true);
  retries.server_spoke();
  ASSERT_TRUE(retries.begin_attempt(true));
  retries.attempt_failed(start);
  EXPECT_EQ(retries.due(), start + 10ms);
  for (unsigned i = 1; i != server_retries::most_attempts; ++i) ASSERT_TRUE(retries.begin_attempt(true));
  EXPECT_FALSE(retries.begin_attempt(true));
  retries.server_spoke();
  EXPECT_TRUE(retries.begin_attempt(true));
}

TEST(server_retries, make_no_attempt_to_connect_if_no_server_is_wanted) {
  server_retries retries;
  retries.begin_attempt(true);
  retries.attempt_failed(start);
  EXPECT_FALSE(retries.begin_attempt(false));
  EXPECT_EQ(retries.due(), never) << "what was due is over";
  for (int i = 0; i != 100; ++i) EXPECT_FALSE(retries.begin_attempt(false));
  for (unsigned i = 1; i != server_retries::most_attempts; ++i) EXPECT_TRUE(retries.begin_attempt(true));
  EXPECT_FALSE(retries.begin_attempt(true)) << "only attempts that were made count";
}

// ---- Sending.

TEST(server_retries, send_again_two_milliseconds_after_a_refusal) {
  server_retries retries;
  EXPECT_FALSE(retries.send_refused(start));
  EXPECT_EQ(retries.due(), start + 2ms);
  EXPECT_FALSE(retries.resend_is_due(start + 2ms - 1ns));
  EXPECT_EQ(retries.due(), start + 2ms);
  EXPECT_TRUE(retries.resend_is_due(start + 2ms));
  EXPECT_FALSE(retries.resend_is_due(start + 2ms)) << "once";
  EXPECT_EQ(retries.due(), never);
}

TEST(server_retries, put_off_sending_again_with_each_refusal) {
  server_retries retries;
  retries.send_refused(start);
  retries.send_refused(start + 1ms);  // another message was to be sent
  EXPECT_EQ(retries.due(), start + 3ms);
}

TEST(server_retries, report_that_sending_was_refused_for_too_long) {
  server_retries retries;
  EXPECT_FALSE(retries.send_refused(start));
  EXPECT_FALSE(retries.send_refused(start + patience - 1ns));
  EXPECT_TRUE(retries.send_refused(start + patience));
  EXPECT_EQ(retries.due(), start + patience + 2ms) << "the message is sent again all the same";
}

TEST(server_retries, report_again_when_sending_was_refused_for_as_long_again) {
  server_retries retries;
  retries.send_refused(start);
  EXPECT_TRUE(retries.send_refused(start + patience));
  EXPECT_FALSE(retries.send_refused(start + patience));
  EXPECT_FALSE(retries.send_refused(start + 2 * patience - 1ns));
  EXPECT_TRUE(retries.send_refused(start + 2 * patience));
}

TEST(server_retries, are_as_patient_as_ever_after_a_message_was_sent) {
  server_retries retries;
  retries.send_refused(start);
  retries.sent();
  EXPECT_EQ(retries.due(), start + 2ms) << "a look at what is left does no harm";
  EXPECT_FALSE(retries.send_refused(start + patience));
  EXPECT_FALSE(retries.send_refused(start + 2 * patience - 1ns));
  EXPECT_TRUE(retries.send_refused(start + 2 * patience));
}

// ---- Receiving.

TEST(server_retries, give_up_a_server_that_could_not_be_heard_for_too_long) {
  server_retries retries;
  EXPECT_FALSE(retries.receive_refused(start));
  EXPECT_TRUE(retries.is_receiving_refused());
  EXPECT_FALSE(retries.receive_refused(start + patience - 1ns));
  EXPECT_TRUE(retries.receive_refused(start + patience));
  retries.received();
  EXPECT_FALSE(retries.is_receiving_refused()) << "the next server can be heard";
  EXPECT_FALSE(retries.receive_refused(start + patience));
}

TEST(server_retries, are_as_patient_as_ever_after_a_message_was_received) {
  server_retries retries;
  retries.receive_refused(start);
  retries.received();
  EXPECT_FALSE(retries.is_receiving_refused());
  EXPECT_FALSE(retries.receive_refused(start + patience));
  EXPECT_TRUE(retries.receive_refused(start + 2 * patience));
}

// The socket stays readable while the kernel refuses: to wait for it was to spin for two seconds.
TEST(server_retries, receive_again_two_milliseconds_after_a_refusal) {
  server_retries retries;
  retries.receive_refused(start);
  EXPECT_EQ(retries.due(), start + 2ms);
  EXPECT_FALSE(retries.receive_is_due(start + 2ms - 1ns));
  EXPECT_TRUE(retries.receive_is_due(start + 2ms));
  EXPECT_FALSE(retries.receive_is_due(start + 2ms)) << "once";
  EXPECT_EQ(retries.due(), never);
}

TEST(server_retries, need_no_time_for_receiving_after_a_message_was_received) {
  server_retries retries;
  retries.receive_refused(start);
  retries.received();
  EXPECT_EQ(retries.due(), never);
  EXPECT_FALSE(retries.receive_is_due(start + 1h));
}

// A kill that the kernel had refused to send was dropped with its server. The first refusal minutes later was then
// reported at once, and the pool given up for it.
TEST(server_retries, are_as_patient_as_ever_with_the_next_server) {
  server_retries retries;
  retries.send_refused(start);
  retries.receive_refused(start);
  retries.server_lost();
  EXPECT_FALSE(retries.is_receiving_refused());
  EXPECT_FALSE(retries.send_refused(start + 1h));
  EXPECT_FALSE(retries.receive_refused(start + 1h));
}

// ---- Together.

TEST(server_retries, are_due_at_the_earliest_of_their_times) {
  server_retries retries;
  retries.begin_attempt(true);
  retries.attempt_failed(start);
  retries.send_refused(start);
  EXPECT_EQ(retries.due(), start + 2ms);
  EXPECT_TRUE(retries.resend_is_due(start + 2ms));
  EXPECT_EQ(retries.due(), start + 10ms);
  retries.send_refused(start + 9ms);
  EXPECT_EQ(retries.due(), start + 10ms);
}

TEST(server_retries, tell_sending_from_receiving_and_both_from_connecting) {
  server_retries retries;
  retries.send_refused(start);
  EXPECT_FALSE(retries.is_receiving_refused());
  EXPECT_FALSE(retries.receive_refused(start + patience));
  retries.received();
  EXPECT_TRUE(retries.send_refused(start + patience)) << "that something was received does not count";
  retries.receive_refused(start);
  retries.sent();
  EXPECT_TRUE(retries.receive_refused(start + patience)) << "that something was sent does not count";
  EXPECT_FALSE(retries.reconnect_is_due(never));
  EXPECT_TRUE(retries.begin_attempt(true));
  retries.attempt_failed(start);
  retries.sent();
  retries.received();
  EXPECT_TRUE(retries.reconnect_is_due(start + 10ms));
}

// The machine was suspended, or the program was stopped.
TEST(server_retries, bear_a_time_that_goes_far_ahead) {
  server_retries retries;
  const time_point late = start + 24h * 365 * 100;
  retries.begin_attempt(true);
  retries.attempt_failed(start);
  retries.send_refused(start);
  retries.receive_refused(start);
  EXPECT_TRUE(retries.reconnect_is_due(late));
  EXPECT_TRUE(retries.resend_is_due(late));
  EXPECT_TRUE(retries.send_refused(late)) << "one report, however many would have been due";
  EXPECT_FALSE(retries.send_refused(late));
  EXPECT_TRUE(retries.receive_refused(late));
  retries.begin_attempt(true);
  retries.attempt_failed(late);
  EXPECT_FALSE(retries.reconnect_is_due(late + 20ms - 1ns)) << "the pause depends on attempts, not on the time";
  EXPECT_TRUE(retries.reconnect_is_due(late + 20ms));
}

/// A channel whose calls fail at random, beside the rule: the numbers and times that it follows from, written down one
/// by one.
class world {
 public:
  explicit world(std::uint64_t seed) : random_(seed) {}

  void run() {
    for (int step = 0; step != 60 && !::testing::Test::HasFatalFailure(); ++step) {
      pass_time();
      one_event();
      ASSERT_EQ(retries_.due(), std::min({reconnect_, resend_, receive_})) << story_;
      ASSERT_EQ(retries_.is_receiving_refused(), receiving_since_.has_value()) << story_;
      ASSERT_EQ(retries_.reconnect_is_due(now_), reconnect_ <= now_) << story_;
    }
  }

 private:
  void note(const char* what) { (story_ += ' ') += what; }

  void pass_time() {
    switch (random_() % 8) {
      case 0: now_ += 2s; break;
      case 1: now_ += std::chrono::milliseconds(random_() % 3000); break;
      case 2:  // exactly as long as the channel would sleep
        if (retries_.due() != never) now_ = std::max(now_, retries_.due());
        break;
      default: now_ += std::chrono::microseconds(random_() % 3000);
    }
  }

  void one_event() {
    switch (random_() % 10) {
      case 0:
      case 1: connect(); break;
      case 2: send_fails(); break;
      case 3: receive_fails(); break;
      case 4: resend(); break;
      case 5:
        note("sent");
        retries_.sent();
        sending_since_.reset();
        break;
      case 6:
        note("received");
        retries_.received();
        receiving_since_.reset();
        receive_ = never;
        break;
      case 8: receive_again(); break;
      case 9:
        note("lost");
        retries_.server_lost();
        sending_since_.reset();
        receiving_since_.reset();
        receive_ = never;
        break;
      case 7:
        if (random_() % 2 == 0) return;
        note("spoke");
        retries_.server_spoke();
        made_ = 0;
        break;
    }
  }

  void connect() {
    note("connect");
    const bool wanted = random_() % 8 != 0;
    reconnect_ = never;
    const bool expected = wanted && made_ < 8;
    ASSERT_EQ(retries_.begin_attempt(wanted), expected) << story_;
    if (!expected) return;
    ++made_;
    ASSERT_EQ(retries_.attempts_left(), made_ != 8) << story_;
    if (made_ == 8 || random_() % 3 == 0) return;
    note("in vain");
    retries_.attempt_failed(now_);
    auto pause = 10ms;
    for (unsigned i = 1; i != made_; ++i) pause *= 2;
    reconnect_ = now_ + pause;
  }

  void send_fails() {
    note("send refused");
    if (!sending_since_) sending_since_ = now_;
    const bool too_long = now_ >= *sending_since_ + 2s;
    if (too_long) sending_since_ = now_;
    resend_ = now_ + 2ms;
    ASSERT_EQ(retries_.send_refused(now_), too_long) << story_;
  }

  void receive_fails() {
    note("receive refused");
    if (!receiving_since_) receiving_since_ = now_;
    const bool too_long = now_ >= *receiving_since_ + 2s;
    ASSERT_EQ(retries_.receive_refused(now_), too_long) << story_;
    receive_ = too_long ? never : now_ + 2ms;
    if (!too_long) return;
    retries_.received();  // the server is given up
    receiving_since_.reset();
  }

  void resend() {
    const bool due = resend_ <= now_;
    ASSERT_EQ(retries_.resend_is_due(now_), due) << story_;
    if (due) resend_ = never;
  }

  void receive_again() {
    const bool due = receive_ <= now_;
    ASSERT_EQ(retries_.receive_is_due(now_), due) << story_;
    if (due) receive_ = never;
  }

  std::mt19937_64 random_;
  server_retries retries_;
  time_point now_ = start;
  unsigned made_ = 0;  // attempts since a server has spoken
  time_point reconnect_ = never, resend_ = never, receive_ = never;
  std::optional<time_point> sending_since_, receiving_since_;
  std::string story_;
};

TEST(server_retries, follow_their_rule_whatever_fails) {
  const std::uint64_t first = testing::from_environment("SHMPOOL_SEED", 1);
  for (std::uint64_t seed = first; seed != first + 20'000 && !::testing::Test::HasFatalFailure(); ++seed) {
    SCOPED_TRACE("SHMPOOL_SEED=" + std::to_string(seed));
    world(seed).run();
  }
}

}  // namespace
}  // namespace shmpool::pool
