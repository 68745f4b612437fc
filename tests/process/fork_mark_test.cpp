// Objects and their copies in processes that were forked from theirs.
#include "process/fork_mark.hpp"

#include <gtest/gtest.h>

#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

namespace shmpool {
namespace {

int exit_code_of(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int judge(const fork_mark& mark) {
  return (mark.inherited() ? 1 : 0) + (mark.inherited_for_certain() ? 2 : 0);
}

TEST(fork_mark, belongs_to_the_process_that_made_it) {
  const fork_mark mark;
  EXPECT_FALSE(mark.inherited());
  EXPECT_FALSE(mark.inherited_for_certain());
}

TEST(fork_mark, is_inherited_by_a_fork) {
  const fork_mark mark;
  const pid_t child = ::fork();
  if (child == 0) ::_exit(judge(mark));
  EXPECT_EQ(exit_code_of(child), 3);
  EXPECT_FALSE(mark.inherited());
}

// Handlers of pthread_atfork do not run then.
TEST(fork_mark, is_inherited_by_a_bare_clone) {
  const fork_mark mark;
  const auto child = static_cast<pid_t>(::syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, 0));
  if (child == 0) ::_exit(judge(mark));
  EXPECT_EQ(exit_code_of(child), 3);
}

TEST(fork_mark, made_in_a_fork_belongs_to_that) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(judge(fork_mark()));
  EXPECT_EQ(exit_code_of(child), 0);
}

TEST(fork_mark, is_inherited_by_the_fork_of_a_fork) {
  const fork_mark mark;
  const pid_t child = ::fork();
  if (child == 0) {
    const fork_mark own;
    const pid_t grandchild = ::fork();
    if (grandchild == 0) ::_exit(judge(mark) + 4 * judge(own));
    ::_exit(exit_code_of(grandchild));
  }
  EXPECT_EQ(exit_code_of(child), 15);
}

}  // namespace
}  // namespace shmpool
