"""The command line, `gt`: one command a stage. Each imports what it uses when it is called, and nothing else does.

A command is a function with `@command(GROUP, example=...)` in one of the modules that are imported here. Its parameters are
the arguments and options, their annotations the types, and its docstring is the help.
"""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Sequence

from cyclopts.exceptions import CycloptsError

from gt.cli import components, leaving, published, results, study, tools
from gt.cli.app import app
from gt.cli.refusal import refusal
from gt.errors import ConfigError

__all__ = ["app", "components", "leaving", "main", "published", "results", "study", "tools"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Exit codes: 0 done, 1 failed, 2 bad input (one message, no stack trace), 130 interrupted."""
    try:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `gt list | head` ends quietly
        return app(sys.argv[1:] if arguments is None else arguments) or 0
    except CycloptsError as error:
        return _refused(refusal(error))
    except ConfigError as error:
        return _refused(str(error))
    except KeyboardInterrupt:
        return 130
    except ModuleNotFoundError as error:
        if (error.name or "gt").split(".")[0] == "gt":
            raise
        return _refused(
            f"there is no {error.name} in {sys.prefix}; `pip install groundthink`, in a checkout `pip install -e .`, brings it."
        )
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        print(f"gt: {error.filename or 'a file'}: cannot be written ({error.strerror}).", file=sys.stderr)
        return 1


def _refused(message: str) -> int:
    print(f"gt: {message}", file=sys.stderr)
    return 2
