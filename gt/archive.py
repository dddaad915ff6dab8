"""The records of a study as they are kept with the code: three files, from which the run records are made again anywhere.

`plan.json.xz` is the plan (`xz -dc` shows it). `records.parquet` has a row for each JSON document of a run, with its text as
it was written, and `curves.parquet` the curves of all runs, one below the other. Weights are not kept. Such a folder may be
anybody's, so all that is read from it is checked before anything is written.
"""

from __future__ import annotations

import lzma
import math
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gt import attempts, registry
from gt.analysis.reading import DAMAGED, Record, check_curves, is_of, judged, read_curves
from gt.artefacts import Artefact, Attempt, Evaluation, Failure, Manifest, Plan, Probes, contradiction, parsed, write
from gt.errors import ConfigError, nearest
from gt.migration import first, second
from gt.records import (
    CURVES,
    EVALUATIONS,
    FAILURE,
    MANIFEST,
    PROBES,
    SPEC,
    atomic_write,
    check_file,
    parse_json,
    read_json,
    unsealed,
    write_json,
)
from gt.study import dumps

if TYPE_CHECKING:
    import pyarrow as pa

Json = dict[str, Any]
# The folder of a published study that its records are in, and their files.
KEPT, PLAN, RECORDS = "records", "plan.json", "records.parquet"


class Kind(NamedTuple):
    """Documents of one kind: their files, seen from the folder of all runs, where a `*` stands for a document's name, and their
    type. None: of the first schema alone.
    """

    file: str
    type: type[Artefact] | None


KINDS = {
    "manifest": Kind(f"{{run}}/{MANIFEST}", Manifest),
    "evaluation": Kind("{run}/evaluation.json", None),
    "evaluations": Kind(f"{{run}}/{EVALUATIONS}/*.json", Evaluation),
    "probes": Kind(f"{{run}}/{PROBES}", Probes),
    "failure": Kind(f"{{run}}/{FAILURE}", Failure),
    "attempts": Kind("../attempts/{run}/*.json", Attempt),
}
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,+-]{0,200}")
# What a kept file may hold, in bytes, however small it is on disk: ten times the largest of those that are published.
MOST_BYTES = 2**27
# What decompressing may take beside, in bytes: the file chooses.
MOST_WINDOW = 2**27
# Of curves. Bits per byte follow from the loss in nats and the bytes of a target, of which there are few different values.
LOSS, BITS, BYTES = "train/loss", "train/bits_per_byte", "train/bytes_per_target"


class Document(NamedTuple):
    """A JSON document of a run. name: what stands for the `*` of its kind's files, "" where there is none."""

    run: str
    kind: str
    name: str
    text: str

    @property
    def file(self) -> str:
        """Seen from the folder of all runs."""
        return KINDS[self.kind].file.format(run=self.run).replace("*", self.name)


def pack(plan: Plan, runs: Path, records: Path) -> None:
    """Keep the run records of a plan. ConfigError where there is none, or one is damaged."""
    import pyarrow as pa

    documents = [own for kind in KINDS for run in plan.runs for own in _written(runs, run, kind)]
    if not documents:
        raise ConfigError(f"{runs}: no run of {plan.study} has a record here.")
    curves = []
    for run in plan.runs:
        if (path := runs / run / CURVES).exists():
            check_file(path, read_json(path.with_name(MANIFEST)) if path.with_name(MANIFEST).exists() else {})
            table = read_curves(path)
            curves.append(table.append_column("run_id", pa.array([run] * table.num_rows)))
    with atomic_write(records / f"{PLAN}.xz") as temporary:
        temporary.write_bytes(lzma.compress(dumps(plan).encode(), preset=9))
    with atomic_write(records / RECORDS) as temporary:
        _write_documents(documents, temporary)
    if curves:
        with atomic_write(records / CURVES) as temporary:
            _write_curves(pa.concat_tables(curves, promote_options="permissive"), temporary)


