"""Generating text one token after the other: a recurrent model in constant memory, attention with a cache that grows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from gt.data.codecs import REPLACEMENT
from gt.data.tokenizers import load_tokenizer
from gt.errors import ConfigError
from gt.evals.subject import Subject
from gt.models.lm import LanguageModel
from gt.seeds import torch_stream
from gt.training.losses import autocast

Json = dict[str, Any]
Chooser = Callable[[Tensor], Tensor]  # logits (batch, vocab) -> tokens (batch, 1)
# Of the trained length: where speed and memory are measured, over so many tokens.
MULTIPLES = (1, 4, 16)
TIMED = 32


class Sampler:
    """Draws from softmax(logits / temperature) among the `top_k` most likely tokens; temperature 0: the most likely one.

    Draws are made on the CPU, from a stream of the seed: the same seed gives the same text on one device.
    """

    def __init__(self, temperature: float = 1.0, top_k: int | None = None, seed: int = 0) -> None:
        if not 0 <= temperature < math.inf:
            raise ConfigError(f"temperature {temperature} is not allowed. Allowed: 0 (the most likely token), or more.")
        if top_k is not None and top_k < 1:
            raise ConfigError(f"top-k {top_k} is not allowed. Allowed: 1 or more.")
        self.temperature, self.top_k, self.stream = temperature, top_k, torch_stream(seed, "sample")

    def __call__(self, logits: Tensor) -> Tensor:
        if self.temperature == 0:
            return greedy(logits)
        scores = logits.double().cpu()
        scores = (scores - scores.max(-1, keepdim=True).values) / self.temperature
        if self.top_k is not None and self.top_k < scores.shape[-1]:
            scores[scores < scores.topk(self.top_k).values[:, -1:]] = -torch.inf
        return torch.multinomial(scores.softmax(-1), 1, generator=self.stream).to(logits.device)


def greedy(logits: Tensor) -> Tensor:
    """The most likely token."""
    return logits.argmax(-1, keepdim=True)


@torch.inference_mode()
def generate(
    model: LanguageModel, prompt: Tensor, length: int, choose: Chooser, precision: str
) -> Iterator[tuple[Tensor, Any]]:
    """Continue (batch, n) tokens, n > 0, by `length` tokens. Yields each (batch, 1) and the state before it was read.

    ConfigError for a length below 1, and where a table of learned positions is too short for prompt and text.
    """
    if length < 1:
        raise ConfigError(f"length {length} is not allowed. Allowed: 1 or more.")
    rows = model.spec.max_positions
    if model.position is not None and prompt.shape[1] + length - 1 > rows:
        raise ConfigError(f"this model has positions for {rows} tokens, prompt and text together; {length} more are too many.")
    tokens, state = prompt, None
    for _ in range(length):
        with autocast(prompt.device, precision):
            logits, state = model(tokens, state)
        tokens = choose(logits[:, -1].float())
        yield tokens, state


def sample(run: Path, data: Path, device: torch.device, prompt: str, length: int, choose: Chooser, out: TextIO) -> str:
    """Write prompt and continuation of a run's model to `out` as it comes. Returns what it took, in a line.

    ConfigError for a prompt without tokens or with characters that the model does not know.
    """
    subject, tokenizer = Subject.load(run, data, device), load_tokenizer(data)
    ids = tokenizer.encode(prompt)
    if not len(ids):
        raise ConfigError("the prompt is empty; the model needs at least one token to begin with.")
    if unknown := tokenizer.unknown(ids):
        raise ConfigError(
            f"prompt {prompt!r}: {unknown} of its characters do not occur in the text that {run.name} learnt from."
        )
    tokens = torch.from_numpy(ids).view(1, -1).to(device)
    out.write(prompt)
    pending: list[int] = []
    start = time.perf_counter()
    for token, _ in generate(subject.model, tokens, length, choose, subject.spec.training.precision):
        pending.append(int(token))
        text = tokenizer.decode(pending)
        if not text.endswith(REPLACEMENT):  # a byte-level token may end inside a character
            out.write(text)
            out.flush()
            pending = []
    out.write(tokenizer.decode(pending))
    seconds = time.perf_counter() - start
    return f"{length} tokens, {length / seconds:,.0f} tokens/s"


def state_bytes(state: Any) -> int:
    """What a state takes, as the sum of its tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in state_tensors(state))


def state_tensors(state: Any) -> list[Tensor]:
    """All tensors of a model's state, or of a part of it."""
    return [leaf for leaf in tree_leaves(state) if isinstance(leaf, Tensor)]


def generation(subject: Subject) -> Json:
    """Greedy generation of one sequence up to T, 4 T and 16 T tokens: the tokens/s of the last 32 of them, the state in bytes,
    and on a GPU the peak of memory meanwhile, beyond the weights. Null beyond the positions of a model.
    """
    return {"lengths": [_at_length(subject, m * subject.length) for m in MULTIPLES]}


def _at_length(subject: Subject, length: int) -> Json:
    """All but the last tokens are read at once; one more and what is new to it are not timed, the last n are."""
    if not subject.fits(length):
        return {"length": length, **dict.fromkeys(("tokens_per_second", "state_bytes", "peak_bytes"))}
    on_gpu, n = subject.device.type == "cuda", min(TIMED, length // 2)
    read = np.resize(subject.tokens.train, length - n - 1).astype(np.int64)
    before = torch.cuda.memory_allocated(subject.device) if on_gpu else 0
    prompt = torch.from_numpy(read).view(1, -1).to(subject.device)
    pieces = generate(subject.model, prompt, n + 2, greedy, subject.spec.training.precision)
    for _ in range(2):
        _, state = next(pieces)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(subject.device)
    start = _clock(subject.device)
    for _, now in pieces:
        state = now
    seconds = _clock(subject.device) - start
    return {
        "length": length,
        "tokens_per_second": n / seconds,
        "state_bytes": state_bytes(state),
        "peak_bytes": torch.cuda.max_memory_allocated(subject.device) - before if on_gpu else None,
    }


def _clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
