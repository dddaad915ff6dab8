"""Whether the sequences of a plan's runs fit their text: asked before anything is trained."""

from __future__ import annotations

from pathlib import Path

from gt.artefacts import Plan
from gt.data.batches import check_length
from gt.data.corpora import sizes
from gt.errors import ConfigError
from gt.records import read_json
from gt.spec import RunSpec

# Of these a run needs at least one window.
SPLITS = ("train", "val")


def check_text(spec: RunSpec, path: Path | None) -> None:
    """ConfigError if it is known without a tokenizer that a run's sequences do not fit. path: of a user's file.

    A token of `char` is a character, and one of any other tokenizer a byte at least.
    """
    # Episodes are as long as the sequences, and separators are tokens too.
    if spec.corpus.task is not None or spec.corpus.documents != "joined":
        return
    exact = spec.tokenizer.name == "char"
    known = sizes(spec.corpus, path)
    for split in SPLITS if known else ():
        n_bytes, characters = known[split]
        check_length(split, characters if exact else n_bytes, spec.training.sequence_length, at_most=not exact)


def check_tokens(plan: Plan, folder: Path) -> None:
    """ConfigError if the sequences of some cell of a plan do not fit the tokens of a folder that it is trained on."""
    about = read_json(folder / "tokens.json")
    for cell in plan.cells:
        if (cell.corpus, cell.tokenizer) == (about["corpus"], about["tokenizer"]):
            length = plan.spec(cell).training.sequence_length
            for split in SPLITS:
                try:
                    check_length(split, about["tokens"][split], length)
                except ConfigError as error:
                    raise ConfigError(f"study {plan.study}, cell {cell.id}: {error}") from None
