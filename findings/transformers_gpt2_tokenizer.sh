#!/usr/bin/env bash
# transformers: a tokenizer.json beside a GPT-2 is read without its pre-tokenizer, and text becomes other tokens without a word.
#
# A tokenizer.json says all about a tokenizer: how text is parted, what its pieces are, what is unknown. Where a folder's
# config.json has model_type gpt2, AutoTokenizer takes its vocabulary and merges and builds GPT2Tokenizer around them, whatever
# else stands in the file. A tokenizer of characters then loses white space and every character that it does not know, and one
# token is added; a BPE whose words are parted in another way has other tokens. Nothing warns of either, and a model that was
# trained on the file's tokens is measured on others. It is read as it stands where tokenizer_config.json says
# {"tokenizer_class": "PreTrainedTokenizerFast"}, so `gt export` writes that.
#
# Seen with transformers 5.23.0 and tokenizers 0.23.3, Python 3.11:
#   tokenizers               [9, 5, 1, 4, 8, 0, 0, 0, 0, 0, 8, 2, 1, 4]
#   AutoTokenizer            [9, 5, 1, 4, 2, 1, 4]
#   with the class named     [9, 5, 1, 4, 8, 0, 0, 0, 0, 0, 8, 2, 1, 4]
#
# Exits with 1 where it is otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet transformers==5.23.0 tokenizers==0.23.3
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - "$folder" <<'PYTHON'
import json
import sys
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer

TEXT = "head <unk> bad"
folder = Path(sys.argv[1], "model")
folder.mkdir()
vocabulary = {"<unk>": 0, **{character: i for i, character in enumerate("abcdefg h", 1)}}
tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
tokenizer.pre_tokenizer = pre_tokenizers.FixedLength(1)
(folder / "tokenizer.json").write_text(tokenizer.to_str())
config = {"model_type": "gpt2", "vocab_size": 10, "n_embd": 8, "n_layer": 1, "n_head": 1}
(folder / "config.json").write_text(json.dumps({**config, "bos_token_id": None, "eos_token_id": None}))

found = {"tokenizers": tokenizer.encode(TEXT).ids, "AutoTokenizer": AutoTokenizer.from_pretrained(folder)(TEXT).input_ids}
(folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
found["with the class named"] = AutoTokenizer.from_pretrained(folder)(TEXT).input_ids
for name, ids in found.items():
    print(f"{name:24} {ids}")
own, auto, named = found.values()
sys.exit(not (own == named != auto))
PYTHON
