#!/usr/bin/env python3
"""Writes tests/data/train/trajectory_*.safetensors: short runs of the described autoencoder.

PyTorch float32 on one thread: x [4B, d], init.*, per step loss, mse, l0 (before the update; step s
takes rows [(s mod 4) B, (s mod 4 + 1) B)), features, reconstruction and gradients of step 0 (before
the decoder-parallel part is removed), final.* weights. Metadata has the settings.

torch 2.15.0, safetensors 0.8.0.    sae_trajectory.py OUTPUT_FOLDER
"""
import pathlib
import sys

import torch
from safetensors.torch import save_file

RUNS = {
    # Widths that are no multiple of any vector length; the second one gets sparse and has no
    # constraint, the third has no tied bias.
    "tied": dict(d=13, h=37, b=17, l1=0.01, lr=1e-3, steps=60, tied=True, unit=True),
    "free": dict(d=11, h=21, b=16, l1=0.2, lr=3e-3, steps=60, tied=True, unit=False),
    "plain": dict(d=8, h=24, b=12, l1=0.05, lr=2e-3, steps=60, tied=False, unit=True),
}


def run(seed, d, h, b, l1, lr, steps, tied, unit):
    torch.manual_seed(seed)
    codes = torch.rand(4 * b, 3 * d) * (torch.rand(4 * b, 3 * d) < 0.15)
    x = codes @ torch.randn(3 * d, d) / d**0.5 + 0.3 * torch.randn(d)
    encoder = torch.nn.Linear(d, h, bias=False)
    decoder = torch.nn.Linear(h, d, bias=False)
    encoder_bias = torch.nn.Parameter(torch.zeros(h))
    bias = torch.nn.Parameter(x.median(0).values.clone())
    unit_(decoder.weight, unit)
    named = {"encoder.weight": encoder.weight, "decoder.weight": decoder.weight,
             "encoder_bias": encoder_bias}
    if tied:
        named["bias"] = bias
    out = {"x": x}
    for name, p in named.items():
        if name != "encoder_bias":
            out["init." + name] = p.detach().clone()
    adam = torch.optim.Adam(list(named.values()), lr=lr, foreach=False)
    records = {"loss": [], "mse": [], "l0": []}
    for step in range(steps):
        rows = x[step % 4 * b:(step % 4 + 1) * b]
        f = torch.relu(encoder(rows - bias if tied else rows) + encoder_bias)
        r = decoder(f) + bias if tied else decoder(f)
        mse = ((r - rows) ** 2).mean()
        loss = mse + l1 * f.abs().sum(1).mean()
        adam.zero_grad()
        loss.backward()
        records["loss"].append(loss.item())
        records["mse"].append(mse.item())
        records["l0"].append((f > 0).float().sum(1).mean().item())
        if step == 0:
            out["step0.features"] = f.detach().clone()
            out["step0.reconstruction"] = r.detach().clone()
            for name, p in named.items():
                out["step0.grad." + name] = p.grad.clone()
        if unit:
            with torch.no_grad():
                w, g = decoder.weight, decoder.weight.grad
                g -= (g * w).sum(0, keepdim=True) * w
        adam.step()
        unit_(decoder.weight, unit)
    for name, p in named.items():
        out["final." + name] = p.detach().clone()
    for name, values in records.items():
        out[name] = torch.tensor(values, dtype=torch.float32)
    metadata = {"activation_dim": str(d), "hidden_dim": str(h), "batch_size": str(b),
                "l1_coefficient": str(l1), "learning_rate": str(lr), "steps": str(steps),
                "pre_encoder_bias": str(tied), "normalize_decoder": str(unit),
                "torch": torch.__version__}
    return {k: v.contiguous() for k, v in out.items()}, metadata


@torch.no_grad()
def unit_(w, unit):
    if unit:
        w /= w.norm(dim=0, keepdim=True).clamp_min(1e-8)


def main():
    torch.set_num_threads(1)
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, settings) in enumerate(RUNS.items()):
        tensors, metadata = run(seed, **settings)
        save_file(tensors, folder / f"trajectory_{name}.safetensors", metadata)
        print(name, "loss", tensors["loss"][0].item(), "->", tensors["loss"][-1].item(), "l0",
              tensors["l0"][0].item(), "->", tensors["l0"][-1].item())


if __name__ == "__main__":
    main()
