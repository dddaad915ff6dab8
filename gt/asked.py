"""Evaluations as they are asked for: by name, or by a mapping with their `name` and options. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gt.catalogue import Component, component
from gt.errors import ConfigError
from gt.explain import validated
from gt.options import Options

# The evaluations that runs have without being asked: of every run, of one that was trained on a task, and, with a number of
# bytes, of a slice that a run's curves did not follow.
HELD_OUT, RECALL, VALIDATION = "held_out", "recall", "validation"


@dataclass(frozen=True)
class Asked:
    """An evaluation, and the options that are not at their defaults, as canonical JSON."""

    name: str
    options: str = "{}"

    @classmethod
    def of(cls, written: str | dict[str, Any], source: str = "evaluations") -> Asked:
        """From a name, `validation-<bytes>`, or a mapping, also as JSON text.

        ConfigError, which names the source, for an unknown evaluation and for options that it does not have.
        """
        if isinstance(written, str) and written.startswith("{"):
            try:
                written = json.loads(written)
            except ValueError as error:
                raise ConfigError(f"{source}: {written!r} is no JSON ({error}).") from None
        document = {"name": written} if isinstance(written, str) else dict(written)
        name = str(document.pop("name", ""))
        if (number := name.removeprefix(f"{VALIDATION}-")).isdecimal():
            name, document = VALIDATION, {**document, "bytes": int(number)}
        try:
            config = component("evaluation", name).config
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from None
        if "-" in name:
            raise ConfigError(f"{source}: {name!r} is no name of an evaluation. Allowed: letters, digits and _.")
        options = validated(config, document, f"{source}: {name}", briefly=True).model_dump(mode="json", exclude_defaults=True)
        return cls(name, json.dumps(options, sort_keys=True))

    @classmethod
    def read(cls, document: str | dict[str, Any]) -> Asked:
        """From `document`, as a plan keeps it, which is not checked: what measured it may not be installed here."""
        own = {"name": document} if isinstance(document, str) else dict(document)
        return cls(str(own.pop("name")), json.dumps(own, sort_keys=True))

    @property
    def document(self) -> str | dict[str, Any]:
        """The name alone, where there are no options."""
        return self.name if self.options == "{}" else {"name": self.name, **json.loads(self.options)}

    @property
    def text(self) -> str:
        """As a command takes it."""
        if self.options == "{}" or self.name == VALIDATION:
            return self.label
        return json.dumps(self.document)

    @property
    def label(self) -> str:
        """What its file is called: its name, and of options that are not the defaults the first digits of their sum."""
        if self.options == "{}":
            return self.name
        if self.name == VALIDATION:
            return f"{VALIDATION}-{json.loads(self.options)['bytes']}"
        return f"{self.name}-{hashlib.sha256(self.options.encode()).hexdigest()[:8]}"

    @property
    def component(self) -> Component:
        return component("evaluation", self.name)

    @cached_property
    def config(self) -> Options:
        """Its options, all of them."""
        return self.component.config.model_validate_json(self.options)
