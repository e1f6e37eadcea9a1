#!/usr/bin/env python3
"""Writes tests/data/eval/*.safetensors: evaluations as numpy, scikit-learn and SAEBench make them.

metrics     numpy in float64: reconstruction metrics, intervals over clusters, decoder cosines
logistic    scikit-learn's LogisticRegression: L2, balanced, L1
ablation    SAEBench's TPP and SCR, token by token
absorption  SAEBench's FeatureAbsorptionCalculator, word by word

The autoencoder everywhere is f = relu(x W), x_hat = scale f W^T (tests/eval/fake_sae.h).

numpy 2.4.6, scikit-learn 1.9.1, torch 2.15.0, sae-bench 0.6.0 (without its dependencies, of which
sae_lens is not needed for what is called here).    eval_reference.py OUTPUT_FOLDER
"""
import pathlib
import sys
import unittest.mock

import numpy as np
import torch
from safetensors.numpy import save_file
from sklearn.linear_model import LogisticRegression

for name in ("sae_lens", "transformer_lens", "sae_bench.sae_bench_utils.sae_selection_utils",
             "sae_bench.sae_bench_utils.activation_collection",
             "sae_bench.sae_bench_utils.general_utils"):
    sys.modules[name] = unittest.mock.MagicMock()
import sae_bench.evals.scr_and_tpp.main as shift  # noqa: E402
import sae_bench.evals.sparse_probing.probe_training as training  # noqa: E402
from sae_bench.evals.absorption.feature_absorption_calculator import (  # noqa: E402
    FeatureAbsorptionCalculator,
)


class Sae:
    def __init__(self, w):
        self.W_dec = torch.nn.Parameter(torch.tensor(w.T.copy()), requires_grad=False)
        self.w = torch.tensor(w)
        self.device = "cpu"

    def encode(self, x):
        return torch.relu(x @ self.w)

    def decode(self, f):
        return f @ self.W_dec.data


def metrics(rng):
    x = (rng.normal(size=(230, 6)) * np.linspace(0.5, 2, 6) + 3).astype(np.float32)
    w = rng.normal(size=(6, 9)).astype(np.float32) * 0.5
    w[:, 5] = 1.02 * w[:, 2] + 0.02
    scale = np.float32(0.4)
    starts = np.array([0, 3, 40, 41, 90, 130, 200])
    a = x.astype(np.float64)
    f = np.maximum(a @ w.astype(np.float64), 0)
    r = np.float64(scale) * f @ w.T.astype(np.float64)
    error = ((r - a) ** 2).sum(1)
    deviation = ((a - a.mean(0)) ** 2).sum(1)
    cluster = np.searchsorted(starts, np.arange(len(a)), side="right")

    def interval(top, bottom):
        from scipy.stats import t
        tops = np.bincount(cluster, top)[1:]
        bottoms = np.bincount(cluster, bottom)[1:]
        value = tops.sum() / bottoms.sum()
        g = len(tops)
        half = (t.ppf(0.975, g - 1) * np.sqrt(g / (g - 1) * ((tops - value * bottoms) ** 2).sum())
                / bottoms.sum())
        return [value, value - half, value + half]

    ones = np.ones(len(a))
    direction = w.T.astype(np.float64)
    unit = direction / np.linalg.norm(direction, axis=1, keepdims=True)
    cosines = np.abs(unit @ unit.T)
    np.fill_diagonal(cosines, 0)
    active = (f > 0).sum(1)
    values = {
        "mse": ((r - a) ** 2).mean(),
        "squared_error": error.mean(),
        "fvu": error.sum() / deviation.sum(),
        "legacy": (1 - error / deviation).mean(),
        "cosine": ((r * a).sum(1) / np.linalg.norm(r, axis=1) / np.linalg.norm(a, axis=1)).mean(),
        "l2_ratio": (np.linalg.norm(r, axis=1) / np.linalg.norm(a, axis=1)).mean(),
        "bias": (r ** 2).sum() / (r * a).sum(),
        "l0": active.mean(),
        "l1": f.sum(1).mean(),
        "norm_mean": np.linalg.norm(direction, axis=1).mean(),
        "redundancy": cosines.max(1).mean(),
        "redundant": (cosines.max(1) > 0.9).mean(),
    }
    out = {name: np.array([value]) for name, value in values.items()}
    out |= {"x": x, "w": w, "scale": np.array([scale]), "starts": starts,
            "density": (f > 0).mean(0), "max_cosine": cosines.max(1),
            "fvu_interval": np.array(interval(error, deviation)),
            "mse_interval": np.array(interval(error / 6, ones)),
            "l0_interval": np.array(interval(active, ones))}
    return out


