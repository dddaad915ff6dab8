"""Whatever is done to a file of config/, it is taken as it stands or refused in a message that helps; nothing else happens.

A seeded fuzzer damages the shipped files, one place at a time, and runs what `gt plan` and `gt claims check` run.
"""

from __future__ import annotations

import itertools
import random
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from gt.analysis import registration
from gt.analysis.claims import check, check_planned, load_arms, load_claims
from gt.documents import read_yaml
from gt.errors import ConfigError
from gt.study import checked_plan, load_study, names_asked_for

ROOT = Path(__file__).parents[1]
FILES = (
    *("studies/smoke.yaml", "studies/gates.yaml", "studies/recall_mqar.yaml", "studies/scale.yaml"),
    *("variants/fusions.yaml", "variants/baselines.yaml", "claims/contexts.yaml", "claims/gates.yaml", "claims/arms.yaml"),
    *("scales.yaml", "config.yaml"),
)
# What reads a file beside the studies themselves.
READERS = {"variants/fusions.yaml": "smoke", "variants/baselines.yaml": "smoke", "scales.yaml": "scale"}
# Aliases of aliases, nine times each, that stand for 9**8 words.
BOMB = "[&a [x, x]" + "".join(f", &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in itertools.pairwise("abcdefghi")) + "]"
VALUES = (
    *("null", "~", "[]", "{}", "[1]", "[[]]", "{a: 1}", "''", "' '", "0", "-1", "1", "2.5", "yes", "no", "On", "0b_", "007"),
    *("1_0", "1e-3", "1E5", "1e400", "1e999999999", "-.inf", ".nan", "99999999999999999999999", "1:30", "0x", "0o9"),
    *("2020-01-01", "2020-99-99", "'a b'", '"\\0"', '"\\ud800"', '"{x}"', "../..", "ü", "*nope", "&x [*x]", "{<<: [1]}"),
    *("{<<: {a: 1}}", BOMB, "!!python/object:os.system x", "!!binary '='", "!!int x", "!!timestamp x", "!!null x", "? [a]"),
    *("x" * 300, "[" * 2000, "@", "`", "file:", "file:nowhere.txt", "file:.", "task:", "task:mqar", "{name: }", "{name: [1]}"),
    *("{name: char}", "{variant: GF}", "GF"),
)
LEAKS = re.compile(
    r"constrained|function-|tag:yaml|pydantic|Spec\b|VariantUse|Traceback|valid dictionary|instance of|lambda|\(the whole\)"
)


@dataclass(frozen=True)
class Mutation:
    """What was done, and in which line of the file it stands."""

    file: str
    kind: str
    line: int
    words: str
    text: bytes


def mutate(seed: int) -> Mutation:
    rng = random.Random(seed)
    file = rng.choice(FILES)
    text = (ROOT / "config" / file).read_text(encoding="utf-8")
    pairs, values = nodes(text)
    kind = rng.choice(["value"] * 8 + ["typo"] * 4 + ["key", "delete", "duplicate", "unknown", "truncate", "bytes", "swap"])
    if kind in ("value", "swap"):
        node = rng.choice(values)
        start, end = node.start_mark.index, node.end_mark.index
        other = rng.choice(values)
        new = rng.choice(VALUES) if kind == "value" else text[other.start_mark.index : other.end_mark.index]
        words, line = f"{text[start:end]!r} -> {new[:80]!r}", node.start_mark.line + 1
        text = text[:start] + new + ("\n" if text[start:end].endswith("\n") else "") + text[end:]
    elif kind in ("truncate", "bytes"):
        start = rng.randrange(1, len(text))
        words, line = f"at {start}", text[:start].count("\n") + 1
        if kind == "bytes":
            return Mutation(file, kind, line, words, text[:start].encode() + b"\xff\xfe" + text[start:].encode())
        text = text[:start]
    else:
        key, value = rng.choice(pairs)
        start, end = key.start_mark.index, key.end_mark.index
        line = key.start_mark.line + 1
        whole = text[start : value.end_mark.index].rstrip()
        if kind == "typo":
            i = rng.randrange(start, end)
            letter = rng.choice("aexz_ ")
            text = text[:i] + rng.choice([letter, "", letter + text[i]]) + text[i + 1 :]
        elif kind == "key":
            text = text[:start] + rng.choice(["7", "null", "yes", "[a]", "{a: b}", "<<", "1.5", "''", "é"]) + text[end:]
        elif kind == "delete":
            text = text[:start] + text[start + len(whole) + (text[start + len(whole) : start + len(whole) + 1] == ",") :]
        else:
            flow = text[text.rfind("\n", 0, start) + 1 : start].strip() not in ("", "-")
            between = ", " if flow else "\n" + " " * key.start_mark.column
            added = whole if kind == "duplicate" else f"nonsense: {rng.choice(VALUES)}"
            text = text[:start] + whole + between + added + text[start + len(whole) :]
        words = whole[:80]
    return Mutation(file, kind, line, words, text.encode("utf-8", "surrogatepass"))


