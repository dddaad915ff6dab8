"""What takes the steps that are timed: our cohorts, or the loop that most people write."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from gt.bench.candidates import Candidate
from gt.data.slices import Places
from gt.data.tokens import Tokens
from gt.models.lm import LanguageModel
from gt.ops.backend import use
from gt.seeds import Streams, numpy_stream
from gt.spec import RunSpec
from gt.training import compiled
from gt.training.cohort import Cohort
from gt.training.losses import token_losses
from gt.training.update import Update

# As many characters as tiny Shakespeare has, and as many kinds.
TRAIN, VALIDATION, VOCABULARY = 1_003_854, 111_540, 65


class Trainer(Protocol):
    """Something that trains."""

    model: LanguageModel

    def take(self, steps: int) -> None:
        """Take steps, and wait until they are done."""


def trainer(candidate: Candidate, device: torch.device) -> Trainer:
    """What a candidate describes. It has taken no step yet."""
    tokens = noise(candidate.spec.tokenizer.vocab_size or VOCABULARY)
    return Familiar(candidate.spec, tokens, device) if candidate.familiar else Cohorts(candidate, tokens, device)


def noise(vocab_size: int) -> Tokens:
    """Tokens without structure: how long a step takes does not depend on what is learned."""
    draw = numpy_stream(0, "bench")
    train, val = (draw.integers(vocab_size, size=n).astype(np.uint16) for n in (TRAIN, VALIDATION))
    whole = Places([1, VALIDATION], [1, VALIDATION])
    return Tokens(vocab_size, train, val, None, np.ones(vocab_size, dtype=np.int64), "noise", {"val": whole})


class Cohorts:
    """Cohorts side by side, as `gt.training.loop.together` trains them."""

    def __init__(self, candidate: Candidate, tokens: Tokens, device: torch.device) -> None:
        self.backend = candidate.backend
        if self.backend is not None:
            forget_compiled()
        with self._backend():
            kind = Cohort if candidate.followed else Unfollowed
            self.cohorts = [
                kind(specs, tokens, device, engine_name=candidate.engine, compiled=candidate.compiled)
                for specs in candidate.specs()
            ]
        self.model = self.cohorts[0].model

    def take(self, steps: int) -> None:
        stop = self.cohorts[0].step + steps
        with self._backend():
            while any(cohort.step < stop for cohort in self.cohorts):
                for cohort in self.cohorts:
                    cohort.advance(stop)
                for cohort in self.cohorts:
                    cohort.collect()

    def validate(self) -> None:
        """Measure the validation loss of every run."""
        with self._backend():
            for cohort in self.cohorts:
                with cohort.engine.stream():
                    cohort.validator(cohort.engine)
            for cohort in self.cohorts:
                cohort.collect()

    def _backend(self) -> AbstractContextManager[None]:
        return use(self.backend) if self.backend is not None else nullcontext()


class ClipAndUpdate(Update):
    """An update that says nothing of itself but the norm of the gradient."""

    @torch.no_grad()
    def _apply(self, gradient: Tensor, rates: Tensor, nats: Tensor) -> Tensor:
        gradient = gradient * self.scales
        norm = gradient.square().sum((1, 2)).sqrt()
        self._clip_and_step(gradient, norm, rates, nats)
        return torch.nn.functional.pad(norm.unsqueeze(1), (0, len(self.columns) - 1))


class Unfollowed(Cohort):
    """A cohort that clips and updates, and measures nothing else for its curves."""

    update_class = ClipAndUpdate


def forget_compiled() -> None:
    """Compile everything anew from here on: what is compiled has its backend built in."""
    compiled.forget()


class Familiar:
    """A plain loop of autocast, backward, clipping and fused AdamW, with FLA's RWKV-6 and Mamba-2 in place of ours."""

    def __init__(self, spec: RunSpec, tokens: Tokens, device: torch.device) -> None:
        self.training, self.device = spec.training, device
        self.model = LanguageModel(spec.model, tokens.vocab_size)
        self.model.reset_parameters(Streams(spec.seed))
        for block in self.model.blocks():
            for letter, mixer in block.mixers.items():
                block.mixers[letter] = fla_layer(mixer)
        self.model.to(device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=spec.training.learning_rate, fused=device.type == "cuda")
        self.text = torch.from_numpy(tokens.train.astype(np.int64)).to(device)
        self.window = torch.arange(self.training.sequence_length + 1, device=device)

    def take(self, steps: int) -> None:
        torch.use_deterministic_algorithms(False)  # not what people do
        for _ in range(steps):
            starts = torch.randint(len(self.text) - len(self.window), (self.training.batch_size, 1), device=self.device)
            loss = token_losses(self.model, self.text[starts + self.window], self.training.precision).mean()
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.training.clip_norm or torch.inf)
            self.optimizer.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        torch.use_deterministic_algorithms(True)


def fla_layer(mixer: Any) -> nn.Module:
    """FLA's layer with the weights of ours; other mixers as they are."""
    if mixer.name == "rwkv6":
        from fla.layers.rwkv6 import RWKV6Attention

        layer = RWKV6Attention(
            hidden_size=mixer.d_model, expand_k=1.0, expand_v=1.0, num_heads=mixer.n_head, norm_eps=mixer.g_norm.eps
        )
    elif mixer.name == "mamba2":
        from fla.layers.mamba2 import Mamba2

        layer = Mamba2(
            hidden_size=mixer.d_model, head_dim=mixer.head_dim, state_size=mixer.d_state, chunk_size=64, backend="triton"
        )
        layer.eval()  # its path for training wants causal_conv1d's extension; that for evaluation has the same kernels
    else:
        return mixer
    layer.load_state_dict(mixer.state_dict())
    return Adapted(layer, mixer)


class Adapted(nn.Module):
    """An FLA layer where a block expects one of our mixers."""

    def __init__(self, layer: nn.Module, mixer: Any) -> None:
        super().__init__()
        self.layer = layer
        self.flops_per_token, self.state_size = mixer.flops_per_token, mixer.state_size

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, None]:
        y = self.layer(x)
        return (y[0] if isinstance(y, tuple) else y), None
