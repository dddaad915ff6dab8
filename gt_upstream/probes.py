"""The canary tests of the earlier repository as it computed them: on the untrained network, and on random tokens.

Its first branch was a second network with other weights, an error that is not repeated here; of the second branch it took the
last output of the mixer for a state.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gt.evals.subject import Subject
from gt.metrics import BRANCH, Measurement, Metric
from gt.probes.base import Probe
from gt.probes.gradients import between, mean, norms_of, of_loss
from gt.probes.measures import fetched
from gt.probes.states import Scalar, distance, norm, number, read, with_another_start
from gt.probes.texts import SEQUENCES
from gt.seeds import torch_stream

if TYPE_CHECKING:
    from gt.probes.network import Network

STATES = "upstream flaw F-08"


class Recorded(Probe):
    """G4, S1, S4, D1, D2, D3 and D4 in the earlier repository's own form."""

    name = "recorded"
    plain = False  # the earlier repository's tests show them
    metrics = (
        Metric(
            "record/gradient_ratio",
            "ratio R/M of the branches' gradient norms as the record took it",
            definition="G4: gradient/tensor_ratio of the initial network on random tokens and targets",
            source="upstream flaw F-04",
        ),
        Metric(
            "record/state_norm/<branch>",
            "norm of the <branch> state as the record took it",
            axes=(BRANCH,),
            definition="S1: norm of the first branch's state, of the second's last output; last layer, on random tokens",
            source=STATES,
        ),
        Metric(
            "record/state_growth/<branch>",
            "growth of the <branch> state as the record took it",
            axes=(BRANCH,),
            definition="D1: the same at 4 T over that at T/2",
            source=STATES,
        ),
        Metric(
            "record/state_variance_ratio",
            "variance of the first branch's state over the second's as the record took it",
            definition="S4: variance of the first branch's state over that of the second's last output",
            source=STATES,
        ),
        Metric(
            "record/input_variance/<branch>",
            "variance of the <branch> state over inputs as the record took it",
            axes=(BRANCH,),
            definition="D2: variance over random inputs of that state and that output",
            source=STATES,
        ),
        Metric(
            "record/state_norm_share",
            "second branch's share of the state norms as the record took it",
            definition="D3: the second branch's share of the sum of both record/state_norm",
            source="upstream flaw F-25",
        ),
        Metric(
            "record/response",
            "relative change of the logits to the first token as the record took it",
            definition="D4: response/logits of the initial network on random tokens",
            source=STATES,
        ),
    )

    def measure(self, network: Network) -> Iterator[Measurement]:
        initial = network.initial.subject
        yield gradient_ratio(initial, network.batches[0].shape)
        if initial.model.fusions():
            yield from of_states(initial, network.texts.shape[1] - 1)


def gradient_ratio(initial: Subject, shape: torch.Size) -> Measurement:
    """The mean over tensors of the norms of gradients, of random tokens and targets. shape: of the batch."""
    generator = torch_stream(initial.spec.seed, "record_gradients")
    batch = torch.randint(initial.tokens.vocab_size, shape, generator=generator).to(initial.device)
    norms = norms_of(of_loss(initial.model, batch, initial.spec.training.precision))
    return Measurement("record/gradient_ratio", {}, between(initial.model, norms, mean))


def of_states(initial: Subject, time: int) -> Iterator[Measurement]:
    """On random tokens, in the last layer: the first branch's state and, for the second, the last output of its mixer."""
    seen = read(initial, _random(initial, time))
    letters = initial.model.spec.layer_list()[-1]
    last = {site.branch: site for site in seen.memories}  # the sites are in the order of the layers
    if set(last) < set(letters):
        return
    first = {stop: state[:SEQUENCES] for stop, state in seen.memories[last[letters[0]]].items()}
    second = {stop: output[:SEQUENCES] for stop, output in seen.outputs[last[letters[1]]].items()}
    norms = [norm(first[1]), norm(second[1])]
    of_branch: dict[tuple[str, str], Scalar] = {}
    for letter, at, own in ((letters[0], first, norms[0]), (letters[1], second, norms[1])):
        of_branch["record/state_norm/<branch>", letter] = own
        of_branch["record/input_variance/<branch>", letter] = at[1].var(0).mean()
        if 4 in at and 0.5 in at:
            of_branch["record/state_growth/<branch>", letter] = (norm(at[4]), norm(at[0.5]))
    logits = seen.logits[1]
    of_model: dict[str, Scalar] = {
        "record/state_norm_share": (norms[1], norms[0] + norms[1]),
        "record/state_variance_ratio": (first[1].var(), second[1].var()),
        "record/response": distance(logits[:SEQUENCES], logits[SEQUENCES:]),
    }
    by_branch, by_name = fetched((of_branch, of_model))
    for (metric, letter), value in by_branch.items():
        yield Measurement(metric, {"branch": letter}, number(value))
    for metric, value in by_name.items():
        yield Measurement(metric, {}, number(value))


def _random(subject: Subject, time: int) -> Tensor:
    """Random tokens, and the same with another first one: (2 n, time)."""
    generator = torch_stream(subject.spec.seed, "record_states")
    tokens = torch.randint(subject.tokens.vocab_size, (SEQUENCES, time), generator=generator).to(subject.device)
    return torch.cat([tokens, with_another_start(subject, tokens)])
