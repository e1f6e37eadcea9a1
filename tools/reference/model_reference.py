"""Writes tests/data/model: tiny random models in HuggingFace layout, each with the activations that
transformers computes for it, and a table of sampling distributions.

    python tools/reference/model_reference.py tests/data/model

Versions: torch 2.15.0, transformers 5.23.0, safetensors 0.8.0, numpy 2.4.6.

A model's reference.safetensors holds `ids` [n] and `boundaries` [s + 1] (sequences end to end), `logits`
[n, V], `final` [n, D] (after the last norm), `<layer>.<hook>` [n, dim] for every hook point that the
architecture has, and `greedy`: the first sequence followed by what greedy decoding adds to it.
Every sequence was run alone, without padding, in float32 with eager attention.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import (AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, GPTNeoXConfig,
                          GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM)
from transformers.generation.logits_process import (RepetitionPenaltyLogitsProcessor,
                                                    TemperatureLogitsWarper, TopKLogitsWarper,
                                                    TopPLogitsWarper)

LENGTHS = [5, 1, 11]  # of the sequences in a reference batch
GREEDY = 12  # tokens added by greedy decoding

# Per family: path of the blocks, then module names inside a block.
MODULES = {
    "llama": ("model.layers", "self_attn", "post_attention_layernorm", "mlp", "mlp.down_proj", "model.norm"),
    "gpt2": ("transformer.h", "attn", "ln_2", "mlp", "mlp.c_proj", "transformer.ln_f"),
    "gpt_neox": ("gpt_neox.layers", "attention", "post_attention_layernorm", "mlp",
                 "mlp.dense_4h_to_h", "gpt_neox.final_layer_norm"),
}


def llama(**overrides):
    config = dict(vocab_size=67, hidden_size=24, intermediate_size=40, num_hidden_layers=2,
                  num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
                  bos_token_id=1, eos_token_id=2, tie_word_embeddings=False)
    config.update(overrides)
    return LlamaForCausalLM, LlamaConfig(**config)


def gpt2(**overrides):
    config = dict(vocab_size=61, n_positions=40, n_embd=24, n_layer=2, n_head=3, bos_token_id=0,
                  eos_token_id=0)
    config.update(overrides)
    return GPT2LMHeadModel, GPT2Config(**config)


def neox(**overrides):
    config = dict(vocab_size=59, hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
                  intermediate_size=52, max_position_embeddings=48, bos_token_id=0, eos_token_id=0,
                  tie_word_embeddings=False)
    config.update(overrides)
    return GPTNeoXForCausalLM, GPTNeoXConfig(**config)


def rope(kind, theta=10000.0, **rest):
    return dict(rope_parameters=dict(rope_type=kind, rope_theta=theta, **rest))


CASES = {
    "llama-plain": (llama(), {}),
    # One key/value head; a head wider than d_model / n_heads; a tied output matrix.
    "llama-mqa-tied": (llama(num_key_value_heads=1, head_dim=10, tie_word_embeddings=True,
                             num_hidden_layers=3, rms_norm_eps=1e-5, **rope("default", 500.0)), {}),
    "llama-biases": (llama(attention_bias=True, mlp_bias=True, num_attention_heads=3,
                           num_key_value_heads=3, intermediate_size=35), {}),
    "llama-rope-llama3": (llama(head_dim=16, **rope("llama3", 10000.0, factor=8.0, low_freq_factor=1.0,
                                                    high_freq_factor=4.0,
                                                    original_max_position_embeddings=16)), {}),
    "llama-rope-linear": (llama(hidden_act="gelu_pytorch_tanh", **rope("linear", 10000.0, factor=3.0)), {}),
    "llama-rope-yarn": (llama(**rope("yarn", 10000.0, factor=4.0, original_max_position_embeddings=16)), {}),
    # Two shards and an index; bfloat16 on disk.
    "llama-bf16-sharded": (llama(), dict(dtype=torch.bfloat16, shard="12KB")),
    "llama-f16": (llama(hidden_act="relu"), dict(dtype=torch.float16)),
    "gpt2-plain": (gpt2(), {}),
    # Odd sizes, an own output matrix, no 1/sqrt(d).
    "gpt2-untied": (gpt2(n_embd=21, n_inner=37, activation_function="gelu", tie_word_embeddings=False,
                         scale_attn_weights=False), {}),
    # The base model alone, as the original `gpt2` repository stores it.
    "gpt2-base": (gpt2(scale_attn_by_inverse_layer_idx=True, n_layer=3, activation_function="quick_gelu",
                       n_head=2), dict(base_only=True)),
    "neox-parallel": (neox(), {}),
    "neox-sequential": (neox(use_parallel_residual=False, hidden_act="gelu_new", attention_bias=False,
                             num_attention_heads=2, **rope("default", 1000.0, partial_rotary_factor=0.4)), {}),
    "neox-tied-full": (neox(tie_word_embeddings=True, hidden_act="gelu_fast",
                            **rope("default", 10000.0, partial_rotary_factor=1.0)), {}),
}


def randomize(model, generator):
    """Weights large enough that every nonlinearity is exercised and every hook has its own values."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if p.ndim == 2:
                fan_in = p.shape[0] if type(model).__name__ == "GPT2LMHeadModel" and "wte" not in name else p.shape[1]
                p.copy_(noise * (1.0 if "emb" in name or "wte" in name or "wpe" in name else 1.4 * fan_in ** -0.5))
            elif "norm" in name or "ln_" in name:
                p.copy_(noise * 0.2 + (1.0 if name.endswith("weight") else 0.0))
            else:
                p.copy_(noise * 0.3)


