"""Small SVG: the same picture, to another renderer's eyes, in fewer bytes."""

from __future__ import annotations

import io
import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
import typst
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from gt.report.drawing import STYLE
from gt.report.fonts import FONTS
from gt.report.svg import NAMESPACE, outline, small

POINTS = 2  # pixels a point
# Edges move by half a tenth of a point at most, both of a line by as much; the renderer samples a pixel four times a side.
MOST = 255 * (2 * 0.05 * POINTS + 1 / 4)


@pytest.fixture(scope="module")
def source() -> str:
    """What matplotlib writes of lines, dashes, markers, words, clipping, shading and an image."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5, 2), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        left.plot([0, 1, 3], [0.1, 5.0, -0.2], "o--", label="1 < 2 & 3")
        left.plot([0.5, 1.0, 2.0], [1.0, 2.0, 1.5], "s", color="black", markeredgecolor="white")
        left.plot([1.5], [0.5], "^")
        left.scatter([0.2, 2.8], [2.5, 2.5], alpha=0.5)
        left.grid(alpha=0.3)
        left.fill_between([0, 3], [0, 1], [1, 2], alpha=0.3)
        left.set(ylim=(0, 3), title="Title", ylabel="two\nlines")
        left.legend()
        right.imshow([[0.0, 1.0], [2.0, 3.0]])
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def pixels(folder: Path, svg: str) -> NDArray[np.int_]:
    """As typst sees it."""
    (folder / "own.svg").write_text(svg)
    (folder / "own.typ").write_text('#set page(width: auto, height: auto, margin: 0pt)\n#image("own.svg")')
    page = typst.compile(folder / "own.typ", format="png", ppi=72 * POINTS, font_paths=[FONTS], ignore_system_fonts=True)
    assert isinstance(page, bytes)
    return np.asarray(Image.open(io.BytesIO(page)).convert("L"), dtype=int)


def test_the_picture_is_the_same(source: str, tmp_path: Path) -> None:
    before, after = pixels(tmp_path, source), pixels(tmp_path, small(source))
    assert before.std() > 10  # there is something to see
    assert np.abs(after - before).max() <= MOST
    assert np.abs(after - before).mean() < 255 * 0.05 * POINTS * (before < 255).mean()


@pytest.mark.parametrize("part", ["marker:[^}]*", r"<circle[^>]*/>", r"<text[^>]*>two</text>", r"<image[^>]*/>"])
def test_what_is_missing_would_be_seen(source: str, tmp_path: Path, part: str) -> None:
    svg = small(source)
    *_, last = re.finditer(part, svg)
    less = svg[: last.start()] + svg[last.end() :]
    assert np.abs(pixels(tmp_path, svg) - pixels(tmp_path, less)).max() > MOST


def test_it_is_small_and_has_no_ballast(source: str) -> None:
    svg = small(source)
    assert len(without_image(svg)) < 0.4 * len(without_image(source))
    assert not re.search(r"<metadata|<!--|<use|style=|\d\.\d{3}", without_image(svg))
    root = ElementTree.fromstring(svg)
    ids = {own.get("id") for own in root.iter()} - {None}
    assert ids == set(re.findall(r"url\(#([^)]+)", svg))
    styles = root.find(f"{{{NAMESPACE}}}style")
    assert styles is not None and styles.text is not None
    assert {name for own in root.iter() for name in own.get("class", "").split()} == set(re.findall(r"\.(s\w+){", styles.text))


def without_image(svg: str) -> str:
    return re.sub(r"data:image[^\"]*", "", svg)


def places(path: str) -> list[tuple[float, float]]:
    """Where a path of M, l, h, v, c and z leads, by another reading of the grammar."""
    found, at = [], (0.0, 0.0)
    for command, rest in re.findall(r"([a-zA-Z])([^a-zA-Z]*)", path):
        numbers = [float(n) for n in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", rest)]
        takes = {"M": 2, "l": 2, "h": 1, "v": 1, "c": 6, "z": 0}[command]
        for i in range(0, len(numbers), takes or 1):
            own = numbers[i : i + takes]
            x, y = {"h": (own[0], 0.0), "v": (0.0, own[0])}.get(command, (own[-2], own[-1]) if takes > 1 else (0.0, 0.0))
            at = (x, y) if command == "M" else (at[0] + x, at[1] + y)
            found.append(at)
    return found


@given(st.lists(st.tuples(st.floats(-1000, 1000), st.floats(-1000, 1000)), min_size=2, max_size=60))
def test_a_path_leads_where_it_led_and_errors_do_not_add_up(points: list[tuple[float, float]]) -> None:
    again = places(outline(" \n".join(f"{'L' if i else 'M'} {x:.6f} {y:.6f}" for i, (x, y) in enumerate(points))))
    assert len(again) == len(points)
    assert np.abs(np.array(again) - np.array(points)).max() < 0.0501


def test_a_closed_path_goes_on_from_where_it_began() -> None:
    assert outline("M 1 1 \nL 2 1 \nL 2 3 \nz\nL 5.04 -4\nC 5 5 6 6 1.25 -1.5") == "M1 1h1v2zl4-5c0 9 1 10-3.8 2.5"


def test_words_stay_words(source: str) -> None:
    words = [own.text for own in ElementTree.fromstring(small(source)).iter(f"{{{NAMESPACE}}}text")]
    assert {"1 < 2 & 3", "Title", "two", "lines"} <= set(words)
