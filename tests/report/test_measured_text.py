"""The report says what text its losses are about, of records that say where it begins and of older ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import records
from shared import make, written

from gt.report.measured_text import measured_text
from gt.report.numbers import load
from gt.report.opening import reading

Json = dict[str, Any]
COUNTS = ("tokens", "bytes", "from_byte", "unknown")


def said(root: Path, tokenizers: tuple[str, ...], change: Callable[[str, Json], Json] = lambda _, split: split) -> str:
    """What a study's report says. change: tokenizer and what was measured on a split -> what its records have instead."""
    plan = written(root, tokenizers=tokenizers)
    for cell in plan["cells"]:
        for run in cell["runs"].values():
            for split in ("val", "test"):
                of = {name: records.value(root / "runs" / run, f"{split}/{name}") for name in COUNTS}
                changed = change(cell["tokenizer"], of)
                records.edit_value(root / "runs" / run, **{f"{split}/{name}": changed.get(name) for name in COUNTS})
    return measured_text([load(make(root, plan))])


def before(tokenizer: str, split: Json) -> Json:
    """As it was when a slice was of tokens."""
    n = round(8192 * records.BYTES_PER_TOKEN[tokenizer])
    return {**{name: own for name, own in split.items() if name not in ("from_byte", "unknown")}, "tokens": 8192, "bytes": n}


def test_tokenizers_that_have_the_same_bytes_are_said_to(tmp_path: Path) -> None:
    slices = "8,192 bytes of the validation split and 8,192 bytes of the test split"
    assert said(tmp_path, ("char", "bpe1024")) == f"Here it is over {slices}, the same text for every tokenizer."


def test_what_is_not_the_same_text_is_not_said_to_be(tmp_path: Path) -> None:
    words = said(tmp_path, ("char", "bpe1024"), lambda name, split: {**split, "from_byte": len(name)})
    assert words.endswith("of the test split, not the same text in all runs of a corpus.")


def test_of_one_tokenizer_nothing_is_compared(tmp_path: Path) -> None:
    assert said(tmp_path, ("char",)).endswith("8,192 bytes of the test split.")


def test_records_of_slices_of_tokens_are_told_as_such(tmp_path: Path) -> None:
    most = round(8192 * records.BYTES_PER_TOKEN["bpe1024"])
    part = f"the first 8,192 tokens of the {{}} split (8,192 to {most:,} bytes)"
    others = "so that tokenizers are compared over different text"
    expected = f"Here it is over {part.format('validation')} and {part.format('test')}, {others}."
    assert said(tmp_path, ("char", "bpe1024"), before) == expected


def test_records_of_both_kinds_are_counted(tmp_path: Path) -> None:
    words = said(tmp_path, ("char", "bpe1024"), lambda name, split: before(name, split) if name == "char" else split)
    n = words.count(" runs it is over ")
    assert n == 2 and words.startswith("In ") and "the first 8,192 tokens" in words


def test_unknown_characters_are_counted_where_there_are_some(tmp_path: Path) -> None:
    words = said(tmp_path, ("char",), lambda _, split: {**split, "unknown": 7})
    assert words.endswith(
        "Under char, up to 7 characters of a slice of embedded are unknown and predicted as such, which is easier."
    )


def test_it_stands_where_bits_per_byte_are_explained(study: Path) -> None:
    results = load(study)
    assert measured_text([results]) in dict(reading([results], [], False).pairs)["Bits per byte"]
