"""Counts system calls per task with strace. Timings under strace mean nothing; only the counts are used."""
import re
import tempfile

import sampling

# What changes the memory that a process has mapped.
MAPPING_CALLS = 'mmap,munmap,mremap'
LINE = re.compile(r'^(?:\d+ +)?(\d+\.\d+) ')


def take(kind, name, programs, seconds):
    """A sample with the counter per_task. kind calls: all calls of the thread that submits; kind maps: the calls that map
    or unmap, of the application and its workers, in steady state."""
    # The file is strace's own business, so that what the program prints stays what it prints.
    with tempfile.NamedTemporaryFile('r', prefix='shmpool-bench.', suffix='.strace') as log:
        options = ['-c', '-U', 'calls,name'] if kind == 'calls' else ['-f', '-ttt', '-e', f'trace={MAPPING_CALLS}']
        arguments = ['strace', *options, '-o', log.name, *sampling.command(name, programs, seconds)]
        sample = sampling.parse(sampling.execute(arguments), name)
        text = log.read()
    if kind == 'calls':
        per_task = calls_per_task(text, sample)
    else:
        per_task = maps_per_task(text, sample)
    return {'time': sample['time'], 'iterations': sample['iterations'], 'counters': {'per_task': per_task}}


def calls_per_task(summary, sample):
    """The total of strace's summary by all tasks that the program ran, those before the measurement included."""
    tasks = sample['counters'].get('tasks')
    if not tasks:
        raise sampling.Failed('the program does not say how many tasks it ran (counter "tasks")')
    for line in summary.splitlines():
        fields = line.split()
        if len(fields) == 2 and fields[1] == 'total':
            return int(fields[0]) / tasks
    raise sampling.Failed('strace printed no total')


def maps_per_task(log, sample):
    """Calls per task in the quietest stretch that is half as long as the measurement was. The program's start and end
    map and unmap too, and how often it starts over is Google Benchmark's choice; but the measurement is one stretch
    without interruption, so a stretch of half its length fits in, and one that is quieter is nowhere else."""
    times = [float(match.group(1)) for line in log.splitlines() if (match := LINE.match(line))]
    if not times:
        raise sampling.Failed('strace saw no call at all')
    tasks = sample['iterations'] / 2
    length = tasks * sample['time'] * 1e-6
    return quietest(times, length) / tasks


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
