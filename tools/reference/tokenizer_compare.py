#!/usr/bin/env python3
"""Compares `drrik tokenize` with the real library, id for id and text for text.

    pip install tokenizers==0.23.3 transformers==5.23.0 sentencepiece protobuf tiktoken==0.14.0
    pip install mistral_common==1.13.1   # for tekken.json only: transformers goes other ways where it is there
    python3 tools/reference/tokenizer_compare.py [--hostile 100000] build/release/bin/drrik MODEL... -- TEXT...

A MODEL is a tokenizer.json (compared with the `tokenizers` package), a folder (compared with what
`AutoTokenizer.from_pretrained` makes of it), a .tiktoken file named after an encoding (with `tiktoken`) or a
tekken*.json (with `Tekkenizer` of mistral_common, which takes special tokens in a text for plain text; texts
that have some are compared with what transformers makes of the file). A TEXT is a file that is encoded whole and line by line; a
.json text is a list of strings. --hostile adds so many generated texts (tokenizer_hostile.py) and every
code point. Everything is encoded with and without special tokens and decoded with and without them, and
so are random ids. The exit status is 1 when anything differs.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

from tokenizers import Tokenizer

import tokenizer_hostile


class PackageOracle:
    def __init__(self, path):
        self.tokenizer = Tokenizer.from_file(path)
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()

    def encode(self, texts, special):
        return [e.ids for e in self.tokenizer.encode_batch(texts, add_special_tokens=special)]

    def decode(self, ids, skip):
        return self.tokenizer.decode_batch(ids, skip_special_tokens=skip)

    def vocabulary(self):
        return self.tokenizer.get_vocab(with_added_tokens=True)

    def added(self):
        return [t.content for t in self.tokenizer.get_added_tokens_decoder().values()]

    def token(self, token_id):
        return self.tokenizer.id_to_token(token_id)


class AutoOracle(PackageOracle):
    def __init__(self, folder):
        from transformers import AutoTokenizer
        self.auto = AutoTokenizer.from_pretrained(folder)
        self.tokenizer = self.auto.backend_tokenizer

    def encode(self, texts, special):
        return self.auto(texts, add_special_tokens=special, verbose=False)["input_ids"]

    def decode(self, ids, skip):
        return [self.auto.decode(i, skip_special_tokens=skip) for i in ids]


class TiktokenOracle:
    """An encoding of OpenAI's, or Qwen's, over the ranks of a file."""

    def __init__(self, path):
        import tiktoken
        from tiktoken.load import load_tiktoken_bpe
        from tiktoken_ext import openai_public
        ranks = load_tiktoken_bpe(path)
        name = os.path.basename(path).removesuffix(".tiktoken")
        self.qwen = name == "qwen"
        if self.qwen:
            pattern = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
                       r"|\s*[\r\n]+|\s+(?!\S)|\s+")
            names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] + [f"<|extra_{i}|>" for i in range(205)]
            special = {token: len(ranks) + i for i, token in enumerate(names)}
        else:
            openai_public.load_tiktoken_bpe = lambda *_, **__: ranks
            encoding = getattr(openai_public, name)()
            pattern, special = encoding["pat_str"], encoding["special_tokens"]
        self.encoding = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)
        self.special = special
        self.ranks = ranks

    def encode(self, texts, special):
        from tokenizers.normalizers import NFC
        # Qwen's own code asks Python, whose Unicode version is the interpreter's; this has one.
        normal = NFC().normalize_str if self.qwen else str
        return [self.encoding.encode(normal(text), allowed_special="all", disallowed_special=()) for text in texts]

    def decode(self, ids, skip):
        drop = set(self.special.values()) if skip else set()
        return [self.encoding.decode([i for i in s if i not in drop]) for s in ids]

    def vocabulary(self):
        return {token.decode("utf-8", "replace"): rank for token, rank in self.ranks.items()} | self.special

    def added(self):
        return list(self.special)

    def token(self, token_id):
        return self.encoding.decode_single_token_bytes(token_id)


class TekkenOracle(PackageOracle):
    def __init__(self, path):
        from mistral_common.tokens.tokenizers.tekken import Tekkenizer
        from transformers.integrations.mistral.tokenizer import MistralConverter
        self.tekken = Tekkenizer.from_file(path)
        self.tokenizer = MistralConverter(path).converted()
        self.names = self.added()
        self.only_converted = 0

    def encode(self, texts, special):
        out = []
        for text, converted in zip(texts, super().encode(texts, special)):
            if any(name in text for name in self.names):
                self.only_converted += 1
                out.append(([self.tekken.bos_id] if special else []) + converted)
            else:
                out.append(self.tekken.encode(text, bos=special, eos=False))
        return out


def oracle_of(model):
    if os.path.isdir(model):
        return AutoOracle(model)
    if model.endswith(".tiktoken"):
        return TiktokenOracle(model)
    return TekkenOracle(model) if os.path.basename(model).startswith("tekken") else PackageOracle(model)


def run(command):
    result = subprocess.run(command, capture_output=True, check=False)
    if result.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {result.stderr.decode()}")
    return result.stdout


class Comparison:
    def __init__(self, drrik, model, folder):
        self.command = [drrik, "tokenize", "--model", model]
        self.oracle = oracle_of(model)
        self.folder = folder
        self.count = {"texts": 0, "ids": 0, "decoded": 0, "wrong": 0}

    def path(self, name):
        return os.path.join(self.folder, name)

    def differ(self, name, source, got, want):
        self.count["wrong"] += 1
        if self.count["wrong"] > 6:
            return
        at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
        window = slice(max(0, at - 4), at + 5)
        show = [self.oracle.token(i) for i in got[window]] if isinstance(got, list) else got[window]
        wanted = [self.oracle.token(i) for i in want[window]] if isinstance(want, list) else want[window]
        print(f"  {name} at {at} of {ascii(source[:80])}:\n    got    {show!a}\n    wanted {wanted!a}")

    def encode(self, name, texts, whole=None):
        """Also decodes what it encoded."""
        source = ["--file", whole]
        if whole is None:
            rows = self.path("rows.jsonl")
            with open(rows, "w", encoding="utf-8") as f:
                f.writelines(json.dumps({"text": text}) + "\n" for text in texts)
            source = ["--dataset", rows]
        for special in (True, False):
            got = [json.loads(line) for line in run(self.command + source + ([] if special else ["--no-special-tokens"])).splitlines()]
            want = self.oracle.encode(texts, special)
            if len(got) != len(want):
                raise SystemExit(f"{name}: {len(got)} texts, wanted {len(want)}")
            self.count["texts"] += len(want)
            self.count["ids"] += sum(map(len, want))
            for text, g, w in zip(texts, got, want):
                if g != w:
                    self.differ(f"{name}, special={special}", text, g, w)
            if special:
                self.decode(name, want)

    def decode(self, name, sequences):
        sequences = [s for s in sequences if s]
        path = self.path("ids.txt")
        with open(path, "w", encoding="utf-8") as f:
            f.writelines(json.dumps(s) + "\n" for s in sequences)
        for skip in (True, False):
            flags = ["--decode", "--json", "--file", path] + ([] if skip else ["--keep-special-tokens"])
            got = [json.loads(line) for line in run(self.command + flags).splitlines()]
            want = self.oracle.decode(sequences, skip)
            self.count["decoded"] += len(want)
            for ids, g, w in zip(sequences, got, want):
                if g != w:
                    self.differ(f"{name}, decoded, skip={skip}", str(ids), g, w)

    def file(self, path):
        with open(path, "rb") as f:
            data = f.read().decode("utf-8")
        name = os.path.basename(path)
        if path.endswith(".json"):
            self.encode(name, json.loads(data))
            return
        self.encode(name + ", whole", [data], path)
        lines = data.split("\n")
        self.encode(name + ", lines", [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else []))

    def hostile(self, count, corpus):
        vocab = self.oracle.vocabulary()
        added = self.oracle.added()
        tokens = sorted(vocab, key=lambda t: (vocab[t], t))
        texts = tokenizer_hostile.Texts(20260101, sorted(added), tokens[:: max(1, len(tokens) // 5000)], corpus)
        self.encode("hostile", texts.texts(count))
        known = [t for t in tokens]
        sequences = tokenizer_hostile.random_ids(7, count // 4, len(known))
        self.decode("random ids", [[vocab[known[i]] for i in s] for s in sequences])


def main():
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hostile", type=int, default=0, metavar="N")
    parser.add_argument("drrik")
    parser.add_argument("models", nargs="+")
    args = parser.parse_args(sys.argv[1:split])
    paths = sys.argv[split + 1:]
    corpus = ""
    for path in paths[:4]:
        with open(path, encoding="utf-8") as f:
            corpus += f.read()[:20000]
    wrong = 0
    for model in args.models:
        with tempfile.TemporaryDirectory() as folder:
            comparison = Comparison(args.drrik, model, folder)
            for path in paths:
                comparison.file(path)
            if args.hostile:
                comparison.hostile(args.hostile, corpus)
        count = comparison.count
        wrong += count["wrong"]
        print(f"{model}: {count['texts']} texts, {count['ids']} ids, {count['decoded']} decoded, {count['wrong']} differ", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
