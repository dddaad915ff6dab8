"""What the stages hand on is of one form: strict, frozen, read as it was written, and never taken for what it is not."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import records
from pydantic import ValidationError

from gt.artefacts import (
    KINDS,
    SCHEMA,
    Artefact,
    Attempt,
    Evaluation,
    Failure,
    Manifest,
    Probes,
    Usage,
    parsed,
    read_evaluation,
    read_manifest,
    read_plan,
    write,
)
from gt.errors import ConfigError
from gt.registry import check, metrics
from gt.schemas import schemas
from gt.spec import RunSpec
from gt.study import dumps

Json = dict[str, Any]
RUN = "GF.char.s0-0123456789"
ATTEMPT: Json = {
    "id": "20260921T141320Z-0123456789abcdef", "run_id": RUN, "started": "2026-09-21T14:13:20+00:00", "ended": None,
    "outcome": None, "error": None, "host": "here", "process": 7, "device": "cpu", "gpu": None, "versions": {},
    "git_commit": None, "modified": None, "code": {"spec": "0" * 16}, "resumed_at": 3,
    "usage": Usage.nothing("it is under way"),
}  # fmt: skip


def one_of_each() -> dict[type[Artefact], Artefact]:
    plan = records.planned(records.plan(seeds=2))
    spec = next(iter(plan.runs.values()))
    measured = [records.of("gate/mean", 0.5), records.of("gate/mean", 0.25, layer=0), records.of("gate/mean", None, layer=1)]
    probes = {"run_id": RUN, "weights": None, "code": {}, "measured": None, "device": None, "measurements": measured}
    found: list[Artefact] = [
        plan.model_copy(update={"started": {next(iter(plan.runs)): records.MEASURED}}),
        Attempt.model_validate(ATTEMPT),
        records.manifest(spec, files={"spec.json": {"bytes": 3, "sha256": "0" * 64}}),
        records.evaluation("held_out", RUN, [records.of("<split>/loss", 1.5, split="val")]),
        Probes.model_validate(probes),
        Failure(error="it is broken"),
    ]
    return {type(own): own for own in found}


EACH = one_of_each()
of_each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def test_there_is_one_of_each_kind() -> None:
    assert set(EACH) == set(KINDS)


@of_each_kind
def test_it_is_read_as_it_was_written(kind: type[Artefact], tmp_path: Path) -> None:
    own, path = EACH[kind], tmp_path / "a.json"
    write(path, own)
    document = json.loads(path.read_text())
    assert document.pop("sha256")
    assert document["schema_version"] == SCHEMA
    assert parsed(kind, document, path) == own
    assert parsed(kind, json.loads(own.model_dump_json()), path) == own
    assert parsed(kind, own.model_dump(), path) == own


@of_each_kind
@pytest.mark.parametrize("version", [SCHEMA + 1, 12])
def test_a_later_schema_is_refused_by_name(kind: type[Artefact], version: int) -> None:
    # Whatever else is in it: it may be of any form.
    for document in ({**EACH[kind].model_dump(mode="json"), "schema_version": version}, {"schema_version": version, "x": 1}):
        with pytest.raises(ConfigError) as caught:
            parsed(kind, document, "some/file.json")
        words = f"is of schema {version}, and this version of gt reads those up to {SCHEMA}."
        assert str(caught.value) == f"some/file.json: {words}"


@of_each_kind
@pytest.mark.parametrize("version", [1, 0, "2", 2.0, 2.5, None, True])
def test_no_other_version_is_taken_for_this_one(kind: type[Artefact], version: Any) -> None:
    with pytest.raises(ConfigError, match=r"some/file\.json: schema_version: "):
        parsed(kind, {**EACH[kind].model_dump(mode="json"), "schema_version": version}, "some/file.json")


@of_each_kind
def test_an_unknown_key_is_refused_with_the_nearest(kind: type[Artefact]) -> None:
    document = EACH[kind].model_dump(mode="json")
    (key, *_) = [name for name in kind.model_fields if name != "schema_version"]
    with pytest.raises(ConfigError, match=rf"some/file\.json: {key}s: unknown key '{key}s'\. Did you mean '{key}'\?"):
        parsed(kind, {**document, f"{key}s": 1}, "some/file.json")


@of_each_kind
def test_a_key_that_is_not_there_and_another_type_are_refused(kind: type[Artefact]) -> None:
    document = EACH[kind].model_dump(mode="json")
    for key, field in kind.model_fields.items():
        if field.is_required():
            with pytest.raises(ConfigError, match=rf"some/file\.json: {key}"):
                parsed(kind, {name: own for name, own in document.items() if name != key}, "some/file.json")
        with pytest.raises(ConfigError, match=r"some/file\.json: "):
            parsed(kind, {**document, key: object}, "some/file.json")


@of_each_kind
@pytest.mark.parametrize("document", [None, [], "text", 7])
def test_what_is_no_object_is_none(kind: type[Artefact], document: Any) -> None:
    with pytest.raises(ConfigError, match=r"some/file\.json"):
        parsed(kind, document, "some/file.json")


@of_each_kind
def test_it_cannot_be_changed(kind: type[Artefact]) -> None:
    for name in kind.model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(EACH[kind], name, None)


@of_each_kind
def test_its_schema_is_generated_and_says_what_each_part_is(kind: type[Artefact]) -> None:
    schema = schemas()[f"{kind.__name__.lower()}.schema.json"]
    assert schema == kind.model_json_schema()
    assert schema["description"] and schema["additionalProperties"] is False


STRICT: list[tuple[type[Artefact], Json, str]] = [
    (Manifest, {"seconds": "12"}, "seconds"),
    (Manifest, {"seconds": -1.0}, "seconds"),
    (Manifest, {"seconds": float("nan")}, "seconds"),
    (Manifest, {"tokens": 1.5}, "tokens"),
    (Manifest, {"tokens": True}, "tokens"),
    (Manifest, {"threads": 2**70}, "threads"),
    (Manifest, {"status": "failed"}, "status"),
    (Manifest, {"run_id": "../outside-0123456789"}, "run_id"),
    (Manifest, {"run_id": "no sum"}, "run_id"),
    (Manifest, {"started": "2026-09-21T14:13:20"}, "started"),  # of no time zone
    (Manifest, {"started": 1_790_000_000}, "started"),
    (Manifest, {"attempts": ["the first"]}, "attempts.0"),
    (Manifest, {"files": {"spec.json": {"bytes": 1, "sha256": "0"}}}, "files.spec.json.sha256"),
    (Manifest, {"watch": {"evaluate_every": 0}}, "watch.evaluate_every"),
    (Manifest, {"code": {"spec": 3}}, "code.spec"),
    (Evaluation, {"name": "Held out"}, "name"),
    (Evaluation, {"name": "../held_out"}, "name"),
    (Evaluation, {"weights": "0"}, "weights"),
    (Evaluation, {"measurements": {}}, "measurements"),
    (
        Evaluation,
        {"measurements": [{"metric": "<split>/loss", "axes": {"split": "val"}, "value": "1"}]},
        "measurements.0.value",
    ),
    (Evaluation, {"measurements": [{"metric": "<split>/loss", "axes": {}, "value": 1}]}, "measurements.0: "),
    (Probes, {"measurements": [{"metric": "gate/mean", "axes": {"layer": None}, "value": 1}]}, "measurements.0.axes.layer"),
    (Probes, {"measurements": [{"metric": "gate/mean", "axes": {}, "value": 1, "more": 2}]}, "measurements.0.more"),
    (Attempt, {"outcome": "killed"}, "outcome"),
    (Attempt, {"id": "1"}, "id"),
    (Failure, {"error": None}, "error"),
]


@pytest.mark.parametrize(("kind", "changes", "key"), STRICT)
def test_a_value_of_another_type_or_range_is_refused_by_its_key(kind: type[Artefact], changes: Json, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(kind, {**EACH[kind].model_dump(mode="json"), **changes}, "some/file.json")
    assert str(caught.value).startswith(f"some/file.json: {key}")
    assert "\n" not in str(caught.value)


def test_the_seconds_of_times_are_kept_in_whatever_zone_they_are_said() -> None:
    document = {**ATTEMPT, "schema_version": SCHEMA, "started": "2026-09-21T16:13:20.75+02:00"}
    own = parsed(Attempt, document, "a.json")
    assert own.model_dump(mode="json")["started"] == "2026-09-21T14:13:20Z"
    assert own == parsed(Attempt, {**document, "started": "2026-09-21T14:13:20Z"}, "a.json")


def test_what_is_not_known_of_usage_says_why_and_what_is_known_does_not() -> None:
    known = {"device_seconds": 1.5, "energy_joules": None, "peak_memory_bytes": 7, "unknown": {"energy_joules": "no meter"}}
    assert Usage.model_validate(known).unknown == {"energy_joules": "no meter"}
    for wrong in ({}, {"energy_joules": "no meter", "device_seconds": "none"}):
        with pytest.raises(ValidationError, match="unknown must say why of what is null, and of nothing else"):
            Usage.model_validate({**known, "unknown": wrong})
    assert set(Usage.nothing("lost").unknown.values()) == {"lost"}


# What a plan must agree with itself in, and what is said where it does not.
INCONSISTENT: dict[str, tuple[Any, str]] = {
    "a cell twice": (lambda plan: plan["cells"].append(plan["cells"][0]), "cells: 'GPT-2.embedded.char' stands there twice"),
    "no baseline": (lambda plan: plan.update(baseline="GPT2"), "baseline: no cell is called 'GPT2'"),
    "a run of no cell": (lambda plan: plan["cells"].pop(), "is in no cell"),
    "a cell of no run": (lambda plan: plan["runs"].pop(first(plan)), "is not among the plan's runs"),
    "another seed": (lambda plan: plan["cells"][0]["runs"].update({"7": first(plan)}), "is of another seed than 7"),
    "another specification": (lambda plan: plan["runs"][first(plan)].update(seed=9), "is the id of another specification"),
    "no id": (lambda plan: plan["runs"].update({"a/b": plan["runs"][first(plan)]}), "'a/b' is no id of a run"),
    "a start of no run": (lambda plan: plan.update(started={RUN: "2026-09-21T14:13:20Z"}), "is not among the plan's runs"),
}


def first(plan: Json) -> str:
    return str(plan["cells"][0]["runs"]["0"])


@pytest.mark.parametrize("what", INCONSISTENT)
def test_a_plan_that_contradicts_itself_is_refused(what: str, tmp_path: Path) -> None:
    change, words = INCONSISTENT[what]
    plan = records.plan(seeds=2)
    change(plan)
    records.write(tmp_path / "plan.json", plan)
    with pytest.raises(ConfigError, match=r"plan\.json: ") as caught:
        read_plan(tmp_path / "plan.json")
    assert words in str(caught.value)


def test_a_plan_is_the_same_again_from_its_text(tmp_path: Path) -> None:
    plan = records.planned(records.plan())
    (tmp_path / "plan.json").write_text(dumps(plan))
    again = read_plan(tmp_path / "plan.json")
    assert again == plan and dumps(again) == dumps(plan)
    assert all(list(cell.runs) == list(range(5)) for cell in again.cells)
    assert {type(spec) for spec in again.runs.values()} == {RunSpec}
    assert again.spec(again.cells[3]) == again.runs[again.cells[3].runs[0]]


def test_a_document_that_was_changed_or_is_another_is_refused(tmp_path: Path) -> None:
    plan = records.plan(seeds=1, variants={"GPT-2": 0.0}, tokenizers=("char",))
    records.write_runs(plan, tmp_path)
    (run,) = tmp_path.iterdir()
    read_manifest(run)
    file = run / "manifest.json"
    file.write_text(file.read_text().replace('"threads": 1', '"threads": 2'))
    with pytest.raises(ConfigError, match=r"manifest\.json: damaged: the sha256 of its content"):
        read_manifest(run)
    (run / "evaluations/cost.json").rename(run / "evaluations/needle.json")
    with pytest.raises(ConfigError, match=r"needle\.json: is the evaluation 'cost'"):
        read_evaluation(run, "needle")
    with pytest.raises(ConfigError, match=r"cost\.json: no such file"):
        read_evaluation(run, "cost")


# What an evaluation was in the second schema, and its measurements.
SECOND: dict[str, tuple[Json, list[tuple[str, float | None, float]]]] = {
    "held_out": (
        {"splits": {"val": {"loss": 1.5, "from_byte": 3, "by_position": [{"context": 2, "to": 3, "loss": 1.25}]}},
         "ngram": {"bigram": {"loss": 9.0, "bits_per_byte": 2.5}}},
        [("val/loss", None, 1.5), ("val/from_byte", None, 3), ("val/by_position", 2, 1.25), ("ngram/bigram", None, 2.5)],
    ),
    "validation-2048": (
        {"val/loss": 1.5, "gate/mean": 0.5, "gate/layer_1": 0.25},
        [("validation/loss", None, 1.5), ("validation/gate/mean", None, 0.5), ("validation/gate/layer_1", None, 0.25)],
    ),
    "needle": (
        {"cells": [
            {"length": 64, "depth": 0.5, "found": {"accuracy": 0.25, "lower": 0.2, "upper": 0.3, "n": 128},
             "exact": {"accuracy": 0.0, "lower": 0.0, "upper": 0.1, "n": 16}, "gain": 1.0},
            {"length": 256, "depth": 0.5, "found": None, "exact": None, "gain": None},
        ]},
        [("needle/found/depth_0.5", 64, 0.25), ("needle/exact/depth_0.5", 64, 0.0), ("needle/gain/depth_0.5", 64, 1.0),
         ("needle/found", None, 0.25), ("needle/exact", None, 0.0), ("needle/gain", None, 1.0)],
    ),
    "generation": (
        {"lengths": [{"length": 64, "tokens_per_second": 10.0, "state_bytes": 512, "peak_bytes": None}]},
        [("generation/tokens_per_second", 64, 10.0), ("generation/state_bytes", 64, 512)],
    ),
    "cost": (
        {"cells": [{"length": 64, "batch": 8, "flops_per_token": 10, "forward_peak_bytes": None}]},
        [("cost/flops_per_token/batch_8", 64, 10)],
    ),
    "quantisation": (
        {"loss": 1.0, "targets": 64,
         "cases": [{"case": "decay/fp16", "difference": 0.5, "se": 0.25, "perplexity_ratio": None}]},
        [("quantisation/decay/fp16/difference", None, 0.5), ("quantisation/decay/fp16/se", None, 0.25)],
    ),
    "recall": (
        {"task": "mqar", "chance": 0.25, "accuracy": 0.5, "lower": 0.4, "upper": 0.6, "n": 10,
         "episodes": {"accuracy": 0.2, "lower": 0.1, "upper": 0.3, "n": 5}, "control": {"accuracy": 0.1},
         "by_items": [{"items": 2, "accuracy": 0.75}], "by_distance": [{"distance": 4, "to": 7, "accuracy": 0.7}],
         "by_length": [{"length": 128, "accuracy": None, "lower": None, "upper": None, "n": None}]},
        [("recall/mqar/accuracy", None, 0.5), ("recall/mqar/episodes", None, 0.2), ("recall/mqar/control", None, 0.1),
         ("recall/mqar/chance", None, 0.25), ("recall/mqar/by_items", 2, 0.75), ("recall/mqar/by_distance", 4, 0.7)],
    ),
    "long_context": (
        # Losses are 1 + 2^-i at contexts 8 * 2^i, and the trained length is 16.
        {"trained_length": 16, "targets": 512, "useful_window": None, "held_to": 2.0, "contexts": [
            {"context": 8, "loss": 2.0, "shuffled_loss": None, "gain": 0.0, "gain_se": 0.0},
            {"context": 16, "loss": 1.5, "shuffled_loss": None, "gain": 0.5, "gain_se": 0.125},
        ]},
        [("context/loss", 8, 2.0), ("context/gain", 8, 0.0), ("context/gain_se", 8, 0.0), ("context/loss", 16, 1.5),
         ("context/gain", 16, 0.5), ("context/gain_se", 16, 0.125), ("context/held_to", None, 2.0),
         ("context/perplexity_ratio", 8, math.exp(0.5)), ("context/perplexity_ratio", 16, 1.0), ("context/slope", None, -0.5)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SECOND)
def test_an_evaluation_of_the_second_schema_is_read_as_its_measurements(name: str, tmp_path: Path) -> None:
    value, measured = SECOND[name]
    old = {**records.evaluation(name, RUN, []).model_dump(mode="json"), "schema_version": 2, "value": value}
    del old["measurements"]
    records.write(tmp_path / f"evaluations/{name}.json", old)
    found = read_evaluation(tmp_path, name)
    assert [(own.name, own.at, own.value) for own in found.measurements] == measured
    check(found.measurements, name)  # each is of a metric, along its axes
    assert {own.metric for own in found.measurements} <= set(metrics())
    assert found.schema_version == SCHEMA


def test_probes_of_the_second_schema_are_read_as_their_measurements() -> None:
    names = [
        "gate/mean",
        "initial/gate/mean",
        "state/norm/r/0.25",
        "ablation/zero/m",
        "parameters/mixers.r",
        "gate/histogram/3",
    ]
    measures = {name: {"value": 0.5, "layers": {"0": 0.25, "1": None}} for name in names}
    old = {**EACH[Probes].model_dump(mode="json"), "schema_version": 2, "measures": measures}
    del old["measurements"]
    found = parsed(Probes, old, "probes.json").measurements
    assert [(own.name, own.layer, own.value) for own in found] == [
        own for name in names for own in ((name, None, 0.5), (name, 0, 0.25), (name, 1, None))
    ]
    assert {own.metric for own in found} <= set(metrics())


def test_every_metric_of_probes_that_the_second_schema_had_is_read_by_its_name() -> None:
    """Whose names are those of now."""
    names = [own.names[0] for own in metrics().values() if own.table == "probes"]
    for place, value in {"branch": "r", "part": "fusion", "bin": "0", "layer": "0"}.items():
        names = [name.replace(f"<{place}>", value) for name in names]
    old = {
        **EACH[Probes].model_dump(mode="json"),
        "schema_version": 2,
        "measures": {n: {"value": 1, "layers": {}} for n in names},
    }
    del old["measurements"]
    found = parsed(Probes, old, "probes.json").measurements
    assert [own.name for own in found] == names
    assert [own.metric for own in found] == [own.name for own in metrics().values() if own.table == "probes"]
