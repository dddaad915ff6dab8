"""The specification of one run: everything that decides its numbers, and how it is looked at while it is trained.

No device, no path and no name stands in a `RunSpec`; two studies that ask for the same run share it. Its identity is the
sha256 of its canonical JSON. From that are left out how it is looked at (`Watch`), which decides no number, and settings at
their default, so that a setting added later does not rename the runs that were made before it existed.
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import reduce
from operator import or_
from string import ascii_lowercase
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    create_model,
    model_serializer,
    model_validator,
)

from gt.catalogue import components
from gt.errors import nearest
from gt.explain import LAYERS
from gt.options import Count, Fraction, Options, initial

# `file:<path>` is the seventh: any UTF-8 text. gt/data/corpora.py says where each comes from.
CORPORA = ("embedded", "tinyshakespeare", "wikitext-2", "wikitext-103", "fineweb-edu", "classics")
# `task:<name>`: generated episodes. gt/data/tasks.py says what each is.
TASKS = ("mqar", "copying", "induction", "needle", "persistence", "correction")

# Those of gt/evals that take longer than a held-out loss.
Further = Literal["long_context", "needle", "generation", "cost", "quantisation"]
# How a run that diverged counts in a claim: as the worst of all, not at all but with a caution, or as its variant's failure.
Diverged = Literal["worst_rank", "excluded", "failure"]

Rate = Annotated[float, Field(gt=0, le=10)]


class Spec(Options):
    """Frozen, strict about types, refuses unknown keys and values that are not finite."""


class Word(Spec):
    """A component that is written as its name alone where its options are the defaults, in what a run's identity is made of."""

    @model_serializer(mode="wrap")
    def _written(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> Any:
        document = handler(self)
        return document["name"] if info.exclude_defaults and len(document) == 1 else document


def _component_union(kind: str, base: type[Spec] = Spec) -> Any:
    """A discriminated union with one model for each component: its name and its options."""
    models = []
    for component in components(kind).values():
        named = create_model("Named", __base__=base, name=(Literal[component.name], ...))  # type: ignore
        own = create_model(component.class_name + "Spec", __base__=(component.config, named), __doc__=component.summary)
        models.append(own)
    return Annotated[reduce(or_, models), Field(discriminator="name")]


Mixer: Any = _component_union("mixer")
Fusion: Any = _component_union("fusion")
FeedForward: Any = _component_union("feed_forward")
_Optimizer: Any = _component_union("optimizer", Word)
Optimizer: Any = Annotated[
    _Optimizer,
    BeforeValidator(
        lambda given: {"name": given} if isinstance(given, str) else given,
        json_schema_input_type=Literal[*components("optimizer")] | _Optimizer,  # type: ignore[valid-type]
    ),
]

Letter = Annotated[str, Field(pattern="^[a-z]$")]
Token = Annotated[int, Field(ge=0, lt=1_000_000)]


class TaskSpec(Spec):
    """The episodes of a recall task."""

    length: Annotated[int, Field(ge=8, le=65_536)] = Field(description="tokens of an episode; training.sequence_length")
    items: Annotated[list[Count], Field(min_length=1)] = Field(
        description="pairs, symbols, needles or distractors: each episode has one of these numbers"
    )
    symbols: Annotated[int, Field(ge=2, le=8192)] = Field(64, description="different keys, and as many different values")
    episodes: Count = Field(20_000, description="of the train split")


class CorpusSpec(Spec):
    """A text. `file:<stem>` is a user's own file, whose sha256 is part of the run's identity; `task:<name>` is generated."""

    name: Annotated[str, Field(description=f"{', '.join(CORPORA)}, file:<path>, or task: and one of {', '.join(TASKS)}")]
    max_bytes: Count | None = Field(None, description="use at most so many bytes of the train split")
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = Field(None, description="of a file: corpus's text")
    task: TaskSpec | None = Field(None, description="of a task: corpus")

    @model_validator(mode="after")
    def _known(self) -> CorpusSpec:
        names = [*CORPORA, *(f"task:{task}" for task in TASKS)]
        if self.name not in names and not self.name.startswith("file:"):
            raise ValueError(f"unknown corpus {self.name!r}." + nearest(self.name, [*names, "file:<path>"]))
        if self.name.startswith("task:") != (self.task is not None):
            raise ValueError("the key task belongs to a corpus task:<name>, and such a corpus needs it")
        if self.sha256 is not None and not self.name.startswith("file:"):
            raise ValueError(f"sha256 is for a file: corpus; that of {self.name} is known")
        if self.task is not None and self.max_bytes is not None:
            raise ValueError("max_bytes is for texts; task.episodes says how much of a task there is")
        return self

    @property
    def id(self) -> str:
        """A file name that is unique to the text, of some 100 letters at most."""
        if self.task is not None:
            task, items = self.task, "_".join(map(str, self.task.items))
            name = f"{self.name.replace(':', '-')}-{task.length}t-{items}i-{task.symbols}s-{task.episodes}e"
            return name if len(name) <= 100 else f"{name[:89]}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"
        stem = re.sub(r"[^A-Za-z0-9_-]+", "_", self.name.removeprefix("file:"))[:80]
        prefix = f"file-{stem}-{(self.sha256 or '')[:10]}" if self.name.startswith("file:") else stem
        return prefix + (f"-{self.max_bytes}B" if self.max_bytes else "")


class TokenizerSpec(Spec):
    """How text becomes tokens. Fitted on the train split alone."""

    name: Literal["char", "bpe"]
    vocab_size: Annotated[int, Field(ge=257, le=1_000_000)] | None = Field(None, description="bpe only")

    @model_validator(mode="after")
    def _vocabulary(self) -> TokenizerSpec:
        if (self.name == "bpe") != (self.vocab_size is not None):
            raise ValueError("vocab_size belongs to bpe, and bpe needs it (the record's is 16000)")
        return self

    @property
    def id(self) -> str:
        """`char` or, say, `bpe16000`."""
        return f"{self.name}{self.vocab_size or ''}"


class InitSpec(Spec):
    """Switches on a model's initial values; without them each module uses its own.

    `blanket` is what the record did to every model (flaw F-33): N(0, .02) over every linear and embedding weight, biases
    zero, whatever the module had set. The others are the parts of BlinkDL's initialisation, one by one (flaw F-16).
    """

    blanket: bool = initial(False, "N(0, .02) in every linear and embedding layer, biases zero, gates' biases kept")
    embedding: Literal["normal", "tiny"] = initial("normal", "N(0, .02), or U(-1e-4, 1e-4)")
    embedding_norm: bool = Field(False, description="a norm right after the embedding (ln0)")
    zero_mixer_output: bool = initial(False, "output projections of the mixers start at zero")
    zero_feed_forward_output: bool = initial(False, "output projections of the feed-forward layers start at zero")
    orthogonal_head: bool = initial(False, "gain 0.5 sqrt(vocab / d_model); needs an untied head")


class ModelSpec(Spec):
    """A language model: a pattern of layers, the mixers that its letters stand for, and what surrounds them.

    `layers` is a list of layers, repeated until `n_layer` are reached. A layer is one letter (`r`: that mixer alone) or two
    joined by `+` (`r+m`: both in parallel, joined by `fusion`). `r m` alternates; `r m*21 r` is one RWKV layer, 21 Mamba
    layers and one more RWKV layer. With stack `towers`, `r+m` is a tower of each, and they are fused once, at the top.
    """

    d_model: Annotated[int, Field(ge=8, le=65_536)]
    n_layer: Annotated[int, Field(ge=1, le=1_000)]
    layers: Annotated[str, Field(pattern=LAYERS)]
    mixers: dict[Letter, Mixer]
    fusion: Fusion | None = None
    stack: Literal["blocks", "towers"] = "blocks"
    wraps: dict[Letter, Literal["residual", "identity", "identity_ffn"]] = Field(
        {},
        description="a branch that adds its own input: x + f(x); x + f(norm x); or that and a feed-forward layer of its own, "
        "as the record's did",
    )
    feed_forward: FeedForward | None = Field(None, description="of each layer, or none")
    feed_forward_place: Literal["after", "beside"] = Field("after", description="beside: x + mix(norm x) + f(norm x)")
    branch_norm: Literal["none", "rms"] = Field("none", description="RMSNorm on each branch's output before the fusion")
    norm: Literal["rms", "layer"] = "rms"
    norm_position: Literal["pre", "post", "output", "both"] = Field(
        "pre", description="x + f(norm x); post: norm(x + f x), GPT-1's; output: x + norm(f x); both: x + norm(f(norm x))"
    )
    residual_gain: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="start of a learned gain a channel on what each sublayer adds (LayerScale); the record's V3 has 0.01"
    )
    logit_softcap: Annotated[float, Field(gt=0)] | None = Field(
        None, description="c tanh(logits / c); Gemma 2 and the record's V3 have 30"
    )
    positions: Literal["none", "learned"] = Field("none", description="learned absolute positions, as in GPT-1 and GPT-2")
    max_positions: Count = Field(1024, description="rows of the learned position table")
    segment_markers: list[Token] = Field(
        [],
        description="tokens that open a segment, one for each kind (say INPUT, THINK, OUTPUT): an embedding of its kind is "
        "added to every token of a segment; before any marker it is the first kind",
    )
    tie_embeddings: bool = True
    init: InitSpec = InitSpec()

    @model_validator(mode="after")
    def _consistent(self) -> ModelSpec:
        used = {letter for layer in self.layer_list() for letter in layer}
        if missing := sorted(used - set(self.mixers)):
            raise ValueError(f"layers names {missing[0]!r}, which mixers does not define." + nearest(missing[0], self.mixers))
        if unused := sorted(set(self.mixers) - used):
            raise ValueError(f"mixers defines {unused[0]!r}, which layers {self.layers!r} does not use")
        parallel = any(len(layer) == 2 for layer in self.layer_list())
        if parallel and self.fusion is None:
            raise ValueError(f"layers {self.layers!r} has two mixers in parallel, so fusion is needed")
        if not parallel and self.fusion is not None:
            raise ValueError(f"fusion {self.fusion.name!r} has nothing to fuse: layers {self.layers!r} has no two in parallel")
        if unused := sorted(set(self.wraps) - used):
            raise ValueError(f"wraps names {unused[0]!r}, which layers {self.layers!r} does not use")
        if self.stack == "towers" and set(map(len, self.layer_list())) != {2}:
            raise ValueError(f"two towers need two letters joined by '+', not layers {self.layers!r}")
        if self.norm_position != "pre" and self.feed_forward_place == "beside":
            raise ValueError("feed_forward_place 'beside' is for norm_position 'pre'")
        if self.init.orthogonal_head and self.tie_embeddings:
            raise ValueError("init.orthogonal_head needs tie_embeddings false")
        if len(set(self.segment_markers)) != len(self.segment_markers):
            raise ValueError(f"segment_markers {self.segment_markers} names a token twice")
        if self.branch_norm != "none" and not parallel:
            raise ValueError(f"branch_norm {self.branch_norm!r} has no branches: layers {self.layers!r} has no two in parallel")
        return self

    def layer_list(self) -> list[tuple[str, ...]]:
        """The mixers' letters of each of the `n_layer` layers, from the bottom up."""
        cycle: list[tuple[str, ...]] = []
        for item in self.layers.split():
            letters, _, count = item.partition("*")
            cycle += [tuple(letters.split("+"))] * int(count or 1)
        return [cycle[i % len(cycle)] for i in range(self.n_layer)]

    def branches(self) -> list[str]:
        """The letters that stand in parallel with another somewhere."""
        return sorted({letter for layer in self.layer_list() if len(layer) == 2 for letter in layer})

    def alone(self, letter: str) -> ModelSpec:
        """The same model with one mixer in every layer, and so nothing to fuse."""
        parts = {"mixers": self.mixers, "wraps": self.wraps}
        own = {name: {letter: part[letter]} for name, part in parts.items() if letter in part}
        joint: dict[str, Any] = {"layers": letter, "fusion": None, "stack": "blocks", "branch_norm": "none"}
        return ModelSpec.model_validate({**self.model_dump(), "wraps": {}, **own, **joint})


