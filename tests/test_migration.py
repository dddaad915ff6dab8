"""Documents of the first schema are read as those of the second, with the same numbers; what is broken in them is refused."""

from __future__ import annotations

import hashlib
import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import records

from gt import migration
from gt.artefacts import HELD_OUT, Evaluation, Failure, Manifest, Plan, Probes, parsed
from gt.errors import ConfigError
from gt.records import unsealed
from gt.spec import RunSpec, Watch

Json = dict[str, Any]
PUBLISHED = Path(__file__).parents[1] / "results/published"
STUDIES = sorted(folder.parent.name for folder in PUBLISHED.glob("*/records"))


def stored(study: str) -> Iterator[tuple[str, str, Json]]:
    """The documents of a published study: run, kind and content. That of the plan is of no run."""
    records_of = PUBLISHED / study / "records"
    yield "", "plan", json.loads(lzma.decompress((records_of / "plan.json.xz").read_bytes()))
    for row in pq.read_table(records_of / "records.parquet").to_pylist():
        yield row["run_id"], row["kind"], json.loads(row["document"])


@pytest.mark.parametrize("study", STUDIES)
def test_every_published_document_is_read_with_the_same_numbers(study: str) -> None:
    documents = [(run, kind, unsealed(own, study)) for run, kind, own in stored(study)]
    (old,) = [own for _, kind, own in documents if kind == "plan"]
    if not migration.is_first(old):
        pytest.skip("it is of the second schema")
    plan, names = migration.plan(old, study)
    assert len(set(names.values())) == len(names) == len(plan.runs)
    assert {cell.id: len(cell.runs) for cell in plan.cells} == {cell["id"]: len(cell["runs"]) for cell in old["cells"]}
    for run, name in names.items():
        training = old["runs"][run]["training"]
        of_optimizer = {key: training.pop(key) for key in ("beta1", "beta2", "epsilon")}
        assert of_optimizer == {"beta1": 0.9, "beta2": 0.95, "epsilon": 1e-8}
        assert plan.runs[name] == RunSpec.model_validate(old["runs"][run])
    for run, kind, own in documents:
        check(kind, own, plan, names.get(run, ""))


def check(kind: str, old: Json, plan: Plan, run: str) -> None:
    """A document says of a run what it said in the first schema."""
    match kind:
        case "manifest":
            found = parsed(Manifest, migration.manifest(old, plan.runs[run]), run)
            now, kept = found.model_dump(), old.keys() - {"run_id", "git_dirty", "energy_joules", "peak_memory_bytes"}
            assert found.run_id == run
            assert found.watch == plan.runs[run].training.watch
            for name in kept - {"started", "finished"}:
                assert now[name] == old[name], name
            assert [now[name].isoformat() for name in ("started", "finished")] == [old["started"], old["finished"]]
            assert found.modified == ({True: ["?"], False: []}.get(old["git_dirty"]) if "git_dirty" in old else None)
            assert found.usage.energy_joules is None and "energy_joules" in found.usage.unknown
        case "evaluation":
            made = {name: parsed(Evaluation, own, run) for name, own in migration.evaluations(old, run).items()}
            assert all((name, run) == (own.name, own.run_id) for name, own in made.items())
            held_out = made[HELD_OUT].value
            assert held_out == ({"splits": old["splits"], "ngram": old["ngram"]} if old["splits"] else None)
            others = {"recall", "long_context", "needle", "generation", "cost", "quantisation"} & old.keys()
            assert {name: made[name].value for name in others} == {name: old[name] for name in others}
            assert set(made) == {HELD_OUT, *others, *old.get("evaluations", [])}
        case "probes":
            probes = parsed(Probes, migration.probes(old, run), run)
            assert probes.run_id == run
            assert probes.model_dump(mode="json")["measures"] == old["measures"]
        case "failure":
            assert parsed(Failure, migration.failure(old), run).error == old["error"]


def first_plan() -> Json:
    """A plan as the first schema had it: no version, and names that counted how a run is looked at."""
    plan = records.plan(seeds=2, variants={"GPT-2": 0.0, "GF": 0.0}, tokenizers=("char",))
    runs = {}
    for run, spec in plan["runs"].items():
        followed = {**spec, "training": {**spec["training"], "evaluation_tokens": 2048}}
        name = f"{run.rpartition('-')[0]}-{RunSpec.model_validate(followed).sum(looks=True)[:10]}"
        runs[name] = followed
        for cell in plan["cells"]:
            cell["runs"] = {seed: name if own == run else own for seed, own in cell["runs"].items()}
    return {**{name: own for name, own in plan.items() if name != "schema_version"}, "runs": runs}


def test_a_run_s_name_is_the_one_that_it_has_however_it_was_looked_at() -> None:
    old = first_plan()
    plan, names = migration.plan(old, "plan.json")
    assert list(names) == list(old["runs"])
    assert not set(names) & set(plan.runs)
    for run, name in names.items():
        spec = RunSpec.model_validate(old["runs"][run])
        usual = {**spec.model_dump(), "training": {**spec.training.model_dump(), **Watch().model_dump()}}
        assert name == spec.run_id == RunSpec.model_validate(usual).run_id
    assert [cell.runs[0] for cell in plan.cells] == [names[cell["runs"]["0"]] for cell in old["cells"]]


