"""A study's run records, put together: every run, every cell over its seeds, every contrast with the baseline, all curves.

The tables and `coverage.json` are functions of the plan and the records alone; the same input gives the same bytes.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gt.analysis.efficiency import compute_efficiency, north_star, north_stars, tokens_per_dollar
from gt.analysis.reading import DAMAGED, STATUSES, Folder, Record, Records, totals
from gt.analysis.statistics import adjusted, equivalence, mean_interval, paired_difference, pooled
from gt.analysis.versions import versions
from gt.artefacts import Cell, Looks, Plan
from gt.asked import HELD_OUT, VALIDATION
from gt.records import atomic_write, write_json
from gt.registry import metrics
from gt.study import by_short_name, trial_cells

if TYPE_CHECKING:
    import pyarrow as pa

Json = dict[str, Any]
ALPHA = 0.05
# Variants whose bits per byte are within so much of each other count as the same. Fixed here, before any run.
MARGIN = 0.01
MAIN = "val/bits_per_byte"
# What a cell's mean and interval are given of.
METRICS = (
    *(MAIN, "val/loss", "val/perplexity", "test/bits_per_byte", "test/loss", "gate/final"),
    *("tokens_per_second", "seconds", "device_seconds", "energy_joules", "peak_memory_bytes"),
    *("tokens_per_dollar", "north_star", "compute_efficiency"),
)
# The columns of a contrast, also where a study has none.
CONTRAST = (
    *(
        "cell",
        "label",
        "variant",
        "corpus",
        "tokenizer",
        "factors",
        "baseline",
        "metric",
        "planned",
        "n",
        "difference",
        "sd",
        "lower",
        "upper",
    ),
    *("p", "p_holm", "p_sign_flip", "margin", "ratio", "ratio_lower", "ratio_upper", "p_equivalence", "p_equivalence_holm"),
    *("verdict", "decided"),
)
# The columns of a measure of an evaluation, also where no run was evaluated.
EVALUATION = (
    *("cell", "label", "variant", "corpus", "tokenizer", "factors", "seed", "run_id"),
    *("metric", "at", "value", "lower", "upper", "n"),
)
# The columns of a probe's measure, also where no run was looked into.
PROBE = ("cell", "label", "corpus", "tokenizer", "seed", "name", "layer", "value")
# The columns of a run that tunes, also where none does.
TRIAL = (
    *("cell", "label", "variant", "corpus", "tokenizer", "factors", "values", "round", "chosen"),
    *("seed", "run_id", "status", "reason", "val/loss", MAIN),
)
# Of a table, that are in memory as such at once.
ROWS = 1 << 20
# The n-gram models whose loss a network is set against, the weakest first.
ORDERS = ("unigram", "bigram", "trigram")
# Of `runs.parquet`: the code that trained a run, and that which evaluated it, as JSON of sums by part.
CODES = ("code", "evaluation_code")
SIZES = ("n_params", "n_params_non_embedding", "state_size", "flops_per_token")


@dataclass(frozen=True)
class Run:
    """A seed of a cell, its record, and its curves as the study follows them."""

    cell: Cell
    seed: int
    record: Record
    curves: pa.Table | None

    @classmethod
    def read(cls, plan: Plan, cell: Cell, seed: int, run_id: str, records: Records) -> Run:
        record = records.record(run_id)
        asked = plan.asked_of(run_id)
        record = replace(record, evaluations={name: own for name, own in record.evaluations.items() if name in asked})
        return cls(cell, seed, record, followed(record, plan.runs[run_id].training.evaluation_tokens))


def followed(record: Record, n_bytes: int) -> pa.Table | None:
    """The curves of a run, with those of a validation slice of so many bytes.

    Where they follow another slice, the end alone is known of the one that is asked for: it was measured after training.
    """
    curves = record.curves
    if curves is None or record.manifest is None or record.manifest.watch.evaluation_tokens == n_bytes:
        return curves
    import pyarrow as pa

    end = totals(record.evaluations.get(f"{VALIDATION}-{n_bytes}"))
    for i, name in enumerate(curves.column_names):
        if name.startswith(("val/", "gate/")):
            last = end.get(f"{VALIDATION}/{name.removeprefix('val/')}")
            values = [*[math.nan] * (curves.num_rows - 1), math.nan if last is None else last]
            curves = curves.set_column(i, name, pa.array(values[-curves.num_rows :] if curves.num_rows else [], pa.float64()))
    return curves


def aggregate(plan: Plan, runs: Path | Records, out: Path, repeated: Sequence[Json] = ()) -> None:
    """Write runs, cells, contrasts, curves, evaluations, probes and tuning, each a `.parquet`, and coverage.json into `out`.

    runs: the folder of the run records, or whatever has them. repeated: of other trainings of these runs
    (`gt.analysis.repeated`), which contrasts and verdicts count; a table too, if there are any. Runs that are not there, failed
    or diverged are rows with that status; so are those whose record is damaged, as missing, and the error stream says why.
    """
    records, price = Folder(runs) if isinstance(runs, Path) else runs, plan.dollars_per_hour
    rows, curves, damaged = list[Json](), list[Curves](), set[str]()
    measured, probed = Columns(), Columns()
    for cell in plan.cells:
        about = _identity(cell)
        for seed, run_id in sorted(cell.runs.items()):
            run = Run.read(plan, cell, seed, run_id, records)
            if run.record.reason.startswith(DAMAGED) and run_id not in damaged:
                damaged.add(run_id)
                print(f"{run_id}: {run.record.reason}", file=sys.stderr)
            own = {**about, "seed": seed, "run_id": run_id}
            rows.append(own | run_row(run, records.began(plan, run.record), price))
            curves += [] if run.curves is None else [Curves({**own, "status": run.record.status}, run.curves)]
            measured.add(list(_evaluated(run.record, price)), **own)
            probed.add(list(_probes(run.record)), **{name: own[name] for name in PROBE if name in own})
    warnings = _flag(rows)
    of_cell: dict[str, list[Json]] = {cell.id: [] for cell in plan.cells}
    for row in rows:
        of_cell[row["cell"]].append(row)
    cells = [_cell_row(cell, of_cell[cell.id]) for cell in plan.cells]
    write_table(out / "runs.parquet", as_table(rows))
    write_table(out / "cells.parquet", as_table(cells))
    write_table(out / "contrasts.parquet", as_table(_contrasts(plan, rows, repeated), CONTRAST))
    if repeated:
        write_table(out / "repeated.parquet", as_table(list(repeated)))
    write_tables(out / "curves.parquet", _curves(curves))
    write_tables(out / "evaluations.parquet", measured.tables(EVALUATION))
    write_tables(out / "probes.parquet", probed.tables(PROBE))
    write_table(out / "tuning.parquet", as_table(list(_trials(plan, records)), TRIAL))
    counts = {status: sum(row["status"] == status for row in rows) for status in STATUSES}
    write_json(out / "coverage.json", {"study": plan.study, "planned": len(rows), **counts, "warnings": warnings})


def _trials(plan: Plan, records: Records) -> Iterator[Json]:
    """Every run that tunes a cell: at which values, in which round, what came of it, and whether these values were chosen."""
    cells = {cell.id: cell for cell in plan.cells}
    for tuning, point, trial in trial_cells(plan):
        where = {
            "values": json.dumps(point.values, sort_keys=True),
            "round": point.round,
            "chosen": point.values == tuning.choice,
        }
        for seed, run_id in sorted(point.runs.items()):
            run = Run.read(plan, trial, seed, run_id, records)
            losses = {name: run.record.held_out.get(name) for name in ("val/loss", MAIN)}
            status = {"seed": seed, "run_id": run_id, "status": run.record.status, "reason": run.record.reason}
            yield {**_identity(cells[tuning.cell]), **where, **status, **losses}


def _evaluated(record: Record, dollars_per_hour: float) -> Iterator[Json]:
    """Every measurement of a run's evaluations that is a number, but what other tables have."""
    known = metrics()
    found = [own for evaluation in record.evaluations.values() for own in evaluation.measurements]
    for own in (*found, *north_stars(found, dollars_per_hour)):
        table = known[own.metric].table if own.metric in known else "evaluations"
        if own.value is not None and table == "evaluations":
            bounds = {"lower": own.lower, "upper": own.upper, "n": own.n}
            yield {"metric": own.name, "at": own.at, "value": own.value, **bounds}


