"""Aggregation of run records whose answers are known."""

from __future__ import annotations

import json
import math
import re
import shutil
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import records
from scipy import stats

from gt.analysis import aggregate as aggregation
from gt.analysis import reading
from gt.analysis.aggregate import aggregate, followed
from gt.analysis.reading import Record
from gt.analysis.versions import versions
from gt.artefacts import read_plan
from gt.errors import ConfigError

HELD_OUT = "evaluations/held_out.json"
FILES = ("runs", "cells", "contrasts", "curves")


def study(root: Path, **options: Any) -> tuple[dict[str, Any], Path, Path]:
    plan = records.plan(**options)
    records.write_runs(plan, root / "runs")
    return plan, root / "runs", root / "out"


def tables(plan: dict[str, Any], runs: Path, out: Path) -> dict[str, pd.DataFrame]:
    aggregate(records.planned(plan), runs, out)
    return {name: pd.read_parquet(out / f"{name}.parquet") for name in FILES}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    return tables(*study(tmp_path_factory.mktemp("whole")))


def test_every_planned_run_is_a_row_with_its_status(whole: dict[str, pd.DataFrame]) -> None:
    runs = whole["runs"]
    assert len(runs) == 6 * 2 * 5
    odd = runs[runs["status"] != "completed"].set_index(["variant", "seed"])
    assert odd["status"].to_dict() == {("WS", 1): "diverged", ("HY", 1): "failed", ("HY", 2): "missing"}
    assert odd.loc[("HY", 1), "reason"] == "OutOfMemoryError: 40 MiB | asked for"
    assert odd.loc[("WS", 1), "reason"] == "loss or gradient not finite at step 120"


def test_a_run_that_did_not_complete_has_no_result(whole: dict[str, pd.DataFrame]) -> None:
    runs = whole["runs"]
    assert runs.loc[runs["status"] != "completed", "val/bits_per_byte"].isna().all()


def test_a_cell_is_the_mean_over_its_completed_seeds(whole: dict[str, pd.DataFrame]) -> None:
    cell = whole["cells"].set_index("cell").loc["WS.embedded.char"]
    values = [records.bits_per_byte("WS", "char", seed) for seed in (0, 2, 3, 4)]
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (cell["planned"], cell["completed"], cell["diverged"]) == (5, 4, 1)
    assert cell["val/bits_per_byte_mean"] == pytest.approx(np.mean(values))
    assert (cell["val/bits_per_byte_lower"], cell["val/bits_per_byte_upper"]) == (pytest.approx(low), pytest.approx(high))


def test_contrasts_are_with_the_baseline_of_the_same_tokenizer_over_common_seeds(whole: dict[str, pd.DataFrame]) -> None:
    contrasts = whole["contrasts"].set_index("cell")
    assert "GPT-2.embedded.char" not in contrasts.index
    row = contrasts.loc["HY.embedded.char"]
    own, other = ([records.bits_per_byte(v, "char", seed) for seed in (0, 3, 4)] for v in ("HY", "GPT-2"))
    assert (row["n"], row["baseline"]) == (3, "GPT-2.embedded.char")
    assert row["p"] == pytest.approx(stats.ttest_rel(own, other).pvalue)


def test_verdicts_find_the_known_effects(whole: dict[str, pd.DataFrame]) -> None:
    verdicts = whole["contrasts"].set_index("cell")["verdict"]
    expected = {"RWKV-6": "better", "GF": "better", "GF-MH": "better", "HY": "equivalent", "WS": "worse"}
    for tokenizer in ("char", "bpe1024"):
        assert {v: verdicts[f"{v}.embedded.{tokenizer}"] for v in expected} == expected


def test_holm_is_over_the_contrasts_of_one_corpus_and_tokenizer(whole: dict[str, pd.DataFrame]) -> None:
    contrasts = whole["contrasts"]
    for _, family in contrasts.groupby(["corpus", "tokenizer"]):
        smallest = family.loc[family["p"].idxmin()]
        assert smallest["p_holm"] == pytest.approx(len(family) * smallest["p"])


