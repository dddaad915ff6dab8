"""Recall tasks: corpora of generated episodes, in which some tokens, the answers, repeat a token that stands earlier.

An episode is `length` characters, one token each, drawn from a named seed. All tasks share an alphabet: a filler, a question
mark, `symbols` keys and as many values. `items` is how much an episode holds: pairs, symbols, needles or distractors.

    mqar         k v k v ... then each key once again, at random places, each with its value (Arora et al. 2023, 2312.04927)
    copying      values among fillers, then `?` and the values in order (Gu and Dao 2023, arXiv:2312.00752, section 4.1.1)
    induction    keys with a value after them in a noise of values; at the end one of the keys, and its value
                 (Olsson et al. 2022; Ba et al. 2016's associative recall)
    needle       the same with four values after a key: needles in a haystack, one of which is asked for
    persistence  a key and its value, then `items` other pairs, then `?`, the key and its value (record: state persistence)
    correction   pairs, one of which is later given another value; at the end `?`, in half of the episodes the corrected key,
                 and the value that it has by then (record: canary C3c)

Losses and accuracies are over the answers alone: what else is there is noise, which nothing can predict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gt.errors import ConfigError, nearest
from gt.seeds import numpy_stream

if TYPE_CHECKING:
    from gt.episodes import TaskSpec

# Episodes of the val and of the test split.
HELD_OUT = 2_000
FILLER, QUERY, KEYS = 0, 1, 2
# Where the characters of the keys and of the values begin: blocks of letters, thousands each.
FIRST_KEY, FIRST_VALUE = "一", "가"
NEEDLE = 4
AT_ONCE = 1_000


@dataclass(frozen=True)
class Episodes:
    """tokens: (n, length), numbers of characters; sources: (n, length), for an answer the place in the episode of the token
    that it repeats, else -1; items: (n,).
    """

    tokens: np.ndarray
    sources: np.ndarray
    items: np.ndarray

    @property
    def answers(self) -> np.ndarray:
        """(n, length), whether a token is an answer."""
        return self.sources >= 0

    def without_sources(self) -> Episodes:
        """The negative control: what the answers repeat is replaced by a filler, so that they can only be guessed."""
        tokens = self.tokens.copy()
        rows, places = np.nonzero(self.answers)
        tokens[rows, self.sources[rows, places]] = FILLER
        return Episodes(tokens, self.sources, self.items)

    def text(self, symbols: int) -> str:
        """The episodes end to end, a character a token."""
        letters = [*".?", *(chr(ord(first) + i) for first in (FIRST_KEY, FIRST_VALUE) for i in range(symbols))]
        return np.array(letters)[self.tokens].tobytes().decode("utf-32")


def draw(name: str, task: TaskSpec, split: str, n: int) -> Episodes:
    """About n episodes of a split, as many for each value of `items`, in random order."""
    share = -(-n // len(task.items))
    parts = [part for items in task.items for part in _parts(name, task, split, items, share)]
    order = numpy_stream(0, "task", name, split, "order").permutation(sum(len(part.items) for part in parts))
    tokens, sources, items = (np.concatenate(arrays)[order] for arrays in zip(*map(_arrays, parts), strict=True))
    return Episodes(tokens, sources, items)


def check(corpus: str, task: TaskSpec) -> None:
    """ConfigError if there is no such task, or episodes cannot hold what it puts into them. corpus: `task:<name>`."""
    if (own := TASKS.get(corpus.removeprefix("task:"))) is None:
        raise ConfigError(f"unknown corpus {corpus!r}." + nearest(corpus, [f"task:{name}" for name in TASKS]))
    for items in task.items:
        if (room := own.room(items)) > task.length:
            raise ConfigError(f"corpus {corpus}: {items} items need a length of {room}, not {task.length}.")
        if own.distinct and items > task.symbols:
            raise ConfigError(f"corpus {corpus}: {items} items need as many symbols, not {task.symbols}.")


def _parts(name: str, task: TaskSpec, split: str, items: int, n: int) -> Iterator[Episodes]:
    stream = numpy_stream(0, "task", name, split, task.length, items, task.symbols)
    for first in range(0, n, AT_ONCE):
        size = min(AT_ONCE, n - first)
        tokens, sources = TASKS[name].draw(stream, size, task.length, items, task.symbols)
        yield Episodes(tokens, sources, np.full(size, items))


def _arrays(part: Episodes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return part.tokens, part.sources, part.items


# The tasks. Each draws (tokens, sources), (n, length) both.

Drawn = tuple[np.ndarray, np.ndarray]


def _blank(n: int, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fillers, no sources, and the rows as an index."""
    return np.full((n, length), FILLER), np.full((n, length), -1), np.arange(n)[:, None]


