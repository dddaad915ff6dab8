"""Tokenizers, fitted on the train split alone, and the encoding of a corpus.

Every tokenizer knows how many bytes of UTF-8 each of its tokens stands for, so that any loss can be stated in
bits per byte.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from gt.data.slices import BORDER, episode_places, places
from gt.errors import ConfigError
from gt.records import atomic_write, read_json, write_json

if TYPE_CHECKING:
    import tokenizers

    from gt.spec import TokenizerSpec

# Bytes of text encoded and written at once, and given to one call of the BPE library.
CHUNK_BYTES = 1 << 24
PIECE_BYTES = 1 << 16
# Byte-level BPE merges within words; longer ones, as of text without spaces, are cut after so many bytes.
WORD_BYTES = 1024
# The replacement character: what an unknown token decodes to.
REPLACEMENT = "\ufffd"


class Tokenizer(Protocol):
    """Text to token ids and back. token_bytes: (vocab_size,) int64, bytes of UTF-8 an id stands for."""

    vocab_size: int
    token_bytes: np.ndarray

    def encode(self, text: str) -> np.ndarray:
        """Token ids, int64 (n,)."""

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids; decode(encode(text)) is text where no character is unknown."""

    def unknown(self, ids: np.ndarray) -> int:
        """How many of the ids stand for something that the tokenizer does not know."""

    def to_json(self) -> str:
        """What `load_tokenizer` reads."""


class CharTokenizer:
    """One token for each character of the train split, in code point order; id 0 is `<unk>`.

    An unknown character counts as one byte, the fewest that a character can have: fewer bytes make more bits
    per byte, so unknown characters never flatter a model.
    """

    def __init__(self, characters: str) -> None:
        self.characters = characters
        self.vocab_size = 1 + len(characters)
        self.token_bytes = np.array([1] + [len(c.encode()) for c in characters], dtype=np.int64)
        self._ids = np.zeros(0x110000, dtype=np.int64)
        self._ids[_code_points(characters)] = np.arange(1, self.vocab_size)
        self._code_points = _code_points(REPLACEMENT + characters)

    @classmethod
    def fit(cls, pieces: Iterable[str]) -> CharTokenizer:
        """The characters that occur."""
        return cls("".join(sorted(set().union(*pieces))))

    def encode(self, text: str) -> np.ndarray:
        return self._ids[_code_points(text)]

    def decode(self, ids: Iterable[int]) -> str:
        return self._code_points[np.fromiter(ids, dtype=np.int64)].tobytes().decode("utf-32-le")

    def unknown(self, ids: np.ndarray) -> int:
        return int((ids == 0).sum())

    def to_json(self) -> str:
        return json.dumps({"type": "char", "characters": self.characters}) + "\n"


