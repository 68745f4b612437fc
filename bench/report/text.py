"""Figures as text: three digits and a unit that fits."""


def digits(value):
    """Three significant ones, without an exponent."""
    if value == 0:
        return '0'
    magnitude = abs(value)
    for decimals, limit in ((3, 0.1), (2, 9.995), (1, 99.95)):
        if magnitude < limit:
            return f'{value:.{decimals}f}'
    return f'{value:,.0f}'


def duration(microseconds):
    magnitude = abs(microseconds)
    for factor, unit in ((1e6, 's'), (1e3, 'ms'), (1, 'us')):
        if magnitude >= factor * 0.9995:
            return f'{digits(microseconds / factor)} {unit}'
    return f'{digits(microseconds * 1e3)} ns'


def size(count):
    magnitude = abs(count)
    for factor, unit in ((1e9, 'GB'), (1e6, 'MB'), (1e3, 'kB')):
        if magnitude >= max(factor * 0.9995, 10_000):
            return f'{digits(count / factor)} {unit}'
    return f'{count:,.0f} B'


def quantity(value, metric):
    if metric in ('time', 'time_again', 'p50', 'p50_worst_block', 'p99', 'p999', 'cpu'):
        return duration(value)
    return size(value) if metric == 'bytes' else digits(value)


def ratio(value):
    """1.04, or 1/150 for what is far below one."""
    if value == 0:
        return '0'
    return f'1/{digits(1 / value)}' if value < 0.1 else digits(value)


def short(figure):
    """Of a limit or a power of ten, without digits that say nothing: 1.1 for 1.10, 5 ms for 5.00 ms."""
    number, space, unit = figure.partition(' ')
    return (number.rstrip('0').rstrip('.') if '.' in number else number) + space + unit
