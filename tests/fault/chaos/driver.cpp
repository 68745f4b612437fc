#include "fault/chaos/driver.hpp"

#include "fault/chaos/census.hpp"
#include "shm/mapping.hpp"
#include "support/processes.hpp"

#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <utility>

extern char** environ;  // NOLINT(readability-redundant-declaration)

namespace shmpool::chaos {

using namespace std::chrono_literals;

namespace {

/// Rules for SHMPOOL_FAULT that a storm may have: percents are of passes, of which a busy worker makes many.
constexpr const char* storm_faults[] = {
    "worker.*:0.7",
    "worker.*:1:11",
    "worker.frame_read:2,worker.claimed:3",
    "worker.ran:3:11,worker.accounted:3",
    "worker.ring_written:3,worker.published:3:6",
    "worker.published:5",
    "worker.replied:5",
    "worker.partly_sent:3",
    "worker.need_sent:10,worker.segment_named:10,worker.segment_created:10",
    "worker.mapped:5",
    "worker.born:20,worker.leaving:30",
    "server.asked:20,server.reaped:20",
    "server.forked:20",
};

/// The program does not call shmpool::init(): its fork server is forked.
constexpr const char* no_init = "--no-init";

/// A /dev/shm of this process and its children alone: whatever is in it is theirs, and nobody else takes it away.
bool take_private_shm() {
  if (::geteuid() != 0) return false;  // would need a user namespace, and with it other rights
  if (::unshare(CLONE_NEWNS) != 0) return false;
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return false;
  return ::mount("tmpfs", shm::shm_directory(), "tmpfs", MS_NOSUID | MS_NODEV, "size=1g") == 0;
}

}  // namespace

driver::driver(const driver_options& options) : options_(options), random_(options.seed) {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  private_shm_ = take_private_shm();
  std::string name = (std::filesystem::temp_directory_path() / "chaos.XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) throw std::system_error(errno, std::system_category(), "mkdtemp");
  directory_ = name;
}

driver::~driver() {
  book_.reset();
  ::rmdir(directory_.c_str());
}

std::uint64_t driver::worker_kills() const noexcept {
  std::uint64_t all = 0;
  for (const count each : {count::kills, count::faults}) all += totals_[static_cast<std::size_t>(each)];
  for (const auto& [point, times] : faults_) all += point.starts_with("worker") ? times : 0;
  return all;
}

int driver::run() {
  for (;;) {
    const bool storms_left = worker_kills() < options_.kills, parents_left = parent_kills_ < options_.parent_kills;
    const bool late = options_.at_most != 0s && std::chrono::steady_clock::now() - begin_ > options_.at_most;
    if (late || (!storms_left && !parents_left)) break;
    // Evenly over the run.
    const bool storm_next =
        storms_left && (!parents_left || worker_kills() * options_.parent_kills <= parent_kills_ * options_.kills);
    ++rounds_;
    if (!(storm_next ? storm() : parent_death())) {
      summary();
      return 1;
    }
  }
  summary();
  return 0;
}

std::vector<std::string> driver::common_arguments(std::uint64_t seed) {
  const backend loop = options_.loop.value_or(dice(2) == 0 ? backend::epoll : backend::automatic);
  const backing memory = options_.memory.value_or(dice(3) == 0 ? backing::memfd : backing::posix);
  std::vector<std::string> result{"--storm", "--seed=" + std::to_string(seed),
                                  std::string("--backend=") + (loop == backend::epoll      ? "epoll"
                                                               : loop == backend::io_uring ? "io_uring"
                                                                                           : "automatic"),
                                  std::string("--backing=") + (memory == backing::memfd   ? "memfd"
                                                               : memory == backing::posix ? "posix"
                                                                                          : "automatic")};
  if (dice(5) == 0) result.emplace_back(no_init);
  return result;
}

bool driver::storm() {
  auto arguments = common_arguments(random_());
  std::string faults = dice(3) == 0 ? "" : storm_faults[dice(std::size(storm_faults))];
  const bool forked_server = arguments.back() == no_init;  // not survived then
  if (forked_server && faults.starts_with("server")) faults.clear();
  if (!forked_server && dice(4) == 0) arguments.push_back("--server-kills=" + std::to_string(1 + dice(2)));
  arguments.push_back("--pools=" + std::to_string(4 + dice(4)));
  arguments.push_back("--kills=" + std::to_string(3 + dice(4)));
  const child made = start("storm", arguments, faults);
  const auto status = wait_for(made.pid, 180s);
  ++storms_;
  const auto prefixes = this->prefixes();
  collect(**book_);
  if (!status) {
    ::kill(made.pid, SIGKILL);
    return broken("the round does not end");
  }
  if (*status != 0) return broken("wait status " + std::to_string(*status));
  std::string finding;
  wait_for_nothing(made.mark, 0, prefixes, true, finding);
  return finding.empty() || broken("after its end: " + finding);
}

driver::child driver::start(const std::string& what, std::vector<std::string> arguments, const std::string& faults) {
  child result;
  result.mark = std::to_string(::getpid()) + "." + std::to_string(rounds_);
  book_.reset();
  book_.emplace(directory_ + "/" + std::to_string(rounds_));
  (*book_)->fault_budget = 1;  // for what comes before the first pool exists
  round_ = what + ":";
  for (const auto& each : arguments) round_ += " " + each;
  if (!faults.empty()) round_ = "SHMPOOL_FAULT=" + faults + " " + round_;

  std::vector<std::string> variables{std::string(mark_variable) + "=" + result.mark,
                                     std::string(ledger_variable) + "=" + book_->path()};
  if (!faults.empty()) variables.push_back("SHMPOOL_FAULT=" + faults);
  std::vector<char*> environment, argv;
  for (char** each = environ; *each; ++each) environment.push_back(*each);
  for (auto& each : variables) environment.push_back(each.data());
  environment.push_back(nullptr);
  arguments.insert(arguments.begin(), "shmpool_chaos");
  for (auto& each : arguments) argv.push_back(each.data());
  argv.push_back(nullptr);

  const pid_t self = ::getpid();
  result.pid = ::fork();
  if (result.pid < 0) throw std::system_error(errno, std::system_category(), "fork");
  if (result.pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != self) ::_exit(0);
    ::execve("/proc/self/exe", argv.data(), environment.data());
    ::_exit(127);
  }
  return result;
}

std::optional<int> driver::wait_for(pid_t pid, std::chrono::milliseconds at_most) {
  std::optional<int> result;
  testing::happens(
      [&] {
        int status = 0;
        if (::waitpid(pid, &status, WNOHANG) == pid) result = status;
        return result.has_value();
      },
      at_most);
  return result;
}

/// Of all pools that it has told of, or all there are where no others can be.
std::vector<std::string> driver::prefixes() const {
  if (private_shm_) return {"shmpool."};
  std::vector<std::string> result;
  const ledger& book = **book_;
  for (std::uint32_t i = 0; i != std::min<std::size_t>(book.pool_count, book.pool_ids.size()); ++i) {
    const std::string first = shm::segment_name(book.pool_ids[i], 1);
    result.push_back(first.substr(0, first.size() - 1));
  }
  return result;
}

void driver::collect(const ledger& round) {
  for (std::size_t i = 0; i != counts; ++i) totals_[i] += round.figures[i];
  const std::uint64_t faults = round.fault_total;
  for (std::uint64_t i = 0; i != std::min<std::uint64_t>(faults, ledger::fault_slots); ++i) {
    ++faults_[round.faults[i].point.data()];
  }
}

bool driver::broken(const std::string& finding) const {
  std::fprintf(stderr, "chaos: BROKEN in round %llu of --seed=%llu (%s): %s\n",
               static_cast<unsigned long long>(rounds_), static_cast<unsigned long long>(options_.seed), round_.c_str(),
               finding.c_str());
  return false;
}

void driver::summary() const {
  const auto of = [&](count what) { return static_cast<unsigned long long>(totals_[static_cast<std::size_t>(what)]); };
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  const auto tasks = of(count::values) + of(count::thrown) + of(count::lost) + of(count::aborted) + of(count::expired);
  unsigned long long at_points = 0, servers_at_points = 0;
  std::string points;
  for (const auto& [point, times] : faults_) {
    (point.starts_with("worker") ? at_points : servers_at_points) += point.starts_with("parent") ? 0 : times;
    points += " " + point + " " + std::to_string(times);
  }
  std::printf(
      "chaos: seed %llu, %.0f s, %llu pools, %llu worker kills (SIGKILL %llu, SIGSEGV and SIGABRT %llu, at points "
      "%llu), "
      "%llu own crashes (%llu bursts), %llu signals to all workers, %llu stops, %llu fork server kills, %llu parent "
      "kills (cleaned up within %lld ms); %llu "
      "tasks, "
      "%.0f/s (values %llu, thrown %llu, lost %llu of which %llu before their first line, aborted %llu, deadline %llu, "
      "busy %llu, retried %llu)%s\n",
      static_cast<unsigned long long>(options_.seed), seconds, of(count::pools),
      static_cast<unsigned long long>(worker_kills()), of(count::kills), of(count::faults), at_points,
      of(count::crashes), of(count::bursts), of(count::group_signals), of(count::stops),
      of(count::server_kills) + servers_at_points, static_cast<unsigned long long>(parent_kills_),
      static_cast<long long>(longest_cleanup_.count()), tasks, static_cast<double>(tasks) / seconds, of(count::values),
      of(count::thrown), of(count::lost), of(count::lost_unstarted), of(count::aborted), of(count::expired),
      of(count::refused), of(count::retried), private_shm_ ? "" : "; /dev/shm is shared with others");
  std::printf("chaos: struck at points:%s\n", points.empty() ? " none" : points.c_str());
  if (!slowest_.empty()) {
    std::printf("chaos: cleaned up after more than a second: %llu times; the slowest: %s\n",
                static_cast<unsigned long long>(slow_), slowest_.c_str());
  }
}

}  // namespace shmpool::chaos
