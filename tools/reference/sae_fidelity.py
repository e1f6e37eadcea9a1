#!/usr/bin/env python3
"""Trains a sparse autoencoder with a package's own trainer on a matrix, and prints how good it got.

  sae_fidelity.py synthetic FOLDER [--features 128 --d 64 --rows 400000 --active 4 --noise 0 --seed 0]
      FOLDER/x.npy [rows, d], FOLDER/truth.npy [features, d] (unit directions): every row is the sum
      of some directions, each there with probability active/features and a size from U(0.5, 1.5).
  sae_fidelity.py train X.npy --package dl|sl --arch ARCH --d-sae H --steps S [--k K | --penalty P] ...
      prints one JSON object with the settings and
        fvu, l0, dead    on the last --held-out rows: sum |x-r|^2 / sum |x-mean|^2 in float64, mean
                         active latents a row, share of latents active on none of those rows
        rows_per_second  of the whole loop on --threads threads
        mmcs, found      with --truth: mean over the true directions of the largest cosine of any
                         decoder row with them; share of them where it is above 0.9
      --out FOLDER saves what the package would save, with init.safetensors (names of sae_steps) and
      the held-out rows' features.npy beside it.

ARCH: dl bricken april topk batchtopk matryoshka jumprelu gated; sl april topk batchtopk matryoshka
jumprelu jumprelu_tanh gated. What is evaluated is the form for inference (BatchTopK and Matryoshka:
their threshold, started after a tenth of the steps in dl). dl's jumprelu takes --k for its target L0.
A latent counts as dead after --dead-after rows, which short runs want less than the packages' 10^7.

The batches, for another trainer to be given the same: with t = n - held_out rows to train on, step s
takes rows (sB + j) mod t for j = 0 ... B-1, in the file's order (shuffle the file, not the run); the
seed is torch's and draws the first weights alone. Rows are multiplied by one number first (--scale):
"unit" makes the training rows' mean |x|^2 one, as dictionary_learning does, "sqrt_d" makes their mean
|x| the square root of d, as SAELens does; penalties and thresholds hold for those units. The learning
rate warms up over --warmup steps and falls to 0 over the last fifth (--decay), as each package does
that (tests/data/sae_steps/schedules.json). Adam, betas, clipping and projections are the package's.

sae-lens 6.54.12, dictionary-learning 0.1.0, torch 2.15.0, numpy 2.4.6.
"""
import argparse
import json
import pathlib
import tempfile
import time
import warnings

import sae_packages  # noqa: F401  (before the packages)
import numpy as np
import torch
from safetensors.torch import save_file

import dictionary_learning.trainers as dl
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer
from dictionary_learning.trainers.standard import StandardTrainerAprilUpdate
from sae_lens import saes as sl
from sae_lens.config import SAETrainerConfig
from sae_lens.saes.sae import SAE
from sae_lens.training.sae_trainer import SAETrainer

GROUPS = (1 / 16, 1 / 8, 1 / 4, 9 / 16)  # of Matryoshka's latents; prefixes of 1/16, 3/16, 7/16, 1
CHUNK = 4096
ARCHITECTURES = {
    "dl": ("bricken", "april", "topk", "batchtopk", "matryoshka", "jumprelu", "gated"),
    "sl": ("april", "topk", "batchtopk", "matryoshka", "jumprelu", "jumprelu_tanh", "gated")}


def synthetic(a):
    rng, out = np.random.default_rng(a.seed), pathlib.Path(a.folder)
    out.mkdir(parents=True, exist_ok=True)
    truth = rng.standard_normal((a.features, a.d)).astype("f4")
    truth /= np.linalg.norm(truth, axis=1, keepdims=True)
    x = np.lib.format.open_memmap(out / "x.npy", "w+", "f4", (a.rows, a.d))
    for i in range(0, a.rows, CHUNK):
        n = min(CHUNK, a.rows - i)
        sizes = rng.uniform(0.5, 1.5, (n, a.features)).astype("f4")
        there = rng.random((n, a.features), "f4") < a.active / a.features
        x[i:i + n] = (sizes * there) @ truth + a.noise * rng.standard_normal((n, a.d)).astype("f4")
    np.save(out / "truth.npy", truth)


