#!/usr/bin/env python3
"""Writes tests/data/sae_steps: three training steps of every kind of sparse autoencoder.

The trainers are the packages' own, driven as their training loops drive them, on chosen weights and
rows: sae-lens 6.54.12, dictionary-learning 0.1.0, eai-sparsify 1.3.3 (with schedulefree 1.4.1) under
torch 2.15.0, float32, one thread. Where no package has the form (OpenAI's TopK, whose kernels want a
GPU; DeepMind's JumpReLU; crosscoder; ReLU transcoder) its published formulas stand here in torch
autograd. tests/data/sae_steps/README.md has the layout, the formulas and the packages' quirks.

A case whose selection hangs on rounding (a top-k border, a ReLU's or a threshold's sign within 1e-4,
at any of the steps) is drawn again with the next seed.

    sae_steps.py tests/data/sae_steps [NAME-START]
"""
import contextlib
import copy
import io
import json
import pathlib
import sys
import tempfile

import sae_packages  # noqa: F401  (before the packages)
import torch
from safetensors.torch import load_file, save_file

import dictionary_learning.trainers as dl
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer
from dictionary_learning.trainers.standard import StandardTrainerAprilUpdate
from dictionary_learning.trainers.trainer import get_lr_schedule, get_sparsity_warmup_fn
from sae_lens.config import SAETrainerConfig
from sae_lens.saes import (BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig, GatedTrainingSAE,
                           GatedTrainingSAEConfig, JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig,
                           MatryoshkaBatchTopKTrainingSAE, MatryoshkaBatchTopKTrainingSAEConfig,
                           StandardTrainingSAE, StandardTrainingSAEConfig, TopKTrainingSAE,
                           TopKTrainingSAEConfig)
from sae_lens.training.optim import CoefficientScheduler, get_lr_scheduler
from sae_lens.training.sae_trainer import SAETrainer
from sparsify.config import SparseCoderConfig, TrainConfig
from sparsify.trainer import Trainer as SparsifyTrainer

D, H, B, K, STEPS, LR = 16, 64, 32, 6, 3, 3e-3
MARGIN = 1e-4
VERSIONS = {"sae-lens": "6.54.12", "dictionary-learning": "0.1.0", "eai-sparsify": "1.3.3",
            "torch": "2.15.0"}


# ---- inputs ------------------------------------------------------------------------------------

def rows(d=D, n=STEPS * B):
    """Sparse positive codes over random directions, an offset and a little noise."""
    codes = torch.rand(n, 3 * d) * (torch.rand(n, 3 * d) < 0.12)
    return (2 * codes @ torch.randn(3 * d, d) / d**0.5 + 0.3 * torch.randn(d)
            + 0.05 * torch.randn(n, d))


def weights(unit, dead=0, bias=0.0, d_out=D):
    """Nothing tied, nothing zero, so that a swapped or forgotten term shows. The last `dead`
    latents have small encoders: alive in sign, never among the top k."""
    w_dec = torch.randn(H, d_out)
    w_dec /= w_dec.norm(dim=1, keepdim=True)
    if not unit:
        w_dec *= 0.5 + torch.rand(H, 1)
    w_enc = torch.randn(D, H)
    w_enc /= w_enc.norm(dim=0)
    if d_out == D:
        w_enc = 0.8 * (w_dec / w_dec.norm(dim=1, keepdim=True)).T + 0.3 * w_enc
    w = {"W_enc": w_enc, "W_dec": w_dec, "b_enc": 0.1 * torch.randn(H) + bias,
         "b_dec": 0.2 * torch.randn(d_out)}
    if dead:
        w["W_enc"][:, -dead:] *= 0.1
        w["b_enc"][-dead:] *= 0.3
    return w


# ---- what a case records -----------------------------------------------------------------------

