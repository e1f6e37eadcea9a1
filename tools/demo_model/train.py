"""Trains the demonstration model, a small Llama, and writes it as a HuggingFace folder.

The schedule counts steps, never time, so the process may be stopped and continued (SIGSTOP, SIGCONT) at will.
SIGUSR1 starts the final decay at once; the log then names the options that repeat the run.
"""

import argparse
import json
import math
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import nn

from books import read_books

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 256,
    "initializer_range": 0.02,
    "intermediate_size": 576,
    "max_position_embeddings": 512,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 8,
    "num_hidden_layers": 6,
    "num_key_value_heads": 4,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": 4096,
}


class RMSNorm(nn.Module):
    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        h = x.float()
        return (h * torch.rsqrt(h.square().mean(-1, keepdim=True) + self.eps) * self.weight).to(x.dtype)


def rotate(x, cos, sin):
    a, b = x.chunk(2, dim=-1)  # the two halves of a head pair up, as in the HuggingFace layout
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        d, self.heads, self.kv, self.dim = (
            c["hidden_size"], c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"])
        self.q_proj = nn.Linear(d, self.heads * self.dim, bias=False)
        self.k_proj = nn.Linear(d, self.kv * self.dim, bias=False)
        self.v_proj = nn.Linear(d, self.kv * self.dim, bias=False)
        self.o_proj = nn.Linear(self.heads * self.dim, d, bias=False)

    def forward(self, x, cos, sin):
        n, t, _ = x.shape
        q = self.q_proj(x).view(n, t, self.heads, self.dim).transpose(1, 2)
        k = self.k_proj(x).view(n, t, self.kv, self.dim).transpose(1, 2)
        v = self.v_proj(x).view(n, t, self.kv, self.dim).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        group = self.heads // self.kv
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(n, t, -1))


