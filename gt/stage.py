"""What is finished of a run, and finished records that stand aside until the workflow asks for them.

Snakemake removes the outputs of a job before it starts and when it fails. A pack trains many runs in one job, so what it
has finished stands in `results/staged/<run_id>/`, where Snakemake does not look, and the jobs of the runs themselves bring
it to `results/runs/`. The files are hard links of each other: that is quick, and takes no space.

Nothing here imports torch.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from gt.errors import ConfigError
from gt.fingerprint import EVALUATIONS, code_of_evaluation, code_of_probes, code_of_training
from gt.made import LARGE, content
from gt.records import (
    EVALUATION,
    HOST,
    MANIFEST,
    PROBES,
    RECORD,
    SPEC,
    check_file,
    read_json,
    read_sealed,
    temporary_name,
)
from gt.spec import RunSpec, recorded_spec

Json = dict[str, Any]


def is_trained(record: Path, spec: RunSpec, data: Path) -> bool:
    """Whether a folder holds a whole record of this specification, these tokens and this version of the training code.

    Tokens that are not there, or not readable, were lost after the training, and are no other ones.
    """
    if not all((record / name).exists() for name in RECORD):
        return False
    manifest, tokens = read_sealed(record / MANIFEST), tokens_sum(data)
    return (
        (tokens is None or manifest.get("data_sha256") == tokens)
        and manifest.get("code") == code_of_training(spec)
        and RunSpec.model_validate(read_json(record / SPEC)) == spec
    )


def tokens_sum(data: Path) -> str | None:
    """The sum of a folder of tokens, as `tokens.json` says it; None where that is not there, or not readable."""
    try:
        about = read_json(data / "tokens.json")
    except ConfigError:
        return None
    return about.get("sha256") if isinstance(about, dict) else None


def is_evaluated(record: Path, further: Iterable[str] = ()) -> bool:
    """Whether a trained record was evaluated by this version of the code, and has what else is asked for."""
    return (record / EVALUATION).exists() and evaluations_of(recorded_spec(record), further) <= evaluated(record)


def evaluations_of(spec: RunSpec, further: Iterable[str] = ()) -> set[str]:
    """The evaluations of a run: those that all have, and what else is asked for."""
    return {"held_out", *(["recall"] if spec.corpus.task is not None else []), *further}


def evaluated(record: Path) -> set[str]:
    """The evaluations that a trained record has of this version of the code."""
    code = _measured(record, EVALUATION).get("code")
    known = code if isinstance(code, dict) else {}
    spec = recorded_spec(record) if known else None
    return {name for name in EVALUATIONS if spec and known.get(name) == code_of_evaluation(spec, name)}


def is_probed(record: Path) -> bool:
    """Whether a trained record was looked into by this version of the code."""
    code = _measured(record, PROBES).get("code")
    return code is not None and code == code_of_probes(recorded_spec(record))


def _measured(record: Path, name: str) -> Json:
    """A measurement, if it is of this record, not of an earlier one of the run."""
    measured = read_sealed(record / name) if (record / name).exists() else {}
    return measured if measured.get("manifest") == content(record / MANIFEST) else {}


def outdated(record: Path, spec: RunSpec, data: Path, further: Iterable[str]) -> set[str]:
    """What is to be done of a run, again or at all: train, evaluate, probe. It is missing, damaged, or of something else."""
    if not _holds(lambda: is_trained(record, spec, data)):
        return {"train", "evaluate", "probe"}
    current = {"evaluate": lambda: is_evaluated(record, further), "probe": lambda: is_probed(record)}
    due = {name for name, is_current in current.items() if not _holds(is_current)}
    return {"train", "evaluate", "probe"} if _damaged_training(record, full=bool(due)) else due


def _holds(condition: Callable[[], bool]) -> bool:
    """Whether it holds of documents, which may be unreadable or of another form."""
    try:
        return condition()
    except (ConfigError, OSError, ValueError):
        return False


def damaged(record: Path) -> list[str]:
    """The files of a record that are not what was written. A finished record without one of its files has lost it.

    Of weights above 16 MiB the sum is checked only where they are to be read.
    """
    measured = [name for name in (EVALUATION, PROBES) if (record / name).exists() and not is_document(record / name)]
    is_whole = all((record / name).exists() for name in (EVALUATION, PROBES)) and not measured
    return [*_damaged_training(record, full=not is_whole), *measured]


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

    return [name for name in RECORD if not _holds(partial(is_whole, name))]


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
    target.mkdir(parents=True)
    for name in names:
        (record / name).rename(target / name)


def set_aside(record: Path, staged: Path, spec: RunSpec, data: Path) -> bool:
    """Have what is finished of a run in `staged`, from its record or from an earlier pack. Returns whether it is trained."""
    if is_trained(record, spec, data):
        shutil.rmtree(staged, ignore_errors=True)
        measured = [name for name, known in ((EVALUATION, is_evaluated), (PROBES, is_probed)) if known(record)]
        bring(record, staged, *RECORD, *measured)
        return True
    if is_trained(staged, spec, data):
        return True
    shutil.rmtree(staged, ignore_errors=True)
    return False


def bring(source: Path, target: Path, *names: str) -> None:
    """Have files in another folder too, each whole or not at all, in this order."""
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        temporary = temporary_name(target / name)
        try:
            os.link(source / name, temporary)
        except OSError:  # not all file systems have links
            shutil.copy2(source / name, temporary)
        os.replace(temporary, target / name)
        temporary.unlink(missing_ok=True)  # renaming one link of a file to another does nothing


def release(staged: Path, name: str) -> None:
    """Give up a measurement that has been fetched, and with the last of them the whole folder."""
    (staged / name).unlink(missing_ok=True)
    if not any((staged / other).exists() for other in (EVALUATION, PROBES)):
        shutil.rmtree(staged, ignore_errors=True)


def left_behind(folder: Path) -> list[Path]:
    """What kills have left of files that were being written, `.*.tmp`: one's own that no process of this host has open."""
    # A name may say its host, as `.<name>.<host>-<random>.tmp`; a file of another host may still be in the making.
    foreign = re.compile(r"\.(?!" + re.escape(HOST) + r"-)[^.]+-[0-9a-f]{16}\.tmp$")
    own = [file for file in folder.rglob(".*.tmp") if not foreign.search(file.name) and file.stat().st_uid == os.getuid()]
    opened = set(_opened()) if own else set()
    return [file for file in own if file.resolve() not in opened]


def _opened() -> Iterator[Path]:
    """The files that processes have open, as far as they may be looked into."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            yield link.readlink()
