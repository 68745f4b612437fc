"""How samples are taken: what is read from a program's output and from strace's, which work is next, what is drawn."""
import json
import os
import random
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../../bench'))

import report  # noqa: E402
import sampling  # noqa: E402
from report import text  # noqa: E402
import tracing  # noqa: E402
from report.chart import apart  # noqa: E402
from schedule import PEER_EVERY, Schedule  # noqa: E402
from works import Plan, Row, Work  # noqa: E402


def printed(**entry):
    return json.dumps({'context': {}, 'benchmarks': [{'name': 'a/1/shmpool/iterations:5/manual_time', **entry}]})


class Output(unittest.TestCase):
    def test_times_are_microseconds_and_counters_are_kept(self):
        sample = sampling.parse(printed(real_time=2.5, time_unit='ms', iterations=5, threads=1, p99=7.0), 'a/1/shmpool')
        self.assertEqual(sample, {'time': 2500.0, 'iterations': 5, 'counters': {'p99': 7.0}})

    def test_an_error_of_the_benchmark_is_a_failure_with_its_message(self):
        with self.assertRaisesRegex(sampling.Failed, 'wrong result'):
            sampling.parse(printed(error_occurred=True, error_message='wrong result', real_time=0), 'a/1/shmpool')

    def test_a_contestant_may_say_that_it_cannot_run_here(self):
        with self.assertRaisesRegex(sampling.Absent, '^no daemon$'):
            sampling.parse(printed(error_occurred=True, error_message='cannot run here: no daemon', real_time=0),
                           'a/1/shmpool')
        with self.assertRaises(sampling.Failed) as caught:
            sampling.parse(printed(error_occurred=True, error_message='wrong result', real_time=0), 'a/1/shmpool')
        self.assertNotIsInstance(caught.exception, sampling.Absent)

    def test_another_benchmark_is_a_failure(self):
        with self.assertRaisesRegex(sampling.Failed, '0 benchmarks'):
            sampling.parse(printed(real_time=1), 'a/1/shmpool2')

    def test_a_program_that_dies_is_a_failure_that_names_the_signal(self):
        with self.assertRaisesRegex(sampling.Failed, 'SIGABRT: broken'):
            sampling.execute([sys.executable, '-c', 'import os,sys; print("broken", file=sys.stderr); sys.stderr.flush();'
                                                    'os.abort()'])

    def test_a_program_that_is_not_built_is_a_failure(self):
        with self.assertRaisesRegex(sampling.Failed, 'not built'):
            sampling.take('hop/sleeping/0/shmpool', '/nonexistent', 1)


class Tracing(unittest.TestCase):
    def test_calls_are_divided_by_all_tasks_that_ran(self):
        summary = '    calls syscall\n--------- -------\n      300 read\n--------- -------\n      300 total\n'
        self.assertEqual(tracing.strace_count(summary) / tracing.tasks({'counters': {'tasks': 1000.0}}), 0.3)
        with self.assertRaisesRegex(sampling.Failed, 'tasks'):
            tracing.tasks({'counters': {}})

    def test_perf_may_not_be_allowed_to_count(self):
        self.assertEqual(tracing.perf_count('# started\n\n22185,,raw_syscalls:sys_enter,4,100.00,,\n'), 22185)
        with self.assertRaises(sampling.Failed):
            tracing.perf_count('<not supported>,,raw_syscalls:sys_enter,0,100.00,,\n')

    def test_what_a_program_maps_at_its_start_and_end_is_not_steady_state(self):
        times = [0, 0.1, 0.2, 10, 10.1]
        self.assertEqual(tracing.quietest(times, 5), 0)

    def test_calls_of_few_tasks_are_not_judged(self):
        # One task of 73 ms, which mapped 160 MB, was found to map nothing: there is no call in half of it.
        log = '1 0.000 mmap(...\n1 0.001 mmap(...\n1 0.074 munmap(...\n'
        with self.assertRaisesRegex(sampling.Failed, 'too few'):
            tracing.maps_per_task(log, {'iterations': 1, 'time': 73_000})
        log = ''.join(f'1 {second}.000 mmap(...\n' for second in range(30))
        self.assertAlmostEqual(tracing.maps_per_task(log, {'iterations': 20, 'time': 1e6}), 1)

    def test_calls_of_every_task_are_counted_wherever_the_stretch_is(self):
        times = [float(t) for t in range(11)]
        self.assertEqual(tracing.quietest(times, 5), 5)


