"""The fonts that a PDF is set in, and what none of them can show.

typst brings fonts for Latin, Greek and Cyrillic letters, matplotlib some for Arabic, Hebrew and many symbols. Those of the
machine are looked at only where a document needs more, so that all others have the same bytes on every machine.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib

if TYPE_CHECKING:
    import typst

# Of the figures, whose text is text.
FONTS = Path(matplotlib.get_data_path(), "fonts/ttf")
# A character on each page, and before them one that no font can have.
SPECIMEN = b"#set page(width: auto, height: auto)\n#for character in json(bytes(sys.inputs.characters)) { page(character) }"
NOBODYS = "\U0010ffff"
# Code points that a message names of a script.
NAMED = 4


def choose(characters: Iterable[str], folder: Path) -> tuple[typst.Fonts, list[str]]:
    """The fonts for a text of these characters, and those characters that none of them has. Some fonts lie in `folder`."""
    import typst

    folder.mkdir()
    for file in FONTS.glob("*.ttf"):
        if not file.name.startswith("LastResort"):  # which has a box for everything
            (folder / file.name).symlink_to(file)
    fonts = typst.Fonts(include_system_fonts=False, font_paths=[folder])
    if missing := absent(characters, fonts):
        fonts = typst.Fonts(include_system_fonts=True, font_paths=[folder])
        missing = absent(missing, fonts)
    return fonts, missing


def absent(characters: Iterable[str], fonts: typst.Fonts) -> list[str]:
    """Those of some characters that no font has: typst draws them as one that there is none of."""
    import typst

    asked = sorted({character for character in characters if not character.isascii()})
    if not asked:
        return []
    given = {"characters": json.dumps([NOBODYS, *asked])}
    pages = typst.Compiler(font_paths=fonts).compile(SPECIMEN, format="svg", sys_inputs=given)
    assert isinstance(pages, list)
    box, *drawn = pages
    return [character for character, page in zip(asked, drawn, strict=True) if page == box]


def explanation(missing: Iterable[str]) -> str:
    """What stands for characters that no font has, and what helps; nothing if there are none."""
    scripts = []
    for script, group in groupby(sorted(missing, key=_script), _script):
        points = [f"U+{ord(character):04X}" for character in group]
        more = f" and {len(points) - NAMED} more" if len(points) > NAMED else ""
        scripts.append(f"{script} ({', '.join(points[:NAMED])}{more})")
    if not scripts:
        return ""
    return (
        f"Boxes stand in this PDF for characters that no font on the machine has: {'; '.join(scripts)}. Install fonts that "
        "have them (Noto's have nearly all) and make the report again; report.html and report.md are whole."
    )


def _script(character: str) -> str:
    """A letter's script, by the first word of its name (CJK, Thai, Hangul), or what it is instead."""
    if unicodedata.category(character)[0] not in "LMN":
        return "symbols"
    word = unicodedata.name(character, "unnamed").split()[0]
    return word if word == "CJK" else word.capitalize()
