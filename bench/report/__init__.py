"""Writes what a run found: the table, the raw samples, pictures. `python3 -m report results.json [--readme README.md]`, in
bench/, does it again from the samples of an earlier run."""
import argparse
import json
import os
import sys
from dataclasses import asdict

import machine
import works

from . import pictures, text
from .judgement import Samples, judge, slope

BEGIN, END = '<!-- bench: begin -->', '<!-- bench: end -->'
HEADINGS = ('work', 'ours', 'floor', 'ratio', 'peer', 'ratio', 'goal', '')


# ---- The table.


def last(name):
    return name.rsplit('/', 1)[-1]


def contestant(value, name, metric):
    return f'{text.quantity(value.median, metric)} {last(name)}' if value else '-'


def goal_text(verdict):
    """With what was judged, where that stands in none of the columns of ratios."""
    row = verdict.row
    if row.goal is None:
        return '-'
    limit, of = row.goal.limit, row.goal.of
    if row.goal.kind in ('floor', 'peer', 'own'):
        shown = [last(name) for name in (verdict.floor_name, verdict.peer_name) if name]
        judged = f': {text.ratio(verdict.judged)}' if of and of not in shown and verdict.judged is not None else ''
        return f'{text.short(text.ratio(limit))} x {of or row.goal.kind}{judged}'
    amount = text.short(text.quantity(limit, row.metric))
    return f'floor + {amount}' if row.goal.kind == 'over' else amount


def peer_cell(verdict):
    """The best peer, and the names of those that could not be measured here."""
    missing = ', '.join(last(name) for name in verdict.absent)
    return contestant(verdict.peer, verdict.peer_name, verdict.row.metric) + (f' (no {missing})' if missing else '')


def state_cell(verdict):
    """A failure has its reason here, as far as there is room."""
    if not verdict.errors:
        return verdict.state
    name, _, why = verdict.errors[0].partition(': ')
    return f'{verdict.state}: {last(name)}: {why if len(why) <= 60 else why[:57] + "..."}'


def table_row(verdict):
    row, metric = verdict.row, verdict.row.metric
    floor_ratio = text.ratio(verdict.floor_ratio.median) if verdict.floor_ratio else '-'
    if row.goal and row.goal.kind == 'over' and verdict.judged is not None:
        floor_ratio = f'{"+" if verdict.judged >= 0 else ""}{text.quantity(verdict.judged, metric)}'
    floor_name = verdict.floor_name or ''
    if floor_name == f'array/add_one/{works.LARGE}/{works.OURS}':
        floor_name = 'warm'
    return (row.title, text.quantity(verdict.ours.median, metric) if verdict.ours else '-',
            contestant(verdict.floor, floor_name, metric), floor_ratio, peer_cell(verdict),
            text.ratio(verdict.peer_ratio.median) if verdict.peer_ratio else '-', goal_text(verdict), state_cell(verdict))


def slope_line(s):
    if s.factor is None:
        return f'{s.growth.title}: not run'
    goal = '' if s.met is None else f' (goal {s.growth.limit:g}: {"met" if s.met else "missed"})'
    return f'{s.growth.title}: x {text.digits(s.factor)} {s.growth.between}{goal}'


def plain(rows):
    widths = [max(len(row[i]) for row in (HEADINGS, *rows)) for i in range(len(HEADINGS))]
    left = {0, 7}
    return '\n'.join('  '.join(f'{cell:{"<" if i in left else ">"}{widths[i]}}' for i, cell in enumerate(row)).rstrip()
                     for row in (HEADINGS, tuple('-' * w for w in widths), *rows))


def markdown(rows):
    lines = ['| ' + ' | '.join(HEADINGS) + ' |', '| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |']
    return '\n'.join(lines + ['| ' + ' | '.join(cell.replace('|', r'\|') for cell in row) + ' |' for row in rows])


def caption(results):
    counts = sorted(results['rounds'].values())
    rounds = f'{counts[0]}' if counts[0] == counts[-1] else f'{counts[0]} to {counts[-1]}'
    rounds += ' round' if rounds == '1' else ' rounds'
    return (f"Medians of {rounds}; a ratio is the median of the ratios of the rounds. Made by "
            f"`{results['command']}` on {results['started'][:10]}: {machine.sentence(results['machine'])}.")


# ---- All of it.


