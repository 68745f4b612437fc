#!/usr/bin/env python3
"""Runs every benchmark beside its floors and peers and reports. ./run bench builds what this starts; see
docs/benchmarks.md.

One start of a contestant's program is one sample. Contestants of one work are measured next to each other, in an order
that is shuffled each round, and rounds of all works take turns until the time is over.
"""
import argparse
import dataclasses
import datetime
import os
import random
import re
import shlex
import sys
import time

import machine
import report
import sampling
import tracing
import works
from schedule import Schedule

ROOT = os.path.dirname(sampling.HERE)


def arguments(argv):
    parser = argparse.ArgumentParser(prog='./run bench', description='Runs the benchmarks; docs/benchmarks.md says how.')
    parser.add_argument('what', nargs='?', choices=('full', 'quick'), default='full',
                        help='quick: only what has a goal, in two minutes')
    parser.add_argument('--only', metavar='REGEX', help='only works whose name matches')
    parser.add_argument('--rounds', type=int, metavar='N', help='at most so many rounds of each work')
    parser.add_argument('--seconds', type=float, metavar='S', help='time for the measurements, instead of the plan\'s')
    parser.add_argument('--seed', type=int, help='of the order of contestants; default: a new one')
    parser.add_argument('--out', metavar='DIR', help='where results go; default: bench/results for a full run, '
                                                     'bench/results/partial for any other')
    parser.add_argument('--readme', action='store_true', help='write the table into README.md, too')
    parser.add_argument('--build', metavar='DIR', default=os.path.join(ROOT, 'build/release'), help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def command(argv):
    """What was typed: ./run adds the build directory."""
    if argv[:1] == ['--build']:
        argv = argv[2:]
    return shlex.join(['./run', 'bench', *argv])


def measure(plan, args, seed):
    """All samples, how many rounds each work got, and whether that is all that was to be measured."""
    schedule = Schedule(plan.works, args.rounds, random.Random(seed))
    programs = os.path.join(args.build, 'bench')
    samples = []
    complete = True
    end = time.monotonic() + plan.seconds
    try:
        while (turn := schedule.next(end - time.monotonic())) is not None:
            work, number, contestants = turn
            show(f'{work.name}, round {number + 1}; {end - time.monotonic():.0f} s left')
            for contestant in contestants:
                samples.append(one(schedule, work, number, contestant, programs))
    except KeyboardInterrupt:
        complete = False
    show('')
    return samples, {work.name: schedule.done(work) for work in plan.works}, complete


def one(schedule, work, number, contestant, programs):
    name = work.full_name(contestant)
    sample = {'work': work.name, 'round': number, 'name': name}
    before = time.monotonic()
    try:
        kind, _, traced = name.partition('/')
        if kind in works.TRACED:
            sample |= tracing.take(kind, traced, programs, work.seconds)
        else:
            sample |= sampling.take(name, programs, work.seconds)
    except sampling.Failed as error:
        schedule.failed(work, contestant)
        sample['absent' if isinstance(error, sampling.Absent) else 'error'] = str(error)
    sample['took'] = time.monotonic() - before
    schedule.took(work, contestant, sample['took'])
    return sample


def show(text):
    """On one line that is overwritten, where somebody watches."""
    if sys.stderr.isatty():
        print(f'\r\033[K{text}', end='', file=sys.stderr, flush=True)


def main(argv):
    args = arguments(argv)
    plan = works.quick() if args.what == 'quick' else works.full()
    if args.only:
        plan = works.select(plan, lambda name: re.search(args.only, name))
    if not plan.works:
        sys.exit(f'no work matches {args.only}')
    if args.seconds:
        plan = dataclasses.replace(plan, seconds=args.seconds)
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(2**32)

    started = datetime.datetime.now(datetime.timezone.utc)
    samples, rounds, complete = measure(plan, args, seed)
    whole = complete and args.what == 'full' and not (args.only or args.rounds or args.seconds)
    out = args.out or os.path.join(ROOT, 'bench/results', '' if whole else 'partial')
    results = {
        'machine': machine.describe(args.build),
        'command': command(argv),
        'started': started.isoformat(timespec='seconds'),
        'seconds': round((datetime.datetime.now(datetime.timezone.utc) - started).total_seconds()),
        'seed': seed,
        'rounds': rounds,
        'samples': samples,
    }
    status = report.write(plan, results, out, os.path.join(ROOT, 'README.md') if args.readme and complete else None)
    if not complete:
        print('Interrupted: this is what there was.', file=sys.stderr)
        return 130
    return status


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
