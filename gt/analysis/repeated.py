"""Runs that were trained more than once, of which the mean of all trainings is one number of one seed.

A run is a specification with its seed, and a study has one record of it. Of published studies that share runs each may keep a
training of its own. Trainings of a run differ by rounding, not by what chance a seed stands for, so that they are no further
seeds: a verdict or a contrast takes their mean for the seed's number, as far as a training completed where the study's own did.
What a device has part in, as a speed, is the study's own, and so are curves and whatever a table shows of a run.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from gt.analysis.earlier import Study
from gt.analysis.reading import Records
from gt.artefacts import Plan
from gt.registry import look_up

Json = dict[str, Any]
# Units of what is measured of a device.
OF_DEVICES = ("s", "tokens/s", "tokens/$", "bytes", "J")


def repeated(plan: Plan, records: Records, studies: Iterable[Study]) -> list[Json]:
    """What further trainings of a plan's runs gave, which other studies have: a row each number, of each cell that has the run.

    records: of the plan's own runs. A training is told from others by when it began and ended.
    """
    places: dict[str, list[Json]] = {}
    for cell in plan.cells:
        for seed, run in cell.runs.items():
            places.setdefault(run, []).append({"cell": cell.id, "seed": seed, "run_id": run})
    own = {run: manifest for run in places if (manifest := records.record(run).manifest)}
    seen = {(run, manifest.started, manifest.finished) for run, manifest in own.items() if manifest.status == "completed"}
    known, found = {run for run, *_ in seen}, list[Json]()
    for study in studies:
        for run in [run for run in study.plan.runs if run in known]:
            if (trained := study.trained.get(run)) is None:
                continue
            training = run, datetime.fromisoformat(trained.started), datetime.fromisoformat(trained.finished)
            if training not in seen:
                seen.add(training)
                numbers = [(name, at, value) for (name, at), value in study.measured[run].items() if not _of_device(name)]
                found += [
                    {**place, "study": study.plan.study, "metric": name, "at": at, "value": value}
                    for place in places[run]
                    for name, at, value in numbers
                ]
    return found


def _of_device(name: str) -> bool:
    """Whether a device has part in a metric; also of one that nothing here knows."""
    known = look_up(name)
    return known is None or known.metric.unit in OF_DEVICES