class DictionaryLearning:
    def __init__(self, a, d):
        common = dict(steps=a.steps, activation_dim=d, dict_size=a.d_sae, layer=0, lm_name="none",
                      device="cpu", lr=a.lr, warmup_steps=a.warmup, decay_start=a.steps - a.decay)
        top = dict(k=a.k, auxk_alpha=a.aux, threshold_start_step=a.steps // 10)
        sparse = dict(l1_penalty=a.penalty, sparsity_warmup_steps=a.penalty_warmup)
        self.trainer = {
            "bricken": lambda: dl.StandardTrainer(**common, **sparse),
            "april": lambda: StandardTrainerAprilUpdate(**common, **sparse),
            "gated": lambda: dl.GatedSAETrainer(**common, **sparse),
            "topk": lambda: dl.TopKTrainer(**common, **top),
            "batchtopk": lambda: dl.BatchTopKTrainer(**common, **top),
            "matryoshka": lambda: MatryoshkaBatchTopKTrainer(**common, **top,
                                                             group_fractions=list(GROUPS)),
            "jumprelu": lambda: dl.JumpReluTrainer(
                **common, sparsity_penalty=a.penalty, target_l0=float(a.k), bandwidth=a.bandwidth,
                sparsity_warmup_steps=a.penalty_warmup)}[a.arch]()
        self.trainer.dead_feature_threshold = a.dead_after
        self.sae, self.step_index = self.trainer.ae, 0

    def step(self, x):
        self.trainer.update(self.step_index, x)
        self.step_index += 1

    def final(self, folder):
        torch.save(self.sae.state_dict(), folder / "ae.pt")
        (folder / "config.json").write_text(json.dumps({"trainer": self.trainer.config}, indent=1))
        return self.sae.encode, self.sae.decode


class SaeLens:
    def __init__(self, a, d):
        common = dict(d_in=d, d_sae=a.d_sae)
        top = dict(aux_loss_coefficient=a.aux)
        sparse = dict(l1_coefficient=a.penalty, l1_warm_up_steps=a.penalty_warmup)
        jump = dict(l0_coefficient=a.penalty, l0_warm_up_steps=a.penalty_warmup,
                    jumprelu_bandwidth=a.bandwidth, jumprelu_init_threshold=a.threshold)
        widths = [round(a.d_sae * w) for w in np.cumsum(GROUPS)]
        kind, config = {
            "april": lambda: (sl.StandardTrainingSAE, sl.StandardTrainingSAEConfig(
                **common, **sparse)),
            "gated": lambda: (sl.GatedTrainingSAE, sl.GatedTrainingSAEConfig(**common, **sparse)),
            "topk": lambda: (sl.TopKTrainingSAE, sl.TopKTrainingSAEConfig(**common, **top, k=a.k)),
            "batchtopk": lambda: (sl.BatchTopKTrainingSAE, sl.BatchTopKTrainingSAEConfig(
                **common, **top, k=float(a.k))),
            "matryoshka": lambda: (
                sl.MatryoshkaBatchTopKTrainingSAE, sl.MatryoshkaBatchTopKTrainingSAEConfig(
                    **common, **top, k=float(a.k), matryoshka_widths=widths)),
            "jumprelu": lambda: (sl.JumpReLUTrainingSAE, sl.JumpReLUTrainingSAEConfig(
                **common, **jump)),
            "jumprelu_tanh": lambda: (sl.JumpReLUTrainingSAE, sl.JumpReLUTrainingSAEConfig(
                **common, **jump, jumprelu_sparsity_loss_mode="tanh", jumprelu_ste_to_input=True,
                pre_act_loss_coefficient=3e-6))}[a.arch]()
        self.sae = kind(config)
        self.trainer = SAETrainer(
            SAETrainerConfig(total_training_samples=a.steps * a.batch, lr=a.lr, lr_end=a.lr / 10,
                             train_batch_size_samples=a.batch, lr_warm_up_steps=a.warmup,
                             lr_decay_steps=a.decay,
                             dead_feature_window=max(1, a.dead_after // a.batch)),
            self.sae, data_provider=iter(()))

    def step(self, x):
        self.trainer.step(x)
        self.trainer.n_training_steps += 1

    def final(self, folder):
        self.sae.save_inference_model(folder)
        sae = SAE.load_from_disk(folder)
        return sae.encode, sae.decode


def named(sae):
    """Weights under the names of tests/data/sae_steps."""
    ours = {"encoder.weight": "W_enc", "encoder.bias": "b_enc", "decoder.weight": "W_dec",
            "bias": "b_dec", "decoder_bias": "b_dec", "gate_bias": "b_gate", "mag_bias": "b_mag"}
    return {ours.get(n, n): (p.T if n.endswith("coder.weight") else p).detach().contiguous().clone()
            for n, p in sae.named_parameters()}


def train(a):
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    warnings.simplefilter("ignore")
    x = np.load(a.x, mmap_mode="r")
    n, d = x.shape
    t = n - a.held_out
    squares = norms = 0.0
    for i in range(0, t, CHUNK):
        s = np.square(x[i:min(i + CHUNK, t)], dtype="f8").sum(1)
        squares, norms = squares + s.sum(), norms + np.sqrt(s).sum()
    scale = {"none": 1.0, "unit": (t / squares)**0.5, "sqrt_d": d**0.5 * t / norms}[a.scale]

    def rows(index):
        return torch.from_numpy(np.asarray(x[index], dtype="f4") * np.float32(scale))

    model = (DictionaryLearning if a.package == "dl" else SaeLens)(a, d)
    first, start = named(model.sae), time.perf_counter()
    for step in range(a.steps):
        model.step(rows((np.arange(a.batch) + step * a.batch) % t))
    seconds = time.perf_counter() - start

    with tempfile.TemporaryDirectory() as scratch, torch.no_grad():
        folder = pathlib.Path(a.out or scratch)
        folder.mkdir(parents=True, exist_ok=True)
        encode, decode = model.final(folder)
        save_file(first, folder / "init.safetensors")
        mean = sum(rows(slice(i, min(i + CHUNK, n))).double().sum(0)
                   for i in range(t, n, CHUNK)) / (n - t)
        fires, error, variance, kept = torch.zeros(a.d_sae), 0.0, 0.0, []
        for i in range(t, n, CHUNK):
            xs = rows(slice(i, min(i + CHUNK, n)))
            f = encode(xs)
            error += float((xs - decode(f)).double().pow(2).sum())
            variance += float((xs.double() - mean).pow(2).sum())
            fires += (f > 0).sum(0)
            if a.out:
                kept.append(f.numpy())
        if a.out:
            np.save(folder / "features.npy", np.concatenate(kept))
    result = {"fvu": error / variance, "l0": float(fires.sum()) / (n - t),
              "dead": float((fires == 0).float().mean()),
              "rows_per_second": a.steps * a.batch / seconds}
    if a.truth:
        w = named(model.sae)["W_dec"]
        truth = torch.from_numpy(np.load(a.truth))
        best = (truth @ (w / w.norm(dim=1, keepdim=True)).T).max(1).values
        result |= {"mmcs": float(best.mean()), "found": float((best > 0.9).float().mean())}
    print(json.dumps(result | {"train_rows": t, "scale_factor": scale} |
                     {k: v for k, v in vars(a).items() if k not in ("command", "out")}))


def main():
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter,
                                     description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    p = commands.add_parser("synthetic")
    p.add_argument("folder")
    for name, kind, value in (("features", int, 128), ("d", int, 64), ("rows", int, 400_000),
                              ("active", float, 4.0), ("noise", float, 0.0), ("seed", int, 0)):
        p.add_argument(f"--{name}", type=kind, default=value)
    p = commands.add_parser("train")
    p.add_argument("x")
    p.add_argument("--package", choices=("dl", "sl"), required=True)
    p.add_argument("--arch", required=True)
    p.add_argument("--truth")
    p.add_argument("--out")
    p.add_argument("--scale", choices=("none", "unit", "sqrt_d"), default="unit")
    for name, kind, value in (
            ("d-sae", int, None), ("steps", int, None), ("batch", int, 2048), ("lr", float, 3e-4),
            ("k", int, 32), ("penalty", float, 0.04), ("seed", int, 0), ("held-out", int, 16384),
            ("warmup", int, None), ("decay", int, None), ("penalty-warmup", int, 0),
            ("aux", float, None), ("bandwidth", float, 0.001), ("threshold", float, 0.01),
            ("dead-after", int, 10_000_000), ("threads", int, 1)):
        p.add_argument(f"--{name}", type=kind, default=value, required=name in ("d-sae", "steps"))
    a = parser.parse_args()
    if a.command == "synthetic":
        return synthetic(a)
    if a.arch not in ARCHITECTURES[a.package]:
        parser.error(f"{a.package} has no '{a.arch}', but {', '.join(ARCHITECTURES[a.package])}")
    a.warmup = a.steps // 20 if a.warmup is None else a.warmup
    a.decay = a.steps // 5 if a.decay is None else a.decay
    a.aux = (1 / 32 if a.package == "dl" else 1.0) if a.aux is None else a.aux
    train(a)


if __name__ == "__main__":
    main()
