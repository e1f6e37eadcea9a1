"""Writes tests/data/model: tiny random models in HuggingFace layout, each with the activations that
transformers computes for it, and a table of sampling distributions.

    python tools/reference/model_reference.py tests/data/model [name ...]

With names, only the cases whose names start with one of them.
Versions: torch 2.15.0, transformers 5.23.0, safetensors 0.8.0, numpy 2.4.6.

A model's reference.safetensors holds `ids` [n] and `boundaries` [s + 1] (sequences end to end), `logits`
[n, V], `<layer>.<hook>` [n, dim] for every hook point that the architecture has, `greedy`: the first
sequence followed by what greedy decoding adds to it, and for most `long_ids` and `long_last`: a sequence
long enough for several blocks of keys and the logits [V] of its last token.
Every sequence was run alone, without padding, in float32 with eager attention. The exception is Falcon's
ALiBi, which eager attention adds twice in this version (in the scores and again in the mask): sdpa.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
import transformers
from transformers import (GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig,
                          LlamaForCausalLM)
from transformers.generation.logits_process import (RepetitionPenaltyLogitsProcessor,
                                                    TemperatureLogitsWarper, TopKLogitsWarper,
                                                    TopPLogitsWarper)

LENGTHS = [5, 1, 11]  # of the sequences in a reference batch
GREEDY = 12  # tokens added by greedy decoding

LONG = 300  # tokens of the long sequence, where the model takes as many


def modules(blocks, final, attn="self_attn", mid="post_attention_layernorm", mlp="mlp", down="mlp.down_proj",
            mlp_in=None, attn_add=None, mlp_add=None, heads="self_attn", o="o_proj", qkv=None, positions=None):
    """Paths of the blocks and the last norm, then modules inside a block: whose output is attn_out, whose
    input is resid_mid, whose output is mlp_out, whose input is mlp_post, whose input is mlp_in (default: that
    of mlp), whose outputs are attn_add and mlp_add; the module with the projections, and in it that whose
    input is attn_z and that which gives q, k and v together (none: q_proj, k_proj, v_proj); last the base
    model's table of positions."""
    return dict(blocks=blocks, final=final, attn=attn, mid=mid, mlp=mlp, down=down, mlp_in=mlp_in or mlp,
                attn_add=attn_add, mlp_add=mlp_add, heads=heads, o=o, qkv=qkv, positions=positions)


LLAMA_MODULES = modules("model.layers", "model.norm")
GEMMA_MODULES = dict(mid="pre_feedforward_layernorm", attn_add="post_attention_layernorm",
                     mlp_add="post_feedforward_layernorm")
MODULES = {
    "llama": LLAMA_MODULES, "mistral": LLAMA_MODULES, "qwen2": LLAMA_MODULES, "qwen3": LLAMA_MODULES,
    "gemma": LLAMA_MODULES, "phi3": dict(LLAMA_MODULES, qkv="qkv_proj"), "olmo": LLAMA_MODULES,
    "gpt2": modules("transformer.h", "transformer.ln_f", "attn", "ln_2", "mlp", "mlp.c_proj", heads="attn",
                    o="c_proj", qkv="c_attn", positions="wpe"),
    "gpt_neo": modules("transformer.h", "transformer.ln_f", "attn", "ln_2", "mlp", "mlp.c_proj",
                       heads="attn.attention", o="out_proj", positions="wpe"),
    "gpt_neox": modules("gpt_neox.layers", "gpt_neox.final_layer_norm", "attention", down="mlp.dense_4h_to_h",
                        heads="attention", o="dense", qkv="query_key_value"),
    "gemma2": modules("model.layers", "model.norm", **GEMMA_MODULES),
    "gemma3_text": modules("model.layers", "model.norm", **GEMMA_MODULES),
    "gemma3": modules("model.language_model.layers", "model.language_model.norm", **GEMMA_MODULES),
    "olmo2": modules("model.layers", "model.norm", mid="mlp", attn_add="post_attention_layernorm",
                     mlp_add="post_feedforward_layernorm"),
    "phi": modules("model.layers", "model.final_layernorm", mid=None, down="mlp.fc2", o="dense"),
    "opt": modules("model.decoder.layers", "model.decoder.final_layer_norm", mid="final_layer_norm", mlp="fc2",
                   down="fc2", mlp_in="fc1", o="out_proj", positions="embed_positions"),
    "bloom": modules("transformer.h", "transformer.ln_f", "self_attention.dense", mlp="mlp.dense_4h_to_h",
                     down="mlp.dense_4h_to_h", mlp_in="mlp", heads="self_attention", o="dense",
                     qkv="query_key_value"),
    "falcon": modules("transformer.h", "transformer.ln_f", "self_attention", down="mlp.dense_4h_to_h",
                      heads="self_attention", o="dense", qkv="query_key_value"),
}


