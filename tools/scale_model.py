#!/usr/bin/env python3
"""What training a sparse coder on many machines costs, and a check of the formulas.

    scale_model.py            prints the tables of docs/scale.md
    scale_model.py --check    takes one TopK step on simulated ranks in three ways (one rank, rows
                              divided, latents divided), counts every byte that a rank sends, and
                              fails unless the results agree and the bytes are those of the formulas

Needs Python 3.9 and nothing else. Bytes are those that one rank sends; float32 throughout.
"""

import random
import sys

F = 4  # bytes of a float32


def data_parallel_bytes(n, h, d):
    """Per rank and step: gradients of E and D [h, d], b_enc [h] and b_dec [d] summed on a ring."""
    return 2 * (n - 1) / n * F * (2 * h * d + h + d)


def latent_parallel_bytes(n, d, k, rows):
    """Per rank and step: inputs gathered, k candidates of a row to its owner, its threshold back,
    partial reconstructions to the owner, the output's gradient back."""
    return (n - 1) / n * F * rows * (d + k + 1 + d + d)


# ---------------------------------------------------------------- simulation


class Network:
    """Counts what each rank sends to others."""

    def __init__(self, n):
        self.n = n
        self.sent = [0] * n

    def send(self, source, target, values):
        if source != target:
            self.sent[source] += F * len(values)
        return list(values)

    def ring_sum(self, parts):
        """All-reduce of equal lists: reduce-scatter, then all-gather, around a ring."""
        n = self.n
        size = len(parts[0])
        assert size % n == 0
        cut = size // n
        held = [list(p) for p in parts]
        for phase in range(2):
            for step in range(n - 1):
                moved = []
                for r in range(n):
                    c = (r - step + phase) % n
                    moved.append((c, self.send(r, (r + 1) % n, held[r][c * cut:(c + 1) * cut])))
                for r in range(n):
                    c, values = moved[(r - 1) % n]
                    for i, v in enumerate(values):
                        held[r][c * cut + i] = v + (held[r][c * cut + i] if phase == 0 else 0.0)
        return held


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def top(values, k):
    """Indices of the k largest positive ones, of equal ones the earlier."""
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))
    return [i for i in order[:k] if values[i] > 0]


def gradients(x, out_grad, active, decoder, latents):
    """dL/dE and dL/dD of latents, and the bias's, from the rows where they are active."""
    d = len(decoder[0])
    e_grad = [[0.0] * d for _ in latents]
    d_grad = [[0.0] * d for _ in latents]
    bias = [0.0] * len(latents)
    place = {j: i for i, j in enumerate(latents)}
    for r, entries in active.items():
        for j, f in entries:
            if j not in place:
                continue
            i = place[j]
            g = dot(out_grad[r], decoder[j])
            bias[i] += g
            for c in range(d):
                e_grad[i][c] += g * x[r][c]
                d_grad[i][c] += f * out_grad[r][c]
    return e_grad, d_grad, bias


def alone(x, encoder, decoder, k, rows, total):
    active, out_grad = {}, {}
    for r in rows:
        pre = [dot(x[r], e) for e in encoder]
        active[r] = [(j, pre[j]) for j in top(pre, k)]
        y = [sum(f * decoder[j][c] for j, f in active[r]) for c in range(len(x[r]))]
        out_grad[r] = [2.0 / total * (a - b) for a, b in zip(y, x[r])]
    grads = gradients(x, out_grad, active, decoder, list(range(len(encoder))))
    return grads, [sum(out_grad[r][c] for r in rows) for c in range(len(encoder[0]))]


def by_rows(net, x, encoder, decoder, k):
    """Every rank has all weights and its share of the rows; gradients are summed."""
    rows, h, d = len(x), len(encoder), len(encoder[0])
    share = rows // net.n
    flat = []
    for rank in range(net.n):
        mine = range(rank * share, (rank + 1) * share)
        (e, dd, b), b_dec = alone(x, encoder, decoder, k, mine, rows)
        flat.append([v for row in e for v in row] + [v for row in dd for v in row] + b + b_dec)
    whole = net.ring_sum(flat)
    assert all(w == whole[0] for w in whole), "ranks end with different bits"
    w = whole[0]
    e = [w[j * d:(j + 1) * d] for j in range(h)]
    dd = [w[(h + j) * d:(h + j + 1) * d] for j in range(h)]
    return (e, dd, w[2 * h * d:2 * h * d + h]), w[2 * h * d + h:]


