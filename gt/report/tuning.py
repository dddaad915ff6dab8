"""How the settings of cells were chosen: each cell's curve over the values that were tried, and what was chosen."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from gt.analysis.aggregate import MAIN
from gt.artefacts import Tuning
from gt.report import text
from gt.report.drawing import Drawing, frame, limits, looks, right_labels
from gt.report.numbers import Panel, Results
from gt.report.tables import PLACE, Column, Table
from gt.study import shortest


@dataclass(frozen=True)
class Curve:
    """What a cell reached at each value of one setting: with the values of the others that suit it best.

    seeds: by value the bits per byte of each run; infinite where it diverged. chosen: None while runs are missing. ended: why
    what was chosen is at an edge, empty where it is not.
    """

    label: str
    panel: Panel
    path: str
    scale: str
    seeds: dict[float, list[float]]
    chosen: float | None
    ended: str

    @property
    def means(self) -> dict[float, float]:
        """By value; infinite where a run diverged."""
        return {value: math.fsum(own) / len(own) for value, own in sorted(self.seeds.items())}


def curves(results: Results) -> list[Curve]:
    """The curves of every cell that was tuned, a setting after another."""
    panels = {(panel.corpus, panel.tokenizer): panel for panel in results.panels}
    cells, trials = {cell.id: cell for cell in results.plan.cells}, results.tuning
    labels = dict(zip(trials["cell"], trials["label"], strict=True))
    found = []
    for tuning in results.plan.tunings:
        panel = panels.get((cells[tuning.cell].corpus, cells[tuning.cell].tokenizer))
        points = [(values, seeds) for values, seeds in _points(results, tuning) if seeds]
        if panel is None or not points:
            continue
        for path, scale in tuning.scales.items():
            best: dict[float, list[float]] = {}
            for values, seeds in points:
                if values[path] not in best or sum(seeds) / len(seeds) < sum(best[values[path]]) / len(best[values[path]]):
                    best[values[path]] = seeds
            chosen = tuning.choice[path] if tuning.choice else None
            ended = tuning.ended.get(path, "")
            found.append(Curve(labels[tuning.cell], panel, path, scale, best, chosen, ended))
    return sorted(found, key=lambda curve: list(results.panels).index(curve.panel))


def _points(results: Results, tuning: Tuning) -> list[tuple[dict[str, float], list[float]]]:
    """The values of each point of a tuning, with the bits per byte of its runs that have ended."""
    rows = results.tuning[results.tuning["cell"] == tuning.cell]
    found = []
    for point in tuning.points:
        own = rows[rows["values"] == json.dumps(point.values, sort_keys=True)]
        ended = own[own["status"].isin(["completed", "diverged"])]
        found.append((point.values, [math.inf if math.isnan(value) else float(value) for value in ended[MAIN]]))
    return found


def tuned(results: Results) -> Figure | None:
    """Bits per byte against each setting that was tuned, a panel a setting, corpus and tokenizer."""
    known = curves(results)
    shown = list({(curve.path, curve.panel.id): curve for curve in known}.values())
    if not shown:
        return None
    style, short = looks(results), shortest(dict.fromkeys(curve.path for curve in known))
    most = max(sum((own.path, own.panel.id) == (one.path, one.panel.id) for own in known) for one in shown)
    figure, axes = frame([one.panel.title for one in shown], height=max(3.2, 0.19 * most), width=5.0 if len(shown) > 1 else 7.5)
    for ax, one in zip(axes, shown, strict=True):
        own = [curve for curve in known if (curve.path, curve.panel.id) == (one.path, one.panel.id)]
        ends, every = [], sorted({value for curve in own for value in curve.seeds})
        for curve in own:
            means = {value: mean for value, mean in curve.means.items() if math.isfinite(mean)}
            if not means:
                continue
            look = style[curve.label]
            colour, drawn = look.colour, {"linestyle": look.dashes, "marker": look.marker}
            ax.plot(list(means), list(means.values()), color=colour, linewidth=1.6, markersize=4.5, **drawn)
            dots = [(value, bits) for value, seeds in curve.seeds.items() for bits in seeds if math.isfinite(bits)]
            ax.plot(*zip(*dots, strict=True), ".", color=colour, markersize=3, alpha=0.6)
            if curve.chosen in means:
                ring: Any = {"fillstyle": "none", "markersize": 11, "markeredgewidth": 1.4}
                ax.plot(curve.chosen, means[curve.chosen], "s" if curve.ended else "o", color=colour, **ring)
            ends.append((curve.label, max(means), means[max(means)]))
        ax.set_xscale(one.scale)
        ax.set_xticks(every, minor=False)
        ax.tick_params(axis="x", labelrotation=45 if len(every) > 5 else 0)
        ax.minorticks_off()
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))
        values = [mean for curve in own for mean in curve.means.values() if math.isfinite(mean)]
        if values:
            ax.set_ylim(limits(values, []))
        ax.set_xlabel(short[one.path].replace("_", " "))
        ax.set_ylabel("validation bits per byte" if ax is axes[0] else "")
        right_labels(ax, ends, style)
    return figure


def tuning_sentence(results: Results) -> str:
    """How many models were tuned over what, how the grids grew, and how many optima are inside of them."""
    tunings = results.plan.tunings
    paths = dict.fromkeys(path for own in tunings for path in own.scales)
    over = text.listed([name.replace("_", " ") for name in shortest(paths).values()])
    seeds = sorted({seed for own in tunings for point in own.points for seed in point.runs})
    grown = Counter(max(point.round for point in own.points) for own in tunings)
    said = [f"{grown[n]} {_times(n)}" for n in sorted(grown)]
    ended = sum(bool(own.ended) for own in tunings)
    inside = sum(own.choice is not None for own in tunings) - ended
    edges = f"; {ended} at an edge" if ended else ""
    runs = sum(len(point.runs) for own in tunings for point in own.points)
    of = f"{text.plural(runs, 'run')} of the {'seed' if len(seeds) == 1 else 'seeds'}"
    return (
        f"{text.plural(len(tunings), 'model')} {text.was(len(tunings))} tuned over {over} with {of} "
        f"{text.listed(list(map(str, seeds)))}, which judge nothing. A grid grows where its best value is at an edge: of the "
        f"grids {text.listed(said)}. Optima inside, with both neighbours run and worse: {inside} of {len(tunings)}{edges}."
    )


def _times(rounds: int) -> str:
    """How often a grid grew."""
    return {0: "did not grow", 1: "grew once", 2: "grew twice"}.get(rounds, f"grew {rounds} times")


def tuning_table(results: Results) -> Table:
    """What each cell was tuned to, between which values, and what the next values would have cost."""
    short = shortest(dict.fromkeys(path for tuning in results.plan.tunings for path in tuning.scales))
    rows = []
    for curve in curves(results):
        means, values = curve.means, sorted(curve.seeds)
        at = values.index(curve.chosen) if curve.chosen in values else None
        best = None if at is None else means[values[at]]
        beside = [None if at is None or not 0 <= at + step < len(values) else means[values[at + step]] for step in (-1, 1)]
        rows.append(
            {
                "label": curve.label,
                "corpus": curve.panel.corpus,
                "tokenizer": curve.panel.tokenizer,
                "setting": short[curve.path],
                "tried": len(values),
                "from": values[0],
                "to": values[-1],
                "chosen": curve.chosen,
                "mean": best,
                **{
                    name: None if other is None or best is None or math.isinf(other) else other - best
                    for name, other in zip(("below", "above"), beside, strict=True)
                },
                "optimum": "still searched" if at is None else f"none: {curve.ended}" if curve.ended else "inside",
            }
        )
    columns = (
        Column("label", "Model", "left"),
        *PLACE,
        Column("setting", "Setting", "left"),
        Column("tried", "Values"),
        Column("from", "from", shown=lambda value: f"{value:g}"),
        Column("to", "to", shown=lambda value: f"{value:g}"),
        Column("chosen", "Chosen", shown=lambda value: f"{value:g}"),
        Column("mean", "Bits per byte there", shown=text.decimals),
        Column("below", "the next lower costs", shown=text.signed),
        Column("above", "the next higher costs", shown=text.signed),
        Column("optimum", "Optimum", "left", wraps=True),
    )
    caption = (
        "What each model was tuned to, by the mean over seeds that judge nothing, and what the values next to it cost. An "
        "optimum is inside where both were run and are worse; a claim that reads a model without one deviates from its plan."
    )
    return Table("tuning", caption, columns, tuple(rows))


TUNING_DRAWING = Drawing(
    "tuning",
    "Tuning",
    "Mean validation bits per byte at each value that was tried, with a dot a seed, on seeds that judge nothing; a ring marks "
    "what was chosen, a square where it lies at an edge. Of several settings the others are at what suits the value best.",
    tuned,
)
