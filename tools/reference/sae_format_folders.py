#!/usr/bin/env python3
"""Writes tests/data/sae_formats: small sparse autoencoders as each program saves its own.

Every folder holds the program's files, x.npy [20, 16] and what the program itself makes of it after
loading the files again: features.npy [20, 48], reconstruction.npy [20, d_out]. No feature is so near
to its border that noise of 1e-5 in x changes which ones are active.

sae-lens 6.54.12, dictionary-learning 0.1.0, eai-sparsify 1.3.3, torch 2.15.0, numpy 2.4.6. For
openai_*: the folder with model.py of github.com/openai/sparse_autoencoder, commit 4965b94. Gemma
Scope's files are written by hand (numpy.savez, safetensors) and read as sae-lens's loaders read them.

    PYTHONHASHSEED=0 sae_format_folders.py tests/data/sae_formats FOLDER_OF_OPENAI_MODEL_PY
"""
import contextlib
import io
import json
import pathlib
import shutil
import sys
import warnings

import sae_packages  # noqa: F401  (before the packages)
import numpy as np
import torch
from safetensors.torch import load_file, save_file

import dictionary_learning.trainers as dl
from dictionary_learning.dictionary import (AutoEncoder, GatedAutoEncoder, JumpReluAutoEncoder)
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
from dictionary_learning.trainers.matryoshka_batch_top_k import (MatryoshkaBatchTopKSAE,
                                                                 MatryoshkaBatchTopKTrainer)
from dictionary_learning.trainers.standard import StandardTrainerAprilUpdate
from dictionary_learning.trainers.top_k import AutoEncoderTopK
from sae_lens import saes as sl
from sae_lens.saes.sae import SAE, SAEMetadata
from sae_lens.saes.transcoder import (JumpReLUSkipTranscoder, JumpReLUSkipTranscoderConfig,
                                      JumpReLUTranscoder, JumpReLUTranscoderConfig, SkipTranscoder,
                                      SkipTranscoderConfig, Transcoder, TranscoderConfig)
from sparsify.config import SparseCoderConfig
from sparsify.sparse_coder import SparseCoder

D, H, N, K, D_OUT = 16, 48, 20, 5, 12
HOOKS = dict(model_name="gpt2-small", hook_name="blocks.3.hook_resid_pre", hook_head_index=None,
             context_size=128, prepend_bos=True, seqpos_slice=[None], dataset_path="text",
             model_from_pretrained_kwargs={}, exclude_special_tokens=False)


def fill(module, **given):
    """Random weights of a trained coder's proportions, in place; `given` ones as they are."""
    for name, p in module.named_parameters():
        if name in given:
            p.data = torch.as_tensor(given[name], dtype=p.dtype).expand_as(p).clone()
        elif p.ndim == 2:
            p.data = torch.randn_like(p) / D**0.5
        else:
            p.data = 0.2 * torch.randn_like(p)
    return module


def unit(decoder, dim):
    decoder.data /= decoder.data.norm(dim=dim, keepdim=True)


# ---- SAELens -------------------------------------------------------------------------------------

def from_sae_lens(folder, **kw):
    sae = SAE.load_from_disk(folder, **kw)
    return sae.encode, sae.forward


def sae_lens_trained(kind, config, **hyper):
    def write(folder):
        sae = fill(kind(config(d_in=D, d_sae=H, metadata=SAEMetadata(**HOOKS), **hyper)),
                   threshold=0.3 + 0.3 * torch.rand(H))
        if hasattr(sae, "topk_threshold"):
            sae.topk_threshold += 0.9
        sae.save_inference_model(folder)
        return from_sae_lens(folder)
    return write


def sae_lens_checkpoint(folder):
    """What save_model() leaves in a training checkpoint: norms of the decoder not folded."""
    config = sl.TopKTrainingSAEConfig(d_in=D, d_sae=H, k=K, metadata=SAEMetadata(**HOOKS))
    sae = fill(sl.TopKTrainingSAE(config))
    sae.save_model(folder)
    return from_sae_lens(folder)


def sae_lens_plain(kind, config, saved="float32", **hyper):
    def write(folder):
        hooks = HOOKS | ({"hook_name": "blocks.3.ln2.hook_normalized",
                          "hook_name_out": "blocks.3.hook_mlp_out"} if "d_out" in hyper else {})
        sae = fill(kind(config(d_in=D, d_sae=H, metadata=SAEMetadata(**hooks), **hyper)),
                   threshold=0.3 + 0.3 * torch.rand(H))
        if saved != "float32":
            sae.to(dtype=getattr(torch, saved))
        sae.save_model(folder)
        return from_sae_lens(folder, dtype="float32")
    return write


