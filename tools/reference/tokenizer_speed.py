"""The peer's side of the table in docs/tokenizers.md: MB/s of the `tokenizers` package on one core.

    RAYON_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false taskset -c 1 \\
        python tools/reference/tokenizer_speed.py tokenizer.json TEXT_FILE

Encodes the file's lines with encode_batch_fast, special tokens left out, and prints the best of three
passes. Ours, on the same core:

    taskset -c 1 drrik bench tokenize --threads 1 --tokenizer tokenizer.json --dataset TEXT_FILE

Versions: tokenizers 0.23.3.
"""

import sys
import time

from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file(sys.argv[1])
tokenizer.no_truncation()
tokenizer.no_padding()
with open(sys.argv[2], encoding="utf-8") as file:
    text = file.read()
lines = text.split("\n")
best = float("inf")
for _ in range(3):
    start = time.perf_counter()
    ids = sum(len(e.ids) for e in tokenizer.encode_batch_fast(lines, add_special_tokens=False))
    best = min(best, time.perf_counter() - start)
print(f"{sys.argv[1]}: {len(text.encode()) / best / 1e6:.1f} MB/s, {ids} ids")
