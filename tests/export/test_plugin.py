"""A hybrid with a mixer of a project's own is exported with that mixer's code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from exports import elsewhere

from gt.data.tokens import Tokens

ROOT = Path(__file__).parents[2]

MIXERS = '''\
"""Mixers of this laboratory."""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from gt.models.mixers.base import Mixer, State
from gt.options import Options
from mylab.steps import leak


class Average(Mixer):
    """A leaky average.

    Formula: h_t = a h_{t-1} + (1 - a) x_t, y_t = W h_t
    Source: nobody
    Parameters: 16,384 at d_model 128
    """

    name: ClassVar[str] = "average"
    axes: ClassVar[tuple[str, ...]] = ("batch", "channel")

    class Config(Options):
        a: float = Field(0.5, gt=0, lt=1, description="what is kept a token")

    def build(self, config: Config) -> None:
        self.a = config.a
        self.output = nn.Linear(self.d_model, self.d_model, bias=False)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        h = torch.zeros_like(x[:, 0]) if state is None else state.memory
        states = []
        for x_t in x.unbind(1):
            h = leak(h, x_t, self.a)
            states.append(h)
        return self.output(torch.stack(states, dim=1)), State(h)


class Unused(Average):
    """Not in the model."""
'''
STEPS = '''\
def leak(h, x, a):
    return a * h + (1 - a) * x


def other():
    """Not used."""
'''
EXPORT = """
import sys
from pathlib import Path
import torch
from runs import HYBRID, run_spec
from gt.export.folder import export
from gt.training.loop import Job, Settings, train

data, out = map(Path, sys.argv[1:])
mixers = {"r": {"name": "average", "a": 0.25}, "m": HYBRID["mixers"]["m"]}
spec = run_spec({**HYBRID, "mixers": mixers}, steps=2, evaluate_every=2)
train(Job(spec, data, Path("run")), Path("checkpoints"), Settings(torch.device("cpu"), 1e9))
export(Path("run"), data, "transformers", out)
from gt.training.weights import load_model
tokens = torch.tensor([[1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3]])
torch.save(load_model(Path("run"), torch.device("cpu"))(tokens)[0].detach(), "logits.pt")
"""


def test_its_code_goes_along(data: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "mylab").mkdir(parents=True)
    (project / "pyproject.toml").write_text('[tool.groundthink]\npackage = "mylab"\n')
    (project / "mylab/__init__.py").write_text("")
    (project / "mylab/mixers.py").write_text(MIXERS)
    (project / "mylab/steps.py").write_text(STEPS)
    command = [sys.executable, "-c", EXPORT, str(data), str(tmp_path / "out")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    result = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr[-3000:]
    code = {file.name: file.read_text() for file in (tmp_path / "out").glob("*.py")}
    assert "class Average(Mixer)" in code["mylab_mixers.py"]
    assert "Unused" not in code["mylab_mixers.py"]
    assert "other" not in code["mylab_steps.py"]
    assert "pydantic" not in "".join(code.values()).replace("neither pydantic", "")
    tokens = torch.tensor([[1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3]])
    text = "".join(chr(ord("a") + i % 8) for i in np.asarray(Tokens.open(data).val[:9], dtype=np.int64))
    found = elsewhere(tmp_path / "out", tmp_path, tokens.repeat(1, 3), text)
    torch.testing.assert_close(torch.tensor(found["logits"])[:, :12], torch.load(project / "logits.pt"), rtol=0, atol=1e-5)
    assert found["going on"] == found["read again"]
