"""A study on a real Slurm: its jobs are disturbed in the ways that clusters have, and it ends as its local twin."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from cluster.slurm import Cluster
from faults.compare import differences
from faults.study import CHANGES, Call, Study

from gt.attempts import of_run

pytestmark = pytest.mark.cluster
# The jobs of Slurm that the study takes where nothing happens; without packs they would be 31.
UNDISTURBED = ["corpus", "pack", "pack", "pack", "pack", "tokenize"]
SETTINGS = {"device": "cpu", "pack_size": 2, "measuring_jobs": 1, "checkpoint_seconds": 3600}
PATIENCE = 600


class SlurmStudy(Study):
    """A study of eight runs, which a cluster trains in four packs."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, seeds=2, packed=True)
        self.study(**{**CHANGES, "variants": ["GPT-2", "GF", "RWKV-6", "Mamba-2"], "seeds": 2})

    def send(self, slurm: Cluster, output: Path, *arguments: str, **settings: Any) -> Call:
        """`snakemake` on the login node, as docs/howto/cluster.md has it. No checkpoint but those that SIGTERM asks for."""
        command = [sys.executable, "-m", "snakemake", "--profile", "workflow/profiles/slurm"]
        command += ["--slurm-init-seconds-before-status-checks", "5", *arguments, "--config", "study=tiny"]
        command += [f"{key}={value}" for key, value in {**SETTINGS, **settings}.items()]
        environment = self.call()["env"]
        with output.open("w") as file:
            process = subprocess.Popen(
                slurm.inside(*command, folder=self.folder),
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        return Call(process, output)

    def resumed(self) -> set[str]:
        """The runs that have gone on from a checkpoint."""
        attempts = self.results / "attempts"
        return {
            folder.name
            for folder in attempts.iterdir()
            if any(attempt.resumed_at is not None for attempt in of_run(attempts, folder.name))
        }


class PackProcess:
    """What trains a pack, in a job of Slurm."""

    def __init__(self, process: psutil.Process) -> None:
        self.process, words = process, process.cmdline()
        self.job = process.environ()["SLURM_JOB_ID"]
        first = words.index("--run") + 1
        self.runs = {word for word in words[first : words.index("--data")] if word != "--run"}
        self.log = Path(process.cwd()) / "logs/pack" / f"{Path(words[words.index('--out') + 1]).stem}.log"

    def is_inside_a_run(self) -> bool:
        return re.search(r"step [1-9]\d*/", self.log.read_text()) is not None

    def resume(self) -> None:
        """Let it go on, where no signal of Slurm's has done so: that wakes what gets SIGTERM, some time later."""
        with suppress(psutil.NoSuchProcess):
            self.process.resume()

    def has_sigterm(self) -> bool:
        """Whether SIGTERM waits for it to go on, or was heard already."""
        try:
            pending = Path(f"/proc/{self.process.pid}/status").read_text()
        except FileNotFoundError:
            return True
        found = re.search(r"^ShdPnd:\s*(\w+)", pending, re.MULTILINE)
        return found is not None and bool(int(found[1], 16) >> (signal.SIGTERM - 1) & 1)


def eventually(condition: Callable[[], Any], call: Call) -> Any:
    """What something gives once it is true, while a call runs."""
    until = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert not call.ended(), call.text[-5000:]
        assert time.monotonic() < until, call.text[-5000:]
        time.sleep(0.1)
    return value


def frozen(study: SlurmStudy, call: Call, packs: int) -> dict[str, PackProcess]:
    """What trains so many packs, by its job, each stopped in the middle of a run."""
    held: dict[str, PackProcess] = {}

    def all_of_them() -> bool:
        for process in study.jobs("pack"):
            pack = PackProcess(process)
            if pack.job not in held and pack.is_inside_a_run():
                process.suspend()
                held[pack.job] = pack
        return len(held) == packs

    eventually(all_of_them, call)
    return held


def rules(slurm: Cluster, before: set[str]) -> list[str]:
    """Those of the jobs that Slurm got from Snakemake, which says them in a comment, but for some earlier ones."""
    comments = [job.get("Comment", "") for number, job in slurm.jobs().items() if number not in before]
    return sorted(found[1] for comment in comments if (found := re.match(r"rule_([a-z]+)_", comment)))


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> SlurmStudy:
    """The same study, trained on this machine without a scheduler."""
    folder = tmp_path_factory.mktemp("twin")
    study = SlurmStudy(folder / "study")
    call = study.start(folder / "output.txt")
    assert call.end() == 0, call.text[-5000:]
    return study


def lacking_a_run(twin: SlurmStudy, folder: Path) -> tuple[SlurmStudy, str]:
    """A copy of the finished study that has lost the record of a run, which is then in a pack alone; and the run."""
    study = twin.copy(folder)
    assert isinstance(study, SlurmStudy)
    record = min((study.results / "runs").iterdir())
    shutil.rmtree(record)
    shutil.rmtree(study.folder / "logs")
    return study, record.name


def test_a_disturbed_study_ends_as_its_local_twin(slurm: Cluster, twin: SlurmStudy, tmp_path: Path) -> None:
    """Of four packs one is preempted, one meets its time limit, one is cancelled, and the process of one is killed."""
    study, before = SlurmStudy(tmp_path / "study"), set(slurm.jobs())
    call = study.send(slurm, tmp_path / "output.txt")
    held = frozen(study, call, 4)

    # Slurm chooses which of the packs it takes back.
    slurm.call("sbatch", "--partition=urgent", "--output=/dev/null", "--mem=100", "--wrap=true")
    (preempted,) = eventually(lambda: {n for n in held if slurm.jobs()[n].get("PreemptTime", "None") != "None"}, call)
    held[preempted].resume()
    late, cancelled, killed = sorted(held.keys() - {preempted})
    # The profile asks for SIGTERM two minutes before the limit, and less are left of this one.
    hours, minutes, _ = map(int, slurm.jobs()[late]["RunTime"].split(":"))
    slurm.call("scontrol", "update", f"JobId={late}", f"TimeLimit={hours * 60 + minutes + 2}")
    slurm.call("scancel", cancelled)
    held[killed].process.kill()
    eventually(held[late].has_sigterm, call)
    held[late].resume()

    assert call.end() == 0, call.text[-5000:]
    assert differences(twin, study) == []
    # The two that were asked to end had saved.
    assert study.resumed() & held[late].runs
    assert study.resumed() & held[preempted].runs
    assert not study.resumed() & held[killed].runs
    # Each is reported, and sent once more.
    assert slurm.jobs()[cancelled]["JobState"] == "CANCELLED"
    for number in held:
        assert f"SLURM-job '{number}' failed" in call.text
    assert call.text.count("Trying to restart job") == 4
    assert rules(slurm, before) == sorted([*UNDISTURBED, *["pack"] * 4])


def test_a_pack_whose_node_fails_goes_on_on_the_other(slurm: Cluster, twin: SlurmStudy, tmp_path: Path) -> None:
    study, run = lacking_a_run(twin, tmp_path / "study")
    call = study.send(slurm, tmp_path / "output.txt", checkpoint_seconds=0.01)
    (job,) = frozen(study, call, 1)
    node = slurm.jobs()[job]["NodeList"]
    with slurm.without(node):
        assert call.end() == 0, call.text[-5000:]
        assert slurm.jobs()[job]["NodeList"] != node
    assert differences(twin, study) == []
    # Slurm has sent it again, and not Snakemake; the ledger has the attempt that the node took with it.
    assert slurm.jobs()[job]["Restarts"] == "1"
    lost, last = of_run(study.results / "attempts", run)[-2:]
    assert (lost.outcome, last.outcome) == (None, "completed")
    assert last.resumed_at is not None


def test_what_a_job_asks_for_is_decided_by_the_configuration(slurm: Cluster, twin: SlurmStudy, tmp_path: Path) -> None:
    """The login node has no GPU. The nodes' are none that torch can use, which is what the job's log has to say."""
    study, _ = lacking_a_run(twin, tmp_path / "study")
    before = set(slurm.jobs())
    call = study.send(slurm, tmp_path / "output.txt", "--retries", "0", "--until", "pack", device="cuda")
    assert call.end() == 1, call.text[-5000:]
    (job,) = (job for number, job in slurm.jobs().items() if number not in before)
    assert job["TresPerJob"] == "gres:gpu:1"
    (log,) = (study.folder / "logs/pack").iterdir()
    assert "this machine has no usable GPU" in log.read_text()
