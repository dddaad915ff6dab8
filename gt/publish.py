"""Studies that are kept with the code: their small records, from which the report is made again anywhere.

`results/published/<study>/records/` holds the plan and, for all its runs together, one file of each kind that a run record
has: the JSON documents by run id, a line a run, and the curves below each other. JSON is compressed; `xz -dc` shows it. Weights
are not kept. Beside it stands what the records give: `report.html`, `report.md`, `report.pdf`, `tables/`, `figures/`, verdicts
as `claims.json`, and `claims/`, their figures.
"""

from __future__ import annotations

import json
import lzma
import os
import shutil
import tempfile
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gt.analysis.aggregate import aggregate
from gt.analysis.verdicts import judge, overview
from gt.errors import ConfigError
from gt.records import atomic_write, read_json, write_json
from gt.report.gallery import draw
from gt.report.headline import ALL, SHOWN, headline, insert
from gt.report.numbers import load
from gt.report.render import render
from gt.study import dumps

if TYPE_CHECKING:
    import pyarrow as pa

Json = dict[str, Any]
DOCUMENTS = ("manifest.json", "evaluation.json", "probes.json", "failure.json")
PLAN = "plan.json"
CURVES = "curves.parquet"
CLAIMS = Path("config/claims")
# Paragraphs, in the folder of the published studies, on what deviates from the plan: of the report of all of them.
NOTES = "deviations.txt"
REPORT = ("report.html", "report.md", "report.pdf", "claims.json", "tables", "figures", "claims")


def publish(plan: Json, runs: Path, published: Path, templates: Path) -> None:
    """Keep the records of a study, in place of those that are kept, and make its report from them.

    ConfigError if no run of the plan has a record.
    """
    records = published / "records"
    shutil.rmtree(records, ignore_errors=True)
    pack(plan, runs, records)
    rebuild(published, published, templates)


def rebuild(published: Path, out: Path, templates: Path) -> None:
    """Make the report of a published study again, into `out`. The same records and code give the same bytes."""
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder) / published.name
        _report(published, study, templates)
        _copy(study, out)


def rebuild_all(published: list[Path], templates: Path) -> None:
    """Make the reports of published studies again, and beside them, in `all/`, one about all of them together."""
    with tempfile.TemporaryDirectory() as folder:
        studies = [Path(folder) / own.name for own in published]
        for own, study in zip(published, studies, strict=True):
            _report(own, study, templates)
            _copy(study, own)
        if len(studies) > 1:
            parent = published[0].parent
            notes = (parent / NOTES).read_text(encoding="utf-8").strip() if (parent / NOTES).exists() else ""
            render(studies, Path(folder) / ALL, templates, CLAIMS, notes.split("\n\n") if notes else ())
            _copy(Path(folder) / ALL, parent / ALL)


def write_headline(published: list[Path], readme: Path) -> None:
    """Write the headline of the README anew from the records of the published studies. Its figure is one of their reports'."""
    with tempfile.TemporaryDirectory() as folder:
        studies = [Path(folder) / own.name for own in published]
        for own, study in zip(published, studies, strict=True):
            restore(own, study)
        rows = [row for row in overview(CLAIMS, studies) if row.judgement and row.judgement["tests"]]
        text = headline([load(study) for study in studies], rows, published[0].parent.as_posix())
    with atomic_write(readme) as temporary:
        temporary.write_text(insert(readme.read_text(encoding="utf-8"), text), encoding="utf-8")


def restore(published: Path, study: Path) -> None:
    """A study's tables and verdicts, from the records that are kept."""
    with tempfile.TemporaryDirectory() as runs:
        plan = unpack(published / "records", Path(runs))
        write_json(study / PLAN, plan)
        aggregate(plan, Path(runs), study)
    judge(study, CLAIMS)


def _report(published: Path, study: Path, templates: Path) -> None:
    restore(published, study)
    draw(study, os.cpu_count() or 1)
    render([study], study, templates, CLAIMS)


