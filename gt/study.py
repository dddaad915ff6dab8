"""A study file -> its cells and runs.

A study is a cross product (variants x corpora x tokenizers x factors x seeds) with exclusions, plus further blocks of the
same form (`also`). What decides a run's numbers is merged from general to particular: the study's `model` and `training`,
the variant's, those of the variant's entry in the study, and the factors' values.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, WrapValidator, create_model, field_validator

from gt.artefacts import Cell, Ladder, Name, Plan
from gt.asked import Asked
from gt.documents import Json, Mapping, Mark, has, mark_of, merge, nested, read_yaml, value_at
from gt.errors import ConfigError, nearest
from gt.explain import FORMS, NAME_PATTERN, Keys, branches, check_keys, place, validated
from gt.rungs import FEWEST, POWERS, arms, chooser, rungs
from gt.shared import configurations
from gt.spec import Corpus, CorpusSpec, Diverged, Mixer, ModelSpec, RunSpec, TokenizerSpec, TrainingSpec, Watch

Seed = Annotated[int, Field(ge=0, lt=2**32)]
# A part of a specification, as it was written.
Part = Annotated[Json, WrapValidator(lambda value, check: (check(value), value)[1])]


class Document(BaseModel):
    """A strict part of a configuration file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Variant(Document):
    """A named model: what it changes, and what it is based on."""

    title: str
    source: Annotated[str, Field(description="seed and line, paper, or repository path")]
    based_on: Name | None = None
    model: Part = Field({}, description="a part of a ModelSpec")
    training: Part = Field({}, description="a part of a TrainingSpec")


class VariantUse(Document):
    """A variant as one study uses it."""

    variant: Name
    label: Name | None = Field(None, description="its name in this study, if it is changed here")
    model: Part = {}
    training: Part = {}


class WithCorpus(BaseModel):
    """The corpus of a specification."""

    corpus: Corpus


class Block(Document):
    """A cross product of cells."""

    variants: Annotated[list[Name | VariantUse], Field(min_length=1)]
    corpora: Annotated[list[str | Corpus], Field(min_length=1)]
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
    evaluations: list[str | dict[str, Any]] = Field(
        [], description="what is measured of every run beside its held-out losses: names, or mappings of a name and options"
    )
    dollars_per_hour: Annotated[float, Field(gt=0)] = Field(2.5, description="price of the device, for tokens per dollar")
    diverged: Diverged | None = Field(None, description="how a run that diverged counts where a claim does not say")
    ladder: Ladder | None = Field(None, description="the cells that are one model at several sizes")
    model: Part = Field({}, description="what all variants share; options of mixers stand under their names")
    training: Part = {}
    exclude: list[Json] = Field([], description="cells left out: variant, corpus, tokenizer and factor values that match")
    also: list[Json] = Field([], description="further blocks; keys not given are the study's")


def _shared() -> Any:
    """What a study's variants share of their models: a ModelSpec whose mixers stand under their names."""
    fields: dict[str, Any] = {name: (field.annotation, None) for name, field in ModelSpec.model_fields.items()}
    mixers: dict[str, Any] = {get_args(spec.model_fields["name"].annotation)[0]: (spec, None) for spec in branches((Mixer,))}
    return create_model("SharedModel", **{**fields, "mixers": (create_model("SharedMixers", **mixers), None)})


SharedModel = _shared()


