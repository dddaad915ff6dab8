"""Tuning: the settings of an arm, chosen by runs on seeds that judge nothing.

Every arm of a study searches the same space, with the same budget. A grid grows by a value towards an edge where its best point
stands there, until the best is interior, both its neighbours having been run and being worse, or the space or the budget ends.
Nothing is remembered of it: what was chosen, and what is to be run next, is a function of the space and of the runs there are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from gt.artefacts import Number, Typed

# What a point's seeds gave: how many of them were lost, and the mean loss of the others. None while any has not run.
Outcome = tuple[int, float]


class Range(Typed):
    """The values of one setting: evenly spaced from one to another, and further on in the same steps as far as the bounds."""

    scale: Literal["log", "linear"]
    from_: Annotated[float, Field(alias="from")]
    to: float
    points: Annotated[int, Field(ge=3, le=100)] = Field(
        3, description="that every arm runs; an interior one has two neighbours"
    )
    low: Annotated[float, Field(description="the grid never grows below it")]
    high: Annotated[float, Field(description="the grid never grows above it")]

    @model_validator(mode="before")
    @classmethod
    def _spaced(cls, value: Any) -> Any:
        if isinstance(value, dict) and "scale" not in value:
            raise ValueError("how are the values spaced? Write: scale: log, or scale: linear")
        return value

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if not self.from_ < self.to:
            raise ValueError(f"from {self.from_:g} must be below to {self.to:g}")
        if not self.low <= self.from_ or not self.to <= self.high:
            raise ValueError(f"low {self.low:g} and high {self.high:g} must enclose {self.from_:g} to {self.to:g}")
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"low {self.low:g} must be above 0 where scale is log")
        return self

    def value(self, place: int) -> float:
        """The value at a place of the grid, of which `from` is the first, to four digits."""
        share = place / (self.points - 1)
        if self.scale == "log":
            return _rounded(self.from_ * (self.to / self.from_) ** share)
        return _rounded(self.from_ + (self.to - self.from_) * share)

    def allows(self, place: int) -> bool:
        """Whether a place of the grid lies between the bounds."""
        return self.low <= self.value(place) <= self.high


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


class Tune(Typed):
    """How the arms of a study are tuned. `space`: dotted path of a run specification -> its values."""

    space: Annotated[dict[str, Range], Field(min_length=1)]
    seeds: Annotated[list[Number], Field(min_length=1)] = Field(description="none of which judges")
    runs: Annotated[int, Field(ge=3)] = Field(description="the most that an arm may take")

    @model_validator(mode="after")
    def _affordable(self) -> Tune:
        first = math.prod(own.points for own in self.space.values()) * len(self.seeds)
        if first > self.runs:
            raise ValueError(f"runs {self.runs} are fewer than the first grid takes, {first}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {self.seeds} must each stand there once")
        return self


def outcome_of(losses: Sequence[float | None]) -> Outcome | None:
    """What the losses of a point's seeds say: infinite where a run diverged, None where it has not run."""
    known = [loss for loss in losses if loss is not None]
    finite = [loss for loss in known if math.isfinite(loss)]
    if len(known) < len(losses):
        return None
    return len(known) - len(finite), math.fsum(finite) / len(finite) if finite else math.inf


def values_at(space: Mapping[str, Range], point: Sequence[int]) -> dict[str, float]:
    """The values at a point of the grid."""
    return {name: own.value(place) for (name, own), place in zip(space.items(), point, strict=True)}


@dataclass(frozen=True)
class Search:
    """Where the search of an arm stands. points: all that it has asked for, by the places of their values -> in which round.

    choice: None while runs are missing. ended: by setting, why the choice is at an edge that it could not leave.
    """

    points: dict[tuple[int, ...], int]
    choice: tuple[int, ...] | None
    ended: dict[str, str]


def search(space: Mapping[str, Range], most: int, outcome: Callable[[tuple[int, ...]], Outcome | None]) -> Search:
    """Grow the grid of an arm as far as its runs tell. most: points that it may take.

    The best point lost the fewest runs, then has the lowest mean loss, then the smallest values.
    """
    ranges = list(space.values())
    grids = [list(range(own.points)) for own in ranges]
    points: dict[tuple[int, ...], int] = {}
    while True:
        turn = max(points.values(), default=-1) + 1
        points |= {point: turn for point in itertools.product(*grids) if point not in points}
        found = {point: known for point in points if (known := outcome(point)) is not None}
        if len(found) < len(points):
            return Search(points, None, {})
        best = min(points, key=lambda point: (found[point], point))
        grown, ended = [], {}
        for name, own, grid, place in zip(space, ranges, grids, best, strict=True):
            step = {grid[0]: -1, grid[-1]: 1}.get(place, 0)
            if step and not own.allows(place + step):
                word, bound = ("lowest", own.low) if step < 0 else ("highest", own.high)
                ended[name] = f"is best at {own.value(place):g}, the {word} value that the bound {bound:g} allows"
                step = 0
            grown.append(sorted([*grid, place + step]) if step else grid)
        if grown == grids:
            return Search(points, best, ended)
        if math.prod(map(len, grown)) > most:
            edges = {name: place for name, grid, more, place in zip(space, grids, grown, best, strict=True) if more != grid}
            words = f"an edge of what was tried, and more takes over {most} points, which `runs` does not allow"
            ended |= {name: f"is best at {space[name].value(k):g}, {words}" for name, k in edges.items()}
            return Search(points, best, ended)
        grids = grown
