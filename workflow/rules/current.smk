# What is made again: whatever its sources would now make otherwise. Contents decide (gt/made.py, gt/stage.py).
#
# Snakemake would go by times, which a touch or a copy changes, and by what it remembers in .snakemake/, which a copy of
# results/ lacks. So the inputs of a job are ancient() while its result is current; otherwise it gets one more, which is newer.

import secrets

from snakemake.settings.types import RerunTrigger

from gt import made
from gt.holding import Lock
from gt.records import remove
from gt.seen import Seen
from gt.shared import shared

DAMAGED, NEWER = Path("results/damaged"), Path("results/.newer")
SEEN = Seen(Path("results/.seen.json"))


def unless_current(name):
    """An input function of a rule: nothing where what it has made is current, and else a file that is newer."""

    def newer(wildcards):
        return [NEWER] if (name, *wildcards) in OUTDATED else []

    return newer


def made_before(name, files):
    """An input function of a rule: files that other rules make.

    Where its result is current, their times do not count, and those that are not there any more are not made for it.
    files: a pattern, patterns, or an input function.
    """

    def found(wildcards):
        if callable(files):
            paths = files(wildcards)
        else:
            paths = expand(files, **wildcards)
        if (name, *wildcards) in OUTDATED:
            return paths
        return [ancient(path) for path in paths if os.path.exists(path)]

    return found


def outdated():
    """All jobs whose result is not current, as a rule and its wildcards."""
    for plan in PLANS.values():
        for corpus, tokenizer in {(c.corpus, c.tokenizer) for c in plan.cells}:
            if made.is_outdated_corpus(DATA / corpus, plan.corpora[corpus]):
                yield "corpus", corpus
            if made.is_outdated_tokens(DATA / corpus / tokenizer, plan.corpora[corpus]):
                yield "tokenize", corpus, tokenizer
    runs = {run: outdated_of_run(run) for run in ASKED_FOR}
    yield from ((job, run) for run, jobs in runs.items() for job in jobs)
    for study, plan in PLANS.items():
        jobs = made.outdated(
            Path(f"results/studies/{study}"),
            plan,
            RUNS,
            claims_about(study),
            TEMPLATES,
            config["mlflow_uri"],
            renewed=plan.tuning
            or plan.next_look
            or any(runs[run] - {"store"} for run in plan.runs),
        )
        yield from ((job, study) for job in jobs)


def outdated_of_run(run):
    jobs = SEEN.outdated(RUNS / run, WANTED[run], Path(data_of(run)))
    return jobs | {"store"} if jobs or not is_kept(run) else jobs


def is_kept(run):
    """Whether the store, if there is one, has a run's record as it is here."""
    return (
        STORE is None or run in KEPT and store.is_kept(RUNS.parent, run, STORED / run)
    )


def mark_as_newer():
    """Snakemake compares the contents of small files as well, so that the file that is newer is another one each time."""
    with atomic_write(NEWER) as temporary:
        temporary.write_text(secrets.token_hex())


def begin():
    """Before the first job: have results/ for this call alone, without what kills have left, and without what is damaged."""
    # With other triggers Snakemake goes by what it remembers as well, and makes again what is current.
    if workflow.rerun_triggers != {RerunTrigger.MTIME}:
        stop(
            "GroundThink's rules say themselves what is made again: call snakemake with --rerun-triggers mtime, as its profile"
            f" does (--workflow-profile {shared('workflow') / 'profiles/default'})."
        )
    try:
        LOCK.take(LAST_USER)
    except ConfigError as error:
        stop(error)
    for path in stage.left_behind(Path("results"), LOCK.file.stat().st_mtime):
        remove(path)
    for run in [run for run in ASKED_FOR if not SEEN.is_whole(RUNS / run)]:
        if found := stage.damaged(RUNS / run):
            stage.put_away(RUNS / run, found, DAMAGED)
            print(
                f"results/runs/{run}: damaged ({', '.join(found)}); moved to {DAMAGED} and made again.",
                file=sys.stderr,
            )


LOCK = Lock(Path("results/.lock"))
try:
    LAST_USER = LOCK.last().token
    OUTDATED = set(outdated())
except ConfigError as error:
    stop(error)
if workflow.is_main_process:
    SEEN.keep()
    if OUTDATED:
        mark_as_newer()
