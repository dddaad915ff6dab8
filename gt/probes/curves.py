"""What training logged: the gates' drift, the course of gradients and updates, and what the red flags of document 1 judge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from gt.artefacts import Manifest
from gt.probes.gradients import over_odds
from gt.probes.measures import Measures, by_layer, one, ratio

TENTH = 0.1
# FLOP/s of dense matrix products in bfloat16, by a part of the card's name.
PEAK = {"A100": 312e12, "H100": 989e12, "H200": 989e12}


def from_curves(run: Path, letters: list[str]) -> Measures:
    """run: the folder of a record with curves.parquet. letters: of its branches, in their order."""
    curves = pd.read_parquet(run / "curves.parquet")
    columns = [str(column) for column in curves]
    result: Measures = {}
    if "gate/mean" in columns and len(gates := curves["gate/mean"].dropna()):
        layers = {int(c.rsplit("_", 1)[1]): curves[c].dropna() for c in columns if c.startswith("gate/layer_")}
        drift = {layer: float(values.iloc[-1] - values.iloc[0]) for layer, values in layers.items() if len(values)}
        result["gate/drift"] = by_layer(drift, float(gates.iloc[-1] - gates.iloc[0]))
    late = curves[curves["step"] > (1 - TENTH) * curves["step"].max()]
    for column in columns:
        what, _, part = column.partition("/")
        if what == "grad_cosine":
            # The first step has no step before it.
            result[f"gradient/smoothness/{part}"] = one(_mean(curves[column][curves["step"] > 1]))
        if what == "update_ratio":
            result[f"gradient/update_ratio/{part}"] = one(_mean(late[column]))
    if len(letters) == 2:
        final = ratio(*(_last(curves[f"grad_norm/mixers.{letter}"]) for letter in letters))
        result["gradient/curve_ratio"] = one(final)
        gate = _last(curves["gate/mean"]) if "gate/mean" in columns else None
        result["gradient/curve_odds_corrected_ratio"] = one(over_odds(final, gate))
    val, train = curves["val/loss"].dropna(), late["train/loss"]
    result["curve/grad_norm"] = one(_last(curves["grad_norm"]))
    if len(val):
        result["curve/loss_ratio"] = one(ratio(float(val.iloc[-1]), float(val.iloc[0])))
        middle = float(np.interp(curves["step"].max() / 2, curves["step"][val.index], val))
        result["flag/second_half"] = one(ratio(middle - float(val.iloc[-1]), float(val.iloc[0] - val.iloc[-1])))
        result["flag/generalisation_gap"] = one(float(val.iloc[-1]) - mean if (mean := _mean(train)) is not None else None)
    return result


def utilisation(manifest: Manifest) -> Measures:
    """The FLOP/s of training, three forward passes a token, over those that the card can do; of a known card alone."""
    peak = next((value for name, value in PEAK.items() if name in (manifest.device or "")), None)
    speed = 3 * manifest.flops_per_token * manifest.tokens_per_second
    return {"flag/utilisation": one(speed / peak)} if peak else {}


def _mean(values: pd.Series) -> float | None:
    known = values.dropna()
    return float(known.mean()) if len(known) else None


def _last(values: pd.Series) -> float | None:
    known = values.dropna()
    return float(known.iloc[-1]) if len(known) else None
