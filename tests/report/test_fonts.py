"""A PDF shows every character that a font on the machine has, and names the others."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
import typst
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from shared import TEMPLATES

from gt.report.document import Document, Section, Text
from gt.report.fonts import absent, choose, explanation
from gt.report.formats import html_words, markdown_text, pdf

# No script has it yet, so that no font can.
UNASSIGNED = "\u2fe5"


@pytest.fixture
def shipped(tmp_path: Path) -> typst.Fonts:
    """The fonts that come with the packages of this project."""
    choose("", tmp_path / "fonts")
    return typst.Fonts(include_system_fonts=False, font_paths=[tmp_path / "fonts"])


@pytest.mark.parametrize("text", ["plain", "naïve – “quoted” × 2 ≤ 3", "Привет", "ελληνικά", "العربية", "שלום", "∀x∈ℝ ⟨x⟩ ✓"])
def test_latin_greek_cyrillic_arabic_hebrew_and_mathematics_are_shipped(shipped: typst.Fonts, text: str) -> None:
    assert absent(text, shipped) == []


def test_what_no_shipped_font_has_is_found_among_what_they_have(shipped: typst.Fonts) -> None:
    # Nothing is drawn for a joiner or a variation selector, and no font is needed.
    assert absent("a 中文 b ع 🎉\u200d\ufe0f ไ é", shipped) == ["ไ", "中", "文", "🎉"]


def test_scripts_are_named_with_what_to_do() -> None:
    message = explanation(["ไ", "中", "文", "🎉", *"一丁丂"])
    assert "CJK (U+4E2D, U+6587, U+4E00, U+4E01 and 1 more); Thai (U+0E44); symbols (U+1F389)" in message
    assert "Install fonts" in message
    assert explanation([]) == ""


def document(words: str) -> Document:
    return Document(words, f"Study {words}", (Section("abstract", "Abstract", (Text(words),)),))


def test_a_pdf_with_boxes_says_so_and_the_other_formats_need_no_font(capsys: pytest.CaptureFixture[str]) -> None:
    assert unicodedata.category(UNASSIGNED) == "Cn"
    plain = pdf(document("Plain"), TEMPLATES)
    assert capsys.readouterr().err == ""
    boxed = pdf(document(f"Boxed {UNASSIGNED}"), TEMPLATES)
    assert "report.pdf: Boxes stand in this PDF" in capsys.readouterr().err
    assert plain.startswith(b"%PDF")
    assert boxed.startswith(b"%PDF")
    assert markdown_text(f"中文 {UNASSIGNED}") == html_words(f"中文 {UNASSIGNED}") == f"中文 {UNASSIGNED}"


def test_fonts_of_the_machine_are_used_where_a_document_needs_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = "\U000f1234"  # private use
    pen = TTGlyphPen(None)
    for move, *point in ((pen.moveTo, (0, 0)), (pen.lineTo, (500, 0)), (pen.lineTo, (0, 500))):
        move(*point)
    pen.closePath()
    font = FontBuilder(1000)
    font.setupGlyphOrder([".notdef", "own"])
    font.setupCharacterMap({ord(needed): "own"})
    font.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "own": pen.glyph()})
    font.setupHorizontalMetrics({".notdef": (500, 0), "own": (500, 0)})
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "Own", "styleName": "Regular", "psName": "Own"})
    font.setupOS2()
    font.setupPost()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert choose(needed, tmp_path / "before")[1] == [needed]
    (tmp_path / ".fonts").mkdir()
    font.save(tmp_path / ".fonts/own.ttf")
    assert choose(needed, tmp_path / "after")[1] == []