class Log:
    """Watches the parameters `names` {our name: (parameter, transposed)} over the steps."""

    def __init__(self, names, margin):
        self.names, self.margin_of = names, margin
        self.init, self.first, self.grads, self.dead = None, {}, [], []
        self.margin, self.steps = float("inf"), []
        for name, (p, transposed) in names.items():
            def keep(p, name=name, transposed=transposed):
                self.grads[-1][name] = (p.grad.T if transposed else p.grad).detach().clone()
            p.register_post_accumulate_grad_hook(keep)

    def set(self, values):
        for name, (p, transposed) in self.names.items():
            value = values[name].T if transposed else values[name]
            assert p.shape == value.shape, name
            p.data.copy_(value)

    def view(self):
        return {n: (p.data.T if t else p.data).detach().clone() for n, (p, t) in self.names.items()}

    def at_loss(self, x, parts, features, reconstruction, dead, lr):
        """Called by a trainer's spy with what its loss has just computed."""
        parts = {k: float(torch.as_tensor(v).detach()) for k, v in parts.items()}
        now = self.view()
        if self.init is None:
            self.init = now
            self.first = {"features": features.detach().clone(),
                          "reconstruction": reconstruction.detach().clone()}
        self.grads.append({})
        self.dead += [] if dead is None else [dead.to(torch.uint8)]
        self.margin = min(self.margin, self.margin_of(now, x, dead))
        self.steps.append({"lr": lr, "losses": parts,
                           "l0": float((features > 0).sum(1).float().mean())})
        if dead is not None:
            self.steps[-1]["dead"] = int(dead.sum())

    def result(self, x, y=None, **extra):
        assert len(self.steps) == STEPS and set(self.grads[0]) == set(self.names)
        for step, grads in zip(self.steps, self.grads):
            step["grad_norm"] = float(torch.stack([g.norm() for g in grads.values()]).norm())
        tensors = {"x": x, **self.first}
        if self.dead:
            tensors["dead"] = torch.stack(self.dead)
        if y is not None:
            tensors["y"] = y
        for prefix, group in (("init.", self.init), ("grad.", self.grads[0]),
                              ("final.", self.view())):
            tensors |= {prefix + name: v for name, v in group.items()}
        tensors |= extra.pop("tensors", {})
        return tensors, {"margin": self.margin, "steps": self.steps, **extra}


def batch(x, step):
    return x[step * B:(step + 1) * B].clone()


# ---- distance of every selection from its border -------------------------------------------------

def pre(w, x, centred=True):
    return (x - w["b_dec"] if centred else x) @ w["W_enc"] + w["b_enc"]


def border(values, k):
    """Gap below the k-th largest of each row, where the k-th is positive (zeros are all alike)."""
    v = values.relu().sort(dim=-1, descending=True).values
    gap = (v[:, k - 1] - v[:, k])[v[:, k - 1] > 0]
    return float(gap.min()) if len(gap) else float("inf")


