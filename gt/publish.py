"""Studies that are kept with the code: their small records, from which the report is made again anywhere.

`results/published/<study>/records/` holds what `gt.archive` keeps of the records. Beside it stands what they give: verdicts
as `claims.json`, `report.html` and `report.pdf`; and, which git ignores, `report.md`, `tables/`, `figures/`, and `claims/`,
their figures.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

from gt.analysis.aggregate import aggregate
from gt.analysis.claims import load_claims
from gt.analysis.earlier import Study, archived
from gt.analysis.repeated import repeated
from gt.analysis.replications import FOLDER
from gt.analysis.verdicts import judge, overview
from gt.archive import KEPT, PLAN, pack, read, read_plans, trained
from gt.artefacts import Plan
from gt.attempts import first_starts
from gt.errors import ConfigError
from gt.paper import file, write
from gt.paper.build import Paper, build
from gt.paper.figures import keep
from gt.paper.headline import FIGURE, headline, insert
from gt.progress import progress
from gt.records import MANIFEST, atomic_write, read_json, temporary_folder, write_json
from gt.report.gallery import draw
from gt.report.numbers import load
from gt.report.render import render
from gt.study import dumps

CLAIMS = Path("config/claims")
# Beside the published studies, where the report of all of them together stands, and the paper about them.
ALL, PAPER = "all", "paper"
# Paragraphs, in the folder of the published studies, on what deviates from the plan: of the report of all of them.
NOTES = "deviations.txt"
REPORT = ("report.html", "report.md", "report.pdf", "pages", "claims.json", "tables", "figures", "claims")


def publish(plan: Plan, runs: Path, published: Path, templates: Path) -> None:
    """Keep the records of a study, in place of those that are kept, and make its report from them.

    Its plan then says when each run was first begun, by all that is known here and by all that is published beside it.

    ConfigError if no run of the plan has a record, one is damaged, or one that is kept would be lost. What is there stays until
    all that is new is.
    """
    if published.name in (ALL, PAPER):
        raise ConfigError(f"{published}: this is the place of what is about all studies; publish the study under another name.")
    _check_none_is_lost(plan, runs, published / KEPT)
    with temporary_folder(published) as folder:
        study = folder / published.name
        started = first_starts(plan, runs, read_plans(published.parent.glob("*")))
        pack(plan.model_copy(update={"started": started}), runs, study / KEPT)
        _keep_replications(published, study)
        _report(study, study, templates, published_in(published.parent))
        _replace((KEPT, *REPORT), study, published)


def _check_none_is_lost(plan: Plan, runs: Path, records: Path) -> None:
    """ConfigError where a run of the plan whose record is kept has none any more."""
    kept = trained(records) if records.exists() else set()
    if lost := [run for run in plan.runs if run in kept and not (runs / run / MANIFEST).exists()]:
        raise ConfigError(
            f"{runs}: {lost[0]} has no record here any more, and {records} keeps one, as of {len(lost)} in all that publishing"
            " would lose. Train them again, or remove what is published first."
        )


def rebuild(published: Path, out: Path, templates: Path) -> None:
    """Make the report of a published study again, into `out`. The same records and code give the same bytes."""
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder) / published.name
        _report(published, study, templates)
        _copy(study, out)


def rebuild_all(published: list[Path], templates: Path, paper: Path | None = None) -> None:
    """Make the reports of published studies again, and beside them, in `all/`, one about all of them together, and in `paper/`
    the paper, last of all, which may turn out to be a draft (`write_paper`).
    """
    with tempfile.TemporaryDirectory() as folder:
        studies, jobs = [Path(folder) / own.name for own in published], os.cpu_count() or 1
        _neighbours.cache_clear()  # what an earlier call saw may have changed
        # The largest first, so that no process waits for the last of them; a study is one process' work.
        largest = sorted(published, key=lambda own: -sum(file.stat().st_size for file in (own / KEPT).glob("*")))
        again = partial(_again, Path(folder), templates)
        several = len(published) > 1 and jobs > 1
        # Not forked: a process that has threads, as Arrow's and torch's, leaves its locks to a fork as they are.
        with ProcessPoolExecutor(jobs, get_context("spawn")) if several else nullcontext() as pool:
            for _ in progress((pool.map if pool else map)(again, largest), "reports", "study", len(largest)):
                pass
        if len(studies) > 1:
            parent = published[0].parent
            notes = (parent / NOTES).read_text(encoding="utf-8").strip() if (parent / NOTES).exists() else ""
            render(studies, Path(folder) / ALL, templates, CLAIMS, notes.split("\n\n") if notes else ())
            _copy(Path(folder) / ALL, parent / ALL)
        if paper is not None:
            write_paper(paper, studies, published[0].parent / PAPER, templates)


def _again(folder: Path, templates: Path, published: Path) -> None:
    """One of several: what a process does."""
    study = folder / published.name
    _report(published, study, templates, _neighbours(published.parent), jobs=1)
    _copy(study, published)


def publish_paper(paper: Path, published: list[Path], out: Path, templates: Path) -> None:
    """Write a paper about published studies into a folder."""
    with tempfile.TemporaryDirectory() as folder:
        write_paper(paper, restored(paper, published, Path(folder)), out, templates)


def write_paper(paper: Path, studies: Sequence[Path], out: Path, templates: Path) -> None:
    """The same of restored studies. ConfigError, once all is written, where the record belies the paper's words."""
    with temporary_folder(out) as folder:
        built = built_paper(paper, studies, folder / write.FIGURES)
        write.write(built, folder, templates)
        _replace(write.FILES, folder, out)
    write.check(built, out)


