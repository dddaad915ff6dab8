"""What a result was made of: the contents of its sources and the code, as one sum, noted beside it with the sums of its files.

A result is current while its note is what its sources and its files give now. So content alone decides what is made again, and
neither a file's time nor anything that is remembered elsewhere: a touch, a copy or a clone changes nothing, and a source that
changed while the result was not made again, as where a call was interrupted, is seen by any later call, as is a damaged file.

Run records need no note: they say themselves which specification, data and code they are of, and their measurements, of which
manifest (`gt.stage`). What metrics are called (`gt.registry`) counts for all that reads them by name or says them in words.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gt.artefacts import Plan, evaluation_file, read_plan
from gt.attempts import FOLDER
from gt.catalogue import Component, component, components, used_in
from gt.errors import ConfigError
from gt.fingerprint import code_with, digest
from gt.records import FAILURE, LARGE, MANIFEST, PROBES, file_sha256, file_sums, read_json, write_json
from gt.registry import described
from gt.spec import CorpusSpec
from gt.tracking_store import database_file

# What each stage runs.
CUTTING = ("gt.data.corpora:prepare",)
TOKENIZING = ("gt.data.tokenizers:prepare", "gt.data.fit:check_tokens", "gt.data.ngram:prepare")
ANALYSIS, JUDGING = ("gt.analysis.aggregate:aggregate",), ("gt.analysis.verdicts:judge",)
FIGURES, REPORT = ("gt.report.gallery:draw",), ("gt.report.render:render",)
TRACKING = ("gt.tracking:sync",)
NOTES = "made-of"
# The files of each result.
SPLITS = ("corpus.json", "*.txt", "*.ends", "*.answers")
TOKENS = ("*.json", "*.npy", "*.bin")
TABLES = (
    *(f"{name}.parquet" for name in ("runs", "cells", "contrasts", "curves", "evaluations", "probes", "tuning")),
    "coverage.json",
)
VERDICTS = ("claims.json", "verdicts.parquet", "looks.parquet")
PAPER = ("report.*", "pages/*", "tables/**/*", "claims/**/*")
CORPUS = "corpus.json"
# What `gt aggregate` and `gt track` read of a run. The manifest stands for what training wrote with it.
OF_RUN = (MANIFEST, FAILURE, PROBES)


@contextmanager
def noted(note: Path | None, sources: str, folder: Path, *patterns: str) -> Iterator[None]:
    """Write down what a result is made of, as it is before the work begins, once the work is done. None: nowhere.

    patterns: of the result's files, in its folder.
    """
    yield
    if note is not None:
        files = [file for pattern in patterns for file in sorted(folder.glob(pattern)) if file.is_file()]
        sums = file_sums(folder, (file.relative_to(folder).as_posix() for file in files))
        write_json(note, {"sources": sources, "folder": os.path.relpath(folder, note.parent), "files": sums})


def is_current(note: Path, sources: str) -> bool:
    """Whether a result was made of these sources, and is whole."""
    return is_whole(note) and read_json(note).get("sources") == sources


def is_whole(note: Path) -> bool:
    """Whether the files of a result are what was written. Of large ones the size tells."""
    try:
        known = read_json(note)
        folder = note.parent / known["folder"]
        return all(
            (folder / name).stat().st_size == own["bytes"] and (own["bytes"] > LARGE or content(folder / name) == own["sha256"])
            for name, own in known["files"].items()
        )
    except (ConfigError, OSError, KeyError, TypeError, AttributeError):
        return False


def of_corpus(corpus: CorpusSpec) -> str:
    """The splits of a corpus, whose id has the sum of a user's own text. Of all readers the code of its own counts."""
    return _sum(_code(CUTTING, [component("corpus", corpus.name)]), corpus.id)


def of_tokens(corpus_dir: Path, tokenizer: str) -> str:
    """The tokens of a corpus."""
    return _sum(_code(TOKENIZING), tokenizer, corpus_dir / CORPUS)


def is_outdated_corpus(splits: Path, corpus: CorpusSpec) -> bool:
    """Whether the splits of a corpus are not there, or not those that would be made now."""
    return not is_current(splits / NOTES, of_corpus(corpus))


def is_outdated_tokens(tokens: Path, corpus: CorpusSpec) -> bool:
    """Whether tokens are not there, or not those of the splits. Splits that were removed since are no other ones."""
    splits = tokens.parent
    if not (splits / CORPUS).exists():
        return not is_whole(tokens / NOTES)
    return is_outdated_corpus(splits, corpus) or not is_current(tokens / NOTES, of_tokens(splits, tokens.name))


