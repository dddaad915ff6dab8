"""One object with everything that a study's report says: what it found, in numbers and in sentences.

The templates take every number from here, so a number in the text cannot differ from the one in a table.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from gt.analysis.aggregate import ALPHA, CONSTANT, MAIN, MARGIN, NO_BASELINE, ORDERS
from gt.analysis.equal_loss import COSTS, Saved, budgets, equal_losses
from gt.analysis.ladder import Ladder, ladders
from gt.analysis.reading import DAMAGED
from gt.analysis.statistics import mean_interval, pooled, smallest_sign_flip_p
from gt.analysis.values import TABLES, Values
from gt.artefacts import Plan, read_plan
from gt.errors import ConfigError
from gt.records import read_json
from gt.registry import look_up
from gt.report import text
from gt.report.inside import Measured, measured
from gt.study import by_short_name

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]


@dataclass(frozen=True)
class Panel:
    """One corpus under one tokenizer: what may be compared in every measure.

    rows: its cells, those of the same settings together, which have one baseline, and of these the best first. unrun: how many
    contrasts are planned of cells that have no record.
    """

    corpus: str
    tokenizer: str
    baseline: str
    rows: list[Row]
    lines: dict[str, float]
    unrun: int = 0

    @property
    def id(self) -> str:
        return f"{self.corpus}.{self.tokenizer}"

    @property
    def title(self) -> str:
        return f"{self.corpus}, {self.tokenizer}"

    @property
    def measured(self) -> list[Row]:
        """The cells with at least one completed run."""
        return [row for row in self.rows if not text.absent(row["mean"])]

    @property
    def best(self) -> Row:
        """The cell with the lowest mean of those that are compared with a baseline; of all where none is."""
        # Cells of other seeds than the baseline's, as those that tune a rate have, are in the table alone.
        paired = [row for row in self.measured if row["variant"] == self.baseline or not text.absent(row["difference"])]
        return min(paired or self.measured, key=lambda row: float(row["mean"]))

    @property
    def groups(self) -> list[list[Row]]:
        """The cells of each settings."""
        return [list(rows) for _, rows in groupby(self.rows, key=lambda row: str(row["factors"]))]

    @property
    def varied(self) -> list[str]:
        """The settings that its cells differ in, such as learning_rate."""
        return list(dict.fromkeys(name for row in self.rows for name in settings(row)))

    @property
    def against(self) -> str:
        """What cells are compared with: GF, or GF at the same gate_init."""
        return f"{self.baseline} at the same {text.listed(self.varied)}" if len(self.groups) > 1 else self.baseline

    @property
    def finding(self) -> str:
        """What was found here: the lowest cell, against the baseline, and how many contrasts are decided."""
        if not self.measured:
            return f"On {self.title} no run has completed."
        return f"{self.lowest} {self.counted}".strip()

    @property
    def lowest(self) -> str:
        """The lowest cell that is compared with the baseline, and how; empty where nothing was measured."""
        if not self.measured:
            return ""
        best = self.best
        of = f"the baseline, {best['label']}" if best["variant"] == self.baseline else best["label"]
        lower = any(row["mean"] < best["mean"] for row in self.measured)
        among = " of the cells that have the baseline’s seeds" if lower else ""
        sentence = f"On {self.title} the lowest mean{among} is that of {of}: {estimated(best)}"
        return f"{sentence}." if best["variant"] == self.baseline else f"{sentence}; {_contrast(best)}"

    @property
    def contrasts(self) -> list[Row]:
        """The cells that are compared with the baseline's, of those that have a record."""
        return [row for row in self.rows if row["variant"] != self.baseline and row["verdict"] != NO_BASELINE]

    @property
    def counted(self) -> str:
        """How many contrasts are decided, and how."""
        n, decided = len(self.contrasts) + self.unrun, [row for row in self.contrasts if row["decided"]]
        if not n:
            return ""
        ways = Counter(row["verdict"].replace(", within margin", "") for row in decided)
        how = (
            f" ({text.listed([f'{ways[way]} {way}' for way in ('better', 'worse', 'equivalent') if ways[way]])})"
            if ways
            else ""
        )
        unpaired = self.unrun + sum(row["pairs"] == 0 for row in self.contrasts)
        alike = sum(row["verdict"] == CONSTANT for row in self.contrasts)
        open_ = n - len(decided) - unpaired - alike
        rest = f"; {open_} cannot be decided with the seeds there are" if open_ else ""
        rest += f"; {unpaired} {'has' if unpaired == 1 else 'have'} no pair of seeds" if unpaired else ""
        rest += f"; {alike} {text.are(alike)} the same in every seed, and not tested" if alike else ""
        said = (
            f"Of {text.plural(n, 'contrast')} with {self.against}, {len(decided)} {text.are(len(decided))} decided{how}{rest}."
        )
        few = sum(row["pairs"] == 2 for row in decided)
        short = [f"{row['label']} ({_pairs(row)})" for row in self.contrasts if 0 < row["pairs"] < row["pairs_planned"]]
        said += f" {few} of the decided {'rests' if few == 1 else 'rest'} on two pairs." if few else ""
        return said + (f" Runs did not complete: fewer seeds speak for {text.listed(short)}." if short else "")

    @property
    def ngrams(self) -> str:
        """The reference lines in words, and the cells that do not beat the best; empty where none was measured."""
        known = [f"{order} {text.decimals(self.lines[order], 3)}" for order in ORDERS if order in self.lines]
        if not known:
            return ""
        order = next(order for order in reversed(ORDERS) if order in self.lines)
        above, n = [row["label"] for row in self.measured if row["mean"] >= self.lines[order]], len(self.measured)
        match n, len(above):
            case 1, _:
                said = f"The cell is {'not ' if above else ''}below the {order}"
            case _, 0:
                said = f"All {n} cells are below the {order}"
            case _, k:
                said = f"{k} of {n} cells {text.are(k)} not below the {order}: {text.listed(above)}"
        return f"n-gram models of the same text reach, in bits per byte: {text.listed(known)}. {said}."


