"""What training logged: the gates' drift, the course of gradients and updates, and what the red flags of document 1 judge."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from gt.artefacts import Manifest
from gt.metrics import LAYER, NATS, PART, Measurement, Metric, over_layers
from gt.probes.base import Probe
from gt.probes.gradients import over_odds
from gt.probes.measures import ratio

if TYPE_CHECKING:
    from gt.probes.network import Network

TENTH = 0.1
# FLOP/s of dense matrix products in bfloat16, by a part of the card's name.
PEAK = {"A100": 312e12, "H100": 989e12, "H200": 989e12}


RED_FLAGS = "lines 127-136 of document 1"


class Trajectory(Probe):
    """What the curves and the manifest of a run say of its training."""

    name = "trajectory"
    metrics = (
        Metric(
            "gate/drift",
            "change of the mean gate weight over training",
            axes=(LAYER,),
            definition="gate/mean at the end of training less that before it",
            source="document 3 (Obs 14, 16)",
        ),
        Metric(
            "gradient/curve_ratio",
            "ratio R/M of the branches' gradient norms at the last logged step",
            definition="R/M of the last logged training step",
            source="train_v4.py L191-217",
        ),
        Metric(
            "gradient/curve_odds_corrected_ratio",
            "ratio R/M of the branches' gradient norms over the gate's odds at the last step",
            definition="the same over the last logged gate's odds",
            source="upstream flaw F-04",
        ),
        Metric(
            "gradient/smoothness/<part>",
            "cosine of successive gradients of <part> averaged over training",
            axes=(PART,),
            better="higher",
            definition="mean over training of grad_cosine",
            source="line 202 of document 3",
        ),
        Metric(
            "gradient/update_ratio/<part>",
            "update size of <part> relative to the weights late in training",
            axes=(PART,),
            definition="mean over the last tenth of training of update_ratio",
            source="upstream flaw F-04",
        ),
        Metric(
            "curve/loss_ratio",
            "last validation loss over that before training",
            better="lower",
            definition="last validation loss over that before training (G3)",
        ),
        Metric("curve/grad_norm", "last logged gradient norm", definition="last logged gradient norm (G3)"),
        Metric(
            "flag/second_half",
            "share of the loss's fall that the second half of training brought",
            better="higher",
            definition="share of the fall of the validation loss that the second half of training brought",
            source=RED_FLAGS,
        ),
        Metric(
            "flag/generalisation_gap",
            "validation less training loss at the end of training",
            NATS,
            definition="last validation loss less the training loss of the last tenth",
            source=RED_FLAGS,
        ),
        Metric(
            "flag/utilisation",
            "share of the device's peak FLOP/s that training used",
            better="higher",
            definition="FLOP/s of training over the card's peak; only on a known GPU",
            source=RED_FLAGS,
        ),
    )

    def measure(self, network: Network) -> Iterator[Measurement]:
        yield from from_curves(network.run, network.letters)
        yield from utilisation(network.manifest)


def from_curves(run: Path, letters: list[str]) -> Iterator[Measurement]:
    """run: the folder of a record with curves.parquet. letters: of its branches, in their order."""
    curves = pd.read_parquet(run / "curves.parquet")
    columns = [str(column) for column in curves]
    if "gate/mean" in columns and len(gates := curves["gate/mean"].dropna()):
        layers = {int(c.rsplit("_", 1)[1]): curves[c].dropna() for c in columns if c.startswith("gate/layer_")}
        drift = {layer: float(values.iloc[-1] - values.iloc[0]) for layer, values in layers.items() if len(values)}
        yield from over_layers("gate/drift", drift, float(gates.iloc[-1] - gates.iloc[0]))
    late = curves[curves["step"] > (1 - TENTH) * curves["step"].max()]
    for column in columns:
        what, _, part = column.partition("/")
        if what == "grad_cosine":
            # The first step has no step before it.
            yield Measurement("gradient/smoothness/<part>", {"part": part}, _mean(curves[column][curves["step"] > 1]))
        if what == "update_ratio":
            yield Measurement("gradient/update_ratio/<part>", {"part": part}, _mean(late[column]))
    if len(letters) == 2:
        final = ratio(*(_last(curves[f"grad_norm/mixers.{letter}"]) for letter in letters))
        yield Measurement("gradient/curve_ratio", {}, final)
        gate = _last(curves["gate/mean"]) if "gate/mean" in columns else None
        yield Measurement("gradient/curve_odds_corrected_ratio", {}, over_odds(final, gate))
    val, train = curves["val/loss"].dropna(), late["train/loss"]
    yield Measurement("curve/grad_norm", {}, _last(curves["grad_norm"]))
    if len(val):
        first, last = float(val.iloc[0]), float(val.iloc[-1])
        yield Measurement("curve/loss_ratio", {}, ratio(last, first))
        middle = float(np.interp(curves["step"].max() / 2, curves["step"][val.index], val))
        yield Measurement("flag/second_half", {}, ratio(middle - last, first - last))
        yield Measurement("flag/generalisation_gap", {}, None if (mean := _mean(train)) is None else last - mean)


def utilisation(manifest: Manifest) -> Iterator[Measurement]:
    """The FLOP/s of training, three forward passes a token, over those that the card can do; of a known card alone."""
    if peak := next((value for name, value in PEAK.items() if name in (manifest.device or "")), None):
        yield Measurement("flag/utilisation", {}, 3 * manifest.flops_per_token * manifest.tokens_per_second / peak)


def _mean(values: pd.Series) -> float | None:
    known = values.dropna()
    return float(known.mean()) if len(known) else None


def _last(values: pd.Series) -> float | None:
    known = values.dropna()
    return float(known.iloc[-1]) if len(known) else None