def sae_lens_standard(folder):
    write = sae_lens_trained(sl.StandardTrainingSAE, sl.StandardTrainingSAEConfig)
    result = write(folder)
    save_file({"sparsity": torch.log10(torch.rand(H) * 0.1)}, folder / "sparsity.safetensors")
    return result


def sae_lens_old(architecture, centred=True, **more):
    """The flat cfg.json of versions before 6, by hand."""
    def write(folder):
        folder.mkdir(parents=True)
        w = {"W_enc": torch.randn(D, H) / D**0.5, "W_dec": torch.randn(H, D) / D**0.5,
             "b_dec": 0.2 * torch.randn(D)}
        for name in ("b_gate", "b_mag", "r_mag") if architecture == "gated" else ("b_enc",):
            w[name] = 0.2 * torch.randn(H)
        if architecture == "jumprelu":
            w["threshold"] = 0.3 + 0.3 * torch.rand(H)
        cfg = {"d_in": D, "d_sae": H, "dtype": "torch.float32", "device": "cpu",
               "model_name": "gpt2-small", "hook_point": "blocks.3.hook_resid_pre",
               "hook_point_layer": 3, "hook_point_head_index": None, "activation_fn_str": "relu",
               "prepend_bos": True, "dataset_path": "text", "context_size": 128,
               "finetuning_scaling_factor": False, "sae_lens_training_version": "3.5.0",
               "normalize_activations": "none"} | more
        if architecture != "standard":  # older ones do not name it
            cfg["architecture"] = architecture
        if architecture == "standard":
            w["scaling_factor"] = torch.ones(H)
        if not centred:
            cfg["apply_b_dec_to_input"] = False
        if cfg["activation_fn_str"] == "topk":
            del cfg["architecture"]
        (folder / "cfg.json").write_text(json.dumps(cfg))
        save_file(w, folder / "sae_weights.safetensors")
        return from_sae_lens(folder)
    return write


# ---- dictionary_learning -------------------------------------------------------------------------

def dictionary_learning(trainer_class, load, unit_rows=True, given=None, **hyper):
    def write(folder):
        trainer = trainer_class(steps=10000, activation_dim=D, dict_size=H, layer=3, device="cpu",
                                lm_name="EleutherAI/pythia-70m-deduped", **hyper,
                                submodule_name="resid_post_layer_3")
        ae = fill(trainer.ae, **(given or {}))
        if hasattr(ae, "threshold") and not isinstance(ae.threshold, torch.nn.Parameter):
            ae.threshold.fill_(0.9)
        if unit_rows:
            unit(*((ae.W_dec, 1) if hasattr(ae, "W_dec") else (ae.decoder.weight, 0)))
        folder.mkdir(parents=True)
        torch.save({k: v.cpu() for k, v in ae.state_dict().items()}, folder / "ae.pt")
        buffer = {"d_submodule": D, "io": "out", "n_ctxs": 244, "ctx_len": 128,
                  "refresh_batch_size": 24, "out_batch_size": 2048, "device": "cpu"}
        (folder / "config.json").write_text(json.dumps(
            {"trainer": trainer.config, "buffer": buffer}, indent=4))
        ae = load(folder / "ae.pt")
        return ae.encode, ae.forward
    return write


# ---- sparsify ------------------------------------------------------------------------------------

def sparsify(**config):
    def write(folder):
        folder = folder / "layers.3"
        coder = fill(SparseCoder(D, SparseCoderConfig(**{"num_latents": H, "k": K} | config)))
        if not coder.cfg.transcode:
            coder.set_decoder_norm_to_unit_norm()
        coder.save_to_disk(folder)
        # As Trainer leaves it: its configuration above the hook points.
        (folder.parent / "config.json").write_text(json.dumps(
            {"sae": coder.cfg.to_dict(), "batch_size": 32, "hookpoints": ["layers.3"],
             "model": "EleutherAI/pythia-70m-deduped", "dataset": "text", "ctx_len": 128}))
        coder = SparseCoder.load_from_disk(folder)

        def encode(x):
            acts, indices, _ = coder.encode(x)
            return torch.zeros(len(x), coder.num_latents).scatter_(1, indices, acts)
        return encode, lambda x: coder(x).sae_out
    return write


# ---- OpenAI --------------------------------------------------------------------------------------

