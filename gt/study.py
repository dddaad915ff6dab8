"""A study file -> its cells and runs.

A study is a cross product (variants x corpora x tokenizers x factors x seeds) with exclusions, plus further blocks of the
same form (`also`). What decides a run's numbers is merged from general to particular: the study's `model` and `training`,
the variant's, those of the variant's entry in the study, and the factors' values.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from gt.errors import ConfigError, nearest
from gt.spec import CorpusSpec, RunSpec, TokenizerSpec, explain

Json = dict[str, Any]
# Names become file names: no separators, no leading dot, nothing that leaves results/.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_+-]*(\.[A-Za-z0-9_+-]+)*$"
Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=80)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
# Those of gt/evals that take longer than a held-out loss.
Evaluation = Literal["long_context", "needle", "generation", "cost", "quantisation"]
Model = TypeVar("Model", bound=BaseModel)


class Document(BaseModel):
    """A strict part of a configuration file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Variant(Document):
    """A named model: what it changes, and what it is based on."""

    title: str
    source: Annotated[str, Field(description="seed and line, paper, or repository path")]
    based_on: Name | None = None
    model: Json = Field({}, description="a part of a ModelSpec")
    training: Json = Field({}, description="a part of a TrainingSpec")


class VariantUse(Document):
    """A variant as one study uses it."""

    variant: Name
    label: Name | None = Field(None, description="its name in this study, if it is changed here")
    model: Json = {}
    training: Json = {}


class Block(Document):
    """A cross product of cells."""

    variants: Annotated[list[Name | VariantUse], Field(min_length=1)]
    corpora: Annotated[list[str | CorpusSpec], Field(min_length=1)]
    tokenizers: Annotated[list[TokenizerSpec], Field(min_length=1)]
    seeds: Annotated[int, Field(ge=1, le=1000)] | list[Seed] = Field(description="how many (0, 1, ...), or which")
    factors: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        {}, description="dotted path of a run specification -> values"
    )

    scales: list[str] = Field([], description="named sizes of config/scales.yaml, each merged over the study's model")

    @field_validator("seeds", mode="after")
    @classmethod
    def _unique(cls, seeds: int | list[int]) -> int | list[int]:
        if isinstance(seeds, list) and (not seeds or len(set(seeds)) != len(seeds)):
            raise ValueError(f"seeds {seeds} must be at least one, each once")
        return seeds

    @property
    def seed_list(self) -> list[int]:
        return self.seeds if isinstance(self.seeds, list) else list(range(self.seeds))


class StudyFile(Block):
    """`config/studies/<name>.yaml`."""

    title: str
    description: str = ""
    baseline: Annotated[Name, Field(description="the variant that the others are compared with")]
    evaluations: list[Evaluation] = Field([], description="what is measured of every run beside its held-out losses")
    dollars_per_hour: Annotated[float, Field(gt=0)] = Field(2.5, description="price of the device, for tokens per dollar")
    model: Json = Field({}, description="what all variants share; options of mixers stand under their names")
    training: Json = {}
    exclude: list[Json] = Field([], description="cells left out: variant, corpus, tokenizer and factor values that match")
    also: list[Json] = Field([], description="further blocks; keys not given are the study's")


