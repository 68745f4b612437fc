"""Draws SVG: a frame with axes, lines, dots and labels. The same input gives the same bytes.

The pictures are cards with a background of their own, light or dark as the reader's system is, so that they can be read
on any page; converters that know no style sheet queries draw them light.
"""
import math
from html import escape

WIDTH = 820
STYLE = '''
  .card { fill: #ffffff; stroke: #d0d7de; }
  text { font: 13px "DejaVu Sans", Verdana, sans-serif; fill: #1f2328; }
  .title { font-size: 16px; font-weight: bold; }
  .quiet { fill: #59636e; }
  .grid { stroke: #d8dee4; stroke-width: 1; }
  .leader { stroke: #818b98; stroke-width: 0.8; }
  .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
  .ours { font-weight: bold; }
  @media (prefers-color-scheme: dark) {
    .card { fill: #0d1117; stroke: #3d444d; }
    text { fill: #f0f6fc; }
    .quiet { fill: #9198a1; }
    .grid { stroke: #2a313c; }
  }
'''
# By contestant's part: ours, what it is held against, what others use. Each is told from both backgrounds and, by
# lightness, from the others.
COLOURS = {'ours': '#e5343d', 'floor': '#2f81f7', 'peer': '#958300'}


def number(x):
    return f'{x:.1f}'.rstrip('0').rstrip('.')


class Chart:
    """A card with a title; what is drawn on it is added piece by piece."""

    def __init__(self, title, subtitle, height):
        self.height = height
        self._parts = [f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="6"/>']
        self.text(18, 28, title, 'title')
        self.text(18, 47, subtitle, 'quiet')

    def text(self, x, y, text, classes='', anchor='start', colour=None, turned=False):
        style = f' style="fill:{colour}"' if colour else ''
        turn = f' transform="rotate(-90 {number(x)} {number(y)})"' if turned else ''
        self._parts.append(f'<text x="{number(x)}" y="{number(y)}" class="{classes}" text-anchor="{anchor}"'
                           f'{style}{turn}>{escape(text)}</text>')

    def rule(self, x1, y1, x2, y2):
        self._parts.append(f'<line class="grid" x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}"/>')

    def leader(self, x1, y1, x2, y2):
        """From the end of a line to its label."""
        self._parts.append(f'<line class="leader" x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}"/>')

    def line(self, points, colour, dashed=False):
        dash = ' stroke-dasharray="6 4"' if dashed else ''
        path = ' '.join(f'{number(x)},{number(y)}' for x, y in points)
        self._parts.append(f'<polyline class="line" stroke="{colour}"{dash} points="{path}"/>')

    def dot(self, x, y, colour, radius=4.0, hollow=False):
        fill = f'class="card" style="stroke:{colour};stroke-width:2"' if hollow else f'fill="{colour}"'
        self._parts.append(f'<circle cx="{number(x)}" cy="{number(y)}" r="{number(radius)}" {fill}/>')

    def svg(self):
        head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" width="{WIDTH}" '
                f'height="{self.height}" role="img">')
        return '\n'.join([head, f'<style>{STYLE}</style>', *self._parts, '</svg>', ''])


class Log:
    """A logarithmic axis on pixels `start` to `end`: over whole decades, or over the values and no more."""

    def __init__(self, values, start, end, whole_decades=True):
        self._low, self._high = math.log10(min(values)), math.log10(max(values))
        if whole_decades:
            self._low = math.floor(self._low + 1e-9)
            self._high = max(math.ceil(self._high - 1e-9), self._low + 1)
        self._start, self._end = start, end

    def at(self, value):
        share = (math.log10(value) - self._low) / ((self._high - self._low) or 1)
        return self._start + share * (self._end - self._start)

    def decades(self):
        return [10.0**exponent for exponent in range(math.ceil(self._low), math.floor(self._high) + 1)]


def apart(wanted, distance):
    """Positions near the wanted ones, in their order, and at least `distance` from each other: labels at line ends."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    # Groups of labels that touch; each is centred on what its members want.
    groups = []
    for i in order:
        groups.append([i])
        while len(groups) > 1 and top(groups[-1], wanted, distance) < bottom(groups[-2], wanted, distance) + distance:
            last = groups.pop()
            groups[-1] += last
    result = [0.0] * len(wanted)
    for group in groups:
        for k, i in enumerate(group):
            result[i] = top(group, wanted, distance) + k * distance
    return result


def top(group, wanted, distance):
    return sum(wanted[i] for i in group) / len(group) - (len(group) - 1) / 2 * distance


def bottom(group, wanted, distance):
    return top(group, wanted, distance) + (len(group) - 1) * distance
