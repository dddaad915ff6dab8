"""What a difference is worth: how much more of something the baseline needs for the same loss.

Of tokens and device seconds, from runs of the baseline at three budgets at least, each with a schedule of its own that ends
there: a run that is stopped halfway has not lowered its learning rate, and would look worse than it is. Of parameters, from the
baseline's rungs of the ladder. Seed by seed the logarithm of the cost is interpolated over that of the loss by a cubic that
falls where the points do (PCHIP; Fritsch and Carlson 1980), which is exact for a power law, and never beyond the points.

saved = 1 - own cost / what the baseline needs: 0.2 where the baseline needs 25 % more, and -0.25 where it needs 20 % less.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy

from gt.analysis.aggregate import MAIN
from gt.analysis.ladder import Ladder
from gt.analysis.statistics import mean_interval
from gt.analysis.values import Values
from gt.artefacts import Cell, Plan
from gt.numbers import exponential
from gt.spec import Watch

# Of runs: a cost, and the loss for it.
Point = tuple[float, float]
STEPS = "steps"
FEWEST = 3
# The share of a run's time that was its own where nobody shared the device: the meter's clock is not that of the run.
ALONE = 0.99
# What may be saved, and the column of `runs.parquet` that has it.
COSTS = {"tokens": "tokens", "device_seconds": "device_seconds", "parameters": "n_params_non_embedding"}


@dataclass(frozen=True)
class Saved:
    """A share, from the mean over n seeds of the logarithm of own cost to the baseline's, with its 95 % t interval.

    bound: what the share is: that, or, where seeds lie beyond what the baseline was run with, more or less than it.
    """

    n: int
    share: float
    lower: float | None
    upper: float | None
    bound: Literal["", "more", "less"] = ""


def reached(points: Sequence[Point], loss: float) -> float | None:
    """The logarithm of the cost of a loss; infinite beyond the points. None where these do not fall, each below the last."""
    costs, losses = (np.log(column) for column in zip(*sorted(points), strict=True))
    if (np.diff(losses) >= 0).any() or (np.diff(costs) <= 0).any():
        return None
    at = math.log(loss)
    if not losses[-1] <= at <= losses[0]:
        return math.inf if at < losses[-1] else -math.inf
    return float(scipy.interpolate.PchipInterpolator(losses[::-1], costs[::-1])(at))


def saved(own: Mapping[int, Point], baseline: Mapping[int, Sequence[Point]]) -> Saved | None:
    """By seed: a cost and the loss for it, and the points of the baseline. None where these do not say.

    Seeds beyond the points count as at their end, so that the mean is a bound; with seeds beyond both ends it is none.
    """
    logs, beyond = [], set()
    for seed in sorted(own.keys() & baseline.keys()):
        cost, loss = own[seed]
        at = reached(baseline[seed], loss)
        if at is None:
            return None
        if math.isinf(at):
            beyond.add("more" if at > 0 else "less")
            at = math.log((max if at > 0 else min)(cost for cost, _ in baseline[seed]))
        logs.append(math.log(cost) - at)
    if not logs or len(beyond) > 1:
        return None
    e = mean_interval(logs)
    share, lower, upper = (None if log is None else 1 - exponential(log) for log in (e.mean, e.upper, e.lower))
    assert share is not None
    if beyond:
        return Saved(e.n, share, None, None, "more" if "more" in beyond else "less")
    return Saved(e.n, share, lower, upper)


def budgets(plan: Plan) -> dict[str, list[Cell]]:
    """By cell of the baseline, where there are enough, those that differ from it in their steps and what is tuned alone."""
    tuned = {own.cell: own.scales for own in plan.tunings}
    alike: dict[str, dict[int, Cell]] = {}
    keys = {}
    for cell in plan.cells:
        if cell.variant == plan.baseline:
            spec = plan.spec(cell).model_dump(mode="json", exclude={"seed": True, "training": {STEPS, *Watch.model_fields}})
            for path in tuned.get(cell.id, ()):
                _remove(spec, path)
            keys[cell.id] = json.dumps(spec, sort_keys=True)
            alike.setdefault(keys[cell.id], {}).setdefault(plan.spec(cell).training.steps, cell)
    return {cell: list(alike[key].values()) for cell, key in keys.items() if len(alike[key]) >= FEWEST}


def _remove(spec: Any, path: str) -> None:
    """Take a setting out of a specification."""
    *parents, last = path.split(".")
    for key in parents:
        spec = spec[key]
    del spec[last]


def equal_losses(values: Values, ladders: Sequence[Ladder], baselines: Mapping[str, str]) -> dict[str, dict[str, Saved]]:
    """By cell, and by cost, what it saves of what its baseline needs, where that is known. baselines: by cells' ids, theirs."""
    cells, known = {cell.id: cell for cell in values.plan.cells}, budgets(values.plan)
    rungs = {cell.id: (ladder, arm) for ladder in ladders for arm in ladder.arms for cell in arm.cells}
    found: dict[str, dict[str, Saved]] = {}
    for name, other in baselines.items():
        runs = known.get(other, [])
        curves = {"tokens": _curve(values, runs, "tokens")} if runs else {}
        if runs and _alone(values, [cells[name], *runs]):
            curves["device_seconds"] = _curve(values, runs, "device_seconds")
        if other in rungs:
            ladder, arm = rungs[other]
            points = [list(zip(arm.sizes["parameters"].tolist(), losses, strict=True)) for losses in arm.losses.tolist()]
            curves["parameters"] = dict(zip(ladder.seeds, points, strict=True))
        for cost, curve in curves.items():
            own = {seed: points[0] for seed, points in _curve(values, [cells[name]], COSTS[cost]).items()}
            if (share := saved(own, curve)) is not None:
                found.setdefault(name, {})[cost] = share
    return found


def _curve(values: Values, cells: Sequence[Cell], cost: str) -> dict[int, list[Point]]:
    """By seed that all of the cells have completed, what it cost in each, and the loss."""
    runs = [{int(row["seed"]): (float(row[cost]), float(row[MAIN])) for row in values.completed(cell.id)} for cell in cells]
    return {seed: [own[seed] for own in runs] for seed in sorted(set.intersection(*map(set, runs)))}


def _alone(values: Values, cells: Sequence[Cell]) -> bool:
    """Whether all runs had a device of one kind to themselves, so that their seconds can be compared."""
    rows = [row for cell in cells for row in values.completed(cell.id)]
    whole = all(row["device_seconds"] is not None and row["device_seconds"] >= ALONE * row["seconds"] for row in rows)
    return whole and len({row["device"] for row in rows}) == 1
