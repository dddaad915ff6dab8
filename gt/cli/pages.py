"""How help is set: headings, and under each names and texts in two columns. No frames: it can be searched and copied."""

from __future__ import annotations

import itertools
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions

NARROWEST, WIDEST = 60, 120  # characters of a line


class Pages:
    """Sets help pages; the formatter of the application."""

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """Write one panel: its title, and a row for each command or option."""
        rows = [(" ".join(entry.display_labels_with_metavar), _text(entry)) for entry in panel.entries]
        if not rows:
            return
        width = _width(console)
        column = min(max(len(label) for label, _ in rows), width // 3) + 2
        lines = [f"{panel.title}:"]
        for label, text in rows:
            fits = len(label) + 2 <= column
            labels = [label] if fits else [label, ""]
            texts = [*([] if fits else [""]), *textwrap.wrap(text, width - column - 2)]
            lines += [f"  {a:{column}}{b}".rstrip() for a, b in itertools.zip_longest(labels, texts, fillvalue="")]
        _write(console, *lines, "")

    def render_usage(self, console: Console, options: ConsoleOptions, usage: Any) -> None:
        """Write how the command is called."""
        _write(console, *textwrap.wrap(f"Usage: {usage}", _width(console), subsequent_indent="  "), "")

    def render_description(self, console: Console, options: ConsoleOptions, description: Any) -> None:
        """Write what the command does: the paragraphs of its docstring."""
        for paragraph in _plain(description).strip().split("\n\n"):
            _write(console, *textwrap.wrap(paragraph, _width(console)), "")


def _text(entry: HelpEntry) -> str:
    """What an option is for, and in brackets what it may and will be."""
    notes = [", ".join(entry.choices)] if entry.choices else []
    notes += ["required"] if entry.required else []
    notes += [f"default: {entry.default}"] if entry.default is not None else []
    return " ".join(filter(None, (_plain(entry.description), f"[{'; '.join(notes)}]" if notes else "")))


def _plain(text: Any) -> str:
    """The characters of what the library hands over as text with a style."""
    text = getattr(text, "primary_renderable", text)
    return str(getattr(text, "plain", text) or "")


def _width(console: Console) -> int:
    return min(max(console.width, NARROWEST), WIDEST)


def _write(console: Console, *lines: str) -> None:
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
