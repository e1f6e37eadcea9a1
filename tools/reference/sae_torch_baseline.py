#!/usr/bin/env python3
"""The described sparse autoencoder recipe (ReLU, L1, tied bias, unit decoder, Adam) in PyTorch.

The yardstick of `drrik bench train`: the same recipe with PyTorch's best settings on this
machine (inductor or eager, fused / foreach / for-loop Adam), on activations made by
`make_rows` below, which reach an L0 under 64 within a few hundred steps. With --init and --rows
it starts from the same weights and rows as drrik, so that loss curves can be compared.

Tested with torch 2.15.0, numpy 2.4.6.

  sae_torch_baseline.py --d 512 --hidden 4096 --batch 256 --steps 1000 --adam fused --threads 2
  sae_torch_baseline.py --make-rows rows.npy --n 65536 --d 512        # for drrik train
"""
import argparse
import json
import sys
import time

import numpy as np
import torch


def make_rows(n, d, seed=0, components=2048, active=24, rank=32):
    """Sparse combinations of unit directions plus a low-rank dense part and a constant offset."""
    g = np.random.default_rng(seed)
    directions = g.standard_normal((components, d), dtype=np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    low = g.standard_normal((rank, d), dtype=np.float32) / np.sqrt(d)
    offset = 0.1 * g.standard_normal(d, dtype=np.float32)
    out = np.empty((n, d), np.float32)
    for begin in range(0, n, 4096):
        m = min(4096, n - begin)
        codes = np.zeros((m, components), np.float32)
        which = g.integers(0, components, (m, active))
        np.put_along_axis(codes, which, g.exponential(1.0, (m, active)).astype(np.float32), 1)
        out[begin:begin + m] = codes @ directions + 0.3 * (
            g.standard_normal((m, rank), dtype=np.float32) @ low) + offset
    return out


class SparseAutoencoder(torch.nn.Module):
    def __init__(self, d, h, l1, tied_bias=True):
        super().__init__()
        self.l1 = l1
        self.encoder = torch.nn.Linear(d, h, bias=False)
        self.decoder = torch.nn.Linear(h, d, bias=False)
        self.encoder_bias = torch.nn.Parameter(torch.zeros(h))
        self.bias = torch.nn.Parameter(torch.zeros(d)) if tied_bias else None
        self.normalize_decoder()

    @torch.no_grad()
    def normalize_decoder(self):
        w = self.decoder.weight
        w /= w.norm(dim=0, keepdim=True).clamp_min(1e-8)

    @torch.no_grad()
    def remove_parallel(self):
        w, g = self.decoder.weight, self.decoder.weight.grad
        g -= (g * w).sum(0, keepdim=True) * w

    def loss(self, x):
        centred = x - self.bias if self.bias is not None else x
        f = torch.relu(self.encoder(centred) + self.encoder_bias)
        r = self.decoder(f)
        if self.bias is not None:
            r = r + self.bias
        mse = ((r - x) ** 2).mean()
        return mse + self.l1 * f.abs().sum(1).mean(), f


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--d", type=int, default=512)
    p.add_argument("--hidden", type=int, default=4096)
    p.add_argument("--batch", type=int, default=256)
    p.add_argument("--steps", type=int, default=1000)
    p.add_argument("--time-steps", type=int, default=100, help="steps at the end that are timed")
    p.add_argument("--l1", type=float, default=0.01)
    p.add_argument("--lr", type=float, default=1e-4)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--adam", choices=["fused", "foreach", "loop"], default="fused")
    p.add_argument("--compile", action="store_true", help="torch.compile the loss")
    p.add_argument("--n", type=int, default=65536)
    p.add_argument("--rows", help=".npy of training rows instead of made ones")
    p.add_argument("--make-rows", help="write the rows as .npy and stop")
    p.add_argument("--init", help="safetensors: encoder.weight, decoder.weight, encoder_bias, bias")
    p.add_argument("--save-init", help="write the starting weights as safetensors")
    p.add_argument("--losses", help="write one JSON line a step: step, loss, l0")
    p.add_argument("--skip-to-sparse", action="store_true",
                   help="time only: start from weights whose L0 is already under 64")
    p.add_argument("--seed", type=int, default=0)
    a = p.parse_args()

    rows = np.load(a.rows) if a.rows else make_rows(a.n, a.d, a.seed)
    if a.make_rows:
        np.save(a.make_rows, rows)
        return
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    x = torch.from_numpy(np.ascontiguousarray(rows, np.float32))
    sae = SparseAutoencoder(x.shape[1], a.hidden, a.l1)
    with torch.no_grad():
        sae.bias.copy_(x[:min(len(x), 65536)].median(0).values)
    if a.init:
        from safetensors.torch import load_file
        t = load_file(a.init)
        with torch.no_grad():
            sae.encoder.weight.copy_(t["encoder.weight"])
            sae.decoder.weight.copy_(t["decoder.weight"])
            for name in ("encoder_bias", "bias"):
                if name in t:
                    getattr(sae, name).copy_(t[name])
    if a.save_init:
        from safetensors.torch import save_file
        save_file({k: v.detach().clone().contiguous() for k, v in sae.state_dict().items()},
                  a.save_init)
    if a.skip_to_sparse:
        # The cost of a dense step does not depend on L0, but keep the claim honest.
        with torch.no_grad():
            sae.encoder_bias.fill_(-0.35)
    kind = {"fused": {"fused": True}, "foreach": {"foreach": True}, "loop": {"foreach": False}}
    adam = torch.optim.Adam(sae.parameters(), lr=a.lr, **kind[a.adam])
    loss_of = torch.compile(sae.loss) if a.compile else sae.loss
    log = open(a.losses, "w") if a.losses else None
    times = []
    n = len(x) // a.batch * a.batch
    for step in range(a.steps):
        begin = step * a.batch % n
        start = time.perf_counter()
        batch = x[begin:begin + a.batch]
        adam.zero_grad()
        loss, f = loss_of(batch)
        loss.backward()
        sae.remove_parallel()
        adam.step()
        sae.normalize_decoder()
        value = loss.item()
        times.append(time.perf_counter() - start)
        if log or step % 100 == 0 or step + 1 == a.steps:
            with torch.no_grad():
                l0 = (f > 0).float().sum(1).mean().item()
            if log:
                log.write(json.dumps({"step": step, "loss": value, "l0": l0}) + "\n")
            if step % 100 == 0 or step + 1 == a.steps:
                print(f"step {step} loss {value:.6f} l0 {l0:.1f} ms {times[-1] * 1e3:.2f}",
                      file=sys.stderr)
    last = sorted(times[-a.time_steps:])
    print(json.dumps({"d": a.d, "hidden": a.hidden, "batch": a.batch, "adam": a.adam,
                      "compile": a.compile, "threads": a.threads, "loss": value, "l0": l0,
                      "ms_best": last[0] * 1e3, "ms_median": last[len(last) // 2] * 1e3,
                      "rows_per_s_best": a.batch / last[0]}))


if __name__ == "__main__":
    main()
