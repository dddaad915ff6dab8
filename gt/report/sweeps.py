"""What a study varies: gate inits, learning rates and other numbers, as figures and tables; and loss against contribution."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gt.analysis.aggregate import label
from gt.report import text
from gt.report.drawing import GREY, PLAIN, Drawing, frame, limits, looks, right_labels, series
from gt.report.numbers import Panel, Results, Row
from gt.report.tables import Column, Table
from gt.study import shortest

GATE_INIT = "model.fusion.gate_init"
SHARE = "ablation/share/"
# Of a heat map; fewer numbers are read better in a table.
FEWEST_SQUARES = 4


@dataclass(frozen=True)
class Sweep:
    """Cells of one panel that differ in one setting alone, by its value. name: what they have in common."""

    name: str
    panel: Panel
    cells: dict[float, Row]

    @property
    def best(self) -> float:
        """The value with the lowest mean."""
        return min(self.cells, key=lambda value: float(self.cells[value]["mean"]))


def sweeps(results: Results, path: str) -> list[Sweep]:
    """The sweeps of a setting (a dotted path of a run's specification) that have two values with completed runs at least."""
    plan = {cell.id: cell for cell in results.plan.cells}
    panels = {row["cell"]: panel for panel in results.panels for row in panel.measured}
    found: dict[str, Sweep] = {}
    for row in results.cell_rows_in_order:
        cell = plan[row["cell"]]
        spec = results.plan.spec(cell).model_dump(mode="json")
        value, spec["seed"] = _take(spec, path), sorted(cell.runs)
        if value is not None and row["cell"] in panels:
            others = {key: v for key, v in cell.factors.items() if key != path}
            own = Sweep(label(cell.model_copy(update={"factors": others})), panels[row["cell"]], {})
            found.setdefault(json.dumps(spec, sort_keys=True), own).cells.setdefault(value, row)
    return [sweep for sweep in found.values() if len(sweep.cells) > 1]


def _take(spec: Any, path: str) -> float | None:
    """The number at a path, which is taken out; None where there is none."""
    *parents, last = path.split(".")
    for key in parents:
        spec = spec.get(key) if isinstance(spec, dict) else None
    value = spec.pop(last, None) if isinstance(spec, dict) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def gate_inits(results: Results) -> Figure | None:
    """Mean bits per byte by fusion and gate init."""
    import seaborn as sns

    found = sweeps(results, GATE_INIT)
    panels = _panels(results, found)
    if sum(len(sweep.cells) for sweep in found) < FEWEST_SQUARES:
        return None
    most = max(sum(sweep.panel is panel for sweep in found) for panel in panels)
    figure, axes = frame([panel.title for panel in panels], height=0.9 + 0.36 * most, width=5.0)
    for ax, panel in zip(axes, panels, strict=True):
        own = {s.name: {value: row["mean"] for value, row in s.cells.items()} for s in found if s.panel is panel}
        table = pd.DataFrame.from_dict(own, orient="index").sort_index(axis="columns")
        shading: dict[str, Any] = {"cmap": "crest", "linewidths": 1, "cbar_kws": {"label": "validation bits per byte"}}
        ax.grid(visible=False)
        sns.heatmap(table, ax=ax, annot=True, fmt=".3f", annot_kws={"fontsize": 8}, **shading)
        ax.set(xlabel="initial gate", ylabel="")
        ax.set_xticklabels([f"{value:g}" for value in table.columns])
        ax.tick_params(length=0)
        ax.set_yticklabels(ax.get_yticklabels(), rotation=0)
    return figure


def varied(results: Results) -> list[tuple[str, Panel, list[Sweep]]]:
    """The sweeps of each number that the study varies, but for gate inits, by setting, corpus and tokenizer."""
    short = shortest({path: None for cell in results.plan.cells for path in cell.factors})
    paths = [path for path in short if path != GATE_INIT]
    found = {path: sweeps(results, path) for path in paths}
    return [
        (short[path].replace("_", " "), panel, own)
        for path in paths
        for panel in results.panels
        if (own := [sweep for sweep in found[path] if sweep.panel is panel])
    ]


def sensitivity(results: Results) -> Figure | None:
    """Bits per byte against each other number that the study varies: a panel a setting, corpus and tokenizer."""
    if not (shown := varied(results)):
        return None
    height = max(3.2, 0.19 * max(len(own) for _, _, own in shown))
    figure, axes = frame([panel.title for _, panel, _ in shown], height=height, width=5.0)
    style = looks(results)
    for ax, (setting, _, own) in zip(axes, shown, strict=True):
        ends, bounds, colours = [], [], {}
        for sweep in own:
            values = sorted(sweep.cells)
            rows = [sweep.cells[value] for value in values]
            colour, means = style[rows[0]["label"]].colour, [row["mean"] for row in rows]
            colours[sweep.name] = style[rows[0]["label"]]
            ax.plot(values, means, marker="o", color=colour, linewidth=1.8, markersize=5, **series(sweep.name, "mean"))
            ring: dict[str, Any] = {"fillstyle": "none", "markersize": 11, "markeredgewidth": 1.4}
            ax.plot(sweep.best, min(means), "o", color=colour, **ring, **series(sweep.name, "lowest"))
            for value, row in zip(values, rows, strict=True):
                if row["lower"] is not None:
                    bar = series(sweep.name, "95 % interval")
                    ax.plot([value] * 2, [row["lower"], row["upper"]], color=colour, linewidth=4, alpha=0.3, **bar)
                    bounds.append((row["lower"], row["upper"]))
            ends.append((sweep.name, values[-1], means[-1]))
        every = sorted({value for sweep in own for value in sweep.cells})
        if every[0] > 0 and every[-1] >= 4 * every[0]:
            ax.set_xscale("log")
        ax.set_xticks(every)
        ax.minorticks_off()
        ax.xaxis.set_major_formatter(PLAIN)
        ax.set_ylim(limits([row["mean"] for sweep in own for row in sweep.cells.values()], bounds))
        ax.set_xlabel(setting)
        ax.set_ylabel("validation bits per byte" if ax is axes[0] else "")
        right_labels(ax, ends, colours)
    return figure


def sensitivity_tables(results: Results) -> list[Table]:
    """The same in numbers, and where each model is at its best: a table a setting, corpus and tokenizer."""
    return [_sensitivity_table(*shown) for shown in varied(results)]


def _sensitivity_table(setting: str, panel: Panel, own: list[Sweep]) -> Table:
    every = sorted({value for sweep in own for value in sweep.cells})
    rows = [
        {
            "model": sweep.name,
            **{f"{value:g}": sweep.cells[value]["mean"] if value in sweep.cells else None for value in every},
            "best": sweep.best,
            "cost": max(row["mean"] for row in sweep.cells.values()) - sweep.cells[sweep.best]["mean"],
            "ends": _ends(sweep),
        }
        for sweep in own
    ]
    columns = (
        Column("model", "Model", "left"),
        *(Column(f"{value:g}", f"{value:g}", shown=text.decimals) for value in every),
        Column("best", "Best at", shown=lambda value: f"{value:g}"),
        Column("ends", "which is", "left"),
        Column("cost", "The worst costs", shown=text.signed),
    )
    caption = (
        f"Sensitivity to {setting} on {panel.title}: mean validation bits per byte at each value, that with the lowest mean, "
        "and what the worst costs over it."
    )
    name = f"sensitivity.{setting.replace(' ', '_')}.{panel.id}"
    return Table(name, caption, columns, tuple(sorted(rows, key=lambda row: float(row[f"{row['best']:g}"]))))


def _ends(sweep: Sweep) -> str:
    """That the best is the first or last value, beyond which there may be a better."""
    low, high = min(sweep.cells), max(sweep.cells)
    return "the lowest tried" if sweep.best == low else "the highest tried" if sweep.best == high else ""


def contributions(results: Results) -> Figure | None:
    """Bits per byte against what the weaker branch contributes, and the cells that no other beats in both."""
    if results.probes.empty:
        return None
    known = {row["cell"]: _weaker(results, row["cell"]) for row in results.cell_rows}
    panels = [panel for panel in results.panels if sum(known[row["cell"]] is not None for row in panel.measured) > 1]
    if not panels:
        return None
    style = looks(results)
    height = max(3.4, 0.19 * max(len(panel.rows) for panel in panels))
    figure, axes = frame([panel.title for panel in panels], height=height, width=5.0)
    for ax, panel in zip(axes, panels, strict=True):
        points = [(row, share) for row in panel.measured if (share := known[row["cell"]]) is not None]
        for row, share in points:
            look = style[row["label"]]
            if row["lower"] is not None:
                ax.plot([share] * 2, [row["lower"], row["upper"]], color=look.colour, linewidth=3, alpha=0.3)
            ax.plot(share, row["mean"], look.marker, color=look.colour, markersize=6)
        front = pareto([(share, row["mean"]) for row, share in points])
        ax.plot(*zip(*front, strict=True), color=GREY, linewidth=1.2, linestyle="--", zorder=0)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.margins(x=0.08)
        bounds = [(row["lower"], row["upper"]) for row, _ in points if row["lower"] is not None]
        ax.set_ylim(limits([row["mean"] for row, _ in points], bounds))
        ax.set_xlabel("contribution of the weaker branch")
        ax.set_ylabel("validation bits per byte" if ax is axes[0] else "")
        right_labels(ax, [(row["label"], share, row["mean"]) for row, share in points], style)
    return figure


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points (share, loss) that no other has a larger share and a lower loss than, by share."""
    front: list[tuple[float, float]] = []
    for share, loss in sorted(points, key=lambda point: (point[1], -point[0])):
        if not front or share > front[-1][0]:
            front.append((share, loss))
    return front


def _weaker(results: Results, cell: str) -> float | None:
    """The smaller of the shares of a cell's branches, means over seeds."""
    if cell not in results.probes_of_cell:
        return None
    probes = results.probes_of_cell[cell]
    own = probes[probes["layer"].isna() & probes["name"].str.startswith(SHARE)]
    means = own.groupby("name")["value"].mean()
    return float(np.min(means)) if len(means) else None


def _panels(results: Results, found: list[Sweep]) -> list[Panel]:
    return [panel for panel in results.panels if any(sweep.panel is panel for sweep in found)]


SWEEP_DRAWINGS = (
    Drawing(
        "contributions",
        "Loss and balance",
        "Mean validation bits per byte with its 95 % interval against the contribution of the weaker branch: its share of what "
        "the loss rises by without either. Dashed, the Pareto front: no other model has a lower loss and a better balance.",
        contributions,
    ),
    Drawing(
        "gate_inits",
        "Fusions and gate inits",
        "Mean validation bits per byte of models that differ in the initial gate alone; a row a model.",
        gate_inits,
    ),
    Drawing(
        "sensitivity",
        "Sensitivity",
        "Mean validation bits per byte, with 95 % intervals, of models that differ in one setting alone; a ring marks the best "
        "value of each. What of an interval is far beyond all means is cut off.",
        sensitivity,
    ),
)
