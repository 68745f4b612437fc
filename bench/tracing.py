"""Counts system calls per task. Timings under a tracer mean nothing; only the counts are used.

All calls are counted by perf, which costs the program nothing noticeable. Where perf may not (it needs root, or a kernel
that is set up for it), strace does. It stops the program at each call: with few CPUs that changes how much is done in one.
"""
import re
import tempfile

import sampling

# What changes the memory that a process has mapped.
MAPPING_CALLS = 'mmap,munmap,mremap'
# Within a stretch of few tasks there may be no call although there is one in each.
FEWEST_TASKS = 10
LINE = re.compile(r'^(?:\d+ +)?(\d+\.\d+) ')


def take(kind, name, programs, seconds):
    """A sample with the counter per_task. kind calls: all calls of the thread that submits; kind maps: the calls that map
    or unmap, of the application and its workers, in steady state."""
    if kind == 'maps':
        options = ['strace', '-f', '--seccomp-bpf', '-ttt', '-e', f'trace={MAPPING_CALLS}']
        sample, log = traced(options, name, programs, seconds)
        return result(sample, maps_per_task(log, sample), 'strace')
    try:
        options = ['perf', 'stat', '--no-inherit', '-x,', '-e', 'raw_syscalls:sys_enter']
        sample, log = traced(options, name, programs, seconds)
        return result(sample, perf_count(log) / tasks(sample), 'perf')
    except sampling.Failed:
        sample, log = traced(['strace', '-c', '-U', 'calls,name'], name, programs, seconds)
        return result(sample, strace_count(log) / tasks(sample), 'strace')


def traced(tracer, name, programs, seconds):
    """The sample that the program prints, and what the tracer writes to a file of its own."""
    with tempfile.NamedTemporaryFile('r', prefix='shmpool-bench.') as log:
        command = sampling.command(name, programs, seconds)
        return sampling.parse(sampling.execute([*tracer, '-o', log.name, *command]), name), log.read()


def result(sample, per_task, tool):
    return {'time': sample['time'], 'iterations': sample['iterations'], 'counters': {'per_task': per_task}, 'tool': tool}


def tasks(sample):
    """How many the program ran, those before the measurement included: the tracer saw them all."""
    count = sample['counters'].get('tasks')
    if not count:
        raise sampling.Failed('the program does not say how many tasks it ran (counter "tasks")')
    return count


def perf_count(log):
    for line in log.splitlines():
        fields = line.split(',')
        if len(fields) > 2 and fields[2] == 'raw_syscalls:sys_enter' and fields[0].isdigit():
            return int(fields[0])
    raise sampling.Failed('perf counted nothing')


def strace_count(summary):
    for line in summary.splitlines():
        fields = line.split()
        if len(fields) == 2 and fields[1] == 'total':
            return int(fields[0])
    raise sampling.Failed('strace printed no total')


def maps_per_task(log, sample):
    """Calls per task in the quietest stretch that is half as long as the measurement was. The program's start and end
    map and unmap too, and how often it starts over is Google Benchmark's choice; but the measurement is one stretch
    without interruption, so a stretch of half its length fits in, and one that is quieter is nowhere else."""
    times = [float(match.group(1)) for line in log.splitlines() if (match := LINE.match(line))]
    if not times:
        raise sampling.Failed('strace saw no call at all')
    if sample['iterations'] < FEWEST_TASKS:
        raise sampling.Failed(f'{sample["iterations"]} tasks are too few to tell what each of them maps')
    count = sample['iterations'] / 2
    return quietest(times, count * sample['time'] * 1e-6) / count


def quietest(times, length):
    """The smallest number of `times` in any stretch of `length` between the first and the last of them."""
    times = sorted(times)
    fewest = len(times)
    right = 0
    # A stretch with fewest calls can be moved until it starts right after a call.
    for left, start in enumerate(times):
        if start + length > times[-1]:
            break
        right = max(right, left + 1)
        while right < len(times) and times[right] <= start + length:
            right += 1
        fewest = min(fewest, right - left - 1)
    return fewest