def by_latents(net, x, encoder, decoder, k):
    """Every rank owns a slice of the latents; rows are owned by ranks in turn."""
    n, rows, h, d = net.n, len(x), len(encoder), len(encoder[0])
    own = [list(range(r * h // n, (r + 1) * h // n)) for r in range(n)]
    owner = [r * n // rows for r in range(rows)]
    grads = [None] * n
    seen = [{r: net.send(owner[r], rank, x[r]) for r in range(rows)} for rank in range(n)]
    pre = [{r: [dot(seen[rank][r], encoder[j]) for j in own[rank]] for r in range(rows)}
           for rank in range(n)]
    # The k best of each slice to the row's owner, who says where the k best of all end.
    active = [{} for _ in range(n)]
    for r in range(rows):
        best = []
        for rank in range(n):
            local = sorted((max(v, 0.0) for v in pre[rank][r]), reverse=True)[:k]
            best += net.send(rank, owner[r], local)
        last = sorted(best, reverse=True)[k - 1]
        for rank in range(n):
            floor = net.send(owner[r], rank, [last])[0]
            active[rank][r] = [(j, v) for j, v in zip(own[rank], pre[rank][r])
                               if v > 0 and v >= floor]
    out_grad = [{} for _ in range(n)]
    b_dec = [0.0] * d
    for r in range(rows):
        y = [0.0] * d
        for rank in range(n):
            part = [sum(f * decoder[j][c] for j, f in active[rank][r]) for c in range(d)]
            y = [a + b for a, b in zip(y, net.send(rank, owner[r], part))]
        g = [2.0 / rows * (a - b) for a, b in zip(y, x[r])]
        b_dec = [a + b for a, b in zip(b_dec, g)]
        for rank in range(n):
            out_grad[rank][r] = net.send(owner[r], rank, g)
    for rank in range(n):
        grads[rank] = gradients(seen[rank], out_grad[rank], active[rank], decoder, own[rank])
    return tuple(sum((g[i] for g in grads), []) for i in range(3)), b_dec


def difference(a, b):
    if isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        return max((difference(x, y) for x, y in zip(a, b)), default=0.0)
    return abs(a - b)


def check():
    failures = 0
    for n, h, d, k, rows in ((2, 32, 8, 3, 12), (4, 48, 12, 4, 16), (8, 64, 16, 8, 24)):
        rng = random.Random(n)
        made = lambda count: [[rng.gauss(0, 1) for _ in range(d)] for _ in range(count)]
        x, encoder, decoder = made(rows), made(h), made(h)
        wanted = alone(x, encoder, decoder, k, range(rows), rows)
        for name, step, formula in (
                ("rows", by_rows, data_parallel_bytes(n, h, d)),
                ("latents", by_latents, latent_parallel_bytes(n, d, k, rows))):
            net = Network(n)
            off = difference(step(net, x, encoder, decoder, k), wanted)
            # Sums of some dozen terms of size 1 in double precision.
            good = off < 1e-12 and all(s == round(formula) for s in net.sent)
            failures += not good
            print(f"{'ok' if good else 'FAILED'}: {n} ranks, {name} divided: each sends "
                  f"{min(net.sent)} to {max(net.sent)} bytes, formula {formula:.0f}; "
                  f"gradients off by {off:.1e}")
    return failures


# ---------------------------------------------------------------- the tables

H, D, K, ROWS, TOKENS = 1 << 24, 4096, 64, 1 << 17, 10 ** 11
FLOPS, MEMORY, LINK = 20e12, 300e9, 25e9  # of one machine: bfloat16 FLOP/s, bytes/s, bytes/s


def table():
    steps = TOKENS / ROWS
    step_flop = 2 * H * D * ROWS + 8 * K * D * ROWS
    print(f"h = {H}, d = {D}, k = {K}, {ROWS} rows a step, {TOKENS:.0e} tokens: {steps:.0f} steps")
    print(f"step: {step_flop:.3g} FLOP; run: {step_flop * steps:.3g} FLOP")
    print(f"weights {2 * H * D * F / 1e12:.2f} TB, with moments {6 * H * D * F / 1e12:.2f} TB")
    print("| machines | state each, GB | product, s | sweep, s | sent, GB | network, s | days |")
    print("|---|---|---|---|---|---|---|")
    for n in (16, 32, 64, 128, 256, 512, 1024):
        product = step_flop / n / FLOPS
        sweep = 50 * H * D / n / MEMORY
        sent = latent_parallel_bytes(n, D, K, ROWS)
        # Nothing is taken to overlap: selection waits for the product, gradients for the decode.
        days = (product + sweep + sent / LINK) * steps / 86400
        state = (6 * F + 2) * H * D / n
        print(f"| {n} | {state / 1e9:.0f} | {product:.2f} | {sweep:.2f} | {sent / 1e9:.2f} | "
              f"{sent / LINK:.2f} | {days:.0f} |")
    sent = data_parallel_bytes(64, H, D)
    print(f"rows divided over 64 instead: {sent / 1e12:.2f} TB sent a step, {sent / LINK:.0f} s")


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(1 if check() else 0)
    table()