class Study:
    """A study file that has been read, with the variants it can use.

    Raises ConfigError for anything that is not right in it, before anything runs. `unread`, once it is planned: its settings
    that reach no run, because every cell has its own or has no such mixer.

    config: the folder with its variants and scales, beside those that are installed; by default that which has its `studies/`.
    """

    def __init__(self, path: Path, config: Path | None = None) -> None:
        self.path = path
        self.name = named(path)
        self.document = read_yaml(path)
        self.file = validated(StudyFile, self.document, path)
        folders = configurations(config or path.parent.parent)
        self.variants = load_variants(*(folder / "variants" for folder in folders))
        self.scales = load_scales(*(folder / "scales.yaml" for folder in folders))
        self.corpus_files: dict[str, str] = {}
        self.tokenizer_files: dict[str, str] = {}
        self.sums: dict[tuple[Any, ...], str] = {}
        self.unread: list[str] = []
        self.documents: dict[str, Json] = {}
        self.first_widths: dict[str, int] = {}
        self.rates: dict[str, float] = {}
        check_keys(SharedModel, self.file.model, path, at=("model",))
        check_keys(TrainingSpec, self.file.training, path, at=("training",))

    def plan(self) -> Plan:
        """The cells, their runs and all that the workflow needs to know. The order is the file's."""
        cells: dict[str, Cell] = {}
        runs: dict[str, RunSpec] = {}
        excluded: set[int] = set()
        reached: set[Mark] = set()
        considered: list[Cell] = []
        for block in self._blocks:
            for cell, specs, document in self._cells(*block):
                considered.append(cell)
                if rules := self._excluding(cell):
                    excluded |= rules
                    continue
                idle = list(_idle(specs[0]))
                reached.update(mark for keys, mark in _leaves(document, ()) if not any(keys[: len(own)] == own for own in idle))
                self.documents[cell.id] = document
                known = cells.setdefault(cell.id, cell).runs
                if any(known.get(seed, run_id) != run_id for seed, run_id in cell.runs.items()):
                    keys = self._place_of("variants", block[1])
                    raise self._refusal(keys, f"two different cells are called {cell.id!r}; give one a label.")
                cells[cell.id] = cell.model_copy(update={"runs": {**known, **cell.runs}})
                runs |= {spec.run_id: spec for spec in specs}
        self._check_exclusions(considered, excluded)
        if not cells:
            raise self._refusal(("exclude",), "exclude leaves no cell.")
        if self.file.baseline not in (labels := {cell.variant for cell in cells.values()}):
            raise self._refusal(
                ("baseline",), f"no cell is called {self.file.baseline!r}." + nearest(self.file.baseline, labels)
            )
        self.unread = list(self._unread(reached))
        self._check_ladder(list(cells.values()))
        return Plan(
            study=self.name,
            title=self.file.title,
            description=self.file.description,
            baseline=self.file.baseline,
            evaluations=self._evaluations(),
            dollars_per_hour=self.file.dollars_per_hour,
            diverged=self.file.diverged,
            ladder=self.file.ladder,
            tokens=sum(spec.tokens for spec in runs.values()),
            cells=list(cells.values()),
            runs=runs,
            corpora={spec.corpus.id: spec.corpus for spec in runs.values()},
            tokenizers={spec.tokenizer.id: spec.tokenizer for spec in runs.values()},
            corpus_files=self.corpus_files,
            tokenizer_files=self.tokenizer_files,
        )

    def _evaluations(self) -> list[str | dict[str, Any]]:
        """Those that are asked for, each once, with the options that are not at their defaults."""
        found: dict[str, Asked] = {}
        for i, written in enumerate(self.file.evaluations):
            try:
                own = Asked.of(written)
            except ConfigError as error:
                raise self._refusal(("evaluations", i), str(error).removeprefix("evaluations: ")) from None
            if found.setdefault(own.name, own) is not own:
                raise self._refusal(("evaluations", i), f"{own.name!r} stands there twice.")
        return [own.document for own in found.values()]

    def _refusal(self, keys: Keys, sentence: str, about: str = "") -> ConfigError:
        """An error at a place of the study file."""
        return ConfigError(f"{place(self.document, keys, self.path, about)}: {'.'.join(map(str, keys))}: {sentence}")

    @cached_property
    def _blocks(self) -> list[tuple[Block, Keys]]:
        """The study's own block, and the further ones, each with the keys that lead to it."""
        own = {name: getattr(self.file, name) for name in Block.model_fields}
        blocks: list[tuple[Block, Keys]] = [(self.file, ())]
        for i, block in enumerate(self.file.also):
            document = Mapping({**own, **block}, getattr(block, "marks", {}))
            blocks.append((validated(Block, document, self.path, at=("also", i), file=self.document), ("also", i)))
        return blocks

    def _cells(self, block: Block, at: Keys) -> Iterator[tuple[Cell, list[RunSpec], Json]]:
        """Each cell of a block, its runs, and the document that they were made of."""
        places = {name: self._place_of(name, at) for name in Block.model_fields}
        self._check_factors(block, places["factors"])
        for i, use in enumerate(block.variants):
            if isinstance(use, VariantUse):
                check_keys(ModelSpec, use.model, self.path, at=(*places["variants"], i, "model"))
                check_keys(TrainingSpec, use.training, self.path, at=(*places["variants"], i, "training"))
        for (i, use), (j, _), (k, _), (n, scale), *values in itertools.product(
            enumerate(block.variants),
            enumerate(block.corpora),
            enumerate(block.tokenizers),
            enumerate(block.scales or [None]),
            *(enumerate(values) for values in block.factors.values()),
        ):
            use = VariantUse(variant=use) if isinstance(use, str) else use
            label = use.label or use.variant
            about = f"variant {label}"
            if use.variant not in self.variants:
                raise self._refusal(
                    (*places["variants"], i),
                    f"unknown variant {use.variant!r}.{nearest(use.variant, self.variants)} `gt list --variants` has all.",
                )
            factors = {path: value for path, (_, value) in zip(block.factors, values, strict=True)}
            document = self._document(use, self._scale(scale, (*places["scales"], n)) if scale else {})
            for part, keys in {"corpus": (*places["corpora"], j), "tokenizer": (*places["tokenizers"], k)}.items():
                document = merge(document, self._written(part, keys))
            changes: Json = {}
            for path, (m, value) in zip(block.factors, values, strict=True):
                changes = merge(changes, nested(path, value, mark_of(self.document, (*places["factors"], path, m))))
            document = merge(document, changes)
            document["corpus"] = self._corpus(document, (*places["corpora"], j)).model_dump(mode="json")
            document["tokenizer"] = self._tokenizer(document, (*places["tokenizers"], k)).model_dump(mode="json")
            document["seed"] = block.seed_list[0]
            first = validated(RunSpec, document, self.path, about)
            if scale:
                factors = {"scale": scale, **factors}
            first = self._on_rung(first, label, factors)
            specs = [first.model_copy(update={"seed": seed}) for seed in block.seed_list]
            suffix = "".join(f".{name}={value}" for name, value in by_short_name(factors).items())
            cell = Cell(
                id=f"{label}.{first.corpus.id}.{first.tokenizer.id}{suffix}",
                variant=label,
                corpus=first.corpus.id,
                tokenizer=first.tokenizer.id,
                factors=factors,
                runs={spec.seed: spec.run_id for spec in specs},
            )
            yield cell, specs, document

    def _on_rung(self, spec: RunSpec, label: str, factors: Json) -> RunSpec:
        """A run with the rate that the ladder's rule gives its width: the study says that of its variant's first rung."""
        ladder, training = self.file.ladder, spec.training
        if ladder is None or ladder.learning_rate is None or ladder.rungs not in factors:
            return spec
        others = {path: value for path, value in factors.items() if path != ladder.rungs}
        arm = json.dumps([label, spec.corpus.id, spec.tokenizer.id, others], sort_keys=True)
        width = self.first_widths.setdefault(label, spec.model.d_model)
        rate = self.rates.setdefault(arm, training.learning_rate)
        if training.learning_rate != rate:
            raise self._refusal(
                ("ladder", "learning_rate"),
                f"{ladder.learning_rate} goes on from the first rung of {label}, with {rate:g}, and at "
                f"{factors[ladder.rungs]} the study has {training.learning_rate:g}. Leave that out, or write "
                f"tuned_by: {{{label}: <the variant whose cells choose it>}}.",
            )
        rate *= (spec.model.d_model / width) ** POWERS[ladder.learning_rate]
        return spec.model_copy(update={"training": training.model_copy(update={"learning_rate": rate})})

    def _check_ladder(self, cells: list[Cell]) -> None:
        """ConfigError for a ladder of too few rungs, without the baseline, or tuned by cells that are not there or judged."""
        if (ladder := self.file.ladder) is None:
            return
        every = arms(cells, ladder)
        found = rungs(every)
        if len(found) < FEWEST:
            few = f"{len(found)} rungs ({', '.join(found)}) are too few" if found else f"no cell has a {ladder.rungs}"
            why = "three are fitted at least, and the largest is held out"
            raise self._refusal(("ladder",), f"{few}: {why}. {self._more_rungs(found)}")
        if not any(arm.variant == self.file.baseline and len(arm.cells) == len(found) for arm in every):
            there = {rung for arm in every if arm.variant == self.file.baseline for rung in arm.cells}
            lacks = [rung for rung in found if rung not in there] or found
            raise self._refusal(("ladder",), f"the baseline {self.file.baseline} has no cell at {', '.join(lacks)}.")
        for variant, tuning in ladder.tuned_by.items():
            keys = ("ladder", "tuned_by", variant)
            for name in (variant, tuning):
                if name not in (known := {arm.variant for arm in every}):
                    raise self._refusal(keys, f"no cell of a rung is called {name!r}.{nearest(name, known)}")
            for arm in [own for own in every if own.variant == variant]:
                other = chooser(arm, ladder, every)
                if other is None or arm.rates != other.rates:
                    said = f"to choose the rate of {variant}, {tuning} must have cells of the same rates at each rung."
                    raise self._refusal(keys, said)
                if shared := sorted(arm.seeds & other.seeds):
                    raise self._refusal(keys, f"{tuning} has seeds of {variant}, {shared}: rates are chosen on others.")

    def _more_rungs(self, found: list[str]) -> str:
        """The line that has rungs enough, with those that there are."""
        path = self.file.ladder.rungs if self.file.ladder else ""
        if path == "scale":
            enough = [*found, *(name for name in self.scales if name not in found)][:FEWEST]
            return f"Write scales: [{', '.join(name for name in self.scales if name in enough)}]."
        every = [value for block, _ in self._blocks for value in block.factors.get(path, [])]
        values = [value for i, value in enumerate(every) if value not in every[:i]]
        if not values or not all(isinstance(value, int) for value in values):
            return f"Write factors: {{{path}: [<{FEWEST} values or more>]}}."
        while len(values) < FEWEST:
            values.append(2 * max(values))
        return f"Write factors: {{{path}: [{', '.join(map(str, values))}]}}."

    def _place_of(self, name: str, at: Keys) -> Keys:
        """The keys that lead to what a block says under a name: in the block, or in the study where it says nothing."""
        return (*at, name) if has(value_at(self.document, at), name) else (name,)

    def _written(self, part: str, keys: Keys) -> Json:
        """A corpus or tokenizer as the study has it, as a part of a specification; a word is its name."""
        mark, value = mark_of(self.document, keys), value_at(self.document, keys)
        marks = {part: mark} if mark else {}
        return Mapping(
            {part: Mapping({"name": value}, {"name": mark} if mark else {}) if isinstance(value, str) else value}, marks
        )

    def _check_factors(self, block: Block, at: Keys) -> None:
        """Whether each path of a block's factors is of a run's specification, and none is in another."""
        for path, values in block.factors.items():
            if path.split(".")[0] == "seed":
                raise self._refusal((*at, path), "the seed is no factor. Say which under the key seeds.")
            if path in {f"training.{name}" for name in Watch.model_fields}:
                raise self._refusal((*at, path), "it only looks at a run, and makes no other one: it is no factor.")
            for value in values:
                check_keys(RunSpec, nested(path, value, mark_of(self.document, (*at, path))), self.path, at=at)
            if inner := next((other for other in block.factors if other.startswith(f"{path}.")), None):
                raise self._refusal((*at, path), f"it holds {inner}, another factor: which of them is meant?")

    def _document(self, use: VariantUse, scale: Json) -> Json:
        """The model and training of one cell without its factors, merged from general to particular."""
        variant = resolve(self.variants, use.variant)
        document = {
            "model": assemble(merge(self.file.model, scale), merge(variant.model, use.model)),
            "training": merge(self.file.training, merge(variant.training, use.training)),
        }
        return Mapping(document, {key: mark for key in document if (mark := mark_of(self.document, (key,)))})

    def _scale(self, name: str, keys: Keys) -> Json:
        """The sizes that a scale's name stands for."""
        if name not in self.scales:
            raise self._refusal(keys, f"unknown scale {name!r}." + nearest(name, self.scales))
        sizes: Json = self.scales[name]
        return sizes

    def _corpus(self, document: Json, keys: Keys) -> CorpusSpec:
        """A corpus; `file:PATH` becomes `file:<stem>` with the sum of the text it holds now."""
        spec: Any = validated(WithCorpus, document, self.path, file=document).corpus
        if spec.task is not None:
            from gt.data.tasks import check

            try:
                check(spec.name, spec.task)
            except ConfigError as error:
                raise self._refusal(keys, str(error)) from None
        if not spec.name.startswith("file:"):
            return spec
        from gt.data.sums import file_sha256

        path, sha256 = self._own_file(spec.name, spec.sha256, keys, file_sha256, field=spec.field, column=spec.column)
        name = f"file:{os.path.basename(os.path.abspath(path)).split('.')[0]}"
        spec = spec.model_copy(update={"name": name, "sha256": sha256})
        self.corpus_files[spec.id] = str(path)
        return spec

    def _tokenizer(self, document: Json, keys: Keys) -> TokenizerSpec:
        """A tokenizer; the path of a tokenizer.json becomes the sum of what the file holds now."""
        spec = validated(TokenizerSpec, document["tokenizer"], self.path, at=("tokenizer",), file=document)
        if spec.path is None:
            return spec
        from gt.data.sums import tokenizer_sha256

        path, sha256 = self._own_file(f"path:{spec.path}", spec.sha256, keys, tokenizer_sha256)
        spec = spec.model_copy(update={"path": None, "sha256": sha256})
        self.tokenizer_files[spec.id] = str(path)
        return spec

    def _own_file(
        self, name: str, known: str | None, keys: Keys, sum_of: Callable[..., str], **options: str
    ) -> tuple[Path, str]:
        """Where a user's file is, and its sum, which is taken once. name: a word, a colon and a path."""
        given = name.partition(":")[2]
        path = Path(os.path.expandvars(os.path.expanduser(given)))
        if set(str(path)) & set("{}\n"):
            raise self._refusal(keys, f"{given!r}: braces and line breaks are not allowed in the path of a text.")
        try:
            if (read := (path, *options.values())) not in self.sums:
                self.sums[read] = sum_of(path, **options)
        except (ConfigError, OSError) as error:
            raise self._refusal(keys, f"{name}: {error}") from None
        if known not in (None, sha256 := self.sums[read]):
            raise self._refusal(keys, f"sha256: that of {path} is {sha256}, not {known}.")
        return path, sha256

    def _excluding(self, cell: Cell) -> set[int]:
        """The rules that leave a cell out, by their numbers."""
        values = _said_of(cell)
        return {
            i
            for i, rule in enumerate(self.file.exclude)
            if all(key in values and values[key] == value for key, value in rule.items())
        }

    def _check_exclusions(self, cells: list[Cell], used: set[int]) -> None:
        """ConfigError for a rule that leaves out no cell of any block."""
        values: dict[str, list[Any]] = {}
        for cell in cells:
            for key, value in _said_of(cell).items():
                values.setdefault(key, []).append(value)
        for i, rule in enumerate(self.file.exclude):
            for key, value in rule.items():
                if key not in values:
                    raise self._refusal(("exclude", i, key), f"unknown key {key!r}." + nearest(key, values))
                if value not in values[key]:
                    allowed = list(dict.fromkeys(map(str, values[key])))
                    raise self._refusal(("exclude", i, key), f"no cell has {value!r}." + nearest(value, allowed))
            if i not in used:
                raise self._refusal(("exclude", i), f"{json.dumps(rule)}: no cell has all of these at once.")

    def _unread(self, reached: set[Mark]) -> Iterator[str]:
        """The settings that no run was made of: each by its place, with what is the matter."""
        own = {"model": self.file.model, "training": self.file.training}
        parts: list[tuple[Json, Keys]] = [(own, ())]
        for block, at in self._blocks:
            keys = self._place_of("variants", at)
            parts += [
                ({"model": use.model, "training": use.training}, (*keys, i))
                for i, use in enumerate(block.variants)
                if isinstance(use, VariantUse)
            ]
            keys = self._place_of("factors", at)
            parts += [
                (nested(path, value, mark_of(self.document, (*keys, path, m))), keys)
                for path, values in block.factors.items()
                if path.split(".")[0] in own
                for m, value in enumerate(values)
            ]
        found = dict.fromkeys(
            (mark, ".".join(map(str, (*at, *keys))))
            for part, at in parts
            for keys, mark in _leaves(part, ())
            if mark not in reached
        )
        for mark, key in found:
            yield f"{mark}: {key}: no run reads this: every cell has its own, or nothing that it is for."


