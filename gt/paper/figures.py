"""The figures of a paper, each drawn from rows, with the words for those who cannot see it made of the same numbers.

They are read at the width of a column: few rows, names beside what they name. A variant has one colour and one marker in all
figures of a paper, both told apart by the colour-blind and, by marker, name and place, in grey.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from gt.analysis.aggregate import MARGIN
from gt.analysis.claims import Interval, Threshold
from gt.analysis.statistics import mean_interval
from gt.errors import ConfigError
from gt.paper import file
from gt.paper.facts import Facts, Shown, Sized, Tested
from gt.report import text
from gt.report.drawing import COLOURS, GREY, GRID, MARKERS, SHORT, STYLE, Look, right_labels, save
from gt.report.ladders import draw_arm
from gt.report.numbers import settings
from gt.report.plot import INK

# Inches: a column of a page, and both.
COLUMN, WIDE = 3.4, 7.0
# Letters of the words above a row, at these widths.
LETTERS = {COLUMN: 52, WIDE: 92}
SMALL = 7.5
# Inches between the lines of a label, and that a row of marks takes.
LEADING, ROW = 0.145, 0.165
PLAIN = FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−"))
# Of a study's title.
LONGEST = 46
SIZES: Any = STYLE | {"font.size": 8, "axes.titlesize": 8, "axes.linewidth": 0.7}
WAYS = (("zero", "zero", "●"), ("mean", "its mean", "□"), ("shuffle", "another text’s", "◆"))
# How dense a band is.
BAND = 0.22
TUNED = "each at its best rate"


@dataclass(frozen=True)
class Made:
    """A figure, the words in its place, and the numbers that both have."""

    figure: Figure
    alt: str
    shown: list[Shown]
    wide: bool = False


@dataclass
class Palette:
    """Each variant's look: of those that lines and rows tell apart by it, in their order, and the text's colour for others."""

    looks: dict[str, Look] = field(default_factory=dict)

    def add(self, figure: file.Figure | None, facts: Facts) -> None:
        """Those of a figure that have none yet. Figures are all added before any is drawn."""
        for variant in _told_apart(figure, facts):
            n = len(self.looks)
            marker = MARKERS[(n + n // len(COLOURS)) % len(MARKERS)]
            self.looks.setdefault(variant, Look(COLOURS[n % len(COLOURS)], "-", marker))

    def of(self, variant: str) -> Look:
        return self.looks.get(variant, Look(INK, "-", "o"))


def _told_apart(figure: file.Figure | None, facts: Facts) -> Iterator[str]:
    """The variants that have a line or a row of marks."""
    match figure:
        case file.Sweep():
            yield from figure.variants
        case file.Curves():
            yield from (facts.cell(figure.study, label, figure.corpus, figure.tokenizer).variant for label in figure.cells)
        case file.Windows() | file.Shares():
            yield from (facts.cell(figure.study, label).variant for label in figure.cells)
        case file.Ladder():
            yield from (arm.cells[0].variant for found in facts.study(figure.study).ladders for arm in found.arms)


Words = Callable[[str], str]


def draw(asked: file.Figure, facts: Facts, palette: Palette, words: Words) -> Made:
    """words: what turns an author's template into text. ConfigError for what the studies do not have."""
    draws: dict[str, Callable[..., Made]] = {
        "studies": studies,
        "forest": forest,
        "sweep": sweep,
        "curves": curves,
        "windows": windows,
        "shares": shares,
        "ladder": ladder,
        "claimed": claimed,
    }
    with matplotlib.rc_context(SIZES):
        return draws[asked.kind](asked, facts, palette, words)


def questions(asked: Sequence[file.Question], facts: Facts, palette: Palette, words: Words) -> Made:
    """The forest of a paper's questions, with its intervals in figures beside it."""
    with matplotlib.rc_context(SIZES):
        return forest(file.Forest(kind="forest", title="", caption="", contrasts=list(asked)), facts, palette, words, WIDE)


