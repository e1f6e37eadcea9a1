#!/usr/bin/env python3
"""Compares the rows that the drrik command gives with those that pyarrow and datasets read from the same files.

    python tools/reference/dataset_compare.py build/release/bin/drrik [../shared/data]

Every column and every path to texts in nested columns (dataset_texts.py) of
  - the sample files of Apache's parquet-testing and arrow-testing,
  - generated files: codecs, encodings, page versions and sizes, row groups, nulls, empty and large strings,
    views, dictionaries, lists and structs, compressed IPC, empty files,
  - folders of save_to_disk, caches of the datasets library, compressed text formats.
Text columns must be equal row by row. Columns that hold no text, and files that pyarrow refuses, must be
errors (exit 3). Exits 1 on a difference. Versions: pyarrow 26.0.1, datasets 5.2.0, numpy 2.4.6.
"""

import bz2
import gzip
import itertools
import json
import lzma
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from dataset_fixtures import arrow_table, table, write_arrow
from dataset_texts import paths, texts

counts = {"equal": 0, "rows": 0, "no text": 0, "refused by both": 0}
failures = []


def run(drrik, dataset, *more):
    done = subprocess.run([drrik, "data", "--dataset", str(dataset), *more], capture_output=True, timeout=120)
    rows = [json.loads(line)["text"] for line in done.stdout.splitlines()]
    return done.returncode, rows, done.stderr.decode("utf-8", "replace").strip()


def fail(path, why):
    failures.append(f"{path}: {why}")
    print("FAILED", failures[-1][:400])


def check_rows(drrik, dataset, wanted, *more):
    code, rows, message = run(drrik, dataset, *more)
    present = [text for text in wanted if text is not None]
    if not present:
        if code != 3 or "no samples" not in message:
            fail(dataset, f"{more}: wanted 'no samples', got exit {code}: {message}")
        else:
            counts["equal"] += 1
        return
    if code != 0 or rows != present:
        at = next((i for i, (a, b) in enumerate(zip(rows, present)) if a != b), min(len(rows), len(present)))
        fail(dataset, f"{more}: exit {code}, {len(rows)} rows, wanted {len(present)}; first difference at {at}: {message}")
        return
    counts["equal"] += 1
    counts["rows"] += len(rows)


def read(path):
    with open(path, "rb") as file:
        magic = file.read(6)
    if magic[:4] == b"PAR1":
        return pq.ParquetFile(path, page_checksum_verification=True).read()
    if magic == b"ARROW1":
        return ipc.open_file(str(path)).read_all()
    return ipc.open_stream(str(path)).read_all()


def check_file(drrik, path, named=None):
    """`named`: the same file under a name that drrik knows."""
    named = named or path
    try:
        data = read(path)
    except (pa.ArrowException, OSError) as error:
        code, rows, message = run(drrik, named, "--text-column", "any")
        if code == 3:
            counts["refused by both"] += 1
        else:
            fail(path, f"pyarrow says {str(error)[:80]!r}, drrik exit {code}: {message}")
        return
    seen = set()
    for field in data.schema:
        if field.name in seen or not field.name:
            continue
        seen.add(field.name)
        for name, is_text in paths(field):
            if name != field.name and set(field.name) & set(".[]"):
                continue  # No path leads into such a column.
            if is_text:
                check_rows(drrik, named, texts(data, name), "--text-column", name)
            else:
                code, rows, message = run(drrik, named, "--text-column", name)
                if code == 3 and ("wanted text" in message or "no column" in message):
                    counts["no text"] += 1
                else:
                    fail(path, f"{name} is no text, but drrik: exit {code}, {len(rows)} rows: {message}")


def samples(drrik, folder, work):
    for path in sorted(folder.glob("parquet-testing/**/*.parquet")):
        check_file(drrik, path)
    for path in sorted(folder.glob("arrow-testing/**/*")):
        if path.suffix in (".stream", ".arrow_file"):
            named = work / (path.name + ".arrow")
            named.unlink(missing_ok=True)
            named.symlink_to(path.resolve())
            check_file(drrik, path, named)


def big_table(rng, rows):
    words = np.array(["alpha", "beta", "γάμμα", "", "delta " * 20, "ε" * 700, "\x00nul", "🐎"])
    strings = [None if r < 0.1 else str(w) for r, w in zip(rng.random(rows), rng.choice(words, rows))]
    unique = [f"{i}:{rng.integers(1 << 30)}" * int(rng.integers(1, 9)) for i in range(rows)]
    nested = [None if i % 11 == 5 else [[unique[i], None][: i % 3]] * (i % 4) for i in range(rows)]
    return pa.table({"text": strings, "unique": unique, "n": np.arange(rows), "nested": pa.array(nested, pa.list_(pa.list_(pa.string()))),
                     "struct": pa.array([{"a": s, "b": {"c": u}} for s, u in zip(strings, unique)])})