def _said_of(cell: Cell) -> Json:
    """What a rule may ask of a cell."""
    return {"variant": cell.variant, "corpus": cell.corpus, "tokenizer": cell.tokenizer, **cell.factors}


def _leaves(document: Json, keys: Keys) -> Iterator[tuple[Keys, Mark]]:
    """The innermost keys of a document whose places are known."""
    marks = getattr(document, "marks", {})
    for key, value in document.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*keys, key))
        elif key in marks:
            yield (*keys, key), marks[key]


def _idle(spec: RunSpec) -> Iterator[Keys]:
    """The settings of a run that its others leave without effect."""
    model, training = spec.model, spec.training
    if training.branch_drop is not None and training.branch_drop.branch not in model.branches():
        yield "training", "branch_drop"
    there = {"embedding", "norm", *(f"mixers.{letter}" for letter in model.mixers)}
    there |= {name for name in ("fusion", "feed_forward") if getattr(model, name) is not None}
    yield from (("training", "parts", part) for part in training.parts if part not in there)
    if training.auxiliary is not None:
        if not model.branches():
            yield "training", "auxiliary"
        for term in ("diversity", "arbiter"):
            if getattr(training.auxiliary, term) is None:
                yield "training", "auxiliary", f"{term}_weight"
    if model.positions == "none":
        yield "model", "max_positions"
    if model.feed_forward is None:
        yield "model", "feed_forward_place"


