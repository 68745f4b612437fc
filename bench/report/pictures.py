"""The pictures of a run: array round trips over size, the latency of a hop, throughput."""
import works
from .chart import COLOURS, WIDTH, Chart, Log, apart
from .judgement import quantile
from .text import duration, short
from works import MESSAGES, OURS, PEERS, PYTHON

# How a contestant is called where there is room for a few words.
WORDS = {
    'shmpool': 'shmpool', 'loop_warm': 'plain loop', 'loop_fresh': 'plain loop, fresh memory', 'memcpy': 'memcpy',
    'executor': 'Python executor', 'shared_memory': 'Python shared_memory', 'joblib': 'Python joblib',
    'thread_pool': 'asio::thread_pool', 'socket': 'socket ping-pong', 'polled_socket': 'polled socket ping-pong',
    'polled_memory': 'polled memory ping-pong', 'futex': 'futex ping-pong', 'message_queue': 'Boost message_queue',
    'coalesced_socket': 'socket, batched frames', 'two_rings': 'two rings in memory', 'zeromq_ipc': 'ZeroMQ ipc',
    'zeromq_inproc': 'ZeroMQ inproc', 'iceoryx': 'iceoryx', 'one_tbb': 'oneTBB tasks', 'openmp': 'OpenMP tasks',
}


def part(who):
    return 'ours' if who == OURS else 'peer' if who in PEERS else 'floor'


def shown(who):
    return 'ours' if who == OURS else ''


def array_chart(samples):
    """Lines over size, log-log, labelled at their ends."""
    lines = []
    for who in (OURS, 'memcpy', 'loop_warm', 'loop_fresh', *PYTHON):
        points = [(size, s.median) for size in works.ARRAY_BYTES
                  if (s := samples.spread(f'array/add_one/{size}', f'array/add_one/{size}/{who}'))]
        if points:
            lines.append((who, points))
    if not lines:
        return None
    chart = Chart('Add one to an array of doubles: time over size',
                  'shmpool computes in another process; the blue floors compute in this one. Medians.', 470)
    left, right, upper, lower = 90, WIDTH - 205, 66, 416
    x = Log([size for _, points in lines for size, _ in points], left + 20, right - 10, whole_decades=False)
    y = Log([time for _, points in lines for _, time in points], lower, upper)
    sizes = [size for size in works.ARRAY_BYTES if any(size == s for _, points in lines for s, _ in points)]
    for size in sizes:
        chart.rule(x.at(size), upper, x.at(size), lower)
        if size != 268_435_456 or works.LARGE not in sizes:  # these two are too near to each other for two labels
            chart.text(x.at(size), lower + 20, works.bytes_text(size), 'quiet', 'middle')
    for time in y.decades():
        chart.rule(left, y.at(time), right, y.at(time))
        chart.text(left - 8, y.at(time) + 4, short(duration(time)), 'quiet', 'end')
    chart.text((left + right) / 2, lower + 42, 'bytes of the array', 'quiet', 'middle')
    chart.text(20, (upper + lower) / 2, 'time of one round trip', 'quiet', 'middle', turned=True)
    ends = apart([y.at(points[-1][1]) for _, points in lines], 17)
    for (who, points), end in reversed(list(zip(lines, ends))):
        colour = COLOURS[part(who)]
        chart.line([(x.at(s), y.at(t)) for s, t in points], colour, dashed=who in ('memcpy', 'loop_fresh', 'joblib'))
        for s, t in points:
            chart.dot(x.at(s), y.at(t), colour, 3)
        chart.leader(x.at(points[-1][0]) + 5, y.at(points[-1][1]), right + 14, end)
        chart.text(right + 18, end + 4, WORDS[who], shown(who), colour=colour)
    return chart.svg()


class Rows:
    """A chart of blocks of rows, one for each contestant, over one logarithmic axis. `blocks`: title, [(who, values)]."""

    def __init__(self, title, subtitle, blocks, left, right, upper, step, gap):
        self.blocks, self.left, self.right, self.upper, self.step, self.gap = blocks, left, right, upper, step, gap
        self.lower = upper + sum((len(rows) + 1) * step + gap for _, rows in blocks)
        self.chart = Chart(title, subtitle, self.lower + 58)

    def draw(self, draw_row, label, axis, overhang):
        x = Log([value for _, rows in self.blocks for _, values in rows for value in values], self.left, self.right)
        for decade in x.decades():
            self.chart.rule(x.at(decade), self.upper - overhang, x.at(decade), self.lower)
            self.chart.text(x.at(decade), self.lower + 20, label(decade), 'quiet', 'middle')
        self.chart.text((self.left + self.right) / 2, self.lower + 42, axis, 'quiet', 'middle')
        y = self.upper
        for title, rows in self.blocks:
            self.chart.text(18, y + 4, title, 'quiet')
            y += self.step
            for who, values in rows:
                draw_row(self.chart, x, y, who, values, self.left)
                y += self.step
            y += self.gap
        return self.chart.svg()