def first(value):
    return value[0] if isinstance(value, tuple) else value


def run(model, family, sequences):
    blocks_path, attn, second_norm, mlp, down, final = MODULES[family]
    blocks = model.get_submodule(blocks_path)
    parallel = getattr(model.config, "use_parallel_residual", False)
    out = {}

    def keep(name, value):
        value = value.detach().clone().reshape(-1, value.shape[-1])
        out[name] = torch.cat([out[name], value]) if name in out else value

    handles = []
    def on_input(module, name):
        handles.append(module.register_forward_pre_hook(
            lambda m, args, kwargs: keep(name, args[0] if args else kwargs["hidden_states"]), with_kwargs=True))
    def on_output(module, name):
        handles.append(module.register_forward_hook(lambda m, args, result: keep(name, first(result))))

    for i, block in enumerate(blocks):
        on_input(block, f"{i}.resid_pre")
        on_output(block.get_submodule(attn), f"{i}.attn_out")
        if not parallel:
            on_input(block.get_submodule(second_norm), f"{i}.resid_mid")
        on_input(block.get_submodule(mlp), f"{i}.mlp_in")
        on_input(block.get_submodule(down), f"{i}.mlp_post")
        on_output(block.get_submodule(mlp), f"{i}.mlp_out")
        on_output(block, f"{i}.resid_post")
    on_output(model.get_submodule(final), "final")
    with torch.no_grad():
        for ids in sequences:
            keep("logits", model(torch.tensor([ids])).logits)
    for handle in handles:
        handle.remove()
    return out


def greedy(model, prompt, count):
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids


def write_case(folder, name, spec, options, seed):
    model_class, config = spec
    family = config.model_type
    config._attn_implementation = "eager"
    generator = torch.Generator().manual_seed(seed)
    model = model_class(config).eval()
    randomize(model, generator)
    target = folder / name
    shutil.rmtree(target, ignore_errors=True)
    stored = model.to(options.get("dtype", torch.float32))
    to_save = stored.base_model if options.get("base_only") else stored
    to_save.save_pretrained(target, max_shard_size=options.get("shard", "1GB"))
    (target / "generation_config.json").unlink(missing_ok=True)
    # What is compared against is computed from the stored weights, read back, in float32.
    model = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32,
                                                 attn_implementation="eager").eval()
    vocab = config.vocab_size
    sequences = [[int(t) for t in torch.randint(0, vocab, (n,), generator=generator)] for n in LENGTHS]
    tensors = run(model, family, sequences)
    boundaries = [0]
    for ids in sequences:
        boundaries.append(boundaries[-1] + len(ids))
    tensors["ids"] = torch.tensor(sum(sequences, []), dtype=torch.int32)
    tensors["boundaries"] = torch.tensor(boundaries, dtype=torch.int64)
    tensors["greedy"] = torch.tensor(greedy(model, sequences[0], GREEDY), dtype=torch.int32)
    save_file({k: v.contiguous() for k, v in tensors.items()}, target / "reference.safetensors")


def write_sampling(folder):
    """Distributions after repetition penalty, temperature, top-k and top-p, in that order."""
    generator = torch.Generator().manual_seed(7)
    cases = []
    for penalty, temperature, top_k, top_p in [(1.0, 1.0, 0, 1.0), (1.3, 1.0, 0, 1.0), (1.0, 0.7, 0, 0.9),
                                               (1.0, 1.5, 7, 1.0), (1.2, 0.8, 10, 0.8), (0.8, 2.0, 3, 0.5),
                                               (1.0, 1.0, 1000, 0.3), (1.1, 0.05, 40, 0.95)]:
        logits = torch.randn(29, generator=generator) * 3
        history = torch.randint(0, 29, (9,), generator=generator)
        scores = logits[None]
        if penalty != 1.0:
            scores = RepetitionPenaltyLogitsProcessor(penalty)(history[None], scores)
        scores = TemperatureLogitsWarper(temperature)(history[None], scores)
        if top_k:
            scores = TopKLogitsWarper(top_k)(history[None], scores)
        if top_p < 1:
            scores = TopPLogitsWarper(top_p)(history[None], scores)
        cases.append(dict(repetition_penalty=penalty, temperature=temperature, top_k=top_k, top_p=top_p,
                          logits=[float(x) for x in logits], history=history.tolist(),
                          probabilities=[float(x) for x in scores[0].double().softmax(-1)]))
    (folder / "sampling.json").write_text(json.dumps(cases, indent=0) + "\n")


def main():
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, (spec, options)) in enumerate(CASES.items()):
        write_case(folder, name, spec, options, seed + 1)
    write_sampling(folder)


if __name__ == "__main__":
    main()
