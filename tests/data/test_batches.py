"""Batches: every window once an epoch, the same for every model, in any order of asking.

The tokens are 0, 1, 2, ..., so that a batch shows the positions that it was taken from.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gt.data.batches import Batches, Tracks, evaluation_windows, whole_windows
from gt.data.slices import Slice
from gt.errors import ConfigError

SHAPES = {
    "n": st.integers(2, 400),
    "length": st.integers(1, 40),
    "size": st.integers(1, 9),
    "seed": st.integers(0, 99),
}


@given(**SHAPES)
def test_an_epoch_is_all_windows_once_end_to_end_from_a_random_phase(n, length, size, seed):
    if n <= length:
        return
    batches = Batches(np.arange(n, dtype=np.uint16), size, length, seed)
    windows = batches.windows_per_epoch
    seen = np.concatenate([batches.batch(step) for step in range(-(-3 * windows // size))])
    for epoch in range(3):
        of_epoch = seen[epoch * windows : (epoch + 1) * windows]
        starts = np.sort(of_epoch[:, 0])
        assert np.array_equal(of_epoch, of_epoch[:, :1] + np.arange(length + 1))  # text as it stands
        assert np.array_equal(np.diff(starts), np.full(windows - 1, length))  # end to end, none twice
        assert starts[0] < 2 * length and starts[-1] + length < n
    assert seen.dtype == np.int64 and seen.shape[1] == length + 1
    assert n - 1 - windows * length < 2 * length  # what an epoch leaves out is less than two windows


@given(**SHAPES)
def test_a_track_is_read_in_order_and_the_tracks_of_an_epoch_are_end_to_end(n, length, size, seed):
    if n // length - 1 < size or n <= length:
        return
    batches = Tracks(np.arange(n, dtype=np.uint16), size, length, seed)
    steps = batches.steps_per_epoch
    for epoch in range(3):
        seen = [batches.batch(epoch * steps + i) for i in range(steps)]
        assert [batches.goes_on(epoch * steps + i) for i in range(steps)] == [False] + [True] * (steps - 1)
        tracks = np.concatenate([seen[0], *(batch[:, 1:] for batch in seen[1:])], axis=1)
        first = steps * length * np.arange(size)[:, None]
        assert np.array_equal(tracks, tracks[0, 0] + first + np.arange(steps * length + 1))
        assert tracks.max() < n
    assert n - 1 - steps * size * length < (size + 1) * length  # what an epoch leaves out: less than a window a track and one


@given(**SHAPES, step=st.integers(0, 10**12))
def test_a_batch_depends_on_seed_and_step_alone(n, length, size, seed, step):
    if n <= length:
        return
    tokens = np.arange(n)
    asked_before = Batches(tokens, size, length, seed)
    for other in (7, step + 1, 0):
        asked_before.batch(other)
    batch = asked_before.batch(step)
    assert np.array_equal(batch, Batches(tokens, size, length, seed).batch(step)) and batch.shape == (
        size,
        length + 1,
    )


def test_seeds_and_epochs_have_orders_and_phases_of_their_own():
    tokens = np.arange(10_000)
    firsts = {seed: Batches(tokens, 99, 100, seed).batch(0)[:, 0] for seed in range(5)}
    assert len({tuple(starts) for starts in firsts.values()}) == 5
    batches = Batches(tokens, 99, 100, 0)
    assert batches.windows_per_epoch == 99
    phases = [batches.batch(epoch)[:, 0].min() for epoch in range(20)]
    assert len(set(phases)) > 10
    assert not np.array_equal(np.argsort(batches.batch(0)[:, 0]), np.argsort(batches.batch(1)[:, 0]))


def test_every_token_is_a_target_in_some_epoch():
    batches = Batches(np.arange(1000), 10, 30, seed=0)
    targets = np.concatenate([batches.batch(step)[:, 1:].ravel() for step in range(1000)])
    assert set(targets) == set(range(1, 1000))


def test_the_order_is_the_one_it_has_always_been():
    """A change here changes every result: it needs a reason."""
    assert Batches(np.arange(100), 4, 10, seed=0).batch(5)[:, 0].tolist() == [10, 80, 70, 0]


@given(n=st.integers(2, 400), length=st.integers(1, 40), wanted=st.integers(1, 500))
def test_whole_windows_are_on_the_first_tokens_each_once(n, length, wanted):
    if n <= length:
        return
    windows = whole_windows(np.arange(n, dtype=np.uint16), length, wanted)
    targets = windows[:, 1:].ravel()
    assert np.array_equal(targets, np.arange(1, targets.size + 1))
    assert np.array_equal(windows[:, 1:] - 1, windows[:, :-1])
    assert targets.size - length < wanted or len(windows) == 1
    assert targets.size >= min(wanted, n - length) and windows.dtype == np.int64


@given(n=st.integers(2, 400), length=st.integers(1, 600), first=st.integers(1, 399), size=st.integers(1, 399))
def test_the_targets_that_count_are_the_tokens_of_the_slice_also_where_no_whole_window_fits(n, length, first, size):
    first = min(first, n - 1)
    end = min(n, first + size)
    tokens = np.arange(n, dtype=np.uint16)
    windows = evaluation_windows(tokens, Slice(first, end, 0, 0), length)
    targets = windows[:, 1:]
    assert targets[targets >= 0].tolist() == list(range(first, end))
    read = np.where(windows < 0, ~windows, windows)[:, :-1]
    assert np.array_equal(read[targets >= 0], np.arange(first - 1, end - 1))  # each is predicted from the token before it
    assert windows.shape == (-(-(end - first) // length), length + 1) and windows.dtype == np.int64


def test_a_target_that_does_not_count_stays_one_that_does_not():
    marked = np.array([~5, 6, ~7, 8, ~9, 4], dtype=np.int32)
    assert evaluation_windows(marked, Slice(1, 5, 0, 0), 3).tolist() == [[~5, 6, ~7, 8], [8, ~9, ~4, ~4]]


def test_a_split_that_is_too_short_is_named_with_what_would_fit():
    with pytest.raises(ConfigError, match=r"length: 64 .*train split.* 64 tokens; the largest that fits is 63\."):
        Batches(np.arange(64), 2, 64, seed=0)
    with pytest.raises(ConfigError, match=r"test split.* 0 tokens; the largest that fits is 0\."):
        whole_windows(np.arange(0), 8, 100, "test")
    Batches(np.arange(65), 2, 64, seed=0).batch(3)
