"""Figures: what is drawn, from what, and always in the same bytes."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
import records
from hypothesis import given, settings
from hypothesis import strategies as st
from shared import make, overhang

from gt.analysis.verdicts import overview
from gt.report import claim_figures, figures
from gt.report.figures import DRAWINGS, EVALUATION_DRAWINGS, looks
from gt.report.gallery import draw
from gt.report.numbers import load

SVG = "{http://www.w3.org/2000/svg}"


def test_every_drawing_is_written_as_svg_and_png(study: Path) -> None:
    names = {f"{drawing.name}.{suffix}" for drawing in (*DRAWINGS, *EVALUATION_DRAWINGS) for suffix in ("svg", "png")}
    assert {file.name for file in (study / "figures").iterdir()} == names


def test_drawing_again_gives_the_same_bytes(study: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(study, tmp_path / "copy", ignore=shutil.ignore_patterns("figures"))
    draw(copy, jobs=2)
    for file in (study / "figures").iterdir():
        assert file.read_bytes() == (copy / "figures" / file.name).read_bytes(), file.name


def test_files_say_nothing_of_when_or_with_what_they_were_made(study: Path) -> None:
    for file in (study / "figures").glob("*.svg"):
        metadata = [element.text or "" for element in ElementTree.parse(file).iter() if "purl.org" in element.tag]
        assert not any("Matplotlib" in part or "202" in part for part in metadata), file.name


@pytest.mark.parametrize("drawing", [*DRAWINGS, *EVALUATION_DRAWINGS], ids=lambda drawing: drawing.name)
def test_nothing_of_a_figure_is_cut_off(study: Path, drawing: figures.Drawing) -> None:
    figure = drawing.draw(load(study))
    assert figure is not None
    assert overhang(figure) < 1 / 72


def test_a_long_predicate_is_not_cut_off(study: Path) -> None:
    (row, *_) = overview(study.parent / "claims", [study])
    assert row.judgement is not None
    row.judgement["tests"][0]["words"] = (
        "signal-to-noise ratio of the gradient of the RWKV branch / signal-to-noise ratio of the gradient of the Mamba branch: "
        "GF (gate_init=0.5) at 200 between 0.4 and 0.6 (the decisive one of 4 that must all hold)"
    )
    assert overhang(claim_figures._forest(row.claim.predicate, [("record-prototype", row.judgement)])) < 1 / 72


def test_a_study_without_gates_has_no_figure_of_gates_and_loses_an_old_one(tmp_path: Path) -> None:
    plan = records.plan(seeds=2, variants={"GPT-2": 0.0, "RWKV-6": 0.0}, tokenizers=("char",))
    records.write_runs(plan, tmp_path / "runs")
    folder = make(tmp_path, plan)
    (folder / "figures").mkdir()
    (folder / "figures" / "gates.png").write_bytes(b"old")
    draw(folder)
    names = {file.name for file in (folder / "figures").iterdir()}
    assert "learning_curves.svg" in names
    assert not any(name.startswith("gates") for name in names)


def test_a_study_without_runs_has_a_folder_without_figures(tmp_path: Path) -> None:
    folder = make(tmp_path, records.plan(seeds=1))
    draw(folder)
    assert list((folder / "figures").iterdir()) == []


def test_variants_look_different_from_each_other(study: Path) -> None:
    found = looks(load(study).labels)
    assert len(set(found.values())) == len(found) == 6


def test_a_mean_curve_is_over_completed_seeds_only(study: Path) -> None:
    curves = load(study).curves
    cell = curves[(curves["cell"] == "WS.embedded.char") & curves["val/bits_per_byte"].notna()]
    at_end = figures._mean_curve(cell, "val/bits_per_byte")
    completed = cell[(cell["status"] == "completed") & (cell["tokens"] == cell["tokens"].max())]["val/bits_per_byte"]
    assert len(completed) == 2
    assert at_end.iloc[-1] == pytest.approx(completed.mean())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_labels_keep_their_order_and_their_distance(places: list[float]) -> None:
    spread = figures._spread(sorted(places), 0.05)
    assert all(b - a >= 0.05 - 1e-9 for a, b in pairwise(spread))
    assert min(spread) >= -1e-9
    assert max(spread) <= 1 + 1e-9
