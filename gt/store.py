"""A copy of finished run records elsewhere: `python -m gt.store STORE RESULTS RUN_ID NOTE`.

A store is any folder that fsspec knows: `s3://bucket/lab`, `gs://bucket/lab`, `/mnt/lab`. It has one object a run,
`<run_id>.tar`: the files of the record and of the attempts at it, as they stand in `results/`, not compressed, the same for the
same files. An object comes whole or not at all, as a folder of many files would not. What comes from a store is checked as what
comes from anywhere.

Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from gt import attempts, stage
from gt.artefacts import ATTEMPT_ID, read_run
from gt.errors import ConfigError
from gt.fetch import bring
from gt.records import MANIFEST, PROBES, RECORD, atomic_write, file_sha256, measurements, temporary_name

RUNS, SUFFIX = "runs", ".tar"


class Store:
    """Records that are kept elsewhere. ConfigError where the address is none, or what it needs is not installed."""

    def __init__(self, address: str) -> None:
        from fsspec.core import url_to_fs

        self.address = address
        try:
            self.files, self.folder = url_to_fs(address, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise ConfigError(f"config: store: {address}: {error}; s3:// takes `pip install 'groundthink[s3]'`.") from None

    def runs(self) -> set[str]:
        """Those whose records are there. ConfigError where the store cannot be read, or what it would be in is not there."""
        outer = str(Path(self.folder).parent) if self.folder.startswith("/") else self.folder.partition("/")[0]
        try:
            names = self.files.ls(self.folder, detail=False)
        except FileNotFoundError:  # nothing yet, unless it is a bucket that is missing, or what should be mounted
            names = [] if self.files.exists(outer) else None
        except Exception as error:  # each kind of store has errors of its own
            raise ConfigError(f"config: store: {self.address} cannot be read: {error}") from None
        if names is None:
            raise ConfigError(f"config: store: {self.address}: there is no {outer}.")
        return {Path(name).stem for name in names if name.endswith(SUFFIX)}

    def put(self, results: Path, run: str) -> None:
        """Keep a finished record, and have here what was measured of the same weights on other machines.

        ConfigError where the record is damaged; what the kind of store raises where it cannot be read or written.
        """
        record = results / RUNS / run
        if damaged := stage.damaged(record):
            raise ConfigError(f"{record}: damaged: {', '.join(damaged)}.")
        with tempfile.TemporaryDirectory(prefix=".store-", suffix=".tmp", dir=results) as folder:
            held = Path(folder)
            with suppress(ConfigError, FileNotFoundError):
                self._extract(held, run)
                _join(held, results, run, whole=False)
            with tarfile.open(held / "new.tar", "w") as tar:
                for name in _files(results, run):
                    entry = tarfile.TarInfo(name)
                    entry.size = (results / name).stat().st_size
                    with (results / name).open("rb") as opened:
                        tar.addfile(entry, opened)
            # Whole or not at all in any kind of store: under another name first.
            temporary = f"{self.folder}/{temporary_name(Path(f'{run}{SUFFIX}'))}"
            self.files.makedirs(self.folder, exist_ok=True)
            self.files.put_file(str(held / "new.tar"), temporary)
            self.files.mv(temporary, self._object(run))

    def get(self, results: Path, run: str) -> None:
        """Have a record that is there and not here.

        ConfigError, with nothing written, where it is not whole, or of another run.
        """
        (results / RUNS).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".store-", suffix=".tmp", dir=results) as folder:
            self._extract(Path(folder), run)
            _join(Path(folder), results, run, whole=True)

    def _object(self, run: str) -> str:
        return f"{self.folder}/{run}{SUFFIX}"

    def _extract(self, folder: Path, run: str) -> None:
        """Plain files alone, and those alone that a record may have. All of them are no larger than the object."""
        of_record = "|".join([*map(re.escape, (*RECORD, PROBES)), r"evaluations/[^/]+\.json"])
        names = rf"{RUNS}/{re.escape(run)}/({of_record})|{attempts.FOLDER}/{re.escape(run)}/{ATTEMPT_ID.strip('^$')}\.json"
        self.files.get_file(self._object(run), str(folder / f"{run}{SUFFIX}"))
        try:
            with tarfile.open(folder / f"{run}{SUFFIX}", "r:") as tar:
                for entry in tar:
                    content = tar.extractfile(entry) if entry.isfile() and not entry.issparse() else None
                    if content is None or not re.fullmatch(names, entry.name):
                        raise tarfile.TarError(f"it has {entry.name!r}")
                    (folder / entry.name).parent.mkdir(parents=True, exist_ok=True)
                    with (folder / entry.name).open("xb") as out:
                        shutil.copyfileobj(content, out)
            read_run(folder / RUNS / run)
            attempts.of_run(folder / attempts.FOLDER, run)
            damaged = stage.damaged(folder / RUNS / run)
        except (ConfigError, OSError, tarfile.TarError) as error:
            raise ConfigError(f"{self._object(run)}: holds no record of {run}: {str(error).replace(str(folder), '')}") from None
        if damaged:
            raise ConfigError(f"{self._object(run)}: damaged: {', '.join(damaged)}.")


def contents(results: Path, run: str) -> str:
    """A sum that changes with what a store is to have of a run. Of weights and curves the manifest has the sums."""
    documents = [name for name in _files(results, run) if name.endswith(".json")]
    return hashlib.sha256("\n".join(f"{name} {file_sha256(results / name)}" for name in documents).encode()).hexdigest()


def is_kept(results: Path, run: str, note: Path) -> bool:
    """Whether a note says that a store has the record as it is here."""
    with suppress(OSError):
        return (results / RUNS / run / MANIFEST).exists() and note.read_text() == contents(results, run)
    return False


def write_note(results: Path, run: str, note: Path) -> None:
    with atomic_write(note) as temporary:
        temporary.write_text(contents(results, run))


def _join(held: Path, results: Path, run: str, whole: bool) -> None:
    """Have here what is held elsewhere of a run: whole, or what was measured there alone and of the same weights."""
    source, target = held / RUNS / run, results / RUNS / run
    if whole:
        bring(source, target, *RECORD, *measurements(source))
    elif read_run(source)[1].files == read_run(target)[1].files:
        bring(source, target, *(name for name in measurements(source) if not (target / name).exists()))
    tried = Path(attempts.FOLDER) / run
    bring(
        held / tried,
        results / tried,
        *(file.name for file in _attempts(held, run) if not (results / tried / file.name).exists()),
    )


def _files(results: Path, run: str) -> list[str]:
    """From `results`, in an order that is always the same."""
    record = [f"{RUNS}/{run}/{name}" for name in (*RECORD, *measurements(results / RUNS / run))]
    return [*record, *(str(file.relative_to(results)) for file in _attempts(results, run))]


def _attempts(results: Path, run: str) -> list[Path]:
    return sorted((results / attempts.FOLDER / run).glob("[!.]*.json"))


def main(address: str, results: str, run: str, note: str) -> Any:
    """Keep a record, and note that it is kept; returns the exit code, or what is wrong."""
    try:
        Store(address).put(Path(results), run)
    except ConfigError as error:
        return str(error)
    return write_note(Path(results), run, Path(note))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