def test_a_run_whose_optimizer_had_other_options_than_the_defaults_is_refused_and_not_taken_for_another() -> None:
    """There was none; those options stood beside the optimizer's name."""
    old = first_plan()
    (run, spec), *_ = old["runs"].items()
    named = json.loads(RunSpec.model_validate(spec).canonical_json(looks=True))
    named["training"]["epsilon"] = 0.1
    digest = hashlib.sha256(json.dumps(named, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    name = f"{run.rpartition('-')[0]}-{digest[:10]}"
    old["runs"] = {name: {**spec, "training": {**spec["training"], "epsilon": 0.1}}}
    with pytest.raises(ConfigError, match=rf"'{name}' is the id of another specification"):
        migration.plan(old, "plan.json")


def without(document: Json, *keys: str) -> Json:
    return {name: own for name, own in document.items() if name not in keys}


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"runs": []}, "plan.json: runs: must be a mapping"),
        ({"cells": [{"id": "a"}]}, "plan.json: cells: must be a list of cells, each with its runs"),
        ({"cells": None}, "plan.json: cells: must be a list of cells"),
        ({"baseline": "GPT2"}, "no cell is called 'GPT2'"),
        ({"surprise": 1}, "surprise: unknown key 'surprise'"),
    ],
)
def test_a_plan_of_another_form_is_refused(broken: Json, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        migration.plan({**first_plan(), **broken}, "plan.json")
    assert words in str(caught.value)


def test_a_plan_whose_run_is_of_another_specification_is_refused() -> None:
    old = first_plan()
    run, spec = next(iter(old["runs"].items()))
    old["runs"][run] = {**spec, "training": {**spec["training"], "evaluation_tokens": 4096}}
    with pytest.raises(ConfigError, match=rf"'{run}' is the id of another specification"):
        migration.plan(old, "plan.json")


MANIFEST: Json = {
    "run_id": "was", "status": "completed", "steps_completed": 250, "started": "2026-09-21T14:13:20+00:00",
    "finished": "2026-09-21T14:13:50+00:00", "seconds": 28.5, "tokens": 256_000, "tokens_per_second": 9000.0,
    "n_params": 130_000, "n_params_non_embedding": 100_000, "state_size": 4096, "flops_per_token": 250_000, "stacked": 5,
    "git_dirty": True, "energy_joules": 12.5, "peak_memory_bytes": 1000,
}  # fmt: skip


@pytest.fixture
def spec() -> RunSpec:
    return next(iter(records.planned(records.plan(seeds=1)).runs.values()))


def test_what_a_shared_device_was_said_to_have_taken_is_not_known(spec: RunSpec) -> None:
    found = parsed(Manifest, migration.manifest(MANIFEST, spec), "manifest.json")
    assert (found.run_id, found.seconds, found.stacked, found.modified) == (spec.run_id, 28.5, 5, ["?"])
    assert found.usage.model_dump(exclude={"unknown"}) == dict.fromkeys(
        ("device_seconds", "energy_joules", "peak_memory_bytes")
    )
    assert set(found.usage.unknown.values()) == {migration.UNMEASURED}
    clean = parsed(Manifest, migration.manifest({**MANIFEST, "git_dirty": False}, spec), "manifest.json")
    unknown = parsed(Manifest, migration.manifest(without(MANIFEST, "git_dirty"), spec), "manifest.json")
    assert (clean.modified, unknown.modified) == ([], None)


def test_what_was_not_measured_of_a_diverged_run_is_null(spec: RunSpec) -> None:
    old = {"run_id": "was", "status": "diverged", "splits": {}, "ngram": {}, "evaluations": ["generation"], "code": "e" * 16}
    found = {name: parsed(Evaluation, own, name) for name, own in migration.evaluations(old, spec.run_id).items()}
    assert {name: own.value for name, own in found.items()} == {HELD_OUT: None, "generation": None}


@pytest.mark.parametrize(
    ("kind", "document", "words"),
    [
        (Manifest, {**MANIFEST, "seconds": "28"}, "seconds"),
        (Manifest, without(MANIFEST, "tokens"), "tokens"),
        (Manifest, {**MANIFEST, "surprise": 1}, "unknown key 'surprise'"),
        (Manifest, {**MANIFEST, "status": "failed"}, "status"),
        (Evaluation, {"splits": {"val": {"bits_per_byte": "2"}}}, "bits_per_byte"),
        (Evaluation, {"splits": {"train": {}}}, "train"),
        (Probes, {"measures": {"gate/mean": {"value": "a", "layers": {}}}}, "measures.gate/mean.value"),
        (Probes, {}, "measures"),
        (Failure, {"step": 3}, "error"),
    ],
)
def test_a_document_of_another_form_is_refused(kind: Any, document: Json, words: str, spec: RunSpec) -> None:
    run = spec.run_id
    made = {
        Manifest: lambda: migration.manifest(document, spec),
        Evaluation: lambda: migration.evaluations(document, run)[HELD_OUT],
        Probes: lambda: migration.probes(document, run),
        Failure: lambda: migration.failure(document),
    }[kind]()
    with pytest.raises(ConfigError, match="^here: .*") as caught:
        parsed(kind, made, "here")
    assert words in str(caught.value)


def test_only_what_has_no_version_is_of_the_first_schema() -> None:
    assert migration.is_first(MANIFEST)
    assert not migration.is_first({**MANIFEST, "schema_version": 2})
    assert not migration.is_first([])
