#!/usr/bin/env bash
# tokenizers: a byte-level BPE does not give back an added token with a letter beyond ASCII.
#
# Byte-level BPE is lossless, and GPT-2's is known for it. Its decoder takes each letter of a token's spelling for a byte, also
# of a token that was added as it stands. Those of U+00A1 to U+017F that spell a byte become that byte: `é` is decoded to
# 0xE9, which is no UTF-8, and comes back as U+FFFD; `Ġ` comes back as a space. Text with such a token is silently another one,
# and so is what is counted of it. gt refuses a tokenizer where decode(encode(text)) is not the text, and says where.
#
# Seen with tokenizers 0.23.3, Python 3.11:
#   <end>: <end>
#   <é>: <�>
#   <Ġ>: < >
#   <東>: <東>
#
# Exits with 1 where it is otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet tokenizers==0.23.3
"$folder/venv/bin/python" - <<'PYTHON'
import sys

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

TOKENS = ["<end>", "<é>", "<Ġ>", "<東>"]
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
alphabet = pre_tokenizers.ByteLevel.alphabet()
tokenizer.train_from_iterator(["some text"], trainers.BpeTrainer(initial_alphabet=alphabet, show_progress=False))
tokenizer.add_special_tokens(TOKENS)
back = {token: tokenizer.decode(tokenizer.encode(token).ids, skip_special_tokens=False) for token in TOKENS}
for token, text in back.items():
    print(f"{token}: {text}")
sys.exit(back != {"<end>": "<end>", "<é>": "<\ufffd>", "<Ġ>": "< >", "<東>": "<東>"})
PYTHON
