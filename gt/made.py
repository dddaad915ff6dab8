"""What a result was made of: the contents of its sources and the code, as one sum, noted beside it.

A result is current while its note is what its sources give now. So content alone decides what is made again, and neither a
file's time nor anything that is remembered elsewhere: a touch, a copy or a clone changes nothing, and a source that did change
while the result was not made again, as where a call was interrupted, is seen by any later call.

Run records need no note: they say themselves which specification, data and code they are of, and their measurements, of which
manifest (`gt.stage`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gt.errors import ConfigError
from gt.fingerprint import fingerprint
from gt.records import EVALUATION, PROBES, atomic_write, read_json

FIGURES = (
    *("report/gallery", "report/drawing", "report/svg"),
    *("report/figures", "report/evaluation_figures", "report/sweeps"),
    *("report/inside", "report/inside_figures"),
    *("report/tables", "report/evaluation_tables"),
    *("report/numbers", "report/text"),
)
REPORT = ("report", "probes/metrics", "probes/thresholds", "probes/verdicts")
NOTES = "made-of"
CORPUS = "corpus.json"
# What `gt aggregate` and `gt track` read of a run. The manifest stands for what training wrote with it.
OF_RUN = ("manifest.json", "failure.json", EVALUATION, PROBES)


@contextmanager
def noted(note: Path | None, sources: str) -> Iterator[None]:
    """Write down what a result is made of, as it is before the work begins, once the work is done. None: nowhere."""
    yield
    if note is not None:
        with atomic_write(note) as temporary:
            temporary.write_text(sources + "\n", encoding="utf-8")


def is_current(note: Path, sources: str) -> bool:
    """Whether a result was made of these sources."""
    return note.exists() and note.read_text(encoding="utf-8").strip() == sources


def of_corpus(corpus: str) -> str:
    """The splits of a corpus, whose id has the sum of a user's own text."""
    return _sum(fingerprint("data/corpora"), corpus)


def of_tokens(corpus_dir: Path, tokenizer: str) -> str:
    """The tokens of a corpus."""
    return _sum(fingerprint("data"), tokenizer, corpus_dir / CORPUS)


def is_outdated_corpus(splits: Path) -> bool:
    """Whether splits are not there, or not those that would be made now."""
    return not is_current(splits / NOTES, of_corpus(splits.name))


def is_outdated_tokens(tokens: Path) -> bool:
    """Whether tokens are not there, or not those of the splits. Splits that were removed since are no other ones."""
    splits = tokens.parent
    if not (tokens / NOTES).exists() or not _are_whole(tokens):
        return True
    known = (splits / CORPUS).exists()
    return known and (is_outdated_corpus(splits) or not is_current(tokens / NOTES, of_tokens(splits, tokens.name)))


def _are_whole(tokens: Path) -> bool:
    """Whether each split has the size that tokens.json says. Its sum is checked where it is read."""
    try:
        about = read_json(tokens / "tokens.json")
        width = {"uint16": 2, "uint32": 4}[about["dtype"]]
        return all((tokens / f"{split}.bin").stat().st_size == width * n for split, n in about["tokens"].items())
    except (ConfigError, OSError, KeyError, TypeError, AttributeError):
        return False


def of_tables(plan: Path, runs: Path) -> str:
    """The tables of a study."""
    return _sum(fingerprint("analysis"), plan, *_records(plan, runs))


def of_verdicts(study: Path, claims: Path) -> str:
    """The verdicts of a study's claims."""
    return _sum(fingerprint("analysis"), *_tables(study), *_files(claims))


def of_figures(study: Path) -> str:
    """The figures of a study."""
    return _sum(fingerprint(*FIGURES), *_tables(study))


def of_report(study: Path, claims: Path, templates: Path) -> str:
    """The report of a study, in all its forms. The figures that it shows are those of the tables."""
    return _sum(
        fingerprint(*REPORT), *_tables(study), study / "claims.json", study / "plan.json", *_files(claims), *_files(templates)
    )


def of_tracking(plan: Path, runs: Path, uri: str) -> str:
    """What MLflow holds of a study."""
    return _sum(fingerprint("tracking"), uri, plan, *_records(plan, runs))


def outdated(study: Path, runs: Path, claims: Path, templates: Path, uri: str, renewed: bool) -> set[str]:
    """Which of a study's results are not current, by the names of their notes. renewed: runs of it are about to be made."""
    records = (study / "plan.json", runs)
    sources = {
        "aggregate": of_tables(*records),
        "claims": of_verdicts(study, claims),
        "figures": of_figures(study),
        "report": of_report(study, claims, templates),
        "track": of_tracking(*records, uri),
    }
    found = {name for name, own in sources.items() if not is_current(study / NOTES / name, own)}
    if renewed:
        found |= {"aggregate", "track"}
    if "aggregate" in found:
        found |= {"claims", "figures"}
    if {"claims", "figures"} & found:
        found.add("report")
    database = uri.removeprefix("sqlite:///")
    return found | {"track"} if database != uri and not Path(database).exists() else found


def _records(plan: Path, runs: Path) -> list[Path]:
    document: dict[str, Any] = read_json(plan)
    return [runs / run / name for run in document["runs"] for name in OF_RUN]


def _tables(study: Path) -> list[Path]:
    """All that `gt aggregate` writes."""
    names = ("runs", "cells", "contrasts", "curves", "evaluations", "probes")
    return [*(study / f"{name}.parquet" for name in names), study / "coverage.json"]


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*") if file.is_file())


def content(file: Path) -> str:
    """The sum of a file; of one that is not there, an empty one."""
    if not file.is_file():
        return ""
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _sum(*sources: str | Path) -> str:
    """Over texts, and over the names and contents of files."""
    digest = hashlib.sha256()
    for source in sources:
        text = f"{source.name} {content(source)}" if isinstance(source, Path) else source
        digest.update(f"{text}\n".encode())
    return digest.hexdigest()[:16]