def _probes(record: Record) -> Iterator[Json]:
    """Every measurement of `probes.json` that is a number: of the model, where layer is null, and of each layer."""
    for own in record.probes.measurements if record.probes else ():
        if own.value is not None:
            yield {"name": own.name, "layer": own.layer, "value": own.value}


def label(cell: Cell) -> str:
    """How a cell is called within its corpus and tokenizer: its variant, and its factors if it has any."""
    factors = ", ".join(f"{name}={value}" for name, value in by_short_name(cell.factors).items())
    return f"{cell.variant} ({factors})" if factors else cell.variant


def _identity(cell: Cell) -> Json:
    """The columns that say which cell a row is of."""
    return {
        "cell": cell.id,
        "label": label(cell),
        "variant": cell.variant,
        "corpus": cell.corpus,
        "tokenizer": cell.tokenizer,
        "factors": json.dumps(cell.factors, sort_keys=True),
        **{f"factor/{path}": value for path, value in cell.factors.items()},
    }


def run_row(run: Run, first_started: datetime | None, dollars_per_hour: float) -> Json:
    """Everything that is one number or word about a run. first_started: when any attempt at it first began."""
    record = run.record
    manifest = record.manifest.model_dump(mode="json") if record.manifest else {}
    found, held_out = record.held_out, record.evaluations.get(HELD_OUT)
    usage = manifest.get("usage", {})
    losses, counts = ("loss", "bits_per_byte", "perplexity"), ("tokens", "bytes", "from_byte", "unknown")
    return {
        "status": record.status,
        "reason": record.reason,
        **{
            name: _whole(found.get(name)) if name.endswith(counts) else found.get(name)
            for name in (f"{split}/{own}" for split in ("val", "test") for own in (*losses, *counts))
        },
        **{name: found.get(name) for name in (f"ngram/{order}" for order in ("uniform", *ORDERS))},
        "gate/final": _last(run.curves, "gate/mean"),
        **{name: manifest.get(name) for name in (*SIZES, "steps_completed", "tokens", "tokens_per_second", "seconds")},
        **{name: usage.get(name) for name in ("device_seconds", "energy_joules", "peak_memory_bytes")},
        "unknown": "; ".join(dict.fromkeys(usage.get("unknown", {}).values())) or None,
        **_efficiency(manifest, found.get("val/perplexity"), dollars_per_hour),
        "resumed": len(manifest.get("resumed_from", [])),
        **{name: manifest.get(name) for name in ("started", "finished", "device", "backend", "engine", "threads")},
        **{name: manifest.get(name) for name in ("git_commit", "data_sha256", "vocab_size")},
        "modified": manifest.get("modified"),
        "first_started": None if first_started is None else first_started.isoformat(),
        "code": _json(manifest.get("code")),
        "evaluation_code": _json(held_out.code if held_out else None),
        **{f"version/{package}": value for package, value in manifest.get("versions", {}).items()},
    }


