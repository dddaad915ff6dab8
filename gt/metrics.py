"""What is measured: metrics, the axes along which they have values, and measurements. Imports no torch.

A metric's name is a template. The axes in it are written into the name that claims, tables and prose have: a measurement of
`needle/found/depth_<depth>` at a depth of 0.5 is called `needle/found/depth_0.5`. One axis more may be beside the name, as
the length of the haystack: tables have it as `at`, and a probe's layer as `layer`. A measurement without it is of the whole.
Branches are called by the letters of their mixers (`r`, `m`); a ratio between branches is the first to the second, in the
order of `ModelSpec.layers`. `initial/<name>` is the same measured on the network that training started from.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, StrictFloat, StrictInt, StrictStr, model_serializer
from pydantic.dataclasses import dataclass as checked

from gt.errors import ConfigError

TableName = Literal["runs", "curves", "probes", "evaluations"]
Value = StrictInt | StrictFloat | StrictStr
# A value of an axis in a sentence. mixers: the names of a model's mixers by letter, as far as they are known.
Words = Callable[[str, Mapping[str, str]], str]
PLACE = re.compile("<([a-z_]+)>")
INITIAL = "initial/"


@dataclass(frozen=True)
class Axis:
    """form: what its values look like in a name: a regular expression, or all values that there are. words: a value in a
    sentence, by default as it is.
    """

    name: str
    form: str | tuple[str, ...] = r"[^/]+"
    words: Words = lambda value, mixers: value


@dataclass(frozen=True)
class Metric:
    """What a number is.

    name, phrase: with a place `<axis>` for each axis that stands in the name; the phrase is a noun phrase for sentences. axes:
    those, and at most one more beside the name, which a measurement may leave out (and `layer`, of a probe's). better: which
    way is better, where one is. source: of the definition. table: of the study; by default that of what measures it. initial:
    is also measured on the initial network. ConfigError for a name, a phrase and axes that do not fit together.
    """

    name: str
    phrase: str
    unit: str = ""
    axes: tuple[Axis, ...] = ()
    better: Literal["lower", "higher"] | None = None
    definition: str = ""
    source: str = ""
    table: TableName | None = None
    initial: bool = False

    def __post_init__(self) -> None:
        places, known = PLACE.findall(self.name), [axis.name for axis in self.axes]
        if missing := [place for place in places if place not in known]:
            raise ConfigError(
                f"metric {self.name!r}: <{missing[0]}> is none of its axes. There are: {', '.join(known) or 'none'}."
            )
        if sorted(places) != sorted(PLACE.findall(self.phrase)):
            raise ConfigError(f"metric {self.name!r}: its phrase {self.phrase!r} must have the places of its name, each once.")
        if len(beside := [name for name in known if name not in places and name != LAYER.name]) > 1:
            raise ConfigError(f"metric {self.name!r}: one axis may be beside the name, not {len(beside)}: {', '.join(beside)}.")

    @cached_property
    def beside(self) -> Axis | None:
        """The axis that does not stand in the name, without the layer."""
        places = PLACE.findall(self.name)
        return next((axis for axis in self.axes if axis.name not in places and axis != LAYER), None)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        forms = {axis.name: f"(?P<{axis.name}>{_expression(axis.form)})" for axis in self.axes}
        parts = PLACE.split(self.name)  # text, axis, text, ...
        return re.compile("".join(forms[part] if i % 2 else re.escape(part) for i, part in enumerate(parts)))

    @property
    def names(self) -> list[str]:
        """Its name with each value of the axes of which all values are known; other axes stand as they are."""
        known = {axis.name: axis.form for axis in self.axes if isinstance(axis.form, tuple)}
        parts = PLACE.split(self.name)
        return [
            "".join(own)
            for own in product(*(known.get(part, (f"<{part}>",)) if i % 2 else (part,) for i, part in enumerate(parts)))
        ]

    def read(self, name: str) -> dict[str, str] | None:
        """The values of the axes in a name that was written of this metric; None for the name of another."""
        found = self._pattern.fullmatch(name)
        return found.groupdict() if found else None

    def said(self, axes: Mapping[str, str], mixers: Mapping[str, str]) -> str:
        """The phrase with what stands in its places, in words."""
        words = {axis.name: axis.words for axis in self.axes}
        return PLACE.sub(lambda place: words[place[1]](axes[place[1]], mixers), self.phrase)

    def initially(self) -> Metric:
        """The same of the initial network."""
        return replace(self, name=f"{INITIAL}{self.name}", phrase=f"initial {self.phrase}", initial=False)


def _expression(form: str | tuple[str, ...]) -> str:
    return form if isinstance(form, str) else "|".join(map(re.escape, form))


def fits(name: str, template: str) -> bool:
    """Whether a written name is that of a template, of which some axes may have values: `state/norm/<branch>/1`."""
    parts = PLACE.split(template)
    return bool(re.fullmatch("".join("[^/]+" if i % 2 else re.escape(part) for i, part in enumerate(parts)), name))


def written(metric: str, axes: Mapping[str, Value]) -> str:
    """The name of a metric, by its template, with the values of the axes in it: `state/norm/r/0.25`. KeyError without one."""
    return PLACE.sub(lambda place: _text(axes[place[1]]), metric)


@cache
def _places(metric: str) -> tuple[str, ...]:
    """The axes that stand in the name of a metric: looked up for every measurement."""
    return tuple(PLACE.findall(metric))


def _text(value: Value) -> str:
    return value if isinstance(value, str) else f"{value:.15g}"


def _number(value: Any) -> Any:
    """A number as JSON can say it: none where it is not finite."""
    if isinstance(value, bool | str) or value is None:
        return value
    try:
        number = float(value)
    except (TypeError, ValueError):
        return value
    return number if math.isfinite(number) else None


Number = Annotated[StrictFloat | None, BeforeValidator(_number)]


@checked(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Measurement:
    """A value of a metric. metric: its name, a template. axes: by name. value: none where it is no number or not finite.

    lower, upper: a 95 % interval of the value, where there is one. n: of how many it is the share or mean.
    """

    metric: StrictStr
    axes: dict[StrictStr, Value]
    value: Number
    lower: Number = None
    upper: Number = None
    n: Annotated[StrictInt, Field(ge=0)] | None = None

    def __post_init__(self) -> None:
        places = _places(self.metric)
        if missing := [name for name in places if name not in self.axes]:
            raise ValueError(f"a measurement of {self.metric!r} must say its {missing[0]}")
        if len(beside := self._beside(places)) > 1 or any(isinstance(value, str) for value in beside):
            raise ValueError(f"a measurement of {self.metric!r} may have one axis beside the name, of numbers, not {self.axes}")

    @property
    def name(self) -> str:
        """As claims and tables have it."""
        return written(self.metric, self.axes)

    @property
    def layer(self) -> int | None:
        """That it is of; none where it is of the model."""
        return None if LAYER.name in _places(self.metric) else self.axes.get(LAYER.name)  # type: ignore[return-value]

    @property
    def at(self) -> int | float | None:
        """The value of the axis beside the name."""
        return next(iter(self._beside(_places(self.metric))), None)  # type: ignore[return-value]

    def _beside(self, places: tuple[str, ...]) -> list[Value]:
        return [value for name, value in self.axes.items() if name not in places and name != LAYER.name]

    @model_serializer(mode="wrap")
    def _short(self, whole: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Without what there is not."""
        found = whole(self)
        return {key: value for key, value in found.items() if value is not None or key == "value"}


def one_of(**words: str) -> Words:
    """Values that a sentence has in other words; others stand as they are."""
    return lambda value, mixers: words.get(value, value)


def _part(value: str, mixers: Mapping[str, str]) -> str:
    parts = {
        "mixer_gain": "the mixers' gains",
        "fusion": "the fusion",
        "feed_forward": "the feed-forward layers",
        "feed_forward_gain": "the feed-forward layers' gains",
        "embedding": "the embedding",
        "norm": "the norms",
    }
    letter = value.removeprefix("mixers.")
    return parts[value] if value in parts else f"the {mixers.get(letter, letter)} branch"


# A branch is called by the name of its mixer, where it is the same in all models that are spoken of, and else by its letter.
BRANCH = Axis("branch", "[a-z]", lambda value, mixers: mixers.get(value, value))
PART = Axis("part", r"(?:mixers\.[a-z]|mixer_gain|fusion|feed_forward|feed_forward_gain|embedding|norm)", _part)
LAYER = Axis("layer", r"\d+")
SPLIT = Axis("split", ("val", "test"), one_of(val="held-out"))
NATS = "nats/token"


def over_layers(metric: str, values: Mapping[int, float], value: float | None = None, **axes: Value) -> list[Measurement]:
    """A measurement of a model, the mean of its layers' unless it is given, and those of the layers."""
    whole = sum(values.values()) / len(values) if value is None and values else value
    return [Measurement(metric, axes, whole), *(Measurement(metric, {**axes, "layer": i}, own) for i, own in values.items())]
