"""Writes tests/data/model/hook_names.json: under which names the same activations are known.

    python tools/reference/hook_names.py tests/data/model/hook_names.json

Versions: torch 2.15.0, transformers 5.23.0, transformer_lens 4.3.0.

Tiny random models of every family and wiring are run once. Of block LAYER, the input and output of every
module is taken as transformers hands it over, and every hook of TransformerLens's TransformerBridge around
the same model; names whose values are equal form a group. A case is

    {"name", "config": the model's config.json, "groups": [[name, ...], ...]}

with names like "model.layers.1.mlp.output", "model.layers.1.input" and "blocks.1.hook_mlp_out", and "outer":
the same of what stands in front of block 0, with "blocks.0.input" for what the block reads. Groups that
hold nothing but weights' shapes (scores, masks) or values of no use (norm denominators) are there too: a test
must not take them for a hook point.
"""

import json
import sys
import tempfile

import tokenizers
import torch
import transformers as hf

LAYER = 1
LENGTH = 9


def text(**overrides):
    config = dict(vocab_size=67, hidden_size=32, intermediate_size=40, num_hidden_layers=2,
                  num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, pad_token_id=0,
                  bos_token_id=1, eos_token_id=2)
    config.update(overrides)
    return config


def bert(**overrides):
    return text(**{**dict(num_key_value_heads=None, intermediate_size=44), **overrides})


def gemma3_multimodal():
    vision = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
                  image_size=8, patch_size=4)
    return hf.Gemma3Config(text_config=text(head_dim=8), vision_config=vision, mm_tokens_per_image=4)


CASES = {
    "gpt2": (hf.GPT2LMHeadModel, lambda: hf.GPT2Config(vocab_size=61, n_positions=40, n_embd=24, n_layer=2,
                                                       n_head=3, bos_token_id=0, eos_token_id=0)),
    "gpt_neo": (hf.GPTNeoForCausalLM,
                lambda: hf.GPTNeoConfig(vocab_size=61, max_position_embeddings=40, hidden_size=24,
                                        num_layers=2, num_heads=3, window_size=8, bos_token_id=0,
                                        eos_token_id=0, attention_types=[[["global", "local"], 1]])),
    "gpt_neox": (hf.GPTNeoXForCausalLM, lambda: hf.GPTNeoXConfig(**text(num_key_value_heads=None))),
    "gpt_neox-sequential": (hf.GPTNeoXForCausalLM,
                            lambda: hf.GPTNeoXConfig(**text(num_key_value_heads=None),
                                                     use_parallel_residual=False)),
    "llama": (hf.LlamaForCausalLM, lambda: hf.LlamaConfig(**text())),
    "mistral": (hf.MistralForCausalLM, lambda: hf.MistralConfig(**text())),
    "qwen2": (hf.Qwen2ForCausalLM, lambda: hf.Qwen2Config(**text())),
    "qwen3": (hf.Qwen3ForCausalLM, lambda: hf.Qwen3Config(**text(head_dim=8))),
    "gemma": (hf.GemmaForCausalLM, lambda: hf.GemmaConfig(**text(head_dim=8))),
    "gemma2": (hf.Gemma2ForCausalLM, lambda: hf.Gemma2Config(**text(head_dim=8))),
    "gemma3_text": (hf.Gemma3ForCausalLM, lambda: hf.Gemma3TextConfig(**text(head_dim=8))),
    "gemma3": (hf.Gemma3ForConditionalGeneration, gemma3_multimodal),
    "phi": (hf.PhiForCausalLM, lambda: hf.PhiConfig(**text())),
    "phi3": (hf.Phi3ForCausalLM, lambda: hf.Phi3Config(**text())),
    "olmo": (hf.OlmoForCausalLM, lambda: hf.OlmoConfig(**text())),
    "olmo2": (hf.Olmo2ForCausalLM, lambda: hf.Olmo2Config(**text())),
    "opt": (hf.OPTForCausalLM,
            lambda: hf.OPTConfig(vocab_size=67, hidden_size=24, num_hidden_layers=2, ffn_dim=40,
                                 num_attention_heads=4, max_position_embeddings=64)),
    "opt-post-norm": (hf.OPTForCausalLM,
                      lambda: hf.OPTConfig(vocab_size=67, hidden_size=24, num_hidden_layers=2, ffn_dim=40,
                                           num_attention_heads=4, max_position_embeddings=64,
                                           do_layer_norm_before=False, word_embed_proj_dim=12)),
    "bloom": (hf.BloomForCausalLM, lambda: hf.BloomConfig(vocab_size=67, hidden_size=24, n_layer=2, n_head=4)),
    "falcon": (hf.FalconForCausalLM,
               lambda: hf.FalconConfig(vocab_size=67, hidden_size=24, num_hidden_layers=2,
                                       num_attention_heads=4)),
    "falcon-two-norms": (hf.FalconForCausalLM,
                         lambda: hf.FalconConfig(vocab_size=67, hidden_size=24, num_hidden_layers=2,
                                                 num_attention_heads=4, num_kv_heads=2,
                                                 new_decoder_architecture=True)),
    "falcon-sequential": (hf.FalconForCausalLM,
                          lambda: hf.FalconConfig(vocab_size=67, hidden_size=24, num_hidden_layers=2,
                                                  num_attention_heads=4, multi_query=False, bias=True,
                                                  parallel_attn=False, alibi=True)),
    "bert": (hf.BertForMaskedLM, lambda: hf.BertConfig(**bert())),
    "distilbert": (hf.DistilBertForMaskedLM,
                   lambda: hf.DistilBertConfig(vocab_size=67, dim=24, n_layers=2, n_heads=4, hidden_dim=44,
                                               max_position_embeddings=64)),
    "roberta": (hf.RobertaForMaskedLM, lambda: hf.RobertaConfig(**bert(pad_token_id=1, bos_token_id=0))),
}


