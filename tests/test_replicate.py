"""Replications: a published claim is trained again on seeds that nobody had, and both verdicts are shown."""

from __future__ import annotations

import json
import lzma
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import records
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects
from statsmodels.stats.power import TTestPower

from gt.analysis.aggregate import aggregate
from gt.analysis.claims import Claim, load_claims
from gt.analysis.registration import FILE, NONE, Entry, history
from gt.analysis.replications import agreement, combined, replications
from gt.analysis.verdicts import judge, overview
from gt.archive import KEPT, PLAN, pack, read_plan, unpack
from gt.artefacts import Plan
from gt.cli import main
from gt.dataset.tables import verdicts
from gt.errors import ConfigError
from gt.publish import restore
from gt.records import MANIFEST, read_json, write_json
from gt.replicate import Note, begin, begun_in, finish, kept, seeds_that_see
from gt.report.claim_sections import claim_sections
from gt.report.replicated import careful, replications_table, said, told
from gt.study import Study, dumps

Json = dict[str, Any]
ROOT = Path(__file__).parents[1]
SEEDS = 4
BPB = "val/bits_per_byte"
ASKED: Json = {
    "lower": {"test": "compare", "metric": BPB, "a": "GF", "is": "lower", "b": "GPT-2"},
    "ratio": {"test": "threshold", "metric": BPB, "a": "GF", "b": "GPT-2", "below": 0.99},
    "count": {"test": "compare", "metric": "n_params", "a": "GF", "is": "higher", "b": "GPT-2"},
    "speed": {"test": "compare", "metric": "tokens_per_second", "a": "GF", "is": "higher", "b": "GPT-2"},
}


def claims_of(study: str, folder: Path, asked: Json = ASKED) -> None:
    said = {"title": "A title", "sentence": "A sentence.", "source": "us", "study": study, "seeds": SEEDS}
    folder.mkdir(parents=True)
    (folder / "own.yaml").write_text(json.dumps({name: {**said, "predicate": [own]} for name, own in asked.items()}))
    registered(folder, load_claims(folder))


def registered(folder: Path, known: dict[str, Claim]) -> None:
    """Enter claims long before any run."""
    entries: list[Entry] = []
    for name, claim in known.items():
        about = {"number": len(entries) + 1, "claim": name, "sha256": claim.sha256, "time": "2026-01-01T00:00:00+00:00"}
        entry = Entry(**about, commit=None, previous=entries[-1].hash if entries else NONE, hash=NONE)
        entries.append(entry.model_copy(update={"hash": entry.expected}))
    (folder / FILE).write_text("".join(f"{own.model_dump_json()}\n" for own in entries))