def logistic(rng):
    x = rng.normal(size=(120, 7)).astype(np.float32) * np.linspace(0.1, 5, 7).astype(np.float32)
    y = (x @ rng.normal(size=7) + rng.normal(size=120) * 4 > 3).astype(np.uint8)
    out = {"x": x, "y": y}
    for name, options in {"plain": {}, "weak": {"C": 20.0}, "strong": {"C": 0.01},
                          "balanced": {"class_weight": "balanced"}}.items():
        fit = LogisticRegression(solver="newton-cholesky", tol=1e-10, max_iter=1000,
                                 **options).fit(x.astype(np.float64), y)
        out[name] = np.append(fit.coef_[0], fit.intercept_)
    s = rng.exponential(size=(150, 40)) * (rng.random((150, 40)) < 0.15)
    s = s.astype(np.float32)
    sy = (s[:, :4].sum(1) + 0.2 * rng.normal(size=150) > 0.7).astype(np.uint8)
    weight = (sy == 0).sum() / (sy == 1).sum()
    l1 = 0.02
    fit = LogisticRegression(l1_ratio=1, solver="saga", C=1 / (l1 * len(s)), tol=1e-10,
                             max_iter=1000000,
                             class_weight={0: 1.0, 1: weight}).fit(s.astype(np.float64), sy)
    out |= {"sparse_x": s, "sparse_y": sy, "l1": np.array([l1, weight]),
            "sparse": np.append(fit.coef_[0], fit.intercept_)}
    return out


def probes_of(tasks, pooled):
    probes = {}
    for name, (samples, labels) in tasks.items():
        fit = LogisticRegression(solver="newton-cholesky", tol=1e-10).fit(pooled[samples], labels)
        probe = training.Probe(pooled.shape[1], torch.float64)
        probe.net.weight.data = torch.tensor(fit.coef_)
        probe.net.bias.data = torch.tensor(fit.intercept_)
        probes[name] = probe
    return probes


def in_order(n):
    return torch.arange(n)


