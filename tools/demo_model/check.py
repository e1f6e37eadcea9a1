"""Loads the exported model with transformers, compares it with the trainer's own, and records greedy output."""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from train import Llama


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="expected_greedy.json")
    parser.add_argument("--prompt", default="Once upon a time")
    parser.add_argument("--new", type=int, default=64, help="tokens")
    args = parser.parse_args()

    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    ours = Llama(json.loads((args.model / "config.json").read_text()))
    weights = {k.removeprefix("model."): v.float() for k, v in load_file(args.model / "model.safetensors").items()}
    ours.load_state_dict(weights)

    ids = tokenizer(args.prompt, return_tensors="pt")["input_ids"]
    assert ids[0, 0] == tokenizer.bos_token_id and tokenizer.decode(ids[0, 1:]) == args.prompt
    out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=args.new,
                         pad_token_id=tokenizer.eos_token_id)
    theirs = model(out, labels=out).loss.item()
    mine = ours(out[:, :-1], out[:, 1:]).item()
    assert abs(theirs - mine) < 1e-4, (theirs, mine)

    # How near the closest call was: an implementation whose logits err by less must give the same tokens.
    logits = model(out).logits[0, ids.shape[1] - 1: -1]
    top = logits.topk(2, dim=-1).values
    margin = (top[:, 0] - top[:, 1]).min().item()
    text = tokenizer.decode(out[0, 1:])
    print(f"greedy loss {theirs:.4f} nats a token, least margin {margin:.4f}\n{text}")
    if args.out:
        args.out.write_text(json.dumps({
            "prompt": args.prompt, "dtype": "float32", "input_ids": ids[0].tolist(),
            "output_ids": out[0, ids.shape[1]:].tolist(), "text": text, "least_margin": round(margin, 4),
            "last_logits_max": [round(v, 4) for v in model(ids).logits[0, -1].topk(5).values.tolist()],
            "last_logits_argmax": model(ids).logits[0, -1].topk(5).indices.tolist(),
        }, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