def _copy(study: Path, out: Path) -> None:
    """What a reader sees: of figures the SVG, and as PNG the one that a README shows."""
    out.mkdir(parents=True, exist_ok=True)
    for name in REPORT:
        shutil.rmtree(out / name, ignore_errors=True)
        if (study / name).is_dir():
            shutil.copytree(study / name, out / name, ignore=_unshown)
        elif (study / name).exists():
            shutil.copyfile(study / name, out / name)


def _unshown(_folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name.endswith(".png") and name not in SHOWN]


def pack(plan: Json, runs: Path, records: Path) -> None:
    """The run records of a plan -> one file of each kind."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = {}
    for name in DOCUMENTS:
        found[name] = {run: read_json(runs / run / name) for run in plan["runs"] if (runs / run / name).exists()}
    if not any(found.values()):
        raise ConfigError(f"{runs}: no run of {plan['study']} has a record here.")
    _compress(records / PLAN, dumps(plan))
    for name, documents in found.items():
        if documents:
            lines = (f"{json.dumps(run)}: {json.dumps(document, allow_nan=False)}" for run, document in documents.items())
            _compress(records / name, "{\n" + ",\n".join(lines) + "\n}\n")
    tables = []
    for run in plan["runs"]:
        if (runs / run / CURVES).exists():
            table = pq.read_table(runs / run / CURVES)
            tables.append(table.append_column("run_id", pa.array([run] * table.num_rows)))
    if tables:
        with atomic_write(records / CURVES) as temporary:
            _write_curves(pa.concat_tables(tables, promote_options="permissive"), temporary)


def _write_curves(curves: pa.Table, path: Path) -> None:
    """What was computed in float32 is kept in it: the columns of numbers that lose nothing by it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = [name for name in curves.column_names if curves[name].type == pa.float64()]
    for name in numbers:
        narrow = curves[name].cast(pa.float32(), safe=False)
        if np.array_equal(curves[name].to_numpy(), narrow.to_numpy(), equal_nan=True):
            curves = curves.set_column(curves.column_names.index(name), name, narrow)
    others = [name for name in curves.column_names if name not in numbers]
    encoding = dict.fromkeys(numbers, "BYTE_STREAM_SPLIT")
    pq.write_table(curves, path, compression="zstd", compression_level=19, use_dictionary=others, column_encoding=encoding)


def unpack(records: Path, runs: Path) -> Json:
    """The kept files -> run records without weights. Returns the plan. ConfigError where a file is not what it should be."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not (plan := _read(records, PLAN)):
        raise ConfigError(f"{records}: there is no {PLAN}.xz here.")
    found = {name: _read(records, name) for name in DOCUMENTS}
    for name, documents in found.items():
        for run, document in documents.items():
            write_json(runs / run / name, document)
    for run in set().union(*found.values()):
        write_json(runs / run / "spec.json", plan["runs"][run])
    if (records / CURVES).exists():
        curves = pq.read_table(records / CURVES)
        wide = [field.with_type(pa.float64()) if pa.types.is_floating(field.type) else field for field in curves.schema]
        curves = curves.cast(pa.schema(wide))
        start = 0
        for run, rows in groupby(curves["run_id"].to_pylist()):
            n = len(list(rows))
            table = curves.slice(start, n).drop_columns("run_id")
            # a column that a run does not have is null in the common table, and NaN where it has it without a value
            table = table.select([name for name in table.column_names if table[name].null_count == 0])
            with atomic_write(runs / run / CURVES) as temporary:
                pq.write_table(table, temporary)
            start += n
    return plan


def _compress(path: Path, content: str) -> None:
    with atomic_write(path.with_name(f"{path.name}.xz")) as temporary:
        temporary.write_bytes(lzma.compress(content.encode(), preset=9))


def _read(records: Path, name: str) -> Json:
    """A kept JSON file, compressed or, as they once were, not; empty where there is none. ConfigError where it is no JSON."""
    path = records / f"{name}.xz"
    if not path.exists():
        return dict(read_json(records / name)) if (records / name).exists() else {}
    try:
        return dict(json.loads(lzma.decompress(path.read_bytes())))
    except (lzma.LZMAError, ValueError) as error:
        raise ConfigError(f"{path}: not compressed JSON ({error}).") from None
