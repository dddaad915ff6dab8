"""The specification of the model, as `config.json` has it: values that were checked when it was trained."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class Values(dict[str, Any]):
    """A JSON object whose values are attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return values(self[name])
        except KeyError:
            raise AttributeError(name) from None

    def model_dump(self, exclude: Iterable[str] = ()) -> dict[str, Any]:
        """Its values by name."""
        return {name: value for name, value in self.items() if name not in exclude}


class ModelSpec(Values):
    """A model. `each_layer`: of each layer the letters of its mixers, from the bottom up."""

    def layer_list(self) -> list[tuple[str, ...]]:
        """The mixers' letters of each layer."""
        return [tuple(letters) for letters in self["each_layer"]]


def values(value: Any) -> Any:
    """A JSON value whose objects have attributes."""
    if isinstance(value, dict):
        return Values({name: values(own) for name, own in value.items()})
    return [values(own) for own in value] if isinstance(value, list) else value
