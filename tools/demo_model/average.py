"""Writes the mean of the weights of several exports. Near the end of a run at a constant rate it does the work of a
learning-rate decay, at no cost in training."""

import argparse
import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("exports", type=Path, nargs="+", help="model folders or .safetensors files")
    parser.add_argument("--out", type=Path, required=True, help="model folder")
    args = parser.parse_args()
    files = [p if p.is_file() else p / "model.safetensors" for p in args.exports]
    sets = [load_file(f) for f in files]
    mean = {k: (sum(s[k].float() for s in sets) / len(sets)).to(torch.bfloat16) for k in sets[0]}
    save_file(mean, args.out / "model.tmp", metadata={"format": "pt"})
    (args.out / "model.tmp").chmod(0o644)
    os.replace(args.out / "model.tmp", args.out / "model.safetensors")


if __name__ == "__main__":
    main()
