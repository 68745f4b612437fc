#!/usr/bin/env python3
"""Counts the instructions that a task costs the application, under callgrind, and compares them with what they may be.

A count is free of the noise of a machine: it tells whether a change made every task dearer. `./run instructions` builds
the program that this starts. The bounds are for x86-64 and g++ 12, release; elsewhere the counts are only printed. A
change that makes a task cheaper lowers its bound, to two percent above the count.
"""
import argparse
import concurrent.futures
import dataclasses
import glob
import os
import platform
import re
import subprocess
import sys
import tempfile


@dataclasses.dataclass
class Work:
    name: str
    outstanding: int
    message: int  # bytes of arguments, and of the result
    array: int  # bytes of an array that each task reads
    most: int  # instructions per task


WORKS = (
    Work('empty, 1,000 outstanding', 1000, 0, 0, 3620),
    Work('64 B each way, 1,000 outstanding', 1000, 64, 0, 4590),
    Work('reads an array, 1,000 outstanding', 1000, 0, 65536, 5440),
    Work('empty, one at a time', 1, 0, 0, 7850),
)
FEW, MANY = 4000, 12000  # the difference leaves out start and end


def count(program, work, tasks):
    """Instructions of the application alone: the fork server is another program, which callgrind does not follow."""
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(['valgrind', '--tool=callgrind', '--callgrind-out-file=/dev/null',
                        f'--log-file={directory}/%p', program, str(tasks), str(work.outstanding), str(work.message),
                        str(work.array)], check=True, timeout=300)
        counts = []
        for name in glob.glob(directory + '/*'):
            with open(name, encoding='utf-8') as log:
                counts += [int(each) for each in re.findall(r'Collected : (\d+)', log.read())]
        return max(counts)


def per_task(program, work):
    return (count(program, work, MANY) - count(program, work, FEW)) / (MANY - FEW)


def is_reference(build):
    with open(os.path.join(build, 'CMakeCache.txt'), encoding='utf-8') as cache:
        compiler = re.search(r'^CMAKE_CXX_COMPILER:\w+=(.*)$', cache.read(), re.MULTILINE).group(1)
    version = subprocess.run([compiler, '--version'], capture_output=True, text=True, check=True).stdout
    return platform.machine() == 'x86_64' and 'clang' not in version and ') 12.' in version


def main():
    parser = argparse.ArgumentParser(prog='./run instructions', description=__doc__)
    parser.add_argument('--build', metavar='DIR', required=True, help=argparse.SUPPRESS)
    given = parser.parse_args()
    program = os.path.join(given.build, 'bench/instructions_bench')
    judged = is_reference(given.build)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as several:
        counts = list(several.map(lambda work: per_task(program, work), WORKS))
    missed = 0
    for work, instructions in zip(WORKS, counts):
        verdict = ('too many' if instructions > work.most else 'met') if judged else 'not judged'
        missed += verdict == 'too many'
        print(f'{work.name:36} {instructions:8,.0f} of at most {work.most:6,}  {verdict}')
    if missed:
        sys.exit('A task costs more than it may. If that is worth it, raise the bound in bench/instructions.py, and say '
                 'why in the commit.')


if __name__ == '__main__':
    main()
