"""Which GPU a job takes: with real locks and real processes, on a machine that need not have one."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from gt import devices

# Claims a device, says which, and keeps it until its input ends.
JOB = """
import os, sys
from pathlib import Path
from gt.devices import claim
print(claim(Path(sys.argv[1])), os.environ.get("CUDA_VISIBLE_DEVICES"), "torch" in sys.modules, flush=True)
sys.stdin.read()
"""


class Machine:
    """A machine whose `nvidia-smi` reports so many GPUs, and the jobs on it."""

    def __init__(self, folder: Path, n_gpus: int) -> None:
        self.places = folder / "places"
        self.jobs: list[subprocess.Popen[str]] = []
        tool = folder / "nvidia-smi"
        listing = "".join(f"GPU {i}: Test (UUID: GPU-{i})\\n  MIG 1g.10gb Device 0\\n" for i in range(n_gpus))
        tool.write_text(f"#!/bin/sh\nprintf '{listing}'\n")
        tool.chmod(0o755)
        self.environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
        self.environment.pop("CUDA_VISIBLE_DEVICES", None)

    def start(self, visible: str | None = None) -> subprocess.Popen[str]:
        """A job that has begun to claim a device."""
        environment = self.environment | ({"CUDA_VISIBLE_DEVICES": visible} if visible is not None else {})
        job = subprocess.Popen(
            [sys.executable, "-c", JOB, str(self.places)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.jobs.append(job)
        return job

    def claim(self, visible: str | None = None) -> str:
        """The device of a new job."""
        return claimed(self.start(visible))


def claimed(job: subprocess.Popen[str]) -> str:
    assert job.stdout is not None
    device, alone_visible, torch = job.stdout.readline().split()
    assert device == alone_visible
    assert torch == "False"
    return device


@pytest.fixture
def machine(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Machine]:
    machine = Machine(tmp_path, request.param)
    yield machine
    for job in machine.jobs:
        job.kill()
        job.communicate()


@pytest.mark.parametrize("machine", [3], indirect=True)
def test_jobs_that_start_together_share_a_device_only_when_all_are_taken(machine: Machine) -> None:
    jobs = [machine.start() for _ in range(7)]
    assert sorted(Counter(map(claimed, jobs)).values()) == [2, 2, 3]


@pytest.mark.parametrize("machine", [2], indirect=True)
def test_the_device_of_a_killed_job_is_free(machine: Machine) -> None:
    first = machine.start()
    assert (claimed(first), machine.claim()) == ("0", "1")
    first.kill()
    first.wait()
    assert machine.claim() == "0"


@pytest.mark.parametrize("machine", [8], indirect=True)
def test_a_list_in_the_environment_restricts_the_choice(machine: Machine) -> None:
    assert [machine.claim("5,2") for _ in range(3)] == ["5", "2", "5"]
    assert machine.claim() == "0"


@pytest.mark.parametrize("machine", [2], indirect=True)
def test_a_single_device_in_the_environment_is_taken_as_it_is(machine: Machine) -> None:
    assert [machine.claim("GPU-af05") for _ in range(2)] == ["GPU-af05", "GPU-af05"]
    assert not machine.places.exists()


@pytest.mark.parametrize("hidden", ["", "-1", "-1,0"])
def test_hidden_devices_are_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hidden: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert devices.visible() == []
    assert devices.claim(tmp_path) is None
    assert os.environ["CUDA_VISIBLE_DEVICES"] == hidden


@pytest.mark.parametrize("machine", [2], indirect=True)
def test_other_users_may_open_and_add_places(machine: Machine) -> None:
    machine.claim()
    assert stat.S_IMODE(machine.places.stat().st_mode) == 0o1777
    assert {stat.S_IMODE(file.stat().st_mode) for file in machine.places.iterdir()} == {0o644}


@pytest.mark.parametrize("machine", [2], indirect=True)
@pytest.mark.parametrize("kind", ["closed folder", "file", "link"])
def test_a_place_that_not_all_may_add_to_is_not_used(machine: Machine, kind: str) -> None:
    """As another user may leave it, on purpose or not."""
    machine.places.parent.joinpath("elsewhere").mkdir(mode=0o755)
    if kind == "closed folder":
        machine.places.mkdir(mode=0o755)
    elif kind == "file":
        machine.places.touch()
    else:
        machine.places.symlink_to("elsewhere")
    assert [machine.claim() for _ in range(3)] == ["0", "1", "0"]
    own = machine.places.with_name(f"places-{os.getuid()}")
    assert sorted(file.name for file in own.iterdir()) == ["0.0", "0.1", "1.0"]
    assert not list(machine.places.parent.joinpath("elsewhere").iterdir())


@pytest.mark.parametrize("machine", [2], indirect=True)
def test_a_place_that_nobody_can_open_is_taken(machine: Machine) -> None:
    machine.places.mkdir()
    machine.places.chmod(0o1777)
    (machine.places / "0.0").symlink_to("nowhere")
    assert machine.claim() == "1"
