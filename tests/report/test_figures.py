"""Figures: what is drawn, from what, and always in the same bytes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
import records
from hypothesis import given, settings
from hypothesis import strategies as st
from shared import make, overhang, plan_of_rates, read_back, resolution, words_on, write_run

from gt.analysis.verdicts import TESTED, overview
from gt.report import claim_figures, drawing, figures
from gt.report.drawing import Drawing, limits, looks, views
from gt.report.evaluation_figures import EVALUATION_DRAWINGS
from gt.report.figures import DRAWINGS
from gt.report.gallery import draw
from gt.report.numbers import Results, load
from gt.report.sweeps import sensitivity, sensitivity_tables

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


@pytest.mark.parametrize("kind", [*DRAWINGS, *EVALUATION_DRAWINGS], ids=lambda kind: kind.name)
def test_nothing_of_a_figure_is_cut_off(study: Path, kind: Drawing) -> None:
    figure = kind.draw(load(study))
    assert figure is not None
    assert overhang(figure) < 1 / 72


def test_a_long_predicate_is_not_cut_off(study: Path) -> None:
    (row, *_) = overview(study.parent / "claims", [study])
    assert row.judgement is not None
    row.judgement["tests"][0]["words"] = (
        "signal-to-noise ratio of the gradient of the rwkv6 branch / signal-to-noise ratio of the gradient of the m branch: "
        "GF (gate_init=0.5) at 200 between 0.4 and 0.6"
    )
    plot = claim_figures._forest(row.claim.predicate, [("record-prototype", row.judgement)])
    places = list(words_on(plot.svg))
    assert len(places) > 6
    for left, right, feet in places:
        assert 0 <= left < right <= plot.width and 0 < feet < plot.height


def test_a_claim_s_drawing_has_every_seed_its_mean_and_its_interval(study: Path) -> None:
    (row, *_) = overview(study.parent / "claims", [study])
    assert row.judgement is not None
    (test,) = row.judgement["tests"]
    svg = claim_figures._forest(row.claim.predicate, [("own", row.judgement)]).svg
    ((_, series),), far = read_back(svg), resolution(svg)
    assert [x for x, _ in series["own|95 % interval"]] == pytest.approx([test["lower"], test["upper"]], abs=far)
    assert [x for x, _ in series["own|mean"]] == pytest.approx([test["estimate"]] * 2, abs=far)
    seeds = "|".join(test["by_seed"])
    assert [x for x, _ in series[f"own|seed|{seeds}"]] == pytest.approx(list(test["by_seed"].values()), abs=far)


def test_the_verdicts_of_all_kinds_have_room_for_their_names(study: Path) -> None:
    (row, *_) = overview(study.parent / "claims", [study])
    rows = [replace(row, verdict=verdict) for verdict in TESTED for _ in range(100)]
    assert set(claim_figures.COLOUR) == set(TESTED)
    assert overhang(claim_figures.verdicts(rows)) < 1 / 72


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
    found = looks(load(study))
    assert len(set(found.values())) == len(found) == 6


@pytest.fixture(scope="module")
def rates(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Four models at four rates, of which the best is the last for GPT-2, and one in the middle for GF."""
    root = tmp_path_factory.mktemp("rates")
    plan = plan_of_rates((0.001, 0.003, 0.01, 0.03), seeds=2)
    for cell in plan["cells"]:
        (rate,) = cell["factors"].values()
        worse = {"GPT-2": 0.03 - rate, "GF": abs(rate - 0.003)}.get(cell["variant"], rate)
        for seed in cell["runs"]:
            records.shift(write_run(root / "runs", plan, cell, seed), 10 * worse)
    return load(make(root, plan))


def test_a_variant_has_one_colour_at_all_settings_and_the_baseline_the_first(rates: Results) -> None:
    found = looks(rates)
    assert len(set(found.values())) == len(found) == 16
    for variant in ("GPT-2", "GF", "WS", "GF-tuning"):
        assert len({own.colour for label, own in found.items() if label.split(" (")[0] == variant}) == 1
    assert found["GPT-2 (learning_rate=0.001)"].colour == drawing.COLOURS[0]
    markers = {label.split(" (")[1]: own.marker for label, own in found.items()}
    assert all(own.marker == markers[label.split(" (")[1]] for label, own in found.items())


def test_many_cells_of_several_settings_have_axes_for_each(rates: Results, study: Path) -> None:
    shown = views(rates.panels, rates.curves)
    assert [view.title.split("\n")[1] for view in shown] == [f"learning_rate={rate}" for rate in (0.001, 0.003, 0.01, 0.03)]
    assert [sorted(view.names.values()) for view in shown] == [["GF", "GF-tuning", "GPT-2", "WS"]] * 4
    assert len({ax.get_ylim() for ax in figures.learning_curves(rates).axes}) == 1
    few = load(study)
    assert [view.title for view in views(few.panels, few.curves)] == [panel.title for panel in few.panels]
    assert len(views(rates.panels, rates.curves, split=False)) == 1


