"""A run on two nodes of a real Slurm is the run of one process: by torchrun, with the script of docs/howto/cluster.md."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import records
import torch
from checkouts import ROOT
from cluster.slurm import Cluster
from corpus import words
from runs import run_spec
from safetensors.torch import load_file

from gt.artefacts import read_run, write

pytestmark = pytest.mark.cluster
PAGE = ROOT / "docs/howto/cluster.md"


def test_a_run_on_two_nodes_is_the_run_of_one_process(slurm: Cluster, tmp_path: Path) -> None:
    """In float32: the sums of a gradient are the same terms in another order, which five small steps do not blow up."""
    spec = run_spec(steps=5, optimizer="sgd")
    data = words(tmp_path)
    write(tmp_path / "plan.json", records.of_runs([spec]))
    (script,) = re.findall(r"```bash\n(#!.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "train.sh").write_text(script)
    sbatch = ["sbatch", "--wait", "--nodes=2", "--cpus-per-task=2", "--mem=2000", "--output=log.txt", "train.sh"]
    launchers = {
        "one": [sys.executable, "-m", "gt", "train"],
        "two": slurm.inside(*sbatch, folder=tmp_path),
    }
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    for name, launcher in launchers.items():
        paths = {"plan": "plan.json", "data": data, "out": name, "checkpoints": f"{name}-c", "attempts": f"{name}-a"}
        options = [text for key, value in paths.items() for text in (f"--{key}", str(value))]
        command = [*launcher, "--run", spec.run_id, *options, "--device", "cpu"]
        result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        log = tmp_path / "log.txt"
        assert result.returncode == 0, log.read_text() if log.exists() else result.stderr
    number = re.search(r"Submitted batch job (\d+)", result.stdout)
    assert number and slurm.jobs()[number[1]]["NodeList"] == "n[1-2]"
    assert [read_run(tmp_path / name)[1].processes for name in launchers] == [1, 2]
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in launchers)
    assert one.keys() == two.keys()
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-5, atol=1e-6)
