"""What all figures have in common: how they look, how axes are laid out and labelled, how they are written."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FuncFormatter

from gt.records import atomic_write
from gt.report import text
from gt.report.numbers import Panel, Results, Row, settings
from gt.report.plot import GREY as GREY
from gt.report.plot import INK as INK
from gt.report.plot import Plot
from gt.report.svg import NAMED, small

if TYPE_CHECKING:
    import pandas as pd

# Wong (2011) without yellow and black, with a brown and a grey: distinguishable by the colour-blind, on white and on black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#A6761D", "#8C8C8C")
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1, 1.5)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
STYLE: Any = {
    "svg.hashsalt": "groundthink",
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color"), INK),
}
FAINT = "#c4c4c4"
GRID: Any = {"color": GREY, "alpha": 0.25, "linewidth": 0.6}
SHORT = FuncFormatter(lambda value, _: text.short(value))
PLAIN = FuncFormatter(lambda value, _: f"{value:g}")
# As many cells as can be told apart on one pair of axes. Of several settings that have more, each has axes of its own.
MOST_CELLS = 12
# Of more cells than that the lines of so many of the best and of the worst are named, and that of the baseline.
EXTREMES = 3
# Letters in a line of a title.
MOST_LETTERS = 28


@dataclass(frozen=True)
class Drawing:
    """A kind of figure. `draw` returns None where the study has no data for it."""

    name: str
    title: str
    caption: str
    draw: Callable[[Results], Figure | Plot | None]


@dataclass(frozen=True)
class Look:
    """How a cell's label is drawn in every figure."""

    colour: str
    dashes: Any
    marker: str
    named: bool = True  # of a line: whether its seeds are drawn, and its name beside it

    @property
    def width(self) -> float:
        """Of a mean's line, in points; wider ones lie above others."""
        return 2.0 if self.named else 0.8


def save(figure: Figure | Plot, path: Path, suffix: str) -> None:
    """Without dates or versions in the file; the SVG is transparent, the PNG white. Of a plot there is but the SVG."""
    if isinstance(figure, Plot):
        with atomic_write(path) as temporary:
            temporary.write_text(figure.svg, encoding="utf-8")
        return
    if (layout := figure.get_layout_engine()) is not None:  # laid out once, where `savefig` would draw all of it for that alone
        layout.execute(figure)
        figure.set_layout_engine("none")
    with atomic_write(path) as temporary:
        if suffix == "svg":
            source = io.StringIO()
            figure.savefig(source, format="svg", metadata={"Date": None}, transparent=True)
            temporary.write_text(small(source.getvalue(), [_scales(ax) for ax in figure.axes]), encoding="utf-8")
        else:
            figure.savefig(temporary, format=suffix, metadata={"Software": None}, dpi=160)


def series(name: str, what: str = "", names: Iterable[object] = ()) -> dict[str, Any]:
    """The argument of a drawing call by which a reader's pointer knows what it drew: a series, what of it, and of dots what
    each is of, in their order.
    """
    return {"gid": NAMED + "|".join([name.replace("|", "/"), what, *map(str, names)])}


def _scales(ax: Axes) -> str:
    """Where axes are, in points from the left and the top, and how points become values: the box, and of x and of y the limits,
    the scale and the label. `names` is a scale that has names in place of numbers.
    """
    width, height = 72 * ax.figure.figure.get_size_inches()
    box, said = ax.get_position(), []
    for axis, (low, high) in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
        fixed = isinstance(axis.get_major_formatter(), FixedFormatter)
        scale = "names" if fixed else "log" if axis.get_scale() == "log" else "linear"
        said += [f"{low:.7g}", f"{high:.7g}", scale, " ".join(axis.get_label_text().split())]
    places = (box.x0 * width, (1 - box.y1) * height, box.x1 * width, (1 - box.y0) * height)
    return "|".join([*(f"{place:.1f}" for place in places), *said])


def looks(results: Results) -> dict[str, Look]:
    """A look for each label of a study: a colour for its variant, the baseline's the first, and dashes and a marker for its
    settings; in a study without settings, these are the variant's too.
    """
    cells = results.cell_rows_in_order
    variants = sorted(dict.fromkeys(row["variant"] for row in cells), key=lambda variant: variant != results.baseline)
    varied = list(dict.fromkeys(row["factors"] for row in cells))
    found = {}
    for row in cells:
        i, j = variants.index(row["variant"]), varied.index(row["factors"])
        again = i // len(COLOURS)  # how often the colours have been used up
        k = j + 3 * again if len(varied) > 1 else i
        found[row["label"]] = Look(COLOURS[i % len(COLOURS)], DASHES[(j + again) % len(DASHES)], MARKERS[k % len(MARKERS)])
    return found