def test_a_contrast_that_was_not_run_counts_as_one_that_shows_nothing(tmp_path: Path) -> None:
    """As an unrun claim does: that of GF is adjusted for two, before RWKV-6 is run and after."""
    plan, runs, out = study(tmp_path, seeds=3, variants={"GPT-2": 0.0, "GF": -0.12, "RWKV-6": -0.08}, tokenizers=("char",))
    for run in plan["cells"][2]["runs"].values():
        shutil.rmtree(runs / run)
    contrasts = tables(plan, runs, out)["contrasts"].set_index("variant")
    for raw, adjusted in (("p", "p_holm"), ("p_equivalence", "p_equivalence_holm")):
        assert contrasts.loc["GF", adjusted] == pytest.approx(min(1.0, 2 * contrasts.loc["GF", raw]))
        assert np.isnan(contrasts.loc["RWKV-6", adjusted])
    assert contrasts[["planned", "n"]].to_numpy().tolist() == [[3, 3], [3, 0]]
    assert contrasts.loc["RWKV-6", "verdict"] == "cannot be decided with 0 seeds"


def test_a_contrast_of_the_same_runs_is_not_tested_and_is_in_no_family(tmp_path: Path) -> None:
    """GF is adjusted as if it were alone."""
    plan, runs, out = study(tmp_path, seeds=3, variants={"GPT-2": 0.0, "GF": -0.12, "RWKV-6": -0.08}, tokenizers=("char",))
    baseline, _, twin = plan["cells"]
    for run in twin["runs"].values():
        del plan["runs"][run]
    twin["runs"] = baseline["runs"]
    contrasts = tables(plan, runs, out)["contrasts"].set_index("variant")
    assert contrasts.loc["RWKV-6", "difference"] == 0.0
    assert contrasts.loc["RWKV-6", ["p", "p_holm", "p_sign_flip", "p_equivalence", "p_equivalence_holm"]].isna().all()
    assert contrasts.loc["RWKV-6", "verdict"] == "is the same in every seed, and has no test"
    assert contrasts["decided"].tolist() == [True, False]
    assert contrasts.loc["GF", "p_holm"] == contrasts.loc["GF", "p"]


def test_curves_hold_every_record_and_lack_what_a_run_lacks(whole: dict[str, pd.DataFrame]) -> None:
    curves = whole["curves"]
    assert curves["run_id"].nunique() == 60 - 2
    assert curves.loc[curves["variant"] == "GPT-2", "gate/mean"].isna().all()
    assert curves.loc[curves["variant"] == "GF", "gate/mean"].notna().any()


def test_the_same_records_give_the_same_bytes_wherever_they_lie(tmp_path: Path) -> None:
    plan, runs, out = study(tmp_path, seeds=2)
    aggregate(records.planned(plan), runs, out)
    shutil.copytree(runs, tmp_path / "elsewhere" / "runs")
    aggregate(records.planned(json.loads(json.dumps(plan))), tmp_path / "elsewhere" / "runs", tmp_path / "again")
    for file in sorted(out.iterdir()):
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes(), file.name


def test_one_seed_decides_nothing(tmp_path: Path) -> None:
    found = tables(*study(tmp_path, seeds=1))
    assert set(found["contrasts"]["verdict"]) == {"cannot be decided with 1 seed"}
    assert found["contrasts"]["p"].isna().all()
    assert found["cells"]["val/bits_per_byte_lower"].isna().all()


def test_two_noisy_seeds_say_so_instead_of_no_difference(tmp_path: Path) -> None:
    plan, runs, out = study(tmp_path, seeds=2, tokenizers=("bpe1024",))
    records.shift(runs / plan["cells"][1]["runs"]["0"], 0.3)
    contrasts = tables(plan, runs, out)["contrasts"].set_index("variant")
    assert contrasts.loc["RWKV-6", "verdict"] == "cannot be decided with 2 seeds"
    assert not contrasts.loc["RWKV-6", "decided"]


