"""Mixers. Each of those that are broken is the good one with a mistake that people make."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from gt.errors import ConfigError
from gt.models.init import normal_
from gt.models.mixers.base import Mixer, State
from gt.options import Options
from gt.seeds import Streams


class Leaky(Mixer):
    """A leaky sum of each channel.

    Formula: h_t = a h_{t-1} + W x_t, y_t = U h_t, a = sigmoid(rate)
    Source: an example
    Parameters: 32,896 at d_model 128
    """

    name = "leaky"
    axes: ClassVar[tuple[str, ...]] = ("batch", "channel")
    breaks: ClassVar[str] = ""
    says: ClassVar[str] = ""

    def build(self, config: Any) -> None:
        self.write = nn.Linear(self.d_model, self.d_model, bias=False)
        self.read = nn.Linear(self.d_model, self.d_model, bias=False)
        self.rate = nn.Parameter(torch.empty(self.d_model))

    def reset_parameters(self, streams: Streams) -> None:
        super().reset_parameters(streams)
        normal_(self.rate, 1.0, streams, "rate")

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, Any]:
        h = x.new_zeros(x[:, 0].shape) if state is None else state.memory
        sums = self.sums(self.write(x), h)
        return self.read(sums), State(sums[:, -1])

    def sums(self, written: Tensor, h: Tensor) -> Tensor:
        """h_t of all t: (batch, time, d_model)."""
        found = []
        for now in written.unbind(1):
            h = self.rate.sigmoid() * h + now
            found.append(h)
        return torch.stack(found, dim=1)


class Delayed(Leaky):
    """A ring of the last three inputs, and where in it the next one is written.

    Formula: y_t = U (W x_t + sigmoid(rate) W x_{t-3})
    Source: an example
    Parameters: 32,896 at d_model 128
    """

    name = "delayed"
    axes = ()

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, Any]:
        written = self.write(x).to(self.rate.dtype)
        if state is None:
            ring, place = written.new_zeros(len(x), 3, self.d_model), torch.zeros(len(x), dtype=torch.int64, device=x.device)
        else:
            ring, place = state.context
        found = []
        for now in written.split(1, dim=1):
            here = place.view(-1, 1, 1).expand(-1, 1, self.d_model)
            found.append(now + self.rate.sigmoid() * ring.gather(1, here))
            ring, place = ring.scatter(1, here, now), (place + 1) % 3
        return self.read(torch.cat(found, dim=1)), State(None, (ring, place))


class Padded(Leaky):
    """It pads a convolution on both sides.

    Formula: y_t = (x_{t-1} + x_{t+1}) / 2, and so on
    Source: an example
    Parameters: 32,896 at d_model 128
    """

    name = "padded"
    breaks = "test_it_is_causal"
    says = r"position 0 changes when position 1 does \(by 0\.\d+\): it is not causal\. A convolution padded on both sides"

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, Any]:
        around = nn.functional.pad(x, (0, 0, 1, 1))
        return super().forward((around[:, 2:] + around[:, :-2]) / 2 + x, state)


class Forgetful(Leaky):
    """It reads its state only where it gets one position.

    Formula: y = as leaky
    Source: an example
    Parameters: 32,896 at d_model 128
    """

    name = "forgetful"
    breaks = "test_two_pieces_give_what_one_gives"
    says = "in pieces of 11, 8 positions its output is another from position 11 on"

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, Any]:
        return super().forward(x, state if x.shape[1] == 1 else None)


class Stumbling(Leaky):
    """Its path for a single position forgets to decay.

    Formula: y = as leaky
    Source: an example
    Parameters: 32,896 at d_model 128
    """

    name = "stumbling"
    breaks = "test_step_by_step_gives_what_all_at_once_gives"
    says = "its output is another from position 1 on"

    def sums(self, written: Tensor, h: Tensor) -> Tensor:
        return h.unsqueeze(1) + written if written.shape[1] == 1 else super().sums(written, h)


class Sociable(Leaky):
    """It normalises over the batch.

    Formula: y = leaky - mean over the batch
    Source: an example
    Parameters: 32,896 at d_model 128
    """

    name = "sociable"
    breaks = "test_sequences_of_a_batch_do_not_touch_each_other"
    says = r"row 0 of a batch of 3 is not what it is alone \(by \d"

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, Any]:
        y, state = super().forward(x, state)
        return y - 0.5 * y.mean(0), state


class Greedy(Leaky):
    """It writes into the state that it is given.

    Formula: y = as leaky
    Source: an example
    Parameters: 32,896 at d_model 128
    """

    name = "greedy"
    breaks = "test_nothing_that_it_is_given_is_changed"
    says = "it changes the state that it is given"

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, Any]:
        y, new = super().forward(x, state)
        if state is not None and not state.memory.requires_grad:
            state.memory.copy_(new.memory.detach())
        return y, new


class Detached(Leaky):
    """Its gradient leaves out the decay.

    Formula: y = as leaky
    Source: an example
    Parameters: 32,896 at d_model 128
    """

    name = "detached"
    breaks = "test_gradients_are_those_of_finite_differences"
    says = "the gradient with respect to x is not the slope of its output"

    def sums(self, written: Tensor, h: Tensor) -> Tensor:
        full, h = super().sums(written, h), super().sums(0.5 * written, h)
        return h + (full - h).detach()


class Unset(Leaky):
    """It forgets a parameter in the last layer.

    Formula: y = as leaky
    Source: an example
    Parameters: 32,896 at d_model 128
    """

    name = "unset"
    breaks = "test_every_parameter_is_initialised"
    says = r"leaves 16 of the 16 numbers of rate unset or infinite \(layer 0 of 1\)"

    def reset_parameters(self, streams: Streams) -> None:
        super(Leaky, self).reset_parameters(streams)
        if self.layer < self.n_layer - 1:
            normal_(self.rate, 1.0, streams, "rate")


class Lucky(Leaky):
    """It draws from torch's generator.

    Formula: y = as leaky
    Source: an example
    Parameters: 32,896 at d_model 128
    """

    name = "lucky"
    breaks = "test_initial_values_come_from_the_streams_alone"
    says = "draws from torch's global generator: draw from streams.generator"

    def reset_parameters(self, streams: Streams) -> None:
        super().reset_parameters(streams)
        nn.init.normal_(self.rate)


class Twins(Leaky):
    """Two of its matrices have one stream.

    Formula: y = as leaky
    Source: an example
    Parameters: 32,896 at d_model 128
    """

    name = "twins"
    breaks = "test_initial_values_come_from_the_streams_alone"
    says = "read.weight and write.weight start at the same numbers"

    def reset_parameters(self, streams: Streams) -> None:
        super().reset_parameters(streams)
        normal_(self.read.weight, 0.02, streams, "write.weight")


class Everywhere(Leaky):
    """It starts alike in every layer.

    Formula: y = as leaky
    Source: an example
    Parameters: 32,896 at d_model 128
    """

    name = "everywhere"
    breaks = "test_initial_values_come_from_the_streams_alone"
    says = "starts at the same numbers in every layer"

    def reset_parameters(self, streams: Streams) -> None:
        super().reset_parameters(Streams(streams.seed))


class Hidden(Leaky):
    """A tensor of it learns, and is no parameter.

    Formula: y = gain * leaky
    Source: an example
    Parameters: 32,896 at d_model 128
    """

    name = "hidden"
    breaks = "test_every_parameter_is_in_a_group"
    says = "gain is a tensor that learns, in no group: make it an nn.Parameter"

    def build(self, config: Any) -> None:
        super().build(config)
        self.gain = torch.ones((), requires_grad=True)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, Any]:
        y, state = super().forward(x, state)
        return self.gain * y, state


class Misnamed(Leaky):
    """What it exempts from weight decay is not there.

    Formula: y = as leaky
    Source: an example
    Parameters: 32,896 at d_model 128
    """

    name = "misnamed"
    undecayed: ClassVar[tuple[str, ...]] = ("decay.",)
    breaks = "test_every_parameter_is_in_a_group"
    says = "undecayed names 'decay.', as which none of its parameters begins: rate, write.weight, read.weight"


class Spare(Leaky):
    """A parameter of it is of no use.

    Formula: y = as leaky
    Source: an example
    Parameters: 33,024 at d_model 128
    """

    name = "spare"
    breaks = "test_every_parameter_is_reached_by_a_gradient"
    says = "spare gets no gradient"

    def build(self, config: Any) -> None:
        super().build(config)
        self.spare = nn.Parameter(torch.empty(self.d_model))

    def reset_parameters(self, streams: Streams) -> None:
        super().reset_parameters(streams)
        normal_(self.spare, 1.0, streams, "spare")


class Deciding(Leaky):
    """It looks at a number to decide what to do.

    Formula: y = as leaky, but for large sums
    Source: an example
    Parameters: 32,896 at d_model 128
    """

    name = "deciding"
    breaks = "test_stacked_runs_give_what_each_gives_alone"
    says = "it cannot be mapped over runs .*write it with torch.where"

    def sums(self, written: Tensor, h: Tensor) -> Tensor:
        found = super().sums(written, h)
        return found / 2 if not found.is_meta and found.max() > 1e6 else found


class Placed(Leaky):
    """It computes something else in each layer, and does not say so.

    Formula: y = (1 + layer / n_layer) * as leaky
    Source: an example
    Parameters: 32,896 at d_model 128
    """

    name = "placed"
    breaks = "test_layers_share_its_code_only_where_it_computes_the_same"
    says = "computes something else in another layer, .*reads_place = True"

    def build(self, config: Any) -> None:
        super().build(config)
        self.factor = 1 + self.layer / self.n_layer

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, Any]:
        y, state = super().forward(x, state)
        return self.factor * y, state


class Narrow(Leaky):
    """It says that only a product reads what a gate reads.

    Formula: y = as leaky
    Source: an example
    Parameters: 32,896 at d_model 128
    """

    name = "narrow"
    products: ClassVar[tuple[str, ...]] = ("write.", "rate")
    breaks = "test_it_runs_under_bfloat16_autocast"
    says = "with its `products` write., rate in bfloat16 it computes something else"


class Double(Leaky):
    """Its output is in double precision.

    Formula: y = as leaky
    Source: an example
    Parameters: 32,896 at d_model 128
    """

    name = "double"
    breaks = "test_the_output_is_like_its_input"
    says = "its output is torch.float64, where its input and parameters are torch.float32"

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, Any]:
        y, state = super().forward(x, state)
        return y.double(), state


class Small(Leaky):
    """It says that it has no state.

    Formula: y = as leaky
    Source: an example
    Parameters: 32,896 at d_model 128
    """

    name = "small"
    breaks = "test_the_state_is_counted"
    says = r"after 1 tokens its state has 16 numbers a sequence, where state_size\(\) says 0"

    def state_size(self, context: int) -> int:
        return 0


class Cheap(Leaky):
    """It counts a multiply-add once.

    Formula: y = as leaky
    Source: an example
    Parameters: 32,896 at d_model 128
    """

    name = "cheap"
    breaks = "test_operations_are_counted"
    says = r"flops_per_token\(\) says 512 at d_model 16, where its products with weights alone are 1,024"

    def flops_per_token(self, context: int) -> int:
        return 2 * self.d_model**2


class Dear(Leaky):
    """It counts the operations of a whole sequence.

    Formula: y = as leaky
    Source: an example
    Parameters: 32,896 at d_model 128
    """

    name = "dear"
    breaks = "test_operations_are_counted"
    says = "which is more than its products and its state account for"

    def flops_per_token(self, context: int) -> int:
        return super().flops_per_token(context) * context


class Coarse(Leaky):
    """It adds up in whatever precision comes in.

    Formula: y = as leaky
    Source: an example
    Parameters: 32,896 at d_model 128
    """

    name = "coarse"
    breaks = "test_it_runs_under_bfloat16_autocast"
    says = "its memory is torch.bfloat16 under autocast, which loses small writes"

    def sums(self, written: Tensor, h: Tensor) -> Tensor:
        found = []
        for now in written.unbind(1):
            h = self.rate.sigmoid().to(now.dtype) * h.to(now.dtype) + now
            found.append(h)
        return torch.stack(found, dim=1)


class Unsaved(Leaky):
    """It draws a number that nobody saves.

    Formula: y = scale * leaky
    Source: an example
    Parameters: 32,896 at d_model 128
    """

    name = "unsaved"
    breaks = "test_weights_survive_being_saved"
    says = "something that reset_parameters"

    def reset_parameters(self, streams: Streams) -> None:
        super().reset_parameters(streams)
        self.scale = torch.rand((), generator=streams.generator("scale")).item()

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, Any]:
        y, state = super().forward(x, state)
        return self.scale * y, state


class Rooted(Leaky):
    """It takes the root of what is zero at the start.

    Formula: y_t = U (h_t |h_t|), |h| the Euclidean norm
    Source: an example
    Parameters: 32,896 at d_model 128
    """

    name = "rooted"
    breaks = "test_it_trains_a_few_steps"
    says = "after step 1 of training .* is not finite. A root"

    def reset_parameters(self, streams: Streams) -> None:
        super().reset_parameters(streams)
        nn.init.zeros_(self.write.weight)

    def sums(self, written: Tensor, h: Tensor) -> Tensor:
        found = super().sums(written, h)
        return found * found.square().sum(-1, keepdim=True).sqrt()

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, Any]:
        h = x.new_zeros(x[:, 0].shape) if state is None else state.memory
        sums = super().sums(self.write(x), h)
        return self.read(sums * sums.square().sum(-1, keepdim=True).sqrt()), State(sums[:, -1])


class Bare(Leaky):
    """Its state is a tensor.

    Formula: y = as leaky
    Source: an example
    Parameters: 32,896 at d_model 128
    """

    name = "bare"
    breaks = "test_a_mixer_says_what_its_state_is"
    says = r"its state is a Tensor: return gt\.models\.mixers\.base\.State\(memory, context\)"

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        y, new = super().forward(x, None if state is None else State(state))
        return y, new.memory


class Counting(Leaky):
    """Its state has a number that is no tensor.

    Formula: y = as leaky
    Source: an example
    Parameters: 32,896 at d_model 128
    """

    name = "counting"
    breaks = "test_a_mixer_says_what_its_state_is"
    says = "its state holds 5, which is no tensor"

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, Any]:
        y, new = super().forward(x, state)
        past = 0 if state is None else state.context[0]
        return y, State(new.memory, (past + x.shape[1],))  # type: ignore[operator,arg-type]


class Unnamed(Leaky):
    """It names fewer axes than its memory has.

    Formula: y = as leaky
    Source: an example
    Parameters: 32,896 at d_model 128
    """

    name = "unnamed"
    axes = ("batch",)
    breaks = "test_a_mixer_says_what_its_state_is"
    says = r"its memory is \(3, 16\), and axes is \('batch',\): name each dimension"


class Turned(Leaky):
    """The batch is the last dimension of its state.

    Formula: y = as leaky
    Source: an example
    Parameters: 32,896 at d_model 128
    """

    name = "turned"
    breaks = "test_a_mixer_says_what_its_state_is"
    says = r"its state holds a tensor of shape \(16, 3\) for a batch of 3: the batch comes first"

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, Any]:
        y, new = super().forward(x, None if state is None else State(state.memory.T))
        return y, State(new.memory.T)


class Growing(Leaky):
    """It calls a memory what is a cache.

    Formula: y_t = U sum_{s<=t} W x_s / (1 + rate^2)
    Source: an example
    Parameters: 32,896 at d_model 128
    """

    name = "growing"
    axes = ("batch", "time", "channel")
    breaks = "test_a_memory_has_one_size"
    says = r"its memory is \[\(2, 1, 16\)\] after 1 token and \[\(2, 19, 16\)\] after 19: what grows belongs in State.context"

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, Any]:
        written = self.write(x).to(self.rate.dtype)
        everything = written if state is None else torch.cat([state.memory, written], dim=1)
        sums = everything.cumsum(1)[:, -x.shape[1] :] / (1 + self.rate.square())
        return self.read(sums), State(everything)


class Still(Leaky):
    """It looks at one position.

    Formula: y = rate * (U W x)
    Source: an example
    Parameters: 32,896 at d_model 128
    """

    name = "still"
    axes = ()
    breaks = "test_a_mixer_carries_something_on"
    says = "position 18 depends on none of those before it: it mixes nothing"

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, Any]:
        return self.read(self.rate * self.write(x)), State(None)


class Mute(Leaky):
    name = "mute"
    breaks = "test_the_docstring_says_what_it_is test_the_docstring_has_formula_and_source " + (
        "test_the_docstring_counts_the_parameters"
    )
    says = "the class has no docstring"


class Unfounded(Leaky):
    """It gives no source.

    Formula: y = as leaky
    Parameters: 32,896 at d_model 128
    """

    name = "unfounded"
    breaks = "test_the_docstring_has_formula_and_source"
    says = "the docstring does not say where it comes from"


class Miscounted(Leaky):
    """It counts its parameters wrongly.

    Formula: y = as leaky
    Source: an example
    Parameters: 32,768 at d_model 128
    """

    name = "miscounted"
    breaks = "test_the_docstring_counts_the_parameters"
    says = "it has 32,896 parameters at d_model 128, where its docstring says 32,768"


class Loose(Leaky):
    """Its options can be changed.

    Formula: y = as leaky
    Source: an example
    Parameters: 32,896 at d_model 128
    """

    name = "loose"
    breaks = "test_its_config_is_frozen_and_refuses_unknown_options"
    says = "leave it frozen"

    class Config(Options):
        model_config = {"frozen": False}


class Dead(Leaky):
    """An option of it is read nowhere.

    Formula: y = as leaky
    Source: an example
    Parameters: 32,896 at d_model 128
    """

    name = "dead"
    breaks = "test_each_option_changes_something"
    says = "its option fast changes nothing: with True it has the same parameters, initial values, output and state"

    class Config(Options):
        fast: bool = False


class Unbuilt(Leaky):
    """A choice of it cannot be made.

    Formula: y = as leaky
    Source: an example
    Parameters: 32,896 at d_model 128
    """

    name = "unbuilt"
    breaks = "test_each_value_of_an_option_can_be_built"
    says = r"its option init allows 'wide', with which it cannot be built \(unbuilt.init: to be written\.\)"

    class Config(Options):
        init: Literal["narrow", "wide"] = "narrow"

    def build(self, config: Any) -> None:
        if config.init == "wide":
            raise ConfigError("unbuilt.init: to be written.")
        super().build(config)


class Unbounded(Leaky):
    """A number of heads may be none.

    Formula: y = leaky, each head divided by n_head
    Source: an example
    Parameters: 32,896 at d_model 128
    """

    name = "unbounded"
    breaks = "test_nonsense_is_refused_in_a_sentence"
    says = r"n_head = 0 ends in ZeroDivisionError .*: bound it in Config"

    class Config(Options):
        n_head: int = 4

    def build(self, config: Any) -> None:
        super().build(config)
        self.scale = 1 / config.n_head

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, Any]:
        y, state = super().forward(x, state)
        return self.scale * y, state
