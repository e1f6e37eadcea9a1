#!/usr/bin/env python3
"""Writes tests/data/text: ranks.tiktoken and two tekken.json, whose tokens are those of bytes_llama3.tokenizer.json,
and ranks.json, digests (as in tokenizer_golden.py) of what the packages that these files belong to make of the
golden strings.

    pip install tiktoken==0.14.0 mistral_common==1.13.1 tokenizers==0.23.3
    python3 tools/reference/tokenizer_ranks.py tests/data/text
"""
import base64
import json
import os
import sys

import mistral_common
import tiktoken
from mistral_common.tokens.tokenizers.tekken import Tekkenizer

from tokenizer_compare import TiktokenOracle
from tokenizer_golden import STRINGS, counted, digest

PATTERN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?"
           r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
ENCODINGS = ["r50k_base", "cl100k_base", "o200k_base", "qwen"]


def alphabet():
    """The byte of each character that ByteLevel writes."""
    plain = [b for b in range(256) if 0x21 <= b <= 0x7E or 0xA1 <= b <= 0xAC or 0xAE <= b]
    others = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(others)}


def tokens_of(path):
    with open(path, encoding="utf-8") as f:
        whole = json.load(f)
    special = {t["content"] for t in whole["added_tokens"]}
    byte_of = alphabet()
    vocab = whole["model"]["vocab"]
    tokens = [bytes(byte_of[c] for c in t) for t in sorted(vocab, key=vocab.get) if t not in special]
    # Byte by byte first, as both kinds of file have it.
    return sorted(t for t in tokens if len(t) == 1) + [t for t in tokens if len(t) > 1]


def main(folder):
    def path(name):
        return os.path.join(folder, name)

    tokens = tokens_of(path("bytes_llama3.tokenizer.json"))
    lines = [f"{base64.b64encode(t).decode()} {i}\n" for i, t in enumerate(tokens)]
    with open(path("ranks.tiktoken"), "w", encoding="ascii") as f:
        f.writelines(lines)
    # Behind the vocabulary that is used stands more of it, here tokens that would change the ids.
    more = tokens + [b"ight", b"keeper", b" counted"]
    vocab = [{"rank": i, "token_bytes": base64.b64encode(t).decode(), "token_str": None} for i, t in enumerate(more)]
    named = [{"rank": i, "token_str": t, "is_control": True} for i, t in enumerate(["<unk>", "<s>", "</s>", "<mask>", "<pad>"])]
    for name, special, count, version in (("tekken.json", named, 8, "v11"), ("tekken_v3.json", None, 24, "v3")):
        config = {"pattern": PATTERN, "num_vocab_tokens": len(more), "default_vocab_size": len(tokens) + count,
                  "default_num_special_tokens": count, "version": version}
        with open(path(name), "w", encoding="utf-8") as f:
            json.dump({"config": config, "vocab": vocab} | ({"special_tokens": special} if special else {}), f)

    out = {}
    for name in ENCODINGS:
        named_path = path(name + ".tiktoken")
        with open(named_path, "w", encoding="ascii") as f:
            f.writelines(lines)
        ids = TiktokenOracle(named_path).encode(STRINGS, True)
        os.remove(named_path)
        out[name] = str(digest(x for s in ids for x in counted(s)))
    for name in ("tekken.json", "tekken_v3.json"):
        tekken = Tekkenizer.from_file(path(name))
        # It takes special tokens in a text for plain text.
        plain = [s for s in STRINGS if not any(t in s for t in tekken._special_tokens_reverse_vocab)]
        ids = [tekken.encode(s, bos=True, eos=False) for s in plain]
        out[name] = str(digest(x for s in ids for x in counted(s)))
        print(name, len(plain), "strings,", ids[7])
    with open(path("ranks.json"), "w", encoding="utf-8") as f:
        json.dump(out, f, indent=1)
        f.write("\n")
    print("tiktoken", tiktoken.__version__, "mistral_common", mistral_common.__version__, out)


if __name__ == "__main__":
    main(sys.argv[1])
