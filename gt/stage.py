"""What is finished of a run, and finished records that stand aside until the workflow asks for them (`gt.fetch`).

Nothing here imports torch.
"""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from gt import artefacts
from gt.artefacts import (
    evaluation_file,
    read_evaluation,
    read_probes,
    read_run,
)
from gt.asked import HELD_OUT, RECALL, VALIDATION, Asked
from gt.errors import ConfigError
from gt.fetch import bring
from gt.fingerprint import code_of_evaluation, code_of_probes, code_of_training
from gt.records import (
    HOST,
    LARGE,
    MANIFEST,
    PROBES,
    RECORD,
    WEIGHTS,
    check_file,
    measurements,
    read_json,
    read_sealed,
)
from gt.spec import RunSpec

# Seconds without a change after which nobody writes a file any more.
ABANDONED = 24 * 3600.0


def is_trained(record: Path, spec: RunSpec, data: Path) -> bool:
    """Whether a folder holds a whole record of this run, however it was looked at, of these tokens and of this version of the
    training code.

    Tokens that are not there, or not readable, were lost after the training, and are no other ones.
    """
    if not all((record / name).exists() for name in RECORD):
        return False
    (recorded, manifest), tokens = read_run(record), tokens_sum(data)
    return (
        (tokens is None or manifest.data_sha256 == tokens)
        and manifest.code == code_of_training(spec)
        and recorded.sha256 == spec.sha256
    )


def tokens_sum(data: Path) -> str | None:
    """The sum of a folder of tokens, as `tokens.json` says it; None where that is not there, or not readable."""
    try:
        about = read_json(data / "tokens.json")
    except ConfigError:
        return None
    return about.get("sha256") if isinstance(about, dict) else None


def evaluations(trained: RunSpec, looks: Iterable[RunSpec], further: Iterable[str]) -> list[str]:
    """All that is to be evaluated of a run: its held-out losses, the recall of a task, and what studies ask for beside.

    As commands take them (`Asked.text`). trained: as its curves were followed. looks: as each study follows it; where that is
    on another slice, the end of the curve is measured.
    """
    slices = sorted({own.training.evaluation_tokens for own in looks} - {trained.training.evaluation_tokens})
    task = [RECALL] if trained.corpus.task is not None else []
    return list(dict.fromkeys([HELD_OUT, *task, *sorted(set(further)), *(f"{VALIDATION}-{n}" for n in slices)]))


def is_evaluated(record: Path, names: Iterable[str]) -> bool:
    """Whether a trained record has all of these evaluations, by this version of the code. ConfigError for one that is none."""
    labels = [Asked.of(name).label for name in names]
    if not all(evaluation_file(record, label).exists() for label in labels):
        return False
    spec, manifest = read_run(record)
    for label in labels:
        found = read_evaluation(record, label)
        if found.weights != manifest.files[WEIGHTS].sha256 or found.code != code_of_evaluation(spec, label):
            return False
    return True


def validation_loss(record: Path) -> float:
    """Of a run that was trained and evaluated; infinite where it diverged."""
    if read_run(record)[1].status == "diverged":
        return math.inf
    values = {own.name: own.value for own in read_evaluation(record, HELD_OUT).measurements}
    loss = values.get("val/loss")
    return math.inf if loss is None else loss


def is_probed(record: Path) -> bool:
    """Whether a trained record was looked into by this version of the code."""
    if not (record / PROBES).exists():
        return False
    (spec, manifest), found = read_run(record), read_probes(record)
    return found.weights == manifest.files[WEIGHTS].sha256 and found.code == code_of_probes(spec)


def made(staged: Path, looks: Sequence[RunSpec], data: Path, further: Iterable[str]) -> dict[str, list[str]]:
    """The files that a pack has made of a run and that are those of now, by what they were made by: train, evaluate, probe.

    looks, further: as in `outdated`.
    """
    if not _holds(lambda: is_trained(staged, looks[0], data)):
        return {}
    found, names = {"train": list(RECORD)}, evaluations(read_run(staged)[0], looks, further)
    if _holds(lambda: is_evaluated(staged, names)):
        files = [evaluation_file(staged, Asked.of(name).label) for name in names]
        found["evaluate"] = [file.relative_to(staged).as_posix() for file in files]
    if _holds(lambda: is_probed(staged)):
        found["probe"] = [PROBES]
    return found


