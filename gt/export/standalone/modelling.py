"""An exported model, for transformers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from gt.export.standalone.configuration import GroundThinkConfig
from gt.export.standalone.spec import ModelSpec
from gt.models.lm import LanguageModel
from gt.seeds import Streams


class Past:
    """What the model carries from the tokens that it has read: recurrent states, and of attention its keys and values."""

    def __init__(self, state: Any) -> None:
        self.state = state

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens that were read."""
        length: int = self.state["length"]
        return length

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Have the states of other sequences of the batch, for beam search."""
        self.state = tree_map_only(Tensor, lambda own: own.index_select(0, beam_idx.to(own.device)), self.state)


class GroundThinkForCausalLM(PreTrainedModel, GenerationMixin):
    """Next-token predictions. It reads in constant memory a token where its mixers are recurrent.

    A state has read every token that it was given, so that padding must not stand before text: ValueError. After it, in a batch
    of texts of several lengths, it does no harm, but nothing can go on from it.
    """

    config_class = GroundThinkConfig
    base_model_prefix = "model"
    _is_stateful = True

    def __init__(self, config: GroundThinkConfig) -> None:
        super().__init__(config)
        spec: Any = ModelSpec(config.model)
        self.model = LanguageModel(spec, config.vocab_size)
        if not self.model.embedding.weight.is_meta:  # a new model: one that is loaded has no numbers yet
            self.model.reset_parameters(Streams(torch.initial_seed() % 2**32))
            for parameter in self.model.parameters():
                parameter._is_hf_initialized = True  # type: ignore[attr-defined]
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.model.embedding

    def get_output_embeddings(self) -> nn.Module | None:
        """None where the head is the embedding itself."""
        return self.model.head

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: Past | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        return_dict: bool | None = None,
        **others: Any,
    ) -> Any:
        """input_ids: (batch, time). labels: the same tokens, of which those at -100 do not count; they are shifted in here.

        logits_to_keep: only those of so many last positions, 0 for all. ValueError for padding before text, and for a text that
        is longer than the table of a model with learned positions.
        """
        use_cache = self.config.use_cache if use_cache is None else use_cache
        padded = _padded(attention_mask)
        if padded and past_key_values is not None:
            raise ValueError(
                "There is padding in what was read before: the states that it left are of no use. Read texts one by one."
            )
        read = past_key_values.get_seq_length() if past_key_values is not None else 0
        if self.model.position is not None and read + input_ids.shape[1] > (rows := self.model.spec.max_positions):
            raise ValueError(f"This model has positions for {rows} tokens, and here are {read + input_ids.shape[1]}.")
        logits, state = self.model(input_ids, past_key_values.state if past_key_values is not None else None)
        loss = None
        if labels is not None:
            targets = nn.functional.pad(labels, (0, 1), value=-100)[:, 1:]
            loss = nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten().to(logits.device))
        past = Past(state) if use_cache and not padded else None
        logits = logits[:, -logits_to_keep:] if logits_to_keep else logits
        if return_dict is False:
            return tuple(own for own in (loss, logits, past) if own is not None)
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=past)  # type: ignore[arg-type]

    def prepare_inputs_for_generation(  # type: ignore[override]
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """ValueError for padding: `generate` goes on from the end of each row of a batch."""
        if _padded(attention_mask):
            raise ValueError("Prompts of several lengths cannot be continued as one batch: continue them one by one.")
        theirs: Any = super()
        found: dict[str, Any] = theirs.prepare_inputs_for_generation(input_ids, attention_mask=attention_mask, **kwargs)
        return found

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        """The model makes its own."""
        return False


def _padded(attention_mask: Tensor | None) -> bool:
    """Whether there is padding after a text of the batch. ValueError where it stands before or inside of one."""
    if attention_mask is None or bool(attention_mask.all()):
        return False
    if attention_mask.ndim != 2 or bool((attention_mask[:, 1:] > attention_mask[:, :-1]).any()):
        raise ValueError("Padding must stand after the text (padding_side='right'): the model has read what stands before it.")
    return True
