"""`probes.json`: everything that is measured inside a trained network. Needs no training, and a fifth of its time at most."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from gt.artefacts import Probes, check, now, read_manifest, write
from gt.catalogue import components
from gt.evals.evaluation import declared
from gt.evals.subject import Subject
from gt.fingerprint import code_of_probes
from gt.metrics import INITIAL, Measurement
from gt.probes.network import Network
from gt.records import CURVES, PROBES, WEIGHTS
from gt.training.provenance import device_name

DIGITS = 6  # of a number that are written


def probe(run: Path, data: Path, device: torch.device) -> None:
    """Write `probes.json` into a run record, with what all probes measure.

    What a model does not have is not there, and what has no number is null. A run that diverged has no measurements.
    ConfigError where the record has no weights, is damaged, or belongs to other data or code.
    """
    manifest = read_manifest(run)
    check(manifest, run / CURVES)
    subject = Subject.load(run, data, device)
    found = Probes(
        run_id=manifest.run_id,
        weights=manifest.files[WEIGHTS].sha256,
        code=code_of_probes(subject.spec),
        measured=now(),
        device=device_name(device),
        measurements=list(probed(Network(subject, run))) if manifest.status == "completed" else [],
    )
    write(run / PROBES, found)


def probed(network: Network) -> Iterator[Measurement]:
    """What all probes measure of a trained network, and of the one that its training started from."""
    for component in components("probe").values():
        own = component.load()()
        initial = {metric.name for metric in component.metrics if metric.initial}
        for found in declared(component, own.measure(network)):
            yield _short(found)
        for found in declared(component, own.measure(network.initial)) if initial else ():
            if found.metric in initial:
                yield _short(replace(found, metric=f"{INITIAL}{found.metric}"))


def _short(own: Measurement) -> Measurement:
    return own if own.value is None else replace(own, value=float(f"{own.value:.{DIGITS}g}"))
