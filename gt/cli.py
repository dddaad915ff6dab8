"""The command line, `gt`: one command a stage. Each imports what it uses, and nothing else does."""

from __future__ import annotations

import argparse
import errno
import json
import math
import os
import shutil
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from gt import __version__
from gt.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from gt.training.loop import Settings

Entry = TypeVar("Entry")


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Exit codes: 0 done, 1 failed, 2 bad input (one message, no stack trace)."""
    try:
        options = parser().parse_args(arguments)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `gt list | head` ends quietly
        options.command(options)
    except ConfigError as error:
        print(f"gt: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except ModuleNotFoundError as error:
        if (error.name or "gt").split(".")[0] == "gt":
            raise
        print(
            f"gt: there is no {error.name} in {sys.prefix}; `pip install -e .` in a checkout of gt brings it.", file=sys.stderr
        )
        return 2
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        print(f"gt: {error.filename or 'a file'}: cannot be written ({error.strerror}).", file=sys.stderr)
        return 1
    return 0


class Parser(argparse.ArgumentParser):
    """To which bad options are bad input as any other."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message.removeprefix('argument ').rstrip('.')}. See `{self.prog} --help`.")


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    root = Parser(prog="gt", description="Ablations of small language models, from a study file to a report.")
    root.add_argument("--version", action="version", version=f"gt {__version__}")
    commands = root.add_subparsers(metavar="COMMAND", required=True)

    def command(function: Any, *options: str, **paths: str) -> argparse.ArgumentParser:
        name = function.__name__.rstrip("_").replace("_", "-")
        sub = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
        sub.set_defaults(command=function)
        for option in options:
            sub.add_argument(f"--{option}", required=True)
        for option, text in paths.items():
            sub.add_argument(f"--{option}", required=True, type=Path, metavar="PATH", help=text)
        return sub

    plan_ = command(plan, out="where plan.json goes")
    plan_.add_argument("study", type=Path, help="config/studies/<name>.yaml")
    corpus_ = command(corpus, "corpus", plan="plan.json", out="folder for the splits")
    tokenize_ = command(tokenize, "tokenizer", plan="plan.json", corpus="folder of the splits", out="folder for the tokens")
    train_ = command(
        train,
        "run",
        plan="plan.json",
        data="folder of tokens",
        out="folder of the record",
        checkpoints="folder",
        attempts="results/attempts",
    )
    evaluate_ = command(evaluate, run="folder of the record", data="folder of tokens")
    evaluate_.add_argument(
        "--evaluations", nargs="*", metavar="NAME", help="see config/README.md; by default held-out losses, and a task's recall"
    )
    probe_ = command(probe, run="folder of the record", data="folder of tokens")
    sample_ = command(sample)
    sample_.add_argument("run", type=Path, help="results/runs/<run_id>, or the run_id of a record there")
    sample_.add_argument("--data", type=Path, metavar="PATH", help="folder of tokens, for its tokenizer; results/data/...")
    sample_.add_argument("--prompt", default="\n", help="text to continue")
    sample_.add_argument("--length", type=_from(1), default=500, help="tokens to generate")
    sample_.add_argument("--temperature", type=_number, default=1.0, help="0: always the most likely token")
    sample_.add_argument("--top-k", type=_from(1), help="draw among so many of the most likely tokens")
    sample_.add_argument("--seed", type=_from(0), default=0, help="of the draws")
    for sub in (train_, evaluate_, probe_):
        sub.add_argument("--staged", type=Path, metavar="PATH", help="where a pack may have left this run")
    export_ = command(export)
    export_.add_argument("run", nargs="?", type=Path, help="results/runs/<run_id>, or the run_id of a record there")
    export_.add_argument("--to", default="transformers", metavar="LIBRARY", help="transformers, or fla (flash-linear-attention)")
    export_.add_argument("--out", type=Path, metavar="PATH", help="the folder; by default results/exports/<run_id>")
    export_.add_argument("--data", type=Path, metavar="PATH", help="folder of tokens, for its tokenizer; results/data/...")
    export_.add_argument("--list", action="store_true", help="say of every variant what it is equal to, or how it differs")
    import__ = command(import_)
    import__.add_argument("folder", type=Path, help="of `gt export`, or of a GPT-2 of transformers")
    pack_ = command(
        pack,
        data="folder of tokens",
        runs="results/runs",
        staged="folder where finished runs are left",
        checkpoints="folder",
        attempts="results/attempts",
        out="JSON: what became of each run",
    )
    pack_.add_argument("--plans", nargs="+", required=True, type=Path, metavar="PATH", help="plan.json files")
    pack_.add_argument("--run", nargs="+", required=True, metavar="RUN", help="runs that are trained on the same data")
    measuring_help = "processes that evaluate and probe what is trained; 1: this one, after the training"
    pack_.add_argument("--measuring", type=_from(1), default=1, metavar="N", help=measuring_help)
    for sub in (train_, pack_):
        sub.add_argument("--checkpoint-seconds", type=_number, default=60.0, help="how often to save what a kill would lose")
        sub.add_argument("--recompute", default="", metavar="LETTERS", help="mixers to compute twice, to save memory: r, m, rm")
    devices_help = "results/devices: logs of GPUs, by which jobs that share one are told apart from strangers"
    for sub in (train_, evaluate_, probe_, pack_):
        sub.add_argument("--devices", type=Path, metavar="PATH", help=devices_help)
    for sub in (train_, evaluate_, probe_, pack_, sample_):
        sub.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help="auto: a GPU if there is one")
        sub.add_argument("--threads", type=_from(1), default=1, help="CPU threads; they are part of what decides the last bits")
    track_ = command(track, "uri", plan="plan.json", runs="results/runs")
    track_.add_argument("--out", type=Path, metavar="PATH", help="where the counts go, as JSON; by default they are printed")
    aggregate_ = command(aggregate, plan="plan.json", runs="results/runs", out="results/studies/<study>")
    figures_ = command(figures, study="results/studies/<study>")
    figures_.add_argument("--jobs", type=_from(1), default=1, help="processes")
    report_ = command(report, templates="report_templates")
    report_.add_argument("--study", nargs="+", required=True, type=Path, metavar="PATH", help="results/studies/<study> ...")
    report_.add_argument("--out", type=Path, metavar="PATH", help="where it goes; by default the folder of the one study")
    command(summary, study="results/studies/<study>")
    command(publish, plan="plan.json", runs="results/runs", out="results/published/<study>", templates="report_templates")
    rebuild_ = command(rebuild, templates="report_templates")
    headline_ = command(headline, readme="README.md")
    for sub in (rebuild_, headline_):
        sub.add_argument(
            "--published", nargs="+", required=True, type=Path, metavar="PATH", help="results/published/<study> ..."
        )
    command(schema, out="workflow/schemas")
    command(list_).add_argument("--variants", action="store_true", help="the variants, counted at a scale")
    match_ = command(match)
    match_.add_argument("reference", help="a variant")
    match_.add_argument("candidate", help="the variant whose width is sought")
    match_.add_argument("--by", choices=["parameters", "flops", "state"], default="parameters", help="what must be as much")
    for sub in (commands.choices["list"], match_):
        sub.add_argument("--scale", default="8M", help="a size of config/scales.yaml")
        sub.add_argument("--context", type=_from(1), default=256, help="tokens, for FLOPs and caches")
    claims_ = command(claims)
    claims_.add_argument("action", nargs="?", default="list", choices=["list", "judge", "register", "check"])
    why_ = command(why)
    why_.add_argument("claim", help="the id of a claim")
    rerun_ = command(why_rerun)
    rerun_.add_argument("run", help="the id of a run")
    rerun_.add_argument("--runs", type=Path, default=Path("results/runs"), metavar="PATH", help="folder of the records")
    rerun_.add_argument("--plan", type=Path, metavar="PATH", help="plan.json of a study that asks for the run")
    for sub in (claims_, why_, report_):
        sub.add_argument("--claims", type=Path, default=Path("config/claims"), metavar="PATH", help="folder of the claims")
    for sub in (claims_, why_):
        sub.add_argument(
            "--study", nargs="+", type=Path, metavar="PATH", help="results/studies/<study>; all there are, run or published"
        )
    for sub in (corpus_, tokenize_, track_, aggregate_, figures_, report_, claims_):
        sub.add_argument("--note", type=Path, metavar="PATH", help="where to note what it is made of, once it is made")
    compare_ = command(compare, study="results/studies/<study> or results/published/<study>")
    compare_.add_argument("a", help="a variant, cell or run of the study")
    compare_.add_argument("b", help="what it is compared with")
    verify_ = command(verify, data="folder of tokens")
    verify_.add_argument("run", type=Path, help="results/runs/<run_id>")
    bench_ = command(bench, out="JSON with every number")
    kinds = "models, engines, backends, stacks, cohorts, familiar, curves, variants, starts, measuring, ops"
    bench_.add_argument("comparison", nargs="*", help=kinds)
    bench_.add_argument("--study", type=Path, default=Path("config/studies/v4_char.yaml"), help="whose sizes are measured")
    bench_.add_argument("--rounds", type=_from(1), default=7, help="turns of each candidate; medians are over them")
    bench_.add_argument("--seconds", type=_number, default=1e9, help="in which the candidates of a comparison are started")
    bench_.add_argument("--quick", action="store_true", help="small models and two rounds, to see that it works")
    for sub in (verify_, bench_):
        sub.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help="auto: a GPU if there is one")
        sub.add_argument("--threads", type=_from(1), help="CPU threads; by default those of the record, and 1 for bench")
    command(doctor)
    return root


