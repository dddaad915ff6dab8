"""A factor of a study reaches the runs, whatever path of their specification it names, or the message says why it cannot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from gt.artefacts import Plan
from gt.catalogue import components
from gt.errors import ConfigError
from gt.explain import branches
from gt.spec import CorpusSpec, RunSpec, TaskSpec, Watch
from gt.study import Study, shortest

SIZES = {"d_model": 32, "n_layer": 2, "max_positions": 64}
TRAINING = {"steps": 12, "batch_size": 4, "sequence_length": 16}
# Values to try, by type. Each path must take at least one of them.
POOL: dict[Any, list[Any]] = {
    bool: [True, False],
    int: [1, 2, 3, 8, 16, 64, 300],
    float: [0.25, 0.75, 2.0],
    str: ["char", "embedded", "tinyshakespeare", "a", "a*2 a", "r+m", "0" * 64],
}
# Whole parts, for which their own keys are tried as well.
PARTS: dict[str, list[Any]] = {
    "corpus": [{"name": "embedded", "max_bytes": 900}],
    "training.optimizer": [{"name": "lion"}, {"name": "sgd", "momentum": 0.5}],
    "corpus.splits": [{"val": 0.1}],
    "corpus.task": [{"length": 16, "items": [2]}],
    "corpus.task.items": [[1, 3]],
    "tokenizer": [{"name": "bpe", "vocab_size": 300}],
    "model": [{"d_model": 48}],
    "model.mixers": [{"a": {"n_head": 4}}],
    "model.init": [{"blanket": True}],
    "model.wraps": [{"a": "residual"}],
    "model.segment_markers": [[1, 2]],
    "model.fusion": [{"name": "gains"}],
    "model.feed_forward": [{"name": "channel_mix"}, None],
    "training": [{"steps": 3}],
    "training.curriculum": [[{"steps": 2, "sequence_length": 8}]],
    "training.parts": [{"norm": {"learning_rate": 0.5}}],
    "training.branch_drop": [{"branch": "r"}],
    "training.auxiliary": [{"balance_weight": 0.5}],
}
# What else a study says where a path makes sense.
BESIDE: dict[str, dict[str, Any]] = {
    "corpus.task": {"corpora": [{"name": "task:mqar", "task": {"length": 16, "items": [2]}}]},
    "corpus.splits.salt": {"corpora": [{"name": "embedded", "splits": {"by": "document"}}]},
    "training.branch_drop.": {"training": {**TRAINING, "branch_drop": {"branch": "r"}}},
    "tokenizer.vocab_size": {"tokenizers": [{"name": "bpe", "vocab_size": 400}]},
}
# These say what a run is, in another place of the study.
ELSEWHERE = {"seed": "seeds", "tokenizer.path": "path belongs to file", "tokenizer.sha256": "sha256 belongs to file"}
ELSEWHERE |= {"tokenizer.repo": "an owner and a name", "tokenizer.revision": "the 40 hex digits of a commit"}
ELSEWHERE |= {f"training.{name}": "it only looks at a run" for name in Watch.model_fields}


def component(kind: str, name: str) -> dict[str, Any]:
    small = {"head_size": 8, "head_dim": 8, "d_state": 8, "n_head": 2}
    return {"name": name, **{key: small[key] for key in components(kind)[name].options if key in small}}


def cases() -> Iterator[Any]:
    """(path, values to try, the variant's model): every path that the models of a specification offer."""
    alone = {"layers": "a", "mixers": {"a": component("mixer", "attention")}, "feed_forward": {"name": "mlp"}}
    pair = {
        "layers": "r+m",
        "mixers": {"r": component("mixer", "rwkv6"), "m": component("mixer", "mamba2")},
        "fusion": {"name": "gated"},
        "feed_forward": {"name": "mlp"},
    }
    corpora = [*paths(CorpusSpec, "corpus."), ("corpus.task", PARTS["corpus.task"]), *paths(TaskSpec, "corpus.task.")]
    for path, values in [*paths(RunSpec, ""), *corpora]:
        yield (
            path,
            values,
            pair if any(word in path for word in ("fusion", "branch", "auxiliary", "stack", "pretrain")) else alone,
        )
    for name in components("mixer"):
        model = {**alone, "mixers": {"a": component("mixer", name)}}
        yield from ((path, values, model) for path, values in options("mixer", name, "model.mixers.a."))
    for name in components("fusion"):
        yield from ((p, values, {**pair, "fusion": {"name": name}}) for p, values in options("fusion", name, "model.fusion."))
    for name in components("feed_forward"):
        model = {**alone, "feed_forward": {"name": name}}
        yield from ((path, values, model) for path, values in options("feed_forward", name, "model.feed_forward."))


def options(kind: str, name: str, prefix: str) -> Iterator[tuple[str, list[Any]]]:
    for option, (type_, _) in components(kind)[name].options.items():
        yield prefix + option, values_of(type_)


def values_of(type_: Any) -> list[Any]:
    found: list[Any] = []
    for own in branches((type_,)):
        found += list(get_args(own)) if get_origin(own) is Literal else POOL.get(own, [])
    return found


def paths(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, list[Any]]]:
    """Every path into a model, down to numbers and words; components' options are left to `options`."""
    for name, field in model.model_fields.items():
        path = prefix + name
        found = [own for own in branches((field.annotation,)) if own is not NoneType]
        yield path, PARTS.get(path, []) + values_of(field.annotation)
        for own in found:
            if get_origin(own) is dict:
                inner = {"model.wraps": "a", "training.parts": "norm"}.get(path)
                if inner:
                    value = get_args(own)[1]
                    yield f"{path}.{inner}", values_of(value) or [{"frozen_steps": 2}]
                    if isinstance(value, type):
                        yield from paths(value, f"{path}.{inner}.")
            elif isinstance(own, type) and issubclass(own, BaseModel) and len(found) == 1:
                yield from paths(own, f"{path}.")


