"""The real recurrent states: what they hold, how they grow with the text, and how long they keep it.

The record read the last output of its Mamba branch as that branch's "state", and the accumulator of a second, random network as
its RWKV branch's (flaws F-07, F-08). Here a hook on each mixer takes the state that it hands to the next piece of a text:
RWKV-6's (batch, head, key, value), Mamba-2's (batch, head, head dim, state), whatever the others have. Attention has a cache,
which is no state.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from gt.evals.generation import state_tensors
from gt.evals.subject import Subject, hooked
from gt.metrics import BRANCH, LAYER, Axis, Measurement, Metric, Value, over_layers
from gt.models.lm import audit
from gt.models.mixers.base import State
from gt.models.mixers.wrap import unwrapped
from gt.probes.base import Probe
from gt.probes.measures import fetched, ratio
from gt.probes.sites import Site, sites
from gt.training.losses import autocast, cross_entropies

if TYPE_CHECKING:
    from gt.probes.network import Network

# Where states are looked at, in trained lengths T.
STOPS = (0.25, 0.5, 1, 2, 4)
UNVARYING = 0.01  # an element that varies less over inputs, as a share of its mean square, is saturated
# A number that is still on its device, or the two of which it is the fraction.
Scalar = Tensor | tuple[Tensor, Tensor]
# A metric of a branch, and the values of its axes but the branch.
Key = tuple[str, tuple[tuple[str, Value], ...]]


LENGTH = Axis("length", ("0.25", "0.5", "1", "2", "4"), lambda times, mixers: f"{times} times the trained length")
STATES = "upstream flaw F-08"


class States(Probe):
    """The recurrent states of a network: their size, growth, variety and memory."""

    name = "states"
    metrics = (
        Metric(
            "state/size_ratio",
            "floats in the returned states over those counted",
            definition="floats in the states that the network returns over those of its audit (S0)",
        ),
        Metric(
            "state/norm/<branch>/<length>",
            "norm of the <branch> state after <length>",
            axes=(BRANCH, LENGTH, LAYER),
            definition="L2 norm of the recurrent state of a layer after so many times the trained length",
            source=STATES,
            initial=True,
        ),
        Metric(
            "state/rms/<branch>",
            "root mean square of the <branch> state",
            axes=(BRANCH, LAYER),
            definition="root mean square of the state's elements at the trained length (T)",
            source=STATES,
            initial=True,
        ),
        Metric(
            "state/rms_ratio",
            "root mean square of the first branch's state over the second's",
            axes=(LAYER,),
            definition="state/rms of the first branch over the second's",
            source="lines 527-567 of document 3",
            initial=True,
        ),
        Metric(
            "state/growth/<branch>",
            "growth of the <branch> state's norm from 1 to 4 trained lengths",
            axes=(BRANCH, LAYER),
            definition="norm at 4 T over that at T",
            source=STATES,
            initial=True,
        ),
        Metric(
            "state/growth_8x/<branch>",
            "growth of the <branch> state's norm from half a trained length to 4",
            axes=(BRANCH, LAYER),
            definition="norm at 4 T over that at T/2: the record's D1",
            source=STATES,
            initial=True,
        ),
        Metric(
            "state/change/<branch>",
            "norm of the <branch> state's change over the second half of the trained length",
            axes=(BRANCH, LAYER),
            definition="norm of the state at T less that at T/2 (S2)",
            source="CANARY_TESTS.md",
            initial=True,
        ),
        Metric(
            "state/repeat_difference",
            "largest difference of states when a text is read again",
            definition="largest difference of states when the same text is read again (S3)",
        ),
        Metric(
            "state/variance/<branch>",
            "variance of the <branch> state",
            axes=(BRANCH, LAYER),
            definition="variance of the state's elements, over elements and inputs (S4)",
            source=STATES,
            initial=True,
        ),
        Metric(
            "state/variance_ratio",
            "variance of the first branch's state over the second's",
            axes=(LAYER,),
            definition="state/variance of the first branch over the second's (S4)",
            source=STATES,
            initial=True,
        ),
        Metric(
            "state/input_variance/<branch>",
            "variance of the <branch> state over inputs",
            axes=(BRANCH, LAYER),
            definition="variance over inputs, averaged over elements (D2)",
            source=STATES,
            initial=True,
        ),
        Metric(
            "state/input_share/<branch>",
            "share of the <branch> state that depends on the input",
            axes=(BRANCH, LAYER),
            definition="state/input_variance over the mean square",
            initial=True,
        ),
        Metric(
            "state/repeated_token_variance/<branch>",
            "variance of the <branch> state after one token repeated",
            axes=(BRANCH, LAYER),
            definition="state/variance after one token repeated T times (Task 59)",
            initial=True,
        ),
        Metric(
            "state/effective_rank/<branch>",
            "effective rank of the <branch> state",
            axes=(BRANCH, LAYER),
            definition="(sum s^2)^2 / sum s^4 of a head's singular values s",
            initial=True,
        ),
        Metric(
            "state/rank_share/<branch>",
            "effective rank of the <branch> state over the largest possible",
            axes=(BRANCH, LAYER),
            definition="the same over the largest rank possible (G3.5)",
            initial=True,
        ),
        Metric(
            "state/entropy/<branch>",
            "entropy of the <branch> state over the largest possible",
            axes=(BRANCH, LAYER),
            definition="entropy of the squared elements' shares over that of equal ones",
            initial=True,
        ),
        Metric(
            "state/saturation/<branch>",
            "share of the <branch> state's elements that hardly vary over inputs",
            axes=(BRANCH, LAYER),
            definition="share of elements that vary over inputs by under 1 % of their mean square (G3.5)",
        ),
        Metric(
            "state/cosine/<branch>",
            "cosine of the <branch> states of two inputs",
            axes=(BRANCH, LAYER),
            definition="mean cosine of the states of two inputs (G3.5)",
            initial=True,
        ),
        Metric(
            "state/retention/<branch>",
            "share of the <branch> state that survives each of many tokens",
            axes=(BRANCH, LAYER),
            definition="share of a state's difference to an empty one that each of T tokens leaves, geometric mean",
            source=STATES,
            initial=True,
        ),
        Metric(
            "state/retention_1/<branch>",
            "share of the <branch> state that survives one token",
            axes=(BRANCH, LAYER),
            definition="share of a state's difference to an empty one that one token leaves",
            source=STATES,
            initial=True,
        ),
        Metric(
            "state/response/<branch>",
            "relative change of the <branch> state when the first token is another",
            axes=(BRANCH, LAYER),
            definition="relative L2 change of the state at T when the first token is another",
            initial=True,
        ),
        Metric(
            "response/logits",
            "relative change of the logits when the first token is another",
            definition="relative L2 change of the logits at T when the first token is another (D4)",
            source=STATES,
            initial=True,
        ),
        Metric(
            "response/logits_4x",
            "relative change of the logits after 4 trained lengths when the first token is another",
            definition="the same at 4 T",
            source=STATES,
            initial=True,
        ),
        Metric(
            "long_range/perplexity_ratio",
            "perplexity of the last of 4 trained lengths over that of the first",
            better="lower",
            definition="perplexity of the last T of 4 T tokens over that of the first T",
        ),
    )

    def measure(self, network: Network) -> Iterator[Measurement]:
        yield from states(network.subject, network.texts)


@dataclass
class Reading:
    """What a network did with texts (n, time), T being the trained length.

    memories: each site's recurrent state at each stop. outputs: its mixer's last output there, (n, d_model). whole: all that
    the mixer hands on at T; taken: its inputs from there to 2 T. logits: at the end of each stop, (n, vocab). stream: the
    network's output before the head, (n, time, d_model). floats: what one text carries at T.
    """

    memories: dict[Site, dict[float, Tensor]]
    outputs: dict[Site, dict[float, Tensor]]
    whole: dict[Site, Any] = field(default_factory=dict)
    taken: dict[Site, Tensor] = field(default_factory=dict)
    logits: dict[float, Tensor] = field(default_factory=dict)
    stream: Tensor = field(default_factory=lambda: torch.empty(0))
    floats: float = 0.0


def states(subject: Subject, texts: Tensor) -> Iterator[Measurement]:
    """Everything about the states of a network on held-out texts (n, time + 1)."""
    return _measured(subject, texts, read(subject, _side_by_side(subject, texts)))


def _side_by_side(subject: Subject, texts: Tensor) -> Tensor:
    """Each text, the same with another first token, its first token alone, and the text again: (4 n, time)."""
    tokens = texts[:, :-1]
    return torch.cat([tokens, with_another_start(subject, tokens), tokens[:, :1].expand_as(tokens), tokens])


def with_another_start(subject: Subject, tokens: Tensor) -> Tensor:
    """The same texts (n, time) with another first token."""
    vocab, changed = subject.tokens.vocab_size, tokens.clone()
    changed[:, 0] = (tokens[:, 0] + vocab // 2) % vocab
    return changed


def _measured(subject: Subject, texts: Tensor, seen: Reading) -> Iterator[Measurement]:
    model, n, length = subject.model, len(texts), subject.length
    text, other, same, again = ({s: _rows(at, slice(i * n, (i + 1) * n)) for s, at in seen.memories.items()} for i in range(4))
    of_sites: dict[Key, dict[Site, Scalar]] = {}
    for site in seen.memories:
        for name, value in (
            *((f"state/{name}/<branch>", own) for name, own in _of_state(text[site])),
            ("state/response/<branch>", distance(text[site][1], other[site][1])),
            ("state/repeated_token_variance/<branch>", same[site][1].var()),
            *((f"state/{name}/<branch>", own) for name, own in _retention(site, seen, n, subject.spec.training.precision)),
        ):
            of_sites.setdefault((name, ()), {})[site] = value
        for stop, state in text[site].items():
            of_sites.setdefault(("state/norm/<branch>/<length>", (("length", stop),)), {})[site] = norm(state)
    of_model: dict[str, Scalar] = {}
    for name, stop in (("response/logits", 1), ("response/logits_4x", 4)):
        if stop in seen.logits:
            logits = seen.logits[stop]
            of_model[name] = distance(logits[:n], logits[n : 2 * n])
    of_model |= _long_range(subject, seen.stream[:n], texts)
    differences = [(text[s][1] - again[s][1]).abs().max() for s in text]
    by_site, by_name, apart = fetched((of_sites, of_model, differences))

    for (metric, axes), values in by_site.items():
        for letter, layers in _by_branch(values).items():
            yield from over_layers(metric, layers, branch=letter, **dict(axes))
    declared = audit(model, length).state_size
    yield Measurement("state/repeat_difference", {}, max(apart, default=None))
    yield Measurement("state/size_ratio", {}, seen.floats / declared if declared else None)
    for name in ("rms", "variance"):
        yield from _between(f"state/{name}_ratio", list(_by_branch(by_site.get((f"state/{name}/<branch>", ()), {})).values()))
    for name, value in by_name.items():
        yield Measurement(name, {}, number(value))


@torch.inference_mode()
def read(subject: Subject, tokens: Tensor) -> Reading:
    """Let a network read texts (n, time) from their beginning, in pieces that end at the stops."""
    model, length, precision = subject.model, subject.length, subject.spec.training.precision
    places = [site for site in sites(model) if unwrapped(site.module).axes]
    seen = Reading({site: {} for site in places}, {site: {} for site in places})
    stop = 0.0

    def keep(i: int, taken: tuple[Tensor, ...], output: tuple[Tensor, Any]) -> None:
        site = places[i]
        seen.memories[site][stop] = memory(output[1]).double()
        seen.outputs[site][stop] = output[0][:, -1].double()
        if stop == 1:
            seen.whole[site] = output[1]
        if stop == 2:
            seen.taken[site] = taken[0]

    body = segment = None
    past, streams = 0, []
    with hooked([unwrapped(site.module) for site in places], keep), autocast(tokens.device, precision):
        for stop in STOPS:
            piece = tokens[:, past : round(stop * length)]
            if round(stop * length) > tokens.shape[1] or not piece.numel():
                continue
            x, body = model.body(model.embed(piece, past, segment), body)
            segment = model.segments(piece, segment)[:, -1:] if model.segment is not None else None
            past += piece.shape[1]
            streams.append(x)
            seen.logits[stop] = model.read_out(x[:, -1]).float()
            if stop == 1:
                seen.floats = sum(tensor.numel() for tensor in state_tensors(body)) / len(tokens)
    seen.stream = torch.cat(streams, dim=1)
    return seen


def memory(state: State) -> Tensor:
    """The memory of a mixer's state as one tensor (n, ...): of several, their elements side by side (n, elements)."""
    assert state.memory is not None, "only sites with a memory are read"
    if isinstance(state.memory, Tensor):
        return state.memory
    return torch.cat([part.flatten(1) for part in state.memory], dim=1)


