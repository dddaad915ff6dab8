"""Small drawings, written as SVG here: lines, dots and bars over a few pairs of axes.

A report has hundreds of them, one for each claim and for each cell that was looked into. What takes a drawing library a quarter
of a second, most of it to find room for words, takes some milliseconds where the room is known. They look like the others
(`gt.report.drawing`). Lengths are in points, from the left and the top.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from html import escape
from typing import Any

from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ft2font import LoadFlags
from matplotlib.ticker import LogLocator, MaxNLocator

from gt.report.svg import AXES, COMMON, NAMESPACE, SERIES, outline

# Text and axes, which the report gives the colour of its own text, and what stands behind.
INK, GREY = "#24292f", "#8c8c8c"
FONT = "DejaVu Sans"
# Of words: what numbers and labels have, and titles.
SIZE, TITLE = 9.0, 10.0
# Of a scale, what is left at either end.
ROOM = 0.05
# A log scale over less than so many times has more than the powers of ten on it.
NARROW = 300


@dataclass(frozen=True)
class Scale:
    """The numbers of an axis, from low to high, which may be the other way round; log: by their logarithms. names: what stands
    at 0, 1 .. in place of numbers.
    """

    low: float
    high: float
    log: bool = False
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, values: Iterable[float], log: bool = False) -> Scale:
        """Of all these, with room at both ends."""
        known = [math.log(value) if log else value for value in values if math.isfinite(value)]
        low, high = min(known), max(known)
        room = ROOM * (high - low) or ROOM * abs(high) or ROOM
        low, high = low - room, high + room
        return cls(math.exp(low), math.exp(high), log) if log else cls(low, high)

    @classmethod
    def named(cls, names: Iterable[str]) -> Scale:
        """Of names, the first on top."""
        known = tuple(names)
        return cls(len(known) - 0.4, -0.6, names=known)

    def share(self, value: float) -> float:
        """Where a number is, of the way from low to high."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int, integer: bool = False) -> list[tuple[float, str]]:
        """Round numbers, at most so many, and what is written there."""
        if self.names:
            return list(enumerate(self.names))
        if self.log:
            found = LogLocator(subs=(1.0, 2.0, 5.0) if self.high < NARROW * self.low else (1.0,)).tick_values(
                self.low, self.high
            )
        else:
            steps = None if integer else (1, 2, 2.5, 5, 10)
            found = MaxNLocator(most, integer=integer, steps=steps).tick_values(self.low, self.high)
        return [(float(own), f"{own + 0.0:g}".replace("-", "−")) for own in found if self.low <= own <= self.high]

    def said(self, label: str) -> list[str]:
        """What a reader's pointer is told of it."""
        kind = "names" if self.names else "log" if self.log else "linear"
        return [f"{self.low:.7g}", f"{self.high:.7g}", kind, label]