def _written(runs: Path, run: str, kind: str) -> Iterator[Document]:
    """The documents of a kind that a run has, sound ones."""
    pattern = runs / KINDS[kind].file.format(run=run)
    for path in sorted(pattern.parent.glob(pattern.name)):
        name = path.stem if "*" in pattern.name else ""
        if not name or NAME.fullmatch(name):
            unsealed(read_json(path), path)
            yield Document(run, kind, name, path.read_bytes().decode())


def _write_documents(documents: list[Document], path: Path) -> None:
    """A page a column, since what is in one page is compressed together; brotli makes an eighth less of texts than zstd."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ("run_id", "kind", "name", "document")
    pq.write_table(
        pa.Table.from_pylist([dict(zip(names, own, strict=True)) for own in documents]),
        path,
        compression="brotli",
        compression_level=11,
        use_dictionary=["run_id", "kind", "name"],
        data_page_size=MOST_BYTES,
        write_statistics=False,
        write_page_checksum=True,
    )


def _write_curves(curves: pa.Table, path: Path) -> None:
    """What was computed in float32 is kept in it: the columns of numbers that lose nothing by it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = [name for name in curves.column_names if curves[name].type == pa.float64()]
    for name in numbers:
        narrow = curves[name].cast(pa.float32(), safe=False)
        if np.array_equal(curves[name].to_numpy(), narrow.to_numpy(), equal_nan=True):
            curves = _replaced(curves, name, name, narrow)
    curves = _without_bits(curves)
    others = [name for name in curves.column_names if not pa.types.is_floating(curves[name].type)]
    pq.write_table(
        curves,
        path,
        compression="zstd",
        compression_level=19,
        use_dictionary=others,
        column_encoding={name: "BYTE_STREAM_SPLIT" for name in curves.column_names if name not in others},
        write_statistics=False,
        write_page_checksum=True,
    )


def _without_bits(curves: pa.Table) -> pa.Table:
    """Curves with the bytes of a target in float32 for the bits per byte, where these follow from them to the last digit."""
    import pyarrow as pa

    if not {LOSS, BITS} <= set(curves.column_names) or curves[LOSS].null_count or curves[BITS].null_count:
        return curves
    loss, bits = curves[LOSS].to_numpy().astype(float), curves[BITS].to_numpy().astype(float)
    with np.errstate(all="ignore"):
        n_bytes = (loss / math.log(2) / bits).astype(np.float32)
        exact = np.array_equal(_bits(loss, n_bytes), bits, equal_nan=True)
    return _replaced(curves, BITS, BYTES, pa.array(n_bytes)) if exact else curves


def _with_bits(curves: pa.Table) -> pa.Table:
    """The reverse."""
    import pyarrow as pa

    if not {LOSS, BYTES} <= set(curves.column_names) or curves[LOSS].null_count or curves[BYTES].null_count:
        return curves
    with np.errstate(all="ignore"):
        bits = _bits(curves[LOSS].to_numpy(), curves[BYTES].to_numpy())
    return _replaced(curves, BYTES, BITS, pa.array(bits))


def _bits(loss: NDArray[Any], n_bytes: NDArray[Any]) -> NDArray[np.float64]:
    """As training computes them, in float64."""
    bits: NDArray[np.float64] = loss.astype(float) / math.log(2) / n_bytes.astype(float)
    return bits


def _replaced(curves: pa.Table, name: str, by: str, values: Any) -> pa.Table:
    return curves.set_column(curves.column_names.index(name), by, values)


def unpack(records: Path, runs: Path) -> Plan:
    """What is kept -> run records without weights, of which all is checked first. Returns the plan.

    ConfigError names the file, and the run, where something is not what it should be.
    """
    import pyarrow.parquet as pq

    plan, names = read_plan(records)
    documents, curves = _documents(records / RECORDS, plan, names), _curves(records / CURVES, names)
    watches = {own.run: artefact.watch for own, artefact in documents if isinstance(artefact, Manifest)}
    for run in {own.run for own, _ in documents} | set(curves):
        spec = plan.runs[run].watched(watches[run]) if run in watches else plan.runs[run]
        write_json(runs / run / SPEC, spec.model_dump(mode="json"))
        if run in curves:
            with atomic_write(runs / run / CURVES) as temporary:
                pq.write_table(curves[run], temporary)
    for own, artefact in documents:
        write(runs / own.file, artefact)
    return plan