def shortest(paths: Iterable[str]) -> dict[str, str]:
    """How each of several factors is called: by the last word of its path, or as many as tell it from the others."""
    parts = {path: path.split(".") for path in paths}
    result = {}
    for path, words in parts.items():
        others = [own for other, own in parts.items() if other != path]
        n = next((n for n in range(1, len(words)) if all(own[-n:] != words[-n:] for own in others)), len(words))
        result[path] = ".".join(words[-n:])
    return result


def by_short_name(factors: Json) -> Json:
    """A cell's factors by their short names."""
    names = shortest(factors)
    return {names[path]: value for path, value in factors.items()}


def named(path: Path) -> str:
    """The name of a study's file. ConfigError if it cannot be the name of folders of results."""
    try:
        return TypeAdapter(Name).validate_python(path.stem)
    except ValidationError:
        raise ConfigError(f"{path}: {path.stem!r} is not a study's name. Allowed: {FORMS[NAME_PATTERN]}; at most 80.") from None


def names_asked_for(value: Any, folder: Path) -> list[str]:
    """The studies that the setting `study` names: one, several with commas between, or a list.

    YAML and Snakemake's command line take a name such as `007` or `1.10` for a number, so a number means the file of `folder`
    whose name is read as it. ConfigError for what is no name, and for a number that is no file's name, or that of several.
    """
    items = value if isinstance(value, list) else value.split(",") if isinstance(value, str) else [value]
    names = []
    for item in items:
        if isinstance(item, str):
            names.append(item.strip())
            continue
        alike = [file.stem for file in sorted(folder.glob("*.yaml")) if item in _read_as(file.stem)]
        if len(alike) != 1:
            found = f"{' and '.join(alike)} are all read as it" if alike else "no file's name is read as it"
            raise ConfigError(f"study: {item!r} is no name but a {type(item).__name__}, and in {folder} {found}.")
        names += alike
    for name in names:
        # A name becomes a folder of results/, and must not lead out of it.
        if not re.fullmatch(NAME_PATTERN, name):
            raise ConfigError(
                f"study: {name!r} is not a name. Allowed: a file of {folder} without .yaml: {FORMS[NAME_PATTERN]}; "
                "several as a list, or with commas between."
            )
    return names


