"""Tables for a terminal."""

from __future__ import annotations

import itertools
import shutil
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gt.doctor import Finding


def print_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Columns of names, numbers and, last, two texts, which share what is left of the terminal and are wrapped in it."""
    *short, _, _ = (max(len(row[i]) for row in (header, *rows)) for i in range(len(header)))
    left = max(70, shutil.get_terminal_size((160, 0)).columns - sum(short) - 2 * (len(header) - 1))
    widths = [*short, left * 3 // 5, left - left * 3 // 5]
    numeric = [all(row[i].replace(",", "").isdigit() or not row[i] for row in rows) for i in range(len(short))] + [False, False]
    for row in (header, tuple("-" * width for width in widths), *rows):
        cells = [[text] if i < len(short) else textwrap.wrap(text, widths[i]) for i, text in enumerate(row)]
        for line in itertools.zip_longest(*cells, fillvalue=""):
            aligned = (f"{text:>{w}}" if right else f"{text:{w}}" for text, w, right in zip(line, widths, numeric, strict=True))
            print("  ".join(aligned).rstrip())


def print_findings(findings: Sequence[Finding]) -> None:
    """A line each under the name of their part, and last how many there are of what."""
    names = max(len(finding.name) for finding in findings)
    signs = {"ok": "ok", "without": "-", "missing": "!"}
    for part, group in itertools.groupby(findings, key=lambda finding: finding.part):
        print(part)
        for finding in group:
            remedy = f"; {finding.remedy}" if finding.remedy and finding.state != "ok" else ""
            print(f"  {signs[finding.state]:2}  {finding.name:{names}}  {finding.text}{remedy}")
    missing = [finding.name for finding in findings if finding.state == "missing"]
    print(f"\nNo study can run here: {', '.join(missing)}." if missing else "\nStudies can run here.")
