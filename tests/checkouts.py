"""Copies of the repository in which a tiny study runs, for the tests of the workflow."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

ROOT = Path(__file__).parents[1]

TINY: dict[str, Any] = {
    "title": "Tiny",
    "baseline": "GPT-2",
    "evaluations": ["quantisation"],
    "variants": ["GPT-2", "GF"],
    "corpora": ["file:text.txt"],
    "tokenizers": [{"name": "char"}],
    "seeds": 2,
    "model": {
        "d_model": 16, "n_layer": 1,
        "mixers": {"rwkv6": {"head_size": 8}, "mamba2": {"head_dim": 8, "d_state": 8}, "attention": {"n_head": 2}},
    },
    "training": {
        "steps": 6, "batch_size": 2, "sequence_length": 16, "learning_rate": 0.01, "evaluate_every": 3, "evaluation_tokens": 64,
        "log_every": 1,
    },
}  # fmt: skip


class Checkout:
    """A copy of the repository in which a study may be changed and run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for part in ("workflow", "config", "report_templates", "gt"):
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        words = np.random.default_rng(0).choice(["one", "two", "three", "four"], 3000)
        (folder / "text.txt").write_text(" ".join(words))

    def study(self, **changes: Any) -> None:
        (self.folder / "config/studies/tiny.yaml").write_text(yaml.safe_dump({**TINY, **changes}))

    def copy(self, folder: Path) -> Checkout:
        """The same in another folder, with the files' times."""
        shutil.copytree(self.folder, folder, copy_function=shutil.copy2)
        other = Checkout.__new__(Checkout)
        other.folder = folder
        return other

    def command(self, *arguments: str, study: str = "tiny", **settings: Any) -> list[str]:
        config = [f"{key}={value}" for key, value in {"study": study, **settings}.items()]
        return [sys.executable, "-m", "snakemake", "--cores", "2", "--config", *config, *arguments]

    @property
    def surroundings(self) -> dict[str, Any]:
        """Where a command is run. No conda on the path, whatever this machine has; jobs find Snakemake's Python."""
        return {"cwd": self.folder, "env": {**os.environ, "PATH": "/usr/bin:/bin", "MLFLOW_DISABLE_TELEMETRY": "true"}}

    def snakemake(self, *arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
        command = self.command(*arguments, **settings)
        return subprocess.run(command, capture_output=True, text=True, check=False, **self.surroundings)

    def planned(self, *arguments: str, **settings: Any) -> dict[str, int]:
        """How many jobs of which rule a call would run."""
        result = self.snakemake("-n", *arguments, **settings)
        assert result.returncode == 0, result.stderr[-3000:]
        counts = {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", result.stdout, re.MULTILINE)}
        return {rule: n for rule, n in counts.items() if rule not in ("all", "total")}

    def finished_at(self) -> dict[str, int]:
        """When each run's manifest was written."""
        return {f.parent.name: f.stat().st_mtime_ns for f in self.folder.glob("results/runs/*/manifest.json")}
