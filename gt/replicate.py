"""Train a published claim's cells again, on seeds that nobody has seen, and judge it again: two calls of `gt replicate`.

The first makes a study of its own from the published folder alone: only the cells that the claim compares, with their
specifications as they were published and what their tuning had decided, and the claim, registered before the runs. Snakemake
trains and judges it as it does any study. The second call keeps its records and its verdict with what it replicates
(`gt.analysis.replications`), where nothing is replaced.

Seeds are the first numbers above all that the study planned, looks to come included, which no run has that is published with
it, beside it or as a replication of it: neither one that is judged nor one that tuned.
"""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any, Literal, NamedTuple

import yaml
from pydantic import Field

from gt.analysis import claims
from gt.analysis.aggregate import label
from gt.analysis.claims import FAITHFUL, Claim, Extrapolates, Places, Predicate, cells_of, load_claims
from gt.analysis.kept import of_today
from gt.analysis.predicates import region
from gt.analysis.registration import history, read, register
from gt.analysis.repeated import OF_DEVICES
from gt.analysis.replications import FOLDER, Replication, replications
from gt.analysis.statistics import seeds_needed
from gt.analysis.values import PARTS, is_count
from gt.archive import KEPT, PLAN, glanced, pack, read_plan, read_plans
from gt.artefacts import Cell, Name, Number, Plan, Sum, Typed
from gt.artefacts import read_plan as read_planned
from gt.errors import ConfigError, entry
from gt.explain import validated
from gt.new_project import ALLOWED, TEMPLATE
from gt.records import atomic_write, read_json, read_sealed, temporary_folder, write_sealed
from gt.registry import metric as registered
from gt.shared import shared
from gt.study import Study

Json = dict[str, Any]
# Seeds of a replication that nobody gave a number of, at least and at most.
FEWEST, MOST = 4, 32
# The variant that a cell is written down over: with nothing of its own, since a published specification says all.
BARE = "as-published"
# Of the project that a replication is made in, where it is a new one: from the template of `gt init`.
PROJECT = ("Snakefile", ".gitignore")


class Note(Typed):
    """What a replication is of: `config/replications/<name>.json`, written when it is begun."""

    schema_version: Literal[1] = 1
    name: Name
    of: Name
    claim: Name
    asked: Sum = Field(description="of the claim that is replicated")
    seeds: Annotated[list[Number], Field(min_length=2)]
    needed: int | None = Field(description="as a replication has it")
    cells: list[str] = Field(description="of the published study")


class Asked(NamedTuple):
    """A published claim: its plan, its verdict, and the claim as it was judged."""

    plan: Plan
    judged: Json
    claim: Claim


def asked(name: str, published: Path) -> Asked:
    """A claim of a published study. ConfigError where there is none, or it cannot be trained again for a second verdict."""
    plan, _ = read_plan(published / KEPT)
    file = published / "claims.json"
    judged = {own["claim"]: of_today(own) for own in read_json(file) if own["arm"] == FAITHFUL} if file.exists() else {}
    own = entry(name, judged, f"{published}: has no verdict of a claim {name!r}.")
    if not own["claimed"]:
        made = f"`gt rebuild --published {published}` makes verdicts that do, where its claims are in config/claims"
        raise ConfigError(f"{file}: does not say what was claimed; {made}.")
    claim = validated(Claim, own["claimed"], f"{file}: {name}: claimed")
    if why := _refusal(claim, own):
        raise ConfigError(f"{name} of {plan.study} cannot be replicated: {why}.")
    return Asked(plan, own, claim)


def _refusal(claim: Claim, judged: Json) -> str | None:
    """Why further seeds would say nothing of a claim; None where they would."""
    if any(isinstance(own, Extrapolates) for own in claim.predicate):
        return "it is about a ladder whose laws are fitted to all its sizes; train the ladder again as a study of its own"
    if judged["verdict"] == "not testable" or any(test["constant"] is not None for test in judged["tests"]):
        return f"it rests on what no seed changes ({judged['reason'] or 'a constant'})"
    for metric in dict.fromkeys(metric for predicate in claim.predicate for _, metric in cells_of(predicate)):
        if is_count(metric):
            return f"{metric} is a count, the same in every seed"
        if registered(metric).unit in OF_DEVICES:
            return f"{metric} is a measure of a device, and not of a seed"
    if not judged["tests"]:
        return f"it has no first verdict ({'; '.join(judged['missing']) or judged['reason'] or judged['verdict']})"
    return None