def ablation(rng):
    """Random subsampling is taken out of SAEBench: the first ones are drawn."""
    d, h, tokens = 12, 60, 5
    w = rng.normal(size=(d, h))
    w = (w / np.linalg.norm(w, axis=0)).astype(np.float32).astype(np.float64)
    sae = Sae(w)
    out = {"w": w.astype(np.float32)}
    counts = [2, 4, 7, 10]
    with unittest.mock.patch.object(torch, "randperm", in_order), torch.no_grad():
        # TPP: three classes, texts 0.. of each; the first 40 of a class train, the others test.
        concepts = rng.normal(size=(3, d))
        acts = {}
        for c in range(3):
            acts[str(c)] = (rng.normal(size=(60, tokens, d)) * 1.2 + 0.9 * concepts[c]
                            ).astype(np.float32).astype(np.float64)
        train = {c: torch.tensor(a[:40]) for c, a in acts.items()}
        test = {c: torch.tensor(a[40:]) for c, a in acts.items()}
        pooled = np.concatenate([a.mean(1) for a in acts.values()])
        tasks = {}
        for c in range(3):
            others = [o for o in range(3) if o != c]
            samples = [60 * c + i for i in range(40)] + [60 * o + i for o in others
                                                         for i in range(20)]
            tasks[str(c)] = (samples, [1] * 40 + [0] * 40)
        probes = probes_of(tasks, pooled)
        effects = shift.get_all_node_effects_for_one_sae(sae, probes, list(acts), False, train, 16)
        # Beyond the positive effects SAEBench takes latents without one, in no particular order.
        assert min(int((e > 0).sum()) for e in effects.values()) >= max(counts)
        meaned = {c: a.mean(1) for c, a in test.items()}
        clean = shift.get_probe_test_accuracy(probes, list(acts), meaned, 64, False)
        after = shift.perform_feature_ablations(probes, sae, 16, test, effects, counts,
                                                list(acts), 64, False)
        scores, _ = shift.create_tpp_plotting_dict(after, clean)
        out["tpp.texts"] = np.concatenate(list(acts.values())).astype(np.float32)
        out["tpp.clean"] = np.array(list(clean.values()))
        out["tpp.scores"] = np.array([[scores[f"tpp_threshold_{n}_{m}"] for m in (
            "total_metric", "intended_diff_only", "unintended_diff_only")] for n in counts])

        # SCR: q texts of each pair for the balanced sets, 2 q of the agreeing ones.
        target, spurious = rng.normal(size=(2, d))
        shares = {}
        texts = []
        for share, q in (("train", 24), ("test", 20)):
            index = {}
            for pair, size in (("pp", 2 * q), ("tn", q), ("ns", q), ("nn", 2 * q)):
                sign_t = 1 if pair in ("pp", "tn") else -1
                sign_s = 1 if pair in ("pp", "ns") else -1
                made = (rng.normal(size=(size, tokens, d)) * 1.3 + 0.33 * sign_t * target
                        + 0.5 * sign_s * spurious)
                index[pair] = list(range(len(texts), len(texts) + size))
                texts += list(made.astype(np.float32).astype(np.float64))
            sets = {
                "professor / nurse": index["pp"][:q] + index["tn"][:q],
                "nurse_data_only": index["ns"][:q] + index["nn"][:q],
                "male / female": index["pp"][:q] + index["ns"][:q],
                "female_data_only": index["tn"][:q] + index["nn"][:q],
                "male_professor / female_nurse": index["pp"],
                "female_nurse_data_only": index["nn"],
            }
            shares[share] = sets
            for name, key in (("target", "professor / nurse"), ("spurious", "male / female"),
                              ("biased", "male_professor / female_nurse")):
                negative = sets[training.dataset_info.PAIRED_CLASS_KEYS[key]]
                out[f"scr.{share}.{name}"] = np.array(sets[key] + negative)
        texts = np.stack(texts)
        pairs = training.dataset_info.PAIRED_CLASS_KEYS
        tasks = {}
        for key, negative in pairs.items():
            positive = shares["train"][key]
            tasks[key] = (positive + shares["train"][negative],
                          [1] * len(positive) + [0] * len(shares["train"][negative]))
        probes = probes_of(tasks, texts.mean(1))
        train = {k: torch.tensor(texts[i]) for k, i in shares["train"].items()}
        test = {k: torch.tensor(texts[i]) for k, i in shares["test"].items()}
        effects = shift.get_all_node_effects_for_one_sae(sae, probes, list(pairs), True, train, 16)
        meaned = {k: a.mean(1) for k, a in test.items()}
        clean = shift.get_probe_test_accuracy(probes, list(pairs), meaned, 64, True)
        after = shift.perform_feature_ablations(probes, sae, 16, test, effects, counts,
                                                list(pairs), 64, True)
        scores = shift.get_scr_plotting_dict(after, clean)
        biased = "male_professor / female_nurse probe on "
        out["scr.texts"] = texts.astype(np.float32)
        out["scr.accuracies"] = np.array([
            clean["professor / nurse"], clean["male / female"],
            clean[biased + "professor / nurse data"], clean[biased + "male / female data"]])
        out["scr.scores"] = np.array([[scores[f"scr_metric_threshold_{n}"],
                                       scores[f"scr_dir1_threshold_{n}"],
                                       scores[f"scr_dir2_threshold_{n}"]] for n in counts])
    out["counts"] = np.array(counts)
    return out


class Calculator(FeatureAbsorptionCalculator):
    def _build_prompts(self, words):
        return [unittest.mock.Mock(word=word, base=word) for word in words]

    def _validate_prompts_are_same_length(self, prompts):
        pass


def absorption(rng):
    d, h, words = 8, 14, 300
    w = rng.normal(size=(d, h))
    direction = rng.normal(size=d)
    w[:, :6] += 1.2 * direction[:, None] / np.linalg.norm(direction)
    w = (w / np.linalg.norm(w, axis=0)).astype(np.float32)
    main = [0, 3]
    x = (rng.normal(size=(words, d)) + 0.6 * rng.random((words, 1)) * direction).astype(np.float32)
    # Many words on which no main latent fires.
    for j in main:
        for i in range(0, words, 2):
            x[i] -= max(x[i] @ w[:, j], 0) * 1.5 * w[:, j]
    model = unittest.mock.Mock()
    acts = torch.tensor(x)[:, None, :]
    model.run_with_cache = lambda prompts, names_filter: (None, {names_filter[0]: acts})
    calculator = Calculator(model=model, icl_word_list=[], word_token_pos=0, batch_size=words)
    sae = Sae(w)
    results = calculator.calculate_absorption(
        sae, [str(i) for i in range(words)], torch.tensor(direction.astype(np.float32)), main, 0,
        show_progress=False).word_results
    return {"x": x, "w": w, "direction": direction, "main": np.array(main),
            "full": np.array([r.is_full_absorption for r in results]).astype(np.uint8),
            "fraction": np.array([r.absorption_fraction for r in results], dtype=np.float64)}


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for seed, make in enumerate((metrics, logistic, ablation, absorption)):
        made = make(np.random.default_rng(seed))
        save_file({k: np.ascontiguousarray(v) for k, v in made.items()},
                  folder / f"{make.__name__}.safetensors")


main()