def plan(folder: Path, model: Any, factors: Any, **changes: Any) -> Plan:
    (folder / "variants").mkdir(exist_ok=True)
    variant = {"title": "t", "source": "s", "model": {**SIZES, **model}}
    (folder / "variants/few.yaml").write_text(json.dumps({"V": variant}))
    (folder / "scales.yaml").write_text("{}")
    study = {
        "title": "t", "baseline": "V", "variants": ["V"], "corpora": ["embedded"], "tokenizers": [{"name": "char"}],
        "seeds": 1, "training": TRAINING, "factors": factors, **changes,
    }  # fmt: skip
    (folder / "s.yaml").write_text(yaml.safe_dump(study))
    return Study(folder / "s.yaml", folder).plan()


def at(spec: Any, path: str) -> Any:
    for word in path.split("."):
        spec = (spec or {}).get(word)
    return spec


def holds(found: Any, wanted: Any) -> bool:
    """Whether all that is wanted is there; a component has more."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(key in found and holds(found[key], value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(holds, found, wanted))
    return found == wanted and isinstance(found, bool) == isinstance(wanted, bool)


def test_every_path_that_a_specification_offers_takes_effect_as_a_factor_or_says_why_not(tmp_path: Path) -> None:
    tried = 0
    for path, values, model in cases():
        beside = next((own for prefix, own in BESIDE.items() if path.startswith(prefix)), {})
        taken, refusals = 0, []
        (base,) = plan(tmp_path, model, {}, **beside).runs.values()
        for value in values:
            tried += 1
            try:
                result = plan(tmp_path, model, {path: [value]}, **beside)
            except ConfigError as error:
                refusals.append(str(error))
                continue
            ((run, spec),) = result.runs.items()
            assert holds(at(spec.model_dump(mode="json"), path), value), (path, value, spec)
            assert (spec == base) == holds(at(base.model_dump(mode="json"), path), value)
            assert run == spec.run_id
            taken += 1
            if taken == 2:  # each takes a plan
                break
        assert all(f"{tmp_path}/s.yaml" in text for text in refusals)
        if path in ELSEWHERE:
            assert not taken
            assert any(ELSEWHERE[path] in text for text in refusals), refusals
        else:
            assert taken, (path, values, refusals)
    assert tried > 300


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"seed": [1, 2]}, "factors.seed: the seed is no factor. Say which under the key seeds."),
        ({"training.learning_rat": [0.1]}, "unknown key 'learning_rat'. Did you mean 'learning_rate'?"),
        ({"corpus.max_byte": [10]}, "unknown key 'max_byte'. Did you mean 'max_bytes'?"),
        ({"model.mixers.a.n_heads": [2]}, "unknown key 'n_heads'. Did you mean 'n_head'?"),
        ({"model.mixers.rwkv_6.head_size": [8]}, "unknown key 'rwkv_6'. Allowed: one letter, a to z, as a mixer has in"),
        ({"model.init.blankt": [True]}, "unknown key 'blankt'. Did you mean 'blanket'?"),
        ({"training": [{"steps": 3}], "training.steps": [4]}, "factors.training: it holds training.steps, another factor"),
    ],
)  # fmt: skip
def test_a_path_that_no_specification_has_is_refused_with_the_nearest(tmp_path: Path, factors: Any, message: str) -> None:
    model = {"layers": "a", "mixers": {"a": {"name": "attention", "n_head": 2}}}
    with pytest.raises(ConfigError) as caught:
        plan(tmp_path, model, factors)
    assert message in str(caught.value)


def test_a_factor_on_the_text_gives_each_cell_a_text_of_its_own(tmp_path: Path) -> None:
    model = {"layers": "a", "mixers": {"a": {"name": "attention", "n_head": 2}}}
    result = plan(tmp_path, model, {"corpus.max_bytes": [2000, 50000]})
    assert [cell.corpus for cell in result.cells] == ["embedded-2000B", "embedded-50000B"]
    assert set(result.corpora) == {"embedded-2000B", "embedded-50000B"}
    assert len(result.runs) == 2


def test_factors_of_one_component_do_not_depend_on_their_order(tmp_path: Path) -> None:
    model = {
        "layers": "r+m", "mixers": {"r": {"name": "rwkv6", "head_size": 8}, "m": {"name": "mamba2", "head_dim": 8}},
        "fusion": {"name": "gains"},
    }  # fmt: skip
    factors = {"model.fusion.gate_init": [0.25], "model.fusion.name": ["gated"]}
    for own in (factors, dict(reversed(factors.items()))):
        (spec,) = plan(tmp_path, model, own).runs.values()
        assert (spec.model.fusion.name, spec.model.fusion.gate_init) == ("gated", 0.25)


def test_a_factor_is_called_by_the_shortest_path_that_tells_it_from_the_others(tmp_path: Path) -> None:
    model = {"layers": "a", "mixers": {"a": {"name": "attention", "n_head": 2}}}
    factors = {"training.learning_rate": [0.5], "training.parts.norm.learning_rate": [1.0], "training.steps": [9]}
    (cell,) = plan(tmp_path, model, factors).cells
    assert cell.id == "V.embedded.char.training.learning_rate=0.5.norm.learning_rate=1.0.steps=9"
    assert shortest(["a.b", "c.b", "b", "d"]) == {"a.b": "a.b", "c.b": "c.b", "b": "b", "d": "d"}
