"""What `./run bench` measures: the works, who takes part in each, and the goal by which each is judged.

A benchmark is named work/parameter.../contestant. A contestant is one program that prints Google Benchmark's JSON for
that name. Nothing here measures or computes; run.py and judgement.py do.
"""
from dataclasses import dataclass, replace

OURS = 'shmpool'
LARGE = 160_000_000
ARRAY_BYTES = (4096, 65_536, 1_048_576, 16_777_216, LARGE, 268_435_456, 1_073_741_824)
PYTHON = ('executor', 'shared_memory', 'joblib')
# Peers in C++, each of which needs a library that may be missing: bench/CMakeLists.txt.
MESSAGES = ('message_queue', 'zeromq_ipc', 'zeromq_inproc', 'iceoryx')
BATCHES = ('one_tbb', 'openmp')
PEERS = ('thread_pool', *MESSAGES, *BATCHES, 'managed_memory', *PYTHON)

# The C++ program that has the benchmarks of a work, by the first part of the name.
PROGRAMS = {
    'array': 'array_bench',
    'hop': 'hop_bench',
    'throughput': 'throughput_bench',
    'burst': 'throughput_bench',
    'crowded': 'crowded_bench',
    'mixed': 'mixed_bench',
    'start': 'start_bench',
    'start_first': 'start_bench',
    'replace': 'start_bench',
    'memory': 'memory_bench',
    'held_arrays': 'memory_bench',
    'idle_workers': 'hop_bench',
    'readers': 'scale_bench',
    'slices': 'scale_bench',
    'result_arrays': 'scale_bench',
}
# A name that begins with one of these is the benchmark of the rest of the name, with its system calls counted: tracing.py.
TRACED = ('calls', 'maps')


@dataclass(frozen=True)
class Work:
    """Contestants that are measured next to each other, in an order of their own each round."""
    name: str
    contestants: tuple   # last parts of the names, or complete names of benchmarks of another work
    peers: tuple = ()    # the slow ones: they take part in every third round only
    seconds: float = 0.2  # how long one sample measures
    weight: int = 1      # how many rounds it gets for one of a work of weight 1
    rounds: int = 30     # and no more than so many

    def full_name(self, contestant):
        return contestant if '/' in contestant else f'{self.name}/{contestant}'


@dataclass(frozen=True)
class Goal:
    """`limit` times the floor, or the peer; or `limit` more than the floor; or `limit` itself, in the metric's unit; or
    `limit` times another metric of ours in its best round (own). Who judges is the cheapest floor or peer, or the
    contestant `of`."""
    kind: str  # floor, peer, over, absolute, own
    limit: float
    of: str = None  # a contestant; for own a metric


@dataclass(frozen=True)
class Row:
    """A line of the table. The floor is the cheapest of `floors`, the peer that of `peers`."""
    title: str
    work: str
    floors: tuple = ()
    peers: tuple = ()
    metric: str = 'time'  # or the name of a counter
    goal: Goal = None
    ours: str = OURS


@dataclass(frozen=True)
class Growth:
    """How a figure of ours grows from one work to another, and the most that it may (none: it is only shown).
    With `per_byte` the figure of each is divided by the bytes that its name ends with."""
    title: str
    first: str
    last: str
    between: str
    limit: float = None
    per_byte: bool = False
    metric: str = 'time'


@dataclass(frozen=True)
class Plan:
    seconds: float  # the time for all of it
    works: tuple
    rows: tuple
    growths: tuple = ()


# ---- The works. Those with a goal come first: if time runs out, points of a curve are missing.

WARM, FRESH, MEMCPY = 'loop_warm', 'loop_fresh', 'memcpy'
SLEEPING_FLOORS = ('socket', 'futex')
SPINNING_FLOORS = ('polled_socket', 'polled_memory')
THROUGHPUT_FLOORS = ('two_rings', 'coalesced_socket')
MIXED = ('two_functions', 'one_function')
REPLACE_HEAPS = (0, 1_073_741_824)


def floors_of_hop(mode):
    return SPINNING_FLOORS if mode == 'spinning' else SLEEPING_FLOORS


def peers_of_hop(mode):
    """But for the thread pool, which takes part in every round."""
    return MESSAGES if mode in ('spinning', 'one_cpu') else (*MESSAGES, 'executor')


def hop(mode, size, seconds, weight=1):
    return Work(f'hop/{mode}/{size}', (OURS, 'thread_pool', *floors_of_hop(mode)), peers_of_hop(mode), seconds, weight)


def throughput_floors(parameters):
    """Messages to one other process, of one thread. parameters: outstanding/workers/threads that submit/bytes."""
    return THROUGHPUT_FLOORS if parameters.split('/')[1:3] == ['1', '1'] else ()


