#!/usr/bin/env python3
"""What Python programs use for the same work, measured in the same way: peers.py <name> [seconds] prints the JSON of
Google Benchmark for one benchmark.

executor       concurrent.futures.ProcessPoolExecutor: arguments and results are pickled through pipes.
shared_memory  The same executor with arrays in multiprocessing.shared_memory, the way npshmex does it: the parent copies
               the array into a new block, the worker attaches, computes, and copies its result into another block; the
               parent keeps a view of that, without a copy, and unlinks both. In place, the array is in a block from the
               start and the worker attaches to it: nothing is copied.
joblib         joblib.Parallel with loky and memory-mapped arguments: it writes an argument to a file in /dev/shm once
               and maps it in the worker; the result is pickled through a pipe.

Every result is checked, every block unlinked.
"""
import collections
import json
import multiprocessing.resource_tracker
import multiprocessing.shared_memory
import os
import resource
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np

# ---- The tasks.


def nothing():
    pass


def echo(message):
    return message


def add_one(x):
    return x + 1


def total(x):
    return x.sum()


def add_one_to_each(arrays):
    return {name: x + 1 for name, x in arrays.items()}


# ---- Arrays in shared memory, as npshmex hands them over.

SharedArray = collections.namedtuple('SharedArray', 'name shape dtype')


def view(block, described):
    return np.ndarray(described.shape, described.dtype, buffer=block.buf)


def put(x):
    """A new block with a copy of `x`."""
    block = multiprocessing.shared_memory.SharedMemory(create=True, size=x.nbytes)
    described = SharedArray(block.name, x.shape, x.dtype.str)
    view(block, described)[:] = x
    return block, described


def attach(described):
    return multiprocessing.shared_memory.SharedMemory(described.name)


def call_shared(function, described):
    """In the worker: applies `function` to shared arrays and shares those in its result."""
    single = isinstance(described, SharedArray)
    blocks = [attach(d) for d in ((described,) if single else described.values())]
    views = [view(b, d) for b, d in zip(blocks, (described,) if single else described.values())]
    result = function(views[0] if single else dict(zip(described, views)))
    del views
    for block in blocks:
        block.close()
    if isinstance(result, np.ndarray):
        return leave(result)
    return {name: leave(x) for name, x in result.items()} if isinstance(result, dict) else result


def leave(x):
    block, described = put(x)
    block.close()
    return described


def add_one_in_block(described):
    block = attach(described)
    x = view(block, described)
    x += 1
    del x
    block.close()


class SharedMemoryPool:
    """Calls with arrays in shared memory. The result of a call is valid until the next one."""

    def __init__(self):
        # Before the workers are forked, so that they use the same tracker and it sees each block once.
        multiprocessing.resource_tracker.ensure_running()
        self.executor = ProcessPoolExecutor(1)
        self._results = []

    def __call__(self, function, argument):
        self.release()
        arrays = argument if isinstance(argument, dict) else {'': argument}
        shared = {name: put(x) for name, x in arrays.items()}
        described = {name: d for name, (_, d) in shared.items()}
        sent = described if isinstance(argument, dict) else described['']
        result = self.executor.submit(call_shared, function, sent).result()
        for block, _ in shared.values():
            block.close()
            block.unlink()
        if isinstance(result, SharedArray):
            return self._take(result)
        return {name: self._take(d) for name, d in result.items()} if isinstance(result, dict) else result

    def _take(self, described):
        block = attach(described)
        self._results.append(block)
        return view(block, described)

    def release(self):
        for block in self._results:
            block.unlink()
            try:
                block.close()
            except BufferError:  # the caller still has a view: the memory goes with that
                pass
        self._results.clear()


# ---- Measuring.


def measure(once, seconds, before=None):
    """The time of each call in microseconds, until `seconds` are over; at least one. `before` is not measured."""
    times = []
    spent = 0.0
    while not times or spent < seconds:
        if before:
            before()
        start = time.perf_counter()
        once()
        took = time.perf_counter() - start
        spent += took
        times.append(took * 1e6)
    return times


def minor_faults(pids):
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for pid in pids:
        with open(f'/proc/{pid}/stat') as file:
            faults += int(file.read().rpartition(')')[2].split()[7])
    return faults


def cpu_seconds(pids):
    # The clock of the CPU time of another process, as clock_getcpuclockid() makes it.
    return time.process_time() + sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


def at(sorted_times, q):
    return sorted_times[min(len(sorted_times) - 1, int(q * len(sorted_times)))]


def check(right):
    if not right:
        raise RuntimeError('wrong result')


def workers_of(executor):
    return list(executor._processes)


def children():
    with open(f'/proc/self/task/{os.getpid()}/children') as file:
        return [int(pid) for pid in file.read().split()]


# ---- array/<mode>/<bytes>


