// A program that is started in all the ways in which a program can be, with static objects that do what static objects
// do; the tests beside it start it. It prints what its tasks say, or the error.
#include <shmpool.hpp>

#include <asio.hpp>

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <thread>

namespace {

std::string variable(const char* name) {
  const char* const value = std::getenv(name);
  return value ? value : "";
}

bool mode_is(std::string_view name) {
  return variable("MODE") == name;
}

/// A log with a thread of its own that is nearly always at the lock.
class logger {
 public:
  logger() {
    if (!variable("MODE").starts_with("thread")) return;
    writer_ = std::jthread([this](std::stop_token stop) {
      while (!stop.stop_requested()) {
        const std::lock_guard lock(mutex_);
        for (int i = 0; i != 50; ++i) lines_.emplace_back("a line that is long enough to be on the heap");
        lines_.clear();
      }
    });
  }
  void log(std::string line) {
    const std::lock_guard lock(mutex_);
    lines_.push_back(std::move(line));
  }

 private:
  std::mutex mutex_;
  std::deque<std::string> lines_;
  std::jthread writer_;
};
logger the_log;

/// Files that are opened before main.
class log_files {
 public:
  log_files() {
    if (!mode_is("logs")) return;
    for (int i = 0; i != 5; ++i) files_[i] = std::fopen((variable("LOGS") + std::to_string(i)).c_str(), "a");
  }
  void write(int task) {
    for (std::FILE* each : files_) {
      if (!each) continue;
      std::fprintf(each, "task %d\n", task);
      std::fflush(each);
    }
  }

 private:
  std::FILE* files_[5]{};
};
log_files the_files;

const bool image_in_constructor = shmpool::is_worker_image();

std::string status_field(const char* name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(name)) return line;
  }
  return {};
}

int sum(int a, int b) {
  return a + b;
}

int log_a_line(int i) {
  the_log.log("task " + std::to_string(i));
  the_files.write(i);
  return i;
}

std::string privileges() {
  uid_t users[3];
  ::getresuid(&users[0], &users[1], &users[2]);
  gid_t groups[3];
  ::getresgid(&groups[0], &groups[1], &groups[2]);
  std::string text = "uid";
  for (const uid_t each : users) text += " " + std::to_string(each);
  text += " gid";
  for (const gid_t each : groups) text += " " + std::to_string(each);
  return text + " groups " + std::to_string(::getgroups(0, nullptr)) + " " + status_field("CapPrm") + " " +
         status_field("CapAmb");
}

bool reads_shadow() {
  std::ifstream file("/etc/shadow");
  return static_cast<bool>(file);
}

std::string images(int) {
  return std::string(image_in_constructor ? "image" : "application") +
         (shmpool::is_worker_image() ? " image" : " application");
}

/// Whether what the program was told can be read in a worker.
std::string command_line() {
  std::ifstream file("/proc/self/cmdline");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  return text.find("secret") == std::string::npos ? "hidden" : text;
}

std::string told_by_environment() {
  return variable("TOLD");
}

int nested() {
  asio::io_context io;
  int result = 0;
  std::jthread other([](std::stop_token stop) {  // a pool that is made by forking could not be had with it
    while (!stop.stop_requested()) std::this_thread::yield();
  });
  shmpool::process_pool pool(io, {.workers = 1});
  pool.submit(sum, 40, 2, [&](std::exception_ptr error, int value) {
    if (error) std::rethrow_exception(error);
    result = value;
  });
  io.run();
  return result;
}

template <class Function, class... Args>
auto ask(shmpool::process_pool& pool, asio::io_context& io, Function function, Args... args) {
  auto result =
      pool.submit(shmpool::task_options{.timeout = std::chrono::seconds(20)}, function, args..., asio::use_future);
  io.run();
  io.restart();
  return result.get();
}

void drop_capabilities() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3]{};
  if (::syscall(SYS_capset, &header, none) != 0) std::perror("capset");
}

int run_pools() {
  asio::io_context io;
  if (mode_is("setuid") || mode_is("setuid_twice")) {
    if (mode_is("setuid_twice")) {
      shmpool::process_pool before(io, {.workers = 1});
      ask(before, io, sum, 1, 2);
    }
    const uid_t user = mode_is("setuid") ? ::getuid() : 65534;
    if (::setresuid(user, user, user) != 0) return 3;
  }
  if (mode_is("setcap") || mode_is("root_without_capabilities")) drop_capabilities();
  if (mode_is("thread_environment")) {
    shmpool::process_pool before(io, {.workers = 1});
    ask(before, io, sum, 1, 2);
    ::setenv("TOLD", "what changed since the server was started", 1);
  }
  shmpool::process_pool pool(io, {.workers = 1, .max_tasks_per_worker = mode_is("thread") ? 1U : 0U});
  if (mode_is("thread")) {
    for (int i = 0; i != 100; ++i) ask(pool, io, log_a_line, i);
    std::puts("100 tasks");
  } else if (mode_is("cmdline")) {
    std::printf("%s\n", ask(pool, io, command_line).c_str());
  } else if (mode_is("thread_environment")) {
    std::printf("%s\n", ask(pool, io, told_by_environment).c_str());
  } else if (mode_is("logs")) {
    const int first = ask(pool, io, log_a_line, 1);
    std::printf("%d %d\n", first, ask(pool, io, log_a_line, 2));
  } else if (mode_is("image")) {
    std::printf("%s, %s\n", images(0).c_str(), ask(pool, io, images, 0).c_str());
  } else if (mode_is("nested")) {
    std::printf("%d\n", ask(pool, io, nested));
  } else if (variable("MODE").starts_with("set") || mode_is("root_without_capabilities")) {
    std::printf("%s\n%s\n%s\n", privileges().c_str(), ask(pool, io, privileges).c_str(),
                ask(pool, io, reads_shadow) ? "reads /etc/shadow" : "cannot read /etc/shadow");
  } else {
    std::printf("%d\n", ask(pool, io, sum, 40, 2));
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (mode_is("made_up_argv")) {
    static char name[] = "program";
    static char* made_up[] = {name, nullptr};
    shmpool::init(1, made_up);
  } else if (mode_is("null_argv")) {
    shmpool::init(0, nullptr);
  } else if (mode_is("rewritten_argv")) {
    for (int i = 0; i != argc; ++i) std::memset(argv[i], 'x', std::strlen(argv[i]));
    shmpool::init(argc, argv);
  } else if (mode_is("exits_before_init") && shmpool::is_worker_image()) {
    return 7;
  } else if (mode_is("stays_before_init") && shmpool::is_worker_image()) {
    for (;;) ::pause();
  } else if (mode_is("pool_before_init") && shmpool::is_worker_image()) {
    std::puts("the image makes a pool");
    std::fflush(stdout);
    return run_pools();
  } else {
    shmpool::init(argc, argv);
  }
  try {
    return run_pools();
  } catch (const std::exception& error) {
    std::printf("error: %s\n", error.what());
    return 1;
  }
}