# What can be trained in its own way: the mixers of a letter, or another part of a model.
PartName: Any = Literal[(*(f"mixers.{letter}" for letter in ascii_lowercase), "fusion", "feed_forward", "embedding", "norm")]


class PartTraining(Spec):
    """How one part of a model is trained differently from the rest. Frozen steps have learning rate zero."""

    learning_rate: Annotated[float, Field(ge=0, le=1000)] = Field(1.0, description="times the run's")
    warmup: Annotated[float, Field(gt=0, le=1000)] = Field(1.0, description="times the run's warm-up steps")
    warmup_floor: Fraction = Field(0.0, description="share of the learning rate at which the warm-up starts")
    frozen_steps: Annotated[int, Field(ge=0)] = Field(0, description="steps before it starts to learn; all of them: never")
    gradient_scale: Annotated[float, Field(gt=0, le=1e6)] = Field(1.0, description="gradients are multiplied before clipping")
    weight_decay: Annotated[float, Field(ge=0, le=1000)] = Field(1.0, description="times the run's")


class BranchDrop(Spec):
    """A branch's output zeroed at random while training, with a probability that goes linearly from start to end.

    The record drew one coin a layer for the whole batch, without rescaling (flaw F-38); `sample` with `rescale` is drop-path
    (Huang et al. 2016).
    """

    branch: Letter
    start: Annotated[float, Field(ge=0, lt=1)] = 0.4
    end: Annotated[float, Field(ge=0, lt=1)] = 0.1
    unit: Literal["batch", "sample"] = "sample"
    rescale: bool = Field(True, description="divide what is kept by 1 - p")