def throughput_peers(parameters):
    outstanding, workers, threads, _ = parameters.split('/')
    if outstanding != '1000':
        return ()
    if threads != '1':
        return ('one_tbb',)
    return (*BATCHES, *(MESSAGES if workers == '1' else ()), 'executor')


def throughput(parameters, seconds, weight=1):
    return Work(f'throughput/{parameters}', (OURS, 'thread_pool', *throughput_floors(parameters)),
                throughput_peers(parameters), seconds, weight)


def array_goals(seconds):
    large = f'/{LARGE}'
    return (
        Work('array/add_one' + large, (OURS, WARM, FRESH, MEMCPY), PYTHON, seconds, 3),
        Work('array/vector' + large, (OURS, WARM), ('executor', 'shared_memory'), seconds, 3),
        Work('array/in_place' + large, (OURS, WARM), ('shared_memory',), seconds, 3),
        Work('array/sum' + large, (OURS, WARM), PYTHON, seconds, 2),
        Work('array/dictionary' + large, (OURS, WARM), ('executor', 'shared_memory'), seconds, 2),
        Work('array/cold' + large, (OURS, f'array/add_one{large}/{OURS}', FRESH), (), seconds, 2),
    )


def hop_goals(seconds):
    return (
        hop('sleeping', 0, seconds, 3),
        hop('one_cpu', 0, seconds, 3),
        hop('spinning', 0, seconds, 3),
        hop('spinning', 4096, seconds, 3),
        hop('idle', 0, seconds, 2),
        Work('idle_workers/1000', (OURS, '1_worker'), (), seconds, 1, 10),
    )


def other_goals(seconds):
    return (
        throughput('1000/1/1/0', seconds, 3),
        throughput('1000/1/1/64', seconds, 2),
        throughput('1000/1/1/4096', seconds, 2),
        throughput('1000/2/1/0', seconds, 3),
        throughput('1000/2/4/0', seconds, 2),
        Work('calls/throughput/1000/2/1/0', (OURS,), (), seconds, 1, 3),
        Work('burst/20000/1', (OURS, 'thread_pool'), (), seconds, 2),
        Work('readers/64000', (OURS, '1000_tasks'), (), seconds, 2, 10),
        Work('slices/64000', (OURS, '1000_slices'), (), seconds, 2, 10),
        Work('result_arrays/10000', (OURS, '100_arrays'), (), seconds, 2, 10),
        Work(f'maps/array/add_one/{LARGE}', (OURS,), (), 1.0, 1, 3),  # needs a good number of tasks
        *(Work(f'mixed/{tasks}/2', (OURS, 'thread_pool', 'ideal'), (), seconds, 1, 5) for tasks in MIXED),
        Work('crowded/1', (OURS, 'spin_off'), (), seconds, 2),
        Work('start/2', (OURS, 'fork'), ('executor',), seconds, 2),
        Work('start/64', (OURS, 'fork'), ('executor',), seconds, 1),
        Work('start_first/2', (OURS, 'fork'), (), seconds, 2),
        *(Work(f'replace/{heap}', (OURS, 'fork'), ('executor',) if heap == 0 else (), seconds, 1)
          for heap in REPLACE_HEAPS),
        Work('memory/array_job', (OURS, 'payload'), (), seconds, 1, 5),
        Work('memory/queued_task', (OURS,), (), seconds, 1, 5),
        Work('memory/million_tasks', (OURS,), (), seconds, 1, 3),
        Work('held_arrays/100000', (OURS, 'heap', 'payload'), ('managed_memory',), seconds, 1, 5),
    )


# The points of the curves, with what the table calls them.
HOP_CURVES = (
    ('sleeping', 64), ('sleeping', 4096), ('sleeping', 65_536),
    ('one_cpu', 4096),
    ('spinning', 64), ('spinning', 65_536),
    ('idle', 4096),
)
THROUGHPUT_CURVES = (
    ('1000/4/1/0', '1,000 outstanding, 4 workers'),
    ('1000/8/1/0', '1,000 outstanding, 8 workers'),
    ('1000/1/4/0', '1,000 outstanding, 1 worker, 4 threads submit'),
    ('100000/1/1/0', '100,000 outstanding, 1 worker'),
    ('100000/2/1/0', '100,000 outstanding, 2 workers'),
)


def array_peers(size):
    return PYTHON if size <= LARGE else ()  # beyond, they would take minutes


def curves(seconds):
    for size in ARRAY_BYTES:
        if size != LARGE:
            yield Work(f'array/add_one/{size}', (OURS, WARM, FRESH, MEMCPY), array_peers(size), seconds)
    for mode, size in HOP_CURVES:
        yield hop(mode, size, seconds)
    for parameters, _ in THROUGHPUT_CURVES:
        yield throughput(parameters, seconds)
    yield from (Work(f'mixed/{tasks}/8', (OURS, 'thread_pool', 'ideal'), (), seconds, 1, 3) for tasks in MIXED)
    yield Work('start/16', (OURS, 'fork'), ('executor',), seconds)