class BpeTokenizer:
    """Byte-level BPE as GPT-2's (Radford et al. 2019): no normaliser, no prefix space, no special tokens.

    All 256 bytes are tokens, so that nothing is unknown, and a token's own spelling has one character for
    each byte. Tokens do not cross the borders of words, as GPT-2's pattern finds them, and a word of more than `WORD_BYTES` is
    cut into words of so many: fitting on a word takes time with the square of its length, and a line of DNA is one word.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.vocab_size: int = tokenizer.get_vocab_size()
        self.token_bytes = np.zeros(self.vocab_size, dtype=np.int64)
        for token, i in tokenizer.get_vocab().items():
            self.token_bytes[i] = len(token)

    @classmethod
    def fit(cls, pieces: Iterable[str], vocab_size: int) -> BpeTokenizer:
        """At most `vocab_size` tokens; fewer where no pair of tokens that is left occurs twice."""
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.ByteLevel(add_prefix_space=False), pre_tokenizers.FixedLength(WORD_BYTES)]
        )
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=[],
            show_progress=False,
        )
        tokenizer.train_from_iterator(pieces, trainer)
        return cls(tokenizer)

    def encode(self, text: str) -> np.ndarray:
        encodings = self._tokenizer.encode_batch_fast(list(pieces(text.encode(), PIECE_BYTES)))
        return np.concatenate([np.zeros(0, np.int64), *(np.array(e.ids, dtype=np.int64) for e in encodings)])

    def decode(self, ids: Iterable[int]) -> str:
        text: str = self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=False)
        return text

    def unknown(self, ids: np.ndarray) -> int:
        return 0

    def to_json(self) -> str:
        return str(self._tokenizer.to_str(pretty=True)) + "\n"


def pieces(text: bytes, size: int) -> Iterator[str]:
    """UTF-8 text in pieces of about `size` bytes, whose tokens in turn are exactly the tokens of the whole.

    A piece ends only between a printable ASCII character and a space or line end. There GPT-2's pattern
    always parts two words: no alternative of it goes on from the one to the other, and its only look-ahead,
    `\\s+(?!\\S)`, stands at the end of a run of white space. (A cut *after* a line end is not exact: a run of
    white space is split before its last character where a word follows, and kept whole at the end of the
    text.) Text without such a place stays in one piece.
    """
    start = 0
    while start < len(text):
        border = BORDER.search(text, start + size - 1)
        end = border.end() if border else len(text)
        yield text[start:end].decode("utf-8")
        start = end


def prepare(corpus_dir: Path, spec: TokenizerSpec, out: Path) -> None:
    """Fit on the train split, encode all splits, and write the folder that `gt.data.tokens.Tokens` opens.

    tokenizer.json, token_bytes.npy, <split>.bin (little-endian uint16, or uint32 for more than 65,536 tokens),
    of a task <split>.answers.bin (a byte a token) and, last, tokens.json. A held-out split is encoded in parts, between the
    places where its slices begin and may end; tokens.json has these in bytes and in tokens. ConfigError if the corpus folder is
    not what its corpus.json says, or a held-out split is too short to predict anything.
    """
    corpus = read_json(corpus_dir / "corpus.json")
    train = _split_text(corpus_dir, corpus, "train")
    tokenizer = _fit(spec, pieces(train, PIECE_BYTES))
    dtype = "uint16" if tokenizer.vocab_size <= 1 << 16 else "uint32"
    with atomic_write(out / "tokenizer.json") as temporary:
        temporary.write_text(tokenizer.to_json(), encoding="utf-8")
    with atomic_write(out / "token_bytes.npy") as temporary, temporary.open("wb") as file:
        np.save(file, tokenizer.token_bytes)
    counts, unknown, slices = {}, {}, {}
    if corpus["answers"]:
        for split in corpus["sha256"]:
            with atomic_write(out / f"{split}.answers.bin") as temporary:
                temporary.write_bytes((corpus_dir / f"{split}.answers").read_bytes())
    for split in corpus["sha256"]:
        text = train if split == "train" else _split_text(corpus_dir, corpus, split)
        counts[split] = unknown[split] = 0
        cuts = [] if split == "train" else _places(text, corpus, split)
        before = []
        with atomic_write(out / f"{split}.bin") as temporary, temporary.open("wb") as file:
            for start, end in pairwise([0, *cuts, len(text)]):
                for chunk in pieces(text[start:end], CHUNK_BYTES):
                    ids = tokenizer.encode(chunk)
                    ids.astype(np.dtype(dtype).newbyteorder("<")).tofile(file)
                    counts[split] += ids.size
                    unknown[split] += tokenizer.unknown(ids)
                before.append(counts[split])
        if cuts:
            slices[split] = {"bytes": cuts, "tokens": before[: len(cuts)]}
    record = {
        "tokenizer": spec.id,
        "vocab_size": tokenizer.vocab_size,
        "dtype": dtype,
        "tokens": counts,
        "bytes": corpus["bytes"],
        "unknown": unknown,
        "slices": slices,
        "answers": corpus["answers"],
        "sha256": binary_sha256(out, list(counts), corpus["answers"]),
        "corpus": corpus["id"],
        "corpus_sha256": corpus["sha256"],
    }
    write_json(out / "tokens.json", record)


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a folder of tokens."""
    from tokenizers import Tokenizer as Library

    document = read_json(folder / "tokenizer.json")
    if document.get("type") == "char":
        return CharTokenizer(document["characters"])
    return BpeTokenizer(Library.from_file(str(folder / "tokenizer.json")))


def binary_sha256(folder: Path, splits: list[str], answers: bool = False) -> str:
    """One sum over the names and contents of the binary files: the identity of the data that a run saw."""
    digest = hashlib.sha256()
    flags = [f"{split}.answers.bin" for split in splits if answers]
    for name in ["token_bytes.npy", *(f"{split}.bin" for split in splits), *flags]:
        with (folder / name).open("rb") as file:
            digest.update(name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _fit(spec: TokenizerSpec, train: Iterator[str]) -> Tokenizer:
    if spec.name == "char":
        return CharTokenizer.fit(train)
    assert spec.vocab_size is not None  # TokenizerSpec checks it
    return BpeTokenizer.fit(train, spec.vocab_size)


def _places(text: bytes, corpus: dict, split: str) -> list[int]:
    """Where the slices of a held-out split begin and may end, in bytes."""
    found = episode_places(text, corpus["episode"]) if corpus["answers"] else places(text)
    if len(found) == 1:
        raise ConfigError(f"corpus {corpus['name']}: its {split} split is too short: {text[:40].decode(errors='ignore')!r}.")
    return found


def _split_text(corpus_dir: Path, corpus: dict, split: str) -> bytes:
    path = corpus_dir / f"{split}.txt"
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; prepare the corpus again.") from None
    if (got := hashlib.sha256(text).hexdigest()) != (expected := corpus["sha256"][split]):
        raise ConfigError(f"{path}: sha256 is {got}, corpus.json says {expected}; prepare the corpus again.")
    return text


def _code_points(text: str) -> np.ndarray:
    """(n,) uint32."""
    return np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
