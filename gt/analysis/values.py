"""The numbers of one study's runs, by the names of their metrics."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from gt.analysis.claims import Place
from gt.errors import ConfigError
from gt.probes.metrics import metric as registered
from gt.records import read_json

Json = dict[str, Any]
TABLES = ("runs", "curves", "probes", "evaluations")


class Values:
    """The numbers of one study's completed runs, from its tables. ConfigError where `gt aggregate` has not made them."""

    def __init__(self, folder: Path) -> None:
        import pandas as pd

        self.plan: Json = read_json(folder / "plan.json")
        files = {name: folder / f"{name}.parquet" for name in TABLES}
        if not files["runs"].exists():
            raise ConfigError(f"{folder}: there is no runs.parquet; `gt aggregate` makes it.")
        self.tables = {name: pd.read_parquet(file) for name, file in files.items() if file.exists()}
        runs = self.tables["runs"]
        self.status = dict(zip(zip(runs["cell"], runs["seed"], strict=True), runs["status"], strict=True))
        started = runs[["cell", "started"]].dropna()
        self.started = {str(cell): list(own) for cell, own in started.groupby("cell")["started"]}

    def of(self, place: Place) -> dict[int, float]:
        """Seed -> value of the completed runs of a cell that have one."""
        name, kind = place.metric, registered(place.metric).table
        table = self.tables.get(kind)
        if table is None or table.empty:
            return {}
        rows = table[table["cell"] == place.cell["id"]]
        column = "value"
        if kind in ("runs", "curves"):
            if name not in rows:
                return {}
            column = name
            rows = rows.dropna(subset=[name])
            if kind == "curves":
                rows = rows.groupby("seed").tail(1) if place.at is None else rows[rows["step"] == place.at]
        elif kind == "probes":
            rows = rows[(rows["name"] == name) & rows["layer"].isna()]
        else:
            rows = rows[(rows["metric"] == name) & (rows["at"].isna() if place.at is None else rows["at"] == place.at)]
        found = {int(seed): float(value) for seed, value in zip(rows["seed"], rows[column], strict=True)}
        completed = {seed for seed in found if self.status.get((place.cell["id"], seed)) == "completed"}
        return {seed: value for seed, value in sorted(found.items()) if seed in completed and math.isfinite(value)}

    def names(self) -> list[tuple[str, float | None]]:
        """Every registered metric of which the tables have a value, and where it stands if it has a place."""
        found: list[tuple[str, float | None]] = []
        for column in self.tables["runs"].columns:
            try:
                found += [(column, None)] if registered(column).table == "runs" else []
            except ConfigError:  # words and counts of a run that are no metrics
                continue
        if (probes := self.tables.get("probes")) is not None and not probes.empty:
            found += [(name, None) for name in probes.loc[probes["layer"].isna(), "name"].unique()]
        if (evaluations := self.tables.get("evaluations")) is not None and not evaluations.empty:
            places = evaluations[["metric", "at"]].drop_duplicates().itertuples(index=False)
            found += [(name, None if math.isnan(at) else float(at)) for name, at in places]
        return found

    def best(self, cells: list[Json], tuning: list[Json]) -> list[Json]:
        """The one of the cells whose factors are those of the tuning cell with the lowest mean loss."""
        metric = "val/loss"
        means = {
            i: float(np.mean(list(own.values())))
            for i, cell in enumerate(tuning)
            if (own := self.of(Place("", cell, metric, None)))
        }
        if not means:
            return cells[:1]
        chosen = tuning[min(means, key=lambda i: means[i])]["factors"]
        return [cell for cell in cells if cell["factors"] == chosen]