# ---- The table.

MB = 1_000_000


def mixed_row(tasks, workers, goal):
    which = ', same function' if tasks == 'one_function' else ''
    return Row(f'10 us tasks among 50 ms ones{which}, {workers} workers, p99', f'mixed/{tasks}/{workers}', ('ideal',),
               ('thread_pool',), 'p99', goal)


def array_row(title, mode, floors, peers):
    return Row(title, f'array/{mode}/{LARGE}', floors, peers, goal=Goal('floor', 1.05, WARM))


def hop_row(title, mode, size, goal=None):
    """By the median: the mean has the time slices of whatever else runs, above all for those who poll."""
    return Row(title, f'hop/{mode}/{size}', floors_of_hop(mode), ('thread_pool', *peers_of_hop(mode)), 'p50', goal)


def throughput_row(title, parameters, goal=None):
    return Row(f'{title}, per task', f'throughput/{parameters}', throughput_floors(parameters),
               ('thread_pool', *throughput_peers(parameters)), goal=goal)


def of_threads(limit):
    return Goal('peer', limit, 'thread_pool')


GOAL_ROWS = (
    array_row('160 MB array of the pool, add one', 'add_one', (WARM, FRESH, MEMCPY), PYTHON),
    array_row('160 MB std::vector, add one', 'vector', (WARM,), ('executor', 'shared_memory')),
    array_row('160 MB in place', 'in_place', (WARM,), ('shared_memory',)),
    array_row('160 MB, sum', 'sum', (WARM,), PYTHON),
    array_row('160 MB in a std::map, add one', 'dictionary', (WARM,), ('executor', 'shared_memory')),
    Row('160 MB, first use, against the later ones', f'array/cold/{LARGE}', (f'array/add_one/{LARGE}/{OURS}',),
        goal=Goal('over', 25_000)),
    Row('160 MB, first use, against the loop on fresh memory', f'array/cold/{LARGE}', (FRESH,)),
    Row('160 MB, page faults per task', f'array/add_one/{LARGE}', metric='faults', goal=Goal('absolute', 0.5)),
    Row('160 MB, mmap and munmap calls per task', f'maps/array/add_one/{LARGE}', metric='per_task',
        goal=Goal('absolute', 0.01)),
    hop_row('empty task, sleeping', 'sleeping', 0, Goal('floor', 1.2)),
    hop_row('empty task, sleeping, all on one CPU', 'one_cpu', 0, Goal('floor', 1.3)),
    hop_row('empty task, first after 10 ms', 'idle', 0, Goal('floor', 1.2)),
    hop_row('empty task, spinning', 'spinning', 0, Goal('floor', 4)),
    hop_row('empty task, spinning, against a thread', 'spinning', 0, of_threads(0.2)),
    Row('empty task, spinning, slowest block of 2,000', 'hop/spinning/0', SPINNING_FLOORS, metric='p50_worst_block',
        goal=Goal('own', 2, 'p50')),
    hop_row('4 KiB message, spinning', 'spinning', 4096, Goal('floor', 3)),
    Row('empty task beside 1,000 idle workers', 'idle_workers/1000', ('1_worker',), metric='p50',
        goal=Goal('floor', 1.1)),
    throughput_row('1,000 outstanding, 1 worker', '1000/1/1/0', of_threads(0.6)),
    throughput_row('1,000 outstanding, 1 worker, 64 B', '1000/1/1/64', of_threads(0.8)),
    throughput_row('1,000 outstanding, 1 worker, 4 KiB', '1000/1/1/4096', of_threads(0.8)),
    throughput_row('1,000 outstanding, 1 worker, 4 KiB, against the floor', '1000/1/1/4096', Goal('floor', 2)),
    throughput_row('1,000 outstanding, 2 workers', '1000/2/1/0', of_threads(1)),
    Row('1,000 outstanding, 2 workers, against Python', 'throughput/1000/2/1/0', (), ('executor',),
        goal=Goal('peer', 0.01)),
    throughput_row('1,000 outstanding, 2 workers, 4 threads submit', '1000/2/4/0', of_threads(1)),
    Row('1,000 outstanding, system calls per task in the parent', 'calls/throughput/1000/2/1/0', metric='per_task',
        goal=Goal('absolute', 0.1)),
    Row('20,000 tasks to a new pool of 1, all of them', 'burst/20000/1', (), ('thread_pool',), goal=of_threads(1.5)),
    Row('one of 64,000 tasks that read one array', 'readers/64000', ('1000_tasks',), goal=Goal('floor', 1.2)),
    Row('one of 64,000 tasks on slices of one array', 'slices/64000', ('1000_slices',), goal=Goal('floor', 1.2)),
    Row('one of 10,000 arrays in a result', 'result_arrays/10000', ('100_arrays',), goal=Goal('floor', 1.2)),
    *(mixed_row(tasks, 2, Goal('floor', 2)) for tasks in MIXED),
    Row('all work, where more computes than there are CPUs', 'crowded/1', ('spin_off',), goal=Goal('floor', 1.02)),
    Row('pool of 2, ready', 'start/2', ('fork',), ('executor',), goal=Goal('absolute', 5_000)),
    Row('pool of 64, ready', 'start/64', ('fork',), ('executor',), goal=Goal('absolute', 60_000)),
    Row('first pool of the program, of 2, ready', 'start_first/2', ('fork',), goal=Goal('floor', 2.5)),
    Row('worker replaced', 'replace/0', ('fork',), ('executor',), goal=Goal('absolute', 2_000)),
    Row('worker replaced, 1 GiB heap', f'replace/{REPLACE_HEAPS[1]}', ('fork',), goal=Goal('absolute', 2_000)),
    Row('memory of the 160 MB job beyond its arrays', 'memory/array_job', ('payload',), metric='bytes',
        goal=Goal('over', 10 * MB)),
    Row('memory of a queued empty task', 'memory/queued_task', metric='bytes', goal=Goal('absolute', 320)),
    Row('growth over 1,000,000 tasks', 'memory/million_tasks', metric='bytes', goal=Goal('absolute', 256_000)),
    Row('one of 100,000 arrays of 4 KiB, made', 'held_arrays/100000', ('heap',), ('managed_memory',),
        goal=Goal('absolute', 0.5)),
    Row('one of 100,000 arrays of 4 KiB, made again', 'held_arrays/100000', ('heap',), ('managed_memory',),
        'time_again', Goal('absolute', 0.5)),
    Row('memory of 100,000 arrays of 4 KiB', 'held_arrays/100000', ('payload', 'heap'), ('managed_memory',), 'bytes',
        Goal('floor', 1.1, 'payload')),
)