def nodes(text: str) -> tuple[list[tuple[yaml.Node, yaml.Node]], list[yaml.Node]]:
    """The keys with their values, and all values, of a YAML file."""
    pairs: list[tuple[yaml.Node, yaml.Node]] = []
    values: list[yaml.Node] = []
    waiting = [yaml.compose(text)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.MappingNode):
            pairs += node.value
            waiting += [value for _, value in node.value]
            values += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value
            values += node.value
    return pairs, values


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mutated") / "config"
    shutil.copytree(ROOT / "config", folder)
    return folder


@pytest.fixture(scope="module")
def plans() -> dict[str, Any]:
    return {file.stem: load_study(file).plan() for file in sorted((ROOT / "config/studies").glob("*.yaml"))}


def read(config: Path, file: str, plans: dict[str, Any]) -> Any:
    """What reads a file before anything runs; a study's plan."""
    if file.startswith("claims"):
        claims, arms = load_claims(config / "claims"), load_arms(config / "claims")
        registration.read(config / "claims")
        check_planned(claims, arms, plans)
        return check(claims, arms, plans)
    if file == "config.yaml":
        return names_asked_for(read_yaml(config / file).get("study"), config / "studies")
    study = READERS.get(file, Path(file).stem)
    return checked_plan(config / f"studies/{study}.yaml", config / "nowhere.json")


@pytest.mark.parametrize("seed", range(150))
def test_a_damaged_file_is_taken_as_it_stands_or_refused_by_its_place(
    seed: int, config: Path, plans: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    mutation = mutate(seed)
    file = config / mutation.file
    file.write_bytes(mutation.text)
    try:
        before = read_yaml(ROOT / "config" / mutation.file)
        result = read(config, mutation.file, plans)
    except ConfigError as error:
        check_message(str(error), mutation, config)
    else:
        # What is taken is in the plan, or is said to be read by no run, or says what was said before.
        if mutation.file.startswith("studies") and result == plans[file.stem]:
            assert read_yaml(file) == before or capsys.readouterr().err or mutation.kind in ("delete", "truncate"), (
                mutation.words
            )
    finally:
        shutil.copy(ROOT / "config" / mutation.file, file)


def check_message(message: str, mutation: Mutation, config: Path) -> None:
    about = (mutation, message)
    assert not LEAKS.search(message), about
    assert len(message) < 3000, about
    if mutation.file == "config.yaml" and message.startswith("study: "):
        return
    assert all(line.startswith(f"{config}/") for line in message.splitlines()), about
    if mutation.kind not in ("delete", "truncate") and f"{config / mutation.file}" in message:
        lines = [int(n) for n in re.findall(r"\.yaml, line (\d+)", message)]
        assert lines, about