class AuxiliaryLosses(Spec):
    """Terms added to the cross-entropy of a model with two branches; gt/training/auxiliary.py has the formulas."""

    diversity: Literal["record", "squared_cosine"] | None = None
    diversity_weight: Annotated[float, Field(ge=0)] = 0.1
    arbiter: Literal["record", "cross_entropy"] | None = None
    arbiter_weight: Annotated[float, Field(ge=0)] = 0.1
    load_balance_weight: Annotated[float, Field(ge=0)] = Field(
        0.0, description="for routers: 2 sum f_i p_i (Fedus et al. 2021)"
    )
    entropy_weight: float = Field(
        0.0, description="above 0 lowers the gates' entropy, as the record's code did; below 0 raises it"
    )
    balance_weight: Annotated[float, Field(ge=0)] = Field(0.0, description="on branch shares outside 0.3 to 3")
    usage_weight: Annotated[float, Field(ge=0)] = Field(0.0, description="on a layer's mean gate below 0.1 or above 0.9")
    cross_distillation_weight: Annotated[float, Field(ge=0)] = Field(0.0, description="each branch predicts the other")
    branch_loss_weight: Annotated[float, Field(ge=0)] = Field(
        0.0, description="on the cross-entropies of the last layer's branches, each read out alone"
    )


