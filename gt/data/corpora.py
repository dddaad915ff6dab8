"""From a reader's documents to the splits of a corpus, which are files, written and read by pieces.

A split is a fixed part of the text, the same for every tokenizer, batch size and model: the reader's own, or as the
specification's `splits` says, ranges of bytes or a choice by each document's sha256. A piece of text is held in memory, and
where documents are chosen between one document, never the whole.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from gt.catalogue import component
from gt.data.reader import Document, Reader
from gt.errors import ConfigError
from gt.progress import progress
from gt.records import atomic_write, temporary_folder, write_json

if TYPE_CHECKING:
    from gt.spec import CorpusSpec, SplitSpec

SPLITS = ("train", "val", "test")
# A text of more bytes is not read before it is needed.
LARGE = 1 << 24
# Bytes that are copied at once.
BLOCK = 1 << 20


def reader(spec: CorpusSpec, path: Path | None = None) -> Reader:
    """The reader of a corpus. path: where the text of a `file:` corpus is. ConfigError where there is none of this name."""
    found = component("corpus", spec.name)
    config = found.config.model_validate({name: getattr(spec, name) for name in found.config.model_fields})
    own: Reader = found.load()(found.load().Config(**dict(config)), spec.name.partition(":")[2], spec.max_bytes, path)
    return own


def prepare(spec: CorpusSpec, out: Path, path: Path | None = None) -> None:
    """Write `<split>.txt` for each split and, last, `corpus.json` into the folder `out`.

    Where documents are kept apart `<split>.ends` has how many bytes stand before the end of each, as little-endian int64. A
    task has `<split>.answers`, a byte for each character: 1 where it is an answer, on which alone losses are taken. ConfigError
    where the text cannot be had or is not what the spec says.
    """
    source = reader(spec, path)
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as files:
        written = _cut(spec, source, out, files)
        for split, own in written.items():
            own.close()
            if not own.n_bytes:
                raise ConfigError(f"corpus {spec.name} (max_bytes {spec.max_bytes}): too little text, {split} is empty.")
            if (got := own.offered.hexdigest()) != (expected := source.pinned.get(split, got)):
                raise ConfigError(f"corpus {spec.name}: sha256 of its {split} split is {got}, expected {expected}.")
    record = {
        "name": spec.name,
        "id": spec.id,
        "max_bytes": spec.max_bytes,
        "sha256": {split: own.written.hexdigest() for split, own in written.items()},
        "bytes": {split: own.n_bytes for split, own in written.items()},
        "source": source.source,
        "licence": source.licence,
        "answers": any(own.has_answers for own in written.values()),
        "episode": spec.task.length if spec.task else None,
        "documents": spec.documents,
    }
    write_json(out / "corpus.json", record)


@lru_cache
def sizes(spec: CorpusSpec, path: Path | None = None) -> dict[str, tuple[int, int]]:
    """Bytes and characters of each split of a text that is on this machine and not large. Of any other text, nothing."""
    size = reader(spec, path).at_hand()
    if size is None or size >= LARGE:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        prepare(spec, Path(folder), path)
        texts = {file.stem: file.read_bytes() for file in Path(folder).glob("*.txt")}
    return {split: (len(texts[split]), len(texts[split].decode())) for split in SPLITS if split in texts}


class _Split:
    """A split as it is written: its text, where its documents end, and which of its characters are answers.

    end: what stands after a document that is not kept apart from the next; None where they are. cap: bytes at most; what is
    offered beyond is left out, from a character, or of documents that are kept apart from a document, on.
    """

    def __init__(self, files: ExitStack, stem: Path, end: str | None, cap: int | None = None) -> None:
        self.offered, self.written = hashlib.sha256(), hashlib.sha256()
        self.n_bytes, self.cap, self.is_full = 0, cap, False
        self.end, self.has_begun, self.has_answers = end, False, False
        self._files, self._stem = files, stem
        self._open: dict[str, BinaryIO] = {}

    def add(self, document: Document) -> None:
        """Add a document, or a piece of one."""
        self.has_begun = self.has_begun or bool(document.text)
        ends = document.ends and self.has_begun
        text = (document.text + (self.end or "" if ends else "")).encode()
        if ends:
            self.has_begun = False
        self.offered.update(text)
        if self.cap is not None and not self.is_full and self.n_bytes + len(text) > self.cap:
            self.is_full = True
            self._write(b"" if self.end is None else text[: _boundary(text, self.cap - self.n_bytes)], False)
        elif not self.is_full:
            self._write(text, ends)
            if document.answers is not None:
                self.has_answers = True
                self._file(".answers").write(document.answers)

    def copy(self, file: BinaryIO, start: int, end: int, ends: np.ndarray) -> None:
        """Add a range of bytes of a file. ends: (n,), where documents end in it that are kept apart."""
        file.seek(start)
        for at in range(start, end, BLOCK):
            self._write(file.read(min(BLOCK, end - at)), False)
        if self.end is None:
            self._file(".ends").write((ends[(ends > start) & (ends <= end)] - start).tobytes())

    def close(self) -> None:
        """Hand all of it to the system."""
        for file in self._open.values():
            file.close()

    def _write(self, text: bytes, ends: bool) -> None:
        self.written.update(text)
        self._file(".txt").write(text)
        self.n_bytes += len(text)
        if self.end is None and ends:
            self._file(".ends").write(self.n_bytes.to_bytes(8, "little"))

    def _file(self, suffix: str) -> BinaryIO:
        """A file of the split, which has its name once all are whole."""
        if suffix not in self._open:
            place = self._files.enter_context(atomic_write(self._stem.with_name(self._stem.name + suffix)))
            self._open[suffix] = self._files.enter_context(place.open("wb"))
        return self._open[suffix]


def _cut(spec: CorpusSpec, source: Reader, out: Path, files: ExitStack) -> dict[str, _Split]:
    """The splits, in files that get their names when `files` is left."""
    end = source.end if spec.documents == "joined" else None
    documents = source.documents()
    if end is None or spec.splits.by == "document":
        documents = _whole(documents, spec)
    if (first := next(documents, None)) is None:
        raise ConfigError(f"corpus {spec.name}: it has no text.")
    documents = iter(progress(itertools.chain([first], documents), spec.name, " documents"))
    if first.split is None and spec.splits.by == "position":
        return _by_position(documents, spec, end, out, files)
    if first.split is not None and spec.splits != type(spec.splits)():
        raise ConfigError(f"corpus {spec.name}: splits: it has splits of its own.")
    names = [split for split, share in shares(spec.splits).items() if share]
    found = {split: _Split(files, out / split, end, spec.max_bytes if split == "train" else None) for split in names}
    seen = set(names) if first.split is None else set()
    for document in documents:
        split = document.split or chosen(document.text, spec.splits)
        if split not in found or (document.split is None) != (first.split is None):
            allowed = ", ".join(SPLITS)
            raise ConfigError(
                f"corpus {spec.name}: a document of the split {document.split!r}. Allowed: {allowed}, or none at all."
            )
        seen.add(split)
        found[split].add(document)
    if missing := {"train", "val"} - seen:
        raise ConfigError(f"corpus {spec.name}: it has no {min(missing)} split.")
    return {split: own for split, own in found.items() if split in seen}


def _by_position(
    documents: Iterator[Document], spec: CorpusSpec, end: str | None, out: Path, files: ExitStack
) -> dict[str, _Split]:
    """The splits as ranges of bytes of the whole text, which is written down first.

    A range ends with a character, or where documents are kept apart with a document.
    """
    place = files.enter_context(temporary_folder(out / "all"))
    with ExitStack() as own:
        whole = _Split(own, place / "all", end)
        for document in documents:
            whole.add(document)
        whole.close()
    if not whole.n_bytes:
        raise ConfigError(f"corpus {spec.name}: it has no text.")
    ends = np.fromfile(place / "all.ends", "<i8") if end is None else np.zeros(0, "<i8")
    found: dict[str, _Split] = {}
    with (place / "all.txt").open("rb") as text:

        def cut(at: int) -> int:
            """The last place at or before byte `at` where a range may end."""
            if end is None:
                return int(max(ends[: np.searchsorted(ends, at, "right")], default=0))
            text.seek(start := max(0, at - 3))
            return start + _boundary(text.read(at - start + 1), at - start)

        first, share = 0, Fraction(0)
        for split, own_share in shares(spec.splits).items():
            share += own_share
            if own_share:
                last = cut(math.floor(whole.n_bytes * share))
                most = last if spec.max_bytes is None or split != "train" else cut(min(last, spec.max_bytes))
                found[split] = _Split(files, out / split, end)
                found[split].copy(text, first, most, ends)
                first = last
    return found


def shares(rule: SplitSpec) -> dict[str, Fraction]:
    """What part of the text each split is: exactly what the decimals say."""
    val, test = Fraction(str(rule.val)), Fraction(str(rule.test))
    return {"train": 1 - val - test, "val": val, "test": test}


def chosen(text: str, rule: SplitSpec) -> str:
    """The split of a document, by the sha256 of the salt and its text: documents that are alike are in one split."""
    drawn = Fraction(int.from_bytes(hashlib.sha256(f"{rule.salt}\n{text}".encode()).digest()[:8], "big"), 1 << 64)
    val, test = shares(rule)["val"], shares(rule)["test"]
    return "val" if drawn < val else "test" if drawn < val + test else "train"


def _whole(documents: Iterator[Document], spec: CorpusSpec) -> Iterator[Document]:
    """Documents in one piece each. ConfigError for a text that is none of documents."""
    pieces: list[str] = []
    for document in documents:
        pieces.append(document.text)
        if document.ends:
            yield document._replace(text="".join(pieces))
            pieces.clear()
    if pieces:
        key = "documents" if spec.documents != "joined" else "splits.by"
        raise ConfigError(
            f"corpus {spec.name}: {key}: its text does not consist of documents (docs/howto/corpus.md says which does)."
        )


def _boundary(text: bytes, at: int) -> int:
    """The last start of a UTF-8 character at or before byte `at`, or the end of the text."""
    if at >= len(text):
        return len(text)
    while at > 0 and text[at] & 0xC0 == 0x80:  # 10xxxxxx continues a character
        at -= 1
    return at
