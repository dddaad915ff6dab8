"""What is kept of studies with the code, and what is made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from gt.cli import complete
from gt.cli.app import PUBLISHED, command
from gt.cli.options import MANY, Count, PaperFile, PublishedStudies, Templates, described
from gt.errors import ConfigError


@command(
    PUBLISHED,
    "gt publish --plan results/studies/smoke/plan.json --runs results/runs --out results/published/smoke",
)
def publish(
    *,
    plan: Annotated[Path | None, described("plan.json of a study")] = None,
    runs: Annotated[Path | None, described("folder of the records, results/runs")] = None,
    out: Annotated[Path | None, described("results/published/<study>")] = None,
    published: Annotated[list[Path] | None, MANY, described("results/published/<study> ..., for --dataset")] = None,
    dataset: Annotated[Path | None, described("where a data set of them goes, as the Hub has it")] = None,
    templates: Templates = None,
) -> None:
    """Keep a study's small records and its report with the code.

    Or write what is kept of one study or several as a data set: `--published STUDY ... --dataset DIR`.
    """
    from gt import shared
    from gt.artefacts import read_plan
    from gt.publish import publish

    if plan and runs and out:
        publish(read_plan(plan), runs, out, templates or shared.templates())
        print(f"{out / 'report.html'}")
    elif plan or runs or out or not (published and dataset):
        raise ConfigError(
            "a study is published with --plan, --runs and --out, and a data set written with --published and --dataset."
        )
    if dataset:
        from gt.dataset.folder import write_dataset

        write_dataset([*(published or ()), *([out] if out else ())], dataset)
        print(f"{dataset / 'README.md'}")


@command(PUBLISHED, "gt rebuild --published results/published/v4_char")
def rebuild(
    *,
    published: PublishedStudies,
    templates: Templates = None,
    paper: Annotated[Path | None, described("config/papers/<name>.yaml: a paper about them, which goes beside them")] = None,
) -> None:
    """Make the reports of published studies again from their records.

    And one about all of them.
    """
    from gt import shared
    from gt.publish import rebuild_all

    rebuild_all(published, templates or shared.templates(), paper)
    for folder in published:
        print(f"{folder / 'report.html'}")


@command(
    PUBLISHED,
    "gt paper --published results/published/stacks --paper config/papers/groundthink.yaml --out results/published/paper",
)
def paper(
    *,
    published: PublishedStudies,
    paper: PaperFile,
    out: Annotated[Path, described("where it goes")],
    templates: Templates = None,
) -> None:
    """Write a paper about published studies.

    Its words are an author's and its numbers are looked up. Where the record belies the words, a draft is written that says so,
    and the exit code is 2.
    """
    from gt import shared
    from gt.publish import publish_paper

    publish_paper(paper, published, out, templates or shared.templates())
    print(f"{out / 'paper.pdf'}")


@command(
    PUBLISHED,
    "gt headline --published results/published/stacks --paper config/papers/groundthink.yaml --readme README.md",
)
def headline(*, published: PublishedStudies, paper: PaperFile, readme: Annotated[Path, described("README.md")]) -> None:
    """Write the top of the README anew from a paper about published studies."""
    from gt.publish import write_headline

    write_headline(published, readme, paper)
    print(readme)


@command(PUBLISHED, "gt replicate DEC-1 --published results/published/decide --out ../decide-again")
def replicate(
    claim: Annotated[str, described("the id of a claim", completer=complete.claims)],
    /,
    *,
    published: Annotated[Path, described("results/published/<study>, also another's")],
    out: Annotated[Path, described("a project, or a new folder for one")],
    seeds: Annotated[Count | None, described("how many; by default those that see the published size, 4 to 32")] = None,
) -> None:
    """Train a published claim's cells again on new seeds, and keep the second verdict.

    Called once, it writes a study and registers its claim, for Snakemake to train. Called again after that, it keeps the
    verdict beside the first, and says both.
    """
    from gt.replicate import asked, begin, begun_in, finish, kept
    from gt.report.replicated import begun, said

    of, first, its = asked(claim, published)
    if (note := begun_in(out, claim, of.study)) is None:
        note, committed = begin(claim, published, out, seeds)
        print(begun(note, out, committed))
        return
    todo = f"Train and judge it first: cd {out} && snakemake --cores all --config study={note.name}"
    if seeds is not None and seeds != len(note.seeds):
        raise ConfigError(f"--seeds {seeds}: {note.name} was begun in {out} with {len(note.seeds)}. {todo}")
    if (made := kept(note, published, out) or finish(note, published, out)) is None:
        raise ConfigError(f"{note.name} has no verdict yet. {todo}")
    print("\n".join(said(its, first, made)))
    print(f"Kept in {published / 'replications'}. Where {claim} is in config/claims, `gt rebuild` writes it into the report.")
    print("To replicate it once more, name another folder.")