def of_tables(file: Path, plan: Plan, runs: Path) -> str:
    """The tables of a study. file: that which the plan was read from."""
    return _of_records(ANALYSIS, file, _records(plan, runs))


def of_verdicts(study: Path, claims: Path) -> str:
    """The verdicts of a study's claims."""
    return _sum(_code(JUDGING), described(), *_tables(study), *_files(claims))


def of_figures(study: Path) -> str:
    """The figures of a study."""
    return _sum(_code(FIGURES), *_tables(study))


def of_report(study: Path, claims: Path, templates: Path) -> str:
    """The report of a study, in all its forms. The figures that it shows are those of the tables; of the models it says what
    the docstrings of their components do.
    """
    file = study / "plan.json"
    return _of_report(study, read_plan(file) if file.is_file() else None, claims, templates)


def _of_report(study: Path, plan: Plan | None, claims: Path, templates: Path) -> str:
    return _sum(
        *(_code(REPORT, components("check").values()), described(), _described(plan)),
        *(*_tables(study), study / "claims.json", study / "plan.json", *_files(claims), *_files(templates)),
    )


def of_tracking(file: Path, plan: Plan, runs: Path, uri: str) -> str:
    """What MLflow holds of a study. file: that which the plan was read from."""
    return _of_records(TRACKING, file, _records(plan, runs), uri)


def _of_records(roots: tuple[str, ...], file: Path, records: Iterable[str], *further: str) -> str:
    """What is made of all records of a plan."""
    return _sum(_code(roots), described(), *further, file, *records)


def outdated(study: Path, plan: Plan, runs: Path, claims: Path, templates: Path, uri: str, renewed: bool) -> set[str]:
    """Which of a study's results are not current, by the names of their notes. plan: as `plan.json` there has it. renewed: runs
    of it are about to be made.
    """
    file, records = study / "plan.json", _records(plan, runs)
    sources = {
        "aggregate": _of_records(ANALYSIS, file, records),
        "claims": of_verdicts(study, claims),
        "figures": of_figures(study),
        "report": _of_report(study, plan, claims, templates),
        "track": _of_records(TRACKING, file, records, uri),
    }
    found = {name for name, own in sources.items() if not is_current(study / NOTES / name, own)}
    if renewed:
        found |= {"aggregate", "track"}
    if "aggregate" in found:
        found |= {"claims", "figures"}
    if {"claims", "figures"} & found:
        found.add("report")
    database = database_file(uri)
    return found | {"track"} if database is not None and not is_whole_database(database) else found


def is_whole_database(file: Path) -> bool:
    """Whether there is an SQLite database of as many pages as its header says (https://www.sqlite.org/fileformat.html, 1.3)."""
    if not file.is_file():
        return False
    with open(file, "rb") as opened:
        header = opened.read(100)
    page, pages = int.from_bytes(header[16:18]), int.from_bytes(header[28:32])
    return len(header) == 100 and file.stat().st_size == (page if page > 1 else 1 << 16) * pages


def _code(roots: tuple[str, ...], used: Iterable[Component] = ()) -> str:
    """A sum of the code of a stage, and of the components that it looks up by name."""
    return digest(code_with(roots, used))


def _described(plan: Plan | None) -> str:
    """What the catalogue says of the components of a study's models."""
    models = {spec.model.model_dump_json(): spec.model for spec in plan.runs.values()} if plan else {}
    return "\n".join(sorted({str(component) for model in models.values() for component in used_in(model.model_dump())}))


def _records(plan: Plan, runs: Path) -> list[str]:
    """What is read of the records of a plan's runs, by file."""
    # An attempt's name says when it began, which is all that is read of it.
    found = [file.name for run in plan.runs for file in sorted((runs.parent / FOLDER / run).glob("*"))]
    for run in plan.runs:
        files = [*(evaluation_file(runs / run, name) for name in sorted(plan.asked_of(run))), *(runs / run / n for n in OF_RUN)]
        found += map(_named, files)
    return found


def _tables(study: Path) -> list[Path]:
    """All that `gt aggregate` writes."""
    return [study / name for name in TABLES]


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*") if file.is_file())


def content(file: Path) -> str:
    """The sum of a file; of one that is not there, an empty one."""
    return file_sha256(file) if file.is_file() else ""


def _named(file: Path) -> str:
    """A file's name and content."""
    return f"{file.name} {content(file)}"


def _sum(*sources: str | Path) -> str:
    """Over texts, and over the names and contents of files."""
    digest = hashlib.sha256()
    for source in sources:
        text = _named(source) if isinstance(source, Path) else source
        digest.update(f"{text}\n".encode())
    return digest.hexdigest()[:16]