@dataclass
class Pane:
    """A pair of axes: where they are, their scales, and what is drawn on them so far."""

    left: float
    top: float
    width: float
    height: float
    x: Scale
    y: Scale
    drawn: list[str] = field(default_factory=list)
    label: str = ""
    other: str = ""

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point is."""
        return self.left + self.width * self.x.share(x), self.top + self.height * (1 - self.y.share(y))

    def line(self, points: Iterable[tuple[float, float]], colour: str, series: str = "", **look: Any) -> None:
        """Through points; what is not finite is a gap. look: as `stroke` has it."""
        d, on = "", False
        for x, y in points:
            there = math.isfinite(x) and math.isfinite(y)
            if there:
                px, py = self.at(x, y)
                d += f"{'L' if on else 'M'} {px:.4f} {py:.4f} "
            on = there
        if d:
            self.drawn.append(f'<path d="{outline(d)}" fill="none"{stroke(colour, **look)}{_series(series)}/>')

    def dots(
        self,
        points: Iterable[tuple[float, float]],
        colour: str,
        radius: float,
        series: str = "",
        alpha: float = 1,
        edge: str = "",
    ) -> None:
        """As ends of strokes without a length, which takes a fifth of what circles take. edge: the colour around them."""
        d = "".join(f"M{px:.1f} {py:.1f}h.01" for px, py in (self.at(x, y) for x, y in points))
        if d:
            dot = f'<path d="{d}" stroke-linecap="round"'
            below = [f"{dot}{stroke(edge, 2 * radius + 1)}/>"] if edge else []
            self.drawn += [*below, f"{dot}{stroke(colour, 2 * radius, alpha=alpha)}{_series(series)}/>"]

    def across(self, colour: str, x: float | None = None, y: float | None = None, **look: Any) -> None:
        """A line from one side to the other."""
        d = f"M{self.left + self.width * self.x.share(x):.1f} {self.top:.1f}v{self.height:.1f}" if x is not None else ""
        d += f"M{self.left:.1f} {self.top + self.height * (1 - self.y.share(y)):.1f}h{self.width:.1f}" if y is not None else ""
        self.drawn.append(f'<path d="{d}"{stroke(colour, **look)}/>')

    def axes(
        self, x: Sequence[tuple[float, str]], y: Sequence[tuple[float, str]], size: float = SIZE, grid: str = "xy"
    ) -> None:
        """The grid, which goes below what is drawn, the axes and their numbers."""
        right, bottom = self.left + self.width, self.top + self.height
        along = [(self.left + self.width * self.x.share(value), said) for value, said in x]
        up = [(self.top + self.height * (1 - self.y.share(value)), said) for value, said in y]
        lines = "".join(f"M{px:.1f} {self.top:.1f}v{self.height:.1f}" for px, _ in along) if "x" in grid else ""
        lines += "".join(f"M{self.left:.1f} {py:.1f}h{self.width:.1f}" for py, _ in up) if "y" in grid else ""
        if lines:
            self.drawn.insert(0, f'<path d="{lines}"{stroke(GREY, 0.6, alpha=0.25)}/>')
        spines = f"M{self.left:.1f} {self.top:.1f}V{bottom:.1f}H{right:.1f}"
        self.drawn.append(f'<path d="{spines}" fill="none"{stroke(INK, 0.8)}/>')
        self.drawn += [words(px, bottom + 4 + 0.8 * size, said, size, "middle") for px, said in along]
        self.drawn += [words(self.left - 4, py + 0.35 * size, said, size, "end") for py, said in up]

    def svg(self) -> str:
        box = (self.left, self.top, self.left + self.width, self.top + self.height)
        said = "|".join([*(f"{place:.1f}" for place in box), *self.x.said(self.label), *self.y.said(self.other)])
        return f'<g {AXES}="{escape(said)}">{"".join(self.drawn)}</g>'


@dataclass(frozen=True)
class Plot:
    """Panes, and words beside them, on a drawing of this size."""

    width: float
    height: float
    panes: list[Pane]
    words: list[str] = field(default_factory=list)

    @cached_property
    def svg(self) -> str:
        size = f'width="{self.width:.1f}pt" height="{self.height:.1f}pt" viewBox="0 0 {self.width:.1f} {self.height:.1f}"'
        common = "".join(f' {name}="{value}"' for name, value in COMMON.items())
        drawn = "".join([*(pane.svg() for pane in self.panes), *self.words])
        return f'<svg xmlns="{NAMESPACE}" {size}{common}>{drawn}</svg>\n'


def stroke(colour: str, width: float, dash: str = "", alpha: float = 1.0) -> str:
    """The attributes of a line."""
    more = (f' stroke-dasharray="{dash}"' if dash else "") + (f' stroke-opacity="{alpha:g}"' if alpha < 1 else "")
    return f' stroke="{colour}" stroke-width="{width:g}"{more}'


def words(
    x: float, y: float, said: str, size: float = SIZE, anchor: str = "start", bold: bool = False, turned: bool = False
) -> str:
    """A line of words; y is that of its letters' feet. turned: it runs upwards."""
    more = (f' text-anchor="{anchor}"' if anchor != "start" else "") + (' font-weight="bold"' if bold else "")
    more += f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="{INK}"{more}>{escape(said)}</text>'


def _series(said: str) -> str:
    return f' {SERIES}="{escape(said)}"' if said else ""


@cache
def extent(said: str, size: float = SIZE, bold: bool = False) -> float:
    """How wide a line of words is."""
    font = get_font(findfont(FontProperties(family=FONT, weight="bold" if bold else "normal")))
    font.set_size(size, 72)
    font.set_text(said, 0.0, flags=LoadFlags.NO_HINTING)
    width, _ = font.get_width_height()
    return float(width) / 64
