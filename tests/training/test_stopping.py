"""SIGTERM while a run is trained: it is saved, ends as killed, and goes on to the same bits."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from corpus import words
from runs import run_spec

from gt.artefacts import read_manifest
from gt.attempts import of_run
from gt.records import WEIGHTS
from gt.training import checkpoint
from gt.training.loop import Job, Settings, train
from gt.training.packs import train_pack
from gt.training.stopping import STOPPED, deferred

# No checkpoint but the one that SIGTERM asks for.
SETTINGS = Settings(torch.device("cpu"), checkpoint_seconds=3600.0)
SPEC = run_spec(steps=40, evaluate_every=10)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return words(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def unharmed() -> Iterator[None]:
    """A signal that comes too late ends a test, and not the tests."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGTERM, before)


@contextmanager
def terminating(file: Path) -> Iterator[None]:
    """Send SIGTERM to this process again and again, once there is a file."""
    over = threading.Event()

    def send() -> None:
        while not over.wait(0.01):
            if file.exists():
                os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("packed", [False, True])
def test_what_is_trained_is_saved_and_goes_on_to_the_same_bits(data: Path, tmp_path: Path, packed: bool) -> None:
    def run(name: str) -> None:
        job, checkpoints = Job(SPEC, data, tmp_path / name / "run"), tmp_path / name / "checkpoints"
        if packed:
            assert [status for _, status in train_pack([job], set(), checkpoints, SETTINGS)] == ["completed"]
        else:
            train(job, checkpoints / SPEC.run_id, SETTINGS)

    run("whole")
    with pytest.raises(SystemExit) as stop, terminating(tmp_path / "stopped/attempts" / SPEC.run_id):
        run("stopped")
    assert stop.value.code == STOPPED == 143
    (attempt,) = of_run(tmp_path / "stopped/attempts", SPEC.run_id)
    assert attempt.outcome is None, "it has not failed"
    assert (tmp_path / "stopped/checkpoints" / SPEC.run_id / checkpoint.FILE).exists()
    run("stopped")
    (step,) = read_manifest(tmp_path / "stopped/run").resumed_from
    assert 0 <= step < SPEC.training.steps
    assert (tmp_path / "stopped/run" / WEIGHTS).read_bytes() == (tmp_path / "whole/run" / WEIGHTS).read_bytes()
    assert not (tmp_path / "stopped/checkpoints" / SPEC.run_id).exists()


def test_outside_of_training_the_signal_is_what_it_was() -> None:
    with deferred() as stopped:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopped()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


def test_another_thread_trains_without_it() -> None:
    heard = []

    def train_there() -> None:
        with deferred() as stopped:
            heard.append(stopped())

    thread = threading.Thread(target=train_there)
    thread.start()
    thread.join()
    assert heard == [False]