def array_call(mode, size, who):
    """A function that runs the task once and checks its result, one that lists the pids of the workers, and one that
    ends them."""
    x = np.ones(size // 8)
    if mode == 'in_place':
        return in_place_call(x)
    function = {'sum': total, 'dictionary': add_one_to_each}.get(mode, add_one)
    half = len(x) // 2
    argument = {'first': x[:half].copy(), 'second': x[half:].copy()} if mode == 'dictionary' else x

    def right(result):
        if mode == 'sum':
            return result == len(x)
        arrays = result.values() if mode == 'dictionary' else (result,)
        return sum(map(len, arrays)) == len(x) and all(y[0] == 2 and y[-1] == 2 for y in arrays)

    if who == 'executor':
        executor = ProcessPoolExecutor(1)
        return (lambda: check(right(executor.submit(function, argument).result())), lambda: workers_of(executor),
                executor.shutdown)
    if who == 'shared_memory':
        pool = SharedMemoryPool()
        return (lambda: check(right(pool(function, argument))), lambda: workers_of(pool.executor),
                lambda: (pool.release(), pool.executor.shutdown()))
    return joblib_call(function, argument, right)


def joblib_call(function, argument, right):
    import joblib
    # With one job joblib would compute in this process.
    parallel = joblib.Parallel(n_jobs=2, backend='loky', max_nbytes='64K')
    parallel.__enter__()
    return (lambda: check(right(parallel([joblib.delayed(function)(argument)])[0])), children,
            lambda: parallel.__exit__(None, None, None))


def in_place_call(x):
    multiprocessing.resource_tracker.ensure_running()
    executor = ProcessPoolExecutor(1)
    block, described = put(x)

    def once():
        executor.submit(add_one_in_block, described).result()

    def end():
        y = view(block, described)
        right = y[0] == y[-1] and y[0] > 1
        del y
        block.close()
        block.unlink()
        executor.shutdown()
        check(right)

    return once, lambda: workers_of(executor), end


def array(mode, size, who, seconds):
    if mode == 'cold':
        once, _, end = array_call('add_one', size, who)
        times = measure(once, 0)
        end()
        return times, {}
    once, pids, end = array_call(mode, size, who)
    once()
    faults = minor_faults(pids())
    times = measure(once, seconds)
    faults = minor_faults(pids()) - faults
    end()
    return times, {'faults': faults / len(times), 'bytes_per_second': size * len(times) * 1e6 / sum(times)}


# ---- hop/<sleeping|idle>/<bytes>, throughput/<outstanding>/<workers>/<threads>/<bytes>


def message_task(size):
    return (echo, b'x' * size) if size else (nothing,)


def hop(mode, size, _, seconds):
    task = message_task(size)
    with ProcessPoolExecutor(1) as executor:
        def once():
            check(executor.submit(*task).result() == (task[1] if size else None))
        for _ in range(100):
            once()
        pids = workers_of(executor)
        cpu = cpu_seconds(pids)
        times = measure(once, seconds if mode == 'sleeping' else seconds / 10,
                        (lambda: time.sleep(0.01)) if mode == 'idle' else None)
        cpu = cpu_seconds(pids) - cpu
    ordered = sorted(times)
    return times, {'p50': at(ordered, 0.5), 'p99': at(ordered, 0.99), 'p999': at(ordered, 0.999),
                   'cpu': cpu * 1e6 / len(times)}


def throughput(outstanding, workers, threads, size, _, seconds):
    if threads != '1':
        raise ValueError('the executor is measured with one thread that submits')
    outstanding = int(outstanding)
    task = message_task(int(size))
    expected = task[1] if len(task) > 1 else None
    with ProcessPoolExecutor(int(workers)) as executor:
        def run(tasks):
            """So many tasks, `outstanding` of them at a time."""
            waiting = collections.deque(executor.submit(*task) for _ in range(min(tasks, outstanding)))
            for _ in range(tasks - len(waiting)):
                check(waiting.popleft().result() == expected)
                waiting.append(executor.submit(*task))
            for future in waiting:
                check(future.result() == expected)
        run(min(outstanding, 1000))
        tasks = max(2 * outstanding, 1000)
        start = time.perf_counter()
        done = 0
        while done == 0 or time.perf_counter() - start < seconds:
            run(tasks)
            done += tasks
        took = time.perf_counter() - start
    return [took * 1e6 / done], {'per_second': done / took, 'tasks': done}


# ---- start/<workers>, replace/<heap bytes>


def start(workers, _, seconds):
    """Until each of the workers has run a task."""
    workers = int(workers)

    def once():
        begin = time.perf_counter()
        with ProcessPoolExecutor(workers) as executor:
            seen = set()
            while len(seen) < workers:
                seen |= {future.result() for future in [executor.submit(os.getpid) for _ in range(workers)]}
            times.append((time.perf_counter() - begin) * 1e6)
    times = []
    measure(once, seconds)
    return times, {}


def replace(heap, _, seconds):
    """A worker's death breaks the whole executor, so the replacement is a new one."""
    ballast = np.ones(int(heap) // 8)
    times = []

    def once():
        executor = ProcessPoolExecutor(1)
        executor.submit(nothing).result()
        running = executor.submit(time.sleep, 60)
        begin = time.perf_counter()
        os.kill(workers_of(executor)[0], signal.SIGKILL)
        try:
            running.result()
        except BrokenProcessPool:
            pass
        executor.shutdown()
        with ProcessPoolExecutor(1) as replacement:
            replacement.submit(nothing).result()
            times.append((time.perf_counter() - begin) * 1e6)
    measure(once, seconds)
    del ballast
    return times, {}


def run(name, seconds):
    work, *parameters = name.split('/')
    if work in ('array', 'hop'):
        parameters[1] = int(parameters[1])
    return {'array': array, 'hop': hop, 'throughput': throughput, 'start': start, 'replace': replace}[work](
        *parameters, seconds)


def main(argv):
    name, seconds = argv[1], float(argv[2]) if len(argv) > 2 else 0.5
    entry = {'name': name, 'time_unit': 'us'}
    status = 0
    try:
        times, counters = run(name, seconds)
        entry |= {'iterations': len(times), 'real_time': sum(times) / len(times), **counters}
    except Exception as error:  # whatever it is, it is this contestant's result
        entry |= {'iterations': 0, 'real_time': 0, 'error_occurred': True,
                  'error_message': f'{type(error).__name__}: {error}'}
        status = 1
    json.dump({'benchmarks': [entry]}, sys.stdout, indent=1)
    print()
    return status


if __name__ == '__main__':
    sys.exit(main(sys.argv))
