"""Tables for a terminal."""

from __future__ import annotations

import itertools
import shutil
import textwrap


def print_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Columns of a name, numbers and two texts, which share what is left of the terminal and are wrapped in it."""
    *numbers, _, _ = (max(len(row[i]) for row in (header, *rows)) for i in range(len(header)))
    left = max(70, shutil.get_terminal_size((160, 0)).columns - sum(numbers) - 2 * (len(header) - 1))
    widths = [*numbers, left * 3 // 5, left - left * 3 // 5]
    for row in (header, tuple("-" * width for width in widths), *rows):
        cells = [[text] if i < len(numbers) else textwrap.wrap(text, widths[i]) for i, text in enumerate(row)]
        for line in itertools.zip_longest(*cells, fillvalue=""):
            aligned = (
                f"{text:>{w}}" if 0 < i < len(numbers) else f"{text:{w}}"
                for i, (text, w) in enumerate(zip(line, widths, strict=True))
            )
            print("  ".join(aligned).rstrip())
