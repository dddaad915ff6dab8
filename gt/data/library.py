"""Our tokenizers as those of the `tokenizers` library, which transformers loads: the same text gives the same tokens.

There are no special tokens, and none is registered as the unknown one: a registered token is looked for in every text, so that
a text which spells it would be read as that token.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from gt.data.codecs import REPLACEMENT, CharTokenizer, Tokenizer
from gt.data.tokenizers import Separated

if TYPE_CHECKING:
    import tokenizers

UNKNOWN = "<unk>"
# What decides which tokens a text becomes.
ENCODING = ("normalizer", "pre_tokenizer", "model", "added_tokens")


def library_tokenizer(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    """A tokenizer of ours there; without the token that stands between documents, which no text has."""
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, pre_tokenizers

    if isinstance(tokenizer, Separated):
        tokenizer = tokenizer.tokenizer
    if not isinstance(tokenizer, CharTokenizer):
        return Library.from_str(tokenizer.to_json())
    vocabulary = {UNKNOWN: 0, **{character: i for i, character in enumerate(tokenizer.characters, 1)}}
    found = Library(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    found.pre_tokenizer = pre_tokenizers.FixedLength(1)
    found.decoder = decoders.Sequence([decoders.Replace(UNKNOWN, REPLACEMENT), decoders.Fuse()])
    return found


def to_json(tokenizer: tokenizers.Tokenizer) -> str:
    """Its tokenizer.json."""
    return json.dumps(json.loads(tokenizer.to_str()), indent=2, ensure_ascii=False) + "\n"


def sum_of(tokenizer: tokenizers.Tokenizer) -> str:
    """The sha256 of what decides which tokens a text becomes."""
    document = json.loads(tokenizer.to_str())
    text = json.dumps({name: document[name] for name in ENCODING}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
