"""Text to token ids and back: characters, byte-level BPE, and any tokenizer of the `tokenizers` library.

Every tokenizer knows how many bytes of UTF-8 each of its tokens stands for, so that any loss can be stated in
bits per byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from gt.errors import ConfigError

if TYPE_CHECKING:
    import tokenizers

# A text is encoded in parts of about so many bytes.
PIECE_BYTES = 1 << 16
# Byte-level BPE merges within words; longer ones, as of text without spaces, are cut after so many bytes.
WORD_BYTES = 1024
# Between a character that is no white space, nor an ASCII control character, and a space or line end.
WORD_END = re.compile(
    rb"([!-~]|[\x80-\xbf](?<!\xc2[\x85\xa0])(?<!\xe1\x9a\x80)(?<!\xe1\xa0\x8e)(?<!\xe2\x80[\x80-\x8a\xa8\xa9\xaf])"
    rb"(?<!\xe2\x81\x9f)(?<!\xe3\x80\x80))(?=[ \n])"
)
# The replacement character: what an unknown token decodes to.
REPLACEMENT = "\ufffd"


class Tokenizer(Protocol):
    """Text to token ids and back. token_bytes: (vocab_size,) int64, bytes of UTF-8 an id stands for."""

    vocab_size: int
    token_bytes: np.ndarray

    def encode(self, text: str) -> np.ndarray:
        """Token ids, int64 (n,)."""

    def encode_parts(self, parts: list[str]) -> list[np.ndarray]:
        """Those of each of several texts."""

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
        characters: set[str] = set()
        for piece in pieces:
            characters.update(piece)
        return cls("".join(sorted(characters)))

    def encode(self, text: str) -> np.ndarray:
        return self._ids[_code_points(text)]

    def encode_parts(self, parts: list[str]) -> list[np.ndarray]:
        return [self.encode(part) for part in parts]

    def decode(self, ids: Iterable[int]) -> str:
        return self._code_points[np.fromiter(ids, dtype=np.int64)].tobytes().decode("utf-32-le")

    def unknown(self, ids: np.ndarray) -> int:
        return int((ids == 0).sum())

    def to_json(self) -> str:
        return json.dumps({"type": "char", "characters": self.characters}) + "\n"


class LibraryTokenizer:
    """A tokenizer of the `tokenizers` library, as it stands in a tokenizer.json.

    No tokens are added around a text, nothing is cut off or filled up, and nothing is put before it: a text is encoded in parts
    (`pieces`), and what some tokenizers put before the first word of a text is left out, so that the parts' tokens stand for
    their bytes. Of byte-level BPE the tokens of the parts are those of the whole; for others this is what the tokens of a text
    are. ConfigError for a document that is no such tokenizer.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        from tokenizers import Tokenizer as Library

        document = _without_prefix(document)
        try:
            self._tokenizer: tokenizers.Tokenizer = Library.from_str(json.dumps(document))
        except Exception as error:  # the library raises no other class
            raise ConfigError(f"it is no tokenizer.json that `tokenizers` reads ({error}).") from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.vocab_size: int = max(self._tokenizer.get_vocab().values()) + 1
        self.token_bytes = self._count_bytes(document)

    def _count_bytes(self, document: dict[str, Any]) -> np.ndarray:
        """(vocab_size,): of byte-level BPE the letters of a token's spelling, of which each is a byte; of a byte that stands
        for itself one; of others, what a token adds to a text when it is decoded after another.
        """
        counts = np.zeros(self.vocab_size, dtype=np.int64)
        vocabulary = self._tokenizer.get_vocab()
        added = {int(own["id"]): str(own["content"]) for own in document.get("added_tokens") or []}
        if "ByteLevel" in _types(document.get("decoder")):
            for token, i in vocabulary.items():
                counts[i] = len(token.encode() if i in added else token)
            return counts
        first = self._tokenizer.encode("a", add_special_tokens=False).ids[-1:]
        ids = sorted(vocabulary.values())
        texts = self._tokenizer.decode_batch([first, *([*first, i] for i in ids)], skip_special_tokens=False)
        for i, text in zip(ids, texts[1:], strict=True):
            counts[i] = len(text.encode()) - len(texts[0].encode())
        if (document.get("model") or {}).get("byte_fallback"):
            for token, i in vocabulary.items():
                if re.fullmatch("<0x[0-9A-F]{2}>", token):
                    counts[i] = 1
        return counts

    def encode(self, text: str) -> np.ndarray:
        return np.concatenate([np.zeros(0, np.int64), *self.encode_parts(list(pieces(text.encode(), PIECE_BYTES)))])

    def encode_parts(self, parts: list[str]) -> list[np.ndarray]:
        encodings = self._tokenizer.encode_batch_fast(parts, add_special_tokens=False)
        return [np.array(e.ids, dtype=np.int64) for e in encodings]

    def decode(self, ids: Iterable[int]) -> str:
        text: str = self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=False)
        return text

    def unknown(self, ids: np.ndarray) -> int:
        return 0

    def to_json(self) -> str:
        return str(self._tokenizer.to_str(pretty=True)) + "\n"


