// Lets each system call that a pool makes fail: the scenario runs once for every (role, call, errno, occurrence), with
// that one call failing once, or from there on. Every run has to end with right results or documented errors, and with
// no process and no name left. See usage().
#include "call_supervisor.hpp"
#include "call_table.hpp"
#include "fault_scenario.hpp"

#include "shm/shm_fixture.hpp"
#include "support/processes.hpp"

#include <shmpool/init.hpp>
#include <shmpool/shm_handle.hpp>

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <sstream>
#include <string>
#include <vector>

namespace {

using namespace shmpool::testing;
using shmpool::unique_fd;

constexpr const char* usage_text =
    "failing_calls                      every case\n"
    "failing_calls --sample N           N cases, evenly chosen, the same each time\n"
    "failing_calls --list               the cases\n"
    "failing_calls --only WORD...       the cases that contain all these words\n"
    "failing_calls --case 'CASE'        one case as printed, with what the scenario says\n"
    "--jobs N: so many at once (2)\n"
    "A case: BACKEND BACKING init|fork ROLE CALL ERRNO OCCURRENCE once|for_good\n";

/// How the scenario's pools are made.
struct setting {
  const char* backend;
  const char* backing;
  bool with_init;
};
constexpr setting settings[] = {
    {"io_uring", "posix", true}, {"epoll", "memfd", true}, {"automatic", "automatic", false}};

struct fault_case {
  setting how{};
  failing_call what{};
};

std::string text_of(const fault_case& one) {
  std::ostringstream text;
  text << one.how.backend << ' ' << one.how.backing << ' ' << (one.how.with_init ? "init" : "fork") << ' '
       << role_names[static_cast<std::size_t>(one.what.whose)] << ' ' << call_name(one.what.number) << ' '
       << errno_name(one.what.error) << ' ' << one.what.occurrence << ' ' << (one.what.for_good ? "for_good" : "once");
  return text.str();
}

// ---- One run.

struct run_end {
  int status = -1;  // of wait
  std::string said;
  call_supervisor::counts seen;
  unsigned failed = 0;
  std::vector<std::string> left;  // processes and names
};

constexpr const char* scenario_argument = "--scenario";

/// The program itself as the scenario, in a child.
[[noreturn]] void become_scenario(const fault_case& one, bool records, int channel, int output) {
  ::dup2(output, STDOUT_FILENO);
  ::dup2(output, STDERR_FILENO);
  ::setenv("SHMPOOL_BACKEND", one.how.backend, 1);
  ::setenv("SHMPOOL_BACKING", one.how.backing, 1);
  std::ostringstream calls;
  if (records) {
    for (const call_entry& each : call_table) calls << each.number << ' ';
  } else {
    calls << one.what.number;
  }
  const std::string numbers = calls.str(), socket = std::to_string(::dup(channel));
  const char* mode = one.what.for_good ? "for_good" : "once";
  ::execl("/proc/self/exe", "failing_calls", scenario_argument, mode, one.how.with_init ? "init" : "fork",
          socket.c_str(), numbers.c_str(), static_cast<char*>(nullptr));
  ::_exit(127);
}

int scenario_main(char** arguments) {
  const auto expected = std::strcmp(arguments[0], "for_good") == 0 ? tolerance::for_good : tolerance::once;
  const bool with_init = std::strcmp(arguments[1], "init") == 0;
  const int channel = std::atoi(arguments[2]);
  std::vector<int> numbers;
  std::istringstream list(arguments[3]);
  for (int number = 0; list >> number;) numbers.push_back(number);
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  if (!hand_over_calls(numbers, channel)) {
    std::printf("no seccomp listener: %s\n", std::strerror(errno));
    return static_cast<int>(scenario_end::unusable);
  }
  ::close(channel);
  return static_cast<int>(run_scenario(expected, with_init));
}

void read_all(int fd, std::string& into) {
  std::array<char, 4096> buffer;
  for (;;) {
    const ssize_t got = ::recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got <= 0) return;
    into.append(buffer.data(), static_cast<std::size_t>(got));
  }
}

