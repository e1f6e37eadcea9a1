#!/usr/bin/env python3
"""Writes tests/data/checkpoints: the same small models in the forms that checkpoints come in.

Made with Python 3.11 and the versions in tools/reference/requirements.txt (accelerate 1.15 beside
them, which transformers wants for its fp8 loader).
 fp8-block, fp8-matrix: Llamas with matrices in float8_e4m3fn and scales a block of 16 x 16, or one a
   matrix, as transformers' fine-grained FP8 stores them; logits.safetensors holds what
   transformers makes of them with dequantize=True in float32.
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
    write_torch()


if __name__ == "__main__":
    main()
