"""Trains the byte-level BPE tokenizer and writes the HuggingFace tokenizer files."""

import argparse
import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from books import read_books

BOS = "<|endoftext|>"  # begins every document; also ends generation, so it is BOS and EOS at once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--books", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="model folder")
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--context", type=int, default=512)
    args = parser.parse_args()

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=args.vocab, special_tokens=[BOS], min_frequency=2, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    chapters = [c for book in read_books(args.books).values() for c in book]
    tokenizer.train_from_iterator(("\n".join(c) for c in chapters), trainer)
    bos_id = tokenizer.token_to_id(BOS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B:1", special_tokens=[(BOS, bos_id)])

    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(args.out / "tokenizer.json"))

    def write(name: str, value: dict) -> None:
        (args.out / name).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    write("tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": True, "add_prefix_space": False,
        "bos_token": BOS, "eos_token": BOS, "clean_up_tokenization_spaces": False,
        "model_max_length": args.context,
        "added_tokens_decoder": {str(bos_id): {
            "content": BOS, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
            "special": True}},
    })
    write("special_tokens_map.json", {"bos_token": BOS, "eos_token": BOS})
    text = "\n".join(chapters[0])
    print(f"{tokenizer.get_vocab_size()} entries, {len(text) / len(tokenizer.encode(text).ids):.2f} characters a token")


if __name__ == "__main__":
    main()