def _emptied(state: State) -> State:
    """The same state with nothing in its memory."""
    return state._replace(memory=tree_map(torch.zeros_like, state.memory))


def _of_state(at: dict[float, Tensor]) -> Iterator[tuple[str, Scalar]]:
    """Name and value of what a state (n, ...) at each stop says."""
    s = at[1]
    mean_square = s.square().mean()
    yield "rms", mean_square.sqrt()
    yield "variance", s.var(unbiased=False)
    if 0.5 in at:
        yield "change", norm(s - at[0.5])
    if 4 in at:
        yield "growth", (norm(at[4]), norm(s))
    if 4 in at and 0.5 in at:
        yield "growth_8x", (norm(at[4]), norm(at[0.5]))
    yield "entropy", entropy(s)
    if s.ndim > 2:
        rank, size = effective_rank(s), min(s.shape[-2:])
        yield "effective_rank", rank
        yield "rank_share", rank / size
    if len(s) > 1:
        varies = s.var(0)
        yield "input_variance", varies.mean()
        yield "input_share", (varies.mean(), mean_square)
        yield "saturation", (varies < UNVARYING * s.square().mean(0)).double().mean()
        yield "cosine", mean_cosine(s.flatten(1))


@torch.inference_mode()
def _retention(site: Site, seen: Reading, n: int, precision: str) -> Iterator[tuple[str, Scalar]]:
    """What is left of a state after one token from T, and a token on average over T: of its difference to an empty one."""
    if site not in seen.taken:
        return
    mixer, whole, taken = unwrapped(site.module), _first(seen.whole[site], n), seen.taken[site][:n]
    start, empty = memory(whole), _emptied(whole)
    with autocast(taken.device, precision):
        full_1, empty_1, empty_T = (
            memory(mixer(x, state)[1]).double() for x, state in ((taken[:, :1], whole), (taken[:, :1], empty), (taken, empty))
        )
    whole_norm = norm(start.double())
    yield "retention_1", (norm(full_1 - empty_1), whole_norm)
    root = 1 / taken.shape[1]
    yield "retention", (norm(seen.memories[site][2][:n] - empty_T) ** root, whole_norm**root)