def _efficiency(manifest: Json, perplexity: float | None, dollars_per_hour: float) -> Json:
    """What training gave for its time, price and FLOPs; nothing of a run that has no perplexity."""
    if perplexity is None or perplexity <= 0:
        return dict.fromkeys(("tokens_per_dollar", "north_star", "compute_efficiency"))
    of_a_dollar = tokens_per_dollar(manifest["tokens"], manifest["usage"]["device_seconds"], dollars_per_hour)
    return {
        "tokens_per_dollar": of_a_dollar,
        "north_star": north_star(of_a_dollar, perplexity),
        "compute_efficiency": compute_efficiency(manifest["flops_per_token"], perplexity),
    }


def _whole(count: float | None) -> int | None:
    """A count as it stands in tables; None where it is none."""
    return int(count) if count is not None and 0 <= count < 2**63 else None


def _json(code: Json | None) -> str | None:
    """As text, of which there is one where most runs have the same."""
    return sys.intern(json.dumps(code, sort_keys=True)) if code else None


def _last(curves: pa.Table | None, column: str) -> float | None:
    """The last value of a curve that is a number."""
    if curves is None or column not in curves.column_names:
        return None
    values = [value for value in curves[column].to_pylist() if value is not None and math.isfinite(value)]
    return values[-1] if values else None


