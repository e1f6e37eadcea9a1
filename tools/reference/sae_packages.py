"""The SAE trainers of sae_steps.py, sae_format_folders.py and sae_fidelity.py, made importable.

dictionary_learning imports nnsight (to hook language models, which none of the scripts does), and
that wants an old transformers: where it is not installed an empty stand-in takes its place.
sparsify's Triton kernels want a GPU; its eager ones compute the same.
"""
import os
import sys
import types

os.environ["SPARSIFY_DISABLE_TRITON"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
try:
    import nnsight  # noqa: F401
except ImportError:
    sys.modules["nnsight"] = types.ModuleType("nnsight")
    sys.modules["nnsight"].LanguageModel = object
