"""Studies that are kept with the code: their small records, from which the report is made again anywhere.

`results/published/<study>/records/` holds the plan and, for all its runs together, one file of each kind that a run record
has: the JSON documents by run id, a line a run, and the curves below each other. JSON is compressed; `xz -dc` shows it. Weights
are not kept. Such a folder may be anybody's, so all that is read from it is checked before anything is written. Beside it
stands what the records give: `report.html`, `report.md`, `report.pdf`, `tables/`, `figures/`, verdicts as `claims.json`, and
`claims/`, their figures.
"""

from __future__ import annotations

import json
import lzma
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from gt.analysis import forms
from gt.analysis.aggregate import aggregate
from gt.analysis.records import read_curves
from gt.analysis.verdicts import judge, overview
from gt.errors import ConfigError
from gt.records import (
    CURVES,
    EVALUATION,
    FILES,
    MANIFEST,
    PROBES,
    SPEC,
    atomic_write,
    check_file,
    parse_json,
    read_json,
    unsealed,
    write_json,
    write_sealed,
)
from gt.report.gallery import draw
from gt.report.headline import ALL, SHOWN, headline, insert
from gt.report.numbers import load
from gt.report.render import render
from gt.study import dumps

if TYPE_CHECKING:
    import pyarrow as pa

Json = dict[str, Any]
FAILURE = "failure.json"
DOCUMENTS = (MANIFEST, EVALUATION, PROBES, FAILURE)
PLAN, RECORDS = "plan.json", "records"
FORMS: dict[str, type[forms.Form]] = {MANIFEST: forms.Manifest, PROBES: forms.Probes, FAILURE: forms.Failure}
# What a kept file may hold, in bytes, however small it is on disk: thirty times the largest of those that are published.
MOST_BYTES = 2**27
# What decompressing may take beside, in bytes: the file chooses.
MOST_WINDOW = 2**27
CLAIMS = Path("config/claims")
# Paragraphs, in the folder of the published studies, on what deviates from the plan: of the report of all of them.
NOTES = "deviations.txt"
REPORT = ("report.html", "report.md", "report.pdf", "claims.json", "tables", "figures", "claims")


def publish(plan: Json, runs: Path, published: Path, templates: Path) -> None:
    """Keep the records of a study, in place of those that are kept, and make its report from them.

    ConfigError if no run of the plan has a record, one is damaged, or one that is kept would be lost. What is there stays until
    all that is new is.
    """
    if published.name == ALL:
        raise ConfigError(f"{published}: this is the place of the report of all studies; publish the study under another name.")
    _check_none_is_lost(plan, runs, published / RECORDS)
    with _beside(published) as folder:
        study = folder / published.name
        pack(plan, runs, study / RECORDS)
        rebuild(study, study, templates)
        _replace((RECORDS, *REPORT), study, published)


def _check_none_is_lost(plan: Json, runs: Path, records: Path) -> None:
    """ConfigError where a run of the plan whose record is kept has none any more."""
    kept = _read(records, MANIFEST) if (records / f"{MANIFEST}.xz").exists() else {}
    if lost := [run for run in plan["runs"] if run in kept and not (runs / run / MANIFEST).exists()]:
        raise ConfigError(
            f"{runs}: {lost[0]} has no record here any more, and {records} keeps one, as of {len(lost)} in all that publishing"
            " would lose. Train them again, or remove what is published first."
        )


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
        plan = unpack(published / RECORDS, Path(runs))
        write_json(study / PLAN, plan)
        aggregate(plan, Path(runs), study)
    judge(study, CLAIMS)


def _report(published: Path, study: Path, templates: Path) -> None:
    restore(published, study)
    draw(study, os.cpu_count() or 1)
    render([study], study, templates, CLAIMS)