@pytest.fixture(scope="module")
def claims(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first") / "claims"
    claims_of("synthetic", folder)
    return folder


@pytest.fixture(scope="module")
def published_once(claims: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published study of four seeds, with its verdicts."""
    root = tmp_path_factory.mktemp("published")
    study = records.plan(seeds=SEEDS, tokenizers=("char",), variants=dict.fromkeys(("GPT-2", "GF", "WS"), 0.0))
    plan = records.planned(study)
    records.write_runs(study, root / "runs", troubled=False)
    judged_by(plan, root / "runs", root / "tables", claims)
    pack(plan, root / "runs", root / "published/synthetic" / KEPT)
    shutil.copyfile(root / "tables/claims.json", root / "published/synthetic/claims.json")
    return root / "published/synthetic"


@pytest.fixture
def published(published_once: Path, tmp_path: Path) -> Path:
    """A copy, as somebody has it who was sent the folder."""
    return Path(shutil.copytree(published_once, tmp_path / "published/synthetic"))


def judged_by(plan: Plan, runs: Path, out: Path, claims: Path) -> list[Json]:
    out.mkdir(parents=True, exist_ok=True)
    (out / PLAN).write_text(dumps(plan))
    aggregate(plan, runs, out)
    judge(out, claims)
    found: list[Json] = read_json(out / "claims.json")
    return found


def train(project: Path, note: Note, changes: float = 0.0) -> None:
    """What Snakemake does of a study, but for the training: records whose numbers are known. changes: is added to GF's."""
    plan = Study(project / f"config/studies/{note.name}.yaml").plan()
    runs = project / "results/runs"
    records.write_runs(json.loads(dumps(plan)), runs, troubled=False)
    for cell in plan.cells:
        for run in cell.runs.values():
            records.edit(runs / run / MANIFEST, started="2030-01-01T00:00:00Z", finished="2030-01-01T00:01:00Z")
            if cell.variant == "GF" and changes:
                records.shift(runs / run, changes)
    judged_by(plan, runs, project / "results/studies" / note.name, project / "config/claims")


def replicated(claim: str, published: Path, project: Path, changes: float = 0.0, seeds: int | None = None) -> Note:
    note, _ = begin(claim, published, project, seeds)
    train(project, note, changes)
    assert finish(note, published, project) is not None
    return note


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_only_what_is_compared_is_trained_as_it_was_published(published: Path, tmp_path: Path) -> None:
    note, committed = begin("lower", published, tmp_path / "again")
    plan = Study(tmp_path / f"again/config/studies/{note.name}.yaml").plan()
    first, _ = read_plan(published / KEPT)
    assert not committed
    assert [cell.id for cell in plan.cells] == note.cells == ["GF.embedded.char", "GPT-2.embedded.char"]
    known = {cell.id: first.spec(cell) for cell in first.cells}
    for cell in plan.cells:
        assert [plan.runs[run] for run in cell.runs.values()] == [
            known[cell.id].model_copy(update={"seed": seed}) for seed in note.seeds
        ]
    assert plan.baseline == "GPT-2" and not plan.tunings and plan.looks is None


def test_the_claim_is_registered_before_its_runs_and_asks_the_same(published: Path, tmp_path: Path) -> None:
    note, _ = begin("ratio", published, tmp_path / "again", 5)
    folder = tmp_path / "again/config/claims"
    (own,) = load_claims(folder).values()
    (entry,) = history(folder)[note.name]
    assert entry.sha256 == own.sha256
    assert own.predicate == Claim.model_validate({**own.document, "predicate": [ASKED["ratio"]]}).predicate
    assert (own.study, own.seeds, len(note.seeds)) == (note.name, 5, 5)


def test_seeds_are_the_first_that_no_run_has(published: Path, tmp_path: Path) -> None:
    """Of the study, of one that is published beside it, or of a replication."""
    assert begin("lower", published, tmp_path / "a", 3)[0].seeds == [4, 5, 6]
    beside = records.plan(seeds=1, variants={"GPT-2": 0.0}, tokenizers=("char",))
    (cell,) = beside["cells"]
    (run,) = beside["runs"]
    spec = {**beside["runs"][run], "seed": 5}
    other = records.identified({**beside, "study": "other", "cells": [{**cell, "runs": {"5": run}}], "runs": {run: spec}})
    records.write_runs(other, tmp_path / "runs")
    pack(records.planned(other), tmp_path / "runs", published.parent / "other" / KEPT)
    assert replicated("lower", published, tmp_path / "b", seeds=3).seeds == [4, 6, 7]
    assert begin("lower", published, tmp_path / "c", 3)[0].seeds == [8, 9, 10]


def test_the_seeds_of_looks_and_of_tunings_are_not_taken(tmp_path: Path) -> None:
    """Of the study that shows them: twelve at the last look, and 100 and 101 that tune."""
    published = ROOT / "results/published/decide"
    if not published.exists():
        pytest.skip("it is not published")
    own = Path(shutil.copytree(published, tmp_path / "published/decide"))
    note, _ = begin("DEC-2", own, tmp_path / "again", 32)
    assert note.seeds == list(range(12, 44))
    rates = {cell.variant: spec.training.learning_rate for cell, spec in cells_of(tmp_path / "again", note)}
    plan, _ = read_plan(own / KEPT)
    chosen = {own.cell: own.choice["training.learning_rate"] for own in plan.tunings if own.choice}
    assert rates == {cell.split(".")[0]: chosen[cell] for cell in note.cells}
    for claim, why in (("DEC-4", "rests on what no seed changes"), ("DEC-6", "is about a ladder")):
        with pytest.raises(ConfigError, match=f"{claim} of decide cannot be replicated: it {why}"):
            begin(claim, own, tmp_path / "no")


def cells_of(project: Path, note: Note) -> list[Any]:
    plan = Study(project / f"config/studies/{note.name}.yaml").plan()
    return [(cell, plan.spec(cell)) for cell in plan.cells]


def test_as_many_seeds_as_see_the_published_size(published: Path, tmp_path: Path) -> None:
    """By statsmodels; at least 4, at most 32."""
    note, _ = begin("lower", published, tmp_path / "again")
    values = [records.bits_per_byte("GF", "char", s) - records.bits_per_byte("GPT-2", "char", s) for s in range(SEEDS)]
    size = abs(float(np.mean(values) / np.std(values, ddof=1)))
    claim = Claim.model_validate({"title": "t", "sentence": "s", "source": "x", "study": "a", "predicate": [ASKED["lower"]]})
    for shrunk in (1.0, 100.0, 400.0):
        by_seed = {str(i): value - np.mean(values) + np.mean(values) / shrunk for i, value in enumerate(values)}
        needed = seeds_that_see(claim, {"tests": [{"scale": "value", "by_seed": by_seed, "needed": None}]})
        exact = TTestPower().solve_power(size / shrunk, power=0.8, alpha=0.05) if shrunk > 1 else 2
        assert needed == max(2, math.ceil(exact))
    assert note.needed == 2 and len(note.seeds) == 4


REFUSED = {
    "count": "n_params is a count, the same in every seed",
    "speed": "tokens_per_second is a measure of a device",
}


@pytest.mark.parametrize("claim", REFUSED)
def test_what_seeds_say_nothing_of_is_refused(published: Path, tmp_path: Path, claim: str) -> None:
    judged = read_json(published / "claims.json")
    own = next(one for one in judged if one["claim"] == claim)
    own["verdict"], own["tests"] = "supported", next(one for one in judged if one["claim"] == "lower")["tests"]
    write_json(published / "claims.json", judged)
    with pytest.raises(ConfigError, match=f"{claim} of synthetic cannot be replicated: {REFUSED[claim]}"):
        begin(claim, published, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_text_that_is_not_here_is_refused(published: Path, tmp_path: Path) -> None:
    plan = read_plan(published / KEPT)[0].model_copy(update={"corpus_files": {"embedded": "/elsewhere/text.txt"}})
    (published / KEPT / f"{PLAN}.xz").write_bytes(lzma.compress(dumps(plan).encode()))
    with pytest.raises(ConfigError, match="is trained on /elsewhere/text.txt, which is not here"):
        begin("lower", published, tmp_path / "again")


def test_bad_input_is_told_and_nothing_is_written(published: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/notes.txt").write_text("mine")
    before = files(tmp_path)
    with pytest.raises(ConfigError, match=r"no verdict of a claim 'lowr'. Did you mean 'lower'\?"):
        begin("lowr", published, tmp_path / "again")
    with pytest.raises(ConfigError, match="own: is there already, without a Snakefile"):
        begin("lower", published, tmp_path / "own")
    with pytest.raises(ConfigError, match="--seeds 1: nothing varies over one seed"):
        begin("lower", published, tmp_path / "again", 1)
    assert files(tmp_path) == before
    judged = [{key: value for key, value in own.items() if key != "claimed"} for own in read_json(published / "claims.json")]
    write_json(published / "claims.json", judged)
    with pytest.raises(ConfigError, match="does not say what was claimed"):
        begin("lower", published, tmp_path / "again")


def test_a_project_that_is_there_keeps_what_it_has(published: Path, tmp_path: Path) -> None:
    (tmp_path / "lab/config/claims").mkdir(parents=True)
    (tmp_path / "lab/Snakefile").write_text("# mine\n")
    claims_of("synthetic", tmp_path / "other")
    shutil.copytree(tmp_path / "other", tmp_path / "lab/config/claims", dirs_exist_ok=True)
    before = files(tmp_path / "lab")
    note, _ = begin("lower", published, tmp_path / "lab")
    after = files(tmp_path / "lab")
    grown = "config/claims/registered.jsonl"
    assert {name: text for name, text in after.items() if name in before and name != grown} == {
        name: text for name, text in before.items() if name != grown
    }
    assert after[grown].startswith(before[grown]) and list(history(tmp_path / "lab/config/claims"))[-1] == note.name


def test_both_verdicts_are_kept_and_nothing_is_replaced(published: Path, tmp_path: Path) -> None:
    before = files(published)
    first, second = (replicated("lower", published, tmp_path / name, seeds=3) for name in ("a", "b"))
    assert (first.name, second.name) == ("lower-again-1", "lower-again-2")
    after = files(published)
    assert {name: text for name, text in after.items() if name in before} == before
    assert {name.split("/")[0] for name in after.keys() - before.keys()} == {"replications"}
    assert [own.seeds for own in replications(published)] == [[4, 5, 6], [7, 8, 9]]
    plan = unpack(published / "replications" / first.name, tmp_path / "unpacked")
    judged = judged_by(plan, tmp_path / "unpacked", tmp_path / "judged", tmp_path / "a/config/claims")
    assert judged[0]["tests"] == read_json(published / "replications/lower-again-1.json")["judgement"]["tests"]


def test_the_same_seeds_are_no_second_replication(published: Path, tmp_path: Path) -> None:
    """Begun in two projects, of which one kept its verdict first."""
    note, _ = begin("lower", published, tmp_path / "a", 3)
    replicated("lower", published, tmp_path / "b", seeds=3)
    own = kept(note, published, tmp_path / "b")
    assert own is not None and own.name == note.name
    (tmp_path / "a/config/claims/registered.jsonl").unlink()
    registered(tmp_path / "a/config/claims", load_claims(tmp_path / "a/config/claims"))
    with pytest.raises(ConfigError, match="has a lower-again-1 that was begun in another project, of the same seeds"):
        kept(note, published, tmp_path / "a")


def test_a_second_verdict_that_differs_is_shown_beside_the_first(published: Path, claims: Path, tmp_path: Path) -> None:
    """GF is better by 0.12 in the first, and worse by as much in the second."""
    replicated("lower", published, tmp_path / "again", 0.24, seeds=5)
    row = next(own for own in overview(claims, [published]) if own.id == "lower")
    assert row.verdict == "supported"
    (again,) = row.replications
    assert again.judgement["verdict"] == "opposite"
    (part,) = agreement(row.claim, row.judgement or {}, again)
    assert (part.same_direction, part.contained) == (False, False)
    words = " ".join(said(row.claim, row.judgement or {}, again))
    assert "lower-again-1, on seeds 4 to 8: opposite, and the first verdict is supported: they differ." in words
    assert "They are in opposite directions. The second interval does not have the first estimate in it." in words
    assert "opposite with 5 seeds, first supported" in told([row]) and "opposite directions" in told([row])
    table = replications_table([row])
    assert table is not None
    (shown,) = table.rows
    assert (shown["first"], shown["second"], shown["direction"], shown["seeds"]) == (
        "supported",
        "opposite",
        "opposite",
        "4 and 5",
    )
    assert "they differ" in str(claim_sections([row], {}))


def test_the_report_and_the_data_set_have_both(published: Path, claims: Path, tmp_path: Path) -> None:
    replicated("lower", published, tmp_path / "again", seeds=3)
    restore(published, tmp_path / "tables")
    assert [own.name for own in replications(tmp_path / "tables")] == ["lower-again-1"]
    # Its claims are not this project's, whose verdicts stay as they are.
    assert read_json(tmp_path / "tables/claims.json") == read_json(published / "claims.json")
    rows = [row for row in verdicts([published]) if row["claim"] == "lower"]
    assert [(row["study"], row["replication"], row["n"]) for row in rows] == [
        ("synthetic", None, 4),
        ("synthetic", "lower-again-1", 3),
    ]


def test_a_claim_that_was_edited_since_is_not_compared(published: Path, tmp_path: Path) -> None:
    replicated("lower", published, tmp_path / "again", seeds=3)
    claims_of("synthetic", tmp_path / "edited", {"lower": {**ASKED["lower"], "by": 0.01}})
    (row,) = overview(tmp_path / "edited", [published])
    assert agreement(row.claim, row.judgement or {}, row.replications[0]) == []
    assert "The claim was edited since" in " ".join(said(row.claim, row.judgement or {}, row.replications[0]))


def test_code_and_devices_that_differ_are_said(published: Path, tmp_path: Path) -> None:
    note = replicated("lower", published, tmp_path / "again", seeds=3)
    (again,) = replications(published)
    first = next(own for own in read_json(published / "claims.json") if own["claim"] == "lower")
    assert again.other_code is None  # these records have sums of whole packages
    assert "Whether the same code trained both is not known." in careful(first, again)
    other = again.model_copy(update={"other_code": ["gt.a", "gt.b", "gt.c", "gt.d"], "devices": ["a GPU"], "needed": 9})
    words = " ".join(careful({**first, "stopped": "decided"}, other))
    assert "Other code than that of the first trained it: gt.a, gt.b, gt.c and 1 more differ." in words
    assert "and this on a GPU." in words and "takes 9 seeds, more than it has" in words
    assert "rather too large than too small" in words
    assert note.seeds == again.seeds


def test_it_is_called_twice(published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["replicate", "lower", "--published", str(published), "--out", str(tmp_path / "again")]
    assert main([*call, "--seeds", "3"]) == 0
    out = capsys.readouterr().out
    assert "lower-again-1: 2 cells of synthetic on 3 new seeds, 4 to 6." in out
    assert "2 seeds would see the published size with a power of 80 %" in out
    assert "snakemake --cores all --config study=lower-again-1" in out
    assert main(call) == 2
    assert "lower-again-1 has no verdict yet. Train and judge it first" in capsys.readouterr().err
    assert main([*call, "--seeds", "5"]) == 2
    assert "lower-again-1 was begun in " in capsys.readouterr().err
    note = begun_in(tmp_path / "again", "lower", "synthetic")
    assert note is not None and kept(note, published, tmp_path / "again") is None
    train(tmp_path / "again", note)
    for _ in range(2):
        assert main(call) == 0
        assert "both verdicts are supported" in capsys.readouterr().out
    assert [own.name for own in replications(published)] == ["lower-again-1"]


def test_another_s_replication_that_is_damaged_is_named(published: Path, tmp_path: Path) -> None:
    replicated("lower", published, tmp_path / "again", seeds=3)
    file = published / "replications/lower-again-1.json"
    records.edit(file, judgement={"claim": "lower"})
    with pytest.raises(ConfigError, match=r"lower-again-1\.json: judgement: is no verdict of a claim"):
        replications(published)
    file.write_text(file.read_text().replace("synthetic", "other"))
    with pytest.raises(ConfigError, match=r"lower-again-1\.json: damaged"):
        replications(published)


def judgement(values: list[float], scale: str = "value") -> Json:
    mean = stats.gmean(values) if scale == "ratio" else np.mean(values)
    return {"scale": scale, "by_seed": dict(enumerate(values)), "estimate": float(mean)}


@pytest.mark.parametrize("scale", ["value", "ratio"])
def test_the_combined_estimate_is_that_of_a_fixed_effect(scale: str) -> None:
    draws = np.random.default_rng(7)
    own = [list(np.exp(draws.normal(0.2, sd, n))) for sd, n in ((0.1, 5), (0.3, 9))]
    z = [np.log(values) if scale == "ratio" else np.array(values) for values in own]
    means, variances = np.array([x.mean() for x in z]), np.array([x.var(ddof=1) / len(x) for x in z])
    with np.errstate(invalid="ignore"):  # in its random effect, which is not asked for
        frame = combine_effects(means, variances, method_re="dl").summary_frame().loc["fixed effect"]
    expected = [frame["eff"], frame["ci_low"], frame["ci_upp"]]
    found = combined([judgement(values, scale) for values in own])
    assert found == pytest.approx(np.exp(expected) if scale == "ratio" else expected)


def test_what_is_no_mean_over_seeds_is_not_combined() -> None:
    sound = judgement([1.0, 2.0, 3.0])
    assert combined([sound, judgement([1.0, 1.0])]) is None
    assert combined([sound, {**sound, "estimate": 7.0}]) is None
    assert combined([sound, {**sound, "by_seed": {"0": None, "1": 2.0}}]) is None


def test_the_second_interval_has_the_first_estimate_as_often_as_the_page_says() -> None:
    """Of many equally precise studies of one truth: 83 % (Cumming and Maillardet 2006), not 95 %."""
    draws = np.random.default_rng(11).normal(0, 1, (4_000, 2, 30))
    means, errors = draws.mean(axis=2), draws.std(axis=2, ddof=1) / math.sqrt(30)
    inside = int((abs(means[:, 0] - means[:, 1]) <= stats.t.ppf(0.975, 29) * errors[:, 1]).sum())
    low, high = stats.binomtest(inside, 4_000).proportion_ci(0.999)
    assert low < 0.834 < high
