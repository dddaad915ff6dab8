"""Copies of the repository in which a tiny study runs, for the tests of the workflow."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from compileall import compile_dir
from copy import copy
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Any, Self

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


def write_text(file: Path) -> None:
    """The text of the tiny study."""
    file.write_text(" ".join(np.random.default_rng(0).choice(["one", "two", "three", "four"], 3000)))


class Checkout:
    """A copy of the repository in which a study may be changed and run."""

    @classmethod
    def there(cls, folder: Path) -> Self:
        """One that was made before."""
        own = cls.__new__(cls)
        own.folder = folder
        return own

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for part in ("workflow", "config", "report_templates", "gt", "gt_upstream"):
            # With its bytecode, but for what another process is about to write of it.
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("*.pyc.*"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        write_text(folder / "text.txt")

    def study(self, **changes: Any) -> None:
        (self.folder / "config/studies/tiny.yaml").write_text(yaml.safe_dump({**TINY, **changes}))

    def compile(self) -> None:
        """Have the code at hand as bytecode that goes by contents, so that copies without times need not compile it again."""
        for package in ("gt", "gt_upstream"):
            compile_dir(self.folder / package, quiet=1, invalidation_mode=PycInvalidationMode.CHECKED_HASH)

    def break_mamba2(self) -> None:
        """Have Mamba-2 fail wherever it is run, with the words `broken on purpose`."""
        with (self.folder / "gt/models/mixers/mamba2.py").open("a", encoding="utf-8") as file:
            file.write(
                '\n\ndef _broken(*_, **__):\n    raise RuntimeError("broken on purpose")\n\n\nMamba2.forward = _broken\n'
            )

    def copy(self, folder: Path) -> Self:
        """The same in another folder, with the files' times."""
        shutil.copytree(self.folder, folder, symlinks=True, dirs_exist_ok=True)
        other = copy(self)
        other.folder = folder
        return other

    def call(
        self,
        *arguments: str,
        study: str = "tiny",
        python: str | Path = sys.executable,
        variables: dict[str, str] | None = None,
        **settings: Any,
    ) -> dict[str, Any]:
        """A call of Snakemake in the environment of `python`, with further environment variables, as `subprocess` takes it."""
        config = [f"{key}={value}" for key, value in {"study": study, **settings}.items()]
        command = [str(python), "-m", "snakemake", "--cores", "2", "--config", *config, *arguments]
        # No conda on the path, whatever this machine has; jobs find the Python that Snakemake runs in.
        environment = {**os.environ, "PATH": "/usr/bin:/bin", "MLFLOW_DISABLE_TELEMETRY": "true", **(variables or {})}
        return {"args": command, "cwd": self.folder, "env": environment, "text": True}

    def snakemake(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Such a call, to its end."""
        return subprocess.run(**self.call(*arguments, **options), capture_output=True, check=False)

    def planned(self, *arguments: str, **settings: Any) -> dict[str, int]:
        """How many jobs of which rule a call would run."""
        result = self.snakemake("-n", *arguments, **settings)
        assert result.returncode == 0, result.stderr[-3000:]
        counts = {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", result.stdout, re.MULTILINE)}
        return {rule: n for rule, n in counts.items() if rule not in ("all", "total")}

    def finished_at(self) -> dict[str, int]:
        """When each run's manifest was written."""
        return {f.parent.name: f.stat().st_mtime_ns for f in self.folder.glob("results/runs/*/manifest.json")}
