"""Checks of networks: bounds on what was measured inside of them, which a plug-in brings and the report shows cell by cell.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from gt.options import Options
from gt.probes.metrics import pattern

Interval = tuple[float, float]
Verdict = Literal["pass", "warning", "fail", "not measured"]
ORDER: tuple[Verdict, ...] = ("not measured", "pass", "warning", "fail")


@dataclass(frozen=True)
class Bounds:
    """A value within `passes` passes, else within `warns` is a warning, else fails; ends are within. source: who set them."""

    source: str
    passes: Interval
    warns: Interval


@dataclass(frozen=True)
class Check:
    """A metric of a trained network, and all bounds that were set for it.

    A metric of a branch is judged on every branch, and the worst verdict is the check's. reported: what was said of it
    elsewhere. control: another form of the metric, for comparison, within `control_bounds` where it is another quantity.
    """

    name: str
    title: str
    metric: str
    bounds: tuple[Bounds, ...]
    reported: str = ""
    control: str | None = None
    control_bounds: tuple[Bounds, ...] = ()


class Checks:
    """A component: a table of checks in the report on each cell.

    A subclass gives `name` and `checks`; `title` stands above the table, the others above its columns of that name.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    checks: ClassVar[tuple[Check, ...]]
    reported: ClassVar[str] = "Reported"
    control: ClassVar[str] = "Another form of it"

    class Config(Options):
        """No options."""


@dataclass(frozen=True)
class Outcome:
    """Of one check: the values that were judged, by branch where it has branches, and a verdict by each of its bounds."""

    check: Check
    values: dict[str, float]
    verdicts: tuple[Verdict, ...]
    control_values: dict[str, float]
    control_verdicts: tuple[Verdict, ...]


def judge(checks: Iterable[Check], values: Mapping[str, float]) -> list[Outcome]:
    """Every check on a network's values by name (`gt.probes.metrics`); one whose metric it does not have was not measured."""
    outcomes = []
    for check in checks:
        own, control = _values(check.metric, values), _values(check.control, values) if check.control else {}
        outcomes.append(
            Outcome(
                check,
                own,
                tuple(_worst(bounds, own) for bounds in check.bounds),
                control,
                tuple(_worst(bounds, control) for bounds in check.control_bounds or check.bounds) if check.control else (),
            )
        )
    return outcomes


def verdict(bounds: Bounds, value: float) -> Verdict:
    """Of a value, by one pair of bounds."""
    if bounds.passes[0] <= value <= bounds.passes[1]:
        return "pass"
    return "warning" if bounds.warns[0] <= value <= bounds.warns[1] else "fail"


def _worst(bounds: Bounds, values: dict[str, float]) -> Verdict:
    return max((verdict(bounds, value) for value in values.values()), key=ORDER.index, default="not measured")


def _values(template: str, values: Mapping[str, float]) -> dict[str, float]:
    """The values of a metric, by its whole name."""
    return {name: value for name, value in values.items() if pattern(template).fullmatch(name)}