def _flag(rows: list[Json]) -> list[Json]:
    """Mark the runs that were not made like most (`code_differs`, `data_differs`), and count them.

    A warning has the column of `runs.parquet` that tells, how many runs differ in it, and where, if that is not everywhere.
    """
    for row in rows:
        row["code_differs"] = row["data_differs"] = False
    warnings: list[Json] = []
    for column, where, odd in unlike(rows):
        for row in odd:
            row["code_differs"] |= column in CODES
            row["data_differs"] |= column == "data_sha256"
        warnings.append({"column": column, "runs": len(odd), "where": where})
    return warnings


def unlike(rows: list[Json]) -> Iterator[tuple[str, str, list[Json]]]:
    """The runs that were not made like most: by a column of `runs.parquet`, in a corpus and tokenizer or, "", anywhere."""
    made = [row for row in rows if row["finished"] is not None]
    places = dict.fromkeys((row["corpus"], row["tokenizer"]) for row in made)
    found = []
    for column in CODES:
        known = [row for row in made if row.get(column) is not None]
        version = versions(row[column] for row in known)
        found.append((column, "", _odd_ones(known, [version[row[column]] for row in known])))
    for place in places:
        here = [row for row in made if (row["corpus"], row["tokenizer"]) == place]
        found.append(("data_sha256", ", ".join(place), _odd_ones(here, [row["data_sha256"] for row in here])))
    for column in ("device", "version/torch"):
        found.append((column, "", _odd_ones(made, [row.get(column) for row in made])))
    found.append(("modified", "", [row for row in made if row["modified"] not in (None, [], "[]")]))
    return (own for own in found if own[2])


def _odd_ones(rows: list[Json], values: list[Any]) -> list[Json]:
    """The rows whose value is not the most common one (of equally common ones, the first)."""
    most = Counter(values).most_common(1)
    return [row for row, value in zip(rows, values, strict=True) if value != most[0][0]]


def _cell_row(cell: Cell, rows: list[Json]) -> Json:
    """A cell over its completed seeds: for each metric its `_n`, `_mean`, `_sd` and 95 % interval `_lower`, `_upper`."""
    done = [row for row in rows if row["status"] == "completed"]
    result = {**_identity(cell), "planned": len(rows)}
    result |= {status: sum(row["status"] == status for row in rows) for status in STATUSES}
    result |= {size: next((row[size] for row in rows if row[size] is not None), None) for size in SIZES}
    for metric in METRICS:
        estimate = mean_interval([row[metric] for row in done if row[metric] is not None])
        result |= {f"{metric}_{name}": value for name, value in asdict(estimate).items()}
    return result