def _long_range(subject: Subject, stream: Tensor, texts: Tensor) -> dict[str, Scalar]:
    """Perplexity of the last T of 4 T tokens over that of the first T."""
    length = subject.length
    if stream.shape[1] < 4 * length:
        return {}
    targets, at_once = texts[:, 1:], subject.at_once(length)
    losses = []
    with torch.inference_mode(), autocast(stream.device, subject.spec.training.precision):
        for piece in (slice(length), slice(-length, None)):
            rows = zip(stream[:, piece].split(at_once), targets[:, piece].split(at_once), strict=True)
            losses.append(torch.cat([cross_entropies(subject.model.read_out(x), y) for x, y in rows]).double().mean())
    return {"long_range/perplexity_ratio": (losses[1] - losses[0]).exp()}


def _by_branch(values: dict[Site, float | tuple[float, float]]) -> dict[str, dict[int, float]]:
    """Values of sites by branch and layer, those that are numbers."""
    found: dict[str, dict[int, float]] = {}
    for site, value in values.items():
        layers = found.setdefault(site.branch, {})
        if (own := number(value)) is not None:
            layers[site.layer] = own
    return found


def _between(metric: str, branches: list[dict[int, float]]) -> list[Measurement]:
    """A measure of the first branch over that of the second, where there are two with states: by layer, and of their means."""
    if len(branches) != 2:
        return []
    first, second = branches
    layers = {layer: own for layer in first if (own := ratio(first[layer], second.get(layer))) is not None}
    means = (sum(own.values()) / len(own) if own else None for own in branches)
    return over_layers(metric, layers, ratio(*means))


