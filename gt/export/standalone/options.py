"""The options of a component, as `config.json` has them: values that were checked when the model was trained."""

from __future__ import annotations

from types import SimpleNamespace


class Options(SimpleNamespace):
    """By name."""