class Report:
    def __init__(self, plan, results):
        self.results = results
        self.samples = Samples(results['samples'])
        by_name = {work.name: work for work in plan.works}
        self.verdicts = [judge(row, by_name[row.work], self.samples) for row in plan.rows]
        self.slopes = [slope(growth, by_name, self.samples) for growth in plan.growths]

    def failures(self):
        return sorted({f"{s['name']}: {s['error']}" for s in self.results['samples'] if 'error' in s})

    def absences(self):
        """Who could not be measured on this machine, with the reason."""
        return sorted({f"{last(s['name'])}: {s['absent']}" for s in self.results['samples'] if 'absent' in s})

    def goals(self):
        """How many goals were met, missed, and could not be judged."""
        states = [v.state for v in self.verdicts if v.row.goal]
        states += ['met' if s.met else 'missed' for s in self.slopes if s.met is not None]
        return states.count('met'), states.count('missed'), len(states) - states.count('met') - states.count('missed')

    def rows(self, with_goal_only=False):
        return [table_row(v) for v in self.verdicts if v.row.goal or not with_goal_only]

    def summary(self):
        met, missed, open_ = self.goals()
        counted = sorted(self.results['rounds'].items(), key=lambda item: item[1])
        parts = ['\n'.join(slope_line(s) for s in self.slopes),
                 f'Goals: {met} met, {missed} missed, {open_} not judged.',
                 f"{self.results['seconds']} s, seed {self.results['seed']}; rounds from {counted[0][1]} "
                 f'({counted[0][0]}) to {counted[-1][1]} ({counted[-1][0]}).']
        if any(s.get('tool') == 'strace' and s['name'].startswith('calls/') for s in self.results['samples']):
            parts.append('System calls were counted by strace, which disturbs: perf may not count them here.')
        if absences := self.absences():
            parts.append('Not measured:\n' + '\n'.join(f'  {absence}' for absence in absences))
        if failures := self.failures():
            parts.append('FAILED:\n' + '\n'.join(f'  {failure}' for failure in failures))
        return '\n'.join(part for part in parts if part)

    def page(self):
        """table.md"""
        growth = '\n'.join(f'- {slope_line(s)}' for s in self.slopes)
        absences = '\n'.join(f'- {absence}' for absence in self.absences())
        failures = '\n'.join(f'- {failure}' for failure in self.failures())
        return '\n\n'.join(part for part in (
            '# Benchmarks', caption(self.results), markdown(self.rows()), growth,
            f'Not measured:\n\n{absences}' if absences else '',
            f'Failed:\n\n{failures}' if failures else '') if part) + '\n'

    def judged(self):
        """What goes into the JSON beside the samples: medians with quartiles."""
        return [asdict(v) | {'state': v.state} for v in self.verdicts], [asdict(s) for s in self.slopes]


def write_json(path, results, verdicts, slopes):
    """One sample a line: a difference between two runs can be read."""
    rest = {key: value for key, value in results.items() if key != 'samples'}
    rest |= {'growth': slopes}
    with open(path, 'w') as file:
        file.write(json.dumps(rest, indent=1)[:-2] + ',\n "rows": [\n')
        file.write(',\n'.join('  ' + json.dumps(v) for v in verdicts))
        file.write('\n ],\n "samples": [\n')
        file.write(',\n'.join('  ' + json.dumps(rounded(s)) for s in results['samples']))
        file.write('\n ]\n}\n')


def rounded(value):
    """Six digits are more than any of these figures has."""
    if isinstance(value, float):
        return float(f'{value:.6g}')
    return {k: rounded(v) for k, v in value.items()} if isinstance(value, dict) else value


def draw(samples, out):
    for name, svg in pictures.all_pictures(samples).items():
        path = os.path.join(out, f'{name}.svg')
        with open(path, 'w') as file:
            file.write(svg)


def fill_readme(path, report):
    with open(path) as file:
        before, begin, rest = file.read().partition(BEGIN)
        _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f'{path} has no {BEGIN} and {END}')
    table = f'\n{markdown(report.rows(with_goal_only=True))}\n\n{caption(report.results)}\n'
    with open(path, 'w') as file:
        file.write(before + BEGIN + table + END + after)


def write(plan, results, out, readme=None):
    """Prints the table, writes everything; the exit status of the run."""
    report = Report(plan, results)
    os.makedirs(out, exist_ok=True)
    print(plain(report.rows()))
    print(report.summary())
    print(caption(results))
    write_json(os.path.join(out, 'results.json'), results, *report.judged())
    with open(os.path.join(out, 'table.md'), 'w') as file:
        file.write(report.page())
    draw(report.samples, out)
    if readme:
        fill_readme(readme, report)
    print(f'Samples, table and pictures: {os.path.relpath(out)}')
    return 1 if report.failures() else 0


def main(argv):
    parser = argparse.ArgumentParser(description='Reports again from the samples of an earlier run.')
    parser.add_argument('results', help='results.json of a run')
    parser.add_argument('--out', help='where to write; default: beside it')
    parser.add_argument('--readme', help='a file with the two markers, to write the table into')
    args = parser.parse_args(argv)
    with open(args.results) as file:
        results = json.load(file)
    measured = results['rounds'].keys()
    plan = works.select(works.full(), lambda name: name in measured)
    return write(plan, results, args.out or os.path.dirname(os.path.abspath(args.results)), args.readme)