def begin(name: str, published: Path, out: Path, seeds: int | None = None) -> tuple[Note, bool]:
    """Write a study that replicates a claim into a project, which is made where there is none, and register its claim.

    Returns also whether the project is in a repository, to which the registration can be committed. seeds: how many; by
    default as many as see the published size with a power of 80 %, from 4 to 32. ConfigError, and nothing is written, where
    the claim cannot be replicated or its cells not be trained here, and for a folder that has other things than a project.
    """
    is_new = not (out / "Snakefile").exists()
    if is_new and out.exists() and (not out.is_dir() or {own.name for own in out.iterdir()} - ALLOWED):
        raise ConfigError(f"{out}: is there already, without a Snakefile. Name a project or a new folder.")
    plan, judged, claim = asked(name, published)
    settled, cells = _settled(name, claim, plan, judged)
    for cell in cells:
        _check_here(name, plan, cell)
    known = replications(published)
    needed = seeds_that_see(claim, judged)
    n = seeds or min(max(needed or claim.seeds, FEWEST), MOST)
    if n < 2:
        raise ConfigError(f"--seeds {n}: nothing varies over one seed. Allowed: from 2.")
    called = _free_name(name, known, out)
    note = Note(
        name=called,
        of=plan.study,
        claim=name,
        asked=claim.sha256,
        seeds=_free_seeds(plan, published, known, n),
        needed=needed,
        cells=[cell.id for cell in cells],
    )
    study, again = _study(note, plan, claim, cells), _claim(note, settled)
    with temporary_folder(out) as folder:  # all that can be refused is refused in it
        _write(folder, note, study, again)
        _check_same(folder, note, plan, cells)
        load_claims(folder / "config/claims")
    if is_new:
        _new_project(out, called)
    _write(out, note, study, again)
    folder = out / "config/claims"
    register(folder, {called: load_claims(folder)[called]})
    return note, read(folder)[called].commit is not None


def begun_in(out: Path, name: str, study: str) -> Note | None:
    """The replication of a claim that was begun in a project, of which there is one at most; None without one."""
    notes = [validated(Note, read_sealed(file), file) for file in sorted((out / "config/replications").glob("*.json"))]
    return next((own for own in notes if (own.of, own.claim) == (study, name)), None)


def kept(note: Note, published: Path, out: Path) -> Replication | None:
    """A replication that was begun in a project, if it is kept with what it replicates.

    ConfigError where another of its name is: of the same seeds, so that it would be no further one.
    """
    found = next((own for own in replications(published) if own.name == note.name), None)
    entered = [own.hash for own in history(out / "config/claims").get(note.name, [])]
    if found and [own["hash"] for own in found.judgement["registered"]] != entered:
        raise ConfigError(
            f"{published / FOLDER}: has a {note.name} that was begun in another project, of the same seeds. Begin one anew in"
            f" another folder than {out}."
        )
    return found


def finish(note: Note, published: Path, out: Path) -> Replication | None:
    """Keep the verdict and the records of a replication with what it replicates; None while it has no verdict.

    ConfigError where records are damaged.
    """
    results = out / "results"
    folder = results / "studies" / note.name
    if not (folder / "claims.json").exists():
        return None
    judged = {own["claim"]: own for own in read_json(folder / "claims.json")}.get(note.name)
    if judged is None or judged["verdict"] == "not yet run":
        return None
    plan = read_planned(folder / PLAN)
    first, second = _trained(published / KEPT, note.cells), _manifests(results / "runs", plan)
    made = Replication(
        name=note.name,
        of=note.of,
        claim=note.claim,
        asked=note.asked,
        seeds=note.seeds,
        needed=note.needed,
        other_code=_other_code(first, second),
        first_devices=_devices(first),
        devices=_devices(second),
        judgement=_as_tuned(judged, published),
    )
    kept = published / FOLDER
    pack(plan, results / "runs", kept / note.name)
    write_sealed(kept / f"{note.name}.json", made.model_dump(mode="json"))  # last: what has it is whole
    return made


def _as_tuned(judged: Json, published: Path) -> Json:
    """A verdict without the caution that nothing chose a rate, of cells whose rates the published study had tuned."""
    plan, _ = read_plan(published / KEPT)
    tuned = {own.cell for own in plan.tunings}
    names = {label(cell) for cell in plan.cells if cell.id in tuned}
    fixed = [own for own in judged["cautions"]["fixed"] if own["cell"] not in names]
    return {**judged, "cautions": {**judged["cautions"], "fixed": fixed}}


