// How the fork server comes to be: from a program that is started in any way, whatever its static objects do, and never
// with privileges that the application had given up.
#include <gtest/gtest.h>

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

namespace {

constexpr uid_t nobody = 65534;

struct outcome {
  std::string output;
  int status = -1;
};

/// Runs a command with MODE set, and `prepare` in the child before. All that it starts is in its process group or dies
/// with it.
outcome start(
    const std::string& mode, std::vector<std::string> command, const std::function<void()>& prepare = [] {}) {
  int ends[2];
  EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(ends[1], STDOUT_FILENO);
    ::setenv("MODE", mode.c_str(), 1);
    ::alarm(60);
    prepare();
    std::vector<char*> arguments;
    for (std::string& each : command) arguments.push_back(each.data());
    arguments.push_back(nullptr);
    ::execvp(arguments[0], arguments.data());
    ::_exit(126);
  }
  ::close(ends[1]);
  outcome result;
  char part[512];
  // To the end: until every process that has the output is gone.
  for (ssize_t size; (size = ::read(ends[0], part, sizeof part)) > 0;)
    result.output.append(part, static_cast<std::size_t>(size));
  ::close(ends[0]);
  ::waitpid(child, &result.status, 0);
  return result;
}

outcome start(const std::string& mode) {
  return start(mode, {SHMPOOL_START_PROGRAM});
}

void expect_output(const outcome& of, const std::string& expected) {
  EXPECT_EQ(of.output, expected);
  EXPECT_EQ(of.status, 0);
}

bool has_program(const char* name) {
  return std::system((std::string("command -v ") + name + " >/dev/null 2>&1").c_str()) == 0;
}

TEST(start, works) {
  expect_output(start(""), "42\n");
}

// A program that does not pass its own argv to init started an application where it should have started a server, which
// started another, without end.
TEST(start, works_with_arguments_that_the_program_makes_up) {
  expect_output(start("made_up_argv"), "42\n");
}

TEST(start, works_without_arguments) {
  expect_output(start("null_argv"), "42\n");
}

TEST(start, works_where_the_arguments_were_overwritten) {
  expect_output(start("rewritten_argv", {SHMPOOL_START_PROGRAM, "an argument"}), "42\n");
}

TEST(start, of_a_program_that_ends_before_init_is_an_error_that_says_so) {
  const outcome result = start("exits_before_init");
  EXPECT_NE(result.output.find("left with exit code 7"), std::string::npos) << result.output;
  EXPECT_NE(result.output.find("is shmpool::init(argc, argv) the first line of main?"), std::string::npos)
      << result.output;
}

TEST(start, of_a_program_that_makes_a_pool_before_init_starts_no_further_processes) {
  const outcome result = start("pool_before_init");
  EXPECT_NE(result.output.find("made a pool before it called shmpool::init"), std::string::npos) << result.output;
}

TEST(start, of_a_program_that_does_not_get_to_init_is_given_up) {
  const outcome result = start("stays_before_init");
  EXPECT_NE(result.output.find("did not get to shmpool::init within 10 s"), std::string::npos) << result.output;
}

TEST(start, tells_static_objects_in_which_process_they_are) {
  expect_output(start("image"), "application application, image image\n");
}

// Workers were forked from a server with two threads, and hung on the lock that the other had held.
TEST(start, of_a_program_whose_static_objects_start_threads_gives_each_worker_threads_of_its_own) {
  expect_output(start("thread"), "100 tasks\n");
}

// The environment of a pool was the server's, which goes when a worker leaves the server to run the program's
// constructors.
TEST(start, of_such_a_program_gives_workers_the_environment_of_their_pool) {
  expect_output(start("thread_environment"), "what changed since the server was started\n");
}

TEST(start, hides_the_arguments_of_the_application) {
  // They may hold what the application has overwritten since, a password say; those of the server are for all to read.
  expect_output(start("cmdline", {SHMPOOL_START_PROGRAM, "secret"}), "hidden\n");
}

// The descriptors of static objects were closed, and their numbers given to the pool's sockets: log lines ended there.
TEST(start, leaves_static_objects_the_files_that_they_have_opened) {
  char directory[] = "/tmp/shmpool_start_XXXXXX";
  ASSERT_NE(::mkdtemp(directory), nullptr);
  ::setenv("LOGS", (std::string(directory) + "/log").c_str(), 1);
  expect_output(start("logs"), "1 2\n");
  for (int i = 0; i != 5; ++i) {
    std::ifstream log(std::string(directory) + "/log" + std::to_string(i));
    const std::string text{std::istreambuf_iterator<char>(log), {}};
    EXPECT_EQ(text, "task 1\ntask 2\n");
  }
  std::filesystem::remove_all(directory);
}

TEST(start, leaves_nothing_that_the_application_has_inherited_in_the_server) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);  // not close-on-exec
  const outcome result = start("", {"sh", "-c", std::string(SHMPOOL_START_PROGRAM) + "; true"});
  ::close(ends[1]);
  pollfd hung_up{ends[0], 0, 0};
  EXPECT_EQ(::poll(&hung_up, 1, 10'000), 1);
  ::close(ends[0]);
  expect_output(result, "42\n");
}

TEST(start, works_with_few_descriptors) {
  expect_output(start("", {SHMPOOL_START_PROGRAM},
                      [] {
                        const rlimit few{32, 32};
                        ::setrlimit(RLIMIT_NOFILE, &few);
                      }),
                "42\n");
}

// A worker that made a pool was told to call init, which the program had.
TEST(start, of_a_pool_in_a_worker_works) {
  expect_output(start("nested"), "42\n");
}

TEST(start, works_through_the_dynamic_loader) {
  const std::string loader = [] {
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) {
      if (line.find("/ld-linux") != std::string::npos) return line.substr(line.find('/'));
    }
    return std::string();
  }();
  if (loader.empty()) GTEST_SKIP() << "no dynamic loader is mapped";
  expect_output(start("", {loader, SHMPOOL_START_PROGRAM}), "42\n");
}

