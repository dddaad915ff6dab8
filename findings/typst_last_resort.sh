#!/usr/bin/env bash
# typst: one font of a folder can switch off the check that a PDF shows all of its text.
#
# PDF/A forbids characters for which no font has a glyph, and typst, asked for it, refuses a text that its fonts cannot show.
# matplotlib ships its fonts as a folder that one likes to pass on, so that a figure's text is set in the figure's font. In it
# is LastResortHE-Regular.ttf, a font with a glyph for every code point: a box for each block
# of Unicode. typst falls back to it like to any other font. So nothing is missing any more, PDF/A is satisfied, and Chinese is
# a row of boxes.
#
# Seen with typst 0.15.2 and the fonts of matplotlib 3.11.2, Python 3.11:
#   its own fonts: PDF/A-2b error: the text `"中"` could not be displayed with font `"Libertinus Serif"`
#   and matplotlib's: a PDF/A-2b
#   and matplotlib's without Last Resort: PDF/A-2b error: the text `"中"` could not be displayed with font `"Libertinus Serif"`
#
# Exits with 1 where it is otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --no-deps typst==0.15.2 matplotlib==3.11.2
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import importlib.util
import sys
from pathlib import Path

import typst

TEXT = "#set document(date: datetime(year: 2000, month: 1, day: 1), title: [t])\n中文".encode()
# Not imported: its dependencies are not here.
fonts = Path(importlib.util.find_spec("matplotlib").origin).parent / "mpl-data/fonts/ttf"
others = Path(sys.argv[1], "others")
others.mkdir()
for file in fonts.glob("*.ttf"):
    if not file.name.startswith("LastResort"):
        (others / file.name).symlink_to(file)


def refused(folders):
    try:
        typst.compile(TEXT, font_paths=folders, ignore_system_fonts=True, pdf_standards="a-2b")
    except typst.TypstError as error:
        print(f"{error}".strip().splitlines()[0])
        return "could not be displayed" in str(error)
    print("a PDF/A-2b")
    return False


found = []
for name, folders in {"its own fonts": [], "and matplotlib's": [fonts], "and matplotlib's without Last Resort": [others]}.items():
    print(name, end=": ")
    found.append(refused(folders))
sys.exit(found != [True, False, True])
PYTHON
