"""An evaluation with a metric of its own, a probe, and a claim on that metric, added by a lab: no file of gt changes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import records
import torch
from probed import small_text, written
from variants import tiny

from gt import catalogue, fingerprint, known_code, project, registry
from gt.analysis.aggregate import aggregate
from gt.analysis.verdicts import judge
from gt.artefacts import read_evaluation, read_evaluations, read_probes, read_run, write
from gt.asked import Asked
from gt.cli import main
from gt.data import ngram
from gt.errors import ConfigError
from gt.evals.evaluation import evaluate
from gt.fingerprint import code_of_evaluation, code_of_probes
from gt.probes.probe import probe
from gt.report.render import render
from gt.tracking import child

CPU = torch.device("cpu")
EVALUATION = '''
import torch
from gt.evals.base import Evaluation
from gt.metrics import Axis, Measurement, Metric
from gt.options import Count, Options

KIND = Axis("kind", ("exact", "near"), lambda value, mixers: {"near": "nearly"}.get(value, value))

class Echo(Evaluation):
    """How often the likeliest next token is one that was just read."""
    name = "echo"
    metrics = (Metric("echo/<kind>", "share of <kind> echoes", axes=(KIND, Axis("length", "[0-9]+")), better="lower"),)
    class Config(Options):
        windows: Count = 4
    def measure(self, subject):
        for length in (8, 16):
            tokens = torch.from_numpy(subject.tokens.val[: self.config.windows * length].astype("int64")).view(-1, length)
            guesses = subject.last_logits(tokens, length).argmax(-1)
            yield Measurement("echo/<kind>", {"kind": "exact", "length": length}, (guesses == tokens).float().mean())
'''
PROBE = '''
from gt.metrics import LAYER, Metric, over_layers
from gt.probes.base import Probe

class Weights(Probe):
    """How large the weights of a layer are."""
    name = "weights"
    metrics = (Metric("weights/norm", "norm of a layer's weights", axes=(LAYER,), initial=True),)
    def measure(self, network):
        norms = {i: sum(float(p.square().sum()) for p in b.parameters()) ** 0.5 for i, b in enumerate(network.model.blocks())}
        yield from over_layers("weights/norm", norms)
'''
CLAIM = """
L-1:
  title: Gates echo less
  sentence: A gated fusion echoes less than none.
  source: this lab
  family: echoes
  study: synthetic
  seeds: 3
  predicate:
    - {test: compare, metric: echo/near, a: {variant: GF, at: 8}, b: {variant: GPT-2, at: 8}, is: lower}
