"""What is wrong with a command line, in one sentence, and where to read what would be right."""

from __future__ import annotations

from typing import Literal, get_args, get_origin

from cyclopts.exceptions import (
    CoercionError,
    ConsumeMultipleError,
    CycloptsError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from gt.cli.app import app
from gt.errors import close, nearest


def refusal(error: CycloptsError) -> str:
    """The message of an error of the command line."""
    called = " ".join(("gt", *(error.command_chain or ())))
    return f"{_said(error)} See `{called} --help`."


def _said(error: CycloptsError) -> str:
    error.verbose = False
    unused = error.unused_tokens or []
    if unknown := _unknown_options(error):
        return f"unknown option {unknown[0]}.{close(unknown[0], _options(error))}"
    if isinstance(error, UnknownCommandError):
        return f"unknown command {unused[0]!r}.{close(unused[0], commands())}"
    if isinstance(error, UnusedCliTokensError):
        return f"unexpected {' '.join(unused)}."
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        has_no_value = isinstance(error, ConsumeMultipleError) or error.keyword or error.argument.tokens
        return f"{error.keyword or error.argument.name}: {'a value' if has_no_value else 'it'} is missing."
    if isinstance(error, RepeatArgumentError):
        return f"{error.token.keyword}: it is given twice."
    if isinstance(error, CoercionError) and error.token is not None and error.argument is not None:
        given = f"{error.token.keyword or error.argument.name}: {error.token.value} is not allowed."
        if error.msg is not None:  # of a type of ours (gt.cli.options)
            return f"{given} {error.msg}"
        if get_origin(error.target_type) is Literal:
            return given + nearest(error.token.value, get_args(error.target_type))
    return str(error)


def _unknown_options(error: CycloptsError) -> list[str]:
    """What looks like an option and is none; where one is misspelt, what it should have given is missing too."""
    if isinstance(error, UnknownOptionError):
        return [(error.token.keyword or error.token.value).split("=")[0]]
    words = [word.split("=")[0] for word in error.unused_tokens or () if word.startswith("-")]
    return [word for word in words if word not in _options(error)]


def _options(error: CycloptsError) -> list[str]:
    """The options of the command that was called, or of gt."""
    if not error.command_chain:
        return ["--help", "--version"]
    arguments = app[error.command_chain[0]].assemble_argument_collection()
    return ["--help", *(name for argument in arguments for name in argument.names)]


def commands() -> list[str]:
    """The names of all commands."""
    return [name for name in app if not name.startswith("-")]