def seeds_that_see(claim: Claim, judged: Json) -> int | None:
    """How many seeds decide each part of a claim alone with a power of 80 %, were the truth as published.

    None where a part takes more than 10,000, or is no test of means.
    """
    needed = [_needed(predicate, test, claim.alpha) for predicate, test in zip(claim.predicate, judged["tests"], strict=False)]
    return None if None in needed else max(own for own in needed if own is not None)


def _needed(predicate: Predicate, test: Json, alpha: float) -> int | None:
    """Of one part: by its spread over the published seeds, and how far its mean is from what decides it.

    Of other tests than of means: as its verdict says, at the alpha of its family.
    """
    claimed, values = region(predicate), list(test["by_seed"].values())
    scales: dict[str, Callable[[float], float]] = {"value": float, "ratio": _log}
    scale = scales.get(test["scale"])
    if scale is None or len(values) < 2 or not all(own is not None and math.isfinite(scale(own)) for own in values):
        known: int | None = test["needed"]
        return known
    z = [scale(own) for own in values]
    low, high, mean, sd = scale(claimed.low), scale(claimed.high), fmean(z), stdev(z)
    if low < mean < high and math.isfinite(low) and math.isfinite(high):
        return seeds_needed(sd, bounds=(low, high, mean), alpha=alpha)
    return seeds_needed(sd, difference=min(abs(mean - own) for own in (low, high) if math.isfinite(own)), alpha=alpha)


def _log(ratio: float) -> float:
    """Of a ratio, also of one that no ratio is below."""
    return math.log(ratio) if ratio > 0 else -math.inf


def _settled(name: str, claim: Claim, plan: Plan, judged: Json) -> tuple[Claim, list[Cell]]:
    """A claim with the factors written in that a tuning chose for its cells, and the published cells that it compares."""
    own = plan.model_copy(update={"cells": [cell for cell in plan.cells if cell.id in judged["cells"]]})
    places = Places(name, claim.model_copy(update={"study": plan.study}), {plan.study: own})
    cells: dict[str, Cell] = {}

    def one_alone(several: list[Cell], _: list[Cell]) -> list[Cell]:
        those = " and ".join(one.id for one in several)
        raise ConfigError(f"{name} of {plan.study} cannot be replicated: it is not kept which of {those} it compared.")

    def settle(cell: claims.Cell, metric: str) -> claims.Cell:
        place = places.find(cell, metric, one_alone)
        assert place is not None  # no arm stands for the claim's cells
        cells[place.cell.id] = place.cell
        if cell.tuned_by is None:
            return cell
        return cell.model_copy(update={"tuned_by": None, "factors": place.cell.factors})

    made = []
    for predicate in claim.predicate:
        parts: Json = {part: value for part in ("a", "b", "cells") if (value := getattr(predicate, part, None)) is not None}
        for part, value in parts.items():
            several = isinstance(value, list)
            parts[part] = [settle(one, predicate.metric) for one in value] if several else settle(value, predicate.metric)
        made.append(predicate.model_copy(update=parts))
    return claim.model_copy(update={"predicate": made}), list(cells.values())


def _check_here(name: str, plan: Plan, cell: Cell) -> None:
    """ConfigError where what a cell is trained on, or starts from, is not on this machine."""
    spec = plan.spec(cell)
    for what, files in ((cell.corpus, plan.corpus_files), (cell.tokenizer, plan.tokenizer_files)):
        if (path := files.get(what)) is not None and not Path(path).is_file():
            raise ConfigError(
                f"{name} of {plan.study} cannot be replicated here: {cell.id} is trained on {path}, which is not here."
            )
    if spec.training.start is not None:
        raise ConfigError(
            f"{name} of {plan.study} cannot be replicated: {cell.id} starts from weights, which are not kept with a study."
        )


def _free_seeds(plan: Plan, published: Path, known: Iterable[Replication], n: int) -> list[int]:
    plans = [plan, *read_plans(own for own in published.absolute().parent.glob("*") if own != published.absolute())]
    taken = {spec.seed for own in plans for spec in own.runs.values()} | {seed for own in known for seed in own.seeds}
    last = max(seed for cell in plan.cells for seed in cell.runs)
    first = max(last + 1, plan.looks.looks[-1] if plan.looks else 0)
    return list(itertools.islice((seed for seed in itertools.count(first) if seed not in taken), n))


def _free_name(claim: str, known: Iterable[Replication], out: Path) -> str:
    taken = {own.name for own in known} | {file.stem for file in (out / "config/studies").glob("*.yaml")}
    return next(name for i in itertools.count(1) if (name := f"{claim}-again-{i}") not in taken)


