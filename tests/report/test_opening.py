"""What a reader is told first: what was run, and what names stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import records
from shared import RATE, make, plan_of_rates, write_run

from gt.analysis.verdicts import overview
from gt.report.formats import paired
from gt.report.models import differences, models_table, names_table
from gt.report.numbers import Results, load
from gt.report.opening import opening, reading, studies_table


@pytest.fixture(scope="module")
def rates(tmp_path_factory: pytest.TempPathFactory) -> Results:
    root = tmp_path_factory.mktemp("rates")
    plan = plan_of_rates()
    for cell in plan["cells"][:6]:
        for seed in cell["runs"]:
            write_run(root / "runs", plan, cell, seed)
    return load(make(root, plan))


def test_names_stand_for_what_the_plan_has(study: Path) -> None:
    rows = {row["models"]: row for row in names_table([load(study)]).rows}
    # In these records HY, GPT-2 and RWKV-6 have the same mixer, of which the baseline has the name; GF-MH and WS are as GF.
    assert set(rows) == {"GPT-2", "GF"}
    assert rows["GF"]["formula"] == "g = sigmoid(w . [r; m] + b), y = g r + (1 - g) m"


def test_names_that_extend_a_models_have_the_options_that_do(tmp_path: Path) -> None:
    plan = records.plan(seeds=1, tokenizers=("char",))
    for cell in plan["cells"]:
        for run in cell["runs"].values():
            if plan["runs"][run]["model"]["fusion"]:
                plan["runs"][run]["model"]["fusion"]["gate_init"] = records.FUSIONS[cell["variant"]]
    rows = [row["models"] for row in names_table([load(make(tmp_path, records.identified(plan)))]).rows]
    assert "GF, GF-MH (gate_init=0.3)" in rows


def spec(model: dict[str, Any], **training: Any) -> dict[str, Any]:
    return {"model": model, "training": training}


def test_models_are_told_by_what_differs() -> None:
    base = {
        "layers": "r+m",
        "mixers": {"r": {"name": "rwkv6", "head_size": 32}, "m": {"name": "mamba2"}},
        "fusion": {"name": "gated", "gate_init": 0.5},
        "wraps": {},
    }
    own = {
        "layers": "r+m",
        "mixers": {"r": {"name": "rwkv6_record", "form": "time_mix"}, "m": {"name": "mamba2"}},
        "fusion": {"name": "gated", "gate_init": 0.3},
        "wraps": {"r": "residual"},
    }
    part = {"learning_rate": 0.5, "warmup": 1.0, "warmup_floor": 0.0, "frozen_steps": 0, "gradient_scale": 1.0}
    found = differences(
        spec(own, learning_rate=0.1, parts={"mixers.m": {**part, "weight_decay": 1.0}}), spec(base, learning_rate=0.2, parts={})
    )
    assert found == (
        "mixer r: rwkv6_record (form=time_mix); fusion: gate_init=0.3; wraps: r=residual; learning rate 0.1; "
        "training of mixers.m (learning_rate=0.5)"
    )
    assert differences(spec({**base, "fusion": None}), spec(base)) == "fusion: none"
    assert differences(spec(base, steps=1), spec(base, steps=1)) == ""


def test_a_model_has_one_row_whatever_settings_change_nothing_of_it(rates: Results) -> None:
    rows = models_table(rates).rows
    assert [(row["label"], row["differs"]) for row in rows if row["variant"] == "GPT-2"] == [("GPT-2", "the baseline")]
    (gf,) = [row for row in rows if row["variant"] == "GF"]
    assert gf["differs"] == "layers r+m; mixer m: mamba2; fusion: gated"
    assert RATE.rsplit(".", 1)[-1].replace("_", " ") not in gf["differs"]


def test_a_study_has_its_runs_its_lowest_mean_and_its_verdicts(study: Path, rates: Results) -> None:
    claims = overview(study.parent / "claims", [study])
    first, second = studies_table([load(study), rates], claims).rows
    assert first["runs"] == "33 of 36"
    assert first["claims"] == "1 supported, 1 opposite, 1 equivalent"
    assert second["lowest"].startswith("GF (learning_rate=0.001): ")
    assert second["contrasts"] == "4 of 4"


def test_only_forms_under_which_something_was_judged_are_told(study: Path) -> None:
    claims = overview(study.parent / "claims", [study])
    blocks = opening([load(study)], claims, {"other": "GF in its place", "unused": "Nothing"})
    told = [pair for block in blocks for pair in getattr(block, "pairs", ())]
    assert told == [("other", "GF in its place.")]


def test_verdicts_of_claims_are_explained_where_there_are_some(study: Path) -> None:
    results = load(study)
    assert "Verdict of a claim" not in dict(reading([results], [], False).pairs)
    assert "below 5 %" in dict(reading([results], overview(study.parent / "claims", [study]), True).pairs)["Verdict of a claim"]


def test_pictures_of_half_a_page_stand_two_by_two() -> None:
    def picture(name: str, wide: bool = False) -> dict[str, Any]:
        return {"kind": "picture", "name": name, "wide": wide}

    inner = {"kind": "section", "blocks": paired([picture("b")])}
    blocks = paired([picture("a"), inner, picture("c"), picture("d", wide=True), {"kind": "text"}])
    assert [own["kind"] for own in blocks] == ["pictures", "pictures", "picture", "text"]
    assert [[own["name"] for own in block["pictures"]] for block in blocks[:2]] == [["a", "b"], ["c"]]