class MLP(nn.Module):
    def __init__(self, c):
        super().__init__()
        d, m = c["hidden_size"], c["intermediate_size"]
        self.gate_proj = nn.Linear(d, m, bias=False)
        self.up_proj = nn.Linear(d, m, bias=False)
        self.down_proj = nn.Linear(m, d, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.input_layernorm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        self.self_attn = Attention(c)
        self.post_attention_layernorm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        self.mlp = MLP(c)

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """Parameter names are those of LlamaForCausalLM without the leading 'model.'."""

    def __init__(self, c):
        super().__init__()
        self.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.layers = nn.ModuleList(Layer(c) for _ in range(c["num_hidden_layers"]))
        self.norm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        half = c["head_dim"] // 2
        angle = torch.outer(torch.arange(c["max_position_embeddings"]).double(),
                            c["rope_theta"] ** (-torch.arange(half).double() / half))
        self.register_buffer("cos", angle.cos().float(), persistent=False)
        self.register_buffer("sin", angle.sin().float(), persistent=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                scale = 0.02 if "embed" in name else p.shape[1] ** -0.5
                if "o_proj" in name or "down_proj" in name:
                    scale /= math.sqrt(2 * c["num_hidden_layers"])
                nn.init.normal_(p, std=scale)

    def forward(self, ids, targets):
        """Mean cross entropy in nats a token. ids, targets: [n, t]."""
        x = self.embed_tokens(ids)
        if torch.is_autocast_enabled("cpu"):
            x = x.bfloat16()
        t = ids.shape[1]
        cos, sin = self.cos[:t].to(x.dtype), self.sin[:t].to(x.dtype)
        for layer in self.layers:
            x = layer(x, cos, sin)
        logits = F.linear(self.norm(x), self.embed_tokens.weight)
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


class Corpus:
    """Token streams (one a book) with the paragraph starts; the end of each is held out."""

    def __init__(self, books: Path, tokenizer: Tokenizer, context: int, bos: int):
        self.context, self.bos = context, bos
        self.train: list[tuple[np.ndarray, np.ndarray]] = []
        held: list[np.ndarray] = []
        for chapters in read_books(books).values():
            ids, starts = [], []
            for chapter in chapters:
                text = "\n".join(chapter)
                e = tokenizer.encode(text, add_special_tokens=False)
                first = len(ids) + 1
                for i, (token, (begin, _)) in enumerate(zip(e.ids, e.offsets)):
                    # Later sentences of a paragraph begin with a space, so they are no clean starts.
                    if i == 0 or text[begin - 1] == "\n":
                        starts.append(first + i)
                ids += [bos, *e.ids]
            ids, starts = np.array(ids, np.int64), np.array(starts, np.int64)
            cut = int(len(ids) * 0.985)  # the last 1.5 % of every book is held out
            held += [np.concatenate(([bos], ids[s: s + context])) for s in range(cut, len(ids) - context, context)]
            self.train.append((ids[:cut], starts[starts < cut - 64]))
        self.held = torch.from_numpy(np.stack(held))
        self.tokens = sum(len(ids) for ids, _ in self.train)

    def epoch(self, rng: np.random.Generator) -> np.ndarray:
        """Windows [n, context + 1], each BOS then text, covering every book about once."""
        t, out = self.context, []
        for ids, starts in self.train:
            at = int(rng.integers(t))
            while at + t < len(ids):
                # Half the windows begin at a paragraph; the others anywhere, so long paragraphs are covered too.
                s = int(starts[max(0, np.searchsorted(starts, at, "right") - 1)]) if rng.random() < 0.5 else at
                if at - s > t // 2:
                    s = at
                out.append(np.concatenate(([self.bos], ids[s: s + t])))
                at = s + t
        out = np.stack(out)
        rng.shuffle(out)
        return out


def export(model: Llama, config: dict, folder: Path) -> None:
    """Writes weights and configuration; each file appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {f"model.{k}": v.detach().to(torch.bfloat16).contiguous() for k, v in model.state_dict().items()}
    save_file(weights, folder / "model.tmp", metadata={"format": "pt"})
    (folder / "model.tmp").chmod(0o644)
    os.replace(folder / "model.tmp", folder / "model.safetensors")
    generation = {"bos_token_id": 0, "eos_token_id": 0, "do_sample": True, "temperature": 0.8, "top_p": 0.95}
    for name, value in (("config.json", config), ("generation_config.json", generation)):
        (folder / name).write_text(json.dumps(value, indent=2) + "\n")


@torch.no_grad()
def evaluate(loss_of, held: torch.Tensor, batch: int) -> float:
    total = sum(loss_of(x).item() * len(x) for x in held.split(batch))
    return total / len(held)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--books", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="model folder; must hold tokenizer.json")
    parser.add_argument("--init", type=Path, help="start from the weights of this model folder")
    parser.add_argument("--steps", type=int, default=0, help="length of the run; fixes the result for a seed")
    parser.add_argument("--minutes", type=float, default=0, help="choose --steps from the measured rate instead")
    parser.add_argument("--decay", type=float, default=0.4, help="last share of the steps, learning rate falling to 0")
    parser.add_argument("--decay-from", type=int, help="first step of that fall, in place of --decay")
    parser.add_argument("--warmup", type=int, default=100)
    parser.add_argument("--batch", type=int, default=16, help="windows a step")
    parser.add_argument("--lr-matrix", type=float, default=5e-3, help="Muon, hidden matrices")
    parser.add_argument("--lr-embed", type=float, default=3e-3, help="AdamW, embedding and norms")
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--save-every", type=int, default=400, help="steps between exports and held-out losses")
    parser.add_argument("--keep", type=Path, help="folder that keeps every export as step-N")
    parser.add_argument("--until", type=int, default=10**9, help="stop after this step, wherever the schedule stands")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--fp32", action="store_true", help="no bfloat16 autocast")
    args = parser.parse_args()
    if (args.steps > 0) == (args.minutes > 0):
        raise SystemExit("give one of --steps and --minutes")

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    torch.use_deterministic_algorithms(True)
    config = {**CONFIG, "max_position_embeddings": args.context}
    tokenizer = Tokenizer.from_file(str(args.out / "tokenizer.json"))
    if tokenizer.get_vocab_size() != config["vocab_size"]:
        raise SystemExit(f"tokenizer has {tokenizer.get_vocab_size()} entries, the model {config['vocab_size']}")
    corpus = Corpus(args.books, tokenizer, args.context, config["bos_token_id"])
    model = Llama(config)
    if args.init:
        weights = load_file(args.init / "model.safetensors")
        model.load_state_dict({k.removeprefix("model."): v.float() for k, v in weights.items()})
    matrices = [p for p in model.layers.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if not any(p is m for m in matrices)]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=args.lr_matrix, momentum=0.95, nesterov=True,
                         weight_decay=args.weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=args.lr_embed, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]
    base = [args.lr_matrix, args.lr_embed]
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters} parameters, {corpus.tokens} training tokens, {corpus.held[:, 1:].numel()} held out", flush=True)

    run = model if args.no_compile else torch.compile(model, dynamic=False)

    def loss_of(x):
        with torch.autocast("cpu", torch.bfloat16, enabled=not args.fp32):
            return run(x[:, :-1], x[:, 1:])

    held = corpus.held[: len(corpus.held) // args.batch * args.batch]
    steps = args.steps or 10**9
    decay_from = int(steps * (1 - args.decay)) if args.decay_from is None else args.decay_from
    cut_short = False

    def on_signal(*_):
        nonlocal cut_short
        cut_short = True

    signal.signal(signal.SIGUSR1, on_signal)

    rng = np.random.default_rng(args.seed)
    step, tokens, mean, clock, durations = 0, 0, 0.0, time.process_time(), []
    epoch = 0
    while step < steps:
        epoch += 1
        windows = torch.from_numpy(corpus.epoch(rng))
        for x in windows[: len(windows) // args.batch * args.batch].split(args.batch):
            begin = time.perf_counter()
            if cut_short and step < decay_from:
                decay_from, steps = step, int(step / (1 - args.decay))
                print(f"decay starts now; repeat with --steps {steps} --decay-from {step}", flush=True)
            scale = min(1.0, (step + 1) / args.warmup, (steps - step) / max(1, steps - decay_from))
            for optimizer, lr in zip(optimizers, base):
                for group in optimizer.param_groups:
                    group["lr"] = lr * scale
            loss = loss_of(x)
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            value = loss.item()
            if not math.isfinite(value):
                raise SystemExit(f"step {step}: loss is {value}")
            step += 1
            tokens += x.shape[0] * args.context
            mean = value if step == 1 else 0.98 * mean + 0.02 * value
            durations.append(time.perf_counter() - begin)
            if args.minutes and step == 40:
                pace = float(np.median(durations[10:]))
                steps = int(args.minutes * 60 / pace)
                decay_from = int(steps * (1 - args.decay))
                print(f"{pace:.3f} s a step: --steps {steps}", flush=True)
            if step % 50 == 0 or step <= 5:
                rate = x.shape[0] * args.context / np.median(durations[-50:])
                cpu = (time.process_time() - clock) / 60
                print(f"step {step:6d}/{steps} epoch {epoch} loss {mean:.4f} lr x{scale:.3f} "
                      f"{rate:6.0f} tokens/s cpu {cpu:.1f} min", flush=True)
            if step % args.save_every == 0 or step == steps:
                export(model, config, args.out)
                if args.keep:
                    export(model, config, args.keep / f"step-{step}")
                print(f"step {step:6d} held-out loss {evaluate(loss_of, held, args.batch):.4f}", flush=True)
            if step in (steps, args.until):
                print(f"done: {step} steps, {tokens} tokens, {epoch} epochs", flush=True)
                return


if __name__ == "__main__":
    main()
