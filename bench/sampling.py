"""Takes one sample of one contestant: starts its program, waits, reads the JSON that it prints."""
import json
import os
import re
import signal
import subprocess
import sys

from works import PROGRAMS, PYTHON

HERE = os.path.dirname(os.path.abspath(__file__))
MICROSECONDS = {'ns': 1e-3, 'us': 1.0, 'ms': 1e3, 's': 1e6}
# What Google Benchmark appends to the name that a benchmark was registered by.
SUFFIXES = r'(/(iterations:[0-9]+|repeats:[0-9]+|min_time:[0-9.]+|real_time|process_time|manual_time|threads:[0-9]+))*'
# What each entry has besides the counters that the benchmark sets.
STANDARD_FIELDS = {'name', 'run_name', 'run_type', 'family_index', 'per_family_instance_index', 'repetitions',
                   'repetition_index', 'threads', 'iterations', 'real_time', 'cpu_time', 'time_unit', 'label',
                   'error_occurred', 'error_message', 'skipped', 'skip_message'}
TIMEOUT = 90


class Failed(Exception):
    """A contestant did not give a figure; the text says why."""


class Absent(Failed):
    """A contestant that cannot run on this machine, such as one whose library is not installed."""


# How such a contestant begins its message: bench/absent.hpp.
ABSENT = 'cannot run here: '


def is_python(name):
    return name.rsplit('/', 1)[-1] in PYTHON


def command(name, programs, seconds):
    """The program that measures `name`, and its arguments. `programs` is the directory of the C++ programs."""
    if is_python(name):
        return [sys.executable, os.path.join(HERE, 'peers.py'), name, str(seconds)]
    program = os.path.join(programs, PROGRAMS[name.split('/', 1)[0]])
    if not os.path.exists(program):
        raise Failed(f'{program} is not built')
    return [program, f'--benchmark_filter=^{re.escape(name)}{SUFFIXES}$', '--benchmark_format=json',
            f'--benchmark_min_time={seconds}']


def execute(arguments, timeout=TIMEOUT):
    """Its standard output. The program gets a session of its own, so that what it started can be ended with it."""
    try:
        process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, start_new_session=True)
    except OSError as error:
        raise Failed(str(error)) from error
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        end(process)
        raise Failed(f'did not end within {timeout} s') from None
    except BaseException:
        end(process)
        raise
    if process.returncode != 0:
        lines = err.strip().splitlines()
        how = f'exit code {process.returncode}' if process.returncode > 0 else \
            signal.Signals(-process.returncode).name
        raise Failed(f'{how}: {lines[-1] if lines else "no message"}')
    return out


def end(process):
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def parse(text, name):
    """The sample in what a program printed: time in microseconds, counters by name."""
    if not text:
        raise Failed('no benchmark of this name')
    try:
        entries = json.loads(text)['benchmarks']
    except (ValueError, KeyError, TypeError) as error:
        raise Failed(f'no JSON of a benchmark: {text[:80]!r}') from error
    wanted = re.compile(re.escape(name) + SUFFIXES)
    entries = [e for e in entries if wanted.fullmatch(e.get('name', ''))]
    if len(entries) != 1:
        raise Failed(f'{len(entries)} benchmarks of this name')
    entry = entries[0]
    if entry.get('error_occurred') or entry.get('skipped'):
        why = entry.get('error_message') or entry.get('skip_message') or 'an error without a message'
        raise Absent(why.removeprefix(ABSENT)) if why.startswith(ABSENT) else Failed(why)
    counters = {k: v for k, v in entry.items() if k not in STANDARD_FIELDS and isinstance(v, (int, float))}
    return {'time': entry['real_time'] * MICROSECONDS[entry.get('time_unit', 'ns')],
            'iterations': entry.get('iterations', 1), 'counters': counters}


def take(name, programs, seconds):
    """One sample of `name`. Raises Failed."""
    return parse(execute(command(name, programs, seconds)), name)