@dataclass(frozen=True)
class Results:
    """A study's plan and tables, as `gt aggregate` wrote them."""

    folder: Path
    plan: Plan
    coverage: dict[str, Any]
    runs: pd.DataFrame
    cells: pd.DataFrame
    contrasts: pd.DataFrame
    curves: pd.DataFrame
    evaluations: pd.DataFrame
    probes: pd.DataFrame
    tuning: pd.DataFrame
    repeated: pd.DataFrame

    @property
    def study(self) -> str:
        return self.plan.study

    @property
    def title(self) -> str:
        return self.plan.title

    @property
    def description(self) -> str:
        return self.plan.description.strip()

    @property
    def baseline(self) -> str:
        return self.plan.baseline

    @cached_property
    def labels(self) -> list[str]:
        """All cells' labels, once each, in the plan's order."""
        return list(dict.fromkeys(self.cells["label"]))

    @cached_property
    def cell_rows_in_order(self) -> list[Row]:
        """The cells in the plan's order, each with its contrast with the baseline of its settings."""
        contrasts, cells = {row["cell"]: row for row in _rows(self.contrasts)}, _rows(self.cells)
        labels = {row["cell"]: row["label"] for row in cells}
        rows = [_with_contrast(row, contrasts.get(row["cell"]), labels) for row in cells]
        return [{**row, **_savings(self.saved.get(row["cell"], {})), "pooled": self.pooled.get(row["cell"])} for row in rows]

    @cached_property
    def values(self) -> Values:
        return Values.of_tables(self.plan, {name: getattr(self, name) for name in TABLES})

    @cached_property
    def ladders(self) -> list[Ladder]:
        """The arms of each corpus and tokenizer over sizes, if the study has a ladder."""
        return ladders(self.values) if self.plan.ladder else []

    @cached_property
    def saved(self) -> dict[str, dict[str, Saved]]:
        """By cell and cost, what it saves of what its baseline needs for the same loss, where that is known."""
        pairs = self.contrasts.dropna(subset=["baseline"])
        known = self.plan.ladder or budgets(self.plan)
        baselines = dict(zip(pairs["cell"], pairs["baseline"], strict=True))
        return equal_losses(self.values, self.ladders, baselines) if known else {}

    @cached_property
    def pooled(self) -> dict[str, float]:
        """The mean of each cell of whose runs other studies keep further trainings, over the mean of a run's trainings."""
        found = {}
        for cell, others in self.repeated[self.repeated["metric"] == MAIN].groupby("cell"):
            own = self.runs[(self.runs["cell"] == cell) & (self.runs["status"] == "completed")].dropna(subset=[MAIN])
            trained = dict(zip(own["seed"], own[MAIN], strict=True))
            if trained:
                found[str(cell)] = fmean(pooled(trained, zip(others["seed"], others["value"], strict=True)).values())
        return found

    @cached_property
    def run_cells(self) -> list[Row]:
        """Those of which a run has a record, at least. What was planned and never run is under Coverage alone."""
        return [row for row in self.cell_rows_in_order if row["missing"] < row["planned"]]

    @cached_property
    def probes_of_cell(self) -> dict[str, pd.DataFrame]:
        """The rows of `probes`, by cell."""
        return {str(cell): rows for cell, rows in self.probes.groupby("cell")}

    @cached_property
    def inside(self) -> list[Measured]:
        """The cells whose networks were looked into, in the plan's order."""
        return measured(self)

    @cached_property
    def shown(self) -> Results:
        """What figures are of: of a study with more cells than a reader can tell apart, those that matter. These are, of each
        corpus and tokenizer, the lowest that is compared with the baseline, each variant's lowest, and their baselines.
        """
        if len(self.run_cells) <= MANY:
            return self
        lowest: dict[Any, Row] = {}
        for panel in self.panels:
            if panel.measured:
                lowest[panel.best["cell"]] = panel.best
            for row in panel.measured:
                key = (panel.corpus, panel.tokenizer, row["variant"])
                lowest[key] = min(lowest.get(key, row), row, key=lambda own: float(own["mean"]))
        baselines = self.contrasts.set_index("cell")["baseline"].to_dict()
        cells = {row["cell"] for row in lowest.values()}
        cells |= {other for cell in cells if isinstance(other := baselines.get(cell), str)}
        frames = {name: getattr(self, name) for name in ("runs", "cells", "contrasts", "curves", "evaluations", "probes")}
        return replace(self, **{name: frame[frame["cell"].isin(cells)] for name, frame in frames.items()})

    @cached_property
    def cell_rows(self) -> list[Row]:
        """The same, panel by panel in their order."""
        return [row for panel in self.panels for row in panel.rows]

    @cached_property
    def run_rows(self) -> list[Row]:
        """Every run, in the plan's order."""
        return _rows(self.runs)

    @cached_property
    def panels(self) -> list[Panel]:
        """The corpora and tokenizers, in the plan's order."""
        places = dict.fromkeys((row["corpus"], row["tokenizer"]) for row in self.cell_rows_in_order)
        return [self._panel(corpus, tokenizer) for corpus, tokenizer in places]

    def _panel(self, corpus: str, tokenizer: str) -> Panel:
        here = [row for row in self.run_cells if (row["corpus"], row["tokenizer"]) == (corpus, tokenizer)]
        group = {factors: i for i, factors in enumerate(dict.fromkeys(row["factors"] for row in here))}
        unknown = {row["cell"]: text.absent(row["mean"]) for row in here}
        here.sort(key=lambda row: (group[row["factors"]], unknown[row["cell"]], 0.0 if unknown[row["cell"]] else row["mean"]))
        runs = self.runs[(self.runs["corpus"] == corpus) & (self.runs["tokenizer"] == tokenizer)]
        lines = {order: runs[f"ngram/{order}"].dropna() for order in ORDERS}
        own = self.contrasts[(self.contrasts["corpus"] == corpus) & (self.contrasts["tokenizer"] == tokenizer)]
        planned = set(own.loc[own["verdict"] != NO_BASELINE, "cell"])
        unrun = len(planned - {row["cell"] for row in here})
        known = {order: float(v.iloc[0]) for order, v in lines.items() if len(v)}
        return Panel(corpus, tokenizer, self.baseline, here, known, unrun)

    @property
    def findings(self) -> list[str]:
        return [panel.finding for panel in self.panels]

    @property
    def incomplete(self) -> list[Row]:
        """The runs that diverged or failed, or whose record is damaged, with their reasons."""
        return [r for r in self.run_rows if r["status"] in ("diverged", "failed") or r["reason"].startswith(DAMAGED)]

    @property
    def fewest_seeds(self) -> int:
        return min(len(cell.runs) for cell in self.plan.cells)

    @property
    def most_seeds(self) -> int:
        return max(len(cell.runs) for cell in self.plan.cells)

    @property
    def seeds(self) -> str:
        """How many seeds a cell has."""
        same = self.fewest_seeds == self.most_seeds
        return text.plural(self.most_seeds, "seed") if same else f"{self.fewest_seeds} to {self.most_seeds} seeds"

    @property
    def sign_flip_limit(self) -> str:
        """What the exact test can reach at best with the planned seeds."""
        return text.decimals(smallest_sign_flip_p(self.most_seeds), 4 if self.most_seeds > 6 else 3)

    @property
    def margin(self) -> str:
        return f"{100 * MARGIN:g} %"

    @property
    def alpha(self) -> str:
        return f"{100 * ALPHA:g} %"

    @cached_property
    def measured(self) -> dict[str, dict[str, pd.DataFrame]]:
        """The evaluations: metric -> cell -> its rows of all seeds (metric, at, value, lower, upper, n)."""
        by_metric = self.evaluations.groupby("metric", sort=False)
        return {str(m): {str(c): rows for c, rows in frame.groupby("cell", sort=False)} for m, frame in by_metric}

    def evaluation(self, metric: str, cell: str, at: float | None = None) -> float | None:
        """The mean of an evaluation over a cell's seeds, at a place if it has one; None where it was not measured."""
        rows = self._evaluated(metric, cell, at)
        return float(rows["value"].mean()) if len(rows) else None

    def evaluation_interval(self, metric: str, cell: str, at: float | None = None) -> str:
        """The same with its 95 % t interval over seeds; of one seed, the interval that the evaluation itself has."""
        rows = self._evaluated(metric, cell, at)
        if not len(rows):
            return text.NOTHING
        bounds, mean = interval_of(rows), text.decimals(float(rows["value"].mean()), 2)
        return mean if bounds is None else f"{mean} {text.interval(bounds[0], bounds[1], 2)}"

    def _evaluated(self, metric: str, cell: str, at: float | None) -> pd.DataFrame:
        rows = self.measured.get(metric, {}).get(cell, self.evaluations.iloc[:0])
        return rows if at is None else rows[rows["at"] == at]

    def places(self, metric: str) -> list[float]:
        """Where an evaluation was measured, in any cell."""
        rows = self.evaluations[self.evaluations["metric"] == metric]
        return sorted(set(rows["at"].dropna()))

    @property
    def recall_tasks(self) -> list[str]:
        """The recall tasks that models of this study were trained on."""
        known = map(look_up, self.measured)
        return [own.axes["task"] for own in known if own and own.metric.name == "recall/<task>/accuracy"]


