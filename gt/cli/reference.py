"""The help of all commands, as a page."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from cyclopts import App, Group
from cyclopts.argument import Argument

from gt.cli.app import app, copied, examples


def reference() -> Iterator[str]:
    """The lines of the page, in Markdown: a section for each group, a table of options for each command."""
    yield "# Commands\n"
    yield f"{app.help} Exit codes: 0 done, 1 failed, 2 bad input (one message), 130 interrupted.\n"
    group: object = None
    for name in ordered():
        command = app[name]
        if command.group != group:
            group = command.group
            yield f"## {title(command)}\n"
        yield from _command(name, command)


def ordered() -> list[str]:
    """The names of all commands, in the order of the help."""
    return sorted(examples, key=lambda name: (_group(app[name]).sort_key, app[name].sort_key))


def title(command: App) -> str:
    """The name of its group."""
    return _group(command).name


def _group(command: App) -> Group:
    groups = command.group if isinstance(command.group, tuple) else (command.group,)
    return next(group for group in groups if isinstance(group, Group))


def _command(name: str, command: App) -> Iterator[str]:
    assert command.default_command is not None
    yield f"### gt {name} {{ #{name} }}\n"
    yield inspect.cleandoc(command.default_command.__doc__ or "") + "\n"
    yield f"```\n{copied(examples[name])}\n```\n"
    rows = [argument for argument in command.assemble_argument_collection() if not argument.children]
    if rows:
        yield "| | | default |"
        yield "| --- | --- | --- |"
        yield from map(_row, rows)
        yield ""


def _row(argument: Argument) -> str:
    about = (argument.parameter.help or "").replace("<", "&lt;").replace("|", "\\|")
    if choices := argument.get_choices():
        about += f": {', '.join(f'`{value}`' for value in choices)}"
    default = argument.field_info.default
    shown = "" if default in (None, False, "", inspect.Parameter.empty) else f"`{str(default)!r}`".replace("'", "")
    return f"| `{argument.name}` | {about} | {'required' if argument.required else shown} |"