@dataclass(frozen=True)
class Kept:
    """What is kept of a study, all of it checked and in memory, as `Records` of its plan's runs."""

    plan: Plan
    artefacts: dict[str, list[Artefact]]
    curves: dict[str, pa.Table]

    def record(self, run_id: str) -> Record:
        own = self.artefacts.get(run_id, [])
        for failure in own:
            if isinstance(failure, Failure):
                return Record(run_id, "failed", failure.error)
        manifest = next((artefact for artefact in own if isinstance(artefact, Manifest)), None)
        if manifest is None:
            return Record(run_id, "missing", "not run to its end" if own else "not run")
        if run_id not in self.curves:
            return Record(run_id, "missing", f"{DAMAGED}{CURVES}: missing or not a parquet file.")
        found = [artefact for artefact in own if isinstance(artefact, Evaluation) and is_of(artefact, manifest)]
        named = {artefact.name: artefact for artefact in sorted(found, key=lambda artefact: artefact.name)}
        probes = next((artefact for artefact in own if isinstance(artefact, Probes) and is_of(artefact, manifest)), None)
        return judged(Record(run_id, "completed", "", manifest, named, self.curves[run_id], probes))

    def began(self, plan: Plan, record: Record) -> datetime | None:
        times = [own.started for own in self.artefacts.get(record.run_id, []) if isinstance(own, Attempt | Manifest)]
        return min([*times, *([plan.started[record.run_id]] if record.run_id in plan.started else [])], default=None)


def read(records: Path) -> Kept:
    """What is kept, without a copy on disk. ConfigError as of `unpack`."""
    plan, names = read_plan(records)
    found: dict[str, list[Artefact]] = {}
    for own, artefact in _documents(records / RECORDS, plan, names):
        found.setdefault(own.run, []).append(artefact)
    return Kept(plan, found, _curves(records / CURVES, names))


def read_plan(records: Path) -> tuple[Plan, dict[str, str]]:
    """The plan that is kept, and by what each of its runs is called in what is kept, the name that it has in the plan.

    ConfigError where there is none, or it holds too much or is of another form.
    """
    path = records / f"{PLAN}.xz"
    if not _is_file(path):
        raise ConfigError(f"{records}: there is no {path.name} here.")
    try:
        with open(path, "rb") as file:
            text = _decompressed(file)
        if len(text) > MOST_BYTES:
            raise ConfigError(f"{path}: holds more than {MOST_BYTES:,} bytes, which no study needs.")
        document = parse_json(text)
    except (EOFError, OSError, lzma.LZMAError, MemoryError, ValueError) as error:
        raise ConfigError(f"{path}: not compressed JSON ({error}).") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: must be a JSON object.")
    if first.is_first(document):
        return first.plan(document, path)
    plan = parsed(Plan, document, path)
    return plan, {run: run for run in plan.runs}


def glanced(records: Path, plan: Plan, names: dict[str, str], kinds: Collection[str]) -> Iterator[tuple[str, Json]]:
    """Of each document of these kinds that is kept its run and its content in the present schema.

    plan, names: as `read_plan` has them. For a look at numbers before anything runs: `unpack` checks all that it reads, and
    takes twenty times as long. ConfigError where something is not readable.
    """
    for own in _rows(records / RECORDS):
        if own.run not in names or own.kind not in kinds:
            continue
        run, source = names[own.run], f"{records / RECORDS}: {own.file}"
        try:
            content = parse_json(own.text.encode())
        except ValueError as error:
            raise ConfigError(f"{source}: not JSON ({error}).") from None
        found = [content]
        if first.is_first(content):
            found = [document for _, _, document in first.documents(own.kind, content, plan.runs[run], source)]
        yield from ((run, second.upgraded(document, source)) for document in found)