def openai(topk):
    def write(folder):
        import model as oa
        folder.mkdir(parents=True)
        activation = oa.TopK(K) if topk else torch.nn.ReLU()
        ae = fill(oa.Autoencoder(H, D, activation=activation, normalize=topk))
        unit(ae.decoder.weight, 0)
        # The class leaves the activation's entries twice; its own loader refuses these two.
        state = {k: v for k, v in ae.state_dict().items() if not k.startswith("activation.")}
        torch.save(state, folder / "autoencoder.pt")
        ae = oa.Autoencoder.from_state_dict(torch.load(folder / "autoencoder.pt"))
        return lambda x: ae.encode(x)[0], lambda x: ae(x)[2]
    return write


# ---- Gemma Scope ---------------------------------------------------------------------------------

def gemma_scope(transcoder):
    def write(folder):
        folder = folder / "layer_3/width_16k/average_l0_12"
        folder.mkdir(parents=True)
        d_out = D_OUT if transcoder else D
        w = {"W_enc": torch.randn(D, H) / D**0.5, "W_dec": torch.randn(H, d_out) / D**0.5,
             "b_enc": 0.2 * torch.randn(H), "b_dec": 0.2 * torch.randn(d_out),
             "threshold": 0.3 + 0.3 * torch.rand(H)}
        np.savez(folder / "params.npz", **{k: v.numpy() for k, v in w.items()})
        sae = jumprelu(d_out if transcoder else None, skip=False)
        sae.load_state_dict({k: torch.tensor(v) for k, v in np.load(folder / "params.npz").items()})
        return sae.encode, sae.forward
    return write


def gemma_scope_2(transcoder):
    def write(folder):
        site = "transcoder" if transcoder else "resid_post"
        folder = folder / f"{site}/layer_3_width_16k_l0_small{'_affine' if transcoder else ''}"
        folder.mkdir(parents=True)
        d_out = D_OUT if transcoder else D
        w = {"w_enc": torch.randn(D, H) / D**0.5, "w_dec": torch.randn(H, d_out) / D**0.5,
             "b_enc": 0.2 * torch.randn(H), "b_dec": 0.2 * torch.randn(d_out),
             "threshold": 0.3 + 0.3 * torch.rand(H)}
        cfg = {"architecture": "jump_relu", "model_name": "gemma-v3-1b-pt", "width": H, "l0": 12,
               "hf_hook_point_in": "model.layers.3.output", "type": "sae"}
        if transcoder:
            w["affine_skip_connection"] = torch.randn(D, d_out) / D
            cfg |= {"hf_hook_point_in": "model.layers.3.pre_feedforward_layernorm.output",
                    "hf_hook_point_out": "model.layers.3.post_feedforward_layernorm.output",
                    "affine_connection": True, "type": "transcoder"}
        (folder / "config.json").write_text(json.dumps(cfg))
        save_file(w, folder / "params.safetensors")
        w = load_file(folder / "params.safetensors")
        sae = jumprelu(d_out if transcoder else None, skip=transcoder)
        state = {("W" + k[1:] if k.startswith("w_") else k): v for k, v in w.items()}
        if transcoder:
            state["W_skip"] = state.pop("affine_skip_connection").T
        sae.load_state_dict(state)
        return sae.encode, sae.forward
    return write


def jumprelu(d_out, skip):
    common = dict(d_in=D, d_sae=H, apply_b_dec_to_input=False)
    if d_out is None:
        return sl.JumpReLUSAE(sl.JumpReLUSAEConfig(**common))
    if skip:
        return JumpReLUSkipTranscoder(JumpReLUSkipTranscoderConfig(**common, d_out=d_out))
    return JumpReLUTranscoder(JumpReLUTranscoderConfig(**common, d_out=d_out))


