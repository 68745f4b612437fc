"""Describes the machine, the compiler and the commit that figures were made with."""
import os
import platform
import re
import subprocess


def output(*arguments):
    try:
        return subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ''


def field(path, name):
    """The first value of `name` in a file of lines 'name: value'."""
    try:
        with open(path) as file:
            for line in file:
                key, _, value = line.partition(':')
                if key.strip() == name:
                    return value.strip()
    except OSError:
        pass
    return ''


def content(path):
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ''


def compiler(build):
    """The compiler that CMake configured the build directory with, and the build type."""
    cache = content(os.path.join(build, 'CMakeCache.txt'))
    path = re.search(r'^CMAKE_CXX_COMPILER:\w+=(.*)$', cache, re.M)
    kind = re.search(r'^CMAKE_BUILD_TYPE:\w+=(.*)$', cache, re.M)
    version = output(path.group(1), '--version').splitlines() if path else []
    return version[0] if version else 'unknown', kind.group(1) if kind else 'unknown'


def distribution():
    for line in content('/etc/os-release').splitlines():
        if line.startswith('PRETTY_NAME='):
            return line.partition('=')[2].strip('"')
    return 'unknown'


def describe(build):
    memory = field('/proc/meminfo', 'MemTotal').split()
    version, build_type = compiler(build)
    flags = field('/proc/cpuinfo', 'flags').split()
    return {
        'cpu': field('/proc/cpuinfo', 'model name') or platform.machine(),
        'cpus': len(os.sched_getaffinity(0)),
        'virtual': 'hypervisor' in flags,
        'memory_gib': round(int(memory[0]) / 2**20, 1) if memory else 0,
        'kernel': platform.release(),
        'distribution': distribution(),
        'shared_memory_huge_pages': content('/sys/kernel/mm/transparent_hugepage/shmem_enabled'),
        'compiler': version,
        'build_type': build_type,
        'python': platform.python_version(),
        'commit': output('git', '-C', os.path.dirname(os.path.abspath(__file__)), 'describe', '--always', '--dirty'),
    }


def sentence(machine):
    kind = 'virtual CPUs' if machine['virtual'] else 'CPUs'
    # "g++ (Debian 12.2.0-14+deb12u1) 12.2.0" is g++ 12.2.0.
    compiler_name = re.sub(r' \([^)]*\)', '', machine['compiler'])
    return (f"{machine['cpu']}, {machine['cpus']} {kind}, {machine['memory_gib']:.0f} GiB, Linux {machine['kernel']}, "
            f"{machine['distribution']}, {compiler_name}, {machine['build_type'].lower()} build of commit "
            f"{machine['commit']}")
