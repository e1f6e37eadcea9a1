#!/usr/bin/env python3
"""Writes the folders of tests/data/text/folders.json and what `AutoTokenizer` makes of each, with two small
SentencePiece models that are trained here. Run tokenizer_ranks.py first, and this where mistral_common is not.

A folder is a list of files: copies of fixtures, or JSON that stands in folders.json. Expected are digests, as in
tokenizer_golden.py, of the ids of its strings with and without special tokens and of the text they decode to.

    pip install tokenizers==0.23.3 transformers==5.23.0 sentencepiece==0.2.3 protobuf==7.36.2 tiktoken==0.14.0
    python3 tools/reference/tokenizer_folders.py tests/data/text
"""
import io
import json
import os
import shutil
import sys
import tempfile

import sentencepiece
from transformers import AutoTokenizer

from tokenizer_golden import CORPUS, STRINGS, counted, digest

CLASS = "tokenizer_config.json"
BYTES = {"vocab.json": "bytes_gpt2.vocab.json", "merges.txt": "bytes_gpt2.merges.txt"}
UNSAID = {"config.json": {}}


def model_type(name, **members):
    return {"config.json": {"model_type": name, **members}}


def token(content, **flags):
    return {"content": content, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True, **flags}


FOLDERS = {
    # vocab.json and merges.txt
    "gpt2": {**BYTES, **model_type("gpt2")},
    "gpt2, prefix space and BOS": {**BYTES, **model_type("gpt2"), CLASS: {"add_prefix_space": True, "add_bos_token": True}},
    "gpt2, added tokens": {**BYTES, **model_type("gpt2"), "added_tokens.json": {"Day": 441, "<pad>": 440},
                           "special_tokens_map.json": {"pad_token": "<pad>", "bos_token": token("<s>", lstrip=True),
                                                       "additional_special_tokens": ["<mask>"]}},
    "gpt_neox": {**BYTES, **model_type("gpt_neox")},
    "gpt_neox, flags": {**BYTES, **model_type("gpt_neox"), CLASS: {"add_bos_token": True, "add_eos_token": True}},
    "qwen2": {**BYTES, **model_type("qwen2"), CLASS: {
        "tokenizer_class": "Qwen2Tokenizer", "bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "added_tokens_decoder": {"0": token("<|endoftext|>"), "440": token("<|im_start|>"), "441": token("<|im_end|>"),
                                 "442": token("word", single_word=True, special=False, normalized=True)}}},
    "roberta": {**BYTES, **model_type("roberta")},
    # vocab.txt
    "bert": {"vocab.txt": "wordpiece.vocab.txt", **model_type("bert")},
    "bert, cased": {"vocab.txt": "wordpiece.vocab.txt", **model_type("bert"), CLASS: {
        "do_lower_case": False, "tokenize_chinese_chars": False, "strip_accents": True, "clean_up_tokenization_spaces": True}},
    "distilbert": {"vocab.txt": "wordpiece.vocab.txt", **model_type("distilbert"), CLASS: {"tokenizer_class": "DistilBertTokenizerFast"}},
    # SentencePiece models
    "llama": {"tokenizer.model": "sentencepiece_bpe.model", **model_type("llama"), CLASS: {
        "tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False, "legacy": False}},
    "llama, legacy": {"tokenizer.model": "sentencepiece_bpe.model", **model_type("llama"), CLASS: {
        "tokenizer_class": "LlamaTokenizerFast", "legacy": True, "add_eos_token": True}},
    "llama, no prefix": {"tokenizer.model": "sentencepiece_bpe.model", **model_type("llama"), CLASS: {
        "tokenizer_class": "LlamaTokenizer", "add_prefix_space": False, "split_special_tokens": True}},
    "llama without class": {"tokenizer.model": "sentencepiece_bpe.model", **model_type("llama")},
    "mistral": {"tokenizer.model": "sentencepiece_bpe.model", **model_type("mistral"), CLASS: {
        "tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "clean_up_tokenization_spaces": True}},
    "unigram without class": {"tokenizer.model": "sentencepiece_unigram.model", **model_type("mistral"), CLASS: {
        "clean_up_tokenization_spaces": True}},
    "t5": {"spiece.model": "sentencepiece_unigram.model", **model_type("t5"), CLASS: {"extra_ids": 3}},
    # tokenizer.json, which some classes take apart
    "gpt2 from json": {"tokenizer.json": "bytes_gpt2.tokenizer.json", **model_type("gpt2")},
    "gpt2 class, llama3 file": {"tokenizer.json": "bytes_llama3.tokenizer.json", **model_type("gpt2"), CLASS: {"add_bos_token": True}},
    "llama3": {"tokenizer.json": "bytes_llama3.tokenizer.json", **model_type("llama"), CLASS: {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}},
    "llama class, bytes": {"tokenizer.json": "bytes_llama3.tokenizer.json", **model_type("llama"), CLASS: {"tokenizer_class": "LlamaTokenizer"}},
    "llama class, marks": {"tokenizer.json": "metaspace.tokenizer.json", **model_type("llama"), CLASS: {
        "tokenizer_class": "LlamaTokenizer", "add_bos_token": False, "legacy": False}},
    "phi3": {"tokenizer.json": "metaspace.tokenizer.json", **model_type("phi3"), CLASS: {
        "tokenizer_class": "LlamaTokenizer", "add_bos_token": False,
        "added_tokens_decoder": {"0": token("<unk>"), "520": token("Day", rstrip=True), "521": token("<|end|>", rstrip=True)}}},
    "gemma": {"tokenizer.json": "metaspace.tokenizer.json", **model_type("gemma2"), CLASS: {"tokenizer_class": "GemmaTokenizer"}},
    "neox from json": {"tokenizer.json": "bytes_llama3.tokenizer.json", **model_type("gpt_neox"), CLASS: {"add_bos_token": True}},
    "bert from json": {"tokenizer.json": "wordpiece.tokenizer.json", **model_type("bert"), CLASS: {"do_lower_case": False}},
    "t5 from json": {"tokenizer.json": "unigram.tokenizer.json", **model_type("t5"), CLASS: {"extra_ids": 2}},
    "roberta from json": {"tokenizer.json": "bytes_gpt2.tokenizer.json", **model_type("roberta"), CLASS: {"mask_token": token("<mask>", __type="AddedToken", lstrip=True)}},
    # tokens with ranks: tiktoken files and tekken.json (tokenizer_ranks.py)
    "ranks": {"tokenizer.model": "ranks.tiktoken", **model_type("llama")},
    "ranks, llama class": {"tokenizer.model": "ranks.tiktoken", **model_type("llama"), CLASS: {"tokenizer_class": "LlamaTokenizer"}},
    "ranks, tokens with gaps": {"tokenizer.model": "ranks.tiktoken", **model_type("llama"), CLASS: {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True,
        "additional_special_tokens": ["<mask>", "Day"],
        "added_tokens_decoder": {"441": token("<s>"), "443": token("<mask>", lstrip=True), "444": token("word", special=False, normalized=True)}}},
    "ranks, extra tokens": {"tiktoken.model": "ranks.tiktoken", **model_type("llama"), CLASS: {
        "tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "additional_special_tokens": ["<|endoftext|>", "<mask>"]}},
    "ranks, added tokens": {"tiktoken.model": "ranks.tiktoken", **model_type("llama"), "added_tokens.json": {"<s>": 441, "Day": 439},
                            "special_tokens_map.json": {"bos_token": "<s>"}},
    "ranks, named extra tokens": {"tokenizer.model": "ranks.tiktoken", **model_type("llama"), CLASS: {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "extra_special_tokens": {"image_token": "<mask>", "x_token": "Day"}}},
    "tekken, no BOS": {"tekken.json": "tekken.json", **model_type("mistral"), CLASS: {"add_bos_token": False, "bos_token": "<s>"}},
    "tekken, class and flags": {"tekken.json": "tekken.json", **model_type("mistral"), CLASS: {
        "tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": True, "bos_token": "<s>", "eos_token": "</s>",
        "unk_token": "<unk>", "pad_token": "<pad>", "additional_special_tokens": ["Day"]}},
    "wordlevel": {"tokenizer.json": "wordlevel.tokenizer.json", **model_type("mistral"), CLASS: {"clean_up_tokenization_spaces": True}},
}


def train(path, kind, **options):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS.split("\n")), model_writer=model, model_type=kind, num_threads=1, minloglevel=2,
        hard_vocab_limit=False, user_defined_symbols=["<mask>", "Day"], **options)
    with open(path, "wb") as f:
        f.write(model.getvalue())


def main(folder):
    def path(name):
        return os.path.join(folder, name)

    train(path("sentencepiece_bpe.model"), "bpe", vocab_size=520, byte_fallback=True, normalization_rule_name="identity",
          remove_extra_whitespaces=False, character_coverage=0.98)
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as rules:
        # A charsmap of a few rules; those that ship with SentencePiece take 240 KB.
        rules.write("FB01\t66 69\nFF21\t41\n00A0\t20\n3000\t20\n65 301\tE9\nBD\t31 2044 32\n9\t20\nA\t20\n200B\t\n")
        rules.flush()
        train(path("sentencepiece_unigram.model"), "unigram", vocab_size=200, normalization_rule_tsv=rules.name,
              pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    with open(path("bytes_gpt2.tokenizer.json"), encoding="utf-8") as f:
        model = json.load(f)["model"]
    with open(path("bytes_gpt2.vocab.json"), "w", encoding="utf-8") as f:
        json.dump(model["vocab"], f, ensure_ascii=False)
    with open(path("bytes_gpt2.merges.txt"), "w", encoding="utf-8") as f:
        f.write("#version: 0.2\n" + "".join((m if isinstance(m, str) else " ".join(m)) + "\n" for m in model["merges"]))
    with open(path("wordpiece.tokenizer.json"), encoding="utf-8") as f:
        vocab = json.load(f)["model"]["vocab"]
    with open(path("wordpiece.vocab.txt"), "w", encoding="utf-8") as f:
        f.writelines(t + "\n" for t in sorted(vocab, key=vocab.get))

    out = []
    for name, files in FOLDERS.items():
        with tempfile.TemporaryDirectory() as place:
            for to, what in files.items():
                if isinstance(what, str):
                    shutil.copy(path(what), os.path.join(place, to))
                else:
                    with open(os.path.join(place, to), "w", encoding="utf-8") as f:
                        json.dump(what, f)
            tokenizer = AutoTokenizer.from_pretrained(place)
            ids = [tokenizer(s)["input_ids"] for s in STRINGS]
            plain = [tokenizer(s, add_special_tokens=False)["input_ids"] for s in STRINGS]
            texts = [list(tokenizer.decode(i, skip_special_tokens=skip).encode()) for i in ids if i for skip in (True, False)]
            out.append({"name": name, "files": files, "special": {
                key: getattr(tokenizer, key + "_token_id") for key in ("bos", "eos", "pad", "unk")},
                **{key: str(digest(x for s in value for x in counted(s)))
                   for key, value in (("ids", ids), ("plain", plain), ("texts", texts))}})
            print(name, type(tokenizer).__name__, ids[7])
    with open(path("folders.json"), "w", encoding="utf-8") as f:
        json.dump(out, f, ensure_ascii=True, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