def kept_curves(records: Path, names: dict[str, str]) -> dict[str, pa.Table]:
    """The curves that are kept, by the names that their runs have in the plan. ConfigError where they are not readable."""
    return _curves(records / CURVES, names)


def read_plans(studies: Iterable[Path]) -> list[Plan]:
    """Of those of these folders that keep the records of a study. ConfigError where one is damaged or none."""
    records = [study / KEPT for study in studies]
    return [read_plan(own)[0] for own in records if (own / f"{PLAN}.xz").exists()]


def begun(studies: Iterable[Path]) -> datetime | None:
    """When the first run of all studies that are kept in these folders was begun, as far as their plans say."""
    return min((time for plan in read_plans(studies) for time in plan.started.values()), default=None)


def trained(records: Path) -> set[str]:
    """The runs of which a manifest is kept."""
    _, names = read_plan(records)
    return {names.get(own.run, own.run) for own in _rows(records / RECORDS) if own.kind == "manifest"}


def _documents(path: Path, plan: Plan, names: dict[str, str]) -> list[tuple[Document, Artefact]]:
    """All documents as artefacts: of the plan's runs alone, and each there once."""
    found: dict[str, tuple[Document, Artefact]] = {}
    for own in _rows(path):
        if own.run not in names:
            raise ConfigError(f"{path}: {own.run!r} is not among the runs of {PLAN}.")
        if own.kind not in KINDS:
            raise ConfigError(f"{path}: {own.run}: there is no kind {own.kind!r} of documents." + nearest(own.kind, KINDS))
        if not (NAME.fullmatch(own.name) if "*" in KINDS[own.kind].file else own.name == ""):
            raise ConfigError(f"{path}: {own.run}: {own.name!r} is no name of {own.kind}.")
        source = f"{path}: {own.file}"
        try:
            content = unsealed(parse_json(own.text.encode()), source)
        except ValueError as error:
            raise ConfigError(f"{source}: not JSON ({error}).") from None
        called = own.run if first.is_first(content) else names[own.run]
        if own.kind != "failure" and content.get("run_id") != called:
            raise ConfigError(f"{source}: is of run {content.get('run_id')!r}.")
        for document, artefact in _artefacts(own._replace(run=names[own.run]), content, plan, source):
            if document.file in found:
                raise ConfigError(f"{source}: stands there twice.")
            found[document.file] = document, artefact
    return list(found.values())


def _artefacts(own: Document, content: Json, plan: Plan, source: str) -> Iterator[tuple[Document, Artefact]]:
    """What a document says, in the present schema. One of the first, which had all evaluations in one, gives several."""
    if first.is_first(content):
        for kind, name, migrated in first.documents(own.kind, content, plan.runs[own.run], source):
            yield from _artefacts(own._replace(kind=kind, name=name), migrated, plan, f"{source}: {name}" if name else source)
        return
    if (type_ := KINDS[own.kind].type) is None:
        raise ConfigError(f"{source}: is of schema {content['schema_version']}, which has no {own.kind}.")
    artefact = parsed(type_, content, source)
    if isinstance(artefact, Evaluation | Probes):
        registry.check(artefact.measurements, source)
    if isinstance(artefact, Attempt):
        attempts.check(artefact, source)
    named = artefact.name if isinstance(artefact, Evaluation) else artefact.id if isinstance(artefact, Attempt) else ""
    if own.name != named:
        raise ConfigError(f"{source}: its name is {own.name!r}, and it is {named!r}.")
    if isinstance(artefact, Manifest):
        if why := contradiction(plan.runs[own.run].watched(artefact.watch), artefact):
            raise ConfigError(f"{source}: contradicts the specification of its run in {PLAN}: {why}.")
        # They were checked when they were kept; curves are laid out anew, weights not there.
        artefact = artefact.model_copy(update={"files": {}})
    yield own, artefact


