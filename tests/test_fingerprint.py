"""The code of a run is what it executes: edits of that change its sum, and no others."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from corpus import words
from executed import executed, outside
from variants import tiny

import gt.training.packs
from gt import project
from gt.asked import Asked
from gt.catalogue import MODEL_KINDS, Component, components
from gt.closure import Code
from gt.data import corpora, ngram, tokenizers
from gt.evals.evaluation import measured
from gt.evals.subject import Subject
from gt.fingerprint import (
    MEASURED,
    PACKAGE,
    PROBING,
    TRAINING,
    _code,
    code_of,
    code_of_evaluation,
    code_of_probes,
    code_of_training,
    code_with,
    differences,
    digest,
    of_network,
    plugins,
    used_in_training,
    versions,
)
from gt.made import CUTTING
from gt.probes.probe import probe
from gt.spec import RunSpec, TokenizerSpec
from gt.training.loop import Job, Settings, train

CPU = torch.device("cpu")
OWN = {"steps": 2, "batch_size": 2, "sequence_length": 16, "evaluation_tokens": 256, "evaluate_every": 1, "log_every": 1}
TASK = {"length": 16, "items": [2, 4], "symbols": 8, "episodes": 40}


def specification(variant: str, training: dict[str, Any] | None = None, task: bool = False, seed: int = 0) -> RunSpec:
    corpus = {"name": "task:mqar", "task": TASK} if task else {"name": "embedded"}
    document = {"corpus": corpus, "tokenizer": {"name": "char"}, "model": tiny(variant), "seed": seed}
    return RunSpec.model_validate({**document, "training": {**OWN, **(training or {})}})


def places(spec: RunSpec) -> list[str]:
    """The components that a run looks up by name."""
    return [f"{component.module}:{component.class_name}" for component in used_in_training(spec)]


# What is executed


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = words(tmp_path_factory.mktemp("text"))
    ngram.prepare(folder)
    return folder


@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("task")
    corpora.prepare(RUNS["a task"].corpus, folder)
    tokenizers.prepare(folder, TokenizerSpec(name="char"), folder / "char")
    ngram.prepare(folder / "char")
    return folder / "char"


RUNS = {
    "parallel branches": specification("GF-MH"),
    "selective WKV": specification("SWKV"),
    "another package's mixers": specification("GF-cuda"),
    "towers": specification("Split-1-1"),
    "a recurrent arbiter, auxiliary losses": specification(
        "GRU", {"auxiliary": {"balance_weight": 0.1, "diversity": "record"}}
    ),
    "a dropped branch, Lion": specification("HGF", {"branch_drop": {"branch": "r"}, "optimizer": "lion"}),
    "Muon": specification("GF-MH", {"optimizer": "muon"}),
    "carried states": specification("GF", {"batch_order": "tracks", "carry_state": True}),
    "branches that are trained alone first": specification("CP", {"pretrain_steps": 1}),
    "a task": specification("GPT-2", task=True),
}


def own_place(kind: str, name: str) -> str:
    """Where a component of gt's own is."""
    component = components(kind)[name]
    return f"{component.module}:{component.class_name}"


def probing() -> list[str]:
    return [*PROBING, *(own_place("probe", name) for name in components("probe"))]


@pytest.mark.parametrize("spec", RUNS.values(), ids=RUNS)
def test_all_that_a_run_executes_is_in_its_code(spec: RunSpec, text: Path, episodes: Path, tmp_path: Path) -> None:
    data, run = episodes if spec.corpus.task else text, tmp_path / "run"
    _code.cache_clear()
    with executed() as called:
        train(Job(spec, data, run), tmp_path / "checkpoints", Settings(CPU, 0.0))
    assert outside(called, UNEDITED, UNEDITED.closure(*TRAINING, *places(spec))) == []
    assert len(called) > 90
    with executed() as called:
        probe(run, data, CPU)
    assert outside(called, UNEDITED, UNEDITED.closure(*probing(), *places(spec))) == []
    assert len(called) > 90