Length = Annotated[int, Field(ge=2, le=1_000_000)]


class CurriculumStage(Spec):
    """A stretch of training at a sequence length of its own."""

    steps: Count
    sequence_length: Length = Field(description="tokens")
    learning_rate: Annotated[float, Field(gt=0, le=1000)] = Field(1.0, description="times the run's")


class Watch(Spec):
    """How a run is looked at while it is trained. It decides no number of the model, so it is no part of a run's identity."""

    evaluate_every: Count = Field(100, description="steps")
    evaluation_tokens: Count = Field(
        10_240,
        description="of the fixed validation slice that curves follow, counted in bytes (of a recall task, in characters) and "
        "rounded up to 1,024: the same text for every tokenizer",
    )
    log_every: Count = Field(10, description="steps")


class TrainingSpec(Watch):
    """How a model is trained. One step is `batch_size` sequences, in `grad_accumulation` equal parts."""

    steps: Count
    batch_size: Count
    sequence_length: Length = Field(description="tokens")
    curriculum: list[CurriculumStage] = Field(
        [], description="stages on shorter sequences that the first of the steps are taken in"
    )
    batch_order: Literal["shuffled", "tracks"] = Field(
        "shuffled", description="tracks: the text is cut into batch_size tracks, and each step reads on in all of them"
    )
    carry_state: bool = Field(
        False, description="a step begins with the recurrent states that the last one ended with; needs batch_order tracks"
    )
    pretrain_steps: Annotated[int, Field(ge=0, le=10_000_000_000)] = Field(
        0, description="of models of one branch each, whose mixers' weights are then where the hybrid's start"
    )
    grad_accumulation: Count = Field(1, description="parts that a batch is split into; the result is that of the whole batch")
    learning_rate: Rate = 3e-4
    min_learning_rate_ratio: Fraction = Field(0.1, description="the cosine ends at this share of the learning rate")
    warmup_ratio: Fraction = Field(0.1, description="share of the steps with a linear warm-up")
    optimizer: Optimizer = Field(
        TypeAdapter(Optimizer).validate_python("adamw"), description="its name, or a mapping of that and its options"
    )
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.1
    weight_decay_policy: Literal["matrices", "all"] = Field("matrices", description="all is the record's (flaw F-37)")
    clip_norm: Annotated[float, Field(gt=0)] | None = Field(1.0, description="global gradient norm; null: no clipping")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="of the activations; weights stay float32")
    parts: dict[PartName, PartTraining] = {}
    branch_drop: BranchDrop | None = None
    auxiliary: AuxiliaryLosses | None = None

    @model_validator(mode="after")
    def _consistent(self) -> TrainingSpec:
        if self.batch_size % self.grad_accumulation:
            raise ValueError(f"grad_accumulation {self.grad_accumulation} does not divide batch_size {self.batch_size}")
        if (before := sum(stage.steps for stage in self.curriculum)) >= self.steps:
            raise ValueError(f"curriculum has {before} steps, which leaves none of steps {self.steps} for sequence_length")
        if longer := [s.sequence_length for s in self.curriculum if s.sequence_length > self.sequence_length]:
            raise ValueError(f"curriculum has sequences of {longer[0]}, longer than sequence_length {self.sequence_length}")
        if self.carry_state and self.batch_order != "tracks":
            raise ValueError("carry_state needs batch_order tracks: a state is of use where the text goes on")
        if self.carry_state and self.grad_accumulation > 1:
            raise ValueError("carry_state needs grad_accumulation 1")
        if self.auxiliary is not None and self.grad_accumulation > 1:
            raise ValueError("auxiliary needs grad_accumulation 1: its terms look at a whole batch")
        if self.batch_order == "tracks" and self.curriculum:
            raise ValueError("batch_order tracks goes with one sequence_length, not with a curriculum")
        return self

    @property
    def watch(self) -> Watch:
        """How the run is looked at."""
        return Watch(**{name: getattr(self, name) for name in Watch.model_fields})

    @property
    def stages(self) -> list[CurriculumStage]:
        """The curriculum, and the remaining steps at the run's own length."""
        remaining = self.steps - sum(stage.steps for stage in self.curriculum)
        return [*self.curriculum, CurriculumStage(steps=remaining, sequence_length=self.sequence_length)]

    def stage(self, step: int) -> tuple[int, int]:
        """The number of the stage that a step is in, both counted from 0, and its place there."""
        for number, stage in enumerate(self.curriculum):
            if step < stage.steps:
                return number, step
            step -= stage.steps
        return len(self.curriculum), step

    def tokens(self, steps: int) -> int:
        """That the first steps train on."""
        number, place = self.stage(steps)
        stages = self.stages
        whole = sum(stage.steps * stage.sequence_length for stage in stages[:number])
        return self.batch_size * (whole + place * stages[number].sequence_length)