def _rows(path: Path) -> Iterator[Document]:
    """The rows of kept records, whatever they say. How long all of it is, is looked at before it is."""
    import pyarrow.compute as pc

    names = {"run_id": "run", "kind": "kind", "name": "name", "document": "text"}
    if not _is_file(path):
        raise ConfigError(f"{path.parent}: there is no {path.name} here.")
    table, held = _table(path, list(names)), 0
    for name in names:
        if table[name].null_count:
            raise ConfigError(f"{path}: column {name!r} has gaps.")
        values = table[name].combine_chunks()
        held += pc.sum(pc.take(pc.binary_length(values.dictionary), values.indices)).as_py() or 0
    if held > MOST_BYTES:
        raise ConfigError(f"{path}: holds {held:,} bytes. Allowed: {MOST_BYTES:,}.")
    for row in zip(*(table[name].to_pylist() for name in names), strict=True):
        yield Document(*row)


def _table(path: Path, words: list[str]) -> pa.Table:
    """A kept Parquet file. What it says that it holds is looked at before it is read.

    words: the columns of strings, which must be there, and stay encoded: what is there a million times is held once. All others
    are of numbers.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        about = pq.read_metadata(path)
        schema = about.schema.to_arrow_schema()
        groups = [about.row_group(i).total_byte_size for i in range(about.num_row_groups)]
        held = max(sum(groups), 8 * about.num_rows * about.num_columns)
        if held > MOST_BYTES:
            raise ConfigError(f"{path}: holds {held:,} bytes. Allowed: {MOST_BYTES:,}.")
        if len(set(schema.names)) < len(schema.names):
            raise ConfigError(f"{path}: two columns have one name.")
        for name in words:
            if name not in schema.names or schema.field(name).type != pa.string():
                raise ConfigError(f"{path}: there is no column {name!r} of words.")
        for field in schema:
            if field.name not in words and not (pa.types.is_floating(field.type) or pa.types.is_int64(field.type)):
                raise ConfigError(f"{path}: column {field.name!r} of {field.type} is not allowed. Allowed: int64 and floats.")
        return pq.read_table(path, read_dictionary=words, page_checksum_verification=True).unify_dictionaries()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ConfigError(f"{path}: not readable as parquet ({error}).") from None


def _curves(path: Path, names: dict[str, str]) -> dict[str, pa.Table]:
    """The curves of each run, in float64, by the name that it has in the plan."""
    import pyarrow as pa

    if not _is_file(path):
        return {}
    curves = _table(path, ["run_id"])
    wide = [field.with_type(pa.float64()) if pa.types.is_floating(field.type) else field for field in curves.schema]
    curves = _with_bits(curves.cast(pa.schema(wide)))
    named = curves["run_id"].combine_chunks()
    for run in [*named.dictionary.to_pylist(), *([None] if named.null_count else [])]:
        if run not in names:
            raise ConfigError(f"{path}: {run!r} is not among the runs of {PLAN}.")
    found: dict[str, pa.Table] = {}
    start = 0
    for run, rows in groupby(named.to_pylist()):
        n = len(list(rows))
        if names[run] in found:
            raise ConfigError(f"{path}: the curves of {run!r} stand there twice.")
        table = curves.slice(start, n).drop_columns("run_id")
        # a column that a run does not have is null in the common table, and NaN where it has it without a value
        own = table.select([name for name in table.column_names if table[name].null_count == 0])
        check_curves(own, f"{path}: {run}")
        found[names[run]] = own
        start += n
    return found


def _is_file(path: Path) -> bool:
    """Whether a file is there. ConfigError for what is no file of this folder."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise ConfigError(f"{path}: is a link or no file, and is not read.")
    return path.exists()


def _decompressed(file: BinaryIO) -> bytes:
    """What an xz file holds, or the first bytes of it where that is too much."""
    decompressor, found = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MOST_WINDOW), bytearray()
    while not decompressor.eof and len(found) <= MOST_BYTES:
        part = file.read(2**16) if decompressor.needs_input else b""
        if decompressor.needs_input and not part:
            raise EOFError("it is cut short")
        found += decompressor.decompress(part, MOST_BYTES + 1 - len(found))
    return bytes(found)