# A TransformerBridge does not know DistilBERT, and fails on the other two's sizes of projections.
WITHOUT_LENS = ("distilbert", "opt-post-norm", "falcon-two-norms")


def randomize(model):
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            p.copy_(noise * 0.3 + (1.0 if p.ndim == 1 and "norm" in name.lower() else 0.0))


def tensor_of(value):
    while isinstance(value, (tuple, list)) and value:
        value = value[0]
    if not torch.is_tensor(value) or not value.is_floating_point():
        return None
    if value.ndim == 4 and value.shape[2] == LENGTH != value.shape[1]:  # heads in front of positions
        value = value.transpose(1, 2)
    return value.detach().clone()


def module_values(model, blocks, ids, outer):
    """Name -> value [T, width] of every input and output in block LAYER; with `outer` of every output outside
    the blocks, and of what block 0 reads."""
    values = {}

    def keep(name, value):
        value = tensor_of(value)
        if value is not None and value.numel() % LENGTH == 0:
            values[name] = value.reshape(-1)

    def first_input(args, kwargs):
        return args if args else kwargs.get("hidden_states")

    handles = []
    prefix = f"{blocks}.{LAYER}"
    for path, module in model.named_modules():
        inside = path == blocks or path.startswith(blocks + ".")
        if outer and path == blocks + ".0":
            handles.append(module.register_forward_pre_hook(
                lambda m, args, kwargs: keep("blocks.0.input", first_input(args, kwargs)), with_kwargs=True))
        elif outer and not inside and "embed" in path + str(type(module)).lower():
            handles.append(module.register_forward_hook(
                lambda m, args, result, path=path: keep(path + ".output", result)))
        if outer or path != prefix and not path.startswith(prefix + "."):
            continue
        handles.append(module.register_forward_pre_hook(
            lambda m, args, kwargs, path=path: keep(path + ".input", first_input(args, kwargs)),
            with_kwargs=True))
        handles.append(module.register_forward_hook(
            lambda m, args, result, path=path: keep(path + ".output", result)))
    with torch.no_grad():
        model(input_ids=ids)
    for handle in handles:
        handle.remove()
    return values


def lens_values(model, folder, ids):
    """The same of every hook of a TransformerBridge around the model."""
    from transformer_lens.model_bridge import TransformerBridge
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({str(i): i for i in range(67)}, "0"))
    tokenizer = hf.PreTrainedTokenizerFast(tokenizer_object=words, bos_token="1", eos_token="2", pad_token="0")
    tokenizer.save_pretrained(folder)
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    bridge = TransformerBridge.boot_transformers(folder, hf_model=model, tokenizer=tokenizer,
                                                 dtype=torch.float32)
    bridge.cfg.use_hook_mlp_in = True
    with torch.no_grad():
        _, cache = bridge.run_with_cache(ids)
    values = {name: tensor_of(value) for name, value in cache.items()}
    return {name: value.reshape(-1) for name, value in values.items() if value is not None}


def same(a, b):
    # A bridge computes attention and norms itself, so the last bits differ.
    return a.shape == b.shape and bool((a - b).norm() <= 1e-5 * b.norm())


def grouped(values):
    """Names of the same values together."""
    groups = []
    for key, value in values.items():
        group = next((g for g in groups if same(value, g[0])), None)
        if group is None:
            groups.append((value, [key]))
        else:
            group[1].append(key)
    return [names for _, names in groups]


def main():
    torch.set_num_threads(1)
    cases = []
    for name, (model_class, make) in CASES.items():
        config = make()
        config._attn_implementation = "eager"
        config.architectures = [model_class.__name__]
        model = model_class(config).eval()
        randomize(model)
        blocks = next(path for path, m in model.named_modules()
                      if isinstance(m, torch.nn.ModuleList) and "vision" not in path)
        ids = torch.randint(3, 60, (1, LENGTH), generator=torch.Generator().manual_seed(5))
        with tempfile.TemporaryDirectory() as folder:
            model.config.save_pretrained(folder)
            stored = json.loads(open(folder + "/config.json").read())
            values = module_values(model, blocks, ids, outer=False)
            outer = module_values(model, blocks, ids, outer=True)
            lens = {} if name in WITHOUT_LENS else lens_values(model, folder, ids)
        for key, value in lens.items():
            if key.startswith(f"blocks.{LAYER}."):
                values[key] = value
            elif "embed" in key and "unembed" not in key:
                outer[key] = value
        cases.append(dict(name=name, config=stored, groups=grouped(values), outer=grouped(outer)))
        print(name, len(values), len(lens), len(cases[-1]["groups"]))
    lines = [json.dumps(case, separators=(",", ":")) for case in cases]
    with open(sys.argv[1], "w") as file:
        file.write("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
