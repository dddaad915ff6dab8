"""The code that a definition uses: all that it can execute, and of its neighbours nothing."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from gt.closure import ALL, IMPORTED, Code, canonical, sha256

MAIN = '''
"""A small package's entry."""

from __future__ import annotations

import math as m
from typing import TYPE_CHECKING

from small import parts
from small.base import Base
from small.parts import helper as h

if TYPE_CHECKING:
    from small.types import Only

RATE = 0.5
UNUSED = 1


class Model(Base):
    rate = RATE

    def forward(self, x: Only) -> float:
        """What it does."""
        return h(x) * self.rate + m.pi


def run(x, scale=parts.SCALE):
    from small.late import finish

    return finish(Model().forward(x)) * scale


def neighbour():
    return UNUSED
'''
FILES = {
    "__init__.py": "",
    "main.py": MAIN,
    "base.py": "class Base:\n    def shared(self):\n        return 1\n\n\nclass Other:\n    pass\n",
    "parts.py": "import os\n\nSCALE = 2\nSPARE = 3\n\n\ndef helper(x):\n    return x + 1\n\n\ndef idle(x):\n    return x\n",
    "late.py": "import small.registry\n\n\ndef finish(x):\n    return small.registry.KNOWN[0](x)\n",
    "registry.py": "KNOWN = []\n\ndef entered(f):\n    KNOWN.append(f)\n    return f\n\n@entered\ndef _(x):\n    return -x\n",
    "types.py": "class Only:\n    pass\n",
}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A package of some modules."""
    folder = tmp_path / "small"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


def code(folder: Path, *roots: str) -> dict[str, str]:
    return Code({"small": folder}).of(*(roots or ("small.main:run",)))


def names(folder: Path, root: str = "small.main:run") -> set[str]:
    return {f"{module.removeprefix('small.')}:{name}" for module, name in Code({"small": folder}).closure(root)}


def test_what_a_function_uses_is_found_through_imports_classes_defaults_and_registrations(small: Path) -> None:
    found = names(small)
    used = {"main:run", "main:Model", "main:RATE", "base:Base", "parts:SCALE", "parts:helper", "late:finish", "registry:KNOWN"}
    assert used <= found
    assert {"registry:entered", f"registry:{IMPORTED}"} <= found, "a decorator may enter a function somewhere"
    assert not {"main:neighbour", "main:UNUSED", "base:Other", "parts:idle", "parts:SPARE"} & found
    assert not any(name.startswith("types:") for name in found), "what only a type checker imports is not executed"


EDITS_THAT_CHANGE_NOTHING = {
    "a comment": ("main.py", "RATE = 0.5", "RATE = 0.5  # of what"),
    "a docstring": ("main.py", '"""What it does."""', '"""What it did."""'),
    "no docstring": ("main.py", '        """What it does."""\n', ""),
    "other line ends and brackets": (
        "main.py",
        "h(x) * self.rate + m.pi",
        "(\n            (h(x) * self.rate)\n            + m.pi\n        )",
    ),
    "an unused neighbour": ("main.py", "return UNUSED", "return UNUSED + 1"),
    "an unused constant": ("parts.py", "SPARE = 3", "SPARE = 4"),
    "an unused import": ("parts.py", "import os", "import sys"),
    "a new neighbour": ("parts.py", "def idle", "def another(x):\n    return SCALE\n\n\ndef idle"),
    "an unused class": ("base.py", "class Other:\n    pass", "class Other:\n    size = 1"),
    "another order": ("parts.py", "SCALE = 2\nSPARE = 3\n", "SPARE = 3\nSCALE = 2\n"),
    "what a type checker reads": ("types.py", "pass", "size = 1"),
}
EDITS_THAT_CHANGE = {
    "a line of a function": ("parts.py", "return x + 1", "return x + 2", "parts"),
    "a constant": ("main.py", "RATE = 0.5", "RATE = 0.25", "main"),
    "a default": ("main.py", "scale=parts.SCALE", "scale=3", "main"),
    "what a default stands for": ("parts.py", "SCALE = 2", "SCALE = 3", "parts"),
    "a decorator": ("parts.py", "def helper", "@staticmethod\ndef helper", "parts"),
    "a method of a base class": ("base.py", "return 1", "return 2", "base"),
    "another base class": ("main.py", "import Base", "import Other as Base", "main"),
    "a statement of a module": ("parts.py", "import os\n", "import os\n\nos.environ['X'] = '1'\n", "parts"),
    "a statement of a module that is only imported": ("types.py", "class", "print()\n\n\nclass", "types"),
    "another function of the same name": ("main.py", "import helper as h", "import idle as h", "main"),
    "another module of the same name": ("main.py", "import math as m", "import cmath as m", "main"),
    "what a registry holds": ("registry.py", "return -x", "return x", "registry"),
    "a new entry of a registry": (
        "registry.py",
        "KNOWN = []",
        "KNOWN = []\n\n\ndef new(x): ...\n\n\nKNOWN.append(new)",
        "registry",
    ),
}


@pytest.mark.parametrize("edit", EDITS_THAT_CHANGE_NOTHING.values(), ids=EDITS_THAT_CHANGE_NOTHING)
def test_an_edit_of_what_is_not_executed_changes_nothing(small: Path, edit: tuple[str, str, str]) -> None:
    before = code(small)
    replace(small, *edit)
    assert code(small) == before


@pytest.mark.parametrize("edit", EDITS_THAT_CHANGE.values(), ids=EDITS_THAT_CHANGE)
def test_an_edit_of_what_is_executed_changes_the_sum_of_its_module(small: Path, edit: tuple[str, str, str, str]) -> None:
    if edit[-1] == "types":  # which is imported in earnest now
        replace(small, "late.py", "import small.registry\n", "import small.registry\nimport small.types\n")
    before = code(small)
    replace(small, *edit[:3])
    after = code(small)
    assert [name for name in before | after if before.get(name) != after.get(name) and name.endswith(edit[-1])]


def replace(folder: Path, file: str, old: str, new: str) -> None:
    text = (folder / file).read_text()
    assert text.count(old) == 1
    (folder / file).write_text(text.replace(old, new))


def test_a_new_file_changes_nothing(small: Path) -> None:
    before = code(small)
    (small / "more.py").write_text("import small.main\n\nsmall.main.RATE = 1\n")
    assert code(small) == before


@pytest.mark.parametrize(
    "use",
    [
        "import small.parts\n\ndef run(x):\n    return getattr(small.parts, x)",
        "from small import parts\n\ndef run(x):\n    return x(parts)",
        "from small import parts as p\n\ndef run(x):\n    return p.whatever",
        "from small.parts import *\n\ndef run(x):\n    return idle(x)",
        "import importlib\n\ndef run(x):\n    return importlib.import_module('small.parts')",
        "from . import parts\n\ndef run(x):\n    return parts",
    ],
)
def test_of_a_module_whose_use_cannot_be_followed_everything_counts(small: Path, use: str) -> None:
    (small / "main.py").write_text(use)
    assert {f"parts:{ALL}", "parts:idle", "parts:SPARE"} <= names(small)


def test_a_definition_that_reads_any_name_uses_its_whole_module(small: Path) -> None:
    (small / "main.py").write_text("def run(x):\n    return eval(x)\n\n\ndef other():\n    return 1\n")
    assert "main:other" in names(small)


def test_a_class_that_is_only_asked_about_does_not_count_by_what_it_does(small: Path) -> None:
    (small / "main.py").write_text("from small.base import Base\n\ndef run(x):\n    return isinstance(x, Base)\n")
    assert "base:Base" not in names(small)
    before = code(small)
    replace(small, "main.py", "import Base", "import Other as Base")
    assert code(small) != before, "it asks about another"


def test_a_name_is_followed_to_where_it_was_defined(small: Path) -> None:
    (small / "__init__.py").write_text("from small.parts import helper\nfrom small.main import Model\n")
    (small / "late.py").write_text("from small import helper\n\ndef finish(x):\n    return helper(x)\n")
    assert "parts:helper" in names(small, "small.late:finish")
    assert "main:Model" not in names(small, "small.late:finish")


def test_what_a_class_holds_is_followed_by_its_annotations(small: Path) -> None:
    text = "from __future__ import annotations\nfrom small.base import Base\n\n"
    (small / "main.py").write_text(text + "class Held:\n    base: Base\n\ndef run(x: Held): ...\n")
    assert "base:Base" in names(small)


def test_a_definition_on_a_condition_counts_with_its_condition(small: Path) -> None:
    text = "try:\n    import fast as h\nexcept ImportError:\n    from small.parts import helper as h\n\n"
    (small / "main.py").write_text(text + "def run(x):\n    return h(x)\n")
    assert "parts:helper" in names(small)
    before = code(small)
    replace(small, "main.py", "except ImportError", "except Exception")
    assert code(small) != before


def test_a_root_that_is_not_there_is_an_error(small: Path) -> None:
    for root in ("small.main:runs", "small.mains", "other.main:run"):
        with pytest.raises(LookupError, match=root):
            code(small, root)


SAMPLE = """
@property
def f(a, /, b=1, *c, d: int = 2, **e) -> None:
    return f"{a!r:>{b}} {d}" "x", {**e, 1: 1.0}, b"\\x00", [x for x in c if x] or -0.5j

class A(B, metaclass=C):
    x: int
    async def g(self):
        try:
            async with self as y, y[1:2, ...]: await y
        except* ValueError as error:
            raise error from None
        match self:
            case A(x=1) | [2, *_]: y += 1
        lambda: (yield); global z; del z
"""


def test_a_syntax_tree_is_the_same_text_in_all_versions_of_python() -> None:
    # The sum pins the form: another would make all that was ever made outdated.
    assert sha256(canonical(ast.parse(SAMPLE)))[:16] == "37fde0c85d91e984"


def test_numbers_of_different_kinds_are_different() -> None:
    assert len({canonical(ast.parse(f"x = {value}")) for value in ("1", "True", "1.0", "'1'", "b'1'", "None")}) == 6
