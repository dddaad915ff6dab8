"""The numbers of one study's runs, by the names of their metrics."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import special

from gt.analysis.aggregate import SIZES
from gt.analysis.claims import Place
from gt.analysis.statistics import pooled
from gt.artefacts import Cell, Plan, read_plan
from gt.errors import ConfigError
from gt.registry import look_up
from gt.registry import metric as registered

if TYPE_CHECKING:
    import pandas as pd

Json = dict[str, Any]
Tables = Mapping[str, "pd.DataFrame"]
TABLES = ("runs", "curves", "probes", "evaluations", "tuning", "repeated")
# A branch's share of what zeroing either costs, by its letter.
SHARE = "ablation/share/"
# What records of the first schema have a sum of each of, in place of modules.
PARTS = ("seeds", "spec", "data", "ops", "models", "training")


def is_count(name: str) -> bool:
    """Whether a metric is counted on the model's definition, the same in every seed."""
    return name in SIZES or name.startswith("parameters/")


def code(run: Json) -> dict[str, str]:
    """What trained a run, by its row of `runs.parquet`: module -> a sum of what it used of it; empty where it is not known."""
    return dict(json.loads(run["code"])) if run.get("code") else {}


def modified(run: Json) -> list[str] | None:
    """The files of the code that no commit holds as they were when a run was trained; None where it is not known."""
    return None if run.get("modified") is None else list(json.loads(run["modified"]))


def mixers_of(plan: Plan, cells: Iterable[Cell]) -> dict[str, str]:
    """By letter the names of the mixers that are the same in all of these cells' models."""
    found: dict[str, set[str]] = {}
    for cell in cells:
        for letter, mixer in plan.spec(cell).model.mixers.items():
            found.setdefault(letter, set()).add(mixer.name)
    return {letter: next(iter(names)) for letter, names in found.items() if len(names) == 1}


class SampleError(NamedTuple):
    """What is known of the sample that an evaluation reads: of how many items it is, and a mean's standard error over them."""

    n: int | None
    error: float | None


class Files(Mapping[str, "pd.DataFrame"]):
    """The tables that a study's folder has, each read when it is first asked for: of many runs, most of them are large."""

    def __init__(self, folder: Path) -> None:
        self.files = {name: file for name in TABLES if (file := folder / f"{name}.parquet").exists()}
        self.read: dict[str, pd.DataFrame] = {}

    def __getitem__(self, name: str) -> pd.DataFrame:
        import pandas as pd

        if name not in self.read:
            self.read[name] = pd.read_parquet(self.files[name])
        return self.read[name]

    def __contains__(self, name: object) -> bool:
        return name in self.files

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


