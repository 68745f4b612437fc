"""How the benchmarks are judged: statistics, pairing by round, goals, and that the plan is consistent."""
import os
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../../bench'))

import report  # noqa: E402
import works  # noqa: E402
from report.judgement import Samples, judge, median, quantile, slope  # noqa: E402
from works import Goal, Growth, Row, Work  # noqa: E402

WORK = Work('w/0', ('shmpool', 'slow', 'fast'), ('peer',))


def samples(**times):
    """Of the work w/0: a list of times by contestant, one a round; None where it did not take part."""
    return [{'work': 'w/0', 'round': r, 'name': f'w/0/{who}', 'time': t, 'counters': {}}
            for who, values in times.items() for r, t in enumerate(values) if t is not None]


def judged(row, found):
    return judge(row, WORK, Samples(found))


class Statistics(unittest.TestCase):
    def test_the_median_of_an_even_number_lies_between_the_two_in_the_middle(self):
        self.assertEqual(median([4, 1, 3, 2]), 2.5)
        self.assertEqual(median([7]), 7)

    def test_quartiles_lie_between_the_nearest_values(self):
        self.assertEqual(quantile([1, 2, 3, 4, 5], 0.25), 2)
        self.assertEqual(quantile([0, 10], 0.25), 2.5)
        self.assertEqual(quantile([0, 10], 1), 10)


class Judgement(unittest.TestCase):
    def test_a_ratio_is_the_median_of_the_ratios_of_the_rounds(self):
        # The machine slowed down twofold in the second round, for both.
        found = samples(shmpool=[11, 22, 11], slow=[10, 20, 10])
        v = judged(Row('', 'w/0', ('slow',), goal=Goal('floor', 1.1)), found)
        self.assertAlmostEqual(v.floor_ratio.median, 1.1)
        self.assertEqual(v.state, 'met')

    def test_only_rounds_in_which_both_took_part_count(self):
        found = samples(shmpool=[10, 99, 99, 10], peer=[100, None, None, 100])
        v = judged(Row('', 'w/0', (), ('peer',), goal=Goal('peer', 0.1)), found)
        self.assertAlmostEqual(v.judged, 0.1)
        self.assertEqual(v.peer_ratio.n, 2)

    def test_the_better_of_two_floors_is_the_floor(self):
        found = samples(shmpool=[10, 10, 10], slow=[9, 9, 9], fast=[5, 5, 50])
        v = judged(Row('', 'w/0', ('slow', 'fast'), goal=Goal('floor', 1.2)), found)
        self.assertEqual(v.floor_name, 'w/0/fast')
        self.assertEqual(v.floor_ratio.median, 2)
        self.assertEqual(v.state, 'missed')

    def test_a_goal_may_be_a_difference_from_the_floor(self):
        found = samples(shmpool=[40, 60, 50], slow=[20, 20, 20])
        self.assertEqual(judged(Row('', 'w/0', ('slow',), goal=Goal('over', 30)), found).state, 'met')
        self.assertEqual(judged(Row('', 'w/0', ('slow',), goal=Goal('over', 29)), found).state, 'missed')

    def test_a_goal_may_be_a_limit_of_a_counter(self):
        found = [{'work': 'w/0', 'round': 0, 'name': 'w/0/shmpool', 'time': 1, 'counters': {'faults': 0.25}}]
        row = Row('', 'w/0', metric='faults', goal=Goal('absolute', 0.2))
        self.assertEqual(judged(row, found).state, 'missed')

    def test_no_goal_is_met_against_a_floor_that_failed(self):
        found = samples(shmpool=[1], slow=[10]) + [
            {'work': 'w/0', 'round': 0, 'name': 'w/0/fast', 'error': 'crashed'}]
        v = judged(Row('', 'w/0', ('slow', 'fast'), goal=Goal('floor', 1)), found)
        self.assertEqual(v.state, 'failed')
        self.assertEqual(v.errors, ['w/0/fast: crashed'])

    def test_a_goal_without_figures_is_not_judged(self):
        self.assertEqual(judged(Row('', 'w/0', ('slow',), goal=Goal('floor', 1)), []).state, 'not run')
        v = judged(Row('', 'w/0', ('slow',), goal=Goal('floor', 1)), samples(shmpool=[1]))
        self.assertEqual(v.state, 'not run')

    def test_a_goal_may_name_who_judges(self):
        found = samples(shmpool=[12, 12, 12], slow=[20, 20, 20], fast=[5, 5, 5])
        v = judged(Row('', 'w/0', ('slow', 'fast'), goal=Goal('floor', 0.7, 'slow')), found)
        self.assertEqual(v.floor_name, 'w/0/fast')
        self.assertAlmostEqual(v.judged, 0.6)
        self.assertEqual(v.state, 'met')
        # The column of the ratio is about the fast one, so what was judged stands with the goal.
        self.assertEqual(report.table_row(v)[3:7:3], ('2.40', '0.7 x slow: 0.60'))

    def test_a_goal_may_be_about_a_difference_from_a_certain_floor(self):
        found = samples(shmpool=[12], slow=[10], fast=[5])
        self.assertEqual(judged(Row('', 'w/0', ('slow', 'fast'), goal=Goal('over', 2, 'slow')), found).judged, 2)

    def test_a_goal_may_be_a_multiple_of_another_figure_of_ours(self):
        # In the second round hops were slow for long, in the others all of them were, or none.
        found = [{'work': 'w/0', 'round': r, 'name': 'w/0/shmpool', 'time': 1, 'counters': {'p50': p, 'worst': w}}
                 for r, (p, w) in enumerate(((10, 10), (2, 10), (10, 10), (2, 3)))]
        v = judged(Row('', 'w/0', metric='worst', goal=Goal('own', 2, 'p50')), found)
        self.assertEqual(v.judged, 5)
        self.assertEqual(v.state, 'missed')

    def test_who_cannot_run_here_is_named_and_harms_nobody(self):
        found = samples(shmpool=[10], slow=[9]) + [
            {'work': 'w/0', 'round': 0, 'name': f'w/0/{who}', 'absent': 'not installed'} for who in ('fast', 'peer')]
        v = judged(Row('', 'w/0', ('slow', 'fast'), ('peer',), goal=Goal('floor', 2)), found)
        self.assertEqual(v.state, 'met')
        self.assertEqual(v.errors, [])
        self.assertEqual(report.table_row(v)[4], '- (no fast, peer)')
        # But a goal that is about it is not judged.
        v = judged(Row('', 'w/0', ('slow',), ('peer',), goal=Goal('peer', 2, 'peer')), found)
        self.assertEqual(v.state, 'not run')

    def test_a_peer_that_fails_harms_only_the_goal_that_is_about_it(self):
        found = samples(shmpool=[10], slow=[9]) + [
            {'work': 'w/0', 'round': 0, 'name': 'w/0/peer', 'error': 'crashed'}]
        self.assertEqual(judged(Row('', 'w/0', ('slow',), ('peer',), goal=Goal('floor', 2)), found).state, 'met')
        self.assertEqual(judged(Row('', 'w/0', ('slow',), ('peer',), goal=Goal('peer', 2)), found).state, 'failed')
        self.assertEqual(judged(Row('', 'w/0', ('slow',), ('peer',), goal=Goal('peer', 2, 'peer')), found).state,
                         'failed')

    def test_a_row_says_why_it_failed(self):
        found = [{'work': 'w/0', 'round': 0, 'name': 'w/0/shmpool', 'error': 'no room: ' + 'x' * 100}]
        v = judged(Row('', 'w/0', goal=Goal('absolute', 1)), found)
        self.assertEqual(report.table_row(v)[-1], 'failed: shmpool: no room: ' + 'x' * 48 + '...')

    def test_growth_per_byte_is_flat_where_time_follows_size(self):
        plan = {name: Work(name, ('shmpool',)) for name in ('a/10', 'a/1000')}
        found = Samples([{'work': n, 'round': 0, 'name': f'{n}/shmpool', 'time': t, 'counters': {}}
                         for n, t in (('a/10', 5), ('a/1000', 500))])
        self.assertEqual(slope(Growth('', 'a/10', 'a/1000', '', 1.2, per_byte=True), plan, found).factor, 1)
        self.assertFalse(slope(Growth('', 'a/10', 'a/1000', '', 1.2), plan, found).met)
        self.assertIsNone(slope(Growth('', 'a/10', 'b', ''), plan, found).factor)

    def test_growth_may_be_that_of_a_counter(self):
        plan = {name: Work(name, ('shmpool',)) for name in ('a/1', 'a/2')}
        found = Samples([{'work': n, 'round': 0, 'name': f'{n}/shmpool', 'time': 9, 'counters': {'p50': p}}
                         for n, p in (('a/1', 2), ('a/2', 3))])
        self.assertEqual(slope(Growth('', 'a/1', 'a/2', '', metric='p50'), plan, found).factor, 1.5)


