"""From the text of a split to its tokens, by parts and in several processes: never held whole.

A text is cut where tokens of every tokenizer meet (`gt.data.slices`), where a document ends that is kept apart from the next,
and else about every `PIECE_BYTES` at the border of two words (`gt.data.codecs.pieces` says why there). The text alone decides
where, so the tokens depend neither on how many parts are encoded at once nor on by how many processes.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from multiprocessing import get_context
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from gt.data.codecs import PIECE_BYTES, WORD_END, Tokenizer, from_json
from gt.errors import ConfigError

# Bytes of text that are encoded at once, and characters on both sides of what a refused tokenizer changes.
CHUNK_BYTES, AROUND = 1 << 20, 12
# Bytes that are first looked at for the end of a word, and those before it that may belong to its last character.
WINDOW, BEFORE = 256, 3


class Part(NamedTuple):
    """Bytes of a text, and whether a document ends with them that is kept apart from the next."""

    start: int
    end: int
    ends: bool


class Encoded(NamedTuple):
    """Parts of a text as tokens: with separators (n,), how many each has without its separator, and how many are unknown."""

    ids: np.ndarray
    parts: list[Part]
    lengths: list[int]
    unknown: int


@dataclass(frozen=True)
class Encoder:
    """A tokenizer at work. separator: the token after each document. lossless: refuse what does not come back as it was."""

    tokenizer: Tokenizer
    name: str
    separator: int | None
    dtype: str
    lossless: bool

    def encode(self, path: Path, parts: list[Part]) -> Encoded:
        """Parts of a text that follow each other. ConfigError where the tokens of one are not those of its bytes."""
        with path.open("rb") as file:
            file.seek(first := parts[0].start)
            text = file.read(parts[-1].end - first)
        texts = [text[part.start - first : part.end - first].decode() for part in parts]
        found = self.tokenizer.encode_parts(texts)
        if self.lossless:
            for part, own, ids in zip(parts, texts, found, strict=True):
                self._check(path, part, own, ids)
        after = np.array([] if self.separator is None else [self.separator], dtype=np.int64)
        laid = [own for part, ids in zip(parts, found, strict=True) for own in ([ids, after] if part.ends else [ids])]
        ids = np.concatenate(laid).astype(self.dtype)
        return Encoded(ids, parts, [len(own) for own in found], sum(map(self.tokenizer.unknown, found)))

    def _check(self, path: Path, part: Part, text: str, ids: np.ndarray) -> None:
        back = self.tokenizer.decode(ids)
        if back == text and self.tokenizer.token_bytes[ids].sum() == len(text.encode()):
            return
        at = next((i for i, (a, b) in enumerate(zip(text, back, strict=False)) if a != b), min(len(text), len(back)))
        near = slice(max(0, at - AROUND), at + AROUND)
        raise ConfigError(
            f"tokenizer {self.name}: {path.name}, byte {part.start + len(text[:at].encode()):,}: {text[near]!r} comes back as"
            f" {back[near]!r}, so bits per byte would not be of the text. Allowed: tokenizers that give every text back, as"
            " byte-level BPE does, or one with a token for each byte, without a normaliser."
        )


def encoded(
    encoder: Encoder, path: Path, parts: Iterable[Part], threads: int = 1, chunk_bytes: int = CHUNK_BYTES
) -> Iterator[Encoded]:
    """`Encoder.encode` of all parts, some at a time and in their order, in so many processes."""
    chunks = _chunks(parts, chunk_bytes)
    first = list(islice(chunks, 2))
    chunks = chain(first, chunks)
    if threads == 1 or len(first) < 2:
        yield from (encoder.encode(path, chunk) for chunk in chunks)
        return
    given = (encoder.tokenizer.to_json(), encoder.name, encoder.separator, encoder.dtype, encoder.lossless)
    with ProcessPoolExecutor(threads, get_context("spawn"), _begin, given) as pool:
        waiting: deque[Future[Encoded]] = deque()
        try:
            # Two for each process: one that it works on, and one that waits for it.
            for chunk in chunks:
                waiting.append(pool.submit(_encode, path, chunk))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def cut(text: BinaryIO, n_bytes: int, places: Iterable[int], ends: Iterable[int], size: int = PIECE_BYTES) -> Iterator[Part]:
    """The parts of a text: up to each of some places, and of the ends of documents, both in order, and in between about `size`
    bytes each.
    """
    start = 0
    for stop, is_end in _merged(places, ends, n_bytes):
        while start < stop:
            border = _border(text, start + size - 1, stop)
            yield Part(start, border, is_end and border == stop)
            start = border


def read(text: BinaryIO, part: Part) -> str:
    """The text of a part."""
    text.seek(part.start)
    return text.read(part.end - part.start).decode()


def _border(text: BinaryIO, at: int, stop: int) -> int:
    """The end of the first border of words from a byte on; where there is none before `stop`, that."""
    width = WINDOW
    while at < stop - 1:
        before = min(BEFORE, at)
        text.seek(at - before)
        window = text.read(before + min(width, stop - at))
        if found := WORD_END.search(window, before):
            return at - before + found.end()
        at += len(window) - before - 1  # whose last byte may be followed by a space
        width = min(2 * width, CHUNK_BYTES)
    return stop


def _merged(places: Iterable[int], ends: Iterable[int], n_bytes: int) -> Iterator[tuple[int, bool]]:
    """All of both in order, each once, and the end of the text; with each whether a document ends there."""
    left, before = deque(places), -1
    for end in ends:
        while left and left[0] < end:
            if (place := left.popleft()) > before:
                yield place, False
        yield int(end), True
        before = int(end)
    for place in (*left, n_bytes):
        if place > before:
            yield place, False
            before = place


def _chunks(parts: Iterable[Part], chunk_bytes: int) -> Iterator[list[Part]]:
    """Parts that follow each other, of so many bytes together."""
    iterator = iter(parts)
    for part in iterator:
        chunk = [part]
        while chunk[-1].end - chunk[0].start < chunk_bytes and (following := list(islice(iterator, 1))):
            chunk += following
        yield chunk


_encoder: Encoder  # of a process that encodes


def _begin(json: str, name: str, separator: int | None, dtype: str, lossless: bool) -> None:
    """What a process begins with."""
    global _encoder
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _encoder = Encoder(from_json(json), name, separator, dtype, lossless)


def _encode(path: Path, parts: list[Part]) -> Encoded:
    return _encoder.encode(path, parts)