def test_so_it_is_in_a_pack_that_goes_on_from_a_checkpoint(text: Path, tmp_path: Path) -> None:
    specs = [specification("GF-MH", seed=seed) for seed in range(2)]
    jobs, settings = [Job(spec, text, tmp_path / spec.run_id) for spec in specs], Settings(CPU, 0.0)
    folder = tmp_path / gt.training.packs.folder_name(jobs)
    attempt = gt.training.packs.Attempt(jobs, folder, settings)
    attempt.advance()
    attempt.collect()
    assert folder.exists()
    with executed() as called:
        assert [status for _, status in gt.training.packs.train_pack(jobs, set(), tmp_path, settings)] == ["completed"] * 2
    assert outside(called, UNEDITED, UNEDITED.closure(*TRAINING, *places(specs[0]))) == []


@pytest.mark.parametrize("name", components("evaluation"))
def test_all_that_an_evaluation_executes_is_in_its_code(
    name: str, text: Path, episodes: Path, trained: dict[str, Path]
) -> None:
    is_task = name == "recall"
    data, run, spec = (
        (episodes, trained["task"], RUNS["a task"]) if is_task else (text, trained["text"], RUNS["parallel branches"])
    )
    asked = Asked.of("validation-2048" if name == "validation" else name)
    with executed() as called:
        list(measured(asked, Subject.load(run, data, CPU)))
    assert outside(called, UNEDITED, UNEDITED.closure(own_place("evaluation", name), *MEASURED, *places(spec))) == []
    assert len(called) > 40


