// pool_options::dump_arrays: whether core files have arrays in them.
#include "pool_fixture.hpp"

#include <fstream>
#include <sstream>
#include <string>

namespace {

using namespace shmpool::testing;
using asio::awaitable;
using shmpool::array;
using shmpool::process_pool;

/// Whether the mapping with this address is marked as not to be dumped (VmFlags "dd" in /proc/self/smaps).
bool left_out(const void* address) {
  std::ifstream smaps("/proc/self/smaps");
  bool here = false;
  for (std::string line; std::getline(smaps, line);) {
    unsigned long begin = 0, end = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &begin, &end) == 2) {
      const auto at = reinterpret_cast<unsigned long>(address);
      here = begin <= at && at < end;
    } else if (here && line.starts_with("VmFlags:")) {
      std::istringstream flags(line);
      for (std::string flag; flags >> flag;) {
        if (flag == "dd") return true;
      }
      return false;
    }
  }
  ADD_FAILURE() << "no such mapping";
  return false;
}

bool argument_left_out(array<const double> x) {
  return left_out(x.data());
}
bool written_left_out(array<double>& x) {
  return left_out(x.data());
}
bool result_left_out(std::size_t count) {
  const auto made = shmpool::make_array<double>(count, 1.0);
  return left_out(made.data());
}
array<double> make(std::size_t count) {
  return shmpool::make_array<double>(count, 1.0);
}

// A crash with 1 GB of lent arrays left a core file of 1 GB, and the two seconds that it takes to write it went by
// before anybody heard of the crash.
TEST(core_files, have_no_arrays_in_them_unless_they_are_to) {
  for (const auto backing : {shmpool::backing::automatic, shmpool::backing::memfd}) {
    for (const bool dumped : {false, true}) {
      run([&]() -> awaitable<void> {
        auto chosen = options();
        chosen.workers = 1;
        chosen.backing = backing;
        chosen.dump_arrays = dumped;
        process_pool pool(co_await asio::this_coro::executor, chosen);
        for (const std::size_t count :
             {std::size_t{20'000}, std::size_t{1'000'000}}) {  // on both sides of what is aligned for huge pages
          auto x = pool.make_array<double>(count, 1.0);
          EXPECT_EQ(left_out(x.data()), !dumped);
          EXPECT_EQ(co_await pool.submit(argument_left_out, x), !dumped);
          EXPECT_EQ(co_await pool.submit(written_left_out, x), !dumped);
          EXPECT_EQ(co_await pool.submit(result_left_out, count), !dumped);
          const array<double> made = co_await pool.submit(make, 2 * count);
          EXPECT_EQ(left_out(made.data()), !dumped);
        }
      }());
    }
  }
}

}  // namespace
