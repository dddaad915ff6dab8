"""probes.json: what it says of its run, that it is the same again, and which records it is refused for."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import records
import torch
from probed import by_name, small_text, written
from records import edit
from variants import tiny

from gt.artefacts import read_manifest, read_probes, read_run
from gt.cli import main
from gt.errors import ConfigError
from gt.fingerprint import code_of_probes
from gt.probes.probe import probe
from gt.probes.trajectory import from_curves, utilisation

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_text(tmp_path_factory.mktemp("data"))


@pytest.fixture
def run(tmp_path: Path, data: Path) -> Path:
    return written(tmp_path, data, tiny("GF-MH"))


def test_a_record_says_whose_it_is_and_what_code_made_it(run: Path, data: Path) -> None:
    probe(run, data, CPU)
    found = json.loads((run / "probes.json").read_text())
    assert found["run_id"] == run.name
    assert found["code"] == code_of_probes(read_run(run)[0])
    assert found["weights"] == json.loads((run / "manifest.json").read_text())["files"]["model.safetensors"]["sha256"]
    measures = by_name(read_probes(run).measurements)
    assert measures["initial/gate/mean"]["value"] == pytest.approx(0.3, abs=1e-6)
    assert measures["gradient/curve_ratio"]["value"] == 1


def test_probing_twice_gives_the_same_but_for_the_time(run: Path, data: Path) -> None:
    found = []
    for _ in range(2):
        probe(run, data, CPU)
        found.append(read_probes(run).model_copy(update={"measured": None}))
    assert found[0] == found[1]


@pytest.mark.parametrize("model", [{}, {"norm": "layer"}, {"norm_position": "post"}])
def test_a_run_in_bfloat16_is_probed_in_it(model: dict[str, str], data: Path, tmp_path: Path) -> None:
    run = written(tmp_path, data, tiny("GF-MH", **model), precision="bfloat16")
    probe(run, data, CPU)
    measures = by_name(read_probes(run).measurements)
    assert measures["forward/finite"]["value"] == 1
    assert measures["initial/gate/mean"]["value"] == pytest.approx(0.3, abs=2e-3)  # bfloat16 has 8 digits of two


def test_a_run_that_diverged_has_no_measures(run: Path, data: Path) -> None:
    edit(run / "manifest.json", status="diverged")
    probe(run, data, CPU)
    assert read_probes(run).measurements == []


def test_a_run_without_weights_is_refused(run: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "model.safetensors").unlink()
    assert main(["probe", "--run", str(run), "--data", str(data), "--device", "cpu"]) == 2
    assert "has no weights" in capsys.readouterr().err


def test_a_run_of_other_code_is_refused(run: Path, data: Path) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    edit(run / "manifest.json", code={**manifest["code"], "gt.models.lm": "0" * 16})
    with pytest.raises(ConfigError, match=r"another version of the model \(gt\.models\.lm changed\)"):
        probe(run, data, CPU)


def test_a_run_of_other_data_is_refused(run: Path, data: Path) -> None:
    edit(run / "manifest.json", data_sha256="0" * 64)
    with pytest.raises(ConfigError, match="other data"):
        probe(run, data, CPU)


def test_curves_are_read_by_their_branches(tmp_path: Path) -> None:
    """R/M is 0.5 at the end, under a gate of 1/3 whose odds are 1/2; a quarter of the fall came in the second half."""
    nothing = float("nan")
    curves = {
        "step": [0, 1, 50, 100],
        "grad_norm": [nothing, 3.0, 2.0, 1.0],
        "grad_norm/mixers.m": [nothing, 1.0, 1.0, 2.0],
        "grad_norm/mixers.r": [nothing, 1.0, 1.0, 1.0],
        "grad_cosine/mixers.r": [nothing, 0.0, 0.2, 0.4],
        "update_ratio/mixers.r": [nothing, 0.5, 0.3, 0.1],
        "gate/mean": [0.3, nothing, nothing, 1 / 3],
        "gate/layer_0": [0.4, nothing, nothing, 0.2],
        "train/loss": [nothing, 4.0, 2.5, 2.0],
        "val/loss": [4.0, nothing, 2.5, 2.0],
    }
    pd.DataFrame(curves).to_parquet(tmp_path / "curves.parquet")
    measures = by_name(from_curves(tmp_path, ["r", "m"]))
    values = {name: measure["value"] for name, measure in measures.items()}
    assert values["gradient/curve_ratio"] == 0.5
    assert values["gradient/curve_odds_corrected_ratio"] == pytest.approx(1, rel=1e-5)
    assert values["gradient/smoothness/mixers.r"] == pytest.approx(0.3)
    assert values["gradient/update_ratio/mixers.r"] == 0.1
    assert values["gate/drift"] == pytest.approx(1 / 30, rel=1e-4)
    assert measures["gate/drift"]["layers"]["0"] == pytest.approx(-0.2)
    assert values["curve/loss_ratio"] == 0.5
    assert values["flag/second_half"] == 0.25
    assert values["flag/generalisation_gap"] == 0


def test_utilisation_is_of_a_known_card(tmp_path: Path) -> None:
    plan = records.plan(seeds=1, variants={"GPT-2": 0.0}, tokenizers=("char",))
    records.write_runs(plan, tmp_path)
    manifest = read_manifest(tmp_path / next(iter(plan["runs"])))
    fast = {"device": "cuda (NVIDIA H100 80GB HBM3)", "flops_per_token": 10**9, "tokens_per_second": 98_900.0}
    assert [own.value for own in utilisation(manifest.model_copy(update=fast))] == [pytest.approx(0.3)]
    assert list(utilisation(manifest)) == []
