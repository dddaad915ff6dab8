"""What text held-out losses are about, as the records of the runs say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from gt.report import text
from gt.report.census import census

if TYPE_CHECKING:
    from gt.report.numbers import Results

SPLITS = {"val": "validation", "test": "test"}
COLUMNS = ("tokens", "bytes", "from_byte", "unknown")


def measured_text(studies: Sequence[Results]) -> str:
    """How many bytes of each split, and whether they are the same for every tokenizer; empty where no text was measured.

    A record that does not say where its bytes begin is of as many tokens under any tokenizer, which are not the same bytes.
    """
    texts = {name for own in studies for name, corpus in own.plan.corpora.items() if corpus.task is None}
    runs = census(studies).records.reindex(columns=["corpus", "tokenizer", *(f"{s}/{n}" for s in SPLITS for n in COLUMNS)])
    runs = runs[runs["corpus"].isin(texts) & runs["val/bytes"].notna()]
    by_bytes = runs["val/from_byte"].notna()
    said = []
    if by_bytes.any():
        said.append(f"{_over(by_bytes)} {_parts(runs[by_bytes], _bytes)}{_same(runs[by_bytes])}.")
    if not by_bytes.all():
        tokenizers = runs[~by_bytes]["tokenizer"].nunique()
        others = ", so that tokenizers are compared over different text" if tokenizers > 1 else ""
        said.append(f"{_over(~by_bytes)} {_parts(runs[~by_bytes], _tokens)}{others}.")
    return " ".join([*said, *_unknown(runs)])


def _over(which: pd.Series) -> str:
    n = int(which.sum())
    return "Here it is over" if which.all() else f"In {text.plural(n, 'run')} it is over"


def _parts(runs: pd.DataFrame, part: Callable[[pd.DataFrame, str, str], str]) -> str:
    return text.listed([part(runs, split, name) for split, name in SPLITS.items() if runs[f"{split}/bytes"].notna().any()])


def _bytes(runs: pd.DataFrame, split: str, name: str) -> str:
    return f"{text.span(runs[f'{split}/bytes'].dropna(), text.count)} bytes of the {name} split"


def _tokens(runs: pd.DataFrame, split: str, name: str) -> str:
    tokens, n_bytes = (text.span(runs[f"{split}/{column}"].dropna(), text.count) for column in ("tokens", "bytes"))
    return f"the first {tokens} tokens of the {name} split ({n_bytes} bytes)"


def _same(runs: pd.DataFrame) -> str:
    """Whether all tokenizers of a corpus have the same bytes."""
    if runs["tokenizer"].nunique() == 1:
        return ""
    places = [f"{split}/{column}" for split in SPLITS for column in ("from_byte", "bytes")]
    same = runs.groupby("corpus")[places].nunique().max().max() <= 1
    return ", the same text for every tokenizer" if same else ", not the same text in all runs of a corpus"


def _unknown(runs: pd.DataFrame) -> list[str]:
    """How many characters of the slices tokenizers do not know, if there are any."""
    said = []
    for corpus, tokenizer in runs[["corpus", "tokenizer"]].drop_duplicates().itertuples(index=False):
        here = runs[(runs["corpus"] == corpus) & (runs["tokenizer"] == tokenizer)]
        most = here[[f"{split}/unknown" for split in SPLITS]].max().max()
        if most > 0:
            n = f"{text.plural(int(most), 'character')} of a slice of {corpus} {text.are(int(most))}"
            said.append(f"Under {tokenizer}, up to {n} unknown and predicted as such, which is easier.")
    return said
