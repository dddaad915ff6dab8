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
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from gt.report.drawing import STYLE
from gt.report.fonts import FONTS
from gt.report.svg import NAMESPACE, small

POINTS = 2  # pixels a point


@pytest.fixture(scope="module")
def source() -> str:
    """What matplotlib writes of lines, dashes, markers, words, clipping, shading and an image."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5, 2), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        left.plot([0, 1, 3], [0.1, 5.0, -0.2], "o--", label="1 < 2 & 3")
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
    # Edges move by half a hundredth of a point at most; the renderer, which samples a pixel four times a side, steps by one.
    assert np.abs(after - before).max() <= 255 / 4
    assert np.abs(after - before).mean() < 255 * 0.005 * POINTS * (before < 255).mean()


def test_it_is_small_and_has_no_ballast(source: str) -> None:
    svg = small(source)
    without_image = [len(re.sub(r"data:image[^\"]*", "", own)) for own in (source, svg)]
    assert without_image[1] < 0.5 * without_image[0]
    assert not re.search(r"<metadata|<!--|style=|\d\.\d{3}", re.sub(r"data:image[^\"]*", "", svg))
    root = ElementTree.fromstring(svg)
    ids = {own.get("id") for own in root.iter()} - {None}
    assert ids == set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    styles = root.find(f"{{{NAMESPACE}}}style")
    assert styles is not None and styles.text is not None
    assert {own.get("class") for own in root.iter()} - {None} == set(re.findall(r"\.(s\w+){", styles.text))


def test_words_stay_words(source: str) -> None:
    words = [own.text for own in ElementTree.fromstring(small(source)).iter(f"{{{NAMESPACE}}}text")]
    assert {"1 < 2 & 3", "Title", "two", "lines"} <= set(words)
