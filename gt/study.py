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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Protocol, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, WrapValidator, create_model, field_validator

from gt.artefacts import Cell, Ladder, Looks, Name, Plan, Point, Tuning
from gt.asked import Asked
from gt.documents import Json, Mapping, Mark, has, mark_of, merge, nested, read_yaml, value_at
from gt.errors import ConfigError, nearest
from gt.explain import FORMS, NAME_PATTERN, Keys, branches, check_keys, place, validated
from gt.rungs import FEWEST, LEARNING_RATE, POWERS, arms, rungs
from gt.shared import configurations
from gt.spec import Corpus, CorpusSpec, Diverged, Mixer, ModelSpec, RunSpec, TokenizerSpec, TrainingSpec, Watch
from gt.tuning import Tune, outcome_of, search, values_at

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
    seeds: Annotated[int, Field(ge=1, le=1000)] | list[Seed] | Looks = Field(
        description="how many (0, 1, ...), or which; or how many at each look"
    )
    factors: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        {}, description="dotted path of a run specification -> values"
    )

    scales: list[str] = Field([], description="named sizes of config/scales.yaml, each merged over the study's model")
    tuned: bool = Field(
        True, description="whether its cells take the settings that the study's `tune` chooses for each of them"
    )

    @field_validator("seeds", mode="after")
    @classmethod
    def _unique(cls, seeds: int | list[int] | Looks) -> int | list[int] | Looks:
        if isinstance(seeds, list) and (not seeds or len(set(seeds)) != len(seeds)):
            raise ValueError(f"seeds {seeds} must be at least one, each once")
        return seeds

    @property
    def seed_list(self) -> list[int]:
        """Those that are run in any case."""
        if isinstance(self.seeds, list):
            return self.seeds
        return list(range(self.seeds.looks[0] if isinstance(self.seeds, Looks) else self.seeds))


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
    tune: Tune | None = Field(None, description="the settings that are chosen for each cell, on seeds that judge nothing")
    gate: Literal["refuse", "warn"] | None = Field(
        None,
        description="what becomes of a claim that cannot fail or see its margin; by default it is said, and not registered",
    )
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


class Decisions(Protocol):
    """What is known of a study's decisions (`gt.decided`)."""

    def measured(self, spec: RunSpec) -> float | None:
        """The validation loss of a run that tunes, infinite where it diverged; None while it has not run."""

    def looked(self, number: int, runs: Sequence[str]) -> set[str] | None:
        """The cells that go on after a look at all of these runs; None while it was not taken. number: from 1."""


class Undecided:
    """Nothing is known yet."""

    def measured(self, spec: RunSpec) -> float | None:
        return None

    def looked(self, number: int, runs: Sequence[str]) -> set[str] | None:
        return None


NOTHING = Undecided()