@pytest.fixture(scope="module")
def trained(text: Path, episodes: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run on a text and one on a task, with their weights."""
    folder = tmp_path_factory.mktemp("trained")
    for name, spec, data in (("text", RUNS["parallel branches"], text), ("task", RUNS["a task"], episodes)):
        train(Job(spec, data, folder / name), folder / "checkpoints", Settings(CPU, 1e9))
    return {name: folder / name for name in ("text", "task")}


# Edits


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package, to be edited."""
    for package in (UPSTREAM, PACKAGE):
        copied = shutil.copytree(package, tmp_path / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    return Path(copied)


def read(copy: Path) -> Code:
    """What is in an edited package, and in that of the earlier repository beside it."""
    return Code({"gt": copy, "gt_upstream": copy.with_name("gt_upstream")})


HYBRID, ATTENTION, SELECTIVE = (specification(name) for name in ("GF-MH", "GPT-2", "SWKV"))


UPSTREAM = PACKAGE.with_name("gt_upstream")
UNEDITED = Code({"gt": PACKAGE, "gt_upstream": UPSTREAM})


def sums(code: Code, spec: RunSpec) -> dict[str, str]:
    return code.of(*TRAINING, *places(spec))


def edit(package: Path, file: str, old: str, new: str) -> None:
    text = (package / file).read_text()
    assert old in text
    (package / file).write_text(text.replace(old, new, 1))


NOTHING = {
    "an empty file": lambda p: (p / "training/more.py").write_text(""),
    "another fusion in a file of its own": lambda p: (p / "models/fusions/more.py").write_text(
        (p / "models/fusions/gated.py").read_text().replace('"gated"', '"another"')
    ),
    "another fusion in the same file": lambda p: edit(
        p,
        "models/fusions/gated.py",
        "\n\nclass ",
        '\n\nclass Another(Fusion):\n    """One."""\n\n    name = "another"\n\n\nclass ',
    ),
    "another variant's mixer": lambda p: edit(p, "models/mixers/linear_attention.py", "return ", "return 0 * "),
    "another variant's recurrence": lambda p: edit(p, "ops/selective.py", "min=-1e30", "min=-1e20"),
    "a comment": lambda p: edit(p, "training/cohort.py", "class Cohort", "# Of runs.\nclass Cohort"),
    "a docstring": lambda p: edit(p, "models/mixers/rwkv6.py", "    Source:", "    Sources:"),
    "blank lines": lambda p: edit(p, "training/schedule.py", "\n\n\n", "\n\n\n\n\n"),
    "an unused helper": lambda p: edit(p, "training/losses.py", "\n\n\ndef ", "\n\n\ndef unused():\n    return 1\n\n\ndef "),
    "a report": lambda p: edit(p, "report/render.py", "def render", "print()\n\n\ndef render"),
    "a probe": lambda p: edit(p, "probes/ablation.py", "return ", "return 0 * "),
    "another optimizer": lambda p: edit(p, "training/optimizers/lion.py", "rates * ", "2 * rates * "),
    "a reader of a corpus": lambda p: edit(p, "data/readers/embedded.py", "% 20", "% 30"),
}


@pytest.mark.parametrize("change", NOTHING.values(), ids=NOTHING)
def test_an_edit_of_what_a_run_does_not_execute_leaves_its_code(copy: Path, change: Any) -> None:
    change(copy)
    assert sums(read(copy), HYBRID) == sums(UNEDITED, HYBRID)


@pytest.mark.parametrize(
    ("file", "old", "new", "made_again"),
    [
        ("data/readers/embedded.py", "% 20", "% 30", True),
        ("data/readers/embedded.py", "The built-in text", "A text", False),
        ("data/readers/tinyshakespeare.py", "1_003_854", "1_003_855", False),
        ("data/readers/hub.py", "return [str(split)", "return [split", False),
        ("data/corpora.py", "BLOCK = 1 << 20", "BLOCK = 1 << 21", True),
    ],
)
def test_of_readers_a_corpus_is_made_of_its_own(copy: Path, file: str, old: str, new: str, made_again: bool) -> None:
    roots = (*CUTTING, "gt.data.readers.embedded:Embedded")
    edit(copy, file, old, new)
    assert (Code({"gt": copy}).of(*roots) != UNEDITED.of(*roots)) == made_again


# What is edited, the module whose sum changes, and of the hybrid, attention and selective WKV those runs that are made again.
CHANGES: dict[str, tuple[str, str, str, str, str]] = {
    "a line of the trainer": ("training/update.py", "(norm + 1e-6)", "(norm + 1e-5)", "gt.training.update", "has"),
    "a constant of the trainer": ("training/plan.py", "HORIZON = ", "HORIZON = 2 * ", "gt.training.plan", "has"),
    "a line of a mixer": ("models/mixers/attention.py", "0.02 / ", "0.03 / ", "gt.models.mixers.attention", "a"),
    "a default of a mixer": (
        "models/mixers/attention.py",
        "n_head: Count = 4",
        "n_head: Count = 8",
        "gt.models.mixers.attention",
        "a",
    ),
    "a line of a recurrence": ("ops/wkv6.py", "min=-1e30", "min=-1e20", "gt.ops.wkv6", "hs"),
    "a choice of a kernel": ("ops/ssd.py", "128 * 64", "64 * 64", "gt.ops.ssd", "h"),
    "a base class of mixers": (
        "models/mixers/base.py",
        "sequential: ClassVar[bool] = False",
        "sequential: ClassVar[bool] = True",
        "gt.models.mixers.base",
        "has",
    ),
    "a fusion": ("models/fusions/gated.py", "g = torch.sigmoid", "g = torch.tanh", "gt.models.fusions.gated", "h"),
    "a decorator": ("training/update.py", "    @torch.no_grad()\n", "", "gt.training.update", "has"),
    "a statement of a module": ("training/cohort.py", '":4096:8"', '":16:8"', "gt.training.cohort", "has"),
    "an optimizer": ("training/optimizers/adamw.py", "rates / first", "rates * first", "gt.training.optimizers.adamw", "has"),
    "an initialisation that some use": ("models/init.py", "q = gain * q", "q = 2 * gain * q", "gt.models.init", "has"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_an_edit_of_what_runs_execute_changes_the_code_of_those_runs_alone(
    copy: Path, change: tuple[str, str, str, str, str]
) -> None:
    *replaced, module, made_again = change
    edit(copy, *replaced)
    runs, edited = {"h": HYBRID, "a": ATTENTION, "s": SELECTIVE}, read(copy)
    before, after = ({name: sums(code, spec) for name, spec in runs.items()} for code in (UNEDITED, edited))
    assert "".join(name for name in "has" if before[name] != after[name]) == made_again
    for name in made_again:
        assert differences(before[name], after[name]) == [f"{module} changed"]


def test_measurements_do_not_count_for_each_other(copy: Path) -> None:
    roots = {name: (own_place("evaluation", name), *MEASURED) for name in components("evaluation")} | {"probes": probing()}
    edit(copy, "evals/needle.py", "return ", "return 0 * ")
    edit(copy, "probes/variance.py", "return ", "return 0 * ")
    edited = read(copy)
    before, after = ({name: code.of(*own, *places(HYBRID)) for name, own in roots.items()} for code in (UNEDITED, edited))
    assert [name for name in roots if before[name] != after[name]] == ["needle", "probes"]


def test_what_metrics_are_called_is_no_part_of_what_measures_them(copy: Path) -> None:
    """An edited phrase, or an axis that only they mention, has nothing measured again."""
    edit(copy, "evals/needle.py", "loss saved by having seen the needle", "gain")
    edit(copy, "probes/gates.py", "new tokens", "tokens that are new")
    edited = read(copy)
    for roots in ((own_place("evaluation", "needle"), *MEASURED), probing()):
        assert UNEDITED.of(*roots, *places(HYBRID)) == edited.of(*roots, *places(HYBRID))


# What is said


def test_the_code_of_runs_is_alike_in_all_that_they_share() -> None:
    everything = [code_of_training(spec) for spec in (*RUNS.values(), SELECTIVE)]
    for one in everything:
        for other in everything:
            shared = one.keys() & other.keys()
            assert "gt.training.cohort" in shared
            assert [part for part in shared if one[part] != other[part]] == []
    assert len({digest(own) for own in everything}) > 5


def test_every_component_is_found_by_its_code() -> None:
    for kind in MODEL_KINDS:
        for component in components(kind).values():
            assert f"{component.module} ({kind} {component.name})" in code_with(TRAINING, [component])


def test_no_code_is_that_of_another_purpose() -> None:
    own = [
        code_of_training(HYBRID),
        code_of_probes(HYBRID),
        *(code_of_evaluation(HYBRID, name) for name in components("evaluation")),
    ]
    assert len({digest(code) for code in own}) == len(own)
    assert all(len(value) == 16 and part.startswith("gt") for code in own for part, value in code.items())
    assert digest(own[0]) == digest(dict(reversed(own[0].items())))


def test_differences_are_said_in_words() -> None:
    recorded = {"gt.a": "1", "gt.b": "1", "gt.c": "1", "plugin:x": "1.0", "plugin:y": "1.0"}
    now = {"gt.a": "1", "gt.b": "2", "gt.d": "1", "plugin:x": "1.1", "plugin:z": "2.0"}
    assert differences(recorded, recorded) == []
    assert differences(recorded, now) == [
        "gt.b changed",
        "gt.c went",
        "gt.d came",
        "the plug-in x changed from version 1.0 to 1.1",
        "the plug-in y went",
        "the plug-in z came, version 2.0",
    ]
    assert differences({"data": "1", "models": "2"}, now) == ["its code was recorded by other parts (data, models)"]


# Plug-ins


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A distribution of one package, installed in a folder on the path, and the caches without it afterwards."""
    (tmp_path / "tinyplugin").mkdir()
    (tmp_path / "tinyplugin/__init__.py").write_text("raise ImportError('it is not imported')\n")
    (tmp_path / "tinyplugin/mixers.py").write_text(
        "from gt.models.mixers.linear_attention import LinearAttention\n\n\nclass Tiny(LinearAttention):\n    name = 'tiny'\n"
    )
    about = tmp_path / "tiny_plugin-1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-plugin\nVersion: 1.2\n")
    (about / "top_level.txt").write_text("tinyplugin\n")
    monkeypatch.syspath_prepend(tmp_path)
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    """As another process."""
    from gt import fingerprint, known_code

    known_code._sum.cache_clear()
    fingerprint._code.cache_clear()
    fingerprint._packages.cache_clear()
    fingerprint._distributions.cache_clear()


def test_a_component_of_another_package_counts_by_its_version_its_code_and_what_it_uses_of_ours(plugin: Path) -> None:
    tiny_ = Component("mixer", "tiny", "tinyplugin.mixers", "Tiny", "", "", "", None)
    found = code_with(TRAINING, [tiny_])
    assert found["plugin:tiny-plugin"] == "1.2"
    assert "gt.models.mixers.linear_attention (mixer tiny)" in found
    assert "tinyplugin" not in sys.modules
    (plugin / "tiny_plugin-1.2.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: tiny-plugin\nVersion: 1.3\n")
    forget()
    assert differences(found, code_with(TRAINING, [tiny_])) == ["the plug-in tiny-plugin changed from version 1.2 to 1.3"]
    file = plugin / "tinyplugin/mixers.py"
    file.write_text(file.read_text() + "    scale = 2\n")
    forget()
    assert "tinyplugin.mixers (mixer tiny) changed" in differences(found, code_with(TRAINING, [tiny_]))


# A mixer that takes its options from one module, what it computes from another, and how it starts from gt.
LAB = {
    "mylab/__init__.py": "",
    "mylab/options.py": "from gt.options import Options\n\nWIDTH = 4\n\n\nclass Wide(Options):\n    width: int = WIDTH\n",
    "mylab/base.py": "from gt.models.mixers.base import Mixer\n\n\nclass Base(Mixer):\n    def forward(self, x, state=None):\n"
    "        return x, None\n",
    "mylab/mixers.py": "from mylab.base import Base\nfrom mylab.options import Wide\n\n\nclass Own(Base):\n    name = 'own'\n"
    "    class Config(Wide):\n        depth: int = 1\n",
}
OWN_MIXER = Component("mixer", "own", "mylab.mixers", "Own", "", "", "", None)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project with a package of its own that is not installed; the working directory is there."""
    (tmp_path / "mylab").mkdir()
    for file, text in LAB.items():
        (tmp_path / file).write_text(text)
    (tmp_path / "pyproject.toml").write_text('[tool.groundthink]\npackage = "mylab"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    project.package.cache_clear()
    project.package()
    yield tmp_path
    project.package.cache_clear()
    forget()


@pytest.mark.parametrize(
    ("file", "old", "new", "module"),
    [
        ("mylab/mixers.py", "depth: int = 1", "depth: int = 2", "mylab.mixers"),
        ("mylab/options.py", "WIDTH = 4", "WIDTH = 8", "mylab.options"),
        ("mylab/base.py", "return x, None", "return 2 * x, None", "mylab.base"),
    ],
    ids=["its Config", "a constant of the base of its Config", "its base class"],
)
def test_a_component_of_the_project_counts_by_its_code(lab: Path, file: str, old: str, new: str, module: str) -> None:
    before = code_with(TRAINING, [OWN_MIXER])
    edit(lab, file, old, new)
    forget()
    after = code_with(TRAINING, [OWN_MIXER])
    assert differences(before, after) == [f"{module} (mixer own) changed"]
    assert of_network(before) != of_network(after), "it makes another function of the same weights"


def test_the_initial_values_that_a_component_does_not_set_itself_are_code_of_it(lab: Path, copy: Path) -> None:
    edit(copy, "models/component.py", "normal_(module.weight, 0.02", "normal_(module.weight, 0.03")
    own = {"mylab": lab / "mylab"}
    before, after = (Code({"gt": gt, **own}).of("mylab.mixers:Own") for gt in (PACKAGE, copy))
    assert differences(before, after) == ["gt.models.component changed"]


def test_a_project_counts_alike_whether_it_is_installed_or_not(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = code_with(TRAINING, [OWN_MIXER])
    about = lab / "mylab-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mylab\nVersion: 0.1\n")
    (about / "top_level.txt").write_text("mylab\n")
    forget()
    assert code_with(TRAINING, [OWN_MIXER]) == bare
    assert not any(part.startswith("plugin:") for part in bare)


def test_what_comes_with_gt_has_no_version_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = tmp_path / "groundthink-7.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: groundthink\nVersion: 7.0\n")
    (about / "top_level.txt").write_text("gt\ngt_upstream\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert versions(["gt_upstream.mixers.stand_ins", "gt.models.mixers.rwkv6"]) == {}


def test_a_run_of_our_components_has_no_plugins() -> None:
    assert plugins(HYBRID) == {}
    assert not any(part.startswith("plugin:") for part in code_of_training(HYBRID))


def test_a_stage_that_is_not_there_is_an_error() -> None:
    with pytest.raises(LookupError, match=r"gt\.report\.render:paint"):
        code_of("gt.report.render:paint")