class BpeTokenizer(LibraryTokenizer):
    """Byte-level BPE as GPT-2's (Radford et al. 2019): no normaliser, no prefix space, no special tokens.

    All 256 bytes are tokens, so that nothing is unknown, and a token's own spelling has one character for
    each byte. Tokens do not cross the borders of words, as GPT-2's pattern finds them, and a word of more than `WORD_BYTES` is
    cut into words of so many: fitting on a word takes time with the square of its length, and a line of DNA is one word.
    """

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
        return cls(json.loads(tokenizer.to_str()))


def pieces(text: bytes, size: int) -> Iterator[str]:
    """UTF-8 text in pieces of about `size` bytes, whose tokens in turn are exactly the tokens of the whole.

    A piece ends only between a character that is no white space and a space or line end. There GPT-2's pattern
    always parts two words: no alternative of it goes on from the one to the other, and its only look-ahead,
    `\\s+(?!\\S)`, stands at the end of a run of white space. (A cut *after* a line end is not exact: a run of
    white space is split before its last character where a word follows, and kept whole at the end of the
    text.) Text without such a place stays in one piece.
    """
    start = 0
    while start < len(text):
        border = WORD_END.search(text, start + size - 1)
        end = border.end() if border else len(text)
        yield text[start:end].decode("utf-8")
        start = end


def from_json(text: str) -> Tokenizer:
    """The tokenizer that a tokenizer.json holds. ConfigError where it is none."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"it is no JSON ({error}).") from None
    if not isinstance(document, dict):
        raise ConfigError("it is no tokenizer.json.")
    return CharTokenizer(document["characters"]) if document.get("type") == "char" else LibraryTokenizer(document)


def _types(part: Any) -> set[str]:
    """The types of a decoder, and of those it is a sequence of."""
    if not isinstance(part, dict):
        return set()
    inner = [own for value in part.values() if isinstance(value, list) for own in value]
    return {str(part.get("type"))}.union(*map(_types, inner))


def _without_prefix(part: Any) -> Any:
    """A tokenizer.json, or a part of it, that neither adds nor removes anything before a text, and draws nothing at random."""
    if isinstance(part, list):
        return [_without_prefix(own) for own in part if not _only_prefixes(own)]
    if not isinstance(part, dict) or "vocab" in part:
        return {**part, "dropout": None} if isinstance(part, dict) and "dropout" in part else part
    changes: dict[str, Any] = {"add_prefix_space": False, "prepend_scheme": "never"}
    return {
        key: changes[key] if key in changes else None if _only_prefixes(value) else _without_prefix(value)
        for key, value in part.items()
    }


def _only_prefixes(part: Any) -> bool:
    """Whether a normaliser or a decoder does nothing but put something before a text, or take it away there."""
    kind = part.get("type") if isinstance(part, dict) else None
    return kind == "Prepend" or (kind == "Strip" and "content" in part and part.get("stop") == 0)


def _code_points(text: str) -> np.ndarray:
    """(n,) uint32."""
    return np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
