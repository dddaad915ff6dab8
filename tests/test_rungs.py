"""A ladder in a study's file: its rungs, the learning rate at each, and what of it is refused before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ladders as sizes
import pytest
from ladders import WIDTHS

from gt.artefacts import read_plan
from gt.cli import main
from gt.errors import ConfigError
from gt.study import dumps

SCALES = {"model": {"feed_forward": {"name": "mlp"}}, "factors": {}, "also": []}


def rates(folder: Path, **changes: Any) -> dict[str, float]:
    plan = sizes.read(folder, **changes).plan()
    return {cell.id.removeprefix("GPT-2.embedded.char."): plan.spec(cell).training.learning_rate for cell in plan.cells}


@pytest.mark.parametrize(("rule", "power"), [("constant", 0.0), ("1/width", -1.0), ("1/sqrt(width)", -0.5)])
def test_the_rate_goes_on_from_the_first_rung_by_the_rule(tmp_path: Path, rule: str, power: float) -> None:
    found = rates(tmp_path, variants=["GPT-2"], also=[], ladder={"rungs": "model.d_model", "learning_rate": rule})
    assert found == pytest.approx({f"d_model={width}": 3e-4 * (width / 32) ** power for width in WIDTHS})


def test_the_first_rung_is_the_first_that_is_written_and_a_rate_that_varies_is_that_of_the_first_rung(tmp_path: Path) -> None:
    factors = {"model.d_model": [64, 32, 128, 256], "training.learning_rate": [0.001, 0.002]}
    found = rates(tmp_path, variants=["GPT-2"], also=[], factors=factors)
    assert found == pytest.approx(
        {f"d_model={width}.learning_rate={rate}": rate * 64 / width for width in WIDTHS for rate in (0.001, 0.002)}
    )


def test_a_budget_of_the_baseline_has_the_rate_of_its_rung(tmp_path: Path) -> None:
    found = rates(tmp_path, variants=["GPT-2"])
    assert found["d_model=64.steps=50"] == found["d_model=64.steps=200"] == found["d_model=64"] == pytest.approx(1.5e-4)


def test_the_rule_holds_for_runs_that_tune_something_else(tmp_path: Path) -> None:
    space = {"training.weight_decay": {"scale": "linear", "from": 0.0, "to": 0.2, "low": 0.0, "high": 0.2}}
    plan = sizes.read(tmp_path, variants=["GPT-2"], also=[], tune={"space": space, "seeds": [100], "runs": 3}).plan()
    assert {spec.training.weight_decay for spec in plan.runs.values() if spec.seed == 100} == {0.0, 0.1, 0.2}
    for spec in plan.runs.values():
        assert spec.training.learning_rate == pytest.approx(3e-4 * 32 / spec.model.d_model)


def test_named_sizes_are_rungs(tmp_path: Path) -> None:
    scales = ["tiny", "4M", "5M", "8M"]
    found = rates(tmp_path, **SCALES, variants=["GPT-2"], scales=scales, ladder={"learning_rate": "1/width"})
    widths = {"tiny": 64, "4M": 144, "5M": 160, "8M": 192}
    assert found == pytest.approx({f"scale={name}": 3e-4 * 64 / width for name, width in widths.items()})


def test_a_plan_keeps_its_ladder_and_one_of_before_there_were_ladders_has_none(tmp_path: Path) -> None:
    plan = sizes.read(tmp_path).plan()
    (tmp_path / "plan.json").write_text(dumps(plan))
    assert read_plan(tmp_path / "plan.json").ladder == plan.ladder
    document = plan.model_dump(mode="json")
    del document["ladder"]
    assert type(plan).model_validate(document).ladder is None


FEW = "three are fitted at least, and the largest is held out. Write"
# What is changed, and what the message says of it after the file, the line and the key.
REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "two widths": (
        {"factors": {"model.d_model": [32, 64]}, "also": []},
        "ladder",
        f"2 rungs (32, 64) are too few: {FEW} factors: {{model.d_model: [32, 64, 128, 256]}}.",
    ),
    "three widths": (
        {"factors": {"model.d_model": [32, 64, 96]}, "also": []},
        "ladder",
        f"3 rungs (32, 64, 96) are too few: {FEW} factors: {{model.d_model: [32, 64, 96, 192]}}.",
    ),
    "two scales": (
        {**SCALES, "scales": ["tiny", "8M"], "ladder": {"learning_rate": "constant"}},
        "ladder",
        f"2 rungs (tiny, 8M) are too few: {FEW} scales: [tiny, 4M, 5M, 8M].",
    ),
    "no sizes": (
        {"ladder": {"learning_rate": "constant"}},
        "ladder",
        f"no cell has a scale: {FEW} scales: [tiny, 4M, 5M, 8M].",
    ),
    "no rule": ({"ladder": {"rungs": "model.d_model"}}, "ladder.learning_rate", "this key is required."),
    "another rule": (
        {"ladder": {"rungs": "model.d_model", "learning_rate": "2/width"}},
        "ladder.learning_rate",
        "\"2/width\" is not allowed. Did you mean '1/width'? Allowed: 'constant', '1/width', '1/sqrt(width)' or 'tuned'.",
    ),
    "no baseline": (
        {"variants": ["GF"], "also": [{"variants": ["GPT-2"], "factors": {"model.d_model": [32, 64]}}]},
        "ladder",
        "the baseline GPT-2 has no cell at 128, 256.",
    ),
    "rates of two kinds": (
        {"also": [{"variants": [{"variant": "GF", "training": {"learning_rate": 0.01}}], "factors": {"model.d_model": [512]}}]},
        "ladder.learning_rate",
        "1/width goes on from the first rung of GF, with 0.0003, and at 512 the study has 0.01. Leave that out, or write "
        "learning_rate: tuned.",
    ),
    "tuned by nothing": (
        {"ladder": {"rungs": "model.d_model", "learning_rate": "tuned"}, "also": []},
        "ladder.learning_rate",
        "nothing chooses the rate of GPT-2.embedded.char.d_model=32. Write tune: {space: {training.learning_rate: ...}, ...}, "
        "or a rule.",
    ),
    "tuned and a rule": (
        {**sizes.TUNED, "ladder": {"rungs": "model.d_model", "learning_rate": "constant"}},
        "ladder.learning_rate",
        "tune chooses the rate of GPT-2.embedded.char.d_model=32, and constant would. Write: learning_rate: tuned",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_ladder_that_cannot_be_tested_is_refused_by_file_line_and_key(tmp_path: Path, what: str) -> None:
    changes, key, says = REFUSED[what]
    with pytest.raises(ConfigError) as caught:
        sizes.read(tmp_path, **changes).plan()
    where, _, message = str(caught.value).partition(f": {key}: ")
    assert message == says
    file, _, line = where.partition(", line ")
    assert file == str(tmp_path / "sizes.yaml")
    shown = (tmp_path / "sizes.yaml").read_text().splitlines()[int(line) - 1].split(":")[0].strip()
    assert shown in {"ladder", "learning_rate", *key.split(".")}


def test_the_command_line_says_so_and_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config" / "studies").mkdir(parents=True)
    path = tmp_path / "config" / "studies" / "sizes.yaml"
    with pytest.raises(ConfigError):
        sizes.read(tmp_path, factors={"model.d_model": [32, 64]}, also=[]).plan()
    (tmp_path / "sizes.yaml").rename(path)
    assert main(["plan", str(path), "--out", str(tmp_path / "plan.json")]) == 2
    assert "ladder: 2 rungs (32, 64) are too few" in capsys.readouterr().err
    assert not (tmp_path / "plan.json").exists()