def keep(made: Made, path: Path) -> None:
    """Writes a figure in the format of the file's ending."""
    with matplotlib.rc_context(SIZES):
        save(made.figure, path, path.suffix.removeprefix("."))


def framed(height: float, width: float = COLUMN, columns: int = 1) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(1, columns, squeeze=False).flat)
    for ax in axes:
        ax.grid(**GRID)
    return figure, axes


def studies(asked: file.Studies, facts: Facts, palette: Palette, words: Words) -> Made:
    """A bar for the runs of each study, the longest on top; beside it how many models, seeds and learning rates it has."""
    rows = sorted(facts.studies.values(), key=lambda own: (-own.coverage["completed"], own.study))
    figure, (ax,) = framed(0.2 * len(rows) + 0.55, WIDE)
    said, shown = [], []
    for y, own in enumerate(rows):
        n = facts.count("runs", study=own.study)
        rates = {facts.spec(own.study, cell).training.learning_rate for cell in own.plan.cells}
        several = bool(own.plan.tunings) or len(rates) > 1
        ax.barh(y, own.coverage["completed"], color=COLOURS[0] if several else COLOURS[5], height=0.7)
        models = text.plural(len({row["variant"] for row in own.run_cells}), "model")
        how = f"{n}: {models}, {own.seeds}, {'tuned' if own.plan.tunings else text.plural(len(rates), 'learning rate')}"
        ax.text(1.02, y, how, transform=ax.get_yaxis_transform(), va="center", fontsize=SMALL, clip_on=False)
        said.append(f"{own.title}, {how}")
        shown.append(n)
    ax.set_yticks(range(len(rows)), [textwrap.shorten(own.title, LONGEST, placeholder=" …") for own in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("runs; dark: several learning rates, light: one")
    ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    return Made(figure, f"Runs by study. {'; '.join(said)}.", shown, wide=True)


@dataclass(frozen=True)
class Contrast:
    """A question's answers: at the rate that all models had, and with each tuned."""

    ask: str
    untuned: Sized | None
    tuned: Sized | None
    look: Look

    @property
    def both(self) -> list[tuple[str, Sized]]:
        known = (("all at one rate", self.untuned), (TUNED, self.tuned))
        return [(how, own) for how, own in known if own is not None]


def contrasts_of(asked: Sequence[file.Question], facts: Facts, palette: Palette, words: Words) -> list[Contrast]:
    def sized(pair: file.Pair | None) -> Sized | None:
        return None if pair is None else facts.difference(pair.study, pair.a, pair.b, pair.corpus, pair.tokenizer)

    found = []
    for own in asked:
        if (first := own.untuned or own.tuned) is None:
            raise ConfigError(f"{own.ask!r} needs `untuned`, `tuned` or both.")
        variant = facts.cell(first.study, first.a, first.corpus, first.tokenizer).variant
        found.append(Contrast(words(own.ask), sized(own.untuned), sized(own.tuned), palette.of(variant)))
    return found


def forest(asked: file.Forest, facts: Facts, palette: Palette, words: Words, width: float = COLUMN) -> Made:
    """A question above its differences: hollow at the rate that all models had, filled where each is tuned."""
    found = contrasts_of(asked.contrasts, facts, palette, words)
    labels = [textwrap.wrap(own.ask, LETTERS[width]) for own in found]
    height = sum(LEADING * len(label) + ROW * len(own.both) + 0.08 for label, own in zip(labels, found, strict=True))
    figure, (ax,) = framed(height + (0.72 if any(len(own.both) > 1 for own in found) else 0.58), width)
    margin = 0.0
    if asked.margin and (first := asked.contrasts[0].untuned or asked.contrasts[0].tuned):
        margin = MARGIN * facts.mean(first.study, first.b, first.corpus, first.tokenizer).mean
    y, said, shown = 0.0, [], []
    beside = ax.get_yaxis_transform()
    for label, own in zip(labels, found, strict=True):
        ax.text(0.0, y, "\n".join(label), transform=beside, va="top", fontsize=8)
        y += LEADING * len(label) + ROW / 2
        # Nothing strikes the words out: zero and the margin are drawn beside marks alone.
        rows = [y - ROW / 2, y + ROW * (len(own.both) - 0.5)]
        ax.fill_betweenx(rows, -margin, margin, color=GREY, alpha=0.25, linewidth=0)
        ax.plot([0, 0], rows, color=GREY, linewidth=1, solid_capstyle="butt")
        parts = []
        for how, sized in own.both:
            if sized.bounds:
                ax.plot(sized.bounds, [y, y], color=own.look.colour, linewidth=1.8, solid_capstyle="butt", zorder=2)
            fill = own.look.colour if how == TUNED else "white"
            point: dict[str, Any] = {"markerfacecolor": fill, "markeredgecolor": own.look.colour, "markeredgewidth": 1.3}
            ax.plot(sized.mean, y, own.look.marker, markersize=5.5, zorder=3, **point)
            number = text.signed(sized.mean, 3) + (f"  {_bounds(sized)}" if width == WIDE else "")
            ax.text(1.02, y, number, transform=beside, va="center", fontsize=SMALL, clip_on=False)
            inside = f" (95 % interval {sized.interval}, {sized.n})" if sized.bounds else ""
            parts.append(f"{how} {sized.size}{inside}")
            shown.append(sized.full)
            y += ROW
        said.append(f"{' '.join(label)}: {', '.join(parts)}")
        y += 0.08 - ROW / 2
    ax.set_ylim(y, -0.04)
    ax.grid(visible=False)
    ax.yaxis.set_major_locator(NullLocator())
    ax.spines["left"].set_visible(False)
    ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.xaxis.set_major_formatter(PLAIN)
    hows = {how for own in found for how, _ in own.both}
    key = "○ all at one rate   ● each at its best rate tried\n" if len(hows) > 1 else ""
    ax.set_xlabel(f"{key}bits per byte; left of zero the first is lower", fontsize=SMALL if width == COLUMN else 8)
    return Made(figure, f"Differences in bits per byte. {'; '.join(said)}.", shown, wide=width == WIDE)


def _bounds(sized: Sized) -> str:
    return text.interval(*sized.bounds, digits=3) if sized.bounds else ""


def sweep(asked: file.Sweep, facts: Facts, palette: Palette, words: Words) -> Made:
    """Means with intervals along a number, each variant's name at the end of its line."""
    own = facts.study(asked.study)
    corpora = asked.corpora or list(dict.fromkeys(row["corpus"] for row in own.run_cells))
    wide, across = len(corpora) > 1, asked.across or asked.along.replace("_", " ")
    figure, axes = framed(2.35, WIDE if wide else COLUMN, len(corpora))
    said, shown = [], []
    for ax, corpus in zip(axes, corpora, strict=True):
        ends, style, places = [], {}, set()
        for variant in asked.variants:
            points = list(_along(asked, facts, variant, corpus))
            if not points:
                raise ConfigError(f"{asked.study}: no cell of {variant} on {corpus} varies {asked.along} alone.")
            look = style[variant] = palette.of(variant)
            _line(ax, points, look)
            ends.append((variant, points[-1][0], points[-1][1].mean))
            at = [f"{sized.size} at {x:g}" for x, sized in points]
            said.append(f"{variant}{f' on {corpus}' if wide else ''}: {', '.join(at)}")
            shown += [sized.full for _, sized in points]
            places |= {x for x, _ in points}
        _numbers(ax, sorted(places))
        if asked.same:
            low, high = ax.get_xlim()
            ax.plot([low, high], [low, high], color=GREY, linewidth=0.9, linestyle=":", zorder=1)
            ax.set_xlim(low, high)
        ax.set_xlabel(across)
        ax.set_ylabel(asked.axis if ax is axes[0] else "")
        ax.set_title(corpus if wide else "")
        right_labels(ax, ends, style)
    return Made(figure, f"{text.capital(asked.axis)} by {across}. {'; '.join(said)}.", shown, wide)


def _along(asked: file.Sweep, facts: Facts, variant: str, corpus: str) -> Iterator[tuple[float, Sized]]:
    """The cells of a variant that have this setting and no other, with what was measured."""
    rows = [row for row in facts.study(asked.study).run_cells if (row["variant"], row["corpus"]) == (variant, corpus)]
    for row in sorted(
        (row for row in rows if list(settings(row)) == [asked.along]), key=lambda row: settings(row)[asked.along]
    ):
        place = (asked.study, row["label"], row["corpus"], row["tokenizer"])
        yield float(settings(row)[asked.along]), facts.mean(*place, metric=asked.metric)


def _numbers(ax: Axes, values: Sequence[float]) -> None:
    """An axis with a tick at each value that has room, logarithmic where they are rates."""
    log = min(values) > 0 and max(values) < 0.2
    if log:
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(NullLocator())
    kept: list[float] = []
    for value in values:
        if log or not kept or value - kept[-1] > 0.1 * (values[-1] - values[0]):
            kept.append(value)
    ax.xaxis.set_major_locator(FixedLocator(kept))
    ax.xaxis.set_major_formatter(PLAIN)
    ax.margins(x=0.08)


def _line(ax: Axes, points: Sequence[tuple[float, Sized]], look: Look) -> None:
    """Means joined by a line, their intervals as bars behind the markers."""
    for at, own in points:
        if own.bounds:
            ax.plot([at, at], own.bounds, color=look.colour, linewidth=3, alpha=0.35, solid_capstyle="butt")
    places, means = [at for at, _ in points], [own.mean for _, own in points]
    ax.plot(places, means, look.marker, color=look.colour, linestyle="-", linewidth=1.5, markersize=4.5)


def curves(asked: file.Curves, facts: Facts, palette: Palette, words: Words) -> Made:
    """The mean over seeds at each number of tokens, and its 95 % interval as a band."""
    figure, (ax,) = framed(2.35)
    frame, ends, style, said, shown = facts.study(asked.study).curves, [], {}, [], []
    if asked.metric not in frame:
        raise ConfigError(f"{asked.study}: there are no curves of {asked.metric}.")
    for label in asked.cells:
        cell = facts.cell(asked.study, label, asked.corpus, asked.tokenizer)
        own = frame[(frame["cell"] == cell.id) & (frame["status"] == "completed") & (frame["tokens"] > 0)]
        by_tokens = {float(str(at)): rows[asked.metric].dropna().tolist() for at, rows in own.groupby("tokens")}
        estimates = {at: mean_interval(values) for at, values in by_tokens.items() if values}
        if not estimates:
            raise ConfigError(f"{asked.study}: no run of {label} has a curve of {asked.metric}.")
        look, x = palette.of(cell.variant), list(estimates)
        style[label] = look
        means, lower, upper = (
            np.array([getattr(own, side) for own in estimates.values()], dtype=float) for side in ("mean", "lower", "upper")
        )
        ax.fill_between(x, lower, upper, color=look.colour, alpha=BAND, linewidth=0)
        ax.plot(x, means, color=look.colour, linewidth=1.5)
        ax.plot(x[-1], means[-1], look.marker, color=look.colour, markersize=5)
        ends.append((label, x[-1], float(means[-1])))
        last = facts.mean(asked.study, label, asked.corpus, asked.tokenizer, metric=asked.metric)
        said.append(f"{label} ends at {last.size}")
        shown.append(last.full)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter(SHORT)
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("tokens of training")
    ax.set_ylabel(asked.axis)
    right_labels(ax, ends, style)
    return Made(figure, f"{text.capital(asked.axis)} over training. {'; '.join(said)}.", shown)


def windows(asked: file.Windows, facts: Facts, palette: Palette, words: Words) -> Made:
    """An evaluation over where it was measured."""
    figure, (ax,) = framed(2.35)
    own, ends, style, said, shown = facts.study(asked.study), [], {}, [], []
    for label in asked.cells:
        cell = facts.cell(asked.study, label)
        rows = own.evaluations[(own.evaluations["cell"] == cell.id) & (own.evaluations["metric"] == asked.metric)]
        places = sorted(set(rows["at"].dropna()))
        if not places:
            raise ConfigError(f"{asked.study}: {asked.metric} of {label} was measured at no place.")
        found = [facts.mean(asked.study, label, metric=asked.metric, at=at) for at in places]
        look = style[label] = palette.of(cell.variant)
        _line(ax, list(zip(places, found, strict=True)), look)
        ends.append((label, places[-1], found[-1].mean))
        said.append(f"{label}: {found[0].size} at {places[0]:,g}, {found[-1].size} at {places[-1]:,g}")
        shown += [found[0].full, found[-1].full]
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(PLAIN)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel(asked.along)
    ax.set_ylabel(asked.axis)
    right_labels(ax, ends, style)
    return Made(figure, f"{text.capital(asked.axis)} by {asked.along}. {'; '.join(said)}.", shown)


def shares(asked: file.Shares, facts: Facts, palette: Palette, words: Words) -> Made:
    """A row a model, a mark a way of taking a branch out."""
    figure, (ax,) = framed(0.26 * len(asked.cells) + 0.85)
    said, shown = [], []
    for y, label in enumerate(asked.cells):
        cell = facts.cell(asked.study, label)
        first, colour = facts.study(asked.study).values.branches(cell.id)[0], palette.of(cell.variant).colour
        parts = []
        for (way, how, _), marker, fill in zip(WAYS, "osD", (colour, "white", colour), strict=True):
            own = facts.share(asked.study, label, first, way)
            if own.bounds:
                ax.plot([100 * bound for bound in own.bounds], [y, y], color=colour, linewidth=3, alpha=0.35)
            point: dict[str, Any] = {"markerfacecolor": fill, "markeredgecolor": colour, "markeredgewidth": 1.2}
            ax.plot(100 * own.mean, y, marker, markersize=5.5, **point)
            parts.append(f"{own.percent} with {how}")
            shown.append(own.percent)
        said.append(f"{label}: {', '.join(parts)}")
    ax.set_yticks(range(len(asked.cells)), asked.cells)
    ax.set_ylim(len(asked.cells) - 0.5, -0.5)
    ax.set_xlim(left=0)
    ax.grid(visible=False, axis="y")
    key = "   ".join(f"{sign} {how}" for _, how, sign in WAYS)
    ax.set_xlabel(f"share of the first branch (%), its output replaced by\n{key}", fontsize=SMALL)
    return Made(figure, f"Share of the first branch by what replaces an output. {'; '.join(said)}.", shown)


def ladder(asked: file.Ladder, facts: Facts, palette: Palette, words: Words) -> Made:
    """Each arm's seeds, the law of all rungs but the largest, and a ring around what is held out."""
    own = facts.study(asked.study)
    if not own.ladders:
        raise ConfigError(f"{asked.study} has no ladder whose rungs all have completed.")
    found = own.ladders[0]
    figure, (ax,) = framed(2.5)
    ends, style, said, shown = [], {}, [], []
    for i, (arm, laws) in enumerate(zip(found.arms, found.laws["parameters"], strict=True)):
        look = style[arm.name] = palette.of(arm.cells[0].variant)
        draw_arm(ax, arm, laws, arm.sizes["parameters"], look.colour)
        ends.append((arm.name, float(arm.sizes["parameters"][-1]), float(found.losses[0, i, -1])))
        label = next(row["label"] for row in own.cell_rows_in_order if row["cell"] == arm.cells[-1].id)
        last = facts.mean(asked.study, label, found.corpus, found.tokenizer)
        predicted = float(found.predicted["parameters"][0, i])
        said.append(f"{arm.name}: {last.size} at the largest, foretold {text.decimals(predicted, 3)}")
        shown.append(last.full)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(SHORT)
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("parameters without embeddings")
    ax.set_ylabel("bits per byte")
    right_labels(ax, ends, style)
    return Made(figure, f"Loss by size, on {text.plural(len(found.rungs), 'rung')}. {'; '.join(said)}.", shown)


def claimed(asked: file.Claimed, facts: Facts, palette: Palette, words: Words) -> Made:
    """A row a part: a grey bar where it was claimed to be, a mark with its interval where it was measured."""
    found = [(own, facts.claim(own.claim, own.part)) for own in asked.parts]
    regions = [_region(own) for _, own in found]
    labels = [textwrap.wrap(words(own.label), LETTERS[COLUMN]) for own, _ in found]
    figure, (ax,) = framed(sum(LEADING * len(label) + 0.24 for label in labels) + 0.6)
    marks = [value for _, own in found for value in (own.mean, *own.band, *(own.bounds or ()))]
    log = min(own.mean for _, own in found) > 0 and max(marks) > 20 * min(value for value in marks if value > 0)
    low, high = (
        (min(value for value in marks if value > 0) / 2, 2 * max(marks)) if log else (min(0.0, *marks), 1.08 * max(marks))
    )
    y, said, shown = 0.0, [], []
    for label, (_, own), (start, end, about) in zip(labels, found, regions, strict=True):
        ax.text(0.0, y, "\n".join(label), transform=ax.get_yaxis_transform(), va="top", fontsize=8)
        y += LEADING * len(label) + 0.1
        ax.plot([max(start, low), min(end, high)], [y, y], color=GREY, linewidth=7, alpha=0.45, solid_capstyle="butt")
        holds = start <= own.mean <= end
        colour = COLOURS[2] if holds else COLOURS[1]
        if own.bounds:
            ax.plot([max(own.bounds[0], low), own.bounds[1]], [y, y], color=colour, linewidth=1.8, solid_capstyle="butt")
        ax.plot(own.mean, y, "o" if holds else "D", color=colour, markersize=5)
        ax.text(1.02, y, str(own.number), transform=ax.get_yaxis_transform(), va="center", fontsize=SMALL, clip_on=False)
        said.append(f"{' '.join(label)}: claimed {about}, measured {own.number}")
        shown += [own.number]
        y += 0.14
    if log:
        ax.set_xscale("log")
        ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlim(low, high)
    ax.set_ylim(y, -0.04)
    ax.yaxis.set_major_locator(NullLocator())
    ax.grid(visible=False)
    ax.spines["left"].set_visible(False)
    ax.xaxis.set_major_formatter(SHORT)
    ax.set_xlabel(f"{asked.axis}; grey: what was claimed", fontsize=SMALL)
    return Made(figure, f"{text.capital(asked.axis)}, as claimed and as measured. {'; '.join(said)}.", shown)


def _region(own: Tested) -> tuple[float, float, str]:
    """From where to where a part claims its value to be, and in words. ConfigError where it compares, with no bounds."""
    match own.row.claim.predicate[own.part - 1]:
        case Threshold(above=None):
            return -math.inf, own.band[0], f"below {own.low}"
        case Threshold():
            return own.band[0], math.inf, f"above {own.low}"
        case Interval():
            return own.band[0], own.band[1], f"{own.low} to {own.high}"
        case other:
            raise ConfigError(
                f"{own.row.id}: its part {own.part} is of the test {other.test}, of which a forest shows the difference."
            )
