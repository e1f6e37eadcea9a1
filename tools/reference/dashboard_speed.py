#!/usr/bin/env python3
"""Times the package sae-dashboard on the model, autoencoder and tokens that `drrik dashboard` gets, and
compares what both find.

Written for sae-dashboard 0.8.0, sae-lens 6.54.12, transformer-lens 2.17.0, torch 2.15.0 (CPU).

    dashboard_speed.py MODEL SAE TEXT.jsonl DASHBOARD SEQUENCES [CONTEXT]

MODEL is a Llama in HuggingFace's layout, SAE a folder in SAELens's, DASHBOARD the folder of
    drrik dashboard --model MODEL --sae SAE --dataset TEXT.jsonl --no-pack --max-length CONTEXT
        --num-samples SEQUENCES --include-special --output DASHBOARD
TEXT's samples must all have CONTEXT tokens or more: SAEDashboard takes a rectangle of tokens.
"""
import base64
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from sae_dashboard.sae_vis_data import SaeVisConfig
from sae_dashboard.sae_vis_runner import SaeVisRunner
from sae_lens import SAE, HookedSAETransformer
from transformer_lens import HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions.llama import convert_llama_weights
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast


def load_model(folder: str) -> HookedSAETransformer:
    llama = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    c = llama.config
    config = HookedTransformerConfig(
        d_model=c.hidden_size, d_head=c.head_dim, n_heads=c.num_attention_heads, d_mlp=c.intermediate_size,
        n_layers=c.num_hidden_layers, n_ctx=c.max_position_embeddings, eps=c.rms_norm_eps, d_vocab=c.vocab_size,
        act_fn="silu", n_key_value_heads=c.num_key_value_heads, normalization_type="RMS",
        positional_embedding_type="rotary", rotary_dim=c.head_dim, rotary_adjacent_pairs=False, final_rms=True,
        gated_mlp=True, rotary_base=int(c.rope_theta), original_architecture="LlamaForCausalLM", device="cpu")
    model = HookedSAETransformer(config)
    model.load_state_dict(convert_llama_weights(llama, config), strict=False)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    model.tokenizer = tokenizer
    ids = torch.arange(20)[None] + 5
    with torch.inference_mode():
        assert (model(ids) - llama(ids).logits).abs().max() < 1e-3, "the models differ"
    return model


def main(folder: str, sae_folder: str, text: str, dashboard: str, sequences: int, context: int = 128) -> None:
    model = load_model(folder)
    sae = SAE.load_from_disk(sae_folder)
    sae.fold_W_dec_norm = lambda: None  # refused for TopK, whose features are compared as they are
    rows = []
    for line in open(text):
        if len(rows) == sequences:
            break
        ids = model.tokenizer(json.loads(line)["text"])["input_ids"][:context]
        assert len(ids) == context, len(ids)
        rows.append(ids)
    tokens = torch.tensor(rows)
    features = list(range(sae.cfg.d_sae))
    config = SaeVisConfig(hook_point=sae.cfg.metadata.hook_name, features=features, verbose=False)
    start = time.monotonic()
    data = SaeVisRunner(config).run(encoder=sae, model=model, tokens=tokens)
    seconds = time.monotonic() - start
    n = tokens.numel()
    print(f"sae-dashboard: {n} tokens, {len(features)} features, {seconds:.1f} s, {n / seconds:.0f} tokens/s, "
          f"{torch.get_num_threads()} threads")

    index_text = (Path(dashboard) / "data/index.js").read_text()
    index = json.loads(index_text[index_text.index("(") + 1:index_text.rindex(")")])
    assert index["dataset"]["tokens"] == n, (index["dataset"], n)
    column = {k: np.frombuffer(base64.b64decode(v), dtype="<f4") for k, v in index["columns"].items()}
    theirs = np.array([data.feature_stats.max, data.feature_stats.frac_nonzero])
    print(f"largest difference: maximum {np.abs(theirs[0] - column['max']).max():.2e} "
          f"(of {column['max'].max():.2f}), density {np.abs(theirs[1] - column['density']).max():.2e}")


if __name__ == "__main__":
    main(*sys.argv[1:5], *(int(a) for a in sys.argv[5:]))
