"""Formulas of the pages as MathML, so that no script is needed to show them."""

from __future__ import annotations

import re
from typing import Any

from latex2mathml.converter import convert

CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)
FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<![\w$\\])\$(\S|\S[^$\n]*?\S)\$(?![\w$])", re.DOTALL)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """$$...$$ and $...$ outside of code."""
    parts = CODE.split(markdown)
    return "".join(part if i % 2 else FORMULA.sub(_mathml, part) for i, part in enumerate(parts))


def _mathml(match: re.Match[str]) -> str:
    block, inline = match.groups()
    return convert(block.strip(), display="block") if block else convert(inline)
