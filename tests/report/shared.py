"""What the tests of the report share."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import records
from matplotlib.figure import Figure

from gt.analysis.aggregate import aggregate
from gt.analysis.verdicts import judge
from gt.artefacts import write
from gt.report.plot import extent
from gt.report.render import render

TEMPLATES = Path(__file__).parents[2] / "report_templates"
COMMON = {"sentence": "<i>So</i> it is.", "source": "lines 1-5 of document 3", "note": "One seed, flaw F-01.", "seeds": 3}
COMPARE = {"test": "compare", "metric": "val/loss"}
# Of the records' known answers, under bpe1024: GF is 5.7 % below GPT-2, WS above it, HY the same.
CLAIMS: dict[str, Any] = {
    "C-1": {"title": "GF beats GPT-2", "predicate": [{**COMPARE, "a": "GF", "b": "GPT-2", "is": "lower"}], "arms": ["other"]},
    "C-2": {"title": "WS beats GPT-2", "predicate": [{**COMPARE, "a": "WS", "b": "GPT-2", "is": "lower"}], "arms": ["other"]},
    "C-3": {
        "title": "HY differs from GPT-2",
        "predicate": [{**COMPARE, "a": "HY", "b": "GPT-2", "is": "lower", "scale": "ratio", "margin": 0.01}],
    },
    "C-4": {"title": "No text", "not_testable": "There is no text."},
}
ARMS = {"other": {"title": "GF in its place", "study": "synthetic", "cells": {"WS": "GF", "GF": "GF-MH", "GPT-2": "GPT-2"}}}


RATE = "training.learning_rate"


def plan_of_rates(rates: tuple[float, ...] = (0.001, 0.01), seeds: int = 3) -> dict[str, Any]:
    """GPT-2, GF and WS at several learning rates, and GF on seeds of its own, by which its rate is chosen."""
    plan = records.plan(seeds, {"GPT-2": 0.0, "GF": -0.12, "WS": 0.05}, tokenizers=("char",))
    tuned = {**plan["cells"][1], "id": "GF-tuning.embedded.char", "variant": "GF-tuning"}
    cells = []
    for cell in (*plan["cells"], tuned):
        spec = plan["runs"][next(iter(cell["runs"].values()))]
        model = spec["model"] | ({"fusion": {"name": "weighted"}} if cell["variant"] == "WS" else {})
        for rate in rates:
            changes = {"model": model, "training": {**spec["training"], "learning_rate": rate}}
            about = {name: cell[name] for name in ("variant", "corpus", "tokenizer")}
            own = {"id": f"{cell['id']}.{rate}", **about, "factors": {RATE: rate}}
            cells.append((own, changes, range(100, 100 + seeds) if cell["variant"] == "GF-tuning" else range(seeds)))
    rest = {name: plan[name] for name in ("title", "description", "evaluations", "dollars_per_hour")}
    return {**records.assembled("synthetic", cells), **rest}


def write_run(runs: Path, plan: dict[str, Any], cell: dict[str, Any], seed: str, status: str = "completed") -> Path:
    """The record of a run of a cell; tuning cells have the same numbers as those that they tune. Returns its folder."""
    run = cell["runs"][seed]
    about = {**cell, "variant": cell["variant"].removesuffix("-tuning")}
    records.write_run(runs / run, run, about, int(seed), plan["runs"][run], status)
    return runs / run


def written(root: Path, name: str = "one", **choice: Any) -> dict[str, Any]:
    """The plan of a study whose runs have records in `root/runs`. choice: its variants or tokenizers."""
    plan = records.plan(seeds=2, **{"tokenizers": ("char",), **choice}) | {"study": name}
    records.write_runs(plan, root / "runs", troubled=False)
    return plan


def make(root: Path, plan: dict[str, Any], runs: Path | None = None) -> Path:
    """All that a report is made of, from records in `runs`, or `root/runs`. Returns the study's folder."""
    folder, own = root / "study", records.planned(plan)
    write(folder / "plan.json", own)
    aggregate(own, runs or root / "runs", folder)
    return folder


