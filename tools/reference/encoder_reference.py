"""Writes tests/data/encoders: tiny random BERTs, RoBERTas and DistilBERTs in HuggingFace
layout, each with the activations that transformers computes for it.

    python tools/reference/encoder_reference.py tests/data/encoders

Versions: torch 2.15.0, transformers 5.23.0, safetensors 0.8.0.

reference.safetensors is as model_reference.py writes it, less `final` and `greedy`, and without `logits`
where the model has no head. Every sequence was run alone, without padding, in float32 with eager
attention; in RoBERTa's some ids are the padding's, which its positions leave out.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import (AutoModel, AutoModelForMaskedLM, BertConfig, BertForMaskedLM, DistilBertConfig,
                          DistilBertForMaskedLM, RobertaConfig, RobertaForMaskedLM)

LENGTHS = [5, 1, 11]

# Inside a block: (module, whether its input is meant) of every hook point between its two ends.
BERT = {"q": ("attention.self.query", False), "k": ("attention.self.key", False),
        "v": ("attention.self.value", False), "attn_z": ("attention.output.dense", True), "attn_out": ("attention.output.dense", False), "resid_mid": ("attention.output.LayerNorm", True),
        "mlp_in": ("intermediate", True), "mlp_post": ("output.dense", True),
        "mlp_out": ("output.dense", False)}
DISTILBERT = {"q": ("attention.q_lin", False), "k": ("attention.k_lin", False),
              "v": ("attention.v_lin", False), "attn_z": ("attention.out_lin", True),
              "attn_out": ("attention", False), "resid_mid": ("sa_layer_norm", True), "mlp_in": ("ffn", True),
              "mlp_post": ("ffn.lin2", True), "mlp_out": ("ffn", False)}


def bert(**overrides):
    config = dict(vocab_size=41, hidden_size=16, intermediate_size=28, num_hidden_layers=2,
                  num_attention_heads=2, max_position_embeddings=24)
    config.update(overrides)
    return BertForMaskedLM, BertConfig(**config)


def roberta(**overrides):
    config = dict(vocab_size=43, hidden_size=16, intermediate_size=28, num_hidden_layers=2,
                  num_attention_heads=2, max_position_embeddings=26, type_vocab_size=1, layer_norm_eps=1e-5)
    config.update(overrides)
    return RobertaForMaskedLM, RobertaConfig(**config)


def distilbert(**overrides):
    config = dict(vocab_size=41, dim=16, hidden_dim=28, n_layers=2, n_heads=2, max_position_embeddings=24)
    config.update(overrides)
    return DistilBertForMaskedLM, DistilBertConfig(**config)


CASES = {
    "bert-plain": (bert(), {}),
    # The names that files converted from TensorFlow have, with what else stands in them.
    "bert-old-names": (bert(num_hidden_layers=3, hidden_act="gelu_new", num_attention_heads=4,
                            intermediate_size=21, type_vocab_size=1), dict(old_names=True)),
    "bert-untied": (bert(tie_word_embeddings=False, hidden_act="relu", layer_norm_eps=1e-5), {}),
    # The base model alone: no prefix, no head.
    "bert-bare": (bert(hidden_size=15, num_attention_heads=3, type_vocab_size=3), dict(base_only=True)),
    "roberta-plain": (roberta(), {}),
    "roberta-untied": (roberta(tie_word_embeddings=False, hidden_act="silu", pad_token_id=5,
                               max_position_embeddings=30, type_vocab_size=2), {}),
    "roberta-bare": (roberta(pad_token_id=0, num_hidden_layers=3, num_attention_heads=4),
                     dict(base_only=True, dtype=torch.bfloat16)),
    "distilbert-plain": (distilbert(sinusoidal_pos_embds=True), {}),
    "distilbert-untied": (distilbert(tie_word_embeddings=False, activation="relu", n_heads=4, n_layers=3,
                                     hidden_dim=23), {}),
    "distilbert-bare": (distilbert(dim=14, hidden_dim=30), dict(base_only=True, dtype=torch.float16)),
}


def randomize(model, generator):
    """Weights large enough that every nonlinearity is exercised and every hook has its own values."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if p.ndim == 2:
                p.copy_(noise * (1.0 if "embeddings" in name else 1.4 * p.shape[1] ** -0.5))
            elif "norm" in name.lower():
                p.copy_(noise * 0.2 + (1.0 if name.endswith("weight") else 0.0))
            else:
                p.copy_(noise * 0.3)