@dataclass(frozen=True)
class View:
    """The cells that one pair of axes shows: those of a panel, or of one of its settings, that a table has."""

    panel: Panel
    title: str
    rows: list[Row]

    def of(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of a table that are of its cells."""
        return table[table["cell"].isin([row["cell"] for row in self.rows])]

    @property
    def names(self) -> dict[str, str]:
        """What its cells are called beside the axes, by label: what the title says is not said again."""
        return {row["label"]: row["variant" if self.part else "label"] for row in self.rows}

    @property
    def part(self) -> bool:
        """Whether it shows one of several settings."""
        return len(self.rows) < len(self.panel.rows)

    @property
    def named(self) -> set[str]:
        """The labels of the cells whose lines are coloured and named."""
        measured = sorted((row for row in self.rows if not text.absent(row["mean"])), key=lambda row: float(row["mean"]))
        if len(measured) <= MOST_CELLS:
            return {row["label"] for row in self.rows}
        baseline = [row for row in measured if row["variant"] == self.panel.baseline]
        return {row["label"] for row in (*measured[:EXTREMES], *measured[-EXTREMES:], *baseline)}

    def looks(self, style: dict[str, Look]) -> dict[str, Look]:
        """Those of its cells, with whole lines where all have the same settings; grey for those that are not named."""
        own = {r["label"]: replace(style[r["label"]], dashes="-") if self.part else style[r["label"]] for r in self.rows}
        named, faint = self.named, Look(FAINT, "-", "", named=False)
        return {label: look if label in named else faint for label, look in own.items()}


def views(panels: Sequence[Panel], table: pd.DataFrame, split: bool = True) -> list[View]:
    """What of the panels has rows in a table: a view a panel, or one for each of its settings where there are many cells."""
    there, found = set(table["cell"]), []
    for whole in panels:
        panel = replace(whole, rows=[row for row in whole.rows if row["cell"] in there])
        if not split or len(panel.rows) <= MOST_CELLS or len(panel.groups) == 1:
            found.append(View(panel, panel.title, panel.rows))
        else:
            for rows in panel.groups:
                said = ", ".join(f"{name}={value}" for name, value in settings(rows[0]).items())
                found.append(View(panel, f"{panel.title}\n{said}", rows))
    return [view for view in found if view.rows]


def frame(titles: Sequence[str], height: float, width: float) -> tuple[Figure, list[Axes]]:
    """A pair of axes for each title, at most two beside each other."""
    columns = min(2, len(titles))
    rows = math.ceil(len(titles) / columns)
    figure = Figure(figsize=(width * columns, (height + 0.5) * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax in axes[len(titles) :]:
        ax.remove()
    for ax, title in zip(axes, titles, strict=False):
        ax.set_title("\n".join(textwrap.fill(line, MOST_LETTERS) for line in title.split("\n")))
        ax.grid(**GRID)
    return figure, axes[: len(titles)]


def view_frame(shown: Sequence[View]) -> tuple[Figure, list[Axes]]:
    """Axes for views, with room for the names of cells beside them."""
    most = max(len(view.named) for view in shown)
    return frame([view.title for view in shown], height=max(2.2 if len(shown) > 4 else 3.4, 0.19 * most), width=5.1)


def share_y(axes: Sequence[Axes], shown: Sequence[View]) -> None:
    """Views of one panel have one y axis."""
    for panel in {view.panel.id: view.panel for view in shown}.values():
        own = [ax for ax, view in zip(axes, shown, strict=True) if view.panel is panel]
        low, high = min(ax.get_ylim()[0] for ax in own), max(ax.get_ylim()[1] for ax in own)
        for ax in own:
            ax.set_ylim(low, high)


def limits(values: Sequence[float], bounds: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Of an axis that shows all values, and of their intervals as much as leaves the values three quarters of its length."""
    low, high = min(values), max(values)
    more = (high - low) / 6 or 0.05 * abs(high) or 1.0
    bottom = max(low - more, min([low, *(bound[0] for bound in bounds)]))
    top = min(high + more, max([high, *(bound[1] for bound in bounds)]))
    room = 0.04 * (top - bottom) or more
    return bottom - room, top + room


def right_labels(
    ax: Axes, points: list[tuple[str, float, float]], style: dict[str, Look], names: dict[str, str] | None = None
) -> None:
    """Name points (label, x, y) to the right of the axes, in their colours and order, moved apart where they would overlap.

    names: what labels are called instead.
    """
    figure = ax.figure.figure
    gap = 11.5 / (ax.get_position().height * figure.get_figheight() * 72)
    to_axes = ax.transData + ax.transAxes.inverted()
    low, high = ax.get_ylim()
    wanted = sorted((*to_axes.transform((x, min(max(y, low), high)))[::-1], label) for label, x, y in points)
    for (y, x, label), shown in zip(wanted, _spread([place[0] for place in wanted], gap), strict=True):
        colour = style[label].colour
        line: dict[str, Any] = {"transform": ax.transAxes, "clip_on": False, "linewidth": 0.7, "alpha": 0.6}
        ax.plot([x + 0.015, 1.0, 1.045], [y, y, shown], color=colour, **line, **series(label, "label"))
        name = (names or {}).get(label, label)
        place: dict[str, Any] = {"transform": ax.transAxes, "va": "center", "fontsize": 8.5}
        ax.text(1.055, shown, name, color=colour, **place, **series(label, "label"))


def _spread(places: list[float], gap: float) -> list[float]:
    """Rising places between 0 and 1, moved as little as needed to stand `gap` apart: neighbours pool around their mean."""
    pools: list[list[float]] = []
    for i, place in enumerate(places):
        pools.append([place - i * gap])
        while len(pools) > 1 and _mean(pools[-2]) > _mean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    highest = 1 - gap * (len(places) - 1)
    flat = [min(max(_mean(pool), 0.0), highest) for pool in pools for _ in pool]
    return [value + i * gap for i, value in enumerate(flat)]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
