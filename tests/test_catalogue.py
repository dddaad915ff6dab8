"""What `gt list` prints and studies can name."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from gt.catalogue import KINDS, Component, components

ALL = [component for kind in KINDS for component in components(kind).values()]


@pytest.mark.parametrize("component", ALL, ids=lambda c: f"{c.kind}-{c.name}")
def test_every_component_says_what_it_computes_where_it_comes_from_and_what_it_has(component: Component) -> None:
    assert component.summary
    assert "=" in component.formula
    assert component.source
    place = (128,) if component.kind == "fusion" else (128, 0, 8)
    with torch.device("meta"):
        module = component.load()(*place)
    assert sum(p.numel() for p in module.parameters()) == component.parameters


def test_the_command_line_starts_without_torch_and_mlflow() -> None:
    code = (
        "import sys, gt.cli, gt.study, gt.catalogue; gt.study.load_study('config/studies/smoke.yaml').plan();"
        "gt.cli.main(['list']); print([m for m in ('torch', 'mlflow', 'pandas', 'fla', 'triton') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
    assert "gated" in result.stdout


def test_training_on_a_cpu_imports_no_gpu_package() -> None:
    modules = ("fla", "triton", "mamba_ssm")
    code = f"import sys, gt.training.loop, gt.evals.language; print([m for m in {modules} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