def aux_margin(h, dead, k_aux=D // 2, rectified=True):
    """Sign of the dead ones and the border of the k_aux largest of them."""
    if dead is None or not dead.any():
        return float("inf")
    h = h[:, dead.bool()]
    margin = float(h.abs().min())
    if h.shape[1] > k_aux:
        v = h.sort(dim=1, descending=True).values
        gap = v[:, k_aux - 1] - v[:, k_aux]
        if rectified:
            gap = gap[v[:, k_aux - 1] > 0]
        margin = min(margin, float(gap.min()) if len(gap) else float("inf"))
    return margin


def relu_margin(centred=True):
    return lambda w, x, dead: float(pre(w, x, centred).abs().min())


def topk_margin(rectified=True, rescale=False, centred=True, ks=(K,)):
    def margin(w, x, dead):
        h = pre(w, x, centred)
        if rescale:
            h = h * w["W_dec"].norm(dim=1)
        return min([border(h, k) for k in ks] + [aux_margin(h, dead, rectified=rectified)])
    return margin


def batchtopk_margin(rectified=True, rescale=False, groups=None):
    def margin(w, x, dead):
        h = pre(w, x)
        if rescale:
            h = h * w["W_dec"].norm(dim=1)
        aux = [aux_margin(h[:, lo:hi], dead[lo:hi], rectified=rectified)
               for lo, hi in groups or [(0, H)]]
        return min([border(h.reshape(1, -1), K * B)] + aux)
    return margin


def jumprelu_margin(centred, bandwidth):
    def margin(w, x, dead):
        gap = (pre(w, x, centred) - w["threshold"]).abs()
        return float(torch.minimum(gap.min(), (gap - bandwidth / 2).abs().min()))
    return margin


def gated_margin(w, x, dead):
    z = (x - w["b_dec"]) @ w["W_enc"]
    return float(torch.minimum((z + w["b_gate"]).abs().min(),
                               (z * w["r_mag"].exp() + w["b_mag"]).abs().min()))


def policy(kind, betas=(0.9, 0.999), eps=1e-8, clip=None, unit=None, optimiser="adam"):
    """How a step goes on from the gradient. clip: of the whole norm, to this. unit: decoder rows
    are kept at norm 1, the gradient's part along them taken off before clipping; "after": they are
    normalised after the step, "before": after the backward pass, before the projection, "forward":
    before the forward pass."""
    return {"class": kind, "optimiser": optimiser, "betas": list(betas), "eps": eps, "clip": clip,
            "unit": unit}


# ---- dictionary_learning -------------------------------------------------------------------------

COMMON = dict(steps=100, activation_dim=D, layer=0, lm_name="none", device="cpu", lr=LR,
              dict_size=H, warmup_steps=2)


def run_dl(trainer, names, values, margin, dead=0, first_step=0, **extra):
    x = rows()
    log = Log(names, margin)
    log.set(values)
    counts = dead and trainer.num_tokens_since_fired
    if dead:
        counts[-dead:] = trainer.dead_feature_threshold
    thresholds, original = [], trainer.loss

    def spy(x, step=None, **kw):
        # The log of the loss, computed beside it: its counters and threshold are put back after.
        ae, counts = copy.deepcopy(trainer.ae.state_dict()), None
        if hasattr(trainer, "num_tokens_since_fired"):
            counts = trainer.num_tokens_since_fired.clone()
        out = original(x, step=step, logging=True)
        mask = trainer.num_tokens_since_fired >= trainer.dead_feature_threshold if dead else None
        log.at_loss(x, out.losses, out.f, out[1], mask, trainer.optimizer.param_groups[0]["lr"])
        trainer.ae.load_state_dict(ae)
        if counts is not None:
            trainer.num_tokens_since_fired.copy_(counts)
        return original(x, step=step)

    trainer.loss = spy
    for step in range(STEPS):
        trainer.update(first_step + step, batch(x, step))
        if hasattr(trainer, "threshold_beta"):
            thresholds.append(float(trainer.ae.threshold))
    if thresholds:
        extra["threshold_after"] = thresholds
    kind = type(trainer).__name__
    return log.result(x, package="dictionary-learning", first_step=first_step, **extra, **policy(
        kind, betas=trainer.optimizer.defaults["betas"],
        clip=None if kind in ("StandardTrainer", "GatedSAETrainer") else 1.0,
        unit=None if kind == "StandardTrainerAprilUpdate" else "after"))


def linear_names(ae, b_dec="b_dec"):
    return {"W_enc": (ae.encoder.weight, True), "b_enc": (ae.encoder.bias, False),
            "W_dec": (ae.decoder.weight, True), "b_dec": (getattr(ae, b_dec), False)}


def plain_names(ae, *more):
    return {n: (getattr(ae, n), False) for n in ("W_enc", "W_dec", "b_enc", "b_dec", *more)}


def bricken_dl():
    hyper = dict(l1_penalty=0.3, sparsity_warmup_steps=40)
    t = dl.StandardTrainer(**COMMON, **hyper)
    return run_dl(t, linear_names(t.ae, "bias"), weights(unit=True), relu_margin(), first_step=10,
                  hyper=hyper | {"sparsity_scale": [0.25, 0.275, 0.3]})


def relu_april_dl():
    hyper = dict(l1_penalty=0.3, sparsity_warmup_steps=None)
    t = StandardTrainerAprilUpdate(**COMMON, **hyper)
    return run_dl(t, linear_names(t.ae, "bias"), weights(unit=False), relu_margin(), hyper=hyper)


def topk_dl():
    hyper = dict(k=K, auxk_alpha=1 / 32, threshold_beta=0.9, threshold_start_step=-1)
    t = dl.TopKTrainer(**COMMON, **hyper)
    return run_dl(t, linear_names(t.ae), weights(unit=True, dead=12), topk_margin(), dead=12,
                  hyper=hyper | {"k_aux": D // 2})


def batchtopk_dl():
    hyper = dict(k=K, auxk_alpha=1 / 32, threshold_beta=0.9, threshold_start_step=-1)
    t = dl.BatchTopKTrainer(**COMMON, **hyper)
    return run_dl(t, linear_names(t.ae), weights(unit=True, dead=12), batchtopk_margin(), dead=12,
                  hyper=hyper | {"k_aux": D // 2})


def matryoshka_dl():
    hyper = dict(k=K, auxk_alpha=1 / 32, threshold_beta=0.9, threshold_start_step=-1,
                 group_fractions=[0.125, 0.25, 0.625])
    t = MatryoshkaBatchTopKTrainer(**COMMON, **hyper)
    return run_dl(t, plain_names(t.ae), weights(unit=True, dead=12), batchtopk_margin(), dead=12,
                  hyper=hyper | {"k_aux": D // 2, "group_sizes": t.group_sizes,
                                 "group_weights": t.group_weights})


def jumprelu_dl():
    # Every threshold is above half the bandwidth: below it the class has a quirk (README).
    hyper = dict(bandwidth=0.3, sparsity_penalty=1.0, target_l0=8.0, sparsity_warmup_steps=None)
    t = dl.JumpReluTrainer(**COMMON, **hyper)
    w = weights(unit=True) | {"threshold": 0.2 + 0.4 * torch.rand(H)}
    return run_dl(t, plain_names(t.ae, "threshold"), w, jumprelu_margin(False, 0.3),
                  hyper=hyper)


def gate(w):
    del w["b_enc"]
    return w | {"b_gate": 0.1 * torch.randn(H), "b_mag": 0.1 * torch.randn(H),
                "r_mag": 0.3 * torch.randn(H)}


def gated_dl():
    hyper = dict(l1_penalty=0.3, sparsity_warmup_steps=None)
    t = dl.GatedSAETrainer(**COMMON, **hyper)
    names = {"W_enc": (t.ae.encoder.weight, True), "W_dec": (t.ae.decoder.weight, True),
             "b_dec": (t.ae.decoder_bias, False), "b_gate": (t.ae.gate_bias, False),
             "b_mag": (t.ae.mag_bias, False), "r_mag": (t.ae.r_mag, False)}
    return run_dl(t, names, gate(weights(unit=True)), gated_margin,
                  hyper=hyper)


# ---- SAELens -------------------------------------------------------------------------------------

def run_sl(kind, config, names, values, margin, dead=0, hyper=None):
    hyper = hyper or {}
    sae = kind(config(d_in=D, d_sae=H, **hyper))
    trainer = SAETrainer(SAETrainerConfig(total_training_samples=100 * B, lr=LR, lr_end=LR / 10,
                                          train_batch_size_samples=B, lr_warm_up_steps=2), sae,
                         data_provider=iter(()))
    x = rows()
    log = Log(plain_names(sae, *names) if "b_gate" not in names
              else {n: (getattr(sae, n), False) for n in names}, margin)
    log.set(values)
    if dead:
        trainer.n_forward_passes_since_fired[-dead:] = trainer.cfg.dead_feature_window + 1
    original, coefficients, thresholds = sae.training_forward_pass, [], []

    def spy(step_input):
        coefficients.append(step_input.coefficients)
        out = original(step_input)
        log.at_loss(step_input.sae_in, out.losses | {"loss": out.loss}, out.feature_acts,
                    out.sae_out, step_input.dead_neuron_mask if dead else None,
                    trainer.optimizer.param_groups[0]["lr"])
        return out

    sae.training_forward_pass = spy
    for step in range(STEPS):
        trainer.step(batch(x, step))
        trainer.n_training_steps += 1
        if hasattr(sae, "topk_threshold"):
            thresholds.append(float(sae.topk_threshold))
    extra = {"threshold_after": thresholds} if thresholds else {}
    return log.result(x, package="sae-lens", coefficients=coefficients, **extra,
                      hyper=hyper | {"apply_b_dec_to_input": sae.cfg.apply_b_dec_to_input},
                      **policy(kind.__name__, clip=1.0))


def relu_april_sl():
    return run_sl(StandardTrainingSAE, StandardTrainingSAEConfig, (), weights(unit=False),
                  relu_margin(), hyper=dict(l1_coefficient=0.3))


def relu_april_sl_plain():
    return run_sl(StandardTrainingSAE, StandardTrainingSAEConfig, (), weights(unit=False),
                  relu_margin(centred=False),
                  hyper=dict(l1_coefficient=0.3, l1_warm_up_steps=2, apply_b_dec_to_input=False))


def topk_sl():
    return run_sl(TopKTrainingSAE, TopKTrainingSAEConfig, (), weights(unit=False, dead=5),
                  topk_margin(rectified=False), dead=5,
                  hyper=dict(k=K, rescale_acts_by_decoder_norm=False, aux_loss_coefficient=0.5))


def topk_sl_rescale():
    return run_sl(TopKTrainingSAE, TopKTrainingSAEConfig, (), weights(unit=False, dead=12),
                  topk_margin(rectified=False, rescale=True), dead=12,
                  hyper=dict(k=K, rescale_acts_by_decoder_norm=True, aux_loss_coefficient=0.5))


def batchtopk_sl():
    return run_sl(BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig, (), weights(unit=False, dead=12),
                  batchtopk_margin(rectified=False, rescale=True), dead=12,
                  hyper=dict(k=float(K), topk_threshold_lr=0.01, aux_loss_coefficient=1.0,
                             rescale_acts_by_decoder_norm=True))


def matryoshka_sl(per_level=False, rescale=True):
    # Where each level has its own auxiliary loss, the dead ones are spread over two levels.
    w = weights(unit=False, dead=12)
    widths = [8, 56, H] if per_level else [8, 24, H]
    groups = [(0, 8), (8, 56), (56, H)] if per_level else None
    return run_sl(MatryoshkaBatchTopKTrainingSAE, MatryoshkaBatchTopKTrainingSAEConfig, (), w,
                  batchtopk_margin(rectified=False, rescale=rescale, groups=groups), dead=12,
                  hyper=dict(k=float(K), topk_threshold_lr=0.01, matryoshka_widths=widths,
                             aux_loss_coefficient=1.0, use_matryoshka_aux_loss=per_level,
                             rescale_acts_by_decoder_norm=rescale))


def matryoshka_sl_plain():
    return matryoshka_sl(rescale=False)


def matryoshka_sl_aux():
    return matryoshka_sl(per_level=True)


def jumprelu_sl(mode, dead=0, **hyper):
    w = weights(unit=False, bias=-0.05) | {"threshold": 0.1 + 0.4 * torch.rand(H)}
    if dead:  # some pre-activations below their thresholds, none above
        w["W_enc"][:, -dead:] *= 0.1
        w["b_enc"][-dead:] = -0.3
    return run_sl(JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig, ("threshold",), w,
                  jumprelu_margin(True, hyper["jumprelu_bandwidth"]), dead=dead,
                  hyper=dict(jumprelu_sparsity_loss_mode=mode, **hyper))


def jumprelu_sl_tanh():
    return jumprelu_sl("tanh", dead=12, jumprelu_bandwidth=0.4, l0_coefficient=0.2,
                       jumprelu_tanh_scale=4.0, pre_act_loss_coefficient=0.01,
                       jumprelu_ste_to_input=True)


def jumprelu_sl_step():
    return jumprelu_sl("step", jumprelu_bandwidth=0.3, l0_coefficient=0.1)


def jumprelu_sl_quadratic():
    return jumprelu_sl("quadratic", jumprelu_bandwidth=0.3, l0_coefficient=0.1, target_l0=8.0,
                       jumprelu_ste_to_input=True)


def gated_sl():
    return run_sl(GatedTrainingSAE, GatedTrainingSAEConfig,
                  ("W_enc", "W_dec", "b_dec", "b_gate", "b_mag", "r_mag"),
                  gate(weights(unit=False)), gated_margin, hyper=dict(l1_coefficient=0.3))


# ---- sparsify ------------------------------------------------------------------------------------

class Rows(torch.nn.Module):
    """A language model as sparsify's trainer sees one: the hooked module maps row t of x to row t
    of y (of x, for an autoencoder), where t is the only token of a sequence."""

    class Layer(torch.nn.Module):
        def forward(self, x, y):
            return y

    def __init__(self, x, y):
        super().__init__()
        self.x, self.y, self.hooked = x, y, self.Layer()
        self.device, self.base_model = x.device, None
        object.__setattr__(self, "base_model", self)
        self.dummy_inputs = {"input_ids": torch.zeros(1, 1, dtype=torch.long)}

    def forward(self, input_ids):
        return self.hooked(self.x[input_ids], self.y[input_ids])


def run_sp(values, margin, sae, train, dead=0, transcode=False):
    x = rows()
    y = torch.tanh(x @ torch.randn(D, D) / D**0.5) + 0.1 if transcode else x
    tokens = [{"input_ids": torch.tensor([i])} for i in range(len(x))]
    # fit() lowers the precision of products for the whole process; the reference is float32.
    quiet, lower = contextlib.redirect_stdout(io.StringIO()), torch.set_float32_matmul_precision
    torch.set_float32_matmul_precision = lambda precision: None
    with tempfile.TemporaryDirectory() as folder, quiet:
        trainer = SparsifyTrainer(
            TrainConfig(SparseCoderConfig(num_latents=H, k=K, transcode=transcode, **sae),
                        batch_size=B, hookpoints=["hooked"], log_to_wandb=False, lr=LR,
                        save_dir=folder, **train), tokens, Rows(x, y))
        coder = trainer.saes["hooked"]
        names = {"W_enc": (coder.encoder.weight, True), "b_enc": (coder.encoder.bias, False),
                 "W_dec": (coder.W_dec, False), "b_dec": (coder.b_dec, False)}
        if coder.W_skip is not None:
            names["W_skip"] = (coder.W_skip, False)
        log = Log(names, margin)
        log.set(values)
        if dead:
            trainer.num_tokens_since_fired["hooked"][-dead:] = 10_000_001
        original, optimiser, last = coder.forward, trainer.optimizers[0], {}

        def spy(x, y, dead_mask=None, total_variance=None):
            out = original(x, y, dead_mask=dead_mask, total_variance=total_variance)
            with torch.no_grad():  # its own output is that of 4k latents where multi_topk is on
                acts, indices, _ = coder.encode(x)
                features = torch.zeros(len(x), H).scatter_(1, indices, acts)
                reconstruction = coder.decode(acts, indices)
                if coder.W_skip is not None:
                    reconstruction = reconstruction + x @ coder.W_skip.T
            loss = out.fvu + trainer.cfg.auxk_alpha * out.auxk_loss + out.multi_topk_fvu / 8
            log.at_loss(x, {"fvu": out.fvu, "auxk_loss": out.auxk_loss, "loss": loss,
                            "multi_topk_fvu": out.multi_topk_fvu}, features, reconstruction,
                        dead_mask, optimiser.param_groups[0]["lr"])
            return out

        coder.forward = spy
        save = trainer.save
        trainer.save = lambda: (last.update(log.view()), save())
        trainer.fit()
        saved = load_file(f"{folder}/unnamed/hooked/sae.safetensors")
    torch.set_float32_matmul_precision = lower
    tensors = {"final." + n: v for n, v in last.items()}
    if train.get("optimizer") == "signum":  # the average of the iterates, which is what is saved
        for name, (p, transposed) in names.items():
            key = {"W_enc": "encoder.weight", "b_enc": "encoder.bias"}.get(name, name)
            tensors["saved." + name] = saved[key].T if transposed else saved[key]
    return log.result(x, y if transcode else None, package="eai-sparsify", tensors=tensors,
                      hyper=dict(k=K, transcode=transcode, **sae, **train),
                      **policy("SparseCoder", optimiser=train["optimizer"],
                               unit=None if transcode else "forward"))


def topk_sp():
    return run_sp(weights(unit=True), topk_margin(), {}, dict(optimizer="signum"))


def topk_sp_adam():
    return run_sp(weights(unit=True, dead=5), topk_margin(ks=(K, 4 * K)), dict(multi_topk=True),
                  dict(optimizer="adam", auxk_alpha=1 / 32, lr_warmup_steps=2), dead=5)


def transcoder_sp():
    return run_sp(weights(unit=False), topk_margin(centred=False), {}, dict(optimizer="adam",
                  lr_warmup_steps=0), transcode=True)


def skip_transcoder_sp():
    w = weights(unit=False) | {"W_skip": 0.3 * torch.randn(D, D)}
    return run_sp(w, topk_margin(centred=False), dict(skip_connection=True),
                  dict(optimizer="adam", lr_warmup_steps=0), transcode=True)


# ---- forms that no package has, in autograd ------------------------------------------------------

def run_autograd(values, loss_of, margin, x, adam, y=None, clip=None, unit=None, dead=None, **extra):
    w = {n: torch.nn.Parameter(v.clone()) for n, v in values.items()}
    log = Log({n: (p, False) for n, p in w.items()}, margin)
    optimiser = torch.optim.Adam(w.values(), **adam)
    for step in range(STEPS):
        xs, ys = batch(x, step), None if y is None else batch(y, step)
        loss, parts, features, reconstruction = loss_of(w, xs, ys)
        log.at_loss(xs, parts | {"loss": loss}, features, reconstruction, dead, adam["lr"])
        optimiser.zero_grad()
        loss.backward()
        with torch.no_grad():
            p = w["W_dec"]
            if unit == "before":
                p /= p.norm(dim=1, keepdim=True)
            if unit:
                p.grad -= (p.grad * p).sum(1, keepdim=True) * p
            if clip:
                torch.nn.utils.clip_grad_norm_(w.values(), clip)
            optimiser.step()
            if unit == "after":
                p /= p.norm(dim=1, keepdim=True)
    return log.result(x, y, package="torch", **extra, **policy(
        "autograd", adam["betas"], adam["eps"], clip, unit))


def topk_oa():
    x, w = rows(), weights(unit=True, dead=12)
    dead = torch.arange(H) >= H - 12
    scale, k_aux, alpha = 1 / ((x.mean(0) - x) ** 2).mean(), 8, 1 / 32

    def top(values, k):
        v, i = values.topk(k, dim=-1)
        return torch.zeros_like(values).scatter(-1, i, v.relu())

    def loss(w, x, _):
        h = pre(w, x)
        f, z = top(h, K), top(h.where(dead, h * 0), k_aux)
        r, e = f @ w["W_dec"] + w["b_dec"], z @ w["W_dec"] + w["b_dec"]
        t = (x - r + w["b_dec"]).detach()
        mse = scale * (r - x).pow(2).mean()
        aux = (e - t).pow(2).mean() / (t.mean(0) - t).pow(2).mean()
        return mse + alpha * aux, {"mse": mse, "auxk": aux}, f, r

    return run_autograd(w, loss, topk_margin(), x, dict(lr=LR, betas=(0.9, 0.999), eps=6.25e-10),
                        unit="before", dead=dead,
                        hyper=dict(k=K, k_aux=k_aux, auxk_alpha=alpha, mse_scale=float(scale)))


class Step(torch.autograd.Function):
    """1[h > t], with a rectangle of the given width for a kernel in the threshold's gradient."""

    @staticmethod
    def forward(ctx, h, t, width):
        ctx.save_for_backward((((h - t) / width).abs() < 0.5).to(h))
        ctx.width = width
        return (h > t).to(h)

    @staticmethod
    def backward(ctx, g):
        inside, = ctx.saved_tensors
        return None, -(g * inside).sum(0) / ctx.width, None


class Jump(torch.autograd.Function):
    """h 1[h > t]"""

    @staticmethod
    def forward(ctx, h, t, width):
        ctx.save_for_backward(h, t)
        ctx.width = width
        return h * (h > t)

    @staticmethod
    def backward(ctx, g):
        h, t = ctx.saved_tensors
        inside = ((h - t) / ctx.width).abs() < 0.5
        return g * (h > t), -(g * inside * t).sum(0) / ctx.width, None


def jumprelu_gdm():
    width, penalty = 0.3, 0.1
    w = weights(unit=True) | {"threshold": 0.2 + 0.4 * torch.rand(H)}

    def loss(w, x, _):
        h = pre(w, x, centred=False).relu()
        f = Jump.apply(h, w["threshold"], width)
        r = f @ w["W_dec"] + w["b_dec"]
        mse, l0 = (x - r).pow(2).sum(1).mean(), Step.apply(h, w["threshold"], width).sum(1).mean()
        return mse + penalty * l0, {"mse": mse, "l0": l0}, f, r

    return run_autograd(w, loss, lambda w, x, dead: min(
        jumprelu_margin(False, width)(w, x, dead), relu_margin(False)(w, x, dead)), rows(),
        dict(lr=LR, betas=(0.0, 0.999), eps=1e-8), unit="after",
        hyper=dict(bandwidth=width, l0_coefficient=penalty))


def relu_transcoder(skip):
    d_out, penalty = 12, 0.3
    x, w = rows(), weights(unit=False, d_out=d_out)
    y = torch.tanh(x @ torch.randn(D, d_out) / D**0.5) + 0.1
    if skip:
        w["W_skip"] = 0.3 * torch.randn(d_out, D)

    def loss(w, x, y):
        f = pre(w, x, centred=False).relu()
        r = f @ w["W_dec"] + w["b_dec"]
        if skip:
            r = r + x @ w["W_skip"].T
        mse, l1 = (y - r).pow(2).sum(1).mean(), (f * w["W_dec"].norm(dim=1)).sum(1).mean()
        return mse + penalty * l1, {"mse": mse, "l1": l1}, f, r

    return run_autograd(w, loss, relu_margin(False), x, dict(lr=LR, betas=(0.9, 0.999), eps=1e-8),
                        y=y, clip=1.0, hyper=dict(l1_coefficient=penalty))


def transcoder_relu():
    return relu_transcoder(skip=False)


def skip_transcoder_relu():
    return relu_transcoder(skip=True)


def crosscoder():
    layers, penalty = 3, 0.3
    x = torch.stack([rows() * s for s in (0.7, 1.0, 1.4)], dim=1)
    w_dec = torch.randn(H, layers, D)
    w_dec *= (0.05 + 0.1 * torch.rand(H, layers, 1)) / w_dec.norm(dim=2, keepdim=True)
    w = {"W_dec": w_dec, "W_enc": w_dec.permute(1, 2, 0) + 0.05 * torch.randn(layers, D, H),
         "b_enc": 0.1 * torch.randn(H), "b_dec": 0.2 * torch.randn(layers, D)}

    def hidden(w, x):
        return torch.einsum("bld,ldh->bh", x, w["W_enc"]) + w["b_enc"]

    def loss(w, x, _):
        f = hidden(w, x).relu()
        r = torch.einsum("bh,hld->bld", f, w["W_dec"]) + w["b_dec"]
        mse = (x - r).pow(2).sum((1, 2)).mean()
        l1 = (f * w["W_dec"].norm(dim=2).sum(1)).sum(1).mean()
        return mse + penalty * l1, {"mse": mse, "l1": l1}, f, r

    return run_autograd(w, loss, lambda w, x, dead: float(hidden(w, x).abs().min()), x,
                        dict(lr=LR, betas=(0.9, 0.999), eps=1e-8), clip=1.0,
                        hyper=dict(l1_coefficient=penalty, layers=layers))


CASES = (bricken_dl, relu_april_dl, relu_april_sl, relu_april_sl_plain, topk_dl, topk_sl,
         topk_sl_rescale, topk_sp, topk_sp_adam, topk_oa, batchtopk_dl, batchtopk_sl, matryoshka_dl,
         matryoshka_sl, matryoshka_sl_plain, matryoshka_sl_aux, jumprelu_dl, jumprelu_sl_tanh,
         jumprelu_sl_step, jumprelu_sl_quadratic, jumprelu_gdm, gated_dl, gated_sl, transcoder_sp,
         skip_transcoder_sp, transcoder_relu, skip_transcoder_relu, crosscoder)


def schedules():
    """Factors of the learning rate and of the penalty at steps 0, 1, 2, ..."""
    def run(scheduler, optimiser, n):
        out = []
        for _ in range(n):
            out.append(optimiser.param_groups[0]["lr"])
            optimiser.step()
            scheduler.step()
        return out

    out = []
    for steps, warm, decay in ((12, 4, 8), (10, 0, None), (10, 3, None)):
        f = get_lr_schedule(steps, warm, decay)
        out.append({"package": "dictionary-learning", "what": "lr", "steps": steps,
                    "warmup_steps": warm, "decay_start": decay,
                    "factor": [f(i) for i in range(steps)]})
    f = get_sparsity_warmup_fn(10, 4)
    out.append({"package": "dictionary-learning", "what": "penalty", "sparsity_warmup_steps": 4,
                "factor": [f(i) for i in range(10)]})
    for name, warm, decay, end in (("constant", 4, 4, 0.1), ("constant", 1, 0, 0.1),
                                   ("cosineannealing", 3, 3, 0.1), ("cosineannealing", 0, 0, 0.1)):
        p = torch.nn.Parameter(torch.zeros(1))
        optimiser = torch.optim.Adam([p], lr=1.0)
        s = get_lr_scheduler(name, optimiser, 12, 1.0, warm, decay, end, 1)
        out.append({"package": "sae-lens", "what": "lr", "scheduler": name, "steps": 12,
                    "warm_up_steps": warm, "decay_steps": decay, "lr_end": end,
                    "factor": run(s, optimiser, 12)})
    c, values = CoefficientScheduler(4, 1.0), []
    for _ in range(8):
        values.append(c.value)
        c.step()
    out.append({"package": "sae-lens", "what": "penalty", "warm_up_steps": 4, "factor": values})
    return out


def main():
    folder, start = pathlib.Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for case in CASES:
        if not case.__name__.startswith(start):
            continue
        for seed in range(500):
            torch.manual_seed(seed)
            tensors, facts = case()
            if facts["margin"] > MARGIN:
                break
        else:
            sys.exit(f"{case.__name__}: no seed keeps every selection {MARGIN} from its border")
        facts = {"case": case.__name__, "seed": seed, "d": D, "h": H, "batch": B,
                 "versions": VERSIONS} | facts
        path = folder / f"{case.__name__}.safetensors"
        save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, path,
                  {"case": json.dumps(facts)})
        path.chmod(0o644)
        print(case.__name__, "seed", seed, "margin %.1e" % facts["margin"], [
            (round(s["losses"]["loss"], 4), s["l0"], round(s["grad_norm"], 3), s["lr"],
             s.get("dead")) for s in facts["steps"]])
    if not start:
        (folder / "schedules.json").write_text(json.dumps(schedules(), indent=1) + "\n")


if __name__ == "__main__":
    main()