class Values:
    """The numbers of one study's completed runs, from its tables. ConfigError where `gt aggregate` has not made them."""

    def __init__(self, folder: Path) -> None:
        plan, tables = read_plan(folder / "plan.json"), Files(folder)
        if "runs" not in tables:
            raise ConfigError(f"{folder}: there is no runs.parquet; `gt aggregate` makes it.")
        self._take(plan, tables)

    @classmethod
    def of_tables(cls, plan: Plan, tables: Tables) -> Values:
        """Of tables that have been read."""
        own = cls.__new__(cls)
        own._take(plan, tables)
        return own

    def _take(self, plan: Plan, tables: Tables) -> None:
        self.plan, self.tables = plan, tables
        self._by_cell: dict[str, dict[str, pd.DataFrame]] = {}
        self._known: dict[tuple[str, str, float | None], dict[int, float]] = {}
        self.seeds: int | None = None
        runs = self.tables["runs"]
        self.status = dict(zip(zip(runs["cell"], runs["seed"], strict=True), runs["status"], strict=True))

    def first(self, n: int) -> Values:
        """The same of the first n seeds of each cell alone."""
        other = copy(self)
        kept = {(cell.id, seed) for cell in self.plan.cells for seed in list(cell.runs)[:n]}
        other.status = {key: status for key, status in self.status.items() if key in kept}
        other.seeds, other._known, other._runs = n, {}, {}
        for cell, runs in self._runs.items():
            other._runs[cell] = [run for run in runs if (cell, int(run["seed"])) in kept]
        return other

    def of(self, place: Place) -> dict[int, float]:
        """Seed -> value of the completed runs of a cell that have one; of a run that was trained again, the mean."""
        key = (place.cell.id, place.metric, place.at)
        if key not in self._known:
            self._known[key] = pooled(self._read(*key), self._again(*key))
        return self._known[key]

    def repeated(self, place: Place) -> bool:
        """Whether runs of a cell were trained again, and the metric was measured of these trainings too."""
        return bool(self._again(place.cell.id, place.metric, place.at))

    def _rows(self, table: str, cell: str) -> pd.DataFrame | None:
        """Those of a cell in a table; None where there are none."""
        if table not in self._by_cell:
            groups = self.tables[table].groupby("cell") if table in self.tables else ()
            self._by_cell[table] = {str(own): rows for own, rows in groups}
        return self._by_cell[table].get(cell)

    def _again(self, cell: str, metric: str, at: float | None) -> list[tuple[int, float]]:
        """What other trainings of a cell's runs gave, by seed."""
        if (rows := self._rows("repeated", cell)) is None:
            return []
        rows = rows[(rows["metric"] == metric) & (rows["at"].isna() if at is None else rows["at"] == at)]
        return [(int(seed), float(value)) for seed, value in zip(rows["seed"], rows["value"], strict=True)]

    def trials(self, cell: str, metric: str) -> dict[str, dict[int, float]]:
        """Of a cell that was tuned, by the values of each point as JSON, what each seed gave: infinite where it diverged."""
        found: dict[str, dict[int, float]] = {}
        rows = self._rows("tuning", cell)
        for row in [] if rows is None else rows.to_dict("records"):
            if row["status"] in ("completed", "diverged"):
                value = row[metric] if row["status"] == "completed" else math.inf
                found.setdefault(str(row["values"]), {})[int(row["seed"])] = float(value)
        return found

    def statuses(self, cell: Cell) -> dict[int, str]:
        """What became of each planned seed of a cell."""
        return {seed: self.status.get((cell.id, seed), "missing") for seed in list(cell.runs)[: self.seeds]}

    def branches(self, cell: str) -> list[str]:
        """The letters of the branches that were taken out of a cell's networks."""
        rows = self._rows("probes", cell)
        names = [] if rows is None else list(dict.fromkeys(rows["name"]))
        return [name.removeprefix(SHARE) for name in names if name.startswith(SHARE)]

    def diverged(self, cell: Cell) -> list[int]:
        """The seeds of a cell that diverged."""
        return [seed for seed, status in self.statuses(cell).items() if status == "diverged"]

    def completed(self, cell: str) -> list[Json]:
        """The rows of `runs.parquet` of a cell's completed runs."""
        return [run for run in self.runs(cell) if run["status"] == "completed"]

    def runs(self, cell: str) -> list[Json]:
        """The rows of `runs.parquet` of a cell; what is not known of a run is None."""
        return self._runs.get(cell, [])

    @cached_property
    def _runs(self) -> dict[str, list[Json]]:
        table = self.tables["runs"]
        found: dict[str, list[Json]] = {}
        for row in table.astype(object).where(table.notna(), None).to_dict("records"):
            found.setdefault(row["cell"], []).append({str(key): value for key, value in row.items()})
        return found

    def started(self, cell: str) -> list[datetime]:
        """When the runs of a cell were first begun, of those of which it is known."""
        times = [run.get("first_started") or run.get("started") for run in self.runs(cell)]
        return [datetime.fromisoformat(time) for time in times if time]

    def budgets(self, cells: list[str]) -> list[tuple[int, int]]:
        """The steps, and the tokens in each, that the completed runs of cells had."""
        runs = [run for cell in cells for run in self.completed(cell) if run.get("tokens")]
        return sorted({(int(run["steps_completed"]), int(run["tokens"] / run["steps_completed"])) for run in runs})

    def unmeasured(self, place: Place) -> list[int]:
        """The completed runs of a cell that the table with the metric does not have, neither with a value of it nor without; of
        an evaluation that others of the cell have, those without any of its metrics.
        """
        table = str(registered(place.metric).table)
        rows = self._rows(table, place.cell.id)
        if table == "evaluations" and rows is not None:
            own = rows[rows["metric"].str.startswith(place.metric.partition("/")[0] + "/")]
            rows = own if len(own) else rows
        completed = {int(run["seed"]) for run in self.completed(place.cell.id)}
        return sorted(completed - (set() if rows is None else set(rows["seed"])))

    def sample_error(self, place: Place) -> SampleError | None:
        """Of an evaluation's mean, averaged over seeds: from its own interval, or from a metric beside it whose name ends in
        `se`, where it stands or else at the length that was trained. None where neither was recorded.
        """
        rows = self._rows("evaluations", place.cell.id)
        if rows is None or registered(place.metric).table != "evaluations":
            return None
        own = rows[(rows["metric"] == place.metric) & (rows["at"].isna() if place.at is None else rows["at"] == place.at)]
        if len(known := own.reindex(columns=["n", "lower", "upper"]).dropna()):
            half = (known["upper"] - known["lower"]).mean() / 2
            return SampleError(int(known["n"].min()), float(half / special.ndtri(0.975)))
        length = place.at or self.plan.spec(place.cell).training.sequence_length
        beside = rows["metric"].str.startswith(place.metric.rpartition("/")[0] + "/") & rows["metric"].str.contains("[/_]se$")
        errors = rows[beside & (rows["at"].isna() | (rows["at"] == length))]
        return SampleError(None, float(errors["value"].mean())) if len(errors) else None

    def _read(self, cell: str, metric: str, at: float | None) -> dict[int, float]:
        kind, column = str(registered(metric).table), "value"
        rows = self._rows(kind, cell)
        if rows is None:
            return {}
        if kind in ("runs", "curves"):
            if metric not in rows:
                return {}
            column, rows = metric, rows.dropna(subset=[metric])
            if kind == "curves":
                rows = rows.groupby("seed").tail(1) if at is None else rows[rows["step"] == at]
        elif kind == "probes":
            rows = rows[(rows["name"] == metric) & rows["layer"].isna()]
        else:
            rows = rows[(rows["metric"] == metric) & (rows["at"].isna() if at is None else rows["at"] == at)]
        found = {int(seed): float(value) for seed, value in zip(rows["seed"], rows[column], strict=True)}
        return {
            seed: value
            for seed, value in sorted(found.items())
            if self.status.get((cell, seed)) == "completed" and math.isfinite(value)
        }

    def names(self) -> list[tuple[str, float | None]]:
        """Every registered metric of which the tables have a value, and where it stands if it has a place; no curves."""
        found: list[tuple[str, float | None]] = [(column, None) for column in self.tables["runs"].columns]
        if (probes := self.tables.get("probes")) is not None:
            found += [(name, None) for name in probes.loc[probes["layer"].isna(), "name"].unique()]
        if (evaluations := self.tables.get("evaluations")) is not None:
            places = evaluations[["metric", "at"]].drop_duplicates().itertuples(index=False)
            found += [(name, None if at is None or math.isnan(at) else float(at)) for name, at in places]
        return [(name, at) for name, at in found if look_up(name)]

    def best(self, cells: list[Cell], tuning: list[Cell]) -> list[Cell]:
        """The one of the cells whose factors are those of the tuning cell with the lowest mean loss; any, if none has run.

        One that has lost a run comes after all that completed, and the later the more it lost: the mean of the others is of the
        seeds that it suited.
        """

        def rank(cell: Cell) -> tuple[int, float]:
            losses = list(self.of(Place("", cell, "val/loss", None)).values())
            return len(cell.runs) - len(losses), float(np.mean(losses)) if losses else math.inf

        chosen = min(tuning, key=rank).factors
        return [cell for cell in cells if cell.factors == chosen]