def load(study_dir: Path) -> Results:
    """Read a study's plan and tables. ConfigError names what is missing."""
    import pandas as pd

    frames = {}
    for name in ("runs", "cells", "contrasts", "curves", "evaluations", "probes", "tuning"):
        path = study_dir / f"{name}.parquet"
        if not path.exists():
            raise ConfigError(f"{path}: no such file. `gt aggregate` writes it from the run records.")
        frames[name] = pd.read_parquet(path)
    again = study_dir / "repeated.parquet"
    frames["repeated"] = pd.read_parquet(again) if again.exists() else pd.DataFrame(columns=REPEATED)
    return Results(study_dir, read_plan(study_dir / "plan.json"), read_json(study_dir / "coverage.json"), **frames)


def interval_of(rows: pd.DataFrame) -> tuple[float, float] | None:
    """The 95 % t interval of an evaluation over seeds, of a share between 0 and 1; of one seed its own, None without one."""
    lower, upper = float(rows["lower"].iloc[0]), float(rows["upper"].iloc[0])
    share = not math.isnan(lower)
    if len(rows) == 1:
        return (lower, upper) if share else None
    estimate = mean_interval(rows["value"].tolist())
    assert estimate.lower is not None and estimate.upper is not None
    return (max(0.0, estimate.lower), min(1.0, estimate.upper)) if share else (estimate.lower, estimate.upper)


