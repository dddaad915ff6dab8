"""Whatever a shipped variant has can be looked into: each measure has a registered name, and each number is one."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from probed import by_name, small_text, written
from variants import covering, tiny

from gt.artefacts import read_probes
from gt.probes.probe import probe
from gt.registry import metric


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_text(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("name", covering())
def test_a_variant_is_probed(name: str, data: Path, tmp_path: Path) -> None:
    run = written(tmp_path, data, tiny(name))
    probe(run, data, torch.device("cpu"))
    measures = by_name(read_probes(run).measurements)
    assert {"ablation/intact", "variance/residual", "softmax/entropy", "initial/softmax/entropy"} <= set(measures)
    for key, measure in measures.items():
        metric(key)
        numbers = [measure["value"], *measure["layers"].values()]
        assert all(value is None or math.isfinite(value) for value in numbers)
    assert measures["forward/finite"]["value"] == 1
    assert measures["state/size_ratio"]["value"] in (1, None)
