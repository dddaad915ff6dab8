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
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from gt.evals.generation import state_tensors
from gt.evals.subject import Subject, hooked
from gt.models.lm import LanguageModel, audit
from gt.models.mixers.base import State
from gt.models.mixers.wrap import unwrapped
from gt.probes.measures import Measures, by_layer, fetched, one, ratio
from gt.probes.sites import Site, sites
from gt.seeds import torch_stream
from gt.training.losses import autocast, cross_entropies

# Where states are looked at, in trained lengths T, and how many texts are read so far.
STOPS = (0.25, 0.5, 1, 2, 4)
SEQUENCES = 10
UNVARYING = 0.01  # an element that varies less over inputs, as a share of its mean square, is saturated
# A number that is still on its device, or the two of which it is the fraction.
Scalar = Tensor | tuple[Tensor, Tensor]


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


def states(subject: Subject, model: LanguageModel, texts: Tensor) -> Measures:
    """Everything about the states of a network of the subject's on held-out texts (n, time + 1)."""
    return _measures(subject, model, texts, read(model, _side_by_side(subject, texts), subject))


def before_training(subject: Subject, initial: LanguageModel, texts: Tensor) -> tuple[Measures, Measures]:
    """The same of the initial network; and S1, S4, D1, D2, D3 and D4 as the record computed them, from one reading."""
    tokens = torch.cat([_side_by_side(subject, texts), _random(subject, texts.shape[1] - 1)])
    seen = read(initial, tokens, subject)
    recorded = slice(4 * len(texts), None)
    return _measures(subject, initial, texts, seen), _as_recorded(initial, seen, recorded) if initial.fusions() else {}


def _side_by_side(subject: Subject, texts: Tensor) -> Tensor:
    """Each text, the same with another first token, its first token alone, and the text again: (4 n, time)."""
    tokens = texts[:, :-1]
    return torch.cat([tokens, _with_another_start(subject, tokens), tokens[:, :1].expand_as(tokens), tokens])


def _random(subject: Subject, time: int) -> Tensor:
    """The record's inputs: random tokens, and the same with another first one."""
    generator = torch_stream(subject.spec.seed, "record_states")
    tokens = torch.randint(subject.tokens.vocab_size, (SEQUENCES, time), generator=generator).to(subject.device)
    return torch.cat([tokens, _with_another_start(subject, tokens)])


