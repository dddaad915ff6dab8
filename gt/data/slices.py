"""What text a held-out loss is about: the same bytes of a split for every tokenizer.

A slice begins after a short lead, whose last token a model reads before it predicts the first of the slice, and ends about as
many bytes later as is asked for. The text alone decides where. Both are places at which tokens of every tokenizer meet: borders
of words where there are any, and else ends of characters at which the text is parted before it is encoded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Of val and of test, the slice on which a trained model is measured (a shorter split: all of it after the lead).
EVALUATION_BYTES = 131_072
# A slice may end about every so many bytes. A border is looked for so far.
STEP = 1024
# Between a printable ASCII character and a space or line end (`gt.data.tokenizers.pieces` says why there).
BORDER = re.compile(rb"[!-~](?=[ \n])")


@dataclass(frozen=True)
class Slice:
    """Tokens first .. end - 1 of a split, which stand for its bytes from `from_byte` on, n_bytes of them."""

    first: int
    end: int
    from_byte: int
    n_bytes: int


@dataclass(frozen=True)
class Places:
    """Where the slices of a split begin, and may end: how many bytes and how many tokens stand before each place."""

    bytes: list[int]
    tokens: list[int]

    def slice(self, n_bytes: int) -> Slice:
        """From the first place on n bytes, rounded up to a multiple of `STEP` and then to the next border, or all there are."""
        last = min(-(-n_bytes // STEP), len(self.bytes) - 1)
        return Slice(self.tokens[0], self.tokens[last], self.bytes[0], self.bytes[last] - self.bytes[0])


def places(text: bytes) -> list[int]:
    """The bytes before each place of a split's UTF-8 text; only one, if all of it is lead."""
    found = [border(text, 1)]
    while found[-1] < len(text) and len(found) <= EVALUATION_BYTES // STEP:
        found.append(border(text, found[0] + len(found) * STEP))
    return found


def episode_places(text: bytes, length: int) -> list[int]:
    """The same of episodes of `length` characters: with the first character as lead, and whole episodes at about every `STEP`
    characters.

    Windows of an episode then have its tokens as inputs. The first token of an episode is no answer.
    """
    characters = text.decode("utf-8")
    steps = range(0, EVALUATION_BYTES + STEP, STEP)
    ends = [min(1 + -(-step // length) * length, len(characters)) for step in steps]
    ends = ends[: ends.index(len(characters)) + 1] if len(characters) in ends else ends
    return [len(characters[:end].encode("utf-8")) for end in ends]


def border(text: bytes, at: int) -> int:
    """The first border of words at or after byte `at`; of text without one in reach, the first end of a character."""
    if found := BORDER.search(text, at - 1, at - 1 + STEP):
        return found.end()
    while at < len(text) and text[at] & 0xC0 == 0x80:  # 10xxxxxx continues a character
        at += 1
    return min(at, len(text))