def _rows(frame: pd.DataFrame) -> list[Row]:
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


# Cells up to which figures show all.
MANY = 60
REPEATED = ["cell", "seed", "run_id", "study", "metric", "at", "value"]
CONTRAST = ("difference", "p", "p_holm", "p_sign_flip", "p_equivalence_holm", "verdict", "decided")


def settings(row: Row) -> dict[str, Any]:
    """The settings of a cell that its study varies, by their short names."""
    return by_short_name(json.loads(row["factors"]))


def _with_contrast(cell: Row, contrast: Row | None, labels: dict[str, str]) -> Row:
    """A cell's row with its estimate of the main measure under short names, and its contrast if it is not the baseline.

    labels: of all cells, by their ids.
    """
    own = {name: cell[f"{MAIN}_{name}"] for name in ("n", "mean", "sd", "lower", "upper")}
    if contrast is None:
        other = {
            **dict.fromkeys(CONTRAST),
            "difference_lower": None,
            "difference_upper": None,
            "pairs": None,
            "pairs_planned": None,
            "against": None,
            "verdict": "baseline",
        }
    else:
        other = {name: contrast[name] for name in CONTRAST}
        other |= {"difference_lower": contrast["lower"], "difference_upper": contrast["upper"], "pairs": contrast["n"]}
        other["pairs_planned"] = contrast["planned"]
        other["against"] = labels.get(contrast["baseline"])
    return {**cell, **own, **other}