def _read_as(name: str) -> list[Any]:
    """What a name may be read as where it looks like a number."""
    found: list[Any] = []
    for read in (int, float, yaml.safe_load):
        with suppress(ValueError, yaml.YAMLError):
            found.append(read(name))
    return found


def load_study(path: Path | str) -> Study:
    """Read a study file. ConfigError says what is wrong with it."""
    return Study(study_file(Path(path)))


def study_file(path: Path) -> Path:
    """`config/studies/<name>.yaml`, or else the study of this name that is installed. ConfigError where there is none."""
    if path.exists():
        return path
    folders = [folder / "studies" for folder in configurations(path.parent.parent)]
    found = [file for folder in folders if (file := folder / path.name).exists()]
    if not found:
        known = [file.stem for folder in folders for file in sorted(folder.glob("*.yaml"))]
        raise ConfigError(f"{path}: there is no study {path.stem!r}." + nearest(path.stem, known))
    return found[0]


def checked_plan(path: Path | str, planned: Path) -> Plan:
    """The study's plan, whose models are known to be buildable and whose sequences, as far as texts are at hand, to fit them.
    Says on stderr which settings no run reads.

    Building every model (on the meta device) needs torch, so it is done only where `planned`, the plan of an earlier call,
    does not say the same already.
    """
    study = load_study(path)
    plan = study.plan()
    if not planned.exists() or planned.read_bytes() != dumps(plan).encode():
        from gt.data.fit import check_text
        from gt.models.lm import check
        from gt.starts import check_model

        for cell in plan.cells:
            spec, text = plan.spec(cell), plan.corpus_files.get(cell.corpus)
            try:
                check(spec)
                check_model(spec)
                check_text(spec, Path(text) if text else None)
            except ConfigError as error:
                document = study.documents[cell.id]
                where = place(document, _keys_of(str(error), document), path, f"variant {cell.variant}")
                raise ConfigError(f"{where}: {error}") from None
        for line in study.unread:
            print(line, file=sys.stderr)
    return plan