def generated(drrik, work):
    rng = np.random.default_rng(5)
    data = big_table(rng, 3000)
    for codec, version, page, group in itertools.product(
            ["none", "snappy", "gzip", "brotli", "zstd", "lz4"], ["1.0", "2.0"], [100, 1 << 20], [250, 5000]):
        path = work / f"{codec}-{version}-{page}-{group}.parquet"
        pq.write_table(data, path, compression=codec, data_page_version=version, data_page_size=page,
                       row_group_size=group, use_dictionary=page > 100, write_page_checksum=codec != "none")
        check_file(drrik, path)
    flat = data.select(["text", "unique"])
    for encoding, version in itertools.product(["PLAIN", "DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"], ["1.0", "2.0"]):
        path = work / f"{encoding}-{version}.parquet"
        pq.write_table(flat, path, use_dictionary=False, column_encoding={c: encoding for c in flat.column_names},
                       data_page_version=version, data_page_size=500)
        check_file(drrik, path)
    pq.write_table(flat, work / "dictionary_fallback.parquet", dictionary_pagesize_limit=200, data_page_size=300)
    pq.write_table(flat.slice(0, 0), work / "empty.parquet")
    pq.write_table(pa.table({"n": [1]}), work / "no_text.parquet")
    pq.write_table(pa.table({"text": pa.array([None, None], pa.string())}), work / "nulls.parquet")
    huge = pa.table({"text": pa.array(["y" * (5 << 20), "small", "z" * (1 << 20)], pa.large_string())})
    pq.write_table(huge, work / "large.parquet")
    dictionary = pa.table({"text": pa.array(["a", None, "b"] * 500).dictionary_encode()})
    pq.write_table(dictionary, work / "stored_dictionary.parquet")
    for name in ("dictionary_fallback", "empty", "no_text", "nulls", "large", "stored_dictionary"):
        check_file(drrik, work / f"{name}.parquet")
    arrow = arrow_table()
    for file, compression, rows in itertools.product([True, False], [None, "zstd", "lz4"], [1, 7, 1000]):
        path = work / f"{file}-{compression}-{rows}.arrow"
        write_arrow(path, arrow, file, rows, compression=compression)
        check_file(drrik, path)
    write_arrow(work / "sliced.arrow", pa.concat_tables([arrow.slice(3, 5), arrow.slice(20, 9)]), True)
    write_arrow(work / "old_stream.arrow", table(), False, use_legacy_format=True)
    write_arrow(work / "deltas.arrow", pa.concat_tables([dictionary, pa.table({"text": pa.array(["c", "a"]).dictionary_encode()})]),
                False, emit_dictionary_deltas=True)
    with ipc.new_file(str(work / "no_batches.arrow"), arrow.schema):
        pass
    for name in ("sliced", "old_stream", "deltas", "no_batches"):
        check_file(drrik, work / f"{name}.arrow")


def with_datasets(drrik, work):
    """Whole folders and text formats, against load_dataset and load_from_disk."""
    cache = str(work / "cache")
    lines = [f"line {i} žluť" for i in range(2500)]
    whole = datasets.Dataset.from_dict({"text": lines, "n": list(range(2500))})
    both = datasets.DatasetDict({"train": whole, "test": whole.select(range(7))})
    both.save_to_disk(str(work / "saved"), num_shards={"train": 3, "test": 1})
    for split in ("train", "test"):
        wanted = datasets.load_from_disk(str(work / "saved"))[split]["text"]
        check_rows(drrik, work / "saved", list(wanted), "--split", split)
    folder = work / "folder"
    (folder / "data").mkdir(parents=True)
    for i in range(3):
        pq.write_table(whole.select(range(i * 100, i * 100 + 100)).data.table, folder / "data" / f"train-0000{i}-of-00003.parquet")
    pq.write_table(whole.select(range(9)).data.table, folder / "data" / "validation-00000-of-00001.parquet")
    loaded = datasets.load_dataset(str(folder), cache_dir=cache)
    for split in ("train", "validation"):
        check_rows(drrik, folder, list(loaded[split]["text"]), "--split", split)
    # The cache that this made: streams, found by their names.
    made = [Path(f["filename"]) for f in loaded["train"].cache_files]
    loaded["train"].filter(lambda row: row["n"] % 2 == 0)  # Leaves a cache-*.arrow beside them.
    check_rows(drrik, made[0].parent, list(loaded["train"]["text"]), "--split", "train")
    rows = "".join(json.dumps({"text": line}) + "\n" for line in lines).encode()
    import lz4.frame
    import zstandard
    for ending, compress in {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress,
                             ".zst": zstandard.compress, ".lz4": lz4.frame.compress}.items():
        path = work / f"rows.jsonl{ending}"
        path.write_bytes(compress(rows))
        wanted = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=cache)["text"]
        check_rows(drrik, path, list(wanted))
        twice = work / f"twice.jsonl{ending}"
        half = len(rows) // 2
        twice.write_bytes(compress(rows[:half]) + compress(rows[half:]))
        check_rows(drrik, twice, lines)


def main():
    drrik = os.path.abspath(sys.argv[1])
    shared = Path(sys.argv[2] if len(sys.argv) > 2 else "../shared/data")
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        samples(drrik, shared, work)
        print("samples:", counts, flush=True)
        generated(drrik, work)
        print("and generated:", counts, flush=True)
        with_datasets(drrik, work)
        print("and datasets:", counts, flush=True)
    print(f"{len(failures)} differences")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
