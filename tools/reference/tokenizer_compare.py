#!/usr/bin/env python3
"""Compares `drrik tokenize` with the real library, id for id and text for text.

    pip install tokenizers==0.23.3 transformers==5.23.0 sentencepiece protobuf
    python3 tools/reference/tokenizer_compare.py [--hostile 100000] build/release/bin/drrik MODEL... -- TEXT...

A MODEL is a tokenizer.json (compared with the `tokenizers` package) or a folder (compared with what
`AutoTokenizer.from_pretrained` makes of it). A TEXT is a file that is encoded whole and line by line; a
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


class AutoOracle(PackageOracle):
    def __init__(self, folder):
        from transformers import AutoTokenizer
        self.auto = AutoTokenizer.from_pretrained(folder)
        self.tokenizer = self.auto.backend_tokenizer

    def encode(self, texts, special):
        return self.auto(texts, add_special_tokens=special, verbose=False)["input_ids"]

    def decode(self, ids, skip):
        return [self.auto.decode(i, skip_special_tokens=skip) for i in ids]


def run(command):
    result = subprocess.run(command, capture_output=True, check=False)
    if result.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {result.stderr.decode()}")
    return result.stdout


class Comparison:
    def __init__(self, drrik, model, folder):
        self.command = [drrik, "tokenize", "--model", model]
        self.oracle = AutoOracle(model) if os.path.isdir(model) else PackageOracle(model)
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
        show = [self.oracle.tokenizer.id_to_token(i) for i in got[window]] if isinstance(got, list) else got[window]
        wanted = [self.oracle.tokenizer.id_to_token(i) for i in want[window]] if isinstance(want, list) else want[window]
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
        vocab = self.oracle.tokenizer.get_vocab(with_added_tokens=True)
        added = [t.content for t in self.oracle.tokenizer.get_added_tokens_decoder().values()]
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
