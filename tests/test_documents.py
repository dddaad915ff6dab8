"""YAML is read as people mean it, every value knows its line, and what can be taken in two ways is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gt.documents import mark_of, merge, nested, read_yaml
from gt.errors import ConfigError


def document(tmp_path: Path, text: str) -> dict[str, Any]:
    (tmp_path / "d.yaml").write_text(text, encoding="utf-8")
    return read_yaml(tmp_path / "d.yaml")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        *(("1e-3", 0.001), ("1E5", 100_000), ("1e+3", 1000), (".5e3", 500.0), ("5.", 5.0), ("-.5", -0.5), ("3.0e-4", 0.0003)),
        *(("1_000", 1000), ("007", 7), ("010", 10), ("0x1F", 31), ("0o17", 15), ("0b101", 5), ("-3", -3), ("1.0e3", 1000.0)),
        *(("0b_", "0b_"), ("1:30", "1:30"), ("2020-99-99", "2020-99-99"), ("2020-01-01", "2020-01-01"), ("1_", "1_")),
        *(("'1e-3'", "1e-3"), ('"7"', "7"), ("yes", True), ("Off", False), ("y", "y"), ("~", None), ("", None), ("null", None)),
        *(("1.2.3", "1.2.3"), ("12e", "12e"), (".", "."), ("[1e3, a]", [1000, "a"]), ("!!str 7", "7"), ("é ü", "é ü")),
    ],
)  # fmt: skip
def test_values_are_what_they_look_like(tmp_path: Path, written: str, value: Any) -> None:
    found = document(tmp_path, f"k: {written}\n")["k"]
    assert found == value
    assert type(found) is type(value) or isinstance(found, list)


def test_infinite_and_undefined_numbers_are_written_with_a_point(tmp_path: Path) -> None:
    found = document(tmp_path, "k: [.inf, -.INF, .nan, inf, nan]\n")["k"]
    assert found[0] == -found[1] == float("inf")
    assert found[2] != found[2]
    assert found[3:] == ["inf", "nan"]


def test_merge_keys_bring_in_what_is_not_given(tmp_path: Path) -> None:
    text = "a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc:\n  x: 9\n  <<: [*a, *b]\nd: {<<: *b, y: 5}\n"
    found = document(tmp_path, text)
    assert found["c"] == {"x": 9, "y": 2, "z": 4}
    assert found["d"] == {"y": 5, "z": 4}
    assert [str(mark_of(found, ("c", key))).rsplit(" ", 1)[1] for key in "xyz"] == ["4", "1", "2"]


def test_lines_are_kept_through_merging(tmp_path: Path) -> None:
    general = document(tmp_path, "a:\n  x: 1\n  y: {z: 2}\n")
    (tmp_path / "e.yaml").write_text("\n\na:\n  x: 3\n")
    merged = merge(merge(general, read_yaml(tmp_path / "e.yaml")), nested("a.w", 7))
    assert merged == {"a": {"x": 3, "y": {"z": 2}, "w": 7}}
    assert str(mark_of(merged, ("a", "x"))) == f"{tmp_path}/e.yaml, line 4"
    assert str(mark_of(merged, ("a", "y", "z", "nothing"))) == f"{tmp_path}/d.yaml, line 3"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: the key 'a' stands here twice"),
        ("a: 1\n<<: {x: 1}\n<<: {y: 1}\n", "line 3: the key '<<' stands here twice"),
        ("a: 1\n007: 2\n", "line 2: the key 007 is not a word here; in quotes it is: '007'"),
        ("a: 1\n? [b]\n: 2\n", "line 2: a key is a word, not a list or a mapping"),
        ("a: &x\n- *x\n", "line 1: an alias stands inside of what it stands for"),
        ("a: *b\n", "line 1: found undefined alias 'b'"),
        ("<<: 3\n", "line 1: the merge key << takes a mapping"),
        ("a: " + "[" * 5000 + "\n", "line 1: lists and mappings stand inside of each other 100 times"),
        ("a: 1e999\n", "line 1: 1e999 is not a number: it is too large"),
        ("a: !!int x\n", "line 1: x is not a number"),
        ("a: !!timestamp 2020-99-99\n", "line 1: the tag !!timestamp is not for a configuration"),
        ("a: !!binary '='\n", "line 1: the tag !!binary is not for a configuration"),
        ("a: 1\n---\nb: 2\n", "line 2: but found another document"),
        ('a: b\nc: "\\ud800"\n', "line 2: the character '\\ud800' has no place in a text"),
        ("a: b\nc: \x01\n", "line 2: the character U+0001 has no place in YAML"),
        ("", "must be a mapping of keys to values"),
    ],
)
def test_what_can_be_taken_in_two_ways_is_refused_by_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        document(tmp_path, text)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path}/d.yaml")


def test_aliases_of_aliases_are_not_written_out_without_end(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12))]
    with pytest.raises(ConfigError, match=r"with its aliases written out, the file has more than 100,000 values"):
        document(tmp_path, "\n".join(lines))


def test_bytes_that_are_no_text_and_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "d.yaml").write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(ConfigError, match=r"d.yaml, line 2: not UTF-8 \(byte 0xff\)"):
        read_yaml(tmp_path / "d.yaml")
    with pytest.raises(ConfigError, match=r"cannot be read \(Is a directory\)"):
        read_yaml(tmp_path)
