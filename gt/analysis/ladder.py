"""A study's ladder: a law of loss over size for each arm, and what it says of the largest rung, which it has not seen.

The rungs are ordered by the parameters of the baseline, and the largest is held out: laws (`gt.analysis.laws`) are fitted to
the others. Of each arm the loss there is predicted, and of each pair of arms the difference, beside two baselines that need no
law: that the difference of the last rung that is fitted stays as it is, and that its sign does. Magnusson et al. 2025
(DataDecide, arXiv:2504.11393) call the share of pairs whose sign is right decision accuracy, and found none of eight laws to be
better at it than the ranks of one rung. Bands are those of means drawn again over the seeds that all arms have at all rungs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, Literal, NamedTuple

import numpy as np

from gt.analysis.aggregate import MAIN, label
from gt.analysis.laws import Laws, drawn_means, fit
from gt.analysis.statistics import paired_difference
from gt.analysis.values import Values
from gt.artefacts import Cell
from gt.rungs import LEARNING_RATE, arms, rungs

Row = Mapping[str, Any]
ALPHA = 0.05
# What a law is of: parameters without embeddings, or the FLOPs of training, of which a backward pass is two forward ones.
Size = Literal["parameters", "compute"]
SIZES: tuple[Size, ...] = ("parameters", "compute")


class Band(NamedTuple):
    """A value, and its 95 % interval over draws; without one where there is one seed."""

    value: float
    lower: float | None
    upper: float | None


def band(draws: np.ndarray) -> Band:
    """Of the value itself, which comes first, and its draws."""
    if len(draws) == 1:
        return Band(float(draws[0]), None, None)
    lower, upper = np.quantile(draws[1:], (ALPHA / 2, 1 - ALPHA / 2))
    return Band(float(draws[0]), float(lower), float(upper))


@dataclass(frozen=True)
class Arm:
    """An arm at each rung, the smallest first. losses: (seeds, rungs); sizes: each (rungs); rates: learning rates.

    at_ends: the rungs at which the rate that was chosen is at an edge of what was tried.
    """

    name: str
    cells: list[Cell]
    sizes: dict[Size, np.ndarray]
    rates: list[float]
    at_ends: list[str]
    losses: np.ndarray


@dataclass(frozen=True)
class Pair:
    """Two arms at the held-out rung: a less b, as the laws say, as it was at the last rung that is fitted, and as it is.

    decided: whether a paired t-test of the difference there has p < 0.05, unadjusted.
    """

    a: str
    b: str
    predicted: Band
    carried: float
    measured: Band
    decided: bool


@dataclass(frozen=True)
class Decisions:
    """The share of pairs whose sign at the held-out rung is the one expected, by the laws and by the rung before.

    A tie counts half. decided: of how many of the pairs the difference there is seen at all, and the shares of those; None
    without any.
    """

    pairs: int
    laws: Band
    rank: Band
    decided: int
    laws_decided: float | None
    rank_decided: float | None


@dataclass(frozen=True)
class Ladder:
    """The arms of one corpus and tokenizer that have a rung each. rungs: their names, the smallest first, the last held out.

    seeds: those that all arms have completed at all rungs; lost: the others that are planned for all. short: the arms that are
    left out: they have no completed run at some rung, or do not grow from each to the next.
    """

    corpus: str
    tokenizer: str
    rungs: list[str]
    seeds: list[int]
    lost: list[int]
    arms: list[Arm]
    short: list[str]

    @property
    def title(self) -> str:
        return f"{self.corpus}, {self.tokenizer}"

    @cached_property
    def losses(self) -> np.ndarray:
        """Mean losses, first as they are and then drawn again: (draws, arms, rungs). One draw where there is one seed."""
        values = np.stack([arm.losses for arm in self.arms], axis=1)
        means = values.mean(axis=0)[None]
        return means if len(self.seeds) < 2 else np.concatenate([means, drawn_means(values)])

    @cached_property
    def laws(self) -> dict[Size, list[Laws]]:
        """Of each arm, fitted without the largest rung."""
        return {size: [fit(arm.sizes[size][:-1], self.losses[:, i, :-1]) for i, arm in enumerate(self.arms)] for size in SIZES}

    @cached_property
    def predicted(self) -> dict[Size, np.ndarray]:
        """The loss of each arm at the held-out rung: (draws, arms)."""
        return {
            size: np.stack([law.at(arm.sizes[size][-1]) for law, arm in zip(laws, self.arms, strict=True)], axis=1)
            for size, laws in self.laws.items()
        }

    def pairs(self, over: Size = "parameters") -> list[Pair]:
        """Of all arms."""
        predicted, found = self.predicted[over], []
        for i, j in combinations(range(len(self.arms)), 2):
            a, b = self.arms[i], self.arms[j]
            first, second = (dict(zip(self.seeds, arm.losses[:, -1].tolist(), strict=True)) for arm in (a, b))
            test = paired_difference(first, second)
            apart = self.losses[:, i] - self.losses[:, j]
            measured = Band(float(apart[0, -1]), test.lower, test.upper)
            decided = test.p is not None and test.p < ALPHA
            found.append(Pair(a.name, b.name, band(predicted[:, i] - predicted[:, j]), float(apart[0, -2]), measured, decided))
        return found

    def decisions(self, over: Size = "parameters") -> Decisions | None:
        """None of a single arm."""
        if len(self.arms) < 2:
            return None
        pairs = np.array(list(combinations(range(len(self.arms)), 2)))
        decided = np.array([pair.decided for pair in self.pairs(over)])

        def signs(losses: np.ndarray) -> np.ndarray:
            return np.sign(losses[:, pairs[:, 0]] - losses[:, pairs[:, 1]])

        is_ = signs(self.losses[..., -1])
        right = [(1 + signs(losses) * is_) / 2 for losses in (self.predicted[over], self.losses[..., -2])]
        laws, rank = (band(own.mean(axis=1)) for own in right)
        of_decided = [float(own[0, decided].mean()) if decided.any() else None for own in right]
        return Decisions(len(pairs), laws, rank, int(decided.sum()), *of_decided)


def ladders(values: Values) -> list[Ladder]:
    """Of each corpus and tokenizer of a study that has arms with completed runs of the same seeds at all rungs."""
    ladder = values.plan.ladder
    if ladder is None:
        return []
    every = arms(values.plan.cells, ladder)
    names = rungs(every)
    whole = [arm for arm in every if len(arm.cells) == len(names)]
    found = []
    for corpus, tokenizer in dict.fromkeys((arm.corpus, arm.tokenizer) for arm in whole):
        cells: dict[str, list[Cell]] = {}
        for arm in whole:
            if (arm.corpus, arm.tokenizer) == (corpus, tokenizer):
                own = [arm.cells[rung] for rung in names]
                cells[label(own[0].model_copy(update={"factors": arm.factors}))] = own
        if (made := _ladder(values, corpus, tokenizer, names, cells)) is not None:
            found.append(made)
    return found


def _ladder(values: Values, corpus: str, tokenizer: str, names: list[str], cells: dict[str, list[Cell]]) -> Ladder | None:
    """cells: those of each arm by its name, a rung each."""
    runs = {cell.id: {int(row["seed"]): row for row in values.completed(cell.id)} for own in cells.values() for cell in own}
    sizes = {name: _sizes([runs[cell.id] for cell in own]) for name, own in cells.items() if all(runs[cell.id] for cell in own)}
    first = next((name for name in sizes if cells[name][0].variant == values.plan.baseline), next(iter(sizes), None))
    if first is None:
        return None
    order = np.argsort(sizes[first]["parameters"], kind="stable")
    sizes = {name: {size: own[order] for size, own in of.items()} for name, of in sizes.items()}
    sizes = {name: of for name, of in sizes.items() if all((np.diff(own) > 0).all() for own in of.values())}
    kept = {name: [cells[name][i] for i in order] for name in sizes}
    seeds = sorted(set.intersection(*(set(runs[cell.id]) for own in kept.values() for cell in own))) if kept else []
    if not seeds:
        return None
    rising = [names[i] for i in order]
    ended = {own.cell for own in values.plan.tunings if LEARNING_RATE in own.ended}
    found = [
        Arm(
            name,
            own,
            sizes[name],
            [values.plan.spec(cell).training.learning_rate for cell in own],
            [rung for rung, cell in zip(rising, own, strict=True) if cell.id in ended],
            np.array([[float(runs[cell.id][seed][MAIN]) for cell in own] for seed in seeds]),
        )
        for name, own in kept.items()
    ]
    # Those that a look has added to some of the cells are no others' loss.
    lost = sorted(set.intersection(*(set(cell.runs) for own in kept.values() for cell in own)).difference(seeds))
    short = [name for name in cells if name not in kept]
    return Ladder(corpus, tokenizer, rising, seeds, lost, found, short)


def _sizes(runs: Sequence[Mapping[int, Row]]) -> dict[Size, np.ndarray]:
    """Of the cells of an arm, whose seeds are alike in both."""
    rows = [next(iter(own.values())) for own in runs]
    return {
        "parameters": np.array([float(row["n_params_non_embedding"]) for row in rows]),
        "compute": np.array([3.0 * float(row["flops_per_token"]) * float(row["tokens"]) for row in rows]),
    }