OUT = dict(d_out=D_OUT, apply_b_dec_to_input=False)
FOLDERS = {
    "saelens_standard": sae_lens_standard,
    "saelens_standard_uncentred": sae_lens_plain(sl.StandardSAE, sl.StandardSAEConfig,
                                                 apply_b_dec_to_input=False),
    "saelens_standard_layer_norm": sae_lens_plain(sl.StandardSAE, sl.StandardSAEConfig,
                                                  normalize_activations="layer_norm"),
    "saelens_standard_constant_norm": sae_lens_plain(
        sl.StandardSAE, sl.StandardSAEConfig, normalize_activations="constant_norm_rescale"),
    "saelens_standard_bfloat16": sae_lens_plain(sl.StandardSAE, sl.StandardSAEConfig, "bfloat16"),
    "saelens_topk": sae_lens_trained(sl.TopKTrainingSAE, sl.TopKTrainingSAEConfig, k=K),
    "saelens_topk_unscaled": sae_lens_trained(sl.TopKTrainingSAE, sl.TopKTrainingSAEConfig, k=K,
                                              rescale_acts_by_decoder_norm=False),
    "saelens_topk_checkpoint": sae_lens_checkpoint,
    "saelens_batchtopk": sae_lens_trained(sl.BatchTopKTrainingSAE, sl.BatchTopKTrainingSAEConfig,
                                          k=float(K)),
    "saelens_matryoshka": sae_lens_trained(
        sl.MatryoshkaBatchTopKTrainingSAE, sl.MatryoshkaBatchTopKTrainingSAEConfig, k=float(K),
        matryoshka_widths=[8, 24, H]),
    "saelens_jumprelu": sae_lens_trained(sl.JumpReLUTrainingSAE, sl.JumpReLUTrainingSAEConfig),
    "saelens_gated": sae_lens_trained(sl.GatedTrainingSAE, sl.GatedTrainingSAEConfig),
    "saelens_transcoder": sae_lens_plain(Transcoder, TranscoderConfig, **OUT),
    "saelens_skip_transcoder": sae_lens_plain(SkipTranscoder, SkipTranscoderConfig, **OUT),
    "saelens_jumprelu_transcoder": sae_lens_plain(JumpReLUTranscoder, JumpReLUTranscoderConfig,
                                                  **OUT),
    "saelens_jumprelu_skip_transcoder": sae_lens_plain(
        JumpReLUSkipTranscoder, JumpReLUSkipTranscoderConfig, **OUT),
    "saelens_old_standard": sae_lens_old("standard"),
    "saelens_old_topk": sae_lens_old("topk", activation_fn_str="topk",
                                     activation_fn_kwargs={"k": K}),
    "saelens_old_jumprelu": sae_lens_old("jumprelu", centred=False),
    "saelens_old_gated": sae_lens_old("gated", normalize_activations=False),
    "dictionary_learning_standard": dictionary_learning(
        dl.StandardTrainer, lambda p: AutoEncoder.from_pretrained(p, normalize_decoder=False)),
    "dictionary_learning_april": dictionary_learning(
        StandardTrainerAprilUpdate, AutoEncoder.from_pretrained, unit_rows=False),
    "dictionary_learning_gated": dictionary_learning(dl.GatedSAETrainer,
                                                     GatedAutoEncoder.from_pretrained),
    "dictionary_learning_topk": dictionary_learning(dl.TopKTrainer, AutoEncoderTopK.from_pretrained,
                                                    k=K),
    "dictionary_learning_batchtopk": dictionary_learning(dl.BatchTopKTrainer,
                                                         BatchTopKSAE.from_pretrained, k=K),
    "dictionary_learning_matryoshka": dictionary_learning(
        MatryoshkaBatchTopKTrainer, MatryoshkaBatchTopKSAE.from_pretrained, k=K,
        group_fractions=[0.25, 0.25, 0.5]),
    "dictionary_learning_jumprelu": dictionary_learning(
        dl.JumpReluTrainer, JumpReluAutoEncoder.from_pretrained, given={"threshold": 0.4}),
    "sparsify_topk": sparsify(),
    "sparsify_groupmax": sparsify(activation="groupmax", num_latents=50),
    "sparsify_transcoder": sparsify(transcode=True),
    "sparsify_skip_transcoder": sparsify(transcode=True, skip_connection=True),
    "openai_topk": openai(topk=True),
    "openai_relu": openai(topk=False),
    "gemma_scope": gemma_scope(transcoder=False),
    "gemma_scope_transcoder": gemma_scope(transcoder=True),
    "gemma_scope_2": gemma_scope_2(transcoder=False),
    "gemma_scope_2_skip_transcoder": gemma_scope_2(transcoder=True),
}


def stable(encode, x, features):
    for _ in range(4):
        if ((encode(x + 1e-5 * torch.randn_like(x)) > 0) != (features > 0)).any():
            return False
    return True


def main():
    out = pathlib.Path(sys.argv[1])
    sys.path.insert(0, sys.argv[2])
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name, write in FOLDERS.items():
        folder = out / name
        for seed in range(100):
            torch.manual_seed(seed)
            x = torch.randn(N, D) + 0.3 * torch.randn(D)
            shutil.rmtree(folder, ignore_errors=True)
            with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
                encode, forward = write(folder)
                features, reconstruction = encode(x), forward(x)
                if stable(encode, x, features):
                    break
        else:
            sys.exit(f"{name}: no seed keeps every feature from its border")
        for key, value in (("x", x), ("features", features), ("reconstruction", reconstruction)):
            np.save(folder / f"{key}.npy", value.float().numpy())
        for path in folder.rglob("*"):
            if path.is_file():
                path.chmod(0o644)
        print(name, "seed", seed, tuple(features.shape), tuple(reconstruction.shape), "L0",
              float((features > 0).sum(1).float().mean()))


if __name__ == "__main__":
    main()