def rename(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    out = {}
    for name, tensor in tensors.items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        out[name] = tensor
    out["bert.embeddings.position_ids"] = torch.arange(24)[None]
    out["bert.pooler.dense.weight"] = torch.zeros(16, 16)
    out["cls.seq_relationship.weight"] = torch.zeros(2, 16)
    save_file(out, path, metadata={"format": "pt"})


def first(value):
    return value[0] if isinstance(value, tuple) else value


def run(model, modules, sequences):
    blocks = next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList))
    out = {}

    def keep(name, value):
        value = value.detach().clone().reshape(-1, value.shape[-1])
        out[name] = torch.cat([out[name], value]) if name in out else value

    handles = []
    def watch(module, is_input, name):
        if is_input:
            handles.append(module.register_forward_pre_hook(
                lambda m, args, kwargs: keep(name, args[0] if args else kwargs["hidden_states"]),
                with_kwargs=True))
        else:
            handles.append(module.register_forward_hook(lambda m, args, result: keep(name, first(result))))

    for name, module in model.named_modules():
        for table, point in (("word_embeddings", "embed"), ("position_embeddings", "pos_embed")):
            if name.endswith("embeddings." + table):
                watch(module, False, f"0.{point}")
    for i, block in enumerate(blocks):
        watch(block, True, f"{i}.resid_pre")
        for point, (path, is_input) in modules.items():
            watch(block.get_submodule(path), is_input, f"{i}.{point}")
        watch(block, False, f"{i}.resid_post")
    with torch.no_grad():
        for ids in sequences:
            result = model(torch.tensor([ids]))
            if hasattr(result, "logits"):
                keep("logits", result.logits)
    for handle in handles:
        handle.remove()
    return out


def write_case(folder, name, spec, options, seed):
    model_class, config = spec
    config._attn_implementation = "eager"
    generator = torch.Generator().manual_seed(seed)
    model = model_class(config).eval()
    randomize(model, generator)
    target = folder / name
    shutil.rmtree(target, ignore_errors=True)
    stored = model.to(options.get("dtype", torch.float32))
    base_only = options.get("base_only", False)
    (stored.base_model if base_only else stored).save_pretrained(target)
    (target / "generation_config.json").unlink(missing_ok=True)
    if options.get("old_names"):
        rename(target)
    # What is compared against is computed from the stored weights, read back, in float32.
    auto = AutoModel if base_only else AutoModelForMaskedLM
    model = auto.from_pretrained(target, dtype=torch.float32, attn_implementation="eager").eval()
    sequences = [[int(t) for t in torch.randint(0, config.vocab_size, (n,), generator=generator)]
                 for n in LENGTHS]
    if config.model_type == "roberta":
        for ids in sequences:
            for at in range(2, len(ids), 3):
                ids[at] = config.pad_token_id
    tensors = run(model, DISTILBERT if config.model_type == "distilbert" else BERT, sequences)
    boundaries = [0]
    for ids in sequences:
        boundaries.append(boundaries[-1] + len(ids))
    tensors["ids"] = torch.tensor(sum(sequences, []), dtype=torch.int32)
    tensors["boundaries"] = torch.tensor(boundaries, dtype=torch.int64)
    save_file({k: v.contiguous() for k, v in tensors.items()}, target / "reference.safetensors")


def main():
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, (spec, options)) in enumerate(CASES.items()):
        write_case(folder, name, spec, options, seed + 101)
        print(name, sorted(json.loads((folder / name / "config.json").read_text()))[:3])


if __name__ == "__main__":
    main()