def _with_another_start(subject: Subject, tokens: Tensor) -> Tensor:
    vocab, changed = subject.tokens.vocab_size, tokens.clone()
    changed[:, 0] = (tokens[:, 0] + vocab // 2) % vocab
    return changed


def _measures(subject: Subject, model: LanguageModel, texts: Tensor, seen: Reading) -> Measures:
    n, length = len(texts), subject.length
    text, other, same, again = ({s: _rows(at, slice(i * n, (i + 1) * n)) for s, at in seen.memories.items()} for i in range(4))
    of_sites: dict[str, dict[Site, Scalar]] = {}
    for site in seen.memories:
        for name, value in (
            *_of_state(text[site]),
            ("response", _distance(text[site][1], other[site][1])),
            ("repeated_token_variance", same[site][1].var()),
            *_retention(site, seen, n, subject.spec.training.precision),
        ):
            of_sites.setdefault(name, {})[site] = value
    of_model: dict[str, Scalar] = {}
    for name, stop in (("response/logits", 1), ("response/logits_4x", 4)):
        if stop in seen.logits:
            logits = seen.logits[stop]
            of_model[name] = _distance(logits[:n], logits[n : 2 * n])
    of_model |= _long_range(subject, model, seen.stream[:n], texts)
    differences = [(text[s][1] - again[s][1]).abs().max() for s in text]
    by_site, by_name, apart = fetched((of_sites, of_model, differences))

    result = _by_branch({name: {s: _number(v) for s, v in values.items()} for name, values in by_site.items()})
    declared = audit(model, length).state_size
    result["state/repeat_difference"] = one(max(apart, default=None))
    result["state/size_ratio"] = one(seen.floats / declared if declared else None)
    for measure in ("rms", "variance"):
        if ratio_ := _branch_ratio(result, f"state/{measure}"):
            result[f"state/{measure}_ratio"] = ratio_
    return result | {name: one(_number(value)) for name, value in by_name.items()}


def _as_recorded(initial: LanguageModel, seen: Reading, recorded: slice) -> Measures:
    """Untrained, on random tokens (the rows `recorded`), in the last layer: the first branch's state and, for the second, the
    last output of its mixer in place of one. (The record's first branch was a second network with other weights, an error
    that is not repeated here.)
    """
    letters = initial.spec.layer_list()[-1]
    last = {site.branch: site for site in seen.memories}  # the sites are in the order of the layers
    if set(last) < set(letters):
        return {}
    first, second = _rows(seen.memories[last[letters[0]]], recorded), _rows(seen.outputs[last[letters[1]]], recorded)
    first, second = (_rows(at, slice(SEQUENCES)) for at in (first, second))
    norms = [_norm(first[1]), _norm(second[1])]
    result: dict[str, Scalar] = {"record/state_norm_share": (norms[1], norms[0] + norms[1])}
    for letter, at, norm in ((letters[0], first, norms[0]), (letters[1], second, norms[1])):
        result[f"record/state_norm/{letter}"] = norm
        result[f"record/input_variance/{letter}"] = at[1].var(0).mean()
        if 4 in at and 0.5 in at:
            result[f"record/state_growth/{letter}"] = (_norm(at[4]), _norm(at[0.5]))
    logits = seen.logits[1][recorded]
    result["record/state_variance_ratio"] = (first[1].var(), second[1].var())
    result["record/response"] = _distance(logits[:SEQUENCES], logits[SEQUENCES:])
    return {name: one(_number(value)) for name, value in fetched(result).items()}


def held_out_texts(subject: Subject) -> Tensor:
    """Held-out texts of 4 T tokens, or of as many as there are and fit: (n, time + 1)."""
    tokens = subject.tokens.marked("val")
    length = subject.length
    time = length * max(m for m in (1, 2, 4) if m == 1 or (subject.fits(m * length) and len(tokens) > 2 * m * length))
    n = max(1, min(SEQUENCES, (len(tokens) - 1) // time))
    rows = np.stack([tokens[i * time : (i + 1) * time + 1] for i in range(n)]).astype(np.int64)
    texts = torch.from_numpy(rows).to(subject.device)
    # As inputs, tokens that no loss counts are what they are; as targets of the last measure they all count.
    return torch.where(texts < 0, ~texts, texts)


@torch.inference_mode()
def read(model: LanguageModel, tokens: Tensor, subject: Subject) -> Reading:
    """Let a network read texts (n, time) from their beginning, in pieces that end at the stops."""
    length, precision = subject.length, subject.spec.training.precision
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
    for stop, state in at.items():
        yield f"norm/{stop:g}", _norm(state)
    mean_square = s.square().mean()
    yield "rms", mean_square.sqrt()
    yield "variance", s.var(unbiased=False)
    if 0.5 in at:
        yield "change", _norm(s - at[0.5])
    if 4 in at:
        yield "growth", (_norm(at[4]), _norm(s))
    if 4 in at and 0.5 in at:
        yield "growth_8x", (_norm(at[4]), _norm(at[0.5]))
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
    norm = _norm(start.double())
    yield "retention_1", (_norm(full_1 - empty_1), norm)
    root = 1 / taken.shape[1]
    yield "retention", (_norm(seen.memories[site][2][:n] - empty_T) ** root, norm**root)


def _long_range(subject: Subject, model: LanguageModel, stream: Tensor, texts: Tensor) -> dict[str, Scalar]:
    """Perplexity of the last T of 4 T tokens over that of the first T."""
    length = subject.length
    if stream.shape[1] < 4 * length:
        return {}
    targets, at_once = texts[:, 1:], subject.at_once(length)
    losses = []
    with torch.inference_mode(), autocast(stream.device, subject.spec.training.precision):
        for piece in (slice(length), slice(-length, None)):
            rows = zip(stream[:, piece].split(at_once), targets[:, piece].split(at_once), strict=True)
            losses.append(torch.cat([cross_entropies(model.read_out(x), y) for x, y in rows]).double().mean())
    return {"long_range/perplexity_ratio": (losses[1] - losses[0]).exp()}


def _by_branch(values: dict[str, dict[Site, float | None]]) -> Measures:
    """Values of sites as measures a branch: state/<name>/<branch>; a name's further part comes after the branch."""
    result: Measures = {}
    for name, found in values.items():
        what, _, rest = name.partition("/")
        for letter in dict.fromkeys(site.branch for site in found):
            layers = {site.layer: value for site, value in found.items() if site.branch == letter and value is not None}
            result["/".join(filter(None, ("state", what, letter, rest)))] = by_layer(layers)
    return result


def _branch_ratio(result: Measures, name: str) -> dict[str, Any] | None:
    """A measure of the first branch over that of the second, where there are two with states."""
    letters = [key.rsplit("/", 1)[1] for key in result if key.rsplit("/", 1)[0] == name]
    if len(letters) != 2:
        return None
    first, second = (result[f"{name}/{letter}"] for letter in letters)
    layers = {int(i): r for i in first["layers"] if (r := ratio(first["layers"][i], second["layers"].get(i))) is not None}
    return by_layer(layers, ratio(first["value"], second["value"]))


def _first(state: State, n: int) -> State:
    """The first n texts' part of what a mixer hands on."""
    return tree_map(lambda tensor: tensor[:n], state)


def _rows(at: dict[float, Tensor], rows: slice) -> dict[float, Tensor]:
    return {stop: tensor[rows] for stop, tensor in at.items()}


def _number(value: float | tuple[float, float]) -> float | None:
    """What a scalar that was fetched is; nothing where it divides by zero."""
    return ratio(*value) if isinstance(value, tuple) else value


def _norm(s: Tensor) -> Tensor:
    """The L2 norm of (n, ...), averaged over n."""
    return s.flatten(1).norm(dim=1).mean()


def _distance(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """|a - b| / |a| over everything but the first dimension, averaged over it."""
    return _norm(a.double() - b.double()), _norm(a.double())


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
