"""What is finished of a run, and finished records that stand aside until the workflow asks for them (`gt.fetch`).

Nothing here imports torch.
"""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache, cached_property, partial
from pathlib import Path

from gt import artefacts
from gt.artefacts import Evaluation, Kind, Manifest, Probes, evaluation_file, read_evaluation, read_run
from gt.asked import HELD_OUT, Asked
from gt.errors import ConfigError
from gt.fetch import bring
from gt.fingerprint import code_of_evaluation, code_of_probes, code_of_training
from gt.records import (
    EVALUATIONS,
    HOST,
    LARGE,
    MANIFEST,
    PROBES,
    RECORD,
    WEIGHTS,
    Json,
    check_file,
    measurements,
    read_json,
    read_sealed,
)
from gt.spec import RunSpec
from gt.wanted import Wanted

# Seconds without a change after which nobody writes a file any more.
ABANDONED = 24 * 3600.0


class Kept:
    """What is kept of a run, in its record or in `results/staged/`. Each document is read once, when it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.document = cache(self._document)

    def _document(self, name: str) -> Json | None:
        """What a file holds; None where it is missing, no JSON object, or its sum is wrong."""
        try:
            return read_sealed(self.folder / name)
        except ConfigError:
            return None

    def _parsed(self, kind: type[Kind], name: str) -> Kind:
        if (document := self.document(name)) is None:
            raise ConfigError(f"{self.folder / name}: missing or damaged.")
        return artefacts.parsed(kind, document, self.folder / name)

    @cached_property
    def run(self) -> tuple[RunSpec, Manifest]:
        """ConfigError where either is missing or damaged, or contradicts the other."""
        return read_run(self.folder)

    def is_trained(self, spec: RunSpec, data: Path) -> bool:
        """Whether it is a whole record of this run, however it was looked at, of these tokens and of this version of the
        training code.

        Tokens that are not there, or not readable, were lost after the training, and are no other ones.
        """
        if not all((self.folder / name).exists() for name in RECORD):
            return False
        (recorded, manifest), tokens = self.run, tokens_sum(data)
        return (
            (tokens is None or manifest.data_sha256 == tokens)
            and manifest.code == code_of_training(spec)
            and recorded.sha256 == spec.sha256
        )

    def is_evaluated(self, names: Iterable[str]) -> bool:
        """Whether it has all of these evaluations, by this version of the code. ConfigError for one that is none."""
        labels = [Asked.of(name).label for name in names]
        if not all(evaluation_file(self.folder, label).exists() for label in labels):
            return False
        spec, manifest = self.run
        for label in labels:
            found = self._parsed(Evaluation, f"{EVALUATIONS}/{label}.json")
            known = found.name == label and found.weights == manifest.files[WEIGHTS].sha256
            if not known or found.code != code_of_evaluation(spec, label):
                return False
        return True

    def is_probed(self) -> bool:
        """Whether it was looked into by this version of the code."""
        if not (self.folder / PROBES).exists():
            return False
        (spec, manifest), found = self.run, self._parsed(Probes, PROBES)
        return found.weights == manifest.files[WEIGHTS].sha256 and found.code == code_of_probes(spec)

    def outdated(self, wanted: Wanted, data: Path) -> set[str]:
        """As `outdated` says."""
        self._refuse_later()
        current = {"evaluate": lambda: self.is_evaluated(wanted.evaluations(self.run[0]))}
        if wanted.probed:
            current["probe"] = self.is_probed
        if not _holds(lambda: self.is_trained(wanted.looks[0], data)):
            return {"train", *current}
        due = {name for name, is_current in current.items() if not _holds(is_current)}
        return {"train", *current} if self._damaged_training(full=bool(due)) else due

    def damaged(self) -> list[str]:
        """As `damaged` says."""
        measured = measurements(self.folder)
        damaged = [name for name in measured if self.document(name) is None]
        is_whole = len(measured) > 1 and PROBES in measured and not damaged
        return [*self._damaged_training(full=not is_whole), *damaged]

    def _damaged_training(self, full: bool) -> list[str]:
        """The files that training wrote that are not what was written. full: with the sums of large files too."""
        if not (self.folder / MANIFEST).exists():
            return []
        if (manifest := self.document(MANIFEST)) is None:
            return [MANIFEST]

        def is_whole(name: str) -> bool:
            file = self.folder / name
            check_file(file, manifest, full or file.stat().st_size <= LARGE)
            return True

        found = [name for name in RECORD if not _holds(partial(is_whole, name))]
        return found or ([] if _holds(lambda: bool(self.run)) else [MANIFEST])

    def _refuse_later(self) -> None:
        """ConfigError where any of it is of a later version of gt."""
        for name in (MANIFEST, *measurements(self.folder)):
            if (document := self.document(name)) is not None:
                artefacts.refuse_later(document, self.folder / name)


def tokens_sum(data: Path) -> str | None:
    """The sum of a folder of tokens, as `tokens.json` says it; None where that is not there, or not readable."""
    try:
        about = read_json(data / "tokens.json")
    except ConfigError:
        return None
    return about.get("sha256") if isinstance(about, dict) else None


def is_evaluated(record: Path, names: Iterable[str]) -> bool:
    """Whether a trained record has all of these evaluations, by this version of the code. ConfigError for one that is none."""
    return Kept(record).is_evaluated(names)


def validation_loss(record: Path) -> float:
    """Of a run that was trained and evaluated; infinite where it diverged."""
    if read_run(record)[1].status == "diverged":
        return math.inf
    values = {own.name: own.value for own in read_evaluation(record, HELD_OUT).measurements}
    loss = values.get("val/loss")
    return math.inf if loss is None else loss


def is_probed(record: Path) -> bool:
    """Whether a trained record was looked into by this version of the code."""
    return Kept(record).is_probed()


def made(staged: Path, wanted: Wanted, data: Path) -> dict[str, list[str]]:
    """The files that a pack has made of a run and that are those of now, by what they were made by: train, evaluate, probe."""
    kept = Kept(staged)
    if not _holds(lambda: kept.is_trained(wanted.looks[0], data)):
        return {}
    found, names = {"train": list(RECORD)}, wanted.evaluations(kept.run[0])
    if _holds(lambda: kept.is_evaluated(names)):
        files = [evaluation_file(staged, Asked.of(name).label) for name in names]
        found["evaluate"] = [file.relative_to(staged).as_posix() for file in files]
    if _holds(kept.is_probed):
        found["probe"] = [PROBES]
    return found


def outdated(record: Path, wanted: Wanted, data: Path) -> set[str]:
    """What is to be done of a run, again or at all: train, evaluate, probe. It is missing, damaged, or of something else.

    ConfigError where it would replace what a later version of gt has written.
    """
    return Kept(record).outdated(wanted, data)


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
    return Kept(record).damaged()


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
    if Kept(record).is_trained(spec, data):
        shutil.rmtree(staged, ignore_errors=True)
        bring(record, staged, *RECORD, *measurements(record))
        return True
    if Kept(staged).is_trained(spec, data):
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
