"""What a probe is given: a network, and held-out text to look at it with. What several probes need is made once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from gt.artefacts import Manifest, read_manifest
from gt.data.batches import whole_windows
from gt.evals.subject import Subject
from gt.models.lm import LanguageModel
from gt.probes.ablation import slice_size
from gt.probes.activity import LOGITS, TOKENS, Activity, activity
from gt.probes.sites import branches
from gt.probes.texts import batches, held_out_texts
from gt.seeds import Streams


@dataclass(frozen=True)
class Network:
    """A trained network, or the one that its training started from. run: the folder of its record."""

    subject: Subject
    run: Path
    is_initial: bool = False

    @property
    def model(self) -> LanguageModel:
        return self.subject.model

    @property
    def precision(self) -> str:
        return self.subject.spec.training.precision

    @property
    def letters(self) -> list[str]:
        """Of its branches, in their order."""
        return branches(self.model)

    @cached_property
    def initial(self) -> Network:
        """The network that training started from: the seed says it all."""
        spec, vocab = self.subject.spec, self.subject.tokens.vocab_size
        model = LanguageModel(spec.model, vocab)
        model.reset_parameters(Streams(spec.seed))
        return replace(self, subject=replace(self.subject, model=model.to(self.subject.device).eval()), is_initial=True)

    @cached_property
    def manifest(self) -> Manifest:
        """Of its record."""
        return read_manifest(self.run)

    @cached_property
    def windows(self) -> Tensor:
        """Held-out text: (n, trained length + 1) tokens."""
        training = self.subject.spec.training
        n_targets = slice_size(training.steps * training.batch_size * self.subject.length)
        windows = whole_windows(self.subject.tokens.marked("val"), self.subject.length, n_targets)
        return torch.from_numpy(windows).to(self.subject.device)

    @cached_property
    def few(self) -> Tensor:
        """The first of them, as many as go through the network at once with all that flows in it kept."""
        most = min(TOKENS, LOGITS // self.subject.tokens.vocab_size)
        return self.windows[: max(1, most // self.subject.length)]

    @cached_property
    def batches(self) -> list[Tensor]:
        """Some batches of the size of training's, (batch, trained length + 1) tokens each."""
        return batches(self.subject, self.windows)

    @cached_property
    def texts(self) -> Tensor:
        """Held-out texts of up to 4 trained lengths: (n, time + 1) tokens."""
        return held_out_texts(self.subject)

    @cached_property
    def activity(self) -> Activity:
        """All that flows between the parts of the network while it reads `few`."""
        return activity(self.model, self.few, self.precision)

    @cached_property
    def gate(self) -> float | None:
        """The mean of its gates, over layers, positions and channels; None where it has none."""
        means = [float(gate.mean(-1).double().mean()) for gate in self.activity.gates().values()]
        return sum(means) / len(means) if means else None
