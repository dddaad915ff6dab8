"""What the record's tests say of a network, by each of the record's tables. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from gt.metrics import fits
from gt.probes.thresholds import Check, Table

Verdict = Literal["pass", "warning", "fail", "not measured"]
ORDER: tuple[Verdict, ...] = ("not measured", "pass", "warning", "fail")


@dataclass(frozen=True)
class Outcome:
    """Of one test: the values that were judged, by branch where it has branches, and a verdict for each table."""

    test: Check
    values: dict[str, float]
    verdicts: tuple[Verdict, ...]
    control_values: dict[str, float]
    control_verdicts: tuple[Verdict, ...]


def judge(tests: Iterable[Check], values: Mapping[str, float]) -> list[Outcome]:
    """Every test on a network's values by name (`gt.metrics`); one whose metric it does not have was not measured."""
    outcomes = []
    for test in tests:
        own, control = _values(test.metric, values), _values(test.control, values) if test.control else {}
        tables = test.control_tables or test.tables
        outcomes.append(
            Outcome(
                test,
                own,
                tuple(_worst(table, own) for table in test.tables),
                control,
                tuple(_worst(table, control) for table in tables) if test.control else (),
            )
        )
    return outcomes


def verdict(table: Table, value: float) -> Verdict:
    """By one table."""
    if table.passes[0] <= value <= table.passes[1]:
        return "pass"
    return "warning" if table.warns[0] <= value <= table.warns[1] else "fail"


def _worst(table: Table, values: dict[str, float]) -> Verdict:
    return max((verdict(table, value) for value in values.values()), key=ORDER.index, default="not measured")


def _values(template: str, values: Mapping[str, float]) -> dict[str, float]:
    """The values of a metric, by its whole name."""
    return {name: value for name, value in values.items() if fits(name, template)}