def split_qkv(config, fused):
    """Queries, keys and values [T, width] of what a fused projection gives, as its model takes it apart."""
    config = config.get_text_config()
    rows, heads = fused.shape[-2], config.num_attention_heads
    dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    if config.model_type in ("gpt2", "phi3"):  # side by side
        kv = getattr(config, "num_key_value_heads", heads) * dim
        return [part.reshape(rows, -1) for part in fused.split([heads * dim, kv, kv], -1)]
    kv_heads = heads  # by the key/value head: its queries, its key, its value
    if config.model_type == "falcon":
        if config.new_decoder_architecture:
            kv_heads = config.num_kv_heads
        elif config.multi_query:
            kv_heads = 1
    grouped = fused.reshape(rows, kv_heads, -1, dim)
    return [part.reshape(rows, -1) for part in (grouped[:, :, :-2], grouped[:, :, -2], grouped[:, :, -1])]


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


def family(model_class, config_class, base):
    """A function that makes (class, configuration) of `base` with changes."""
    def make(**overrides):
        return getattr(transformers, model_class), getattr(transformers, config_class)(**{**base, **overrides})
    return make


SMALL = dict(vocab_size=41, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, bos_token_id=1,
             eos_token_id=2, pad_token_id=0, max_position_embeddings=320)
GATED = dict(SMALL, intermediate_size=26, num_key_value_heads=2)
mistral = family("MistralForCausalLM", "MistralConfig", dict(GATED, sliding_window=4))
qwen2 = family("Qwen2ForCausalLM", "Qwen2Config", GATED)
qwen3 = family("Qwen3ForCausalLM", "Qwen3Config", dict(GATED, head_dim=8))
gemma = family("GemmaForCausalLM", "GemmaConfig", dict(GATED, num_key_value_heads=1, head_dim=12))
gemma2 = family("Gemma2ForCausalLM", "Gemma2Config",
                dict(GATED, head_dim=6, query_pre_attn_scalar=9, sliding_window=4))
GEMMA3 = dict(GATED, head_dim=6, query_pre_attn_scalar=9, sliding_window=4, num_hidden_layers=3)
gemma3 = family("Gemma3ForCausalLM", "Gemma3TextConfig", GEMMA3)
phi = family("PhiForCausalLM", "PhiConfig", dict(SMALL, intermediate_size=37))
phi3 = family("Phi3ForCausalLM", "Phi3Config", dict(GATED, original_max_position_embeddings=320))
olmo = family("OlmoForCausalLM", "OlmoConfig", GATED)
olmo2 = family("Olmo2ForCausalLM", "Olmo2Config", GATED)
opt = family("OPTForCausalLM", "OPTConfig", dict(SMALL, ffn_dim=30, max_position_embeddings=40))
bloom = family("BloomForCausalLM", "BloomConfig",
               dict(vocab_size=41, hidden_size=16, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2))
falcon = family("FalconForCausalLM", "FalconConfig", dict(SMALL, ffn_hidden_size=30))
gpt_neo = family("GPTNeoForCausalLM", "GPTNeoConfig",
                 dict(vocab_size=41, hidden_size=16, num_layers=2, num_heads=2, max_position_embeddings=40,
                      window_size=4, attention_types=[[["global", "local"], 1]], bos_token_id=1, eos_token_id=2))


