"""Which tokens a model sees at which step: set by the seed and the step alone, so alike for all models."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from gt.data.slices import Slice
from gt.errors import ConfigError
from gt.seeds import numpy_stream


class Batches:
    """Training batches of windows, in an order that only the seed decides.

    An epoch is a random phase (less than two windows) and a random permutation of the windows that lie end to
    end from there. Batches run on across the border of epochs. Any step can be asked for, in any order.
    """

    def __init__(
        self, tokens: np.ndarray, batch_size: int, sequence_length: int, seed: int, whole_episodes: bool = False
    ) -> None:
        """tokens: (n,), the train split. whole_episodes: it is cut into windows from its start, always the same.

        ConfigError if it is shorter than one window.
        """
        check_length("train", len(tokens), sequence_length)
        self.tokens = tokens
        self.batch_size = batch_size
        self.sequence_length = sequence_length
        self.seed = seed
        self.whole_episodes = whole_episodes
        # One window is given up for the phase, so that each epoch has as many as any other.
        self.windows_per_epoch = max(1, len(tokens) // sequence_length - 1)
        self._epoch_starts = lru_cache(maxsize=2)(self._draw_epoch_starts)

    def batch(self, step: int) -> np.ndarray:
        """Step 0, 1, ...: (batch_size, sequence_length + 1) int64; inputs are [:, :-1], targets [:, 1:]."""
        return self.tokens[self.starts(step)[:, None] + np.arange(self.sequence_length + 1)].astype(np.int64)

    def starts(self, step: int) -> np.ndarray:
        """Where the windows of a step start: (batch_size,) int64."""
        order = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs, places = np.divmod(order, self.windows_per_epoch)
        return np.concatenate([self._epoch_starts(int(e))[places[epochs == e]] for e in np.unique(epochs)])

    def _draw_epoch_starts(self, epoch: int) -> np.ndarray:
        """Where the windows of an epoch start, in the order of being seen: (windows_per_epoch,) int64."""
        stream = numpy_stream(self.seed, "batches", epoch)
        # All phases that leave room for the windows, so that every token is a target in some epoch.
        phases = 1 if self.whole_episodes else len(self.tokens) - self.windows_per_epoch * self.sequence_length
        phase = stream.integers(phases)
        return phase + self.sequence_length * self._order(stream)

    def _order(self, stream: np.random.Generator) -> np.ndarray:
        """The windows of an epoch, counted from the phase, in the order of being seen: (windows_per_epoch,) int64."""
        return stream.permutation(self.windows_per_epoch)

    def goes_on(self, step: int) -> bool:
        """Whether each sequence of a step begins where that of the step before ended."""
        return False


class Tracks(Batches):
    """Batches whose sequences go on from step to step.

    The windows of an epoch lie end to end from a random phase too, but each sequence of the batch has an equal stretch of
    them, its track, and reads it in order; an epoch ends where the tracks do (the record's StatefulDataset, with splits that
    do not depend on the batch size: flaw F-18).
    """

    def __init__(
        self, tokens: np.ndarray, batch_size: int, sequence_length: int, seed: int, whole_episodes: bool = False
    ) -> None:
        """ConfigError also if there is not a window for each track."""
        super().__init__(tokens, batch_size, sequence_length, seed, whole_episodes)
        self.steps_per_epoch, left_out = divmod(self.windows_per_epoch, batch_size)
        self.windows_per_epoch -= left_out
        if self.steps_per_epoch == 0:
            raise ConfigError(
                f"training.batch_order: the train split has {left_out:,} windows of {sequence_length:,} tokens, "
                f"too few for {batch_size:,} tracks."
            )

    def _order(self, stream: np.random.Generator) -> np.ndarray:
        return np.arange(self.windows_per_epoch).reshape(self.batch_size, self.steps_per_epoch).T.flatten()

    def goes_on(self, step: int) -> bool:
        return step % self.steps_per_epoch > 0


class Apart(Batches):
    """Batches whose windows each lie in one document.

    Of the document between two separators the first window begins with the one before it, and the others where the one before
    them ended; the separator after it is its last target. So all its tokens are targets, each once an epoch, and none is
    predicted from another document. What a window has beyond the end of its document is no target: `counted` says so.
    """

    def __init__(self, tokens: np.ndarray, batch_size: int, sequence_length: int, seed: int, borders: np.ndarray) -> None:
        """borders: (n,) int64, where the separators stand."""
        super().__init__(tokens, batch_size, sequence_length, seed)
        self.borders = borders
        self.places = starts_apart(borders, sequence_length)
        self.windows_per_epoch = len(self.places)

    def counted(self, starts: np.ndarray) -> np.ndarray:
        """How many of the targets of windows with these starts are of their documents, of the same shape."""
        return np.minimum(_ends(self.borders, starts) - starts, self.sequence_length)

    def _draw_epoch_starts(self, epoch: int) -> np.ndarray:
        return self.places[self._order(numpy_stream(self.seed, "batches", epoch))]


def starts_apart(borders: np.ndarray, sequence_length: int) -> np.ndarray:
    """Where windows start that each lie in one document, in order: (windows,) int64. borders: where the separators stand."""
    n_windows = -(-np.diff(borders) // sequence_length)
    first = np.repeat(borders[:-1], n_windows)
    numbers = np.arange(len(first)) - np.repeat(np.cumsum(n_windows) - n_windows, n_windows)
    return first + sequence_length * numbers


def evaluation_windows(tokens: np.ndarray, part: Slice, sequence_length: int, borders: np.ndarray | None = None) -> np.ndarray:
    """Windows, end to end or, with borders, each in one document, whose targets are the tokens of a slice, each once.

    tokens: (n,), the split as `Tokens.marked` gives it; borders as `Tokens.borders` does. Returns (windows, time + 1) int64
    with time = sequence_length; inputs are [:, :-1], targets [:, 1:]. What a window has outside of the slice, or beyond its
    document, stands as the complement ~t of a token, which no loss counts.
    """
    places = _evaluation_places(part, sequence_length, borders)
    windows = tokens[np.minimum(places, len(tokens) - 1)].astype(np.int64)
    outside = ~targets_of_slice(part, sequence_length, borders)
    windows[:, 1:] = np.where(outside & (windows[:, 1:] >= 0), ~windows[:, 1:], windows[:, 1:])
    return windows


def targets_of_slice(part: Slice, sequence_length: int, borders: np.ndarray | None = None) -> np.ndarray:
    """Which targets of `evaluation_windows` are tokens of the slice, (windows, sequence_length) bool: as many as it has."""
    places = _evaluation_places(part, sequence_length, borders)
    ends = places[:, :1] + sequence_length if borders is None else _ends(borders, places[:, :1])
    targets = places[:, 1:]
    return (targets >= part.first) & (targets < part.end) & (targets <= ends)


def _evaluation_places(part: Slice, sequence_length: int, borders: np.ndarray | None) -> np.ndarray:
    """Where the tokens of the windows stand in the split: (windows, sequence_length + 1)."""
    if borders is None:
        starts = np.arange(part.first - 1, part.end - 1, sequence_length)
    else:
        starts = starts_apart(borders, sequence_length)
        last = np.minimum(starts + sequence_length, _ends(borders, starts))
        starts = starts[(last >= part.first) & (starts + 1 < part.end)]
    return starts[:, None] + np.arange(sequence_length + 1)


def _ends(borders: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The separators after the documents that windows start in."""
    return borders[np.searchsorted(borders, starts, side="right")]


def whole_windows(tokens: np.ndarray, sequence_length: int, n_tokens: int, split: str = "val") -> np.ndarray:
    """The first windows, end to end, that cover `n_tokens` targets, or all whole ones of a shorter split.

    For what is compared within one network, window by window. tokens: (n,). Returns (windows, sequence_length + 1) int64; each
    token after the first is a target once. ConfigError, which names `split`, if there is not one window.
    """
    check_length(split, len(tokens), sequence_length)
    n = min(-(-n_tokens // sequence_length), (len(tokens) - 1) // sequence_length)
    return tokens[sequence_length * np.arange(n)[:, None] + np.arange(sequence_length + 1)].astype(np.int64)


def check_length(split: str, n_tokens: int, sequence_length: int, at_most: bool = False) -> None:
    """ConfigError if a split of so many tokens, or of so many at most, has no room for one window."""
    if n_tokens <= sequence_length:
        n = f"{'at most ' if at_most else ''}{n_tokens:,}"
        raise ConfigError(
            f"training.sequence_length: {sequence_length:,} does not fit the {split} split, which has {n} tokens; "
            f"the largest that fits is {'at most ' if at_most else ''}{max(0, n_tokens - 1):,}."
        )