def built_paper(paper: Path, studies: Sequence[Path], figures: Path) -> Paper:
    """A paper of restored studies; its figures go into a folder."""
    about = [study for study in studies if study.name in file.read(paper)[0].studies]
    return build(paper, [load(study) for study in about], overview(CLAIMS, about), figures)


def restored(paper: Path, published: list[Path], folder: Path) -> list[Path]:
    """The studies that a paper is about, with their tables and verdicts, in a folder."""
    about = [own for own in published if own.name in file.read(paper)[0].studies]
    beside = neighbours(published)
    for own in progress(about, "studies", "study"):
        restore(own, folder / own.name, beside[own.parent])
    return [folder / own.name for own in about]


def write_headline(published: list[Path], readme: Path, paper: Path) -> None:
    """Write the headline of the README and its figure anew, from a paper about published studies."""
    with tempfile.TemporaryDirectory() as folder:
        built = built_paper(paper, restored(paper, published, Path(folder)), Path(folder) / write.FIGURES)
        text = insert(readme.read_text(encoding="utf-8"), headline(built, published[0].parent / PAPER))
        write.check(built, readme)
        keep(built.questions, readme.parent / FIGURE)
    with atomic_write(readme) as temporary:
        temporary.write_text(text, encoding="utf-8")


def restore(published: Path, study: Path, beside: Mapping[str, Study] | None = None) -> None:
    """A study's tables and verdicts, from the records that are kept; runs of which others keep further trainings are pooled.

    beside: the studies that are published with it (`published_in`), where they have been read already, or stand elsewhere.
    Itself it takes the place of one of its name.
    """
    known = published_in(published.parent) if beside is None else beside
    others = [own for name, own in known.items() if name != published.name]
    kept = read(published / KEPT)
    plan = kept.plan
    with atomic_write(study / PLAN) as temporary:
        temporary.write_text(dumps(plan), encoding="utf-8")
    aggregate(plan, kept, study, repeated(plan, kept, [own for own in others if own.plan.study != plan.study]))
    starts = (time for own in (plan, *(other.plan for other in others)) for time in own.started.values())
    judge(study, CLAIMS, min(starts, default=None))
    _keep_verdicts(published, study)
    _keep_replications(published, study)


def _keep_verdicts(published: Path, study: Path) -> None:
    """Verdicts of claims that this project does not have, as of another's study, stay as they were published."""
    kept, made = published / "claims.json", study / "claims.json"
    if kept == made or not kept.exists():
        return
    known = load_claims(CLAIMS)
    if strange := [own for own in read_json(kept) if own["claim"] not in known and own.get("claimed")]:
        write_json(made, [*read_json(made), *strange])


def _keep_replications(published: Path, study: Path) -> None:
    """The verdicts of a study's replications, beside its own."""
    for kept in sorted((published / FOLDER).glob("*.json")):
        if kept != study / FOLDER / kept.name:
            (study / FOLDER).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(kept, study / FOLDER / kept.name)


def published_in(folder: Path) -> dict[str, Study]:
    """The studies that are published in a folder, by the names of theirs. ConfigError where one is damaged."""
    return {file.parents[1].name: archived(file.parent) for file in sorted(folder.glob(f"*/{KEPT}/{PLAN}.xz"))}


# Read once by a process that makes one study's report after another.
_neighbours = cache(published_in)


def neighbours(published: Iterable[Path]) -> dict[Path, dict[str, Study]]:
    """What stands beside each of these, by their folder: read once, since each study asks for all others."""
    return {parent: published_in(parent) for parent in {own.parent for own in published}}


def _report(
    published: Path, study: Path, templates: Path, beside: Mapping[str, Study] | None = None, jobs: int | None = None
) -> None:
    """jobs: processes that draw, by default as many as this machine has."""
    restore(published, study, beside)
    draw(study, jobs or os.cpu_count() or 1, png=False)
    render([study], study, templates, CLAIMS)


def _copy(study: Path, out: Path) -> None:
    """What a reader sees, in place of what is there."""
    with temporary_folder(out) as folder:
        for name in REPORT:
            if (study / name).is_dir():
                shutil.copytree(study / name, folder / name)
            elif (study / name).exists():
                shutil.copyfile(study / name, folder / name)
        _replace(REPORT, folder, out)


def _replace(names: Sequence[str], new: Path, out: Path) -> None:
    """Move those of these files and folders that are new into `out`, in place of what is there, which on failure is back."""
    out.mkdir(exist_ok=True)
    # No temporary name: what stands there after a kill is all that there is of it.
    old = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.", suffix=".old"))
    moved: list[tuple[Path, Path]] = []
    try:
        for source, target in ((out, old), (new, out)):
            for name in names:
                if (source / name).exists():
                    os.rename(source / name, target / name)
                    moved.append((source / name, target / name))
    except BaseException:
        for before, now in reversed(moved):
            os.rename(now, before)
        old.rmdir()
        raise
    shutil.rmtree(old)
