"""`probes.json`: everything that is measured inside a trained network. Needs no training, and a fifth of its time at most."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from gt.artefacts import Measure, Probes, check, now, read_manifest, write
from gt.data.batches import whole_windows
from gt.evals.subject import Subject
from gt.fingerprint import code_of_probes
from gt.models.lm import LanguageModel
from gt.probes import gradients, states
from gt.probes.ablation import ablation, slice_size
from gt.probes.activity import LOGITS, TOKENS, activity
from gt.probes.curves import from_curves, utilisation
from gt.probes.gates import advantage, gates, projection_ratio, token_classes
from gt.probes.measures import Measures, one
from gt.probes.metrics import metric
from gt.probes.sites import branches
from gt.probes.softmax import softmax
from gt.probes.variance import noise_gain, variance
from gt.records import CURVES, PROBES, WEIGHTS
from gt.seeds import Streams
from gt.training.flat import part
from gt.training.provenance import device_name


def probe(run: Path, data: Path, device: torch.device) -> None:
    """Write `probes.json` into a run record.

    The names are those of `gt.probes.metrics`; what a model does not have is not there, and what has no number is null. A run
    that diverged has no measures. ConfigError where the record has no weights, is damaged, or belongs to other data or code.
    """
    manifest = read_manifest(run)
    check(manifest, run / CURVES)
    subject = Subject.load(run, data, device)
    measures = measure(subject, run) | utilisation(manifest) if manifest.status == "completed" else {}
    found = Probes(
        run_id=manifest.run_id,
        weights=manifest.files[WEIGHTS].sha256,
        code=code_of_probes(subject.spec),
        measured=now(),
        device=device_name(device),
        measures={name: Measure.model_validate(own) for name, own in measures.items()},
    )
    write(run / PROBES, found)


def measure(subject: Subject, run: Path) -> Measures:
    """All measures of a subject, whose record is `run`."""
    training = subject.spec.training
    n_targets = slice_size(training.steps * training.batch_size * subject.length)
    windows = torch.from_numpy(whole_windows(subject.tokens.marked("val"), subject.length, n_targets))
    windows = windows.to(subject.device)
    small = windows[: max(1, min(TOKENS, LOGITS // subject.tokens.vocab_size) // subject.length)]
    texts, held_out = states.held_out_texts(subject), gradients.batches(subject, windows)
    initial = initial_model(subject)

    trained = _of_network(subject, subject.model, small) | states.states(subject, subject.model, texts)
    initial_states, recorded = states.before_training(subject, initial, texts)
    before = _of_network(subject, initial, small) | initial_states
    found = gradients.of_loss(initial, held_out[0], training.precision)
    before |= gradients.ratios(initial, found, held_out[0], training.precision, _value(before, "gate/mean"))
    before |= gradients.reach(initial, held_out[0], training.precision)
    result = ablation(subject, windows)
    result |= trained | gradients.gradients(subject, held_out, _value(trained, "gate/mean"))
    result |= {f"initial/{name}": own for name, own in before.items() if metric(name).initial}
    result |= recorded | gradients.as_recorded(subject, initial, held_out[0].shape)
    return result | _parameters(subject.model) | from_curves(run, branches(subject.model))


def initial_model(subject: Subject) -> LanguageModel:
    """The network that the subject's training started from: the seed says it all."""
    model = LanguageModel(subject.spec.model, subject.tokens.vocab_size)
    model.reset_parameters(Streams(subject.spec.seed))
    return model.to(subject.device).eval()


def _of_network(subject: Subject, model: LanguageModel, windows: Tensor) -> Measures:
    """What is measured alike on the trained network and on the initial one."""
    seen = activity(model, windows, subject.spec.training.precision)
    classes = token_classes(subject.tokens, subject.data, windows)
    return {
        **gates(seen, classes),
        **advantage(seen, model),
        **projection_ratio(seen, model),
        **variance(seen, branches(model)),
        **noise_gain(model, subject.device),
        **softmax(seen.logits),
    }


def _parameters(model: LanguageModel) -> Measures:
    """How many each part of a model has."""
    counts: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        counts[part(name)] = counts.get(part(name), 0) + parameter.numel()
    return {f"parameters/{name}": one(count) for name, count in counts.items()}


def _value(measures: Measures, name: str) -> float | None:
    return measures[name]["value"] if name in measures else None
