"""A figure for each cell: what its networks do inside, layer by layer, one panel a question; every seed is a thin line."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import pandas as pd

from gt.registry import look_up
from gt.report.drawing import COLOURS, Drawing
from gt.report.numbers import Results
from gt.report.plot import GREY, TITLE, Pane, Plot, Scale, extent, stroke, words

# Of what is drawn in a panel, by what it is called: a row a place, a column a seed.
Kinds = dict[str, pd.DataFrame]
# Where axes are: left, top, width, height.
Box = tuple[float, float, float, float]

# Points: of a panel, of what stands around its axes, and of how far from these the words beside them are.
COLUMNS, WIDTH, HEIGHT = 3, 223.0, 180.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 9.0, 33.0, 32.0
LABEL = 42.0
# Points of letters: of the names of lines, and of numbers. How many numbers an axis has at most.
LEGEND, NUMBERS, TICKS = 7.5, 8.0, 6
DASH = "6 3"
CAPTION = (
    "Thin lines are seeds, thick ones their mean. Loss without a branch: its output replaced by zero in one layer of the "
    "trained network, on held-out text. Dashed: before training. State norms are means over layers, against the position in "
    "trained lengths T."
)
# The layer of what is of the whole model.
MODEL = -1


def inside_drawings(results: Results) -> list[Drawing]:
    """One for each cell."""
    return [Drawing(own.id, own.title, CAPTION, partial(_figure, own.cell["cell"])) for own in results.inside]


def _figure(cell: str, results: Results) -> Plot:
    panels = [(title, kinds, paint) for title, kinds, paint in _panels(results.probes_of_cell[cell]) if kinds]
    columns, rows = min(COLUMNS, len(panels)), math.ceil(len(panels) / COLUMNS)
    plot = Plot(WIDTH * columns, HEIGHT * rows, [])
    for i, (title, kinds, paint) in enumerate(panels):
        left, top = WIDTH * (i % COLUMNS) + LEFT, HEIGHT * (i // COLUMNS) + TOP
        pane = paint((left, top, WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM), kinds)
        plot.panes.append(pane)
        plot.words.append(words(left, top - 17, title, TITLE, bold=True))
        plot.words.append(words(left + pane.width / 2, HEIGHT * (i // COLUMNS) + HEIGHT - 4, pane.label, anchor="middle"))
        plot.words.append(words(left - LABEL, top + pane.height / 2, pane.other, anchor="middle", turned=True))
    return plot


def _panels(rows: pd.DataFrame) -> list[tuple[str, Kinds, Callable[[Box, Kinds], Pane]]]:
    """The questions, what is known of each, and how it is drawn."""
    table = rows.assign(layer=rows["layer"].fillna(MODEL)).pivot(index=["name", "layer"], columns="seed", values="value")
    of_model = table.index.get_level_values("layer") == MODEL
    model, layered = table[of_model].droplevel("layer"), table[~of_model]

    def layers(**measures: str) -> Kinds:
        return {kind: layered.loc[[name]].droplevel("name") for kind, name in measures.items() if name in layered.index}

    names = [(name, found) for name in dict.fromkeys(rows["name"]) if (found := look_up(name))]

    def along(axis: str, metric: str) -> dict[str, str]:
        return {found.axes[axis]: name for name, found in names if found.metric.name == metric}

    classes = {kind: model.loc[[name]] for kind, name in along("class", "gate/class/<class>").items() if name in model.index}
    norms: dict[str, dict[float, str]] = {}
    for name, found in names:
        if found.metric.name == "state/norm/<branch>/<length>" and name in model.index:
            norms.setdefault(found.axes["branch"], {})[float(found.axes["length"])] = name
    states = {branch: model.loc[list(own.values())].set_axis(list(own)).sort_index() for branch, own in norms.items()}
    return [
        ("Gate", layers(trained="gate/mean", initial="initial/gate/mean"), _gate),
        ("Gate by kind of token", classes, _classes),
        ("Loss without a branch", layers(**along("branch", "ablation/zero/<branch>")), _losses),
        (
            "Variance of the residual stream",
            layers(trained="variance/residual", initial="initial/variance/residual"),
            partial(_variance, xlabel="after layer"),
        ),
        ("Variance of the branches", layers(**along("branch", "variance/branch/<branch>")), partial(_variance, xlabel="layer")),
        ("Norm of the state", states, _growth),
    ]


def _lines(box: Box, kinds: Kinds, xlabel: str, ylabel: str, log: str = "", also: tuple[float, ...] = ()) -> Pane:
    """A colour for each kind, a dash for what was before training; seeds thin, their mean thick. log: the axes, x or y, that
    have log scales. also: a number that the scale has on it.
    """
    order = sorted(kinds, key=lambda kind: (kind == "initial", kind == "m", kind))
    places = kinds[order[0]].index
    values = [float(value) for kind in order for value in kinds[kind].to_numpy().ravel() if "y" not in log or value > 0]
    pane = Pane(*box, Scale.of(map(float, places), "x" in log), Scale.of([*values, *also], "y" in log))
    pane.label, pane.other = xlabel, ylabel
    end = pane.left + pane.width
    for i, kind in reversed(list(enumerate(order))):
        table, colour, dash = kinds[kind], COLOURS[i % len(COLOURS)], DASH if kind == "initial" else ""
        at = [float(place) for place in table.index]
        for seed in table.columns:
            own = _positive(at, table[seed], log)
            pane.line(own, colour, f"{kind}|seed {seed}", width=0.7, alpha=0.45, dash=dash)
        mean = list(_positive(at, table.mean(axis="columns"), log))
        pane.line(mean, colour, width=2, dash=dash, series=f"{kind}|mean")
        pane.dots([(x, y) for x, y in mean if math.isfinite(y)], colour, 2, f"{kind}|mean")
        end -= extent(kind, LEGEND)
        pane.drawn.append(words(end, pane.top - 4, kind, LEGEND))
        pane.drawn.append(f'<path d="M{end - 18:.1f} {pane.top - 6.5:.1f}h13.5"{stroke(colour, 2, dash)}/>')
        end -= 30
    along = [(float(place), f"{place:g}") for place in places] if "x" in log else pane.x.ticks(TICKS, integer=True)
    pane.axes(along, pane.y.ticks(TICKS), NUMBERS)
    return pane


def _positive(at: Sequence[float], values: Iterable[float], log: str) -> Iterator[tuple[float, float]]:
    """Points, of which those that a log scale has no place for are gaps."""
    return ((x, float(y) if "y" not in log or y > 0 else math.nan) for x, y in zip(at, values, strict=True))


def _gate(box: Box, kinds: Kinds) -> Pane:
    pane = _lines(box, kinds, "layer", "weight of the first branch", also=(0.5,))
    pane.across(GREY, y=0.5, width=0.8, dash="1 1.6")
    return pane


def _classes(box: Box, kinds: Kinds) -> Pane:
    values = [float(value) for own in kinds.values() for value in own.to_numpy().ravel() if math.isfinite(value)]
    pane = Pane(*box, Scale.of(values), Scale.named(kinds))
    pane.label = "mean gate"
    for y, (kind, own) in enumerate(kinds.items()):
        seeds = "|".join([f"{kind}|seed", *map(str, own.columns)])
        pane.dots([(float(value), y) for value in own.to_numpy().ravel()], COLOURS[0], 1.75, seeds, alpha=0.6)
        mean = float(own.mean(axis="columns").iloc[0])
        pane.line([(mean, y - 0.3), (mean, y + 0.3)], COLOURS[0], width=2, series=f"{kind}|mean")
    pane.axes(pane.x.ticks(4), pane.y.ticks(0), NUMBERS, grid="x")
    return pane


def _losses(box: Box, kinds: Kinds) -> Pane:
    pane = _lines(box, kinds, "layer", "nats a token", also=(0.0,))
    pane.across(GREY, y=0.0, width=0.8)
    return pane


def _variance(box: Box, kinds: Kinds, xlabel: str) -> Pane:
    return _lines(box, kinds, xlabel, "variance", "y")


def _growth(box: Box, kinds: Kinds) -> Pane:
    return _lines(box, kinds, "position / T", "L2 norm", "xy")
