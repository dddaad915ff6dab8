"""What the report says of the insides of networks: the numbers of the records, and the verdicts that follow from them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import records
from shared import make, read_back, report, words_on

from gt.report.gallery import draw
from gt.report.inside import inside_tables, measured
from gt.report.inside_figures import inside_drawings
from gt.report.numbers import load
from gt.report.plot import Plot

SEEDS = 3


def measure(value: float | None, *layers: float) -> dict[str, Any]:
    return {"value": value, "layers": {str(i): v for i, v in enumerate(layers)}}


def measures(seed: int, odd: float) -> dict[str, Any]:
    """Of a network whose first branch contributes a tenth, more in later seeds; odd: how far its R/M is from saying so."""
    share = 0.1 + 0.01 * seed
    return {
        "ablation/zero/r": measure(share, share / 2, share / 2),
        "ablation/zero/m": measure(1 - share, 0.4, 0.5),
        "ablation/share/r": measure(share),
        "ablation/share/m": measure(1 - share),
        "ablation/ratio": measure(share / (1 - share)),
        "gate/mean": measure(share, share, share),
        "initial/gate/mean": measure(0.3, 0.3, 0.3),
        "gate/class/letters": measure(0.2),
        "gradient/curve_ratio": measure(odd - seed),
        "record/gradient_ratio": measure(0.01),
        "variance/residual": measure(4.0, 2.0, 4.0 + seed),
        "initial/variance/residual": measure(1.0, 0.9, 1.0),
        "variance/over_embedding": measure(4.0 + seed),
        "initial/variance/over_embedding": measure(1.0),
        "variance/over_first": measure(2.0),
        "initial/variance/over_first": measure(1.1),
        "variance/branch/r": measure(0.5, 0.4, 0.6),
        "state/growth_8x/r": measure(2.5),
        "state/growth_8x/m": measure(0.9),
        "record/state_growth/r": measure(2.51),
        "record/state_growth/m": measure(0.91),
        "state/rms/r": measure(3.0),
        "state/norm/r/1": measure(30.0),
        "state/norm/r/4": measure(60.0),
        "softmax/entropy": measure(2.0),
        "flag/second_half": measure(0.001),
    }


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("inside")
    plan = records.plan(seeds=SEEDS, variants={name: records.EFFECT[name] for name in ("GPT-2", "GF")}, tokenizers=("char",))
    records.write_runs(plan, root / "runs", troubled=False)
    plan["cells"][1]["factors"] = {"note": "<b>&"}
    for seed, run in plan["cells"][1]["runs"].items():
        records.write_probes(root / "runs" / run, measures(int(seed), odd=5.0))
    folder = make(root, plan)
    draw(folder)
    report(folder)
    return folder


def row(study: Path, name: str) -> dict[str, Any]:
    return inside_tables(load(study))[name].rows[0]


def test_the_table_has_every_number_of_the_records(study: Path) -> None:
    table = pd.read_parquet(study / "probes.parquet")
    assert set(table["seed"]) == set(range(SEEDS))
    gate = table[table["name"] == "gate/mean"]
    assert gate[gate["layer"].isna()]["value"].tolist() == pytest.approx([0.1, 0.11, 0.12])
    assert gate[gate["layer"] == 1]["value"].tolist() == pytest.approx([0.1, 0.11, 0.12])


def test_cells_without_probes_are_left_out(study: Path) -> None:
    assert [own.cell["variant"] for own in measured(load(study))] == ["GF"]


def test_the_contribution_is_a_mean_over_seeds_with_its_interval(study: Path) -> None:
    own = row(study, "inside.branches")
    assert own["branches"] == "r, m"
    assert own["share"] == pytest.approx(0.11)
    # t(0.975, 2 degrees of freedom) = 4.3027 times a standard error of 0.01 / sqrt(3)
    assert own["upper"] - own["share"] == pytest.approx(4.3027 * 0.01 / 3**0.5, rel=1e-4)


def test_what_orders_the_runs_the_other_way_has_a_correlation_of_minus_one(study: Path) -> None:
    rho = {r["measure"]: r["rho"] for r in inside_tables(load(study))["inside.substitutes"].rows}
    assert rho == {"mean gate": pytest.approx(1), "R/M of the last step": pytest.approx(-1)}


def test_an_amplifier_s_interval_lies_above_one(study: Path) -> None:
    own = row(study, "inside.variance")
    assert own["embedding"] == pytest.approx((4 * 5 * 6) ** (1 / 3))
    assert own["embedding_lower"] > 1
    assert own["word"] == "an amplifier"


def test_verdicts_are_of_every_seed_and_every_table(study: Path) -> None:
    (own,) = measured(load(study))
    tests = next(table for table in own.checks if table.name == f"{own.id}.tests")
    rows = {(r["test"], r["title"]): r for r in tests.rows}
    growth = next(r for (test, _), r in rows.items() if test == "D1")
    assert growth["trained"] == "r 2.50, m 0.900"
    assert growth["control"] == "r 2.51, m 0.910"
    assert growth["verdict"] == "warning (tests/test_diagnostics.py, both sides); warning (tests/test_diagnostics.py)"
    ratio = next(r for (test, _), r in rows.items() if test == "G4")  # 5, 4 and 3
    assert (
        ratio["verdict"] == "1 pass, 2 warning (V4_TESTING.md); 1 pass, 2 warning (tools/thresholds.py, the upper side alone)"
    )
    assert ratio["control_verdict"] == "fail (V4_TESTING.md); pass (tools/thresholds.py, the upper side alone)"
    assert next(r for (test, _), r in rows.items() if test == "S0")["verdict"] == ""


def test_an_early_plateau_is_a_red_flag(study: Path) -> None:
    (own,) = measured(load(study))
    flags = next(table for table in own.checks if table.name == f"{own.id}.flags")
    assert flags.rows[0]["verdict"].startswith("fail")


def test_every_cell_has_a_figure_and_a_section_of_its_own(study: Path) -> None:
    (own,) = measured(load(study))
    page, markdown = (study / "report.html").read_text(), (study / "report.md").read_text()
    assert f'<details id="{own.id}">' in page
    assert (study / "figures" / f"{own.id}.svg").exists()
    assert f"figures/{own.id}.svg" in markdown
    assert page.count("What it looks at") == len(own.checks) == 2


def test_the_record_s_tests_of_all_cells_are_one_file(study: Path) -> None:
    (own,) = measured(load(study))
    for found in own.checks:
        table = pd.read_csv(study / f"tables/inside.{found.name.removeprefix(f'{own.id}.')}.csv")
        assert list(table["test"]) == [r["test"] for r in found.rows]
    assert [file.name for file in (study / "tables").glob("inside.*tests*")] == ["inside.tests.csv"]


def test_nothing_of_a_cell_s_figure_is_cut_off(study: Path) -> None:
    results = load(study)
    (drawing,) = inside_drawings(results)
    plot = drawing.draw(results)
    assert isinstance(plot, Plot)
    assert len(plot.panes) == 6
    for left, right, feet in words_on(plot.svg):
        assert 0 <= left <= right <= plot.width and 0 < feet < plot.height


def test_the_lines_of_a_cell_s_figure_are_its_measures(study: Path) -> None:
    """As they are read back from the drawing, in which a tenth of a point is the least that there is."""
    results = load(study)
    (drawing,) = inside_drawings(results)
    plot = drawing.draw(results)
    assert isinstance(plot, Plot)
    gate, classes, without, *_, norm = (series for _, series in read_back(plot.svg))
    for seed in range(SEEDS):
        (x0, y0), (x1, y1) = gate[f"trained|seed {seed}"]
        assert (x0, x1) == pytest.approx((0, 1), abs=0.01)
        assert (y0, y1) == pytest.approx((0.1 + 0.01 * seed,) * 2, abs=0.001)
    assert [y for _, y in gate["trained|mean"]][:2] == pytest.approx([0.11, 0.11], abs=0.001)
    assert {name.split("|")[0] for name in classes} == {"letters"}
    assert norm["r|mean"][:2] == [pytest.approx((1, 30), rel=0.01), pytest.approx((4, 60), rel=0.01)]
    assert [y for _, y in without["m|mean"]][:2] == pytest.approx([0.4, 0.5], abs=0.003)
    assert [y for _, y in without["r|mean"]][:2] == pytest.approx([0.055, 0.055], abs=0.003)


def test_labels_are_text(study: Path) -> None:
    page = (study / "report.html").read_text()
    assert "<b>&" not in page
    assert "note=&lt;b&gt;&amp;" in page


def test_a_study_that_was_not_looked_into_has_no_such_section(study: Path, tmp_path: Path) -> None:
    plan = records.plan(seeds=2, variants={"GPT-2": 0.0}, tokenizers=("char",))
    records.write_runs(plan, tmp_path / "runs", troubled=False)
    folder = make(tmp_path, plan)
    draw(folder)
    report(folder)
    assert 'id="synthetic-inside"' not in (folder / "report.html").read_text()
    assert "Inside the networks" not in (folder / "report.md").read_text()


def test_figures_of_cells_that_are_gone_are_removed_and_drawing_twice_gives_the_same_bytes(study: Path) -> None:
    (own,) = measured(load(study))
    path = study / "figures" / f"{own.id}.svg"
    before, gone = path.read_bytes(), study / "figures" / "inside.other.svg"
    gone.write_text("old")
    draw(study)
    assert path.read_bytes() == before
    assert not gone.exists()
    assert not re.search(r"\d{4}-\d\d-\d\d", before.decode())
