"""The tables of a data set, from the kept records of studies and from their verdicts as they were published.

    runs           a row a training: what was trained, what came of it, and all that was measured of the whole network
    curves         a row a logged step of a training
    verdicts       a row a tested part of a claim, under each arm; and of its replications
    measurements   a row a measurement of a trained network: also of its layers, and with intervals

The same records give the same bytes with the same version of pyarrow, which writes its own into the end of each file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gt.analysis.aggregate import Run, run_row
from gt.analysis.kept import of_today
from gt.analysis.replications import replications
from gt.archive import KEPT, Kept, read
from gt.artefacts import Cell, Plan
from gt.dataset.columns import AT, CURVE, MADE, MEASUREMENT, RUN, VERDICT, Column, of_metric, schema
from gt.progress import progress
from gt.records import read_json
from gt.registry import look_up
from gt.report.claim_words import cautions
from gt.spec import RunSpec
from gt.study import trial_cells

if TYPE_CHECKING:
    import pyarrow as pa

Json = dict[str, Any]


class Table(NamedTuple):
    """With what each of its columns is."""

    columns: list[Column]
    rows: pa.Table


def tables(published: Sequence[Path]) -> dict[str, Table]:
    """All tables by name. published: folders of studies, in the order of the rows. ConfigError where records are damaged."""
    import pyarrow as pa

    runs: list[Json] = []
    curves: list[pa.Table] = [schema(CURVE).empty_table()]
    measured: list[pa.Table] = [schema(MEASUREMENT).empty_table()]
    for folder in progress(published, "records", "study"):
        found: list[Json] = []
        for row, run in _trainings(read(folder / KEPT)):
            runs.append(row)
            curves += [] if run.curves is None else [_curve(row, run.curves)]
            found += _measurements(row, run)
        measured.append(_table(MEASUREMENT, found))
    curve = pa.concat_tables(curves, promote_options="permissive")
    known = {column.name for column in (*RUN, *MADE, *CURVE)}
    metrics = sorted({name for row in runs for name in row} - known)
    columns = [*RUN, *map(of_metric, metrics), *MADE]
    return {
        "runs": Table(columns, _table(columns, runs)),
        "curves": Table([*CURVE, *map(of_metric, curve.column_names[len(CURVE) :])], curve),
        "verdicts": Table([*VERDICT], _table(VERDICT, list(verdicts(published)))),
        "measurements": Table([*MEASUREMENT], pa.concat_tables(measured)),
    }


def write(table: pa.Table, path: Path) -> None:
    """As a Parquet file, in row groups and with an index of their pages: the Hub's viewer reads no more than 300 MB at once."""
    import pyarrow.parquet as pq

    options = {"compression": "zstd", "compression_level": 9, "row_group_size": 1 << 17, "write_page_index": True}
    pq.write_table(table.combine_chunks(), path, version="2.6", **options)


def _table(columns: Sequence[Column], rows: list[Json]) -> pa.Table:
    import pyarrow as pa

    times = [column.name for column in columns if column.kind == "timestamp"]
    for row in rows:
        row |= {name: datetime.fromisoformat(row[name]) for name in times if isinstance(row.get(name), str)}
    return pa.Table.from_pylist(rows, schema(columns))


def _trainings(records: Kept) -> Iterator[tuple[Json, Run]]:
    """A row of each run of a plan, and the run: those that are judged in the order of the plan, and then those that tune."""
    plan = records.plan
    cells: dict[str, list[Cell]] = {}
    for cell in plan.cells:
        for run_id in cell.runs.values():
            cells.setdefault(run_id, []).append(cell)
    tuning: dict[str, Json] = {}
    for own, point, cell in trial_cells(plan):
        for run_id in point.runs.values():
            cells.setdefault(run_id, [cell])
            asked = {"tuning_round": point.round, "tuned_values": _text(point.values)}
            tuning.setdefault(run_id, {**asked, "tuning_chosen": point.values == own.choice})
    for run_id, (cell, *others) in cells.items():
        spec = plan.runs[run_id]
        run = Run.read(plan, cell, spec.seed, run_id, records)
        found = run_row(run, records.began(plan, run.record), plan.dollars_per_hour)
        about = {**_identity(plan, spec, cell, others), "run_id": run_id, **tuning.get(run_id, {})}
        yield {**about, **_made(run_id, found), **_whole(run, found)}, run


