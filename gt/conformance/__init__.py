"""What every component promises, as tests that run on the components of whoever writes

    from gt.conformance import *  # the conformance tests of all components of this project

in a file of its tests, as `tests/test_components.py`. There is no list: the components are those whose source is in the folder
that pytest runs in. One file, rather than a switch of pytest, because each test then has a place to be run by, to be deselected
by, and to be read from.

The plug-in is `gt.conformance.plugin`; the tests are imported, and torch with them, where they are asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

MODULES = tuple(
    f"gt.conformance.{name}" for name in ("texts", "options", "parts", "states", "optimizers", "corpora", "measurements")
)


def __getattr__(name: str) -> Any:
    """A test by its name, and `__all__`, which are the tests that there are."""
    if name != "__all__" and not name.startswith("test_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    tests = {key: value for own in MODULES for key, value in vars(import_module(own)).items() if key.startswith("test_")}
    if name == "__all__":
        return list(tests)
    return tests[name]