def gemma3_multimodal():
    """The text model inside one that sees pictures, of which the tests show it none."""
    vision = dict(hidden_size=4, intermediate_size=4, num_hidden_layers=1, num_attention_heads=1, image_size=8,
                  patch_size=4, vision_use_head=False)
    config = transformers.Gemma3Config(text_config=dict(GEMMA3, sliding_window=3, sliding_window_pattern=2), vision_config=vision,
                                       mm_tokens_per_image=4, image_token_index=40, boi_token_index=38,
                                       eoi_token_index=39)
    return transformers.Gemma3ForConditionalGeneration, config


def by_layer(full, sliding):
    return dict(rope_parameters=dict(full_attention=full, sliding_attention=sliding))


def rope(kind, theta=10000.0, **rest):
    return dict(rope_parameters=dict(rope_type=kind, rope_theta=theta, **rest))


HALF = dict(dtype=torch.float16, long=True)
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
    "llama-rope-dynamic": (llama(max_position_embeddings=8, num_hidden_layers=1, hidden_size=16,
                                 **rope("dynamic", 10000.0, factor=40.0)), dict(HALF, cached=True)),
    "llama-rope-longrope": (llama(num_hidden_layers=1, hidden_size=16,
                                  **rope("longrope", 10000.0, factor=4.0, short_factor=[1.0, 1.25],
                                         long_factor=[2.0, 3.5], original_max_position_embeddings=8)), HALF),
    "gpt_neo-plain": (gpt_neo(), HALF),
    "gpt_neo-local": (gpt_neo(num_layers=3, attention_types=[[["local"], 2], [["global"], 1]], window_size=1,
                              intermediate_size=22, activation_function="relu", tie_word_embeddings=False), HALF),
    "gpt_neo-base": (gpt_neo(hidden_size=18, num_heads=3, attention_types=[[["local"], 2]], window_size=7,
                             activation_function="gelu"), dict(HALF, base_only=True)),
    "mistral-window": (mistral(), HALF),
    "mistral-full-tied": (mistral(sliding_window=None, head_dim=6, num_key_value_heads=1, tie_word_embeddings=True,
                                  num_hidden_layers=3), HALF),
    "mistral-yarn": (mistral(sliding_window=7, num_key_value_heads=4, hidden_act="gelu", intermediate_size=35,
                             **rope("yarn", 1000.0, factor=8.0, original_max_position_embeddings=40)), HALF),
    "qwen2-plain": (qwen2(), HALF),
    "qwen2-window": (qwen2(use_sliding_window=True, sliding_window=3, max_window_layers=1, num_hidden_layers=3,
                           tie_word_embeddings=True), HALF),
    "qwen2-layer-types": (qwen2(use_sliding_window=True, sliding_window=100, num_key_value_heads=1,
                                layer_types=["sliding_attention", "full_attention"],
                                **rope("linear", 10000.0, factor=4.0)), HALF),
    "qwen3-plain": (qwen3(), HALF),
    "qwen3-window": (qwen3(use_sliding_window=True, sliding_window=5, max_window_layers=0, attention_bias=True,
                           head_dim=6), HALF),
    "qwen3-yarn-tied": (qwen3(num_key_value_heads=1, tie_word_embeddings=True, num_hidden_layers=3,
                              **rope("yarn", 1e6, factor=4.0, original_max_position_embeddings=80)), HALF),
    "gemma-plain": (gemma(), HALF),
    "gemma-biases": (gemma(num_key_value_heads=4, head_dim=4, attention_bias=True, hidden_act="gelu"), HALF),
    "gemma-untied": (gemma(num_key_value_heads=2, num_hidden_layers=3, tie_word_embeddings=False,
                           hidden_act="relu2"), HALF),
    "gemma2-plain": (gemma2(), HALF),
    "gemma2-no-caps": (gemma2(attn_logit_softcapping=None, final_logit_softcapping=None, num_key_value_heads=1,
                              num_hidden_layers=3, attention_bias=True), HALF),
    "gemma2-layer-types": (gemma2(layer_types=["full_attention", "sliding_attention"], sliding_window=100,
                                  attn_logit_softcapping=2.0, final_logit_softcapping=1.5,
                                  tie_word_embeddings=False), HALF),
    "gemma3-plain": (gemma3(sliding_window_pattern=3), HALF),
    "gemma3-scaled": (gemma3(num_hidden_layers=2, final_logit_softcapping=3.0, attn_logit_softcapping=2.0,
                             layer_types=["sliding_attention", "full_attention"],
                             **by_layer(dict(rope_type="linear", factor=8.0, rope_theta=500.0),
                                        dict(rope_type="default", rope_theta=30.0))), HALF),
    "gemma3-bidirectional": (gemma3(num_hidden_layers=2, sliding_window_pattern=2, sliding_window=6,
                                    use_bidirectional_attention=True), dict(HALF, encoder=True)),
    "gemma3-multimodal": (gemma3_multimodal(), HALF),
    "phi-plain": (phi(), HALF),
    "phi-qk-norm": (phi(qk_layernorm=True, num_key_value_heads=2, num_hidden_layers=3), HALF),
    "phi-partial": (phi(num_attention_heads=2, hidden_act="gelu", tie_word_embeddings=True,
                        **rope("default", 100.0, partial_rotary_factor=0.75)), HALF),
    "phi3-window": (phi3(sliding_window=4), HALF),
    "phi3-longrope": (phi3(original_max_position_embeddings=8, num_key_value_heads=4,
                           **rope("longrope", 10000.0, short_factor=[1.0, 1.5], long_factor=[3.0, 4.5])), HALF),
    "phi3-partial": (phi3(original_max_position_embeddings=10, num_attention_heads=2, num_key_value_heads=1,
                          num_hidden_layers=3, tie_word_embeddings=True,
                          **rope("longrope", 500.0, partial_rotary_factor=0.75, attention_factor=1.1,
                                 short_factor=[1.0, 1.0, 1.25], long_factor=[2.0, 3.0, 4.0])), HALF),
    "olmo-plain": (olmo(), HALF),
    "olmo-clip": (olmo(clip_qkv=0.8, num_key_value_heads=4, num_hidden_layers=3), HALF),
    "olmo-biases-tied": (olmo(attention_bias=True, tie_word_embeddings=True, num_key_value_heads=1,
                              **rope("dynamic", 1000.0, factor=2.0)), HALF),
    "olmo2-plain": (olmo2(), HALF),
    "olmo2-biases": (olmo2(attention_bias=True, num_key_value_heads=4, num_hidden_layers=3), HALF),
    "olmo2-mqa-tied": (olmo2(num_key_value_heads=1, tie_word_embeddings=True, rms_norm_eps=1e-2,
                             **rope("linear", 10000.0, factor=2.0)), HALF),
    "opt-plain": (opt(), HALF),
    "opt-post-norm": (opt(do_layer_norm_before=False, word_embed_proj_dim=12), HALF),
    "opt-bare": (opt(enable_bias=False, layer_norm_elementwise_affine=False, activation_function="gelu",
                     _remove_final_layer_norm=True, num_hidden_layers=3), dict(HALF, base_only=True)),
    "opt-untied": (opt(word_embed_proj_dim=20, tie_word_embeddings=False, num_attention_heads=2), HALF),
    "bloom-plain": (bloom(), HALF),
    "bloom-residual": (bloom(apply_residual_connection_post_layernorm=True, n_layer=3), HALF),
    "bloom-base": (bloom(hidden_size=18, n_head=9), dict(HALF, base_only=True)),
    "falcon-multi-query": (falcon(), HALF),
    "falcon-grouped": (falcon(new_decoder_architecture=True, num_kv_heads=2, bias=True), HALF),
    "falcon-one-norm": (falcon(new_decoder_architecture=True, num_kv_heads=4, num_ln_in_parallel_attn=1,
                               tie_word_embeddings=False), dict(HALF, base_only=False)),
    "falcon-sequential": (falcon(multi_query=False, parallel_attn=False, bias=True,
                                 **rope("default", 500.0)), dict(HALF, base_only=True)),
    "falcon-alibi": (falcon(alibi=True, multi_query=False, parallel_attn=False, bias=True, hidden_size=18,
                            num_attention_heads=9), dict(HALF, attention="sdpa")),
    "falcon-alibi-parallel": (falcon(alibi=True, hidden_size=24, num_attention_heads=12, num_hidden_layers=3),
                              dict(HALF, attention="sdpa")),
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
                centre = 0.0 if "gemma" in model.config.model_type else 1.0
                p.copy_(noise * 0.2 + (centre if name.endswith("weight") else 0.0))
            else:
                p.copy_(noise * 0.3)