def _contrasts(plan: Plan, rows: list[Json], repeated: Sequence[Json]) -> list[Json]:
    """Every cell against the baseline's cell of the same corpus, tokenizer and factors, paired by seed.

    A cell of other seeds, as those have that tune a rate, has no baseline and no contrast. p values are adjusted by Holm over
    the contrasts of one corpus and tokenizer (the family), by the rule of claims (`statistics.adjusted`); one that is the same
    in every seed has no test and is in no family. Where a study has looks, the seeds are those of the first: that there are
    more of a cell hangs on what these showed.
    """
    cells = [_of_first_look(cell, plan.looks) for cell in plan.cells]
    place = {cell.id: (cell.corpus, cell.tokenizer, json.dumps(cell.factors, sort_keys=True)) for cell in cells}
    baselines = {place[cell.id]: cell for cell in cells if cell.variant == plan.baseline}
    runs = {run for cell in cells for run in cell.runs.values()}

    def baseline(cell: Cell) -> Cell | None:
        other = baselines.get(place[cell.id])
        return other if other and other.runs.keys() & cell.runs.keys() else None

    values: dict[str, dict[int, float]] = {cell_id: {} for cell_id in place}
    for row in rows:
        if row["status"] == "completed" and row["run_id"] in runs:
            values[row["cell"]][row["seed"]] = row[MAIN]
    again: dict[str, list[tuple[int, float]]] = {}
    for row in repeated:
        if row["metric"] == MAIN:
            again.setdefault(row["cell"], []).append((row["seed"], row["value"]))
    values = {cell_id: pooled(own, again.get(cell_id, [])) for cell_id, own in values.items()}
    result = [_contrast(cell, baseline(cell), values) for cell in cells if cell.variant != plan.baseline]
    for family in dict.fromkeys((row["corpus"], row["tokenizer"]) for row in result):
        here = [row for row in result if (row["corpus"], row["tokenizer"]) == family and row["baseline"] is not None]
        members = [row for row in here if not _constant(row)]
        for raw, name in (("p", "p_holm"), ("p_equivalence", "p_equivalence_holm")):
            for row, value in zip(members, adjusted([row[raw] for row in members]), strict=True):
                row[name] = value
    for row in result:
        row["verdict"] = _verdict(row)
        row["decided"] = row["verdict"] in VERDICTS
    return result


def _of_first_look(cell: Cell, looks: Looks | None) -> Cell:
    """A cell with the seeds that it has without any look."""
    n = looks.looks[0] if looks else len(cell.runs)
    return cell.model_copy(update={"runs": dict(list(cell.runs.items())[:n])})


def _contrast(cell: Cell, baseline: Cell | None, values: dict[str, dict[int, float]]) -> Json:
    """planned: the pairs that there are if all runs complete; n: those that there are."""
    own, other = values[cell.id], values[baseline.id] if baseline else {}
    d, e = paired_difference(own, other), equivalence(own, other, MARGIN, ALPHA)
    return {
        **_identity(cell),
        "baseline": baseline.id if baseline else None,
        "metric": MAIN,
        "planned": len(baseline.runs.keys() & cell.runs.keys()) if baseline else 0,
        "n": d.n,
        "difference": d.mean,
        "sd": d.sd,
        "lower": d.lower,
        "upper": d.upper,
        "p": d.p,
        "p_holm": None,
        "p_sign_flip": d.p_sign_flip,
        "margin": e.margin,
        "ratio": e.ratio,
        "ratio_lower": e.lower,
        "ratio_upper": e.upper,
        "p_equivalence": e.p,
        "p_equivalence_holm": None,
    }


VERDICTS = ("better", "worse", "better, within margin", "worse, within margin", "equivalent")
NO_BASELINE = "no baseline to compare with"
CONSTANT = "is the same in every seed, and has no test"


def _constant(row: Json) -> bool:
    """Whether a contrast is the same in every seed, as of two cells of the same runs."""
    return row["n"] > 1 and row["p"] is None


def _verdict(row: Json) -> str:
    """A word for a contrast, from the two adjusted tests; what they leave open is said to be open."""
    if row["baseline"] is None:
        return NO_BASELINE
    if _constant(row):
        return CONSTANT
    if row["p"] is None:
        return f"cannot be decided with {row['n']} seed{'' if row['n'] == 1 else 's'}"
    direction = "better" if row["difference"] < 0 else "worse"
    match row["p_holm"] < ALPHA, row["p_equivalence_holm"] < ALPHA:
        case True, False:
            return direction
        case True, True:
            return f"{direction}, within margin"
        case False, True:
            return "equivalent"
        case _:
            return f"cannot be decided with {row['n']} seeds"


@dataclass(frozen=True)
class Curves:
    """Of a run, with what is said of it at each point."""

    about: Json
    values: pa.Table


