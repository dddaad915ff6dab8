"""What several studies found, in a few sentences: sizes with intervals, chosen by rules that stand here.

All are about the text (a corpus under a tokenizer) on which most runs completed. A cell takes part if all its planned runs
completed and it has more than two seeds, for two choose a rate and show little; where no cell has so many, any that completed.

- The lowest mean of all cells of all studies on that text, with the rate and the steps that gave it; and the lowest of cells of
  fewer seeds, if that is lower still.
- What changing one thing alone does (`LEVERS`): among cells whose specifications differ in nothing else, the lowest and the
  highest; of several such groups of cells, of the one that has most, and of as many the one in which these are furthest apart.
- Of the contrasts with baselines that are decided, of all their pairs of seeds, the largest difference to either side.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gt.analysis.aggregate import MAIN
from gt.analysis.statistics import Difference, paired_difference
from gt.report import text
from gt.report.numbers import estimated
from gt.spec import Watch

if TYPE_CHECKING:
    from gt.report.numbers import Results, Row

Json = dict[str, Any]
# What one can change alone, and where it stands in a specification.
LEVERS = {
    "learning rate": ("training", "learning_rate"),
    "number of steps": ("training", "steps"),
    "fusion": ("model", "fusion"),
}
FEW = 2


@dataclass(frozen=True)
class Cell:
    """A cell of a study: its row, its specification without the seed, and its losses by seed."""

    study: str
    row: Row
    spec: Json
    losses: dict[int, float]

    @property
    def label(self) -> str:
        return str(self.row["label"])

    @property
    def mean(self) -> float:
        return float(self.row["mean"])


def findings(studies: Sequence[Results]) -> list[str]:
    """The sentences, on the text with most completed runs; none where no run completed."""
    here = leading(studies)
    if not here:
        return []
    cells = [cell for cell in here if len(cell.losses) > FEW] or here
    said = [lowest(cells, here), levers(cells), contrasts(cells)]
    picked = "Each was picked for its size from all there are, which flatters it; intervals are of that one difference or mean."
    return [*filter(None, said), picked]


def leading(studies: Sequence[Results]) -> list[Cell]:
    """The cells of which all runs completed, of any number of seeds, on the text with most completed runs."""
    places: Counter[tuple[str, str]] = Counter()
    found: list[Cell] = []
    for own in studies:
        plan = {cell.id: cell for cell in own.plan.cells}
        done = own.runs[own.runs["status"] == "completed"]
        losses = {str(cell): dict(zip(rows["seed"], rows[MAIN], strict=True)) for cell, rows in done.groupby("cell")}
        for row in own.cell_rows_in_order:
            places[row["corpus"], row["tokenizer"]] += int(row["completed"])
            if row["completed"] and row["completed"] == row["planned"]:
                spec = own.plan.spec(plan[row["cell"]]).model_dump(mode="json")
                found.append(Cell(own.study, row, spec, losses[row["cell"]]))
    if not found:
        return []
    place = places.most_common(1)[0][0]
    return [cell for cell in found if (cell.row["corpus"], cell.row["tokenizer"]) == place]


def lowest(cells: Sequence[Cell], others: Sequence[Cell]) -> str:
    """The cell with the lowest mean, and that of other cells if it is lower."""
    best = min(cells, key=lambda cell: cell.mean)
    training = best.spec["training"]
    per_step = training["batch_size"] * training["sequence_length"] * training.get("grad_accumulation", 1)
    trained = f"{training['steps']:,} steps of {per_step:,} tokens at a learning rate of {training['learning_rate']:g}"
    place = f"{best.row['corpus']}, {best.row['tokenizer']}"
    n = len({json.dumps({**cell.spec, "seed": None}, sort_keys=True) for cell in cells})  # several studies may have one
    several = f"{n} cells of more than {FEW} seeds" if len(cells) < len(others) else f"{n} cells"
    of = "the only cell is" if n == 1 else f"the lowest and so the best mean loss of {several} is that of"
    said = f"On {place} {of} {best.label} in `{best.study}`, after {trained}: {estimated(best.row)}."
    lower = min(others, key=lambda cell: cell.mean)
    if lower.mean < best.mean:
        few = f"{text.plural(len(lower.losses), 'seed')}, {lower.label} in `{lower.study}` has {text.decimals(lower.mean)}"
        said += f" Lower still, with {few}."
    return said


def levers(cells: Sequence[Cell]) -> str:
    """How far apart cells are that differ in one thing alone, the furthest first; empty where none do."""
    groups = {name: group for name, path in LEVERS.items() if (group := alike(cells, path))}
    apart = {name: paired_difference(own[-1].losses, own[0].losses) for name, own in groups.items()}
    said = [
        f"by {_difference(d)}, with the {name} ({_ends(groups[name], LEVERS[name])})"
        for name, d in sorted(apart.items(), key=lambda own: -(own[1].mean or 0.0))
        if d.n
    ]
    return f"One change alone moves the loss {'; '.join(said)}." if said else ""


def _ends(group: Sequence[Cell], path: tuple[str, str]) -> str:
    """Of which model a number is changed, or which model is at either end: lowest with HGF, highest with RF, of 19 tried."""
    part, key = path
    named, model = [own.label for own in group], ""
    if all(isinstance(own.spec[part][key], int | float) for own in group):
        named, model = [f"{own.spec[part][key]:,g}" for own in group], f"{group[0].row['variant']}: "
    return f"{model}lowest with {named[0]}, highest with {named[-1]}, of {len(group)} tried"


def alike(cells: Sequence[Cell], path: tuple[str, str]) -> list[Cell]:
    """Cells that differ alone in what stands at a path of their specifications, the lowest first; none where no two do."""
    part, key = path
    groups: dict[str, list[Cell]] = {}
    for cell in sorted(cells, key=lambda cell: cell.mean):
        spec = deepcopy(cell.spec)
        if spec[part].pop(key, None) is not None:
            training = {name: value for name, value in spec["training"].items() if name not in Watch.model_fields}
            group = groups.setdefault(json.dumps({**spec, "training": training, "seed": None}, sort_keys=True), [])
            if cell.spec[part][key] not in [own.spec[part][key] for own in group]:
                group.append(cell)
    several = [own for own in groups.values() if len(own) > 1]
    return max(several, key=lambda own: (len(own), own[-1].mean - own[0].mean), default=[])


def contrasts(cells: Sequence[Cell]) -> str:
    """The largest differences to a baseline that are decided, to either side; empty without any."""
    whole = [cell for cell in cells if cell.row["decided"] and cell.row["pairs"] == cell.row["pairs_planned"]]
    decided = [cell for cell in whole if cell.row["pairs"] > FEW] or whole
    said = []
    for sign in (-1, 1):
        far = max(decided, key=lambda cell: sign * cell.row["difference"], default=None)
        if far is not None and sign * far.row["difference"] > 0:
            row = far.row
            inside = text.interval(row["difference_lower"], row["difference_upper"], sign=True)
            size = f"{text.signed(row['difference'])} {inside}, {text.plural(int(row['pairs']), 'pair')}"
            said.append(f"{size}, is {far.label} against {row['against']} (`{far.study}`)")
    return (
        f"Of the decided differences to a study’s baseline the furthest, {'; and to the other side, '.join(said)}."
        if said
        else ""
    )


def _difference(d: Difference) -> str:
    inside = "" if d.lower is None else f" {text.interval(d.lower, d.upper)}"
    return f"{text.decimals(d.mean)}{inside}, {text.plural(d.n, 'pair')}"
