"""How much of a difference is rounding: runs that several studies trained, each for itself, against each other.

Two trainings of a run have one specification, seed and text, and differ by rounding, which devices and versions of the code do
differently. So of a contrast whose runs were all trained twice, what it differs by within a seed is rounding, and what its
means over trainings differ by between seeds is what an interval over seeds is made of.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import permutations
from statistics import fmean, variance
from typing import TYPE_CHECKING

from gt.analysis.aggregate import MAIN
from gt.report import text
from gt.report.census import TRAINING

if TYPE_CHECKING:
    from gt.report.numbers import Results

# A training of a run: when it began and ended, and its loss.
Training = tuple[str, str, float]
# By seed, of two trainings each, a contrast.
Twice = dict[int, tuple[float, float]]


def rounding(studies: Sequence[Results]) -> str:
    """The standard deviation of contrasts within a seed beside that between seeds; empty where none was trained twice."""
    found = list({runs: own for pair in permutations(studies, 2) for runs, own in _twice(*pair)}.values())
    if not found:
        return ""
    within = fmean(fmean((a - b) ** 2 / 2 for a, b in own.values()) for own in found)
    between = fmean(variance([fmean(pair) for pair in own.values()]) for own in found)
    of = f"{text.plural(len(found), 'contrast')} whose runs were trained twice"
    return (
        f"Over {of}, the standard deviation is {text.significant(math.sqrt(within), 2)} bits per byte within a seed, by "
        f"rounding alone, and {text.significant(math.sqrt(between), 2)} between seeds, each the mean of its two."
    )


def _twice(first: Results, second: Results) -> Iterator[tuple[frozenset[str], Twice]]:
    """The contrasts of the first study, by their runs, which the second has trained as well, of two seeds or more."""
    cells = {cell.id: cell for cell in first.plan.cells}
    mine, other = _trainings(first), _trainings(second)
    for row in first.contrasts.dropna(subset=["baseline"]).to_dict("records"):
        own, baseline = cells[row["cell"]].runs, cells[row["baseline"]].runs
        seeds = [seed for seed in own.keys() & baseline.keys() if _both(own[seed], mine, other)]
        seeds = [seed for seed in seeds if _both(baseline[seed], mine, other)]
        if len(seeds) > 1:
            pairs = {seed: (own[seed], baseline[seed]) for seed in seeds}
            differences = {seed: (mine[a][2] - mine[b][2], other[a][2] - other[b][2]) for seed, (a, b) in pairs.items()}
            yield frozenset(run for pair in pairs.values() for run in pair), differences


def _trainings(results: Results) -> dict[str, Training]:
    """The completed runs of a study."""
    runs = results.runs[results.runs["status"] == "completed"].dropna(subset=[MAIN])
    return {row[0]: row[1:] for row in runs[[*TRAINING, MAIN]].itertuples(index=False, name=None)}


def _both(run: str, first: dict[str, Training], second: dict[str, Training]) -> bool:
    """Whether a run has a training of its own in either study."""
    return run in first and run in second and first[run][:2] != second[run][:2]
