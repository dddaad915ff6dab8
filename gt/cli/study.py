"""The stages of a study up to what is measured of its runs."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated

from gt.cli import complete
from gt.cli.app import STUDY, command
from gt.cli.compute import COMPUTE, TRAINING, Compute, Training
from gt.cli.options import (
    FLAG,
    MANY,
    Attempts,
    Checkpoints,
    Count,
    DeviceLogs,
    Note,
    Out,
    PlanFile,
    Record,
    Records,
    Tokens,
    described,
)
from gt.errors import ConfigError, entry


@command(STUDY, "gt init mylab")
def init(project: Annotated[Path, described("a new folder, whose name is that of its package; `.` for this one")], /) -> None:
    """Make a project of your own.

    A fusion, a study of it, a claim, and the workflow.
    """
    from gt.new_project import create

    name = create(project)
    print(f"{name}: a fusion in {name}/fusions.py, a study of it in config/studies/, and what is expected of it. Next:\n")
    print(f"    cd {project}\n    snakemake --cores all\n    pytest\n")


@command(STUDY, "gt plan smoke")
def plan(
    study: Annotated[Path, described("a study's name, or its file", completer=complete.studies)],
    /,
    *,
    out: Annotated[Path | None, described("where its cells and runs are written down, as JSON")] = None,
    json: Annotated[bool, FLAG, described("print it as JSON")] = False,
) -> None:
    """Check a study, and say what its claims can show and what it takes.

    Of each claim the smallest effect that its seeds see with a power of 80 %, the seeds that its margin needs, whether it can
    fail, and what its cells differ in; of the study the minutes of its runs that are not there yet.
    """
    from dataclasses import asdict
    from json import dumps as text_of

    from gt import devices
    from gt.analysis import gate_words
    from gt.analysis.gates import outlook
    from gt.cli.tables import print_table
    from gt.decided import Decided
    from gt.records import MANIFEST, atomic_write
    from gt.study import checked_plan, dumps, load_study, study_file

    file = study if study.suffix == ".yaml" else Path(f"config/studies/{study}.yaml")
    known = Path(f"results/studies/{file.stem}/plan.json")
    claims = study_file(file).parents[1] / "claims"
    result = checked_plan(file, out or known, Decided(Path("results"), file.stem, claims))
    todo = [run for run in result.waves if not (Path("results/runs") / run / MANIFEST).exists()]
    found = outlook(load_study(file), result, claims, todo, len(devices.visible()), torch=True)
    if json:
        print(text_of(asdict(found), indent=2, ensure_ascii=False))
    else:
        print(f"{result.study}: {len(result.cells)} cells, {len(result.runs)} runs, {result.tokens:,} tokens to train on")
        print(gate_words.head(found))
        if found.gates:
            print()
            print_table(gate_words.HEADER, gate_words.table(found.gates))
        if said := gate_words.said(found):
            print("\n".join(["", *said]))
    if found.refuses and found.faulty:
        raise ConfigError(gate_words.refusal(found.study, found.faulty, "its `gate: refuse` refuses"))
    if out is not None:
        with atomic_write(out) as temporary:
            temporary.write_text(dumps(result), encoding="utf-8")


@command(STUDY, "gt corpus --plan plan.json --corpus shakespeare --out results/data/shakespeare")
def corpus(
    *, plan: PlanFile, corpus: Annotated[str, described("a corpus of the plan", metavar="ID")], out: Out, note: Note = None
) -> None:
    """Fetch a corpus and cut it into its splits."""
    from gt import made
    from gt.artefacts import read_plan
    from gt.data.corpora import prepare

    of = read_plan(plan)
    spec = entry(corpus, of.corpora, f"the plan of {of.study} has no {corpus!r} among its corpora.")
    path = of.corpus_files.get(corpus)
    with made.noted(note, made.of_corpus(spec), out, *made.SPLITS):
        prepare(spec, out, Path(path) if path else None)
    print(f"{corpus}: {out}")


@command(
    STUDY, "gt tokenize --plan plan.json --corpus results/data/shakespeare --tokenizer char --out results/data/shakespeare/char"
)
def tokenize(
    *,
    plan: PlanFile,
    corpus: Annotated[Path, described("folder of the splits")],
    tokenizer: Annotated[str, described("a tokenizer of the plan", metavar="ID")],
    out: Out,
    threads: Annotated[Count, described("processes; they change no token")] = 1,
    note: Note = None,
) -> None:
    """Fit a tokenizer, encode all splits, and measure the n-gram lines."""
    from gt import made
    from gt.artefacts import read_plan
    from gt.data import ngram, tokenizers
    from gt.data.fit import check_tokens
    from gt.records import read_json

    of = read_plan(plan)
    spec = entry(tokenizer, of.tokenizers, f"the plan of {of.study} has no {tokenizer!r} among its tokenizers.")
    try:
        with made.noted(note, made.of_tokens(corpus, tokenizer), out, *made.TOKENS):
            path = of.tokenizer_files.get(tokenizer)
            tokenizers.prepare(corpus, spec, out, Path(path) if path else None, threads)
            check_tokens(of, out)
            ngram.prepare(out)
    except OSError as error:
        size = sum(read_json(corpus / "corpus.json")["bytes"].values())
        free = shutil.disk_usage(out).free
        raise ConfigError(
            f"{out}: the tokens could not be written ({error}). Of {size:,} bytes of text they take up to {2 * size:,}"
            f" bytes, and the disk has {free:,} left."
        ) from None
    print(f"{tokenizer}: {out}")


@command(
    STUDY,
    "gt train --plan plan.json --run <run_id> --data results/data/shakespeare/char --out results/runs/<run_id>"
    " --checkpoints results/checkpoints/<run_id> --attempts results/attempts",
)
def train(
    *,
    plan: PlanFile,
    run: Annotated[str, described("a run of the plan", metavar="RUN", completer=complete.runs_of_plan)],
    data: Tokens,
    out: Record,
    checkpoints: Checkpoints,
    attempts: Attempts,
    devices: DeviceLogs = None,
    training: Training = TRAINING,
) -> None:
    """Train one run of a plan.

    A run that was killed goes on from its checkpoint, to the same bits.
    """
    from gt.artefacts import read_plan
    from gt.records import FAILURE, measurements

    of = read_plan(plan)
    spec = entry(run, of.runs, f"the plan of {of.study} has no {run!r} among its runs.")
    for earlier in (FAILURE, *measurements(out)):  # what they are of will be no more
        (out / earlier).unlink(missing_ok=True)
    try:
        settings = training.settings(attempts, devices)
        from gt.training.loop import Job
        from gt.training.loop import train as train_run

        choice = of.choice(run)
        status = train_run(Job(spec, data, out, (choice,) if choice else ()), checkpoints, settings)
    except Exception as error:
        _note_failure(out / FAILURE, error)
        raise
    print(f"{run}: {status}")


@command(STUDY, "gt evaluate --run results/runs/<run_id> --data results/data/shakespeare/char --evaluations held_out needle")
def evaluate(
    *,
    run: Record,
    data: Tokens,
    evaluations: Annotated[
        list[str] | None,
        described(
            "`gt list evaluations` has them; by default held-out losses, or recall", consume_multiple=True, metavar="NAME..."
        ),
    ] = None,
    devices: DeviceLogs = None,
    compute: Compute = COMPUTE,
) -> None:
    """Measure a trained run on held-out text."""
    from gt.artefacts import evaluation_file, read_run
    from gt.asked import Asked
    from gt.wanted import Wanted

    names = evaluations or Wanted().evaluations(read_run(run)[0])
    files = [evaluation_file(run, Asked.of(name, "--evaluations").label) for name in names]
    device = compute.chosen()
    from gt.evals.evaluation import evaluate
    from gt.metering import metered

    with metered(f"evaluate {run.name}", device, devices):
        evaluate(run, data, device, names)
    print("\n".join(map(str, files)))


@command(STUDY, "gt probe --run results/runs/<run_id> --data results/data/shakespeare/char")
def probe(*, run: Record, data: Tokens, devices: DeviceLogs = None, compute: Compute = COMPUTE) -> None:
    """Look inside a trained run.

    Branches, gates, gradients, states, variance.
    """
    from gt.records import PROBES

    device = compute.chosen()
    from gt.metering import metered
    from gt.probes.probe import probe

    with metered(f"probe {run.name}", device, devices):
        probe(run, data, device)
    print(f"{run / PROBES}")


@command(
    STUDY,
    "gt pack --plans plan.json --run <run_id> <run_id> --data results/data/shakespeare/char --runs results/runs"
    " --staged results/staged --checkpoints results/checkpoints --attempts results/attempts --out pack.json",
)
def pack(
    *,
    plans: Annotated[list[Path], MANY, described("plan.json files")],
    run: Annotated[
        list[str],
        MANY,
        described("runs that are trained on the same data", metavar="RUN...", completer=complete.runs_of_plan),
    ],
    data: Tokens,
    runs: Records,
    staged: Annotated[Path, described("folder where finished runs are left")],
    checkpoints: Checkpoints,
    attempts: Attempts,
    out: Annotated[Path, described("JSON: what became of each run")],
    measuring: Annotated[
        Count, described("processes that evaluate and probe what is trained; 1: this one, after the training")
    ] = 1,
    devices: DeviceLogs = None,
    training: Training = TRAINING,
) -> None:
    """Train many runs in one process, and evaluate and probe them.

    What is finished of them already is kept. What came of each run, and how long all of them took, goes into --out. A run
    that fails stops no other; its own `gt train`, `gt evaluate` or `gt probe` will try it again, alone.
    """
    from gt.artefacts import read_plan
    from gt.pack import Pack
    from gt.records import write_json

    what = Pack([read_plan(file) for file in plans], run, data, runs, staged)
    if what.todo:
        what.work(training.settings(attempts, devices), checkpoints, measuring, training.threads)
    write_json(out, {"runs": what.became, "seconds": what.seconds})


def _note_failure(path: Path, error: Exception) -> None:
    """Leave the reason for the report beside the record; a full disk may forbid even that."""
    from gt.artefacts import Failure, write

    try:
        write(path, Failure(error=f"{type(error).__name__}: {error}"))
    except OSError as second:
        print(f"gt: {path} could not be written either: {second}", file=sys.stderr)