def _curves(curves: list[Curves]) -> Iterator[pa.Table]:
    """All curves, one below the other; a column that a run does not have is null there."""
    import pyarrow as pa

    words, numbers = ("cell", "label", "variant", "corpus", "tokenizer", "run_id", "status"), ("seed", "step", "tokens")
    first = pa.schema([*((name, pa.string()) for name in words), *((name, pa.int64()) for name in numbers)])
    kinds = dict.fromkeys(own.values.schema.remove_metadata() for own in curves)
    empty = pa.unify_schemas([first, *kinds], promote_options="permissive").empty_table()
    tables, n_rows = [empty], 0
    for own in curves:
        table = own.values.replace_schema_metadata(None)
        for name in (*words, "seed"):
            table = table.append_column(name, pa.array([own.about[name]] * table.num_rows))
        if n_rows + table.num_rows > ROWS:
            yield pa.concat_tables(tables, promote_options="permissive")
            tables, n_rows = [empty], 0
        tables.append(table)
        n_rows += table.num_rows
    yield pa.concat_tables(tables, promote_options="permissive")


class Columns:
    """A table as it grows, column by column: as many rows, a mapping each, would take gigabytes."""

    def __init__(self) -> None:
        self.values: dict[str, list[Any]] = {}
        self.n_rows = 0

    def add(self, rows: Sequence[Json], **about: Any) -> None:
        """Rows below the others, each after what is said of all of them; null in the columns that a row does not have."""
        for name in dict.fromkeys([*about, *(name for row in rows for name in row)]) if rows else ():
            if (column := self.values.get(name)) is None:
                column = self.values[name] = [None] * self.n_rows
            if name in about:
                column += [about[name]] * len(rows)
            else:  # a word that stands in many rows is there once
                column += [sys.intern(value) if type(value) is str else value for value in (row.get(name) for row in rows)]
        self.n_rows += len(rows)
        for column in self.values.values():
            column += [None] * (self.n_rows - len(column))

    def tables(self, names: Iterable[str] = ()) -> Iterator[pa.Table]:
        """All of it, in tables of so many rows: integers, floats, words or truth values, by what stands in a column anywhere.

        names: of columns that are there in any case.
        """
        import pyarrow as pa

        columns = {**self.values, **{name: [None] * self.n_rows for name in names if name not in self.values}}
        kinds = {name: _kind(values) for name, values in columns.items()}
        for start in range(0, self.n_rows or 1, ROWS):
            yield pa.table({name: _column(values[start : start + ROWS], kinds[name]) for name, values in columns.items()})


def as_table(rows: list[Json], names: Iterable[str] = ()) -> pa.Table:
    """Rows as columns, in one table."""
    import pyarrow as pa

    columns = Columns()
    columns.add(rows)
    return pa.concat_tables(columns.tables(names))


def _kind(values: list[Any]) -> type:
    """What a column is of; object: of different things, which are words as JSON."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float}:
        return int if kinds == {int} else float
    return kinds.pop() if len(kinds) == 1 and kinds <= {str, bool} else object


def _column(values: list[Any], kind: type) -> pa.Array:
    import pyarrow as pa

    if kind is object:
        values = [None if value is None else json.dumps(value) for value in values]
    elif kind is float:
        values = [None if value is None else float(value) for value in values]
    return pa.array(values, {int: pa.int64(), float: pa.float64(), bool: pa.bool_()}.get(kind, pa.string()))


def write_table(path: Path, table: pa.Table) -> None:
    """A parquet file, whole or not at all."""
    write_tables(path, [table])


def write_tables(path: Path, tables: Iterable[pa.Table]) -> None:
    """The same of at least one table of the same columns, one below the other, each made when those before it are written."""
    import pyarrow.parquet as pq

    rest = iter(tables)
    first = next(rest)
    with atomic_write(path) as temporary, pq.ParquetWriter(temporary, first.schema) as writer:
        writer.write_table(first)
        for table in rest:
            writer.write_table(table)