def _keys_of(message: str, document: Json) -> Keys:
    """The keys to what a message begins with: a path of the specification, or an option of one of the model's components."""
    first, *rest = message.split(":")[0].split(".")
    if first in document:
        return (first, *rest)
    model = document["model"]
    components = {
        **{component["name"]: (kind,) for kind in ("fusion", "feed_forward") if (component := model.get(kind))},
        **{mixer["name"]: ("mixers", letter) for letter, mixer in model["mixers"].items()},
    }
    return ("model", *components.get(first, ()), *rest)


def dumps(plan: Plan) -> str:
    """The text of a `plan.json`, which is UTF-8."""
    return json.dumps(plan.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


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
    general, own = shared.copy(), particular.copy()
    own["mixers"] = {letter: mixer for letter, mixer in particular.get("mixers", {}).items() if mixer is not None}
    by_name = shared.get("mixers", {})
    general["mixers"] = {letter: by_name.get(mixer.get("name"), {}) for letter, mixer in own["mixers"].items()}
    if particular.get("fusion") is None:
        general.pop("fusion", None)
    return merge(general, own)


def load_variants(*folders: Path) -> dict[str, Variant]:
    """All named variants of `config/variants/*.yaml`. They are read once, however many studies use them.

    folders: the project's own first. It cannot give an installed one's name to another: tables and claims go by names.
    """
    files = [file for folder in reversed(folders) for file in sorted(folder.glob("*.yaml"))]
    return dict(_variants(tuple((file, (stat := file.stat()).st_mtime_ns, stat.st_size) for file in files)))


@lru_cache(maxsize=2)
def _variants(files: tuple[tuple[Path, int, int], ...]) -> dict[str, Variant]:
    """The variants of some files, which are as they were at a time and of a size."""
    variants: dict[str, Variant] = {}
    places: dict[str, str] = {}
    for file, *_ in files:
        documents = read_yaml(file)
        for name, document in documents.items():
            where = place(documents, (name,), file)
            if not re.fullmatch(NAME_PATTERN, name):
                raise ConfigError(f"{where}: {name!r} is not allowed. Allowed: {FORMS[NAME_PATTERN]}.")
            variant = validated(Variant, document, file, at=(name,), file=documents)
            if variants.setdefault(name, variant) != variant:
                raise ConfigError(f"{where}: {name}: {places[name]} has another variant of this name; choose another name.")
            places[name] = place(documents, (name, "based_on"), file)
            check_keys(ModelSpec, variant.model, file, at=(name, "model"))
            check_keys(TrainingSpec, variant.training, file, at=(name, "training"))
    for name, variant in variants.items():
        if variant.based_on is not None:
            seen, own = {name}, name
            while (base := variants[own].based_on) is not None:
                where = f"{places[own]}: {own}.based_on"
                if base not in variants:
                    raise ConfigError(f"{where}: unknown variant {base!r}." + nearest(base, variants))
                if base in seen:
                    raise ConfigError(f"{where}: {base} is based on itself.")
                seen.add(base)
                own = base
    return variants


def load_scales(*paths: Path) -> dict[str, Json]:
    """The named sizes of each `config/scales.yaml` that is there: parts of models, whose mixers stand under their names.

    paths: the project's own first. It cannot give the name of an installed one to other sizes.
    """
    scales: dict[str, Json] = {}
    for path in reversed(paths):
        documents = read_yaml(path) if path.exists() else {}
        for name, sizes in documents.items():
            check_keys(SharedModel, sizes, path, at=(name,), file=documents)
            if scales.setdefault(name, sizes) != sizes:
                where = place(documents, (name,), path)
                raise ConfigError(f"{where}: {name}: there is another scale of this name; choose another name.")
    return scales