def test_nothing_run_yet_is_all_missing(tmp_path: Path) -> None:
    plan = records.plan(seeds=2)
    found = tables(plan, tmp_path / "runs", tmp_path / "out")
    assert set(found["runs"]["status"]) == {"missing"}
    assert found["curves"].empty
    coverage = json.loads((tmp_path / "out" / "coverage.json").read_text())
    assert (coverage["planned"], coverage["missing"]) == (24, 24)


def test_the_baseline_alone_has_no_contrasts(tmp_path: Path) -> None:
    found = tables(*study(tmp_path, seeds=2, variants={"GPT-2": 0.0}))
    assert found["contrasts"].empty
    assert "verdict" in found["contrasts"]


@pytest.mark.parametrize("file", ["manifest.json", HELD_OUT, "curves.parquet"])
def test_a_file_cut_short_is_a_missing_run_and_the_reason_names_the_file(
    tmp_path: Path, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, runs, out = study(tmp_path, seeds=2)
    run_id = plan["cells"][0]["runs"]["0"]
    path = runs / run_id / file
    path.write_bytes(path.read_bytes()[:40])
    found = tables(plan, runs, out)["runs"]
    row = found.iloc[0]
    assert row["status"] == "missing"
    assert row["reason"].startswith(f"its record is damaged: {file}: ")
    assert np.isnan(row["val/bits_per_byte"])
    assert (found["status"] == "completed").sum() == len(found) - 3  # WS diverged once and HY failed once
    assert capsys.readouterr().err == f"{run_id}: {row['reason']}\n"


LOSS = {"metric": "<split>/loss", "axes": {"split": "val"}, "value": 2.0}
GATE = {"metric": "gate/mean", "axes": {}, "value": 0.5}
# A document with a value that analysis cannot use, and what the reason says beside the file.
WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "seconds": ("manifest.json", {"seconds": "12"}, "seconds"),
    "resumed_from": ("manifest.json", {"resumed_from": 3}, "resumed_from"),
    "versions": ("manifest.json", {"versions": ["torch"]}, "versions"),
    "backend": ("manifest.json", {"backend": [1]}, "backend"),
    "finished": ("manifest.json", {"finished": 7}, "finished"),
    "stacked": ("manifest.json", {"stacked": 0}, "stacked"),
    "files": ("manifest.json", {"files": []}, "files"),
    "measurements": (HELD_OUT, {"measurements": {"val/loss": 2.0}}, "measurements"),
    "value": (HELD_OUT, {"measurements": [{**LOSS, "value": "2.0"}]}, "measurements.0.value"),
    "split": (HELD_OUT, {"measurements": [{**LOSS, "axes": {"split": "train"}}]}, "'train/loss' is no name of the metric"),
    "axes": (HELD_OUT, {"measurements": [{**LOSS, "axes": {}}]}, "measurements.0: "),
    "layer": ("probes.json", {"measurements": [{**GATE, "axes": {"layer": []}}]}, "measurements.0.axes.layer"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_value_of_another_type_costs_the_run_that_it_is_of_and_no_other(tmp_path: Path, what: str) -> None:
    name, changes, says = WRONG[what]
    plan, runs, out = study(tmp_path, seeds=2, variants={"GPT-2": 0.0, "GF": 0.0}, tokenizers=("char",))
    run_id = plan["cells"][0]["runs"]["0"]
    records.write_probes(runs / run_id, {})
    records.edit(runs / run_id / name, **changes)
    found = tables(plan, runs, out)["runs"]
    assert found["status"].tolist() == ["missing", "completed", "completed", "completed"]
    assert found["reason"][0].startswith(f"its record is damaged: {name}: {says}")


@pytest.mark.parametrize("name", ["manifest.json", HELD_OUT, "probes.json", "curves.parquet"])
def test_a_number_that_was_changed_later_is_not_used(tmp_path: Path, name: str) -> None:
    plan, runs, out = study(tmp_path, seeds=2, variants={"GPT-2": 0.0, "GF": 0.0}, tokenizers=("char",))
    run = runs / plan["cells"][0]["runs"]["0"]
    records.write_probes(run, {"gate/mean": {"value": 0.5, "layers": {}}})
    assert set(tables(plan, runs, out)["runs"]["status"]) == {"completed"}
    if name == "curves.parquet":
        curves = pd.read_parquet(run / name)
        curves["val/loss"] *= 1.5
        curves.to_parquet(run / name)
    else:
        text = (run / name).read_text()
        digit = next(match for match in re.finditer(r"\d", text))
        (run / name).write_text(text[: digit.start()] + str(9 - int(digit[0])) + text[digit.end() :])
    row = tables(plan, runs, out)["runs"].iloc[0]
    assert row["status"] == "missing"
    assert row["reason"].startswith(f"its record is damaged: {name}: damaged: ")


def test_a_record_of_another_run_is_not_taken(tmp_path: Path) -> None:
    plan, runs, out = study(tmp_path, seeds=2)
    records.edit(runs / plan["cells"][0]["runs"]["0"] / "manifest.json", run_id="another")
    assert "another" in tables(plan, runs, out)["runs"].iloc[0]["reason"]


def test_a_run_without_evaluation_is_missing(tmp_path: Path) -> None:
    plan, runs, out = study(tmp_path, seeds=2)
    (runs / plan["cells"][0]["runs"]["0"] / HELD_OUT).unlink()
    row = tables(plan, runs, out)["runs"].iloc[0]
    assert (row["status"], row["reason"]) == ("missing", "trained, not evaluated")


def test_other_code_and_other_data_are_flagged(tmp_path: Path) -> None:
    plan, runs, out = study(tmp_path, seeds=2)
    ids = [cell["runs"]["0"] for cell in plan["cells"][:2]]
    manifest = runs / ids[0] / "manifest.json"
    records.edit(manifest, code={**json.loads(manifest.read_text())["code"], "ops": "f" * 16})
    records.edit(runs / ids[1] / "manifest.json", data_sha256="0" * 64)
    found = tables(plan, runs, out)["runs"].set_index("run_id")
    assert found.index[found["code_differs"]].tolist() == [ids[0]]
    assert found.index[found["data_differs"]].tolist() == [ids[1]]
    warnings = json.loads((out / "coverage.json").read_text())["warnings"]
    assert warnings == [
        {"column": "code", "runs": 1, "where": ""},
        {"column": "data_sha256", "runs": 1, "where": "embedded, char"},
    ]


def test_factors_are_matched_with_the_baseline_of_the_same_factors(tmp_path: Path) -> None:
    plan, runs, out = study(tmp_path, seeds=2, tokenizers=("bpe1024",))
    for cell in plan["cells"][:2]:
        cell["factors"] = {"training.learning_rate": 0.003}
    contrasts = tables(plan, runs, out)["contrasts"].set_index("variant")
    assert contrasts.loc["RWKV-6", "label"] == "RWKV-6 (learning_rate=0.003)"
    assert contrasts.loc["RWKV-6", "n"] == 2
    assert contrasts.loc["GF", "verdict"] == "no baseline to compare with"


def test_a_cell_of_other_seeds_than_the_baselines_has_none(tmp_path: Path) -> None:
    plan, runs, out = study(tmp_path, seeds=2, tokenizers=("bpe1024",))
    own = plan["cells"][1]["runs"]
    own |= {str(100 + int(seed)): own.pop(seed) for seed in list(own)}
    for seed, run in own.items():
        plan["runs"][run] = {**plan["runs"][run], "seed": int(seed)}
    contrasts = tables(records.identified(plan), runs, out)["contrasts"].set_index("variant")
    assert contrasts.loc["RWKV-6", "verdict"] == "no baseline to compare with"
    assert contrasts.loc["GF", "baseline"] == "GPT-2.embedded.bpe1024"


def test_an_unknown_baseline_is_refused(tmp_path: Path) -> None:
    records.write(tmp_path / "plan.json", {**records.plan(seeds=1), "baseline": "GPT2"})
    with pytest.raises(ConfigError, match=r"'GPT2'.*GPT-2"):
        read_plan(tmp_path / "plan.json")


def test_runs_of_different_components_are_of_one_version_where_what_they_share_is_the_same() -> None:
    first = {"gt.a": "1", "gt.b (mixer r)": "1"}
    codes = [json.dumps(code) for code in (first, {"gt.a": "1", "gt.c (mixer m)": "1"}, {"gt.a": "2", "gt.c (mixer m)": "1"})]
    found = versions([*codes, None, json.dumps({"models": "1"})])
    assert found[codes[0]] == found[codes[1]]
    assert len(set(found.values())) == 4, "another trainer, what is not known, and what was counted by other parts"
    changed = json.dumps({**first, "gt.b (mixer r)": "2"})
    assert len(set(versions([codes[0], changed]).values())) == 2


def test_curves_on_another_slice_have_what_was_measured_on_it_at_their_end() -> None:
    spec = next(iter(records.planned(records.plan(1)).runs.values()))
    curves = {
        "step": [0, 10],
        "val/loss": [3.0, 2.0],
        "gate/mean": [0.5, 0.6],
        "gate/layer_1": [0.5, 0.7],
        "grad_norm": [2.0, 1.0],
    }
    measured = [
        records.of("validation/loss", 1.5),
        records.of("validation/gate/mean", 0.3),
        records.of("validation/gate/layer_<layer>", 0.25, layer=1),
    ]
    evaluation = records.evaluation("validation-64", spec.run_id, measured)
    record = Record(spec.run_id, "completed", "", records.manifest(spec), {"validation-64": evaluation}, pa.table(curves))
    found = followed(record, 64)
    assert found is not None
    ends = {name: column for name, column in found.to_pydict().items() if name.startswith(("val/", "gate/"))}
    assert {name: column[-1] for name, column in ends.items()} == {"val/loss": 1.5, "gate/mean": 0.3, "gate/layer_1": 0.25}
    assert all(math.isnan(column[0]) for column in ends.values())
    assert found["grad_norm"].to_pylist() == [2.0, 1.0]


def test_one_record_is_in_memory_at_a_time_and_each_of_its_files_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, runs, out = study(tmp_path)
    alive, most, read = set[int](), 0, Counter[Path]()
    really_reads, really_opens = reading.read_record, Path.read_bytes

    def noted(folder: Path, run_id: str) -> Record:
        nonlocal most
        record = really_reads(folder, run_id)
        alive.add(id(record))
        weakref.finalize(record, alive.discard, id(record))
        most = max(most, len(alive))
        return record

    def counted(path: Path) -> bytes:
        read[path] += 1
        return really_opens(path)

    monkeypatch.setattr(reading, "read_record", noted)
    monkeypatch.setattr(Path, "read_bytes", counted)
    aggregate(records.planned(plan), runs, out)
    assert most <= 2  # the next is read before the last is let go
    assert set(read.values()) == {1}


def test_a_table_is_the_same_in_however_many_parts_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"word": "a", "whole": 1, "number": 1, "mixed": 1, "none": None, "truth": True},
        {"word": None, "whole": None, "number": 0.5, "mixed": "a", "none": None, "truth": None, "later": 2},
        {"word": "b", "number": None, "mixed": True, "truth": False},
        {"whole": 2**40, "mixed": None, "later": None, "last": "z"},
    ]
    whole = aggregation.as_table(rows, ["word", "added"])
    kinds = {"word": pa.string(), "whole": pa.int64(), "number": pa.float64(), "mixed": pa.string(), "none": pa.float64()}
    kinds |= {"truth": pa.bool_(), "later": pa.int64(), "last": pa.string(), "added": pa.float64()}
    assert dict(zip(whole.column_names, whole.schema.types, strict=True)) == kinds
    assert whole["mixed"].to_pylist() == ["1", '"a"', "true", None]
    plan, runs, out = study(tmp_path)
    at_once = tables(plan, runs, out)
    monkeypatch.setattr(aggregation, "ROWS", 1)
    assert aggregation.as_table(rows, ["word", "added"]).equals(whole)
    monkeypatch.setattr(aggregation, "ROWS", 100)
    for name, table in tables(plan, runs, tmp_path / "parts").items():
        pd.testing.assert_frame_equal(table, at_once[name])
    assert pq.read_metadata(tmp_path / "parts/curves.parquet").num_row_groups > 1
