"""What `gt list` prints and studies can name."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from variants import CONFIG, VARIANTS

from gt.catalogue import MODEL_KINDS, Component, components
from gt.cli import main
from gt.models.lm import count
from gt.spec import ModelSpec
from gt.study import assemble, read_yaml, resolve

GF = resolve(VARIANTS, "GF")

ALL = [component for kind in MODEL_KINDS for component in components(kind).values()]


def test_the_command_line_starts_without_torch_and_mlflow() -> None:
    code = (
        "import sys, gt.cli, gt.study, gt.catalogue; gt.study.load_study('config/studies/smoke.yaml').plan();"
        "gt.cli.main(['--help']); print([m for m in ('torch', 'mlflow', 'pandas', 'fla', 'triton') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_help_needs_no_model_of_anything() -> None:
    code = "import sys, gt.cli; gt.cli.main(['--help']); gt.cli.main(['train', '--help']); print('pydantic' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "False"


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, list[str]]:
    """What `gt list` prints of each name: the words of its first line."""
    assert main(["list", *arguments]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line and not line.startswith(" ")]
    return {words[0]: words[1:] for words in lines}


def test_the_list_has_every_component_with_what_it_has_and_costs(capsys: pytest.CaptureFixture[str]) -> None:
    rows = listed(capsys, "--context", "100")
    for component in ALL:
        parameters, state, flops, origin, *rest = rows[component.name]
        assert origin == component.module.split(".")[0]
        assert parameters == f"{component.parameters:,}"
        assert (state, flops) == tuple(f"{n:,}" for n in component.costs(100))
        assert rest[0] == component.formula.split()[0]
    # GF's gate reads two branches of width 128; attention keeps 100 keys and values.
    assert rows["gated"][1:3] == ["0", "512"]
    assert rows["attention"][1] == f"{2 * 128 * 100:,}"


def test_the_list_is_of_the_kinds_that_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(listed(capsys, "fusions", "feed-forward")) >= set(components("fusion")) | set(components("feed_forward"))
    assert not set(listed(capsys, "fusion", "feed_forward")) & set(components("mixer"))
    assert main(["list", "fusoins"]) == 2
    assert "unknown kind of components 'fusoins'. Did you mean 'fusions'?" in capsys.readouterr().err


@pytest.mark.parametrize("component", ALL, ids=lambda c: f"{c.kind}-{c.name}")
def test_one_component_is_shown_with_its_options(component: Component, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", component.kind.replace("_", "-"), component.name]) == 0
    printed = capsys.readouterr().out
    flat = " ".join(printed.split())
    assert component.formula in flat and component.source in flat
    assert f"{component.module.split('.')[0]} ({component.module}.{component.class_name})" in flat
    rows = [line.split() for line in printed.split("\n\n")[-1].splitlines() if not line.startswith(" ")]
    shown = {words[0]: words[1] for words in rows if len(words) > 1 and words[0] in component.options}
    assert shown == {name: json.dumps(default).split()[0] for name, (_, default) in component.options.items()}


def test_an_option_is_shown_with_what_it_may_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "fusion", "gated"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^gate_init +0\.5 +number above 0 below 1\b", printed, re.MULTILINE)
    assert re.search(r"^gate_weight_init +\"zero\" +zero, normal\b", printed, re.MULTILINE)
    assert main(["show", "fusion", "gatde"]) == 2
    assert "unknown fusion 'gatde'. Did you mean 'gated'?" in capsys.readouterr().err


@pytest.mark.parametrize("scale", ["tiny", "4M"])
def test_the_list_of_variants_counts_each_at_a_scale(scale: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = listed(capsys, "--variants", "--scale", scale)
    assert set(VARIANTS) <= set(rows)
    # Two have sizes of heads of their own, which do not divide a width of 144.
    misfits = {name for name in VARIANTS if rows[name][:3] == ["not", "at", "this"]}
    assert misfits == ({"GF-isostate", "HeadNorm"} if scale == "4M" else set())
    if scale == "tiny":
        counted = count(ModelSpec.model_validate(assemble(read_yaml(CONFIG / "scales.yaml")["tiny"], GF.model)), 16_000, 256)
        assert rows["GF"][:3] == [
            f"{n:,}" for n in (counted.n_params_non_embedding, counted.state_size, counted.flops_per_token)
        ]


def test_an_unknown_scale_is_answered_with_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--variants", "--scale", "9M"]) == 2
    assert "unknown scale '9M'" in capsys.readouterr().err


def test_training_on_a_cpu_imports_no_gpu_package() -> None:
    modules = ("fla", "triton", "mamba_ssm")
    code = f"import sys, gt.training.loop, gt.evals.evaluation; print([m for m in {modules} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