def _first(state: State, n: int) -> State:
    """The first n texts' part of what a mixer hands on."""
    return tree_map(lambda tensor: tensor[:n], state)


def _rows(at: dict[float, Tensor], rows: slice) -> dict[float, Tensor]:
    return {stop: tensor[rows] for stop, tensor in at.items()}


def number(value: float | tuple[float, float]) -> float | None:
    """What a scalar that was fetched is; nothing where it divides by zero."""
    return ratio(*value) if isinstance(value, tuple) else value


def norm(s: Tensor) -> Tensor:
    """The L2 norm of (n, ...), averaged over n."""
    return s.flatten(1).norm(dim=1).mean()


def distance(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """|a - b| / |a| over everything but the first dimension, averaged over it."""
    return norm(a.double() - b.double()), norm(a.double())


def effective_rank(s: Tensor) -> Tensor:
    """(sum of s_i^2)^2 / sum of s_i^4 over the singular values of matrices (..., a, b), averaged; of zero, zero."""
    gram = s @ s.transpose(-1, -2) if s.shape[-2] <= s.shape[-1] else s.transpose(-1, -2) @ s
    trace = gram.diagonal(dim1=-2, dim2=-1).sum(-1)
    return (trace.square() / gram.square().sum((-1, -2)).clamp(min=1e-300)).mean()


def entropy(s: Tensor) -> Tensor:
    """The entropy of the squared elements' shares of their sum, over that of equal shares: (n, ...), averaged over n."""
    energy = s.flatten(1).square()
    shares = energy / energy.sum(1, keepdim=True).clamp(min=1e-300)
    return torch.special.entr(shares).sum(1).mean() / (math.log(shares.shape[1]) or 1.0)  # the shares of one are certain


def mean_cosine(rows: Tensor) -> Tensor:
    """The mean cosine of two different rows."""
    unit = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-300)
    n = len(rows)
    return (unit.sum(0).square().sum() - unit.square().sum()) / (n * (n - 1))
