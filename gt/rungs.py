"""A study's ladder: which of its cells are one model at several sizes, and its learning rate at each."""

from __future__ import annotations

import json
from collections.abc import Iterable
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
    """A model on one corpus and tokenizer. cells: by rung, in the plan's order."""

    variant: str
    corpus: str
    tokenizer: str
    factors: dict[str, Any]
    cells: dict[str, Cell] = field(default_factory=dict)


def arms(cells: Iterable[Cell], ladder: Ladder) -> list[Arm]:
    """All that have a rung."""
    found: dict[str, Arm] = {}
    for cell in cells:
        if ladder.rungs in cell.factors:
            others = {path: value for path, value in cell.factors.items() if path != ladder.rungs}
            place = (cell.variant, cell.corpus, cell.tokenizer)
            arm = found.setdefault(json.dumps([place, others], sort_keys=True), Arm(*place, others))
            arm.cells[str(cell.factors[ladder.rungs])] = cell
    return list(found.values())


def rungs(arms: Iterable[Arm]) -> list[str]:
    """Of all arms together, in the plan's order."""
    return list(dict.fromkeys(rung for arm in arms for rung in arm.cells))
