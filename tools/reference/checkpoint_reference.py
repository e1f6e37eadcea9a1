#!/usr/bin/env python3
"""Writes tests/data/checkpoints: the same small models in the forms that checkpoints come in.

Made with Python 3.11 and the versions in tools/reference/requirements.txt (accelerate 1.15 beside
them, which transformers wants for its fp8 loader).
 fp8-block, fp8-matrix: Llamas with matrices in float8_e4m3fn and scales a block of 16 x 16, or one a
   matrix, as transformers' fine-grained FP8 stores them; logits.safetensors holds what
   transformers makes of them with dequantize=True in float32.
 compressed-tensor, compressed-channel, compressed-block: likewise in compressed-tensors' float-quantized
   layout, with scales a matrix, a row (bfloat16) or a block; what they mean is that package's
   dequantize() (compressed-tensors 0.20). fbgemm: as transformers' FbgemmFp8Config stores them; it widens
   nothing without its kernels, so here codes times scales are the oracle.
 torch/*.bin: the tensors of tests/data/model/llama-plain as torch.save() writes them: in a zip
   archive, as torch before 1.6, and with matrices whose strides are not those of their shape.
"""

import json
import pathlib
import shutil

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, FineGrainedFP8Config, LlamaConfig, LlamaForCausalLM

DATA = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data"
OUT = DATA / "checkpoints"


def quantised(weight, block):
    rows, cols = block or weight.shape
    scales = torch.empty(weight.shape[0] // rows, weight.shape[1] // cols)
    codes = torch.empty_like(weight)
    for i in range(scales.shape[0]):
        for j in range(scales.shape[1]):
            part = (slice(i * rows, (i + 1) * rows), slice(j * cols, (j + 1) * cols))
            scales[i, j] = weight[part].abs().max() / 448
            codes[part] = weight[part] / scales[i, j]
    return codes.to(torch.float8_e4m3fn), scales if block else scales.reshape(())


def write_fp8(name, block):
    torch.manual_seed(0)
    config = LlamaConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2, vocab_size=40,
                         max_position_embeddings=64)
    tensors = {}
    for key, weight in LlamaForCausalLM(config).float().state_dict().items():
        if key.endswith("_proj.weight"):
            tensors[key], tensors[key + "_scale_inv"] = quantised(weight, block)
        else:
            tensors[key] = weight.clone()
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    settings = config.to_dict() | {"architectures": ["LlamaForCausalLM"], "quantization_config": {
        "quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": block}}
    (folder / "config.json").write_text(json.dumps(settings, indent=1) + "\n")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32,
        quantization_config=FineGrainedFP8Config(dequantize=True, weight_block_size=block))
    ids = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6, 5, 35], dtype=torch.int32)
    with torch.no_grad():
        logits = model(ids[None].long()).logits[0]
    save_file({"ids": ids, "logits": logits.contiguous()}, folder / "logits.safetensors")


def small_llama():
    torch.manual_seed(0)
    return LlamaConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
                       num_key_value_heads=2, vocab_size=40, max_position_embeddings=64)


def write_scaled(name, quantization, block_of, scale_dtype, widen):
    """Matrices as codes and `weight_scale`, which `widen(codes, scales)` makes matrices again."""
    config = small_llama()
    model = LlamaForCausalLM(config).float().eval()
    tensors = model.state_dict()
    wide = dict(tensors)
    for key, weight in list(tensors.items()):
        if not key.endswith("_proj.weight"):
            continue
        codes, scales = quantised(weight, block_of(weight))
        scales = scales.reshape(scales.shape or (1,)).to(scale_dtype)
        tensors[key], tensors[key + "_scale"] = codes, scales
        wide[key] = widen(codes, scales).float()
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    settings = config.to_dict() | {"architectures": ["LlamaForCausalLM"], "quantization_config": quantization}
    (folder / "config.json").write_text(json.dumps(settings, indent=1) + "\n")
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, folder / "model.safetensors",
              metadata={"format": "pt"})
    model.load_state_dict(wide)
    ids = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6, 5, 35], dtype=torch.int32)
    with torch.no_grad():
        logits = model(ids[None].long()).logits[0]
    save_file({"ids": ids, "logits": logits.contiguous()}, folder / "logits.safetensors")


def write_compressed():
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.lifecycle.forward import dequantize
    for strategy, block_of, scale_dtype in (("tensor", lambda w: None, torch.float32),
                                            ("channel", lambda w: [1, w.shape[1]], torch.bfloat16),
                                            ("block", lambda w: [16, 16], torch.float32)):
        args = dict(num_bits=8, type="float", strategy=strategy, symmetric=True, dynamic=False)
        if strategy == "block":
            args["block_structure"] = [16, 16]
        quantization = dict(
            quant_method="compressed-tensors", format="float-quantized", quantization_status="compressed",
            ignore=["lm_head"], kv_cache_scheme=None, sparsity_config={},
            config_groups=dict(group_0=dict(targets=["Linear"], output_activations=None, weights=args,
                                            input_activations=dict(args, strategy="token", dynamic=True))))
        write_scaled("compressed-" + strategy, quantization, block_of, scale_dtype,
                     lambda codes, scales, args=args: dequantize(codes, scales.float(), None,
                                                                 QuantizationArgs(**args)))
    write_scaled("fbgemm", dict(quant_method="fbgemm_fp8", activation_scale_ub=1200.0, modules_to_not_convert=["lm_head"]),
                 lambda w: [1, w.shape[1]], torch.float32, lambda codes, scales: codes.float() * scales)


def write_torch():
    folder = OUT / "torch"
    folder.mkdir(parents=True, exist_ok=True)
    tensors = load_file(DATA / "model" / "llama-plain" / "model.safetensors")
    torch.save(tensors, folder / "zip.bin")
    torch.save(tensors, folder / "legacy.bin", _use_new_zipfile_serialization=False)
    strided = {k: v.t().contiguous().t() if v.dim() == 2 else v for k, v in tensors.items()}
    torch.save(strided, folder / "strided.bin")


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    write_fp8("fp8-block", [16, 16])
    write_fp8("fp8-matrix", None)
    write_compressed()
    write_torch()


if __name__ == "__main__":
    main()
