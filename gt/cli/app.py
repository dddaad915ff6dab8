"""The application, the groups of its commands, and how a command is entered."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any, TypeVar

from cyclopts import App, Group, Parameter

from gt import __version__
from gt.cli.pages import Pages

Function = TypeVar("Function", bound=Callable[..., Any])

STUDY = Group("A study, stage by stage", sort_key=1)
RESULTS = Group("What came of studies", sort_key=2)
PUBLISHED = Group("What is kept and shown", sort_key=3)
COMPONENTS = Group("Components and models", sort_key=4)
TOOLS = Group("Tools", sort_key=5)

app = App(
    name="gt",
    help="Ablations of small language models, from a study file to a report.",
    help_epilogue="`gt COMMAND --help` says what a command takes, with an example.",
    help_format="plaintext",
    help_formatter=Pages(),
    version=f"gt {__version__}",
    version_flags="--version",
    help_flags=("--help", "-h"),
    default_parameter=Parameter(negative=()),  # no --no-quick, no --empty-run
    group_commands=Group("Options", sort_key=9),  # of gt itself: all commands have groups of their own
    group_parameters=Group("Options", sort_key=1),
    result_action="return_value",
    print_error=False,
    exit_on_error=False,
    suppress_keyboard_interrupt=False,
)
# By its name, how a command is called, as its help shows it.
examples: dict[str, str] = {}


def command(group: Group, example: str) -> Callable[[Function], Function]:
    """Enter a function as the command of its name.

    Its docstring is the help; positional-only parameters are arguments, keyword-only ones options. It may return an exit code.
    """

    def enter(function: Function) -> Function:
        name = function.__name__.strip("_").replace("_", "-")
        examples[name] = example
        app.command(function, name=name, group=group, sort_key=len(examples), help_epilogue=f"Example:\n  {copied(example)}")
        return function

    return enter


def copied(example: str) -> str:
    """An example on lines that are short, and still one command when they are copied."""
    return " \\\n    ".join(textwrap.wrap(example, 74, break_long_words=False, break_on_hyphens=False))
