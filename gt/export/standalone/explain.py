"""Options need not be checked again."""

from __future__ import annotations

from typing import Any


def validated(options: Any, values: dict[str, Any], source: object) -> Any:
    """Values as the options of a component."""
    return options(**values)