class Study:
    """A study file that has been read, with the variants it can use.

    Raises ConfigError for anything that is not right in it, before anything runs.
    """

    def __init__(self, path: Path, variants: Path | None = None) -> None:
        self.path = path
        self.name = path.stem
        self.file = _validated(StudyFile, read_yaml(path), path)
        folder = variants or path.parent.parent / "variants"
        self.variants = load_variants(folder)
        scales = folder.parent / "scales.yaml"
        self.scales = read_yaml(scales) if scales.exists() else {}
        self.corpus_files: dict[str, str] = {}

    def plan(self) -> Json:
        """The cells, their runs and all that the workflow needs to know, as JSON. The order is the file's."""
        cells: dict[str, Json] = {}
        runs: dict[str, RunSpec] = {}
        for block in self._blocks:
            for cell, specs in self._cells(block):
                known = cells.setdefault(cell["id"], {**cell, "runs": {}})
                for spec in specs:
                    run_id = spec.run_id
                    if known["runs"].setdefault(str(spec.seed), run_id) != run_id:
                        raise ConfigError(f"{self.path}: two different cells are called {cell['id']!r}; give one a label.")
                    runs[run_id] = spec
        if not cells:
            raise ConfigError(f"{self.path}: exclude leaves no cell.")
        if self.file.baseline not in (labels := {cell["variant"] for cell in cells.values()}):
            raise ConfigError(
                f"{self.path}: baseline: no cell is called {self.file.baseline!r}." + nearest(self.file.baseline, labels)
            )
        return {
            "study": self.name,
            "title": self.file.title,
            "description": self.file.description,
            "baseline": self.file.baseline,
            "evaluations": self.file.evaluations,
            "dollars_per_hour": self.file.dollars_per_hour,
            "tokens": sum(spec.tokens for spec in runs.values()),
            "cells": list(cells.values()),
            "runs": {run_id: spec.model_dump(mode="json") for run_id, spec in runs.items()},
            "corpora": {s.corpus.id: s.corpus.model_dump(mode="json") for s in runs.values()},
            "tokenizers": {s.tokenizer.id: s.tokenizer.model_dump(mode="json") for s in runs.values()},
            "corpus_files": self.corpus_files,
        }

    @cached_property
    def _blocks(self) -> list[Block]:
        own = {name: getattr(self.file, name) for name in Block.model_fields}
        extra = [_validated(Block, {**own, **block}, self.path, f"also.{i}.") for i, block in enumerate(self.file.also)]
        return [self.file, *extra]

    def _cells(self, block: Block) -> Iterator[tuple[Json, list[RunSpec]]]:
        paths = list(block.factors)
        scales: list[str | None] = [*block.scales] or [None]
        for use, corpus, tokenizer, scale, *values in itertools.product(
            block.variants, block.corpora, block.tokenizers, scales, *block.factors.values()
        ):
            use = VariantUse(variant=use) if isinstance(use, str) else use
            factors = dict(zip(paths, values, strict=True))
            document = self._document(use, self._scale(scale) if scale else {}, factors)
            document["corpus"] = self._corpus(corpus).model_dump(mode="json")
            document["tokenizer"] = tokenizer.model_dump(mode="json")
            label = use.label or use.variant
            where = f"{self.path} (variant {label})"
            specs = [_validated(RunSpec, {**document, "seed": seed}, where) for seed in block.seed_list]
            if scale:
                factors = {"scale": scale, **factors}
            suffix = "".join(f".{path.rsplit('.', 1)[-1]}={value}" for path, value in factors.items())
            cell = {
                "id": f"{label}.{specs[0].corpus.id}.{tokenizer.id}{suffix}",
                "variant": label,
                "corpus": specs[0].corpus.id,
                "tokenizer": tokenizer.id,
                "factors": factors,
            }
            if not self._excluded(cell):
                yield cell, specs

    def _document(self, use: VariantUse, scale: Json, factors: Json) -> Json:
        """The model and training of one cell, merged from general to particular."""
        if use.variant not in self.variants:
            raise ConfigError(f"{self.path}: variants: unknown variant {use.variant!r}." + nearest(use.variant, self.variants))
        variant = resolve(self.variants, use.variant)
        document = {
            "model": assemble(merge(self.file.model, scale), merge(variant.model, use.model)),
            "training": merge(self.file.training, merge(variant.training, use.training)),
        }
        for path, value in factors.items():
            document = merge(document, _nested(path, value))
        return document

    def _scale(self, name: str) -> Json:
        """The sizes that a scale's name stands for."""
        if name not in self.scales:
            raise ConfigError(f"{self.path}: scales: unknown scale {name!r}." + nearest(name, self.scales))
        sizes: Json = self.scales[name]
        return sizes

    def _corpus(self, entry: str | CorpusSpec) -> CorpusSpec:
        """A corpus entry; `file:PATH` becomes `file:<stem>` with the sum of the text it holds now."""
        try:
            spec = CorpusSpec(name=entry) if isinstance(entry, str) else entry
        except ValidationError as error:
            raise explain(error, f"{self.path}: corpora", entry) from None
        if spec.task is not None:
            from gt.data.tasks import check

            try:
                check(spec)
            except ConfigError as error:
                raise ConfigError(f"{self.path}: {error}") from None
        if not spec.name.startswith("file:"):
            return spec
        from gt.data.corpora import file_sha256

        path = Path(spec.name.removeprefix("file:"))
        spec = spec.model_copy(update={"name": f"file:{path.name.split('.')[0]}", "sha256": file_sha256(path)})
        self.corpus_files[spec.id] = str(path)
        return spec

    def _excluded(self, cell: Json) -> bool:
        for rule in self.file.exclude:
            if unknown := set(rule) - {"variant", "corpus", "tokenizer", *cell["factors"]}:
                key = min(unknown)
                allowed = ["variant", "corpus", "tokenizer", *cell["factors"]]
                raise ConfigError(f"{self.path}: exclude: unknown key {key!r}." + nearest(key, allowed))
            if all({**cell, **cell["factors"]}[key] == value for key, value in rule.items()):
                return True
        return False