class Candidate(NamedTuple):
    """A cell of a block, its runs and the document that they were made of; and how it is tuned, by which runs, if it is."""

    cell: Cell
    specs: list[RunSpec]
    document: Json
    tuning: Tuning | None
    trials: list[RunSpec]


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

    def plan(self, decided: Decisions = NOTHING) -> Plan:
        """The cells, their runs and all that the workflow needs to know. The order is the file's.

        decided: by runs that tune, and by looks; the plan asks for more as they come.
        """
        cells: dict[str, Cell] = {}
        runs: dict[str, RunSpec] = {}
        tunings: dict[str, Tuning] = {}
        excluded: set[int] = set()
        reached: set[Mark] = set()
        considered: list[Cell] = []
        for block in self._blocks:
            for cell, specs, document, tuning, trials in self._cells(*block, decided):
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
                if tuning is not None:
                    tunings.setdefault(cell.id, tuning)
                runs |= {spec.run_id: spec for spec in (*trials, *specs)}
        self._check_exclusions(considered, excluded)
        if not cells:
            raise self._refusal(("exclude",), "exclude leaves no cell.")
        if self.file.baseline not in (labels := {cell.variant for cell in cells.values()}):
            raise self._refusal(
                ("baseline",), f"no cell is called {self.file.baseline!r}." + nearest(self.file.baseline, labels)
            )
        self.unread = list(self._unread(reached))
        self._check_ladder(list(cells.values()), tunings)
        waits = any(own.choice is None for own in tunings.values())
        next_look = 0 if waits else self._look(cells, runs, decided)
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
            tunings=list(tunings.values()),
            looks=self.file.seeds if isinstance(self.file.seeds, Looks) else None,
            next_look=next_look,
            runs=runs,
            corpora={spec.corpus.id: spec.corpus for spec in runs.values()},
            tokenizers={spec.tokenizer.id: spec.tokenizer for spec in runs.values()},
            corpus_files=self.corpus_files,
            tokenizer_files=self.tokenizer_files,
        )

    def _look(self, cells: dict[str, Cell], runs: dict[str, RunSpec], decided: Decisions) -> int:
        """Give cells the further seeds that the looks so far have asked for. Returns which look is next, 0 for none."""
        seeds = self.file.seeds
        if not isinstance(seeds, Looks):
            return 0
        for look, (n, more) in enumerate(itertools.pairwise(seeds.looks), 1):
            if (going_on := decided.looked(look, sorted(runs))) is None:
                return look
            for name in [name for name, cell in cells.items() if name in going_on and list(cell.runs) == list(range(n))]:
                first = runs[cells[name].runs[0]]
                further = [first.model_copy(update={"seed": seed}) for seed in range(n, more)]
                known = {**cells[name].runs, **{spec.seed: spec.run_id for spec in further}}
                cells[name] = cells[name].model_copy(update={"runs": known})
                runs |= {spec.run_id: spec for spec in further}
            if not going_on:
                return 0
        return 0

    def seeds_of(self, cell: Cell) -> tuple[int | list[int] | Json, str]:
        """The seeds of a planned cell as they are written, and the file and line."""
        keys: Keys = ("seeds",)
        for block, at in self._blocks:
            labels = [use if isinstance(use, str) else use.label or use.variant for use in block.variants]
            if cell.variant in labels and set(block.seed_list) <= cell.runs.keys():
                keys = self._place_of("seeds", at)
                break
        return value_at(self.document, keys), place(self.document, keys, self.path)

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

    def _cells(self, block: Block, at: Keys, decided: Decisions) -> Iterator[Candidate]:
        """Each cell of a block."""
        if isinstance(block.seeds, Looks) and block.seeds != self.file.seeds:
            raise self._refusal((*at, "seeds"), "looks are those of the whole study: write them under its own key seeds.")
        places = {name: self._place_of(name, at) for name in Block.model_fields}
        self._check_factors(block, places["factors"])
        tune = self._tune_of(block, places)
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
            document = self._on_rung(document, first, label, factors)
            first = validated(RunSpec, document, self.path, about)
            suffix = "".join(f".{name}={value}" for name, value in by_short_name(factors).items())
            name = f"{label}.{first.corpus.id}.{first.tokenizer.id}{suffix}"
            tuning, trials = None, list[RunSpec]()
            if tune is not None:
                tuning, trials, document = self._tuned(tune, name, document, about, decided)
                first = validated(RunSpec, document, self.path, about)
            specs = [first.model_copy(update={"seed": seed}) for seed in block.seed_list]
            cell = Cell(
                id=name,
                variant=label,
                corpus=first.corpus.id,
                tokenizer=first.tokenizer.id,
                factors=factors,
                runs={spec.seed: spec.run_id for spec in specs},
            )
            yield Candidate(cell, specs, document, tuning, trials)

    def _on_rung(self, document: Json, spec: RunSpec, label: str, factors: Json) -> Json:
        """A cell's document with the rate that the ladder's rule gives its width: the study says that of the first rung."""
        ladder = self.file.ladder
        if ladder is None or ladder.learning_rate == "tuned" or ladder.rungs not in factors:
            return document
        others = {path: value for path, value in factors.items() if path != ladder.rungs}
        arm = json.dumps([label, spec.corpus.id, spec.tokenizer.id, others], sort_keys=True)
        width, given = self.first_widths.setdefault(label, spec.model.d_model), spec.training.learning_rate
        if given != (rate := self.rates.setdefault(arm, given)):
            raise self._refusal(
                ("ladder", "learning_rate"),
                f"{ladder.learning_rate} goes on from the first rung of {label}, with {rate:g}, and at "
                f"{factors[ladder.rungs]} the study has {given:g}. Leave that out, or write learning_rate: tuned.",
            )
        rate *= (spec.model.d_model / width) ** POWERS[ladder.learning_rate]
        return merge(document, nested(LEARNING_RATE, rate))

    def _check_ladder(self, cells: list[Cell], tunings: dict[str, Tuning]) -> None:
        """ConfigError for a ladder of too few rungs, without the baseline, or whose rates are not chosen as it says."""
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
        for cell in (cell for arm in every for cell in arm.cells.values()):
            tuned = cell.id in tunings and LEARNING_RATE in tunings[cell.id].scales
            if tuned and ladder.learning_rate != "tuned":
                said = f"tune chooses the rate of {cell.id}, and {ladder.learning_rate} would. Write: learning_rate: tuned"
                raise self._refusal(("ladder", "learning_rate"), said)
            if not tuned and ladder.learning_rate == "tuned":
                said = (
                    f"nothing chooses the rate of {cell.id}. Write tune: {{space: {{{LEARNING_RATE}: ...}}, ...}}, or a rule."
                )
                raise self._refusal(("ladder", "learning_rate"), said)

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
            self._check_path(path, values, at)
            if inner := next((other for other in block.factors if other.startswith(f"{path}.")), None):
                raise self._refusal((*at, path), f"it holds {inner}, another factor: which of them is meant?")

    def _check_path(self, path: str, values: Iterable[Any], at: Keys) -> None:
        """Whether a setting is of a run's specification, and makes another run."""
        if path.split(".")[0] == "seed":
            raise self._refusal((*at, path), "the seed is no factor. Say which under the key seeds.")
        if path in {f"training.{name}" for name in Watch.model_fields}:
            raise self._refusal((*at, path), "it only looks at a run, and makes no other one: it is no factor.")
        for value in values:
            check_keys(RunSpec, nested(path, value, mark_of(self.document, (*at, path))), self.path, at=at)

    def _tune_of(self, block: Block, places: dict[str, Keys]) -> Tune | None:
        """How a block's cells are tuned, if they are: no factor may set what is chosen, and no seed that chooses may judge."""
        tune, keys = self.file.tune, ("tune", "space")
        if tune is None and not block.tuned:
            raise self._refusal(places["tuned"], "nothing is tuned in this study: it has no key `tune`.")
        if tune is None or not block.tuned:
            return None
        for path, values in tune.space.items():
            self._check_path(path, (values.value(0), values.value(1)), keys)
            for factor in block.factors:
                if f"{factor}.".startswith(f"{path}.") or f"{path}.".startswith(f"{factor}."):
                    line = "Leave out one of them, or give the block with the factor `tuned: false`."
                    raise self._refusal((*places["factors"], factor), f"tune chooses {path}. {line}")
        judging = set(block.seed_list) | set(range(block.seeds.looks[-1] if isinstance(block.seeds, Looks) else 0))
        if both := sorted(set(tune.seeds) & judging):
            free = [seed for seed in range(100, 1200) if seed not in judging][: len(tune.seeds)]
            raise self._refusal(
                ("tune", "seeds"), f"seed {both[0]} judges as well, and would judge what it has chosen. Write: seeds: {free}"
            )
        return tune

    def _tuned(
        self, tune: Tune, cell: str, document: Json, about: str, decided: Decisions
    ) -> tuple[Tuning, list[RunSpec], Json]:
        """How far the tuning of a cell is, by which runs, and the cell's document with what was chosen; until then, with values
        in the middle. What would change nothing of the cell is not tuned.
        """

        def at(values: dict[str, float]) -> Json:
            changes: Json = {}
            for path, value in values.items():
                changes = merge(changes, nested(path, value, mark_of(self.document, ("tune", "space", path))))
            return merge(document, changes)

        def trials(point: tuple[int, ...]) -> list[RunSpec]:
            if point not in known:
                first = validated(RunSpec, at(values_at(space, point)), self.path, about)
                known[point] = [first.model_copy(update={"seed": seed}) for seed in tune.seeds]
            return known[point]

        known: dict[tuple[int, ...], list[RunSpec]] = {}
        middle = {path: own.value((own.points - 1) // 2) for path, own in tune.space.items()}
        idle = [".".join(keys) for keys in _idle(validated(RunSpec, at(middle), self.path, about))]
        space = {path: own for path, own in tune.space.items() if not any(f"{path}.".startswith(f"{own}.") for own in idle)}
        if not space:
            raise self._refusal(("tune", "space"), f"{about} has nothing of it. Give its block `tuned: false`.")
        found = search(
            space, tune.runs // len(tune.seeds), lambda point: outcome_of([decided.measured(own) for own in trials(point)])
        )
        tuning = Tuning(
            cell=cell,
            scales={path: own.scale for path, own in space.items()},
            points=[
                Point(values=values_at(space, point), round=turn, runs={spec.seed: spec.run_id for spec in trials(point)})
                for point, turn in found.points.items()
            ],
            choice=None if found.choice is None else values_at(space, found.choice),
            ended=found.ended,
        )
        chosen = tuning.choice or {path: middle[path] for path in space}
        return tuning, [spec for point in found.points for spec in trials(point)], at(chosen)

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


def trial_cells(plan: Plan) -> Iterator[tuple[Tuning, Point, Cell]]:
    """What tunes cells, as cells: of each tuning every point, whose values are further factors."""
    cells = {cell.id: cell for cell in plan.cells}
    for tuning in plan.tunings:
        for point in tuning.points:
            own = cells[tuning.cell]
            values = "".join(f".{name}={value:g}" for name, value in by_short_name(point.values).items())
            changes = {"id": f"{own.id}.tuning{values}", "factors": {**own.factors, **point.values}, "runs": point.runs}
            yield tuning, point, own.model_copy(update=changes)


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


def checked_plan(path: Path | str, planned: Path, decided: Decisions = NOTHING) -> Plan:
    """The study's plan, whose models are known to be buildable and whose sequences, as far as texts are at hand, to fit them.
    Says on stderr which settings no run reads. decided: as in `Study.plan`.

    Building every model (on the meta device) needs torch, so it is done only where `planned`, the plan of an earlier call,
    does not say the same already.
    """
    study = load_study(path)
    plan = study.plan(decided)
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