def outdated(record: Path, looks: Sequence[RunSpec], data: Path, further: Iterable[str]) -> set[str]:
    """What is to be done of a run, again or at all: train, evaluate, probe. It is missing, damaged, or of something else.

    looks: the run as each study follows it. further: the evaluations that they ask for. ConfigError where it would replace what
    a later version of gt has written.
    """
    refuse_later(record)
    if not _holds(lambda: is_trained(record, looks[0], data)):
        return {"train", "evaluate", "probe"}
    current = {
        "evaluate": lambda: is_evaluated(record, evaluations(read_run(record)[0], looks, further)),
        "probe": lambda: is_probed(record),
    }
    due = {name for name, is_current in current.items() if not _holds(is_current)}
    return {"train", "evaluate", "probe"} if _damaged_training(record, full=bool(due)) else due


def refuse_later(record: Path) -> None:
    """ConfigError where a record, or what was measured of it, is of a later version of gt."""
    for name in (MANIFEST, *measurements(record)):
        if is_document(record / name):
            artefacts.refuse_later(read_sealed(record / name), record / name)


def _holds(condition: Callable[[], bool]) -> bool:
    """Whether it holds of documents, which may be unreadable or of another form."""
    try:
        return condition()
    except (ConfigError, OSError, ValueError):
        return False


def damaged(record: Path) -> list[str]:
    """The files of a record that are not what was written, or contradict each other. One without one of its files has lost it.

    Of weights above 16 MiB the sum is checked only where they are to be read.
    """
    measured = measurements(record)
    damaged = [name for name in measured if not is_document(record / name)]
    is_whole = len(measured) > 1 and PROBES in measured and not damaged
    return [*_damaged_training(record, full=not is_whole), *damaged]


def _damaged_training(record: Path, full: bool) -> list[str]:
    """full: with the sums of large files too."""
    if not (record / MANIFEST).exists():
        return []
    if not is_document(record / MANIFEST):
        return [MANIFEST]
    manifest = read_sealed(record / MANIFEST)

    def is_whole(name: str) -> bool:
        check_file(record / name, manifest, full or (record / name).stat().st_size <= LARGE)
        return True

    found = [name for name in RECORD if not _holds(partial(is_whole, name))]
    return found or ([] if _holds(lambda: bool(read_run(record))) else [MANIFEST])


def is_document(file: Path) -> bool:
    """Whether there is a file, and it is a JSON object whose sum, if it has one, is right."""
    return _holds(lambda: read_sealed(file) is not None)


def put_away(record: Path, damaged: Iterable[str], folder: Path) -> None:
    """Move what is damaged of a record into a folder of its own: a measurement alone, or, of what training wrote, all there is.

    So the run is made again as if it had never been, and nothing is lost that may still be of use.
    """
    names = set(damaged)
    target = next(place for i in range(1_000_000) if not (place := folder / f"{record.name}.{i}").exists())
    if names & set(RECORD):
        target.parent.mkdir(parents=True, exist_ok=True)
        record.rename(target)
        return
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (record / name).rename(target / name)


def set_aside(record: Path, staged: Path, spec: RunSpec, data: Path) -> bool:
    """Have what is finished of a run in `staged`, from its record or from an earlier pack. Returns whether it is trained."""
    if is_trained(record, spec, data):
        shutil.rmtree(staged, ignore_errors=True)
        bring(record, staged, *RECORD, *measurements(record))
        return True
    if is_trained(staged, spec, data):
        return True
    shutil.rmtree(staged, ignore_errors=True)
    return False


def left_behind(folder: Path, now: float) -> list[Path]:
    """What kills have left of files and folders that were being written, `.*.tmp`.

    A file of one's own that no process of this host has open; and of what another host or user may still be writing, and of
    folders, what has not changed for a day. now: by the clock that its files have their times of.
    """
    # A name may say its host, as `.<name>.<host>-<random>.tmp`.
    foreign = re.compile(r"\.(?!" + re.escape(HOST) + r"-)[^.]+-[0-9a-f]{16}\.tmp$")
    found: list[Path] = []
    opened: set[Path] | None = None
    for path in sorted(folder.rglob(".*.tmp")):
        with suppress(FileNotFoundError):  # meanwhile it has become what it was to be
            if path.is_file() and not foreign.search(path.name) and path.stat().st_uid == os.getuid():
                opened = set(_opened()) if opened is None else opened
                if path.resolve() not in opened:
                    found.append(path)
            elif max(part.lstat().st_mtime for part in (path, *path.rglob("*"))) < now - ABANDONED:
                found.append(path)
    return found


def _opened() -> Iterator[Path]:
    """The files that processes have open, as far as they may be looked into."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            yield link.readlink()