def _distinct(stream: np.random.Generator, n: int, k: int, of: int) -> np.ndarray:
    """(n, k) numbers below `of`, k different ones in each row, in random order."""
    return stream.random((n, of)).argsort(1)[:, :k]


def _other(stream: np.random.Generator, than: np.ndarray, symbols: int, *shape: int) -> np.ndarray:
    """Symbols that are not the given ones."""
    return (than + stream.integers(1, symbols, shape)) % symbols


def _mqar(stream: np.random.Generator, n: int, length: int, items: int, symbols: int) -> Drawn:
    tokens, sources, row = _blank(n, length)
    keys, values = _distinct(stream, n, items, symbols), stream.integers(symbols, size=(n, items))
    places = 2 * items + 2 * _distinct(stream, n, items, length // 2 - items)
    for place in (2 * np.arange(items), places):
        tokens[row, place], tokens[row, place + 1] = KEYS + keys, KEYS + symbols + values
    sources[row, places + 1] = 2 * np.arange(items) + 1
    return tokens, sources


def _copying(stream: np.random.Generator, n: int, length: int, items: int, symbols: int) -> Drawn:
    tokens, sources, row = _blank(n, length)
    places = np.sort(_distinct(stream, n, items, length - items - 1))
    tokens[row, places] = tokens[:, -items:] = KEYS + symbols + stream.integers(symbols, size=(n, items))
    tokens[:, -items - 1] = QUERY
    sources[:, -items:] = places
    return tokens, sources


def _lookup(width: int) -> Callable[[np.random.Generator, int, int, int, int], Drawn]:
    """`items` keys, each followed by `width` values, in a noise of values; at the end one of them again."""

    def draw(stream: np.random.Generator, n: int, length: int, items: int, symbols: int) -> Drawn:
        tokens, sources, row = _blank(n, length)
        tokens[:] = KEYS + symbols + stream.integers(symbols, size=(n, length))
        places = (width + 1) * _distinct(stream, n, items, length // (width + 1) - 1)
        tokens[row, places] = KEYS + _distinct(stream, n, items, symbols)
        asked = places[:, :1] + np.arange(width + 1)
        tokens[:, -width - 1 :] = tokens[row, asked]
        sources[:, -width:] = asked[:, 1:]
        return tokens, sources

    return draw


def _persistence(stream: np.random.Generator, n: int, length: int, items: int, symbols: int) -> Drawn:
    tokens, sources, _ = _blank(n, length)
    key, value = stream.integers(symbols, size=(2, n))
    fact = length - 5 - 2 * items
    for place in (fact, length - 2):
        tokens[:, place], tokens[:, place + 1] = KEYS + key, KEYS + symbols + value
    tokens[:, fact + 2 : -3 : 2] = KEYS + _other(stream, key[:, None], symbols, n, items)
    tokens[:, fact + 3 : -3 : 2] = KEYS + symbols + stream.integers(symbols, size=(n, items))
    tokens[:, -3] = QUERY
    sources[:, -1] = fact + 1
    return tokens, sources


def _correction(stream: np.random.Generator, n: int, length: int, items: int, symbols: int) -> Drawn:
    tokens, sources, row = _blank(n, length)
    keys, values = _distinct(stream, n, items, symbols), stream.integers(symbols, size=(n, items))
    tokens[:, 0 : 2 * items : 2], tokens[:, 1 : 2 * items : 2] = KEYS + keys, KEYS + symbols + values
    row, pair = row[:, 0], stream.integers(items, size=n)
    place = 2 * items + 2 * stream.integers((length - 3) // 2 - items, size=n)
    tokens[row, place] = KEYS + keys[row, pair]
    tokens[row, place + 1] = KEYS + symbols + _other(stream, values[row, pair], symbols, n)
    if items > 1:
        other = (pair + stream.integers(1, items, size=n)) % items
        place = np.where(stream.random(n) < 0.5, place, 2 * other)
    tokens[:, -3] = QUERY
    tokens[:, -2], tokens[:, -1] = tokens[row, place], tokens[row, place + 1]
    sources[:, -1] = place + 1
    return tokens, sources


@dataclass(frozen=True)
class Task:
    """room: the least length for so many items; distinct: their keys are all different."""

    draw: Callable[[np.random.Generator, int, int, int, int], Drawn]
    room: Callable[[int], int]
    distinct: bool = True


TASKS = {
    "mqar": Task(_mqar, lambda items: 4 * items),
    "copying": Task(_copying, lambda items: 2 * items + 1, distinct=False),
    "induction": Task(_lookup(1), lambda items: 2 * items + 2),
    "needle": Task(_lookup(NEEDLE), lambda items: (NEEDLE + 1) * (items + 1)),
    "persistence": Task(_persistence, lambda items: 2 * items + 5, distinct=False),
    "correction": Task(_correction, lambda items: 2 * items + 5),
}
