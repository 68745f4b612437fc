"""From samples to medians, ratios, and whether a goal is met. Pure: no files, no clock, no processes.

A sample is {'work', 'round', 'name', 'time' (microseconds), 'counters'}, or has 'error' in place of the last two, or
'absent' if the contestant cannot run on this machine, which nobody is blamed for. The ratio of two contestants is the
median of the ratios of those rounds that both took part in: what the machine did in one round, it did to both.
"""
from dataclasses import dataclass, field

from works import OURS


def quantile(values, q):
    """Of at least one value, linear between the two nearest."""
    ordered = sorted(values)
    at = q * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def median(values):
    return quantile(values, 0.5)


@dataclass(frozen=True)
class Spread:
    """A median with its quartiles, of `n` values."""
    median: float
    low: float
    high: float
    n: int


def spread(values):
    values = list(values)
    return Spread(median(values), quantile(values, 0.25), quantile(values, 0.75), len(values)) if values else None


class Samples:
    """The samples by work and contestant."""

    def __init__(self, samples):
        self._by_name = {}
        for sample in samples:
            self._by_name.setdefault((sample['work'], sample['name']), []).append(sample)

    def by_round(self, work, name, metric):
        """What was measured in each round; {} where the contestant did not run or does not have this metric."""
        values = {}
        for sample in self._by_name.get((work, name), ()):
            value = sample.get('time') if metric == 'time' else sample.get('counters', {}).get(metric)
            if value is not None:
                values[sample['round']] = value
        return values

    def spread(self, work, name, metric='time'):
        return spread(self.by_round(work, name, metric).values())

    def error(self, work, name):
        return self._text('error', work, name)

    def absent(self, work, name):
        """Why it cannot run here; None if it can."""
        return self._text('absent', work, name)

    def _text(self, key, work, name):
        return next((s[key] for s in self._by_name.get((work, name), ()) if key in s), None)

    def paired(self, work, name, other, metric, combine):
        mine, others = self.by_round(work, name, metric), self.by_round(work, other, metric)
        return spread(combine(mine[r], others[r]) for r in mine if r in others)

    def ratio(self, work, name, other, metric='time'):
        return self.paired(work, name, other, metric, lambda a, b: a / b if b else float('inf'))

    def difference(self, work, name, other, metric='time'):
        return self.paired(work, name, other, metric, lambda a, b: a - b)


@dataclass
class Verdict:
    """A row of the table, filled."""
    row: object
    ours: Spread = None
    floor_name: str = None
    floor: Spread = None
    floor_ratio: Spread = None
    peer_name: str = None
    peer: Spread = None
    peer_ratio: Spread = None
    judged: float = None  # what the goal's limit is compared with
    met: bool = None      # None: no goal, or no figure to judge
    absent: list = field(default_factory=list)  # floors and peers that cannot run here
    errors: list = field(default_factory=list)  # of those whom the judgement needs

    @property
    def state(self):
        if self.errors:
            return 'failed'
        if self.ours is None or (self.row.goal and self.met is None):
            return 'not run'
        return {True: 'met', False: 'missed', None: '-'}[self.met]


def best(samples, work, names, metric):
    """The contestant with the smallest median, with that median; (None, None) if none of them has samples."""
    found = [(s, name) for name in names if (s := samples.spread(work, name, metric)) is not None]
    if not found:
        return None, None
    s, name = min(found, key=lambda pair: pair[0].median)
    return name, s


def judge(row, work, samples):
    """`work` is the works.Work that the row is about: it knows the full names of its contestants."""
    verdict = Verdict(row)
    ours = work.full_name(row.ours)
    floors = [work.full_name(c) for c in row.floors]
    peers = [work.full_name(c) for c in row.peers]
    for name in (ours, *judges(row, work)):
        if (error := samples.error(row.work, name)) is not None:
            verdict.errors.append(f'{name}: {error}')
    verdict.absent = [name for name in (*floors, *peers) if samples.absent(row.work, name) is not None]
    verdict.ours = samples.spread(row.work, ours, row.metric)
    verdict.floor_name, verdict.floor = best(samples, row.work, floors, row.metric)
    verdict.peer_name, verdict.peer = best(samples, row.work, peers, row.metric)
    if verdict.floor:
        verdict.floor_ratio = samples.ratio(row.work, ours, verdict.floor_name, row.metric)
    if verdict.peer:
        verdict.peer_ratio = samples.ratio(row.work, ours, verdict.peer_name, row.metric)
    if row.goal and verdict.ours:
        judged = judged_value(row, work, verdict, samples)
        if judged is not None:
            verdict.judged = judged.median
            verdict.met = judged.median <= row.goal.limit
    return verdict


def judges(row, work):
    """The full names of those that the goal cannot be judged without."""
    if row.goal is None:
        return [work.full_name(c) for c in row.floors]
    if row.goal.kind == 'own':
        return []
    if row.goal.of:
        return [work.full_name(row.goal.of)]
    return [work.full_name(c) for c in (*row.floors, *(row.peers if row.goal.kind == 'peer' else ()))]


def judged_value(row, work, verdict, samples):
    """A Spread, or None without figures."""
    kind, of = row.goal.kind, row.goal.of
    ours = work.full_name(row.ours)
    if kind == 'absolute':
        return verdict.ours
    if kind == 'own':
        # With that of the best round: what is slow in most rounds is still slow.
        best_round = min(samples.by_round(row.work, ours, of).values(), default=None)
        values = samples.by_round(row.work, ours, row.metric).values()
        return spread(v / best_round for v in values) if best_round else None
    other = work.full_name(of) if of else verdict.peer_name if kind == 'peer' else verdict.floor_name
    if other is None:
        return None
    return (samples.difference if kind == 'over' else samples.ratio)(row.work, ours, other, row.metric)


@dataclass
class Slope:
    growth: object
    factor: float = None  # the last figure as a multiple of the first
    met: bool = None


def slope(growth, works, samples):
    """The two works run at different moments of a round, so this is a ratio of medians."""
    figures = []
    for name in (growth.first, growth.last):
        if name not in works:
            return Slope(growth)
        value = samples.spread(name, works[name].full_name(OURS), growth.metric)
        if value is None:
            return Slope(growth)
        figures.append(value.median / (float(name.rsplit('/', 1)[1]) if growth.per_byte else 1))
    factor = figures[1] / figures[0] if figures[0] > 0 else None
    met = None if growth.limit is None or factor is None else factor <= growth.limit
    return Slope(growth, factor, met)
