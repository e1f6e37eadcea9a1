#!/usr/bin/env python3
"""Loads what drrik saved with the programs whose formats it wrote, and compares.

For every coder of tests/data/sae_formats and every format that can hold it: `drrik convert` writes it,
the program itself loads it and encodes and reconstructs x.npy; features.npy and reconstruction.npy are
what the program that made the coder said. A conversion that drrik refuses is listed with its reason.

    sae_formats_back.py DRRIK tests/data/sae_formats [FOLDER_OF_OPENAI_MODEL_PY]

sae-lens 6.54.12, dictionary-learning 0.1.0, eai-sparsify 1.3.3, gguf 0.19.0, torch 2.15.0; OpenAI's
model.py of commit 4965b94. Gemma Scope's files are read as sae-lens's loaders read them,
circuit-tracer's, Goodfire's and the crosscoder's by their formulas.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import sae_packages  # noqa: F401  (before the packages)
import numpy as np
import torch
from safetensors.torch import load_file

from dictionary_learning.utils import load_dictionary
from sae_lens.saes.sae import SAE
from sae_lens.saes.jumprelu_sae import JumpReLUSAE, JumpReLUSAEConfig
from sae_lens.saes.transcoder import (JumpReLUSkipTranscoder, JumpReLUSkipTranscoderConfig,
                                      JumpReLUTranscoder, JumpReLUTranscoderConfig)
from sparsify.sparse_coder import SparseCoder

TOLERANCE = 1e-5  # of the norm: float32 sums in another order, and folded factors


def saelens(path):
    sae = SAE.load_from_disk(path)
    return sae.encode, sae.forward


def dictionary_learning(path):
    ae, _ = load_dictionary(str(path), device="cpu")
    return ae.encode, ae.forward


def sparsify(path):
    coder = SparseCoder.load_from_disk(path)

    def encode(x):
        acts, indices, _ = coder.encode(x)
        return torch.zeros(len(x), coder.num_latents).scatter_(1, indices, acts)
    return encode, lambda x: coder(x).sae_out


def jumprelu(state):
    n, h = state["W_enc"].shape
    out = state["W_dec"].shape[1]
    common = dict(d_in=n, d_sae=h, apply_b_dec_to_input=False)
    if "W_skip" in state:
        sae = JumpReLUSkipTranscoder(JumpReLUSkipTranscoderConfig(**common, d_out=out))
    elif out != n:
        sae = JumpReLUTranscoder(JumpReLUTranscoderConfig(**common, d_out=out))
    else:
        sae = JumpReLUSAE(JumpReLUSAEConfig(**common))
    sae.load_state_dict(state)
    return sae.encode, sae.forward


def gemma_scope(path):
    return jumprelu({k: torch.tensor(v) for k, v in np.load(path / "params.npz").items()})


def gemma_scope_2(path):
    state = {("W" + k[1:] if k.startswith("w_") else k): v
             for k, v in load_file(path / "params.safetensors").items()}
    if "affine_skip_connection" in state:
        state["W_skip"] = state.pop("affine_skip_connection").T.contiguous()
    return jumprelu(state)


def circuit_tracer(path):
    w = load_file(path)
    theta = w.get("activation_function.threshold", torch.tensor(0.0))

    def encode(x):
        h = x @ w["W_enc"].T + w["b_enc"]
        return h * (h > theta)
    skip = w["W_skip"] if "W_skip" in w else None
    return encode, lambda x: (encode(x) @ w["W_dec"] + w["b_dec"]
                              + (x @ skip.T if skip is not None else 0))


def goodfire(path):
    w = torch.load(path, weights_only=True)

    def encode(x):
        return torch.relu(torch.nn.functional.linear(
            x, w["encoder_linear.weight"], w["encoder_linear.bias"]))
    return encode, lambda x: torch.nn.functional.linear(
        encode(x), w["decoder_linear.weight"], w["decoder_linear.bias"])


def crosscoder(path):
    w = torch.load(path / "cc_weights.pt", weights_only=True)
    parts = w["W_enc"].shape[0]

    def encode(x):
        return torch.relu(torch.einsum("bmd,mdh->bh", x.reshape(len(x), parts, -1), w["W_enc"])
                          + w["b_enc"])
    return encode, lambda x: (torch.einsum("bh,hmd->bmd", encode(x), w["W_dec"])
                              + w["b_dec"]).reshape(len(x), -1)


def described(path):
    s = torch.load(path, weights_only=True)["state_dict"]

    def encode(x):
        return torch.relu((x - s["bias"]) @ s["encoder.weight"].T + s["encoder_bias"])
    return encode, lambda x: encode(x) @ s["decoder.weight"].T + s["bias"]


def openai(path):
    import model as oa
    ae = oa.Autoencoder.from_state_dict(torch.load(path, weights_only=True))
    return lambda x: ae.encode(x)[0], lambda x: ae(x)[2]


FORMATS = dict(saelens=saelens, dictionary_learning=dictionary_learning, sparsify=sparsify,
               gemma_scope=gemma_scope, gemma_scope_2=gemma_scope_2, circuit_tracer=circuit_tracer,
               goodfire=goodfire, crosscoder=crosscoder, described=described, openai=openai)


def source(folder):
    for path in [folder, *sorted(folder.rglob("*"))]:
        names = {p.name for p in path.iterdir()} if path.is_dir() else set()
        if names & {"ae.pt", "sae.safetensors", "sae_weights.safetensors", "params.npz",
                    "params.safetensors"}:
            return path
        if path.name == "autoencoder.pt":
            return path
    sys.exit(f"{folder}: no autoencoder")


def distance(got, wanted):
    return float((got - wanted).norm() / wanted.norm())


def check_vector(drrik, folder, out):
    from gguf import GGUFReader
    subprocess.run([drrik, "convert", "--sae", folder, "--feature", "3", "--strength", "2",
                    "--feature", "9", "--strength", "-0.5", "--output", out / "vector.gguf"],
                   check=True, capture_output=True)
    reader = GGUFReader(out / "vector.gguf")
    (tensor,) = reader.tensors
    w = load_file(folder / "sae_weights.safetensors")["W_dec"]
    wanted = (2 * w[3] - 0.5 * w[9]).numpy()
    field = reader.fields["general.architecture"]
    print("gguf", tensor.name, bytes(field.parts[field.data[0]]).decode(),
          float(np.abs(tensor.data - wanted).max()))
    return np.abs(tensor.data - wanted).max() < 1e-6


def main():
    drrik, data = sys.argv[1], pathlib.Path(sys.argv[2])
    if len(sys.argv) > 3:
        sys.path.insert(0, sys.argv[3])
    torch.set_num_threads(1)
    worst = {name: [0, 0.0, 0.0] for name in FORMATS}
    refused, failed = [], []
    with tempfile.TemporaryDirectory() as temporary, torch.no_grad():
        out = pathlib.Path(temporary)
        for folder in sorted(p for p in data.iterdir() if p.is_dir()):
            if folder.name == "sparsify_groupmax":
                continue
            x, features, reconstruction = (torch.tensor(np.load(folder / f"{n}.npy"))
                                           for n in ("x", "features", "reconstruction"))
            for name, load in FORMATS.items():
                if name == "openai" and len(sys.argv) <= 3:
                    continue
                run = subprocess.run(
                    [drrik, "convert", "--from", source(folder), "--to", name, "--output",
                     out / folder.name / name, "--activations", folder / "x.npy", "--json"],
                    capture_output=True, text=True)
                if run.returncode:
                    refused.append((folder.name, name, run.returncode, run.stderr.strip()))
                    continue
                encode, forward = load(pathlib.Path(json.loads(run.stdout)["output"]))
                f, y = distance(encode(x), features), distance(forward(x), reconstruction)
                same = bool(((encode(x) != 0) == (features != 0)).all())
                worst[name] = [worst[name][0] + 1, max(worst[name][1], f), max(worst[name][2], y)]
                if not same or max(f, y) > TOLERANCE:
                    failed.append((folder.name, name, same, f, y))
        vector = check_vector(drrik, data / "saelens_topk", out) if (
            data / "saelens_topk").exists() else False
    for folder, name, code, why in refused:
        if code != 3:
            failed.append((folder, name, code, why))
        print("refused", folder, name, why.split(": ", 2)[-1][:160])
    for name, (count, f, y) in worst.items():
        print(f"{name}: {count} coders, features within {f:.2g}, reconstructions within {y:.2g}")
    for row in failed:
        print("FAILED", *row)
    sys.exit(1 if failed or not vector else 0)


if __name__ == "__main__":
    main()
