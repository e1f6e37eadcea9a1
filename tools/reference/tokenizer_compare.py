#!/usr/bin/env python3
"""Compares `drrik tokenize` with the `tokenizers` package, id for id, over any texts.

    pip install tokenizers==0.23.3
    python3 tools/reference/tokenizer_compare.py build/release/bin/drrik TOKENIZER.json... -- TEXT...

A text is a file that is encoded whole and line by line, with and without special tokens; a .json text
is a list of strings. Ids of whole files are decoded again and compared too. The exit status is 1 when
anything differs.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

from tokenizers import Tokenizer


def run(command, stdin=None):
    result = subprocess.run(command, input=stdin, capture_output=True, check=False)
    if result.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {result.stderr.decode()}")
    return result.stdout


def first_difference(a, b):
    for i, (x, y) in enumerate(zip(a, b)):
        if x != y:
            return i
    return min(len(a), len(b))


def check(name, texts, got, want, tokenizer):
    """Number of texts that differ; prints the first three."""
    wrong = 0
    if len(got) != len(want):
        print(f"  {name}: {len(got)} texts, wanted {len(want)}")
        return max(1, abs(len(got) - len(want)))
    for text, g, w in zip(texts, got, want):
        if g == w:
            continue
        wrong += 1
        if wrong <= 3:
            at = first_difference(g, w)
            window = slice(max(0, at - 3), at + 4)
            print(f"  {name}: differs at id {at} of {text[:40]!r}:\n    got    "
                  f"{[tokenizer.id_to_token(i) for i in g[window]]}\n    wanted "
                  f"{[tokenizer.id_to_token(i) for i in w[window]]}")
    return wrong


def compare(drrik, model, path, folder):
    tokenizer = Tokenizer.from_file(model)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    with open(path, "rb") as f:
        data = f.read().decode("utf-8")
    forms = {}
    if path.endswith(".json"):
        forms["items"] = json.loads(data)
    else:
        forms["whole"] = [data]
        lines = data.split("\n")
        forms["lines"] = [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
    ids = wrong = 0
    for form, texts in forms.items():
        source = ["--file", path]
        if form != "whole":
            rows = os.path.join(folder, "rows.jsonl")
            with open(rows, "w", encoding="utf-8") as f:
                f.writelines(json.dumps({"text": text}) + "\n" for text in texts)
            source = ["--dataset", rows]
        for special in (True, False):
            command = [drrik, "tokenize", "--model", model, *source] + ([] if special else ["--no-special-tokens"])
            got = [json.loads(line) for line in run(command).splitlines()]
            want = [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=special)]
            ids += sum(map(len, want))
            wrong += check(f"{os.path.basename(path)}, {form}, special={special}", texts, got, want, tokenizer)
            if form == "whole" and special:
                ids_file = os.path.join(folder, "ids.json")
                with open(ids_file, "w", encoding="utf-8") as f:
                    json.dump(want[0], f)
                text = run([drrik, "tokenize", "--model", model, "--decode", "--file", ids_file]).decode()
                if text.rstrip("\n") != tokenizer.decode(want[0]).rstrip("\n"):
                    wrong += 1
                    print(f"  {os.path.basename(path)}: decoded text differs")
    return ids, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("drrik")
    parser.add_argument("models", nargs="+")
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args = parser.parse_args(sys.argv[1:split])
    texts = sys.argv[split + 1:]
    total = 0
    with tempfile.TemporaryDirectory() as folder:
        for model in args.models:
            ids = wrong = 0
            for path in texts:
                n, w = compare(args.drrik, model, path, folder)
                ids += n
                wrong += w
            print(f"{model}: {ids} ids, {wrong} differing texts", flush=True)
            total += wrong
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
