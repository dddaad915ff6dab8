"""Every metric that has a name: those of evaluations and probes, wherever they come from, and those of the tables of training.

Claims read metrics by their names, and prose has words for them. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import NamedTuple

from gt.analysis.efficiency import DERIVED
from gt.catalogue import Component, components
from gt.errors import ConfigError, nearest
from gt.metrics import Measurement, Metric, TableName
from gt.training.logged import LOGGED

# What measures, and the table of a study that its metrics are in where they do not say another.
TABLES: dict[str, TableName] = {"evaluation": "evaluations", "probe": "probes"}
NO_MIXERS: dict[str, str] = {}


class Named(NamedTuple):
    """What a name says: the metric, and the values of the axes that stand in it."""

    metric: Metric
    axes: dict[str, str]


@cache
def metrics() -> dict[str, Metric]:
    """All metrics by name. ConfigError where two have the same."""
    found: dict[str, tuple[Metric, str]] = {}
    for own, by in _declared():
        for metric in (own, own.initially()) if own.initial else (own,):
            if metric.name in found:
                raise ConfigError(f"two metrics are called {metric.name!r}: of {found[metric.name][1]} and of {by}.")
            found[metric.name] = metric, by
    return {name: metric for name, (metric, _) in found.items()}


def _declared() -> Iterator[tuple[Metric, str]]:
    """With what measures it."""
    yield from ((metric, "training") for metric in (*LOGGED, *DERIVED))
    for kind, table in TABLES.items():
        for component in components(kind).values():
            for metric in component.metrics:
                yield replace(metric, table=metric.table or table), f"the {kind} {component.name}"


@cache
def named(name: str) -> Named:
    """What a written name says. ConfigError with the nearest for one that is of no metric."""
    for metric in metrics().values():
        if (axes := metric.read(name)) is not None:
            return Named(metric, axes)
    raise ConfigError(
        f"unknown metric {name!r}." + nearest(name, [own for metric in metrics().values() for own in metric.names])
    )


def look_up(name: str) -> Named | None:
    """The same, and nothing for a name that is of no metric: a column or a row of tables may be a word, a count or a detail."""
    try:
        return named(name)
    except ConfigError:
        return None


def described() -> str:
    """All that is said of metrics, as text: what reads numbers by their names, or says them in words, depends on it."""
    said = []
    for own in metrics().values():
        said.append(f"{own.name} {own.phrase} {own.unit} {own.better} {own.table} {[axis.form for axis in own.axes]}")
        said += [f"{name} {phrase(name)}" for name in own.names if "<" not in name]
    return "\n".join([*said, *(f"{name} {component}" for kind in TABLES for name, component in plain(kind).items())])


def check(measurements: Iterable[Measurement], source: object) -> None:
    """ConfigError where a measurement of a metric that is known has values that its axes cannot have."""
    for own in measurements:
        if not _fits(own.metric, own.name):
            raise ConfigError(f"{source}: {own.name!r} is no name of the metric {own.metric!r}.")


@cache
def _fits(metric: str, name: str) -> bool:
    """Whether a name can be of a metric, or nothing is known of it. Asked of all that was measured of all runs."""
    return metric not in metrics() or metrics()[metric].read(name) is not None


def plain(kind: str) -> dict[str, Component]:
    """By the names of their metrics the evaluations, or the probes, whose metrics are shown as they are."""
    found: dict[str, Component] = {}
    for component in components(kind).values():
        if component.is_plain:
            for own in component.metrics:
                found |= dict.fromkeys([own.name, *([own.initially().name] if own.initial else [])], component)
    return found


def metric(name: str) -> Metric:
    """The metric that a written name is of. ConfigError with the nearest for one that is of none."""
    return named(name).metric


def phrase(name: str, mixers: Mapping[str, str] = NO_MIXERS) -> str:
    """What a written name is called in a sentence: `ablation/zero/m` is the loss added by zeroing the m branch, or, with its
    mixer by letter, the mamba2 branch. ConfigError for a name that is of no metric.
    """
    found = named(name)
    return found.metric.said(found.axes, mixers)
