"""Packages of others, imported for comparison."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import gt.ops.ssd  # noqa: F401 -- enters its backends
from gt.ops.backend import implementation

NAME = "selective_scan_cuda"


@pytest.fixture
def mamba_ssm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path with a `mamba_ssm` that wants the compiled module of Mamba-1, as the real one does."""
    package = tmp_path / "mamba_ssm/ops/triton"
    package.mkdir(parents=True)
    (tmp_path / "mamba_ssm/__init__.py").write_text(f"import {NAME}")
    (package / "ssd_combined.py").write_text(f"import {NAME} as wanted\n\ndef mamba_chunk_scan_combined(): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] in ("mamba_ssm", NAME)]:
        del sys.modules[name]


def test_mamba_ssm_is_imported_without_its_compiled_module_and_leaves_none_behind(mamba_ssm: Path) -> None:
    implementation("ssd", "mamba_ssm")
    assert NAME not in sys.modules
    assert find_spec(NAME) is None


def test_the_compiled_module_is_imported_where_there_is_one(mamba_ssm: Path) -> None:
    (mamba_ssm / f"{NAME}.py").write_text("compiled = True")
    implementation("ssd", "mamba_ssm")
    assert sys.modules["mamba_ssm.ops.triton.ssd_combined"].wanted.compiled