/// Answers calls until the program has ended, or a minute has passed: its own watchdog is faster. Then until nothing is
/// left.
void supervise(call_supervisor& calls, pid_t program, int output, run_end& end) {
  using clock = std::chrono::steady_clock;
  auto deadline = clock::now() + std::chrono::seconds(60);
  bool ended = false, idle = false;
  for (;;) {
    std::array<pollfd, 2> wait{{{calls.descriptor(), POLLIN, 0}, {output, POLLIN, 0}}};
    if (idle) wait[0].fd = -1;
    ::poll(wait.data(), wait.size(), 20);
    idle = idle || (wait[0].revents & POLLHUP) != 0;  // nobody is left to ask
    if ((wait[0].revents & POLLIN) != 0) {
      calls.answer();
      if (clock::now() < deadline) continue;  // there may be many, and what follows is slow
    }
    if ((wait[1].revents & POLLIN) != 0) read_all(output, end.said);
    int status = 0;
    for (pid_t pid = 0; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;) {
      if (pid != program) continue;  // an orphan: this process is the reaper of all below it
      end.status = status;
      ended = true;
      deadline = clock::now() + std::chrono::seconds(3);
    }
    const auto children = children_of(::getpid());
    if (ended && children.empty()) break;
    if (clock::now() < deadline) continue;
    for (const process& each : children) {
      if (ended || each.pid != program) end.left.push_back("process " + each.name + " in state " + each.state);
      ::kill(each.pid, SIGKILL);
    }
    deadline = clock::now() + std::chrono::seconds(20);
  }
  read_all(output, end.said);
}

run_end run_case(const fault_case& one, bool records) {
  run_end end;
  std::array<int, 2> channel{}, output{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel.data()) != 0) std::abort();
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, output.data()) != 0) std::abort();
  unique_fd ours{channel[0]}, theirs{channel[1]}, hears{output[0]}, says{output[1]};
  const pid_t program = ::fork();
  if (program == 0) become_scenario(one, records, theirs.get(), says.get());
  theirs.reset();
  says.reset();
  call_supervisor calls(program, records ? std::nullopt : std::optional(one.what));
  if (calls.take_listener(ours.get())) {
    supervise(calls, program, hears.get(), end);
  } else {
    ::waitpid(program, &end.status, 0);
    read_all(hears.get(), end.said);
  }
  end.seen = calls.seen();
  end.failed = calls.failed();
  return end;
}

// ---- Judging it.

/// Names under the private /dev/shm. What a failed call could not remove, the next pool or reap_orphans() has to.
std::vector<std::string> names_left() {
  auto names = names_with("shmpool.");
  if (!names.empty()) {
    shmpool::reap_orphans();
    names = names_with("shmpool.");
    for (const std::string& each : names) ::unlink(("/dev/shm/" + each).c_str());
  }
  return names;
}

/// Nothing if it is as it should be, or else what is not.
std::string complaint(const fault_case& one, run_end& end, bool private_shm) {
  if (private_shm) {
    for (const std::string& each : names_left()) end.left.push_back("name " + each);
  }
  std::string text;
  for (const std::string& each : end.left) text += "  left behind: " + each + "\n";
  if (!WIFEXITED(end.status)) {
    text += "  the program was killed by signal " + std::to_string(WTERMSIG(end.status)) + "\n";
  } else if (const auto code = static_cast<scenario_end>(WEXITSTATUS(end.status)); code == scenario_end::broken) {
    if (!one.what.for_good && !may_break(one.what, one.how.with_init)) text += "  one failure has broken the pool\n";
  } else if (code != scenario_end::right) {
    text += "  exit code " + std::to_string(WEXITSTATUS(end.status)) + "\n";
  }
  return text;
}

// ---- All of them.

/// Which occurrences are tried: the first ones all, later ones ever more sparsely.
std::vector<unsigned> occurrences(unsigned count) {
  std::vector<unsigned> result;
  for (unsigned n = 1; n <= count; n += n < 8 ? 1 : n / 3) result.push_back(n);
  return result;
}

std::vector<fault_case> all_cases() {
  std::vector<fault_case> cases;
  for (const setting& how : settings) {
    fault_case recording{how, {}};
    const run_end end = run_case(recording, true);
    if (end.status != 0) {
      std::printf("%swithout any failure the scenario ends with wait status %d\n", end.said.c_str(), end.status);
      std::fflush(stdout);
      std::exit(WIFEXITED(end.status) && WEXITSTATUS(end.status) == 77 ? 77 : 2);
    }
    for (const auto& [key, count] : end.seen) {
      if (key.first == role::worker && key.second == call_number("kill"))
        continue;  // the task's own, not the library's
      for (const int error : errors_of(key.second)) {
        for (const unsigned n : occurrences(count)) cases.push_back({how, {key.first, key.second, error, n, false}});
        if (error == EINTR) continue;  // no signal comes for ever
        cases.push_back({how, {key.first, key.second, error, 1, true}});
        if (count > 2) cases.push_back({how, {key.first, key.second, error, count / 2 + 1, true}});
      }
    }
  }
  return cases;
}

struct progress {
  std::atomic<unsigned> next{0}, failed{0}, reached{0};
};