def hop_chart(samples):
    """For each contestant a row with its quantiles, log."""
    blocks = []
    for title, work, contestants in (
            ('sleeping between tasks', 'hop/sleeping/0',
             (OURS, 'socket', 'futex', 'thread_pool', *MESSAGES, 'executor')),
            ('spinning', 'hop/spinning/0', (OURS, 'polled_socket', 'polled_memory', 'thread_pool', *MESSAGES))):
        rows = [(who, quantiles) for who in contestants if (quantiles := hop_quantiles(samples, work, who))]
        if rows:
            blocks.append((title, rows))
    if not blocks:
        return None
    chart = Rows('An empty task in another process and back: latency',
                 'One task at a time. Filled: median; hollow: 99 % and 99.9 % of the tasks are faster.', blocks,
                 left=200, right=WIDTH - 40, upper=88, step=24, gap=6)
    return chart.draw(quantile_row, lambda time: short(duration(time)), 'time from submit to completion', 12)


def hop_quantiles(samples, work, who):
    """The medians over rounds of p50, p99 and p99.9."""
    name = f'{work}/{who}'
    spreads = [samples.spread(work, name, metric) for metric in ('p50', 'p99', 'p999')]
    return [s.median for s in spreads] if all(spreads) else None


def quantile_row(chart, x, y, who, quantiles, left):
    colour = COLOURS[part(who)]
    chart.text(left - 14, y + 4, WORDS[who], shown(who), 'end', colour)
    chart.line([(x.at(quantiles[0]), y), (x.at(quantiles[-1]), y)], colour)
    for value in quantiles[:0:-1]:
        chart.dot(x.at(value), y, colour, 3.5, hollow=True)
    chart.dot(x.at(quantiles[0]), y, colour, 5)
    chart.text(x.at(quantiles[0]), y - 8, duration(quantiles[0]), shown(who), 'middle', colour)


def throughput_chart(samples):
    """Tasks per second, log, by what is outstanding and how many workers there are."""
    blocks = []
    for title, work in (('1 worker', 'throughput/1000/1/1/0'), ('2 workers', 'throughput/1000/2/1/0'),
                        ('8 workers', 'throughput/1000/8/1/0'), ('1 worker, 4 KiB', 'throughput/1000/1/1/4096')):
        rows = []
        for who in (OURS, *works.THROUGHPUT_FLOORS, 'thread_pool', *works.BATCHES, *MESSAGES, 'executor'):
            times = samples.by_round(work, f'{work}/{who}', 'time')
            if times:
                rows.append((who, [1e6 / t for t in times.values()]))
        if rows:
            blocks.append((title, rows))
    if not blocks:
        return None
    chart = Rows('Empty tasks, 1,000 outstanding: tasks per second',
                 'One thread submits. Medians; the line spans the quartiles of the rounds.', blocks,
                 left=210, right=WIDTH - 90, upper=84, step=22, gap=8)
    return chart.draw(rate_row, lambda rate: f'{rate:,.0f}', 'tasks per second', 10)


def rate_row(chart, x, y, who, rates, left):
    colour = COLOURS[part(who)]
    middle, low, high = (quantile(rates, q) for q in (0.5, 0.25, 0.75))
    chart.text(left - 14, y + 4, WORDS[who], shown(who), 'end', colour)
    chart.rule(left, y, x.at(low), y)
    chart.line([(x.at(low), y), (x.at(high), y)], colour)
    chart.dot(x.at(middle), y, colour, 5)
    chart.text(max(x.at(middle), x.at(high)) + 10, y + 4, rate_text(middle), shown(who), colour=colour)


def rate_text(rate):
    """Three digits of it."""
    return f'{float(f"{rate:.3g}"):,.0f}/s'


def all_pictures(samples):
    """SVG by name; without those for which there is nothing to draw."""
    drawn = {'array': array_chart(samples), 'hop': hop_chart(samples), 'throughput': throughput_chart(samples)}
    return {name: svg for name, svg in drawn.items() if svg}