def test_of_many_lines_the_best_the_worst_and_the_baseline_s_are_named(rates: Results, study: Path) -> None:
    (view,) = views(rates.panels, rates.curves, split=False)
    labels = [row["label"] for row in sorted(view.rows, key=lambda row: row["mean"])]
    assert view.named == {label for i, label in enumerate(labels) if i < 3 or i >= 13 or label.startswith("GPT-2")}
    found = view.looks(looks(rates))
    assert {label for label, own in found.items() if own.named} == view.named
    assert {own.colour for own in found.values() if not own.named} == {drawing.FAINT}
    few = load(study)
    assert all(len(view.named) == len(view.rows) for view in views(few.panels, few.curves))


def test_of_many_cells_figures_show_each_variant_s_lowest_and_the_baselines_of_these(
    rates: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rates.shown is rates
    monkeypatch.setattr("gt.report.numbers.MANY", 15)
    many = replace(rates)
    (panel,) = many.panels
    lowest = {}
    for row in panel.measured:
        if row["variant"] not in lowest or row["mean"] < lowest[row["variant"]]["mean"]:
            lowest[row["variant"]] = row
    matter = {row["label"] for row in lowest.values()}
    matter |= {row["against"] for row in [*lowest.values(), panel.best] if row["against"]} | {panel.best["label"]}
    assert {row["label"] for row in many.shown.run_cells} == matter
    assert set(many.shown.curves["label"]) == set(many.shown.runs["label"]) == matter
    assert len(matter) < len(many.run_cells)


def test_a_run_that_diverged_has_its_cross_also_in_a_grey_cell(rates: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "MOST_CELLS", 3)
    monkeypatch.setattr(drawing, "EXTREMES", 1)
    view, *_ = views(rates.panels, rates.curves)
    grey = min({row["label"] for row in view.rows} - view.named)
    run = rates.curves.loc[rates.curves["label"] == grey, "run_id"].iloc[0]
    curves = rates.curves.assign(status=rates.curves["status"].mask(rates.curves["run_id"] == run, "diverged"))
    figure = figures.learning_curves(replace(rates, curves=curves))
    assert figure is not None
    assert [line.get_color() for ax in figure.axes for line in ax.lines if line.get_marker() == "x"] == [drawing.FAINT]


@given(
    st.lists(st.floats(-100, 100), min_size=1, max_size=8),
    st.lists(st.tuples(st.floats(-1e6, 0), st.floats(0, 1e6)), max_size=8),
)
def test_an_axis_shows_all_values_and_no_interval_can_press_them_together(
    values: list[float], bounds: list[tuple[float, float]]
) -> None:
    low, high = limits(values, bounds)
    assert low < min(values) and max(values) < high
    if max(values) - min(values) > 1e-6:
        assert max(values) - min(values) >= 0.69 * (high - low)


def test_sensitivity_says_where_each_model_is_best_and_whether_a_better_may_lie_beyond(rates: Results) -> None:
    (table,) = sensitivity_tables(rates)
    rows = {row["model"]: row for row in table.rows}
    assert (rows["GPT-2"]["best"], rows["GPT-2"]["ends"]) == (0.03, "the highest tried")
    assert (rows["GF"]["best"], rows["GF"]["ends"]) == (0.003, "")
    assert (rows["WS"]["best"], rows["WS"]["ends"]) == (0.001, "the lowest tried")
    assert rows["GF"]["cost"] == pytest.approx(0.27, abs=1e-6)
    figure = sensitivity(rates)
    assert figure is not None and overhang(figure) < 1 / 72


def test_models_of_one_size_have_no_figure_of_sizes(study: Path) -> None:
    results = load(study)
    assert figures.parameters(results) is not None
    same = replace(results, cells=results.cells.assign(n_params_non_embedding=100_000))
    assert figures.parameters(same) is None


def test_a_mean_curve_is_over_completed_seeds_only(study: Path) -> None:
    curves = load(study).curves
    cell = curves[(curves["cell"] == "WS.embedded.char") & curves["val/bits_per_byte"].notna()]
    at_end = figures._mean_curve(cell, "val/bits_per_byte")
    completed = cell[(cell["status"] == "completed") & (cell["tokens"] == cell["tokens"].max())]["val/bits_per_byte"]
    assert len(completed) == 2
    assert at_end.iloc[-1] == pytest.approx(completed.mean())


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_labels_keep_their_order_and_their_distance(places: list[float]) -> None:
    spread = drawing._spread(sorted(places), 0.05)
    assert all(b - a >= 0.05 - 1e-9 for a, b in pairwise(spread))
    assert min(spread) >= -1e-9
    assert max(spread) <= 1 + 1e-9
