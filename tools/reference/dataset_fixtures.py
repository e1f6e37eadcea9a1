"""Writes tests/data/data: small Parquet and Arrow files in many shapes with the rows pyarrow reads from
them (expected.json), archives, and how `datasets` resolves folders (layouts.json).

    python tools/reference/dataset_fixtures.py tests/data/data

Versions: pyarrow 26.0.1, datasets 5.2.0.
"""

import json
import os
import sys
import tempfile
import zipfile
from pathlib import Path

import datasets
import datasets.data_files
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from dataset_texts import paths, texts

TEXTS = ["first", None, "", "two\nlines", "žluťoučký kůň 🐎", "x" * 60, "second", "first", None, "last"] * 3
N = len(TEXTS)


def table():
    messages = [None if i % 7 == 3 else
                [{"role": "user", "content": None if (i + j) % 5 == 2 else f"say {i} {j}"} for j in range(i % 4)]
                for i in range(N)]
    return pa.table({
        "n": pa.array(range(N), pa.int32()),
        "text": pa.array(TEXTS),
        "required": pa.array([t or "none" for t in TEXTS]),
        "bytes": pa.array([None if t is None else t.encode("utf-16-le") for t in TEXTS], pa.binary()),
        "large": pa.array(TEXTS, pa.large_string()),
        "messages": pa.array(messages, pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        "meta": pa.array([None if i % 6 == 5 else {"url": f"u{i}", "tags": ["a", None, f"t{i}"][:i % 4]}
                          for i in range(N)],
                         pa.struct([("url", pa.string()), ("tags", pa.list_(pa.string()))])),
        "map": pa.array([[(f"k{j}", f"v{i}{j}") for j in range(i % 3)] for i in range(N)],
                        pa.map_(pa.string(), pa.string())),
    })


def arrow_table():
    """What Parquet cannot hold as it is."""
    base = table()
    more = {
        "view": pa.array(TEXTS, pa.string_view()),
        "dictionary": pa.array(TEXTS).dictionary_encode(),
        "small_dictionary": pa.array(TEXTS).dictionary_encode().cast(pa.dictionary(pa.int8(), pa.string())),
        "pairs": pa.array([None if i % 5 == 4 else [f"p{i}", None] for i in range(N)], pa.list_(pa.string(), 2)),
        "list_view": pa.array([["a", f"b{i}"][:i % 3] for i in range(N)], pa.list_view(pa.string())),
        "large_list": pa.array([["c"] * (i % 3) for i in range(N)], pa.large_list(pa.large_string())),
    }
    for name, column in more.items():
        base = base.append_column(name, column)
    return base


def write_arrow(path, data, file, rows=11, **options):
    opened = ipc.new_file if file else ipc.new_stream
    with opened(str(path), data.schema, options=ipc.IpcWriteOptions(**options)) as out:
        for batch in data.to_batches(max_chunksize=rows):
            out.write_batch(batch)


def files(out):
    data, arrow = table(), arrow_table()
    pq.write_table(data, out / "snappy.parquet", compression="snappy", row_group_size=7)
    pq.write_table(data, out / "zstd_v2.parquet", compression="zstd", row_group_size=12, data_page_version="2.0",
                   data_page_size=64, use_dictionary=False, write_page_checksum=True)
    flat = data.select(["text", "required", "large"])
    pq.write_table(flat, out / "delta_byte_array.parquet", use_dictionary=False, compression="brotli",
                   column_encoding={name: "DELTA_BYTE_ARRAY" for name in flat.column_names})
    pq.write_table(flat, out / "delta_length.parquet", use_dictionary=False, compression="gzip",
                   column_encoding={name: "DELTA_LENGTH_BYTE_ARRAY" for name in flat.column_names})
    pq.write_table(flat, out / "lz4.parquet", compression="lz4", row_group_size=9)
    with pq.ParquetWriter(out / "empty_groups.parquet", flat.schema) as writer:
        for piece in (flat.slice(0, 0), flat.slice(0, 4), flat.slice(0, 0), flat.slice(4)):
            writer.write_table(piece)
    pq.write_table(flat.slice(0, 0), out / "empty.parquet")
    write_arrow(out / "file.arrow", arrow, True)
    write_arrow(out / "stream.arrow", arrow, False)
    write_arrow(out / "zstd.arrow", arrow, True, compression="zstd")
    write_arrow(out / "lz4_stream.arrow", arrow, False, compression="lz4")
    ipc.new_stream(str(out / "empty_stream.arrow"), flat.schema).close()


def scalars(out):
    """Columns of labels: every type of number and boolean, and what each row's is as text."""
    numbers = [3, None, 100, 7]
    columns = {"bool": pa.array([True, None, False, True])}
    for kind in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"):
        columns[kind] = pa.array(numbers, getattr(pa, kind)())
    columns["large"] = pa.array([2**64 - 1, None, 0, 7], pa.uint64())
    columns["negative"] = pa.array([-(2**63), None, 0, -7], pa.int64())
    columns["float"] = pa.array([0.5, None, -2, 0.1], pa.float32())
    columns["double"] = pa.array([0.1, None, 1e300, -3], pa.float64())
    columns["dictionary"] = pa.array(numbers, pa.int64()).dictionary_encode()
    columns["text"] = pa.array(["a", "b", "c", "d"])
    data = pa.table(columns)
    pq.write_table(data, out / "scalars.parquet")
    write_arrow(out / "scalars.arrow", data.slice(0), True)


def expected(out):
    result = {}
    for path in sorted(out.glob("*.parquet")) + sorted(out.glob("*.arrow")):
        if path.suffix == ".parquet":
            data = pq.read_table(path)
        elif path.read_bytes()[:6] == b"ARROW1":
            data = ipc.open_file(str(path)).read_all()
        else:
            data = ipc.open_stream(str(path)).read_all()
        result[path.name] = {"rows": data.num_rows, "columns": data.column_names, "texts": {
            name: texts(data, name) for field in data.schema for name, is_text in paths(field) if is_text}}
        if "messages" in data.column_names:
            for extra in ("messages[0].content", "messages[-1].content", "messages[2].role"):
                result[path.name]["texts"][extra] = texts(data, extra)
    (out / "expected.json").write_text(json.dumps(result, ensure_ascii=False) + "\n", "utf-8")


def archives(out):
    rows = "".join(json.dumps({"text": f"row {i}"}) + "\n" for i in range(4))
    with zipfile.ZipFile(out / "one.jsonl.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("corpus.jsonl", rows)
    with zipfile.ZipFile(out / "several.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("b/part2.jsonl", rows.replace("row", "b"))
        archive.writestr("a.jsonl", rows.replace("row", "a"))
        archive.writestr("__MACOSX/._a.jsonl", "junk")
        archive.writestr("LICENSE", "free")
        archive.writestr("dataset_info.json", '{"text": "no row"}')


def saved(out):
    rows = {"text": [f"saved {i}" for i in range(10)], "n": list(range(10))}
    whole = datasets.Dataset.from_dict(rows)
    both = datasets.DatasetDict({"train": whole, "test": whole.select(range(3))})
    both.save_to_disk(str(out / "saved"), num_shards={"train": 2, "test": 1})


README = "---\nlicense: mit\nconfigs:\n{}---\n# Title\n"
LAYOUTS = [
    (["data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl", "data/odd.name-00000-of-00001.jsonl",
      "data/test-00000-of-00001-abc.jsonl", "extra.jsonl"], ""),
    (["train/a.jsonl", "train/b.jsonl", "my_test/c.jsonl", "dev-2/d.jsonl", "x/valid 1/e.jsonl", "other/f.jsonl"], ""),
    (["train.jsonl", "valid.jsonl", "dev.jsonl", "my-val_1.jsonl", "evaluation.jsonl", "retrain.jsonl", "b_test.jsonl",
      "sub/train-2.jsonl", ".hidden/train.jsonl", "__x/train.jsonl"], ""),
    (["b.jsonl", "a.jsonl", "a/c.jsonl", "a-b.jsonl"], ""),
    (["one.jsonl", "two.jsonl"], README.format("- config_name: x\n  data_files: two.jsonl\n")),
    (["en/train.jsonl", "en/test.jsonl", "de/train.jsonl"], README.format(
        "- config_name: en\n  data_files:\n  - split: test\n    path: en/test.jsonl\n  - split: train\n"
        "    path: ['en/tr*', 'en/*.jsonl']\n- config_name: de\n  default: true\n  data_dir: de\n")),
    (["p/a.jsonl", "p/q/b.jsonl", ".h/c.jsonl", "p/.d.jsonl", "p/__r/e.jsonl"], README.format(
        "- config_name: all\n  data_files: '**/*.jsonl'\n- config_name: deep\n  data_files: ['p/**']\n"
        "- config_name: hidden\n  data_files: ['.h/*', 'p/.*', 'p/__r/*']\n- config_name: default\n"
        "  data_files: 'p/[!b]*.json?'\n")),
    (["a.jsonl"], "---\nlicense: mit\n---\nno configs\n"),
    (["a.jsonl"], "no front matter\n---\nconfigs: x\n---\n"),
]


def layouts(out):
    """Splits and files as datasets' own builder script resolves them for a local folder."""
    result = []
    for names, readme in LAYOUTS:
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as cache:
            for name in names:
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text('{"text": "x"}\n')
            if readme:
                (Path(folder) / "README.md").write_text(readme)
            configs = datasets.get_dataset_config_names(folder)
            case = {"files": sorted(names), "readme": readme, "configs": {}}
            try:
                case["default"] = datasets.load_dataset_builder(folder, cache_dir=cache).config.name
            except ValueError:
                case["default"] = None
            for config in configs:
                builder = datasets.load_dataset_builder(folder, config, cache_dir=cache)
                case["configs"][config] = [
                    # Overlapping patterns make datasets read a file twice; drrik reads it once.
                    [str(split), list(dict.fromkeys(os.path.relpath(f, folder) for f in files))]
                    for split, files in builder.config.data_files.items()]
            result.append(case)
    (out / "layouts.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    for make in (files, scalars, expected, archives, saved, layouts):
        make(target)