def _copy(study: Path, out: Path) -> None:
    """What a reader sees, in place of what is there: of figures the SVG, and as PNG the one that a README shows."""
    with _beside(out) as folder:
        for name in REPORT:
            if (study / name).is_dir():
                shutil.copytree(study / name, folder / name, ignore=_unshown)
            elif (study / name).exists():
                shutil.copyfile(study / name, folder / name)
        _replace(REPORT, folder, out)


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A folder on the disk of another, for what will be in its place."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.", suffix=".tmp") as folder:
        yield Path(folder)


def _replace(names: Sequence[str], new: Path, out: Path) -> None:
    """Move those of these files and folders that are new into `out`, in place of what is there, which on failure is back."""
    out.mkdir(exist_ok=True)
    old = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.", suffix=".tmp"))
    moved: list[tuple[Path, Path]] = []
    try:
        for source, target in ((out, old), (new, out)):
            for name in names:
                if (source / name).exists():
                    os.rename(source / name, target / name)
                    moved.append((source / name, target / name))
    except BaseException:
        for before, now in reversed(moved):
            os.rename(now, before)
        old.rmdir()
        raise
    shutil.rmtree(old)


def _unshown(_folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name.endswith(".png") and name not in SHOWN]


def pack(plan: Json, runs: Path, records: Path) -> None:
    """The run records of a plan -> one file of each kind. ConfigError where there is none, or one is damaged."""
    import pyarrow as pa

    found: dict[str, Json] = {name: {} for name in DOCUMENTS}
    for name in DOCUMENTS:
        for run in plan["runs"]:
            if (runs / run / name).exists():
                found[name][run] = document = read_json(runs / run / name)
                unsealed(document, runs / run / name)
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
            check_file(runs / run / CURVES, found[MANIFEST].get(run, {}))
            table = read_curves(runs / run / CURVES)
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
    pq.write_table(
        curves,
        path,
        compression="zstd",
        compression_level=19,
        use_dictionary=others,
        column_encoding=dict.fromkeys(numbers, "BYTE_STREAM_SPLIT"),
        write_page_checksum=True,
    )


def unpack(records: Path, runs: Path) -> Json:
    """The kept files -> run records without weights, of which all is checked first. Returns the plan.

    ConfigError names the file, and the run, where something is not what it should be.
    """
    import pyarrow.parquet as pq

    plan, found, curves = _checked(records)
    for run in set().union(*found.values(), curves):
        write_json(runs / run / SPEC, plan["runs"][run])
        if run in curves:
            with atomic_write(runs / run / CURVES) as temporary:
                pq.write_table(curves[run], temporary)
    for name, documents in found.items():
        for run, document in documents.items():
            if FILES in document:  # they were checked when they were kept; curves are laid out anew, weights not there
                write_sealed(runs / run / name, {key: value for key, value in document.items() if key != FILES})
            else:
                write_json(runs / run / name, document)
    return plan


def _checked(records: Path) -> tuple[Json, dict[str, Json], dict[str, pa.Table]]:
    """The plan, the documents of each kind and the curves, by run: of these runs alone, and of the form that analysis needs."""
    if not (plan := _read(records, PLAN)):
        raise ConfigError(f"{records}: there is no {PLAN}.xz here.")
    forms.check_plan(plan, str(_place(records, PLAN)))
    found = {name: _read(records, name) for name in DOCUMENTS}
    for name, documents in found.items():
        for run, document in documents.items():
            source = f"{_place(records, name)}: {run}"
            if run not in plan["runs"]:
                raise ConfigError(f"{_place(records, name)}: {run!r} is not among the runs of {PLAN}.")
            content = unsealed(document, source)
            if name != FAILURE and content.get("run_id") != run:
                raise ConfigError(f"{source}: is of run {content.get('run_id')!r}.")
            if name == EVALUATION:
                forms.check_evaluation(content, source)
            else:
                forms.check(FORMS[name], content, source)
    return plan, found, _curves(records / CURVES, plan["runs"])