class Plans(unittest.TestCase):
    def test_rows_and_growths_are_about_works_and_contestants_of_the_plan(self):
        for plan in (works.full(), works.quick()):
            by_name = {work.name: work for work in plan.works}
            self.assertEqual(len(by_name), len(plan.works))
            for row in plan.rows:
                work = by_name[row.work]
                self.assertLessEqual({row.ours, *row.floors}, set(work.contestants), row)
                self.assertLessEqual(set(row.peers), {*work.contestants, *work.peers}, row)
            for growth in plan.growths:
                self.assertLessEqual({growth.first, growth.last}, by_name.keys())

    def test_every_floor_that_is_measured_is_eligible(self):
        plan = works.full()
        by_name = {work.name: work for work in plan.works}
        for row in plan.rows:
            if row.metric in ('time', 'p50') and row.goal and row.goal.kind == 'floor':
                measured = set(by_name[row.work].contestants) - {row.ours, *works.PEERS}
                self.assertEqual(measured, set(row.floors), row)
                self.assertFalse(set(row.floors) & set(works.PEERS), row)

    def test_who_judges_is_a_contestant_of_each_round(self):
        for plan in (works.full(), works.quick()):
            by_name = {work.name: work for work in plan.works}
            for row in plan.rows:
                if row.goal and row.goal.of and row.goal.kind != 'own':
                    self.assertIn(row.goal.of, by_name[row.work].contestants, row)
                    self.assertIn(row.goal.of, (*row.floors, *row.peers), row)

    def test_every_work_is_in_the_table(self):
        plan = works.full()
        self.assertEqual({work.name for work in plan.works}, {row.work for row in plan.rows})

    def test_a_selection_keeps_what_belongs_to_it(self):
        plan = works.select(works.full(), lambda name: name.startswith('replace/'))
        self.assertEqual(len(plan.works), 2)
        self.assertEqual(len(plan.rows), 2)
        self.assertEqual(len(plan.growths), 1)


if __name__ == '__main__':
    unittest.main()