"""


def forget() -> None:
    """What is known of a project and its components, as in another process."""
    caches = (catalogue.components, catalogue._files, catalogue._tree, catalogue._attribute, project.package)
    for name in [own for own in sys.modules if own.partition(".")[0] == "outsiders"]:
        del sys.modules[name]
    for cached in (*caches, registry.metrics, registry.named, fingerprint._code, fingerprint._packages, known_code._sum):
        cached.cache_clear()


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "lab"
    (folder / "outsiders").mkdir(parents=True)
    (folder / "pyproject.toml").write_text('[tool.groundthink]\npackage = "outsiders"\n')
    (folder / "outsiders/__init__.py").write_text("")
    (folder / "outsiders/evaluations.py").write_text(EVALUATION)
    (folder / "outsiders/probes.py").write_text(PROBE)
    (folder / "claims").mkdir()
    (folder / "claims/claims.yaml").write_text(CLAIM)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    forget()
    yield folder
    forget()


def test_they_are_this_short() -> None:
    assert [len(text.strip().splitlines()) for text in (EVALUATION, PROBE, CLAIM)] <= [20, 20, 10]


def test_they_measure_a_trained_run(lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = small_text(lab)
    ngram.prepare(data)
    run = written(tmp_path, data, tiny("GF"))
    other = Asked.of({"name": "echo", "windows": 2})
    evaluate(run, data, CPU, ["echo", other.text])
    found = read_evaluations(run)
    assert set(found) == {"echo", other.label}
    assert (found["echo"].settings, found[other.label].settings) == ({"windows": 4}, {"windows": 2})
    assert [(own.name, own.at) for own in found["echo"].measurements] == [("echo/exact", 8), ("echo/exact", 16)]
    probe(run, data, CPU)
    norms = {(own.name, own.layer) for own in read_probes(run).measurements if own.metric.endswith("weights/norm")}
    assert norms == {(name, layer) for name in ("weights/norm", "initial/weights/norm") for layer in (None, 0, 1)}
    # They are made again where their own code changed, and not otherwise.
    spec = read_run(run)[0]
    assert code_of_evaluation(spec, "echo") == read_evaluation(run, "echo").code
    before, held_out = code_of_probes(spec), code_of_evaluation(spec, "held_out")
    (lab / "outsiders/evaluations.py").write_text(EVALUATION.replace("argmax", "argmin"))
    (lab / "outsiders/probes.py").write_text(PROBE.replace("** 0.5", "** 0.25"))
    forget()
    assert code_of_evaluation(spec, "echo") != read_evaluation(run, "echo").code
    assert code_of_evaluation(spec, "held_out") == held_out
    assert code_of_probes(spec) != before


def test_they_are_listed(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "evaluations", "probes"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "measures: echo/<kind>" in said and "options: windows=4" in said and "measures: weights/norm" in said
    assert main(["show", "evaluation", "echo"]) == 0
    assert "share of <kind> echoes" in capsys.readouterr().out


def test_they_are_in_tables_report_prose_and_mlflow(lab: Path, tmp_path: Path) -> None:
    plan = records.plan(seeds=3, variants={"GPT-2": 0.0, "GF": 0.0}, tokenizers=("char",)) | {"evaluations": ["echo"]}
    runs = tmp_path / "runs"
    records.write_runs(plan, runs)
    for cell in plan["cells"]:
        for seed, run in cell["runs"].items():
            share = 0.2 + 0.002 * int(seed) if cell["variant"] == "GF" else 0.4 + 0.001 * int(seed)
            measured = [records.of("echo/<kind>", share + length / 100, kind="near", length=length) for length in (8, 16)]
            records.write_evaluation(runs / run, "echo", measured)
            records.write_probes(runs / run, {"weights/norm": {"value": 3.0, "layers": {"0": 2.0, "1": 4.0}}})
    study, own = tmp_path / "study", records.planned(plan)
    write(study / "plan.json", own)
    aggregate(own, runs, study)
    evaluations, probes = (pd.read_parquet(study / f"{name}.parquet") for name in ("evaluations", "probes"))
    assert set(evaluations[evaluations["metric"] == "echo/near"]["at"]) == {8, 16}
    assert sorted(probes[probes["name"] == "weights/norm"]["layer"].dropna().unique()) == [0, 1]
    (judged,) = judge(study, lab / "claims")
    assert judged.verdict == "supported"
    assert judged.tests[0].words == "share of nearly echoes: GF at 8 − GPT-2 at 8 < 0"
    render([study], study, Path(catalogue.__file__).parents[1] / "report_templates", lab / "claims")
    said = (study / "report.md").read_text()
    assert "Share of nearly echoes" in said and "Norm of a layer's weights" in said
    assert "Share of nearly echoes (`echo/near`)" in said
    cell = own.cells[0]
    from gt.analysis.reading import read_record

    entry = child(cell, 0, read_record(runs / cell.runs[0], cell.runs[0]), own.spec(cell), [])
    points = {name: value for name, value, _, _ in entry.metrics}
    assert points["echo/near/at_8"] == pytest.approx(0.48) and points["weights/norm"] == 3.0


def test_a_study_names_them_with_options_and_a_wrong_name_has_the_nearest(lab: Path) -> None:
    assert Asked.of("echo").document == "echo"
    assert Asked.of({"name": "echo", "windows": 4}).document == "echo"  # the default
    assert Asked.of({"name": "echo", "windows": 5}).document == {"name": "echo", "windows": 5}
    with pytest.raises(ConfigError, match="unknown evaluation 'ecko'. Did you mean 'echo'"):
        Asked.of("ecko")
    with pytest.raises(ConfigError, match="echo: windows"):
        Asked.of({"name": "echo", "windows": 0})
    with pytest.raises(ConfigError, match="unknown key 'window'"):
        Asked.of({"name": "echo", "window": 1})


def test_a_measurement_of_no_declared_metric_is_refused(lab: Path, tmp_path: Path) -> None:
    (lab / "outsiders/evaluations.py").write_text(EVALUATION.replace('Measurement("echo/', 'Measurement("ecko/'))
    forget()
    data = small_text(lab)
    with pytest.raises(ConfigError, match=r"outsiders\.evaluations\.Echo: 'ecko/<kind>' is none of its metrics"):
        evaluate(written(tmp_path, data, tiny("GF")), data, CPU, ["echo"])