def _curves(path: Path, runs: Json) -> dict[str, pa.Table]:
    """The curves of each run, in float64. What the file says that it holds is looked at before it is read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not _is_file(path):
        return {}
    try:
        about = pq.read_metadata(path)
        schema = about.schema.to_arrow_schema()
        groups = [about.row_group(i).total_byte_size for i in range(about.num_row_groups)]
        held = max(sum(groups), 8 * about.num_rows * about.num_columns)
        if held > MOST_BYTES:
            raise ConfigError(f"{path}: holds {held:,} bytes. Allowed: {MOST_BYTES:,}.")
        if len(set(schema.names)) < len(schema.names):
            raise ConfigError(f"{path}: two columns have one name.")
        if "run_id" not in schema.names or schema.field("run_id").type != pa.string():
            raise ConfigError(f"{path}: there is no column 'run_id' of words.")
        for field in schema:
            if field.name != "run_id" and not (pa.types.is_floating(field.type) or pa.types.is_int64(field.type)):
                raise ConfigError(f"{path}: column {field.name!r} of {field.type} is not allowed. Allowed: int64 and floats.")
        curves = pq.read_table(path, read_dictionary=["run_id"], page_checksum_verification=True).unify_dictionaries()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ConfigError(f"{path}: not readable as parquet ({error}).") from None
    wide = [field.with_type(pa.float64()) if pa.types.is_floating(field.type) else field for field in curves.schema]
    curves = curves.cast(pa.schema(wide))
    named = curves["run_id"].combine_chunks()
    for run in [*named.dictionary.to_pylist(), *([None] if named.null_count else [])]:
        if run not in runs:
            raise ConfigError(f"{path}: {run!r} is not among the runs of {PLAN}.")
    found: dict[str, pa.Table] = {}
    start = 0
    for run, rows in groupby(named.to_pylist()):
        n = len(list(rows))
        if run in found:
            raise ConfigError(f"{path}: the curves of {run!r} stand there twice.")
        table = curves.slice(start, n).drop_columns("run_id")
        # a column that a run does not have is null in the common table, and NaN where it has it without a value
        found[run] = table.select([name for name in table.column_names if table[name].null_count == 0])
        forms.check_curves(found[run], f"{path}: {run}")
        start += n
    return found


def _compress(path: Path, content: str) -> None:
    with atomic_write(path.with_name(f"{path.name}.xz")) as temporary:
        temporary.write_bytes(lzma.compress(content.encode(), preset=9))


def _place(records: Path, name: str) -> Path:
    """Where a kept JSON file is: compressed or, as they once were, not."""
    path = records / f"{name}.xz"
    return path if path.exists() or path.is_symlink() else records / name


def _is_file(path: Path) -> bool:
    """Whether a file is there. ConfigError for what is no file of this folder."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise ConfigError(f"{path}: is a link or no file, and is not read.")
    return path.exists()


def _read(records: Path, name: str) -> Json:
    """A kept JSON file; empty where there is none. ConfigError where it is no JSON object, or holds too much."""
    path = _place(records, name)
    if not _is_file(path):
        return {}
    try:
        with open(path, "rb") as file:
            text = _decompressed(file) if path.suffix == ".xz" else file.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise ConfigError(f"{path}: holds more than {MOST_BYTES:,} bytes, which no study needs.")
        found = parse_json(text)
    except (EOFError, OSError, lzma.LZMAError, MemoryError, ValueError) as error:
        raise ConfigError(f"{path}: not {'compressed ' if path.suffix == '.xz' else ''}JSON ({error}).") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: must be a JSON object.")
    return found


def _decompressed(file: BinaryIO) -> bytes:
    """What an xz file holds, or the first bytes of it where that is too much."""
    decompressor, found = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MOST_WINDOW), bytearray()
    while not decompressor.eof and len(found) <= MOST_BYTES:
        part = file.read(2**16) if decompressor.needs_input else b""
        if decompressor.needs_input and not part:
            raise EOFError("it is cut short")
        found += decompressor.decompress(part, MOST_BYTES + 1 - len(found))
    return bytes(found)