void run_some(const std::vector<fault_case>& cases, progress& shared) {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  const bool private_shm = shmpool::shm::take_private_shm("size=256m");
  for (unsigned i; (i = shared.next++) < cases.size();) {
    run_end end = run_case(cases[i], false);
    if (end.failed != 0) ++shared.reached;
    const std::string wrong = complaint(cases[i], end, private_shm);
    if (wrong.empty()) continue;
    ++shared.failed;
    std::printf("FAILED: %s\n%s%s", text_of(cases[i]).c_str(), wrong.c_str(), end.said.c_str());
    std::fflush(stdout);
  }
}

int run_all(const std::vector<fault_case>& cases, unsigned jobs) {
  void* memory = ::mmap(nullptr, sizeof(progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  auto& shared = *new (memory) progress;
  const auto began = std::chrono::steady_clock::now();
  std::vector<pid_t> workers;
  for (unsigned i = 0; i != jobs; ++i) {
    workers.push_back(::fork());
    if (workers.back() == 0) {
      run_some(cases, shared);
      std::fflush(stdout);
      ::_exit(0);
    }
  }
  bool ended_well = true;
  for (const pid_t each : workers) {
    int status = -1;
    ::waitpid(each, &status, 0);
    ended_well = ended_well && status == 0;
  }
  const auto seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  std::printf("%zu cases in %.0f s: %u calls were reached and failed, %u runs went wrong\n", cases.size(), seconds,
              shared.reached.load(), shared.failed.load());
  return ended_well && shared.failed == 0 && shared.reached != 0 ? 0 : 1;
}

bool matches(const fault_case& one, const std::vector<std::string>& words) {
  const std::string text = ' ' + text_of(one) + ' ';
  for (const std::string& each : words) {
    if (text.find(' ' + each + ' ') == std::string::npos) return false;
  }
  return true;
}

std::optional<fault_case> parse(const std::string& text) {
  std::istringstream words(text);
  std::string backend, backing, init, whose, call, error, often;
  fault_case one;
  if (!(words >> backend >> backing >> init >> whose >> call >> error >> one.what.occurrence >> often))
    return std::nullopt;
  bool known = false;
  for (const setting& each : settings) {
    if (backend != each.backend || backing != each.backing || (init == "init") != each.with_init) continue;
    one.how = each;
    known = true;
  }
  for (std::size_t i = 0; i != role_count; ++i) {
    if (whose == role_names[i]) one.what.whose = static_cast<role>(i);
  }
  one.what.number = call_number(call);
  one.what.error = errno_number(error);
  one.what.for_good = often == "for_good";
  if (!known || one.what.number < 0 || one.what.error == 0) return std::nullopt;
  return one;
}

int run_one(const fault_case& one) {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  const bool private_shm = shmpool::shm::take_private_shm("size=256m");
  run_end end = run_case(one, false);
  const std::string wrong = complaint(one, end, private_shm);
  std::printf("%s%s%u calls failed\n", end.said.c_str(), wrong.c_str(), end.failed);
  return wrong.empty() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 6 && std::strcmp(argv[1], scenario_argument) == 0) {
    if (std::strcmp(argv[3], "init") == 0) shmpool::init(argc, argv);
    return scenario_main(argv + 2);
  }
  shmpool::init(argc, argv);  // the fork server of a scenario is this program, too
  unsigned jobs = 2;
  std::size_t sample = 0;
  bool list = false;
  std::vector<std::string> only;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--jobs" && i + 1 < argc) {
      jobs = static_cast<unsigned>(std::atoi(argv[++i]));
    } else if (argument == "--sample" && i + 1 < argc) {
      sample = static_cast<std::size_t>(std::atoi(argv[++i]));
    } else if (argument == "--help") {
      std::fputs(usage_text, stdout);
      return 0;
    } else if (argument == "--list") {
      list = true;
    } else if (argument == "--case" && i + 1 < argc) {
      const auto one = parse(argv[++i]);
      if (one) return run_one(*one);
      std::fputs(usage_text, stderr);
      return 2;
    } else if (argument == "--only") {
      only.assign(argv + i + 1, argv + argc);
      break;
    } else {
      std::fputs(usage_text, stderr);
      return 2;
    }
  }
  std::vector<fault_case> cases;
  for (const fault_case& each : all_cases()) {
    if (matches(each, only)) cases.push_back(each);
  }
  if (sample != 0 && sample < cases.size()) {
    std::vector<fault_case> chosen;
    for (std::size_t i = 0; i != sample; ++i) chosen.push_back(cases[i * cases.size() / sample]);
    cases = std::move(chosen);
  }
  if (list) {
    for (const fault_case& each : cases) std::printf("%s\n", text_of(each).c_str());
    return 0;
  }
  return run_all(cases, jobs);
}
