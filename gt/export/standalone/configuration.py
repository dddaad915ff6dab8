"""The configuration of an exported model, for transformers."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig


class GroundThinkConfig(PreTrainedConfig):
    """model: the specification of the network. vocab_size: of its tokenizer. max_position_embeddings: the tokens of the
    sequences that it was trained on; of a model with learned positions `model.max_positions` is how many it can read.
    """

    model_type = "groundthink"

    def __init__(
        self,
        model: dict[str, Any] | None = None,
        vocab_size: int = 1,
        max_position_embeddings: int = 1024,
        use_cache: bool = True,
        **others: Any,
    ) -> None:
        self.model, self.vocab_size, self.max_position_embeddings = model or {}, vocab_size, max_position_embeddings
        self.use_cache = use_cache
        self.hidden_size, self.num_hidden_layers = self.model.get("d_model"), self.model.get("n_layer")
        super().__init__(**others)