def curve_rows():
    for size in ARRAY_BYTES:
        if size != LARGE:
            yield Row(f'{bytes_text(size)} array, add one', f'array/add_one/{size}', (WARM, FRESH, MEMCPY),
                      array_peers(size))
    for mode, size in HOP_CURVES:
        yield hop_row(f'{bytes_text(size)} message, {mode}', mode, size)
    for parameters, title in THROUGHPUT_CURVES:
        yield throughput_row(title, parameters)
    for tasks in MIXED:
        yield mixed_row(tasks, 8, None)
    yield Row('pool of 16, ready', 'start/16', ('fork',), ('executor',))


GROWTHS = (
    Growth('throughput over workers, per task', 'throughput/1000/1/1/0', 'throughput/1000/8/1/0',
           'from 1 to 8 workers'),
    Growth('throughput over outstanding tasks, per task', 'throughput/1000/2/1/0', 'throughput/100000/2/1/0',
           'from 1,000 to 100,000 outstanding'),
    Growth('hop over message size', 'hop/sleeping/0', 'hop/sleeping/4096', 'from 0 to 4096 bytes',
           metric='p50'),
    Growth('array, per byte', f'array/add_one/{LARGE}', 'array/add_one/1073741824', 'from 160 MB to 1 GiB',
           per_byte=True),
    Growth('replacement over heap', 'replace/0', f'replace/{REPLACE_HEAPS[1]}', 'from 0 to 1 GiB of heap', 1.2),
)


def bytes_text(count):
    """Of a size that was chosen: 64 KiB, 160 MB, 0 B."""
    if count and count % MB == 0:
        return f'{count // MB} MB'
    for size, unit in ((2**30, 'GiB'), (2**20, 'MiB'), (2**10, 'KiB')):
        if count >= size and count % size == 0:
            return f'{count // size} {unit}'
    return f'{count} B'


def full():
    # 15 minutes with what has to be linked first.
    goals = array_goals(0.2) + hop_goals(0.2) + other_goals(0.2)
    return Plan(13.5 * 60, goals + tuple(curves(0.2)), GOAL_ROWS + tuple(curve_rows()), GROWTHS)


def quick():
    """The works with a goal, with shorter samples."""
    return Plan(110, array_goals(0.05) + hop_goals(0.1) + other_goals(0.1), GOAL_ROWS,
                tuple(g for g in GROWTHS if g.last.startswith('replace')))


def select(plan, wanted):
    """The part of the plan whose works have names that are wanted."""
    names = {work.name for work in plan.works if wanted(work.name)}
    return replace(plan, works=tuple(w for w in plan.works if w.name in names),
                   rows=tuple(r for r in plan.rows if r.work in names),
                   growths=tuple(g for g in plan.growths if {g.first, g.last} <= names))
