"""The pytest plug-in: gives each conformance test the components that it is about, and costs nothing where there is none."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeGuard

import pytest


def pytest_pycollect_makeitem(collector: pytest.Collector, name: str, obj: object) -> list[pytest.Item] | None:
    """A test about components of a kind is not there where the project has none of that kind."""
    if not name.startswith("test_") or not _is_ours(obj):
        return None
    from gt.conformance.subjects import ASKED, subjects

    asked = [argument for argument in inspect.signature(obj).parameters if argument in ASKED]
    return None if all(subjects(argument) for argument in asked) else []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test a component, or a component and one of its options' values: what an argument's name asks for."""
    if not _is_ours(metafunc.function):
        return
    from gt.conformance.subjects import ASKED, subjects

    for argument in set(ASKED) & set(metafunc.fixturenames):
        metafunc.parametrize(argument, subjects(argument), ids=str)


def _is_ours(obj: Any) -> TypeGuard[Callable[..., None]]:
    return callable(obj) and str(getattr(obj, "__module__", "")).startswith("gt.conformance.")
