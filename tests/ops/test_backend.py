"""What computes a recurrence, and packages of others, imported for comparison."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from variants import tiny

import gt.ops.ssd  # noqa: F401 -- enters its backends
from gt.ops.backend import asked, implementation, select
from gt.spec import ModelSpec
from gt.training.provenance import backend

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


@pytest.mark.parametrize(
    ("variant", "served"),
    [
        ("GPT-2", set()),
        ("GF", {"wkv6 8x8", "ssd 8x8"}),
        ("Seq-RWKV", {"wkv6 8x8", "ssd 8x8"}),
        ("Towers", {"wkv6 8x8", "ssd 8x8"}),
        ("Mamba-2-bare", {"ssd 8x8"}),
        ("GF-jan10", {"ssd 8x8"}),  # whose RWKV-6 is no recurrence of ours
        ("GF-state-norm", set()),  # position by position
        ("SWKV-reference", {"selective 8x32"}),
    ],
)
def test_a_model_is_served_by_what_its_own_mixers_ask_for(variant: str, served: set[str]) -> None:
    spec = ModelSpec.model_validate(tiny(variant))
    assert backend(spec, 16, torch.device("cpu")) == dict.fromkeys(served, "chunked")


def test_what_a_pass_asks_for_is_heard_by_all_who_listen_and_by_nobody_later() -> None:
    with asked() as outer:
        with asked() as inner:
            select("wkv6", "cpu", False, 8, 8)
        select("ssd", "cpu", False, 4, 8)
    select("selective", "cpu", False, 4, 8)
    assert (inner, outer) == ({("wkv6", 8, 8)}, {("wkv6", 8, 8), ("ssd", 4, 8)})
