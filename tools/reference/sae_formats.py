#!/usr/bin/env python3
"""Sparse autoencoders as other programs write them, and checks of what drrik writes.

  sae_formats.py make FOLDER            tests/data/sae: described.pt, described_numpy.pt (PyTorch),
                                        weights.safetensors, expected.safetensors, saelens/ (needs
                                        sae-lens)
  sae_formats.py check-saelens FOLDER X.npy F.npy   SAELens loads drrik's folder and encodes the same
  sae_formats.py check-torch FILE.pt    torch.load(weights_only=True) reads drrik's .pt

torch 2.15.0, numpy 2.4.6, safetensors 0.8.0, sae-lens 6.54.12.
"""
import json
import pathlib
import sys

import numpy as np
import torch
from safetensors.torch import save_file


def tensors(d=6, h=10):
    torch.manual_seed(5)
    e, w = torch.randn(h, d), torch.randn(d, h)
    w /= w.norm(dim=0, keepdim=True)
    return {"bias": 0.3 * torch.randn(d), "encoder_bias": 0.2 * torch.randn(h),
            "encoder.weight": e, "decoder.weight": w}


def make(folder):
    folder.mkdir(parents=True, exist_ok=True)
    t = tensors()
    torch.save({"activation_dim": 6, "hidden_dim": 10, "l1_coefficient": 0.02, "state_dict": t,
                "training_losses": [0.5, 0.25], "training_l0_norms": [4.0, 3.0]},
               folder / "described.pt")
    # A history as code leaves it that does its sums in numpy.
    torch.save({"activation_dim": np.int64(6), "hidden_dim": 10, "l1_coefficient": np.float64(0.02),
                "state_dict": t, "normalize_decoder": np.bool_(True),
                "training_losses": [np.float64(0.1), np.array(0.25, "<f4")],
                "training_l0_norms": np.array([4.0, 3.1])}, folder / "described_numpy.pt")
    save_file(t, folder / "weights.safetensors")
    x = torch.randn(7, 6)
    f = torch.relu((x - t["bias"]) @ t["encoder.weight"].T + t["encoder_bias"])
    save_file({"x": x, "features": f, "reconstruction": f @ t["decoder.weight"].T + t["bias"]},
              folder / "expected.safetensors")
    try:
        from sae_lens import StandardSAE, StandardSAEConfig
    except ImportError:
        print("no sae-lens: saelens/ is left as it is")
        return
    sae = StandardSAE(StandardSAEConfig(d_in=6, d_sae=10))
    sae.load_state_dict({"W_enc": t["encoder.weight"].T.contiguous(),
                         "W_dec": t["decoder.weight"].T.contiguous(),
                         "b_enc": t["encoder_bias"], "b_dec": t["bias"]})
    sae.cfg.metadata.hook_name = "blocks.1.hook_mlp_out"
    sae.cfg.metadata.model_name = "some-model"
    sae.save_model(folder / "saelens")


def check_saelens(folder, x_file, f_file):
    from sae_lens import SAE
    sae = SAE.load_from_disk(folder)
    x = torch.from_numpy(np.load(x_file))
    wanted = torch.from_numpy(np.load(f_file))
    with torch.no_grad():
        got = sae.encode(x)
    worst = (got - wanted).norm() / wanted.norm()
    print(json.dumps({"architecture": sae.cfg.architecture(), "relative_error": worst.item()}))
    return worst < 1e-5


def check_torch(path):
    o = torch.load(path, weights_only=True)
    print(json.dumps({k: (list(v) if isinstance(v, dict) else v) for k, v in o.items()}))
    return {k: tuple(v.shape) for k, v in o["state_dict"].items()}


def main():
    what = sys.argv[1]
    if what == "make":
        make(pathlib.Path(sys.argv[2]))
    elif what == "check-saelens":
        sys.exit(0 if check_saelens(*sys.argv[2:5]) else 1)
    elif what == "check-torch":
        print(check_torch(sys.argv[2]))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
