"""A study's ladder: which of its cells are one model at several sizes, and its learning rate at each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gt.artefacts import Cell, Ladder

LEARNING_RATE = "training.learning_rate"
# Three are fitted, and the largest is held out.
FEWEST = 4
# How the rate changes with the width, as a power of it. 1/width is that of hidden matrices under Adam in Yang et al. 2022
# (arXiv:2203.03466), who scale initial values and the head as well, which nothing here does.
POWERS = {"constant": 0.0, "1/width": -1.0, "1/sqrt(width)": -0.5}


@dataclass(frozen=True)
class Arm:
    """A model on one corpus and tokenizer. cells: by rung, in the plan's order; several where their rates are to be chosen."""

    variant: str
    corpus: str
    tokenizer: str
    factors: dict[str, Any]
    cells: dict[str, list[Cell]] = field(default_factory=dict)

    @property
    def rates(self) -> set[tuple[str, Any]]:
        """The learning rates that its cells have as a factor, each with the rung."""
        return {(rung, cell.factors.get(LEARNING_RATE)) for rung, cells in self.cells.items() for cell in cells}

    @property
    def seeds(self) -> set[int]:
        """That any of its cells has."""
        return {seed for cells in self.cells.values() for cell in cells for seed in cell.runs}


def arms(cells: Iterable[Cell], ladder: Ladder) -> list[Arm]:
    """All that have a rung, also of those whose cells choose."""
    found: dict[str, Arm] = {}
    for cell in cells:
        if ladder.rungs in cell.factors:
            chosen = {LEARNING_RATE} if cell.variant in {*ladder.tuned_by, *ladder.tuned_by.values()} else set()
            others = {path: value for path, value in cell.factors.items() if path not in {ladder.rungs, *chosen}}
            place = (cell.variant, cell.corpus, cell.tokenizer)
            arm = found.setdefault(json.dumps([place, others], sort_keys=True), Arm(*place, others))
            arm.cells.setdefault(str(cell.factors[ladder.rungs]), []).append(cell)
    return list(found.values())


def rungs(arms: Iterable[Arm]) -> list[str]:
    """Of all arms together, in the plan's order."""
    return list(dict.fromkeys(rung for arm in arms for rung in arm.cells))


def chooser(arm: Arm, ladder: Ladder, arms: Sequence[Arm]) -> Arm | None:
    """The arm whose cells choose the rates of this one; None where they are as the study has them."""
    place = (ladder.tuned_by.get(arm.variant), arm.corpus, arm.tokenizer, arm.factors)
    return next((own for own in arms if (own.variant, own.corpus, own.tokenizer, own.factors) == place), None)
