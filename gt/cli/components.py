"""What models are made of, and what a model that was trained writes."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from gt.cli import complete
from gt.cli.app import COMPONENTS, command
from gt.cli.compute import COMPUTE, Compute
from gt.cli.options import FLAG, Context, Count, CountOrNone, Number, Scale, described
from gt.cli.tables import print_table
from gt.errors import ConfigError, entry, nearest

if TYPE_CHECKING:
    from gt.catalogue import Component
    from gt.spec import ModelSpec

COSTS = ("parameters", "state floats", "FLOPs/token")


@command(COMPONENTS, "gt list mixers fusions")
def list_(
    *kinds: Annotated[str, described("of components, as fusions; by default all", completer=complete.kinds)],
    variants: Annotated[bool, FLAG, described("the variants, counted at a scale")] = False,
    scale: Scale = "8M",
    context: Context = 256,
) -> None:
    """List components, or variants, with what they are and cost.

    Components are gt's own, those of packages that are installed, and those of the project's package. `gt show` says more of
    one.
    """
    from gt.catalogue import KINDS, MODEL_KINDS, components

    if variants:
        print(f"Variants at {scale} and {context} tokens. Parameters are without embeddings.\n")
        print_table(("variant", *COSTS, "what it is", "source"), _variant_rows(scale, context))
        return
    print(f"Components at d_model 128 and {context} tokens. `gt list --variants` lists what they are put together to.")
    for kind in dict.fromkeys(map(kind_called, kinds)) or KINDS:
        if found := components(kind).values():
            costs = COSTS if kind in MODEL_KINDS else ()
            rows = [row for component in found for row in _component_rows(component, context)]
            print()
            print_table((KINDS[kind].replace("_", "-"), *costs, "from", "what it computes", "source"), rows)


@command(COMPONENTS, "gt show fusion gated")
def show(
    kind: Annotated[str, described("mixer, fusion, feed-forward, corpus, optimizer, ...", completer=complete.kinds)],
    name: Annotated[str, described("of the component", completer=complete.components)],
    /,
    *,
    context: Context = 256,
) -> None:
    """Say all about one component: formula, source, options."""
    from gt.allowed import keys
    from gt.catalogue import MODEL_KINDS, component

    found = component(kind_called(kind), name)
    print(f"{found.kind.replace('_', '-')} {found.name}: {found.summary}\n")
    facts = {
        "Formula": found.formula,
        "Source": found.source,
        "From": f"{found.origin} ({found.module}.{found.class_name})",
    }
    if found.kind in MODEL_KINDS:
        costs = zip(COSTS, (found.parameters or 0, *found.costs(context)), strict=True)
        facts["Costs"] = ", ".join(f"{n:,} {what}" for what, n in costs) + f" at d_model 128 and {context} tokens"
    for label, fact in facts.items():
        if fact:
            print(textwrap.fill(fact, 120, initial_indent=f"{label + ':':9}", subsequent_indent=" " * 9))
    print()
    if options := list(keys(found.config)):
        print_table(("option", "default", "allowed", "what it is"), [(o.name, o.default, o.allowed, o.about) for o in options])
    else:
        print("It has no options.")


@command(COMPONENTS, "gt match GF-MH GPT-2 --by parameters")
def match(
    reference: Annotated[str, described("a variant", completer=complete.variants)],
    candidate: Annotated[str, described("the variant whose width is sought", completer=complete.variants)],
    /,
    *,
    by: Annotated[Literal["parameters", "flops", "state"], described("what must be as much")] = "parameters",
    scale: Scale = "8M",
    context: Context = 256,
) -> None:
    """Find the width at which one variant has as much as another."""
    from gt.models.matching import match, measure

    variants = _variants(scale)
    given, sought = (entry(name, variants, f"unknown variant {name!r}.") for name in (reference, candidate))
    spec, _ = match(given, sought, by, context)
    target, found = (measure(s, by, context) for s in (given, spec))
    print(f"# {by}: {reference} {target:,}, {candidate} {found:,} ({found / target - 1:+.2%})")
    settings = spec.model_dump(exclude_defaults=True, include={"d_model", "feed_forward", "mixers"})
    print(json.dumps({"variant": candidate, "model": settings}))


@command(COMPONENTS, 'gt sample <run_id> --prompt "First Citizen:" --length 200')
def sample(
    run: Annotated[Path, described("results/runs/<run_id>, or the run_id of a record there", completer=complete.records)],
    /,
    *,
    data: Annotated[Path | None, described("folder of tokens, for its tokenizer; results/data/...")] = None,
    prompt: Annotated[str, described("text to continue", show_default=repr)] = "\n",
    length: Annotated[Count, described("tokens to generate")] = 500,
    temperature: Annotated[Number, described("0: always the most likely token")] = 1.0,
    top_k: Annotated[Count | None, described("draw among so many of the most likely tokens")] = None,
    seed: Annotated[CountOrNone, described("of the draws")] = 0,
    compute: Compute = COMPUTE,
) -> None:
    """Let a trained run go on with a prompt."""
    from gt.artefacts import read_run

    if not run.is_dir():
        known = [folder.name for folder in Path("results/runs").glob("*") if folder.is_dir()]
        if run.name not in known:
            raise ConfigError(f"{run}: there is no such record." + (nearest(run.name, known) if known else ""))
        run = Path("results/runs") / run.name
    spec, _ = read_run(run)
    data = data or Path("results/data") / spec.corpus.id / spec.tokenizer.id
    device = compute.chosen()
    from gt.evals.generation import Sampler, sample

    report = sample(run, data, device, prompt, length, Sampler(temperature, top_k, seed), sys.stdout)
    print(f"\n{report}", file=sys.stderr)


def kind_called(name: str) -> str:
    """The kind that is meant by its name or by that of several: `feed-forward`, `fusions`. ConfigError for none."""
    from gt.catalogue import KINDS

    called = {text.replace("_", "-"): kind for kind, several in KINDS.items() for text in (kind, several)}
    return entry(name.replace("_", "-"), called, f"unknown kind of components {name!r}.")


def _component_rows(component: Component, context: int) -> Iterator[tuple[str, ...]]:
    """What it computes and costs, and under it its options."""
    from gt.catalogue import MODEL_KINDS

    counts = (component.parameters or 0, *component.costs(context)) if component.kind in MODEL_KINDS else ()
    what = component.formula or component.summary
    yield (component.name, *(f"{n:,}" for n in counts), component.origin, what, component.source)
    if values := ", ".join(f"{name}={default}" for name, (_, default) in component.options.items()):
        yield (*[""] * (2 + len(counts)), f"options: {values}", "")


def _variants(scale: str) -> dict[str, ModelSpec]:
    """Every variant of config/ and of what is installed, at a named size."""
    from gt.shared import configurations
    from gt.spec import ModelSpec
    from gt.study import assemble, load_scales, load_variants, resolve

    folders = configurations()
    sizes = load_scales(*(folder / "scales.yaml" for folder in folders))
    variants = load_variants(*(folder / "variants" for folder in folders))
    size = entry(scale, sizes, f"--scale: unknown scale {scale!r}.")
    return {name: ModelSpec.model_validate(assemble(size, resolve(variants, name).model)) for name in variants}


def _variant_rows(scale: str, context: int) -> list[tuple[str, ...]]:
    """Each variant with its costs, title and source; some have sizes of their own, which do not fit every scale."""
    from gt.models.lm import count
    from gt.shared import configurations
    from gt.study import load_variants

    named = load_variants(*(folder / "variants" for folder in configurations()))
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