def _from(least: int) -> Callable[[str], int]:
    """The type of an option that is a whole number, no smaller than this and no larger than 64 bits hold."""

    def whole(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value < 2**63:
            raise argparse.ArgumentTypeError(f"{text} is not allowed. Allowed: whole numbers from {least}")
        return value

    return whole


def _number(text: str) -> float:
    """The type of an option that is a number, finite and not negative."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not allowed. Allowed: numbers from 0")
    return value


def plan(options: argparse.Namespace) -> None:
    """Check a study and write down its cells and runs."""
    from gt.records import atomic_write
    from gt.study import checked_plan, dumps

    result = checked_plan(options.study, options.out)
    with atomic_write(options.out) as temporary:
        temporary.write_text(dumps(result), encoding="utf-8")
    print(f"{result.study}: {len(result.cells)} cells, {len(result.runs)} runs, {result.tokens:,} tokens to train on")


def corpus(options: argparse.Namespace) -> None:
    """Fetch a corpus and cut it into its splits."""
    from gt import made
    from gt.artefacts import read_plan
    from gt.data.corpora import prepare

    plan = read_plan(options.plan)
    spec = _entry(plan.study, "corpora", plan.corpora, options.corpus)
    path = plan.corpus_files.get(options.corpus)
    with made.noted(options.note, made.of_corpus(options.corpus), options.out, *made.SPLITS):
        prepare(spec, options.out, Path(path) if path else None)
    print(f"{options.corpus}: {options.out}")


def tokenize(options: argparse.Namespace) -> None:
    """Fit a tokenizer on the train split, encode all splits, and measure the n-gram lines."""
    from gt import made
    from gt.artefacts import read_plan
    from gt.data import ngram, tokenizers
    from gt.data.fit import check_tokens
    from gt.records import read_json

    plan = read_plan(options.plan)
    spec = _entry(plan.study, "tokenizers", plan.tokenizers, options.tokenizer)
    try:
        with made.noted(options.note, made.of_tokens(options.corpus, options.tokenizer), options.out, *made.TOKENS):
            tokenizers.prepare(options.corpus, spec, options.out)
            check_tokens(plan, options.out)
            ngram.prepare(options.out)
    except OSError as error:
        size = sum(read_json(options.corpus / "corpus.json")["bytes"].values())
        free = shutil.disk_usage(options.out).free
        raise ConfigError(
            f"{options.out}: the tokens could not be written ({error}). Of {size:,} bytes of text they take up to {2 * size:,}"
            f" bytes, and the disk has {free:,} left."
        ) from None
    print(f"{options.tokenizer}: {options.out}")


def train(options: argparse.Namespace) -> None:
    """Train one run of a plan, from its checkpoint if it was killed; or fetch it, if a pack has trained it."""
    from gt import stage
    from gt.artefacts import read_manifest, read_plan
    from gt.records import FAILURE, RECORD, measurements

    plan = read_plan(options.plan)
    spec = _entry(plan.study, "runs", plan.runs, options.run)
    failure = options.out / FAILURE
    for earlier in (FAILURE, *measurements(options.out)):  # what they are of will be no more
        (options.out / earlier).unlink(missing_ok=True)
    if options.staged is not None and stage.is_trained(options.staged, spec, options.data):
        stage.bring(options.staged, options.out, *RECORD)
        print(f"{options.run}: {read_manifest(options.out).status}, in a pack")
        return
    if options.staged is not None:
        shutil.rmtree(options.staged, ignore_errors=True)
    try:
        settings = _settings(options)
        from gt.training.loop import Job
        from gt.training.loop import train as train_run

        status = train_run(Job(spec, options.data, options.out), options.checkpoints, settings)
    except Exception as error:
        _note_failure(failure, error)
        raise
    print(f"{options.run}: {status}")


def evaluate(options: argparse.Namespace) -> None:
    """Measure a trained run on held-out text; or fetch what a pack has measured."""
    from gt import stage
    from gt.artefacts import evaluation_file, read_run

    names = options.evaluations or stage.evaluations(read_run(options.run)[0], [], [])
    files = [evaluation_file(options.run, name) for name in names]
    if not _fetched(options, files, lambda staged: stage.is_evaluated(staged, names)):
        device = _device(options)
        from gt.evals.evaluation import evaluate
        from gt.metering import metered

        with metered(f"evaluate {options.run.name}", device, options.devices):
            evaluate(options.run, options.data, device, names)
    print("\n".join(map(str, files)))


def probe(options: argparse.Namespace) -> None:
    """Look inside a trained run: branches, gates, gradients, states, variance; or fetch what a pack has measured."""
    from gt import stage
    from gt.records import PROBES

    if not _fetched(options, [options.run / PROBES], stage.is_probed):
        device = _device(options)
        from gt.metering import metered
        from gt.probes.probe import probe

        with metered(f"probe {options.run.name}", device, options.devices):
            probe(options.run, options.data, device)
    print(f"{options.run / PROBES}")


def sample(options: argparse.Namespace) -> None:
    """Let a trained run go on with a prompt."""
    run, data = _record(options)
    device = _device(options)
    from gt.evals.generation import Sampler, sample

    sampler = Sampler(options.temperature, options.top_k, options.seed)
    report = sample(run, data, device, options.prompt, options.length, sampler, sys.stdout)
    print(f"\n{report}", file=sys.stderr)


def export(options: argparse.Namespace) -> None:
    """Write a trained run as a folder that transformers, or FLA, loads: weights, tokenizer, model card, and code if need be."""
    if options.list:
        from gt.export.published import standing

        variants = _variants("8M")
        for name, spec in variants.items():
            print(f"{name:{max(map(len, variants))}}  {standing(spec)}")
        return
    if options.run is None:
        raise ConfigError("export: which run? `gt export RUN`, or `gt export --list`.")
    run, data = _record(options)
    from gt.export.folder import export

    out = options.out or Path("results/exports") / run.name
    exported = export(run, data, options.to, out)
    equal = exported.architecture
    print(f"{out}: " + (f"{equal.class_name} of {equal.library}" if equal else "with its own code, for transformers"))


def import_(options: argparse.Namespace) -> None:
    """Keep the weights of an exported folder, or of a GPT-2 of transformers, as what a run may start from."""
    from gt.export.importing import bring
    from gt.starts import STARTS

    start = bring(options.folder)
    print(f"{STARTS / start.sha256}\nA study starts from it with\n\ntraining: {{start: {start.sha256}}}\n\nand this model:\n")
    print(json.dumps(start.model.model_dump(mode="json", exclude_defaults=True)))


def pack(options: argparse.Namespace) -> None:
    """Train many runs in one process, and evaluate and probe them. What is finished of them already is kept.

    What came of each run, and how long all of them took, goes into --out. A run that fails stops no other; its own `gt train`,
    `gt evaluate` or `gt probe` will try it again, alone.
    """
    import time

    from gt import stage
    from gt.artefacts import read_plan, read_run
    from gt.records import write_json

    plans = [read_plan(path) for path in options.plans]
    known = {run for plan in plans for run in plan.runs}
    for run in options.run:
        _entry(" or ".join(plan.study for plan in plans), "runs", dict.fromkeys(known), run)
    looks = {run: [plan.runs[run] for plan in plans if run in plan.runs] for run in options.run}
    specs = {run: own[0] for run, own in looks.items()}
    further = {run: {name for plan in plans if run in plan.runs for name in plan.evaluations} for run in specs}
    records = {run: options.staged / run for run in specs}

    def evaluations(run: str) -> list[str]:
        return stage.evaluations(read_run(records[run])[0], looks[run], further[run])

    whole = {run for run in specs if not stage.outdated(options.runs / run, looks[run], options.data, further[run])}
    became = {
        run: "kept"
        for run, spec in specs.items()
        if run in whole or stage.set_aside(options.runs / run, records[run], spec, options.data)
    }
    staged = became.keys() - whole
    todo = {run for run in staged if not (stage.is_evaluated(records[run], evaluations(run)) and stage.is_probed(records[run]))}
    seconds = dict.fromkeys(("train", "evaluate", "probe"), 0.0)
    if todo or len(became) < len(specs):
        settings = _settings(options)
        from gt.measuring import measuring
        from gt.training.loop import Job
        from gt.training.packs import train_pack

        with measuring(min(options.measuring, len(specs)), settings.device, options.threads, options.devices) as hand:
            results = {run: hand(records[run], options.data, settings.device, evaluations(run)) for run in sorted(todo)}
            start = time.perf_counter()
            jobs = [Job(spec, options.data, records[run]) for run, spec in specs.items()]
            for job, status in train_pack(jobs, set(became), options.checkpoints, settings):
                run = job.spec.run_id
                became[run] = status
                print(f"{run}: {status}", flush=True)
                if status != "failed":
                    results[run] = hand(records[run], options.data, settings.device, evaluations(run))
            seconds["train"] = time.perf_counter() - start
            for result in results.values():
                try:
                    for part, took in result().items():
                        seconds[part] += took
                except Exception:
                    traceback.print_exc()
        print(", ".join(f"{part} {took:.1f} s" for part, took in seconds.items()))
    write_json(options.out, {"runs": became, "seconds": seconds})


def track(options: argparse.Namespace) -> None:
    """Bring MLflow up to date with the run records. Doing it twice adds nothing."""
    from gt import made
    from gt.artefacts import read_plan
    from gt.records import write_json
    from gt.tracking import sync

    folder, *written = (options.out.parent, options.out.name) if options.out else (options.runs,)
    with made.noted(options.note, made.of_tracking(options.plan, options.runs, options.uri), folder, *written):
        counts = sync(read_plan(options.plan), options.runs, options.uri)
        if options.out:
            write_json(options.out, counts)
        else:
            print(json.dumps(counts))


def aggregate(options: argparse.Namespace) -> None:
    """Put the records of a study together: runs, cells, contrasts, curves."""
    from gt import made
    from gt.analysis.aggregate import aggregate
    from gt.artefacts import read_plan

    with made.noted(options.note, made.of_tables(options.plan, options.runs), options.out, *made.TABLES):
        aggregate(read_plan(options.plan), options.runs, options.out)


def figures(options: argparse.Namespace) -> None:
    """Draw a study's figures."""
    from gt import made
    from gt.report.gallery import draw

    with made.noted(options.note, made.of_figures(options.study), options.study, "figures/**/*"):
        draw(options.study, options.jobs)


def report(options: argparse.Namespace) -> None:
    """Write the tables and the report of a study, or of several together."""
    from gt import made
    from gt.report.render import render

    if len(options.study) > 1 and options.out is None:
        raise ConfigError("--out: a report of several studies needs a folder.")
    out = options.out or options.study[0]
    with made.noted(options.note, made.of_report(options.study[0], options.claims, options.templates), out, *made.PAPER):
        render(options.study, out, options.templates, options.claims)
    print(f"{out / 'report.html'}")


def summary(options: argparse.Namespace) -> None:
    """Say in a few lines what a study found and where its report is."""
    from gt.report.render import summary

    print(summary(options.study))


def publish(options: argparse.Namespace) -> None:
    """Keep a study's small records with the code, and the report that they give."""
    from gt.artefacts import read_plan
    from gt.publish import publish

    publish(read_plan(options.plan), options.runs, options.out, options.templates)
    print(f"{options.out / 'report.html'}")


def rebuild(options: argparse.Namespace) -> None:
    """Make the reports of published studies again from their records, and one about all of them."""
    from gt.publish import rebuild_all

    rebuild_all(options.published, options.templates)
    for folder in options.published:
        print(f"{folder / 'report.html'}")


def headline(options: argparse.Namespace) -> None:
    """Write the figure and the sentences at the top of the README anew from the published studies."""
    from gt.publish import write_headline

    write_headline(options.published, options.readme)
    print(options.readme)


def claims(options: argparse.Namespace) -> None:
    """List the claims and their verdicts; judge those of a study; register them before the runs; or check them.

    register enters what is new or edited, with the time. check holds claims to the studies, and their registrations, of which
    each holds the sum of the one before, to the history of the repository. Both say the number and the hash of the last one.
    """
    from gt import made
    from gt.analysis.claims import check, load_arms, load_claims
    from gt.analysis.registration import chain, check_history, register, unconfirmed
    from gt.analysis.verdicts import judge, overview

    if options.action == "list":
        from gt.report.claims import table

        print(table(overview(options.claims, _judged(options))))
        return
    if options.action == "judge":
        from gt import attempts
        from gt.archive import begun

        for study in _studies(options):
            results = study.absolute().parents[1]
            starts = (attempts.earliest(results / attempts.FOLDER), begun((results / "published").glob("*")))
            first = min((time for time in starts if time is not None), default=None)
            with made.noted(options.note, made.of_verdicts(study, options.claims), study, *made.VERDICTS):
                print(f"{study / 'claims.json'}: {len(judge(study, options.claims, first))} verdicts")
        return
    from gt.study import load_study

    known = load_claims(options.claims)
    plans = {file.stem: load_study(file).plan() for file in sorted((options.claims.parent / "studies").glob("*.yaml"))}
    check(known, load_arms(options.claims), plans)
    if options.action == "register":
        entered = register(options.claims, known)
        print(f"{len(entered)} of {len(known)} claims entered{': ' if entered else ''}{', '.join(entered)}")
    entries = chain(options.claims)
    if options.action == "check":
        check_history(options.claims)
        if late := unconfirmed(options.claims):
            raise ConfigError("\n".join(late))
    for head in entries[-1:]:
        print(f"registration {head.number}: {head.hash}")


def why(options: argparse.Namespace) -> None:
    """Say all about one claim: the record, what was run, the numbers, the verdict, and what explains it."""
    from gt.analysis.verdicts import overview
    from gt.report.claims import why

    rows = {row.id: row for row in overview(options.claims, _judged(options))}
    if options.claim not in rows:
        raise ConfigError(f"unknown claim {options.claim!r}." + nearest(options.claim, rows))
    print(why(rows[options.claim]))


def why_rerun(options: argparse.Namespace) -> None:
    """Say what of a run would be made again, and why: which part of the code changed, or what is missing or damaged."""
    from gt.artefacts import read_plan
    from gt.why_rerun import why_rerun

    print(why_rerun(options.run, options.runs, read_plan(options.plan) if options.plan else None))


def compare(options: argparse.Namespace) -> None:
    """Set two variants, cells or runs of a study, or a published one, side by side in every metric, paired by seed."""
    from gt.analysis.values import Values
    from gt.report.claims import compare

    with tempfile.TemporaryDirectory() as folder:
        study = options.study
        if (study / "records").is_dir():
            from gt.publish import restore

            study = Path(folder) / study.name
            restore(options.study, study)
        print(compare(Values(study), options.a, options.b))


def schema(options: argparse.Namespace) -> None:
    """Write the JSON schemas of the configuration files."""
    from gt.schemas import write

    write(options.out)


def list_(options: argparse.Namespace) -> None:
    """List every component that a variant can be made of, or every variant, with what it has and costs."""
    from gt.catalogue import MODEL_KINDS, components

    if options.variants:
        print(f"Variants at {options.scale} and {options.context} tokens. Parameters are without embeddings.\n")
        _print_table(("variant", *COSTS, "what it is", "source"), _variant_rows(options.scale, options.context))
        return
    print(f"Components at d_model 128 and {options.context} tokens. `gt list --variants` lists what they are put together to.")
    for kind in MODEL_KINDS:
        rows: list[tuple[str, ...]] = []
        for component in components(kind).values():
            costs = (component.parameters or 0, *component.costs(options.context))
            rows.append((component.name, *(f"{cost:,}" for cost in costs), component.formula, component.source))
            if values := ", ".join(f"{name}={default}" for name, (_, default) in component.options.items()):
                rows.append(("", "", "", "", f"options: {values}", ""))
        print()
        _print_table((kind.replace("_", "-"), *COSTS, "formula", "source"), rows)


def match(options: argparse.Namespace) -> None:
    """Find the width at which one variant has as much of something as another."""
    from gt.models.matching import match
    from gt.models.matching import measure as measured

    variants = _variants(options.scale)
    for name in (options.reference, options.candidate):
        if name not in variants:
            raise ConfigError(f"unknown variant {name!r}." + nearest(name, variants))
    reference = variants[options.reference]
    spec, _ = match(reference, variants[options.candidate], options.by, options.context)
    target, found = (measured(s, options.by, options.context) for s in (reference, spec))
    print(f"# {options.by}: {options.reference} {target:,}, {options.candidate} {found:,} ({found / target - 1:+.2%})")
    settings = spec.model_dump(exclude_defaults=True, include={"d_model", "feed_forward", "mixers"})
    print(json.dumps({"variant": options.candidate, "model": settings}))


def verify(options: argparse.Namespace) -> None:
    """Train the run of a record again and compare: to the last bit, or to rounding where the arithmetic is another."""
    from gt.artefacts import read_manifest

    options.threads = options.threads or read_manifest(options.run).threads or 1
    device = _device(options)
    from gt.verify import verify

    outcome = verify(options.run, options.data, device)
    print(f"{options.run.name}: {outcome.text}")
    if not outcome.same:
        raise SystemExit(1)


def bench(options: argparse.Namespace) -> None:
    """Measure how fast training is: candidates side by side, medians over rounds."""
    from gt.bench.candidates import NAMES

    comparisons = options.comparison or ["models"]
    for comparison in comparisons:
        if comparison not in NAMES:
            raise ConfigError(f"bench: unknown comparison {comparison!r}." + nearest(comparison, NAMES))
    options.threads = options.threads or 1
    device = _device(options)
    from gt.bench.report import bench

    rounds = 2 if options.quick else options.rounds
    bench(comparisons, options.study, options.out, device, rounds, options.seconds, options.quick)


def doctor(options: argparse.Namespace) -> None:
    """Say what this machine has, and what is missing for what."""
    import importlib.util
    import os
    import platform

    print(f"gt {__version__}, Python {platform.python_version()}, {os.cpu_count()} CPUs")
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    print(f"torch {torch.__version__}: {', '.join(gpus) if gpus else 'no GPU; runs train on the CPU'}")
    for package in ("fla", "triton", "mamba_ssm"):
        print(f"{package}: {'there' if importlib.util.find_spec(package) else 'not installed (extra: gpu)'}")
    conda = shutil.which("conda")
    print(f"conda: {conda or 'not installed; leave --use-conda out, this environment is used'}")


COSTS = ("parameters", "state floats", "FLOPs/token")


def _variant_rows(scale: str, context: int) -> list[tuple[str, ...]]:
    """Each variant with its costs, title and source; some have sizes of their own, which do not fit every scale."""
    from gt.models.lm import count
    from gt.study import load_variants

    named = load_variants(Path("config/variants"))
    rows: list[tuple[str, ...]] = []
    for name, spec in _variants(scale).items():
        try:
            audit = count(spec, 16_000, context)
        except ConfigError as error:
            rows.append((name, "", "", "", f"not at this scale: {error}", named[name].source))
            continue
        costs = (audit.n_params_non_embedding, audit.state_size, audit.flops_per_token)
        rows.append((name, *(f"{cost:,}" for cost in costs), named[name].title, named[name].source))
    return rows


def _print_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Columns of a name, numbers and two texts, which share what is left of the terminal and are wrapped in it."""
    import itertools
    import shutil
    import textwrap

    *numbers, _, _ = (max(len(row[i]) for row in (header, *rows)) for i in range(len(header)))
    left = max(70, shutil.get_terminal_size((160, 0)).columns - sum(numbers) - 2 * (len(header) - 1))
    widths = [*numbers, left * 3 // 5, left - left * 3 // 5]
    for row in (header, tuple("-" * width for width in widths), *rows):
        cells = [[text] if i < len(numbers) else textwrap.wrap(text, widths[i]) for i, text in enumerate(row)]
        for line in itertools.zip_longest(*cells, fillvalue=""):
            aligned = (
                f"{text:>{w}}" if 0 < i < len(numbers) else f"{text:{w}}"
                for i, (text, w) in enumerate(zip(line, widths, strict=True))
            )
            print("  ".join(aligned).rstrip())


def _variants(scale: str) -> dict[str, Any]:
    """Every variant of config/ at a named size."""
    from gt.spec import ModelSpec
    from gt.study import assemble, load_scales, load_variants, resolve

    scales, variants = load_scales(Path("config/scales.yaml")), load_variants(Path("config/variants"))
    if scale not in scales:
        raise ConfigError(f"--scale: unknown scale {scale!r}." + nearest(scale, scales))
    return {name: ModelSpec.model_validate(assemble(scales[scale], resolve(variants, name).model)) for name in variants}


def _studies(options: argparse.Namespace) -> list[Path]:
    """The folders of studies that are named, or all that there are."""
    return options.study or sorted(file.parent for file in Path("results/studies").glob("*/runs.parquet"))


def _judged(options: argparse.Namespace) -> list[Path]:
    """The folders with verdicts that are named, or all that there are: of a study that was not run here, the published one."""
    if options.study:
        return list(options.study)
    places = (Path("results/published"), Path("results/studies"))
    return list({file.parent.name: file.parent for place in places for file in sorted(place.glob("*/claims.json"))}.values())


def _record(options: argparse.Namespace) -> tuple[Path, Path]:
    """The folder of a run's record, which may be named by its id, and that of its tokens."""
    from gt.artefacts import read_run

    run: Path = options.run
    if not run.is_dir():
        known = [folder.name for folder in Path("results/runs").glob("*") if folder.is_dir()]
        if run.name not in known:
            raise ConfigError(f"{run}: there is no such record." + (nearest(run.name, known) if known else ""))
        run = Path("results/runs") / run.name
    spec, _ = read_run(run)
    return run, options.data or Path("results/data") / spec.corpus.id / spec.tokenizer.id


def _entry(study: str, kind: str, entries: dict[str, Entry], name: str) -> Entry:
    if name not in entries:
        raise ConfigError(f"the plan of {study} has no {name!r} among its {kind}." + nearest(name, entries))
    return entries[name]


def _settings(options: argparse.Namespace) -> Settings:
    """How to train. Chooses the device first, before CUDA looks at what is visible; torchrun chooses for its processes."""
    device = _device(options)
    from gt.training.distributed import join
    from gt.training.loop import Settings

    return Settings(device, options.checkpoint_seconds, options.recompute, join(device), options.attempts, options.devices)


def _device(options: argparse.Namespace) -> torch.device:
    local_rank = os.environ.get("LOCAL_RANK")
    if options.device != "cpu" and local_rank is None:
        from gt.devices import claim

        claim()
    import torch

    torch.set_num_threads(options.threads)
    has_gpu = torch.cuda.is_available()
    if options.device == "cuda" and not has_gpu:
        raise ConfigError("--device cuda: this machine has no usable GPU. Allowed here: auto, cpu.")
    return torch.device(f"cuda:{local_rank or 0}" if has_gpu and options.device != "cpu" else "cpu")


def _fetched(options: argparse.Namespace, files: list[Path], is_there: Callable[[Path], bool]) -> bool:
    """Whether a pack has left these measurements of a run, which are then with its record; what it has left is given up."""
    from gt import stage

    if options.staged is None:
        return False
    names = [file.relative_to(options.run).as_posix() for file in files]
    found = is_there(options.staged)
    if found:
        stage.bring(options.staged, options.run, *names)
    stage.release(options.staged, *names)
    return found


def _note_failure(path: Path, error: Exception) -> None:
    """Leave the reason for the report beside the record; a full disk may forbid even that."""
    from gt.artefacts import Failure, write

    try:
        write(path, Failure(error=f"{type(error).__name__}: {error}"))
    except OSError as second:
        print(f"gt: {path} could not be written either: {second}", file=sys.stderr)
