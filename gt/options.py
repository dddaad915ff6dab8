"""What a component's `Config` is made of. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(gt=0, le=10_000_000_000)]
CountOrNone = Annotated[int, Field(ge=0, le=10_000_000_000)]  # 0: there is none
Fraction = Annotated[float, Field(ge=0, le=1)]
Probability = Annotated[float, Field(gt=0, lt=1)]  # one that has a logit
Decay = Annotated[float, Field(ge=0, lt=1)]  # what a running mean keeps of itself
Positive = Annotated[float, Field(gt=0)]
Deviation = Annotated[float, Field(ge=0)]  # a standard deviation


class Options(BaseModel):
    """The options of a component, each with a type, bounds, a default and, where its name does not say it, a description.

    Frozen, strict about types, refuses unknown keys and values that are not finite. A run's identity leaves out what has its
    default, so an option that is added later renames no run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def computation(self) -> str:
        """What decides how a component computes: all options but those of `initial`, as JSON."""
        return self.model_dump_json(exclude=set(initial_of(type(self))))


def numbers(config: type[Options]) -> list[str]:
    """The options that are floats. Of an optimizer, runs that are stacked may differ in them, and in no others."""
    return [name for name, field in config.model_fields.items() if field.annotation is float]


def initial(default: Any, description: str | None = None) -> Any:
    """An option with this default that decides initial values and nothing else: neither what is computed from the same
    weights, nor which weights there are. Runs that differ only in such options are trained together.
    """
    return Field(default, description=description, json_schema_extra={"initial": True})


def initial_of(options: type[BaseModel]) -> frozenset[str]:
    """The names of the options that decide initial values alone."""
    extras = {name: field.json_schema_extra for name, field in options.model_fields.items()}
    return frozenset(name for name, extra in extras.items() if isinstance(extra, dict) and extra.get("initial"))