def _identity(plan: Plan, spec: RunSpec, cell: Cell, others: Sequence[Cell]) -> Json:
    """What was to be trained."""
    model, training = spec.model, spec.training
    return {
        "study": plan.study,
        "cell": cell.id,
        "other_cells": ", ".join(own.id for own in others) or None,
        "variant": cell.variant,
        "corpus": cell.corpus,
        "tokenizer": cell.tokenizer,
        "factors": _text(cell.factors),
        "seed": spec.seed,
        "layers": model.layers,
        "mixers": _text({letter: mixer.name for letter, mixer in model.mixers.items()}),
        "fusion": model.fusion.name if model.fusion else None,
        "d_model": model.d_model,
        "n_layer": model.n_layer,
        "optimizer": training.optimizer.name,
        "learning_rate": training.learning_rate,
        "batch_size": training.batch_size,
        "sequence_length": training.sequence_length,
        "steps": training.steps,
        "specification": _text(spec.model_dump(mode="json", exclude_defaults=True)),
    }


def _made(run_id: str, found: Json) -> Json:
    """A row of `runs.parquet`, in columns of one type each: sums in place of lists of them, and null for what is empty."""
    codes = {name: found.pop(name) for name in ("code", "evaluation_code")}
    training = f"{run_id} {found['started']} {found['finished']}" if found["finished"] else None
    return {
        **found,
        "reason": found["reason"] or None,
        "training": training and _sum(training)[:16],
        **{name: None if found[name] is None else _text(found[name]) for name in ("backend", "modified")},
        **{f"{name}_sha256": None if code is None else _sum(code) for name, code in codes.items()},
    }


def _whole(run: Run, known: Json) -> Json:
    """What was measured of the whole network that is in no other column, by name and where."""
    return {
        own.name if own.at is None else f"{own.name}{AT}{own.at:g}": own.value
        for own in _measured(run)
        if own.layer is None and own.name not in known
    }


def _measured(run: Run) -> list[Any]:
    evaluations = [own for evaluation in run.record.evaluations.values() for own in evaluation.measurements]
    return [*evaluations, *(run.record.probes.measurements if run.record.probes else ())]


def _measurements(row: Json, run: Run) -> Iterator[Json]:
    """A row of each measurement of a run."""
    for own in _measured(run):
        known = look_up(own.name)
        values = {"value": own.value, "lower": own.lower, "upper": own.upper, "n": own.n}
        place = {"metric": own.name, "at": own.at, "layer": own.layer, "unit": known.metric.unit or None if known else None}
        yield {"study": row["study"], "run_id": row["run_id"], **place, **values}


def _curve(row: Json, curves: pa.Table) -> pa.Table:
    """The curves of a run, null where a step has no value: what is not finite is not told from what was not measured."""
    import pyarrow as pa
    import pyarrow.compute as pc

    first = {name: [row[name]] * curves.num_rows for name in ("study", "run_id", "variant", "seed")}
    own = pa.table(first, schema=schema(CURVE[: len(first)]))
    for name in [*(column.name for column in CURVE[len(first) :]), *sorted(set(curves.column_names))]:
        if name in curves.column_names and name not in own.column_names:
            values = curves[name]
            finite = pa.types.is_floating(values.type)
            own = own.append_column(name, pc.if_else(pc.is_finite(values), values, None) if finite else values)
    return own


def verdicts(published: Sequence[Path]) -> Iterator[Json]:
    """A row of each tested part of a claim of these studies. What an arm's claim says may stand in another study's verdict."""
    judged = [(folder, of_today(own)) for folder in published for own in read_json(folder / "claims.json")]
    said = {own["claim"]: own["claimed"] for _, own in judged if own["claimed"]}
    for folder in published:
        for own in (own for of, own in judged if of == folder):
            yield from _parts(own, said.get(own["claim"], {}), None)
        for again in replications(folder):
            own = {**again.judgement, "study": again.of, "claim": again.claim}
            yield from _parts(own, own["claimed"], again.name)


def _parts(judged: Json, claimed: Json, replication: str | None) -> Iterator[Json]:
    entries, tests = judged["registered"], judged["tests"]
    shared = {
        **{name: judged[name] for name in ("study", "claim", "arm", "verdict", "otherwise", "planned", "family", "alpha")},
        **{name: judged[name] for name in ("p", "leaning", "p_adjusted", "p_equivalent_adjusted")},
        "replication": replication,
        "title": claimed.get("title"),
        "sentence": claimed["sentence"].strip() if claimed else None,
        "reason": judged["reason"] or None,
        "deviations": "; ".join(judged["deviations"]) or None,
        "missing": "; ".join(judged["missing"]) or None,
        "registered": entries[-1]["time"] if entries else None,
        "cautions": " ".join(cautions(judged)) or None,
        "leaning": judged["leaning"] if judged["p"] is not None else None,
        "parts": len(tests) or None,
    }
    same = ("n", "scale", "estimate", "lower", "upper", "p_support", "p_refute", "detectable", "needed")
    for i, test in enumerate(tests or [None]):
        own = {"part": i + 1, "compared": test["words"], **{name: test[name] for name in same}} if test else {}
        yield {**shared, **own}


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