def _savings(found: dict[str, Saved]) -> Row:
    """What a cell saves, by cost, as a row has it."""
    columns: Row = {}
    for cost in COSTS:
        own = found.get(cost)
        columns[f"{cost}_saved"] = own.share if own else None
        columns |= {f"{cost}_saved_{part}": getattr(own, part) if own else None for part in ("lower", "upper", "bound", "n")}
    return columns


def estimated(row: Row) -> str:
    """1.8421 bits per byte (95 % interval [1.8408, 1.8434], 3 seeds)"""
    seeds = text.out_of(row["n"], row["planned"], "seed")
    inside = seeds if text.absent(row["lower"]) else f"95 % interval {text.interval(row['lower'], row['upper'])}, {seeds}"
    return f"{text.decimals(row['mean'])} bits per byte ({inside})"


def _contrast(row: Row) -> str:
    """The second half of a sentence: a cell's difference to the baseline of its settings."""
    baseline = row["against"]
    if text.absent(row["difference"]):
        return f"it shares no completed seed with the baseline {baseline}, so the two are not compared."
    sentence = f"its difference to the baseline {baseline} is {text.signed(row['difference'])} bits per byte"
    verdict = row["verdict"] if row["decided"] else f"a difference that {row['verdict']}"
    if text.absent(row["p"]):
        return f"{sentence}: {verdict}."
    inside = text.interval(row["difference_lower"], row["difference_upper"], sign=True)
    p = text.p_equation(row["p_holm"])
    return f"{sentence} (95 % interval {inside}, {_pairs(row)}, Holm's p {p}): {verdict}.{_at_equal_loss(row)}"


def _at_equal_loss(row: Row) -> str:
    """A sentence on what the baseline needs for the same loss, after a space; empty where that is not known."""
    share, lower, upper, bound = (row[f"tokens_saved{part}"] for part in ("", "_lower", "_upper", "_bound"))
    if text.absent(share):
        return ""
    sign = 1 if share >= 0 else -1
    than = f"{'more' if (bound == 'more') == (sign > 0) else 'less'} than " if bound else ""
    inside = ""
    if not text.absent(lower):
        low, high = sorted((100 * sign * lower, 100 * sign * upper))
        inside = f" (95 % interval {text.interval(low, high, 1)})"
    amount = f"{than}{text.decimals(100 * sign * share, 1)} %{inside}"
    if sign < 0:
        return f" It takes {amount} more tokens than the baseline needs for the same loss."
    return f" It saves {amount} of the tokens that the baseline needs for the same loss."


def _pairs(row: Row) -> str:
    return text.out_of(int(row["pairs"]), int(row["pairs_planned"]), "pair")
