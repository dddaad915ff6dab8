"""Reference pages from the code itself: docstrings, the models of configuration files, the catalogue and the command line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import mkdocs_gen_files
from pydantic import BaseModel

from gt.allowed import keys
from gt.analysis.efficiency import DERIVED
from gt.catalogue import KINDS, components
from gt.cli.reference import reference
from gt.metrics import Metric
from gt.registry import TABLES
from gt.spec import (
    CorpusSpec,
    InitSpec,
    ModelSpec,
    PartTraining,
    RunSpec,
    SplitSpec,
    TaskSpec,
    TokenizerSpec,
    TrainingSpec,
    Watch,
)
from gt.training.logged import LOGGED

SPECIFICATION = (
    RunSpec,
    CorpusSpec,
    SplitSpec,
    TaskSpec,
    TokenizerSpec,
    ModelSpec,
    InitSpec,
    TrainingSpec,
    Watch,
    PartTraining,
)
TITLES = {
    "mixer": "Mixers",
    "fusion": "Fusions",
    "feed_forward": "Feed-forward layers",
    "corpus": "Corpora",
    "optimizer": "Optimizers",
    "evaluation": "Evaluations",
    "probe": "Probes",
    "check": "Checks",
}


def table(model: type[BaseModel]) -> Iterator[str]:
    """The keys of a model as the lines of a table."""
    if rows := list(keys(model)):
        yield "| key | value | default | |"
        yield "| --- | --- | --- | --- |"
    for row in rows:
        default = f"`{row.default}`" if row.default else ""
        yield f"| `{row.name}` | {row.allowed} | {default} | {escaped(row.about)} |"


def escaped(text: str) -> str:
    """As a cell of a table."""
    return text.replace("<", "&lt;").replace("|", "\\|")


def specification() -> Iterator[str]:
    yield "# Specification of a run\n"
    yield "What decides a run's numbers, and how it is looked at (`Watch`, which is no part of its name). A study's `model` and"
    yield "`training`, a variant's, and factors are parts of this. Generated from `gt/spec.py`.\n"
    for model in SPECIFICATION:
        yield f"## {model.__name__.removesuffix('Spec')}\n"
        yield (model.__doc__ or "") + "\n"
        yield from table(model)
        yield ""


def catalogue() -> Iterator[str]:
    yield "# Components\n"
    yield "What a study can name, with the options of each. `gt list` shows the same, and what your own project and installed"
    yield "packages add. Counts are at `d_model` 128 with all options at their defaults.\n"
    for kind in KINDS:
        if not components(kind):
            continue
        yield f"## {TITLES[kind]}\n"
        for component in components(kind).values():
            yield f"### `{component.name}` {{ #{kind}-{component.name} }}\n"
            yield component.summary + "\n"
            if component.formula:
                yield f"    {component.formula}\n"
            source = f"Source: {component.source}. " if component.source else ""
            count = f"{component.parameters:,} parameters. " if component.parameters is not None else ""
            yield f"{source}{count}`{component.module}`\n"
            yield from table(component.config)
            yield ""


def measured() -> Iterator[str]:
    yield "# Metrics\n"
    yield "What a claim can name as `metric`. The axes in a name, as `<split>`, are written with a value; one beside the"
    yield "name is read by `at`. `gt list` shows these, and what your own project and installed packages measure.\n"
    yield "## Of training\n"
    yield from metrics((*LOGGED, *DERIVED))
    for kind in TABLES:
        yield f"## {TITLES[kind]}\n"
        for component in components(kind).values():
            if component.metrics:
                yield f"### {component.name} {{ #{kind}-{component.name} }}\n"
                yield component.summary + "\n"
                yield from metrics(component.metrics)


def metrics(these: Iterable[Metric]) -> Iterator[str]:
    """A table of metrics."""
    yield "| metric | what it is | unit |"
    yield "| --- | --- | --- |"
    for metric in these:
        names = f"`{metric.name}`" + (f", `{metric.initially().name}`" if metric.initial else "")
        about = metric.definition or metric.phrase
        about += "".join(f"; {axis.name}: {', '.join(axis.form)}" for axis in metric.axes if isinstance(axis.form, tuple))
        about += f"; at: {metric.beside.name}" if metric.beside else ""
        about += f" ({metric.source})" if metric.source else ""
        unit = f"`{metric.unit}`" if metric.unit else ""
        better = f"{metric.better} is better" if metric.better else ""
        yield f"| {names} | {escaped(about)} | {', '.join(filter(None, (unit, better)))} |"
    yield ""


def write(name: str, lines: Iterator[str]) -> None:
    with mkdocs_gen_files.open(f"reference/{name}.md", "w") as page:
        page.write("\n".join(lines) + "\n")


write("specification", specification())
write("components", catalogue())
write("metrics", measured())
write("commands", reference())