def write_claims(folder: Path, seeds: int = 3) -> Path:
    """The claims and the arm above."""
    folder.mkdir()
    documents = {}
    for name, own in CLAIMS.items():
        about = {} if "not_testable" in own else {"study": "synthetic", "where": {"tokenizer": "bpe1024"}}
        documents[name] = {**COMMON, "seeds": seeds, **about, **own}
    (folder / "claims.yaml").write_text(json.dumps(documents))
    (folder / "arms.yaml").write_text(json.dumps(ARMS))
    return folder


def report(folder: Path, claims: Path | None = None) -> None:
    """The report of a study into its folder. claims: judged for it; none otherwise."""
    if claims is not None:
        judge(folder, claims)
    render([folder], folder, TEMPLATES, claims or folder / "none")


def overhang(figure: Figure) -> float:
    """By how many inches anything stands over the edges of a figure."""
    figure.draw_without_rendering()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    return max(-box.x0, -box.y0, box.x1 - width, box.y1 - height)


def words_on(svg: str) -> Iterator[tuple[float, float, float]]:
    """Of each line of words on a drawing where it begins and ends across, and where its feet are; of one that runs upwards the
    place of its feet alone.
    """
    for own in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text"):
        x, y, size = float(own.get("x", 0)), float(own.get("y", 0)), float(own.get("font-size", 9))
        wide = 0.0 if own.get("transform") else extent(own.text or "", size, own.get("font-weight") == "bold")
        left = x - wide * {"start": 0.0, "middle": 0.5, "end": 1.0}[own.get("text-anchor", "start")]
        yield left, left + wide, y


def read_back(svg: str) -> list[tuple[dict[str, str], dict[str, list[tuple[float, float]]]]]:
    """The axes of a drawing, as a reader's pointer knows them: the labels, and the points of each series in its numbers."""
    found = []
    for group in ElementTree.fromstring(svg).iter():
        if said := group.get("data-axes"):
            left, top, right, bottom, x0, x1, kind_x, label_x, y0, y1, kind_y, label_y = said.split("|")
            across, up = (float(left), float(right), float(x0), float(x1)), (float(bottom), float(top), float(y0), float(y1))
            series: dict[str, list[tuple[float, float]]] = {}
            for own in group.iter():
                if (name := own.get("data-series")) and (d := own.get("d")):
                    points = [(_value(x, *across, kind_x), _value(y, *up, kind_y)) for x, y in _vertices(d)]
                    series.setdefault(name, []).extend(points)
            found.append(({"x": label_x, "y": label_y}, series))
    return found


def resolution(svg: str) -> float:
    """What the tenth of a unit, to which places are written, is in the numbers of the first axis along x."""
    (said, *_) = (own for group in ElementTree.fromstring(svg).iter() if (own := group.get("data-axes")))
    left, _, right, _, x0, x1, *_ = said.split("|")
    return 0.1 * (float(x1) - float(x0)) / (float(right) - float(left))


def _value(at: float, start: float, end: float, low: float, high: float, kind: str) -> float:
    share = (at - start) / (end - start)
    return low * (high / low) ** share if kind == "log" else low + share * (high - low)


def _vertices(d: str) -> Iterator[tuple[float, float]]:
    x = y = 0.0
    for command, rest in re.findall(r"([MmLlhv])([^A-Za-z]*)", d):
        numbers = [float(n) for n in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", rest)]
        if command == "h" and abs(numbers[0]) < 0.05:  # a dot
            continue
        match command:
            case "h":
                moves = [(n, 0.0) for n in numbers]
            case "v":
                moves = [(0.0, n) for n in numbers]
            case _:
                moves = list(zip(numbers[::2], numbers[1::2], strict=True))
        for own in moves:
            x, y = own if command == "M" else (x + own[0], y + own[1])
            yield x, y