def first(value):
    return value[0] if isinstance(value, tuple) else value


def run(model, paths, sequences):
    config = model.config
    blocks = model.get_submodule(paths["blocks"])
    parallel = paths["mid"] is None or getattr(config, "use_parallel_residual", False) or (
        config.model_type == "falcon" and config.parallel_attn)
    mid = paths["mid"]
    if config.model_type == "opt" and not config.do_layer_norm_before:
        mid = "self_attn_layer_norm"
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

    def on_qkv(module, i):
        def take(m, args, result):
            for name, value in zip("qkv", split_qkv(config, result.detach()[0])):
                keep(f"{i}.{name}", value)
        handles.append(module.register_forward_hook(take))

    on_output(model.get_input_embeddings(), "0.embed")
    if paths["positions"]:
        base = model.get_submodule(paths["blocks"].rpartition(".")[0])
        on_output(base.get_submodule(paths["positions"]), "0.pos_embed")
    for i, block in enumerate(blocks):
        on_input(block, f"{i}.resid_pre")
        attention = block.get_submodule(paths["heads"])
        if paths["qkv"]:
            on_qkv(attention.get_submodule(paths["qkv"]), i)
        else:
            for name in "qkv":
                on_output(attention.get_submodule(f"{name}_proj"), f"{i}.{name}")
        on_input(attention.get_submodule(paths["o"]), f"{i}.attn_z")
        on_output(block.get_submodule(paths["attn"]), f"{i}.attn_out")
        if not parallel:
            on_input(block.get_submodule(mid), f"{i}.resid_mid")
        on_input(block.get_submodule(paths["mlp_in"]), f"{i}.mlp_in")
        on_input(block.get_submodule(paths["down"]), f"{i}.mlp_post")
        on_output(block.get_submodule(paths["mlp"]), f"{i}.mlp_out")
        on_output(block, f"{i}.resid_post")
        for hook in ("attn_add", "mlp_add"):
            if paths[hook]:
                on_output(block.get_submodule(paths[hook]), f"{i}.{hook}")
    with torch.no_grad():
        for ids in sequences:
            keep("logits", model(torch.tensor([ids])).logits)
    for handle in handles:
        handle.remove()
    return out


