"""The most memory of each of several owners who take turns is its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gt.training import memory
from gt.training.memory import Peak, Resident, peak_of


class Allocator:
    """Of a device, as torch counts: what all owners hold, and the most since it was last reset."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def held(self) -> int:
        return self.now

    def peak(self) -> int:
        return self.most

    def reset(self) -> None:
        self.most = self.now

    def take(self, n: int) -> None:
        self.now += n
        self.most = max(self.most, self.now)


# Of each turn: whose it is, and what it takes, gives back of what it has (a share), and so on.
TURNS = st.lists(st.tuples(st.integers(0, 2), st.lists(st.tuples(st.booleans(), st.integers(0, 100)))), max_size=30)


@given(TURNS)
def test_the_most_of_an_owner_is_the_most_that_it_had_itself(turns: list[tuple[int, list[tuple[bool, int]]]]) -> None:
    device = Allocator()
    owners = [Peak(device) for _ in range(3)]
    has, most = [0, 0, 0], [0, 0, 0]
    for owner, changes in turns:
        with owners[owner].turn():
            for takes, n in changes:
                change = n if takes else -has[owner] * n // 100
                device.take(change)
                has[owner] += change
                most[owner] = max(most[owner], has[owner])
    assert [own.most for own in owners] == most
    assert [own.held for own in owners] == has


def test_a_turn_that_fails_counts() -> None:
    device = Allocator()
    own = Peak(device)
    with pytest.raises(MemoryError), failing(device, own):
        pass
    assert (own.most, own.held) == (7, 3)


@contextmanager
def failing(device: Allocator, own: Peak) -> Iterator[None]:
    with own.turn():
        device.take(7)
        device.take(-4)
        raise MemoryError
    yield


@pytest.mark.skipif(peak_of(torch.device("cpu")) is None, reason="the system does not watch what is resident")
def test_on_a_cpu_the_most_of_a_small_one_after_a_large_one_is_small() -> None:
    large, small = Peak(Resident()), Peak(Resident())
    with large.turn():
        np.ones(300_000_000, dtype=np.uint8)
    with small.turn():
        np.ones(1000, dtype=np.uint8)
    assert large.most - small.most > 250_000_000
    assert small.most > 10_000_000  # all of the process


def test_where_it_cannot_be_watched_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "PROCESS", tmp_path)
    (tmp_path / "clear_refs").touch()
    assert peak_of(torch.device("cpu")) is None
    (tmp_path / "status").write_text("Name:\tpython\n")
    assert peak_of(torch.device("cpu")) is None
    (tmp_path / "status").write_text("Name:\tpython\nVmHWM:\t    1908 kB\n")
    own = peak_of(torch.device("cpu"))
    assert own is not None
    with own.turn():
        pass
    assert own.most == 1908 * 1024
