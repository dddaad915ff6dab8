"""Trained models for other libraries, and theirs as the start of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from gt.cli.app import COMPONENTS, command
from gt.cli.components import record_and_tokens, variants_at
from gt.cli.options import FLAG, described
from gt.errors import ConfigError


@command(COMPONENTS, "gt export <run_id> --to transformers --out exported")
def export(
    run: Annotated[Path | None, described("results/runs/<run_id>, or the run_id of a record there")] = None,
    /,
    *,
    to: Annotated[
        Literal["transformers", "fla"], described("whose model it becomes; fla is flash-linear-attention")
    ] = "transformers",
    out: Annotated[Path | None, described("the folder; by default results/exports/<run_id>")] = None,
    data: Annotated[Path | None, described("folder of tokens, for its tokenizer; results/data/...")] = None,
    list_: Annotated[
        bool, FLAG, described("say of every variant what it is equal to, or how it differs", name="--list")
    ] = False,
) -> None:
    """Write a trained run as a folder that transformers, or FLA, loads: weights, tokenizer, model card, and code if need be."""
    if list_:
        from gt.export.published import standing

        variants = variants_at("8M")
        for name, spec in variants.items():
            print(f"{name:{max(map(len, variants))}}  {standing(spec)}")
        return
    if run is None:
        raise ConfigError("RUN: it is missing. See `gt export --help`.")
    run, data = record_and_tokens(run, data)
    from gt.export.folder import export

    out = out or Path("results/exports") / run.name
    equal = export(run, data, to, out).architecture
    print(f"{out}: {f'{equal.class_name} of {equal.library}' if equal else 'a model with its own code, for transformers'}")


@command(COMPONENTS, "gt import exported")
def import_(folder: Annotated[Path, described("of `gt export`, or of a GPT-2 of transformers")], /) -> None:
    """Keep the weights of a folder as what runs may start from, and say how a study asks for it."""
    from gt.export.importing import bring
    from gt.starts import STARTS

    start = bring(folder)
    model = json.dumps(start.model.model_dump(mode="json", exclude_defaults=True))
    print(f"{STARTS / start.weights}\n")
    print(f"A study starts from these weights with\n\n  training: {{start: {start.weights}}}\n")
    print(f"and a model that computes as\n\n  {model}")
