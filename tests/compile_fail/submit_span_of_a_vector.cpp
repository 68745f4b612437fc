// expect: shmpool: a std::span<T> parameter is written by the task in shared memory: pass an array made with
#include <shmpool.hpp>

#include <span>
#include <vector>

void edit(std::span<double> x);

// The last argument is not taken for a completion token: edit() says that it takes one.
void run(shmpool::process_pool& pool, std::vector<double>& x) {
  pool.submit(edit, x);
}