def load_study(path: Path | str) -> Study:
    """Read a study file. ConfigError says what is wrong with it."""
    path = Path(path)
    if not path.exists():
        known = [file.stem for file in path.parent.glob("*.yaml")]
        raise ConfigError(f"{path}: there is no study {path.stem!r}." + nearest(path.stem, known))
    return Study(path)


def specification(plan: Json, cell: Json) -> Json:
    """That of the first run of a plan's cell; those of the others differ from it in the seed alone."""
    found: Json = plan["runs"][next(iter(cell["runs"].values()))]
    return found


def checked_plan(path: Path | str, planned: Path) -> Json:
    """The study's plan, whose models are known to be buildable and whose sequences, as far as texts are at hand, to fit them.

    Building every model (on the meta device) needs torch, so it is done only where `planned`, the plan of an earlier call,
    does not say the same already.
    """
    plan = load_study(path).plan()
    if not planned.exists() or planned.read_text(encoding="utf-8") != dumps(plan):
        from gt.data.fit import check_text
        from gt.models.lm import check

        for cell in plan["cells"]:
            spec, text = RunSpec.model_validate(specification(plan, cell)), plan["corpus_files"].get(cell["corpus"])
            try:
                check(spec)
                check_text(spec, Path(text) if text else None)
            except ConfigError as error:
                raise ConfigError(f"{path} (variant {cell['variant']}): {error}") from None
    return plan


def dumps(plan: Json) -> str:
    """The text of a `plan.json`."""
    return json.dumps(plan, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def resolve(variants: dict[str, Variant], name: str) -> Variant:
    """A variant with what it is based on merged in."""
    variant = variants[name]
    if variant.based_on is None:
        return variant
    base = resolve(variants, variant.based_on)
    model, training = merge(base.model, variant.model), merge(base.training, variant.training)
    return variant.model_copy(update={"model": model, "training": training})


def assemble(shared: Json, particular: Json) -> Json:
    """A variant's model over what a study's variants share.

    In `shared`, options of mixers stand under the mixers' names and reach every letter that stands for one. A mixer that
    `particular` sets to null is not there, and a shared fusion is for variants that have one.
    """
    mixers = {letter: mixer for letter, mixer in particular.get("mixers", {}).items() if mixer is not None}
    by_name = shared.get("mixers", {})
    general = {**shared, "mixers": {letter: by_name.get(mixer.get("name"), {}) for letter, mixer in mixers.items()}}
    if particular.get("fusion") is None:
        general.pop("fusion", None)
    return merge(general, {**particular, "mixers": mixers})


def load_variants(folder: Path) -> dict[str, Variant]:
    """All named variants of `config/variants/*.yaml`."""
    variants: dict[str, Variant] = {}
    for file in sorted(folder.glob("*.yaml")):
        for name, document in read_yaml(file).items():
            if name in variants:
                raise ConfigError(f"{file}: {name}: another file defines a variant of this name already.")
            variants[name] = _validated(Variant, document, file, f"{name}.")
    for name, variant in variants.items():
        if variant.based_on is not None:
            seen = {name}
            while (base := variants[name].based_on) is not None:
                if base not in variants:
                    raise ConfigError(f"{folder}: {name}.based_on: unknown variant {base!r}." + nearest(base, variants))
                if base in seen:
                    raise ConfigError(f"{folder}: {name}.based_on: {base} is based on itself.")
                seen.add(base)
                name = base
    return variants


class _UniqueKeyLoader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: list[object] = []
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in keys:
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} stands here twice", problem_mark=key_node.start_mark)
            keys.append(key)
        return dict(super().construct_mapping(node, deep))


def read_yaml(path: Path) -> Json:
    """Read a YAML mapping. ConfigError names the file, and the line where it is not YAML."""
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file.") from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: {error.problem}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML in UTF-8 ({error}).") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: must be a mapping of keys to values.")
    return document


def merge(general: Json, particular: Json) -> Json:
    """`particular` over `general`, key by key. A component of another name replaces the general one whole."""
    result = dict(general)
    for key, value in particular.items():
        base: Any = result.get(key)
        both = isinstance(base, dict) and isinstance(value, dict)
        renamed = both and "name" in value and base.get("name", value["name"]) != value["name"]
        result[key] = merge(base, value) if both and not renamed else value
    return result


def _nested(path: str, value: Any) -> Json:
    for part in reversed(path.split(".")):
        value = {part: value}
    return value


def _validated(model: type[Model], document: Any, source: Any, prefix: str = "") -> Model:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise explain(error, f"{source}: {prefix}".rstrip(": ") if prefix else str(source), document) from None
