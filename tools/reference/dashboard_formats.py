#!/usr/bin/env python3
"""Reads what `drrik dashboard --neuronpedia DIR --saedashboard FILE` wrote with the classes of the
package sae-dashboard, and checks that both say the same.

Written for sae-dashboard 0.8.0, sae-lens 6.54.12, transformer-lens 2.17.0, torch 2.15.0 (CPU).

    dashboard_formats.py DIR FILE.json TOKENIZER_FOLDER
"""
import gzip
import json
import sys
import types
from pathlib import Path

from sae_dashboard.components_config import Column  # noqa: F401  (the package is whole)
from sae_dashboard.data_writing_fns import save_feature_centric_vis
from sae_dashboard.neuronpedia.neuronpedia_converter import NeuronpediaConverter, NpEncoder
from sae_dashboard.neuronpedia.neuronpedia_dashboard import NeuronpediaDashboardBatch
from sae_dashboard.neuronpedia.neuronpedia_runner_config import NeuronpediaRunnerConfig
from sae_dashboard.sae_vis_data import SaeVisConfig, SaeVisData
from transformers import PreTrainedTokenizerFast


def main(folder: Path, vis_path: Path, tokenizer_folder: str) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tokenizer_folder)
    batches = sorted(folder.glob("batch-*.json"), key=lambda p: int(p.stem.split("-")[1]))
    assert batches, folder
    uploaded = {}
    for path in batches:
        raw = json.loads(path.read_text())
        batch = NeuronpediaDashboardBatch(**raw)
        # Nothing is lost or renamed on the way through the package's own classes.
        again = json.loads(json.dumps(batch, cls=NpEncoder))
        assert again == raw, f"{path}: changed by the package's classes"
        for feature in batch.features:
            uploaded[feature.feature_index] = feature
    print(f"{len(batches)} batches, {len(uploaded)} features: read by NeuronpediaDashboardBatch, unchanged")

    model = types.SimpleNamespace(tokenizer=tokenizer, cfg=types.SimpleNamespace(d_vocab=len(tokenizer)))
    vis = SaeVisData.load_json(vis_path, SaeVisConfig(hook_point="blocks.0.hook_mlp_out", features=[]), model, None)
    assert set(vis.feature_data_dict) == set(uploaded)
    config = NeuronpediaRunnerConfig.__new__(NeuronpediaRunnerConfig)
    first = json.loads(batches[0].read_text())
    for name, value in {"n_prompts_total": 1, "n_tokens_in_prompt": 1, "huggingface_dataset_path": "",
                        "model_id": first["model_id"], "layer": first["layer"], "sae_set": first["sae_set"],
                        "np_set_name": first["sae_set"], "np_sae_id_suffix": None}.items():
        setattr(config, name, value)
    # The package's own conversion of the one file must give the other, token texts aside (it has its
    # own way of spelling them).
    vocabulary = {i: str(i) for i in range(len(tokenizer))}
    converted = json.loads(NeuronpediaConverter.convert_to_np_json(model, vis, config, vocabulary))
    compared = 0
    for made in converted["features"]:
        ours = uploaded[made["feature_index"]].to_dict()
        for name in ("neuron_alignment_indices", "neuron_alignment_values", "neuron_alignment_l1", "pos_values",
                     "neg_values", "freq_hist_data_bar_heights", "logits_hist_data_bar_heights"):
            assert made[name] == ours[name], (made["feature_index"], name, made[name], ours[name])
        assert abs(made["frac_nonzero"] - ours["frac_nonzero"]) < 1e-5
        assert len(made["activations"]) == len(ours["activations"])
        for a, b in zip(made["activations"], ours["activations"]):
            # Rounded twice by the package: 4 decimals, then 3.
            assert all(abs(x - y) < 1.1e-3 for x, y in zip(a["values"], b["values"], strict=True)), (a, b)
            assert a["qualifying_token_index"] == b["qualifying_token_index"]
            assert abs(a["bin_min"] - b["bin_min"]) < 2e-3 and abs(a["bin_max"] - b["bin_max"]) < 2e-3
            assert abs(a["bin_contains"] - b["bin_contains"]) < 1e-4
            peak = b["qualifying_token_index"]
            assert 0 <= peak < len(b["tokens"])
            compared += 1
    print(f"{vis_path.name}: read by SaeVisData; its conversion agrees with the batches on {compared} examples")

    few = sorted(uploaded)[:4]
    page = vis_path.with_suffix(".html")
    vis.cfg.verbose = False
    save_feature_centric_vis(vis, page, include_only=few, feature_idx=few[0])
    print(f"{page.name}: {page.stat().st_size} bytes drawn by save_feature_centric_vis")

    rows = [json.loads(line) for path in sorted((folder / "bulk/features").iterdir())
            for line in gzip.open(path, "rt")]
    examples = [json.loads(line) for path in sorted((folder / "bulk/activations").iterdir())
                for line in gzip.open(path, "rt")]
    assert len({row["index"] for row in rows}) == len(rows)
    for row in examples:
        assert len(row["tokens"]) == len(row["values"])
        assert row["values"][row["maxValueTokenIndex"]] == row["maxValue"] == max(row["values"])
    for name in ("release", "model", "sourceset", "source"):
        json.loads((folder / f"bulk/{name}.jsonl").read_text())
    print(f"bulk: {len(rows)} features, {len(examples)} activations")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