class Reports(unittest.TestCase):
    def test_who_cannot_run_here_is_named_once_and_is_no_failure(self):
        work, row = Work('a/1', ('shmpool',), ('iceoryx',)), Row('one', 'a/1', (), ('iceoryx',))
        samples = [{'work': 'a/1', 'round': 0, 'name': 'a/1/shmpool', 'time': 1.0, 'counters': {}},
                   *({'work': 'a/1', 'round': r, 'name': 'a/1/iceoryx', 'absent': 'not installed'} for r in (0, 1))]
        written = report.Report(Plan(1, (work,), (row,)),
                                {'samples': samples, 'rounds': {'a/1': 2}, 'seconds': 1, 'seed': 1})
        self.assertEqual(written.absences(), ['iceoryx: not installed'])
        self.assertEqual(written.failures(), [])
        self.assertIn('Not measured:\n  iceoryx: not installed', written.summary())


class Turns(unittest.TestCase):
    def turns(self, works, seconds_each, budget, rounds=None):
        schedule = Schedule(works, rounds, random.Random(1))
        taken = []
        while (turn := schedule.next(budget)) is not None:
            work, number, contestants = turn
            taken.append((work.name, number, tuple(sorted(contestants))))
            for contestant in contestants:
                schedule.took(work, contestant, seconds_each)
                budget -= seconds_each
        return taken

    def test_works_take_turns_and_weight_gives_more_of_them(self):
        names = [name for name, _, _ in self.turns([Work('a', ('x',), weight=3), Work('b', ('x',))], 1, 8)]
        self.assertEqual(names, ['a', 'b', 'a', 'a', 'a', 'b', 'a', 'a'])

    def test_peers_take_part_in_every_third_round(self):
        taken = self.turns([Work('a', ('x',), ('slow',))], 1, 100, rounds=6)
        self.assertEqual([number for _, number, who in taken if 'slow' in who], [0, PEER_EVERY])

    def test_what_does_not_fit_any_more_is_not_begun(self):
        self.assertEqual(len(self.turns([Work('a', ('x',))], 10, 25)), 2)

    def test_what_is_cheap_does_not_go_on_alone_when_time_is_short(self):
        dear = Work('dear', tuple('abcdefgh'))
        names = [name for name, _, _ in self.turns([Work('cheap', ('x',)), dear], 1, 16)]
        self.assertEqual(names, ['cheap', 'dear', 'cheap'])

    def test_who_has_failed_does_not_take_part_again(self):
        work = Work('a', ('x', 'y'))
        schedule = Schedule([work], 2, random.Random(1))
        schedule.next(100)
        schedule.failed(work, 'x')
        self.assertEqual(schedule.next(100)[2], ['y'])


class Words(unittest.TestCase):
    def test_figures_have_three_digits_and_a_unit_that_fits(self):
        self.assertEqual([text.duration(t) for t in (0.4, 9.996, 123.4, 16_040, 1.5e6)],
                         ['400 ns', '10.0 us', '123 us', '16.0 ms', '1.50 s'])
        self.assertEqual([text.size(b) for b in (700, 4096, 161_500_000)], ['700 B', '4,096 B', '162 MB'])
        self.assertEqual([text.ratio(r) for r in (1.044, 0.5, 0.01, 0)], ['1.04', '0.50', '1/100', '0'])
        self.assertEqual([text.short(t) for t in ('5.00 ms', '1.10', '100 ms', '1/100')], ['5 ms', '1.1', '100 ms', '1/100'])

    def test_labels_that_would_touch_move_apart_in_their_order(self):
        self.assertEqual(apart([10, 12, 50], 10), [6.0, 16.0, 50.0])
        self.assertEqual(apart([50], 10), [50.0])


if __name__ == '__main__':
    unittest.main()
