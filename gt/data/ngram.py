"""The lines that a language model must beat: n-gram models counted on the train split.

With c(.) counts in train, N its length and V the vocabulary size,

    p0(w)       = 1 / V                                                         uniform
    p1(w)       = (c(w) + 1) / (N + V)                                          unigram, add-one
    p2(w | v)   = l2(c(v)) c(v w) / c(v) + (1 - l2(c(v))) p1(w)                 bigram
    p3(w | u v) = l3(c(u v)) c(u v w) / c(u v) + (1 - l3(c(u v))) p2(w | v)     trigram

(Jelinek and Mercer 1980). A weight l depends on how often its context was seen, in octaves; the weights are
fitted by EM on the last tenth of train (at most a million tokens) with counts of the rest, and then used with
the counts of all of train.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gt.data.slices import EVALUATION_BYTES
from gt.data.tokens import Tokens
from gt.errors import ConfigError
from gt.records import write_json

EM_STEPS = 50
OCTAVES = 64
FITTED_ON = 1_000_000
# Of a longer train split so many tokens are counted, from its start, and so many of them at once.
COUNTED, AT_ONCE = 100_000_000, 1 << 22
# With at most so many possible n-grams, a table of all is quicker than sorting those that occur.
DENSE = 1 << 22


def prepare(folder: Path) -> None:
    """Write `ngram.json` into a folder of tokens: the lines on the slice of val that models are measured on, or the answers
    in it.

    {"unigram": {"loss": nats/token, "bits_per_byte": ...}, ...}
    """
    tokens = Tokens.open(folder)
    part = tokens.slice("val", EVALUATION_BYTES)
    held_out = np.asarray(tokens.val[part.first - 1 : part.end])
    counted = tokens.marked("val")[part.first : part.end] >= 0
    bytes_a_token = part.n_bytes / counted.sum()
    lines = {
        name: {"loss": loss, "bits_per_byte": loss / math.log(2) / bytes_a_token}
        for name, loss in losses(tokens.train[:COUNTED], held_out, tokens.vocab_size, counted).items()
    }
    write_json(folder / "ngram.json", lines)


def losses(train: np.ndarray, held_out: np.ndarray, vocab_size: int, counted: np.ndarray | None = None) -> dict[str, float]:
    """Mean cross-entropy (nats/token) of each line over held_out[1:], what a language model can predict too.

    train, held_out: (n,) token ids. counted: (n - 1,) bool, which of them to average over; by default all. The
    first target has one token of context, so the trigram is the bigram there. ConfigError if there are too few
    tokens to count and to fit on (30 and 2).
    """
    if len(train) < 30 or len(held_out) < 2:
        raise ConfigError(f"n-gram lines need 30 tokens of train and 2 of val, not {len(train)} and {len(held_out)}.")
    held_out = held_out.astype(np.int64)
    rest = train[: len(train) - min(len(train) // 10, FITTED_ON)]
    fitted_on = train[len(rest) :].astype(np.int64)
    weights = _fit_weights(rest, fitted_on, vocab_size)
    models = [_Counts.of(train, order, vocab_size, held_out) for order in (2, 3)]
    p1 = _unigram(train, vocab_size)[held_out[1:]]
    p2 = models[0].interpolate(held_out, p1, weights[0])
    p3 = np.concatenate([p2[:1], models[1].interpolate(held_out, p2[1:], weights[1])])
    lines = {"unigram": p1, "bigram": p2, "trigram": p3}
    which = np.ones(len(p1), dtype=bool) if counted is None else counted
    return {"uniform": math.log(vocab_size)} | {name: float(-np.log(p[which]).mean()) for name, p in lines.items()}


def _fit_weights(train: np.ndarray, held_out: np.ndarray, vocab_size: int) -> list[np.ndarray]:
    """The weights of the bigram and of the trigram, each (OCTAVES,), fitted on `held_out`."""
    bigram, trigram = (_Counts.of(train, order, vocab_size, held_out) for order in (2, 3))
    p1 = _unigram(train, vocab_size)[held_out[1:]]
    l2 = _expectation_maximisation(*bigram.look_up(held_out), p1)
    p2 = bigram.interpolate(held_out, p1, l2)
    l3 = _expectation_maximisation(*trigram.look_up(held_out), p2[1:])
    return [l2, l3]


def _unigram(train: np.ndarray, vocab_size: int) -> np.ndarray:
    counts = np.zeros(vocab_size, np.int64)
    for piece in _pieces(train, 1):
        counts += np.bincount(piece, minlength=vocab_size)
    return (counts + 1) / (len(train) + vocab_size)


@dataclass(frozen=True)
class _Counts:
    """Counts of the n-grams, and of their contexts, that some text has, as sorted keys: tokens read as digits to the base V."""

    order: int
    vocab_size: int
    contexts: tuple[np.ndarray, np.ndarray]
    grams: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(cls, tokens: np.ndarray, order: int, vocab_size: int, asked: np.ndarray) -> _Counts:
        """Counted in `tokens` by pieces: what occurs in the text `asked`."""
        if vocab_size**order > np.iinfo(np.int64).max:
            raise ConfigError(f"n-gram lines: a vocabulary of {vocab_size:,} is too large to count {order}-grams.")
        wanted = np.unique(_keys(asked, order, vocab_size))
        contexts = np.unique(wanted // vocab_size)
        counts, of_contexts = np.zeros(len(wanted), np.int64), np.zeros(len(contexts), np.int64)
        for piece in _pieces(tokens, order):
            keys = _keys(piece, order, vocab_size)
            counts += _find(*_count(keys, vocab_size**order), wanted)
            of_contexts += _find(*_count(keys // vocab_size, vocab_size ** (order - 1)), contexts)
        return cls(order, vocab_size, (contexts, of_contexts), (wanted, counts))

    def look_up(self, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each n-gram of `tokens`: the count of its context and its relative frequency there, or 0."""
        keys = _keys(tokens, self.order, self.vocab_size)
        context = _find(*self.contexts, keys // self.vocab_size)
        return context, _find(*self.grams, keys) / np.maximum(context, 1)

    def interpolate(self, tokens: np.ndarray, lower: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The probability of the last token of each n-gram; `lower` is the next lower order's."""
        context, frequency = self.look_up(tokens)
        weight = weights[_octave(context)]
        return weight * frequency + (1 - weight) * lower


def _pieces(tokens: np.ndarray, order: int) -> Iterator[np.ndarray]:
    """Tokens by pieces, (n,) int64 each, that have all n-grams of an order once between them."""
    for start in range(0, len(tokens) - order + 1, AT_ONCE):
        yield tokens[start : start + AT_ONCE + order - 1].astype(np.int64)


def _keys(tokens: np.ndarray, order: int, vocab_size: int) -> np.ndarray:
    """(n - order + 1,) int64, one for each n-gram."""
    key = tokens[: len(tokens) - order + 1].copy()
    for i in range(1, order):
        key *= vocab_size
        key += tokens[i : len(tokens) - order + 1 + i]
    return key


def _count(keys: np.ndarray, possible: int) -> tuple[np.ndarray, np.ndarray]:
    """The keys that occur, sorted, and how often each does."""
    if possible > DENSE:
        return np.unique(keys, return_counts=True)
    counts = np.bincount(keys, minlength=1)
    found = np.flatnonzero(counts)
    return found, counts[found]


def _find(keys: np.ndarray, counts: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The counts of the wanted keys, 0 for those that are not there."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, counts[at], 0)


def _octave(counts: np.ndarray) -> np.ndarray:
    """0 for a context that was not seen, 1 for once, 2 for 2-3 times, 3 for 4-7 times ..."""
    return np.frexp(counts)[1]


def _expectation_maximisation(context: np.ndarray, frequency: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """The weight of each octave of context counts that makes the events most likely.

    One more event in each octave that only the lower order explains keeps every weight below 1, so that
    nothing has probability 0. An octave without events takes the weight of the octave below.
    """
    octave = _octave(context)
    events = np.bincount(octave, minlength=OCTAVES)
    weights = np.full(OCTAVES, 0.5)
    for _ in range(EM_STEPS):
        share = weights[octave] * frequency
        explained = share / (share + (1 - weights[octave]) * lower)
        weights = np.bincount(octave, weights=explained, minlength=OCTAVES) / (events + 1)
    weights[0] = 0.0
    for i in np.flatnonzero(events == 0):
        weights[i] = weights[i - 1] if i else 0.0
    return weights