class RunSpec(Spec):
    """One run: a corpus, a tokenizer, a model, its training, and a seed."""

    corpus: CorpusSpec
    tokenizer: TokenizerSpec
    model: ModelSpec
    training: TrainingSpec
    seed: Annotated[int, Field(ge=0, lt=2**32)]

    @model_validator(mode="after")
    def _branches(self) -> RunSpec:
        if self.training.pretrain_steps and not self.model.branches():
            raise ValueError(f"training.pretrain_steps: layers {self.model.layers!r} has no branches to train alone")
        return self

    @model_validator(mode="after")
    def _whole_episodes(self) -> RunSpec:
        if self.corpus.task is not None:
            if self.training.curriculum or self.training.carry_state:
                raise ValueError(f"the episodes of {self.corpus.name} are whole: no training.curriculum, no carry_state")
            if self.tokenizer.name != "char":
                raise ValueError(f"corpus {self.corpus.name} has a character a token, so its tokenizer is char")
            if self.training.sequence_length != self.corpus.task.length:
                raise ValueError(
                    f"training.sequence_length {self.training.sequence_length} must be the length of an episode of "
                    f"{self.corpus.name}, {self.corpus.task.length}"
                )
        return self

    def pretraining(self) -> dict[str, RunSpec]:
        """Of each branch that is trained alone before step 0: its letter, and the run that does it.

        It has this run's corpus, seed and training, at its full length and without what needs two branches.
        """
        n = self.training.pretrain_steps
        changes = {"steps": n, "pretrain_steps": 0, "curriculum": [], "branch_drop": None, "auxiliary": None}
        unwatched = {"evaluate_every": max(1, n), "log_every": max(1, n), "evaluation_tokens": 1}
        training = {**self.training.model_dump(), **changes, **unwatched}
        letters = self.model.branches() if n else []
        models = {letter: self.model.alone(letter).model_dump() for letter in letters}
        return {
            letter: RunSpec.model_validate({**self.model_dump(), "model": model, "training": training})
            for letter, model in models.items()
        }

    def watched(self, watch: Watch) -> RunSpec:
        """The same run, looked at in another way."""
        return self.model_copy(update={"training": self.training.model_copy(update=dict(watch))})

    @property
    def tokens(self) -> int:
        """That a run trains on in all, those of its branches alone included."""
        own = self.training.tokens(self.training.steps)
        return own + sum(run.tokens for run in self.pretraining().values())

    def canonical_json(self, looks: bool = False) -> str:
        """Sorted keys, no spaces, no defaults. looks: with how the run is looked at, which decides no number of it."""
        left_out: Any = None if looks else {"training": set(Watch.model_fields)}
        document = self.model_dump(mode="json", exclude_defaults=True, exclude=left_out)
        return json.dumps(document, sort_keys=True, separators=(",", ":"))

    def sum(self, looks: bool = False) -> str:
        """The sha256 of the canonical JSON."""
        return hashlib.sha256(self.canonical_json(looks).encode()).hexdigest()

    @property
    def sha256(self) -> str:
        """The run's identity."""
        return self.sum()

    @property
    def run_id(self) -> str:
        """A readable label, of 200 letters at most, and the first 10 hex digits of the sha256: a file name."""
        fusion = f"-{self.model.fusion.name}" if self.model.fusion else ""
        layers = self.model.layers.replace(" ", ",").replace("*", "x") if len(self.model.layers) < 16 else "mixed"
        names = "_".join(mixer.name for mixer in self.model.mixers.values()) if "+" not in layers else layers
        size = f"{self.model.n_layer}x{self.model.d_model}"
        label = f"{names}{fusion}.{size}.{self.corpus.id}.{self.tokenizer.id}.s{self.seed}"
        return f"{label[:200]}-{self.sha256[:10]}"