def _study(note: Note, plan: Plan, claim: Claim, cells: list[Cell]) -> Json:
    """The study's file: a block a cell, each with all that its published specification says."""
    first, *others = (_block(plan, cell, note.seeds) for cell in cells)
    said = {
        "title": f"{note.claim} of {note.of} again: {claim.title}",
        "description": f"The cells that the claim {note.claim} of the study {note.of} compares, as they were published, on"
        " seeds that no run of it had.",
        "baseline": cells[-1].variant,
        "evaluations": plan.evaluations,
        "dollars_per_hour": plan.dollars_per_hour,
        "diverged": plan.diverged,
    }
    return {**{key: value for key, value in said.items() if value is not None}, **first, "also": others}


def _block(plan: Plan, cell: Cell, seeds: list[int]) -> Json:
    spec = plan.spec(cell)
    parts = (spec.model, spec.training, spec.corpus, spec.tokenizer)
    model, training, corpus, tokenizer = (own.model_dump(mode="json", exclude_defaults=True) for own in parts)
    return {
        "variants": [{"variant": BARE, "label": cell.variant, "model": model, "training": training}],
        "corpora": [corpus],
        "tokenizers": [tokenizer],
        "scales": [cell.factors["scale"]] if "scale" in cell.factors else [],
        "factors": {path: [value] for path, value in cell.factors.items() if path != "scale"},
        "seeds": [*seeds],
    }


def _claim(note: Note, settled: Claim) -> Json:
    """The claim of the replication: what was claimed, of its own study, alone in its family."""
    changed = {
        "study": note.name,
        "source": f"the claim {note.claim} of the published study {note.of}",
        "note": "",
        "seeds": len(note.seeds),
        "family": None,
        "arms": [],
        "sd": None,
    }
    return settled.model_copy(update=changed).document


def _write(project: Path, note: Note, study: Json, claim: Json) -> None:
    bare = {BARE: {"title": "What a study's cells say of themselves", "source": "published specifications"}}
    for place, document in (
        (f"variants/{BARE}.yaml", bare),
        (f"studies/{note.name}.yaml", study),
        (f"claims/{note.name}.yaml", {note.name: claim}),
    ):
        with atomic_write(project / "config" / place) as temporary:
            temporary.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")
    write_sealed(project / "config/replications" / f"{note.name}.json", note.model_dump(mode="json"))


def _new_project(out: Path, study: str) -> None:
    for name in PROJECT:
        out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(TEMPLATE / name, out / name)
    shutil.copytree(shared("workflow") / "profiles", out / "profiles", dirs_exist_ok=True)
    with atomic_write(out / "config/config.yaml") as temporary:
        temporary.write_text(f"study: {study}\n", encoding="utf-8")


def _check_same(project: Path, note: Note, plan: Plan, cells: list[Cell]) -> None:
    """ConfigError where the study does not come to the runs that were published, but for their seeds."""
    made = Study(project / f"config/studies/{note.name}.yaml").plan()
    again = {cell.id: cell for cell in made.cells}
    for cell in cells:
        spec = plan.spec(cell)
        wanted = [spec.model_copy(update={"seed": seed}) for seed in note.seeds]
        if cell.id not in again or [made.runs[run] for run in again[cell.id].runs.values()] != wanted:
            raise ConfigError(
                f"{note.claim} of {note.of} cannot be replicated: this version of gt makes other runs of {cell.id} than those"
                " that were published."
            )


def _trained(records: Path, cells: Iterable[str]) -> list[Json]:
    """The manifests that are kept of the runs of some cells."""
    plan, names = read_plan(records)
    wanted = {run for cell in plan.cells if cell.id in cells for run in cell.runs.values()}
    return [document for run, document in glanced(records, plan, names, ("manifest",)) if run in wanted]


def _manifests(runs: Path, plan: Plan) -> list[Json]:
    files = [runs / run / "manifest.json" for run in plan.runs]
    return [read_sealed(file) for file in files if file.exists()]


def _other_code(first: list[Json], second: list[Json]) -> list[str] | None:
    """The modules that both used and that differ; None where it is not known of one what it used."""
    sums: tuple[dict[str, set[str]], dict[str, set[str]]] = {}, {}
    for found, manifests in zip(sums, (first, second), strict=True):
        for module, sum_ in itertools.chain.from_iterable((own.get("code") or {}).items() for own in manifests):
            if module not in PARTS:
                found.setdefault(module, set()).add(sum_)
    both = sorted(sums[0].keys() & sums[1].keys())
    return [module for module in both if sums[0][module] != sums[1][module]] if both else None


def _devices(manifests: list[Json]) -> list[str]:
    return sorted({own["device"] for own in manifests if own.get("device")})