def greedy(model, prompt, count, cached):
    if cached:  # whose frequencies change with the length, while the cached keys stay as they are
        model.generation_config.eos_token_id = None
        return model.generate(torch.tensor([prompt]), max_new_tokens=count, do_sample=False)[0].tolist()
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids


def write_case(folder, name, spec, options, seed):
    model_class, config = spec
    attention = options.get("attention", "eager")
    config._attn_implementation = attention
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
    model = model_class.from_pretrained(target, dtype=torch.float32, attn_implementation=attention).eval()
    text = config.get_text_config()
    vocab = text.vocab_size
    sequences = [[int(t) for t in torch.randint(0, vocab, (n,), generator=generator)] for n in LENGTHS]
    tensors = run(model, MODULES[config.model_type], sequences)
    boundaries = [0]
    for ids in sequences:
        boundaries.append(boundaries[-1] + len(ids))
    tensors["ids"] = torch.tensor(sum(sequences, []), dtype=torch.int32)
    tensors["boundaries"] = torch.tensor(boundaries, dtype=torch.int64)
    if not options.get("encoder"):
        tensors["greedy"] = torch.tensor(greedy(model, sequences[0], GREEDY, options.get("cached")),
                                         dtype=torch.int32)
    if options.get("long"):
        positions = getattr(text, "max_position_embeddings", LONG)
        length = LONG if options.get("cached") else min(LONG, positions)
        long = torch.randint(0, vocab, (length,), generator=generator)
        tensors["long_ids"] = long.to(torch.int32)
        with torch.no_grad():
            tensors["long_last"] = model(long[None]).logits[0, -1]
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
    wanted = tuple(sys.argv[2:]) or ("",)
    for seed, (name, (spec, options)) in enumerate(CASES.items()):
        if name.startswith(wanted):
            write_case(folder, name, spec, options, seed + 1)
    if wanted == ("",):
        write_sampling(folder)


if __name__ == "__main__":
    main()