TEST(start, works_under_valgrind) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "valgrind does not run sanitized programs";
#endif
  if (!has_program("valgrind")) GTEST_SKIP() << "there is no valgrind";
  expect_output(start("", {"valgrind", "-q", SHMPOOL_START_PROGRAM}), "42\n");
}

TEST(start, without_proc_says_what_is_missing) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root for chroot";
  const outcome result = start("", {SHMPOOL_START_PROGRAM}, [] {
    ::unsetenv("LD_LIBRARY_PATH");
    if (::unshare(CLONE_NEWNS) != 0 || std::system("mount --make-rprivate / && mount -t tmpfs none /proc") != 0)
      ::_exit(77);
  });
  if (WEXITSTATUS(result.status) == 77) GTEST_SKIP() << "cannot mount here";
  EXPECT_NE(result.output.find("there is no /proc/thread-self/exe: mount /proc"), std::string::npos) << result.output;
}

// ---- Privileges

/// The program as a file of its own, which may be given privileges.
class privileged_program : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    ASSERT_NE(::mkdtemp(directory_), nullptr);
    ::chmod(directory_, 0755);
    file = std::string(directory_) + "/program";
    std::filesystem::copy_file(SHMPOOL_START_PROGRAM, file);
    ::chmod(file.c_str(), 0755);
  }
  ~privileged_program() override { std::filesystem::remove_all(directory_); }

  /// As an ordinary user, with a supplementary group.
  outcome start_as_nobody(
      const std::string& mode, const std::function<void()>& prepare = [] {}) {
    return start(mode, {file}, [&] {
      const gid_t groups[] = {nobody};
      if (::setgroups(1, groups) != 0 || ::setresgid(nobody, nobody, nobody) != 0 ||
          ::setresuid(nobody, nobody, nobody) != 0) {
        ::_exit(125);
      }
      prepare();
    });
  }
  /// Output is that of the application, of a task, and whether the task could read what only root may.
  static void expect_no_more_than_the_application(const outcome& of) {
    EXPECT_EQ(of.status, 0);
    const std::size_t first = of.output.find('\n'), second = of.output.find('\n', first + 1);
    ASSERT_NE(second, std::string::npos) << of.output;
    EXPECT_EQ(of.output.substr(0, first), of.output.substr(first + 1, second - first - 1));
    EXPECT_EQ(of.output.substr(second + 1), "cannot read /etc/shadow\n");
  }

  std::string file;

 private:
  char directory_[32] = "/var/tmp/shmpool_start_XXXXXX";
};

// Executed again, a set-user-ID program got back what it had given up for good: tasks could read /etc/shadow.
TEST_F(privileged_program, that_gives_up_its_user_has_workers_without_it) {
  ::chmod(file.c_str(), 04755);
  expect_no_more_than_the_application(start_as_nobody("setuid"));
}

TEST_F(privileged_program, that_gives_up_its_capabilities_has_workers_without_them) {
  vfs_cap_data capabilities{};
  capabilities.magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE;
  capabilities.data[0].permitted = 1U << CAP_DAC_READ_SEARCH;
  ASSERT_EQ(::setxattr(file.c_str(), "security.capability", &capabilities, sizeof capabilities, 0), 0);
  expect_no_more_than_the_application(start_as_nobody("setcap"));
}

TEST_F(privileged_program, that_keeps_its_user_has_workers_that_have_no_more) {
  ::chmod(file.c_str(), 04755);
  const outcome result = start_as_nobody("set_nothing");
  EXPECT_EQ(result.status, 0) << result.output;
}

TEST_F(privileged_program, of_root_that_gives_up_capabilities_has_workers_without_them) {
  const outcome result = start("root_without_capabilities", {file});
  const std::size_t first = result.output.find('\n'), second = result.output.find('\n', first + 1);
  ASSERT_NE(second, std::string::npos) << result.output;
  EXPECT_EQ(result.output.substr(0, first), result.output.substr(first + 1, second - first - 1));
}

// A server that was started for a pool of root forked the workers of pools that were made after root had been given up.
TEST_F(privileged_program, that_had_a_pool_as_root_has_workers_without_root_in_the_next) {
  expect_no_more_than_the_application(start("setuid_twice", {file}));
}

// What tells a program that it is to be a server, the argument then, was at the disposal of who starts a set-user-ID
// program: it served them with root's privileges.
TEST_F(privileged_program, cannot_be_made_a_server_by_who_starts_it) {
  ::chmod(file.c_str(), 04755);
  const outcome result = start_as_nobody("", [] {
    int ends[2];
    ::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends);
    if (ends[0] != 3) ::dup2(ends[0], 3);
    ::setenv("SHMPOOL_FORK_SERVER", (std::to_string(::getppid()) + " 0 3 1").c_str(), 1);
  });
  EXPECT_TRUE(WIFEXITED(result.status));
  EXPECT_EQ(WEXITSTATUS(result.status), 123);
}

}  // namespace
