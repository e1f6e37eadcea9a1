"""Draws text from the trained model for text.jsonl and drops whatever repeats the books.

A sample goes if any 13 words in a row (case and punctuation aside) also stand in a row in a book, or if it is too
short once cut at its last full sentence, or if it repeats itself.
"""

import argparse
import hashlib
import json
import re
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

from books import read_books

RUN = 13  # words

# Half of the samples start from nothing but the BOS token, the others from one of these.
OPENINGS = """
It was a cold morning|The old house stood|In the spring of that year|The captain looked|My dear friend,|She opened the letter
When the carriage stopped|The doctor shook his head|"I do not believe|"What is it?"|There was a knock at the door|The two brothers
At the edge of the forest|"You must understand|The sea was calm|Nobody in the village|He had never|The general
It was already dark|"Tell me,|The young lady|Behind the church|On the following day|The servant came in
"No," said|A long silence|The street was|Her mother|The old man|His first thought
After dinner|The soldiers|I was sitting|In the garden|The priest|"Do you remember
The ship|A strange light|The children|He took the money|It is impossible|We walked
The wind|The lawyer|She was not|"Good heavens!"|Toward evening|The prisoner
That night|The horses|"My son,|The window|In Paris|He laughed
The stranger|The road|"Why should|I have often|The train|Of all the people
""".strip().replace("\n", "|").split("|")


# Words of the period that nobody should meet in a demonstration, by their hashes.
UNWANTED = {
    "08234c948b5a00f9", "08a841e996781e9e", "120f6e5b4ea32f65", "1c4bfd100aa92982",
    "1c6bacc444d7dafc", "4426e54cf6f33618", "45d866ee3730981a", "46505206c396cda4",
    "6122fdf4ae1474fb", "6437ea7144483cfa", "849170b7fb5dc40d", "9ae315a94e428a7e",
    "a7bf072c97a0779f", "ad412adb493df95a", "ad6cacf3af98d07b", "be00f1af522eaa99",
    "d8345722b0e008bb", "e84dde508a606a3e", "f59e28f8bb6499dd",
}


def unwanted(text: str) -> bool:
    return any(hashlib.sha256(w.rstrip("s").encode()).hexdigest()[:16] in UNWANTED for w in words(text))


def words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower().replace("'", ""))


def runs(text: str, n: int = RUN) -> set[int]:
    w = words(text)
    return {hash(tuple(w[i: i + n])) for i in range(len(w) - n + 1)}


def book_runs(books: Path, n: int = RUN) -> set[int]:
    # A run may cross paragraphs. The raw files are added, so that nothing the cleaning dropped slips through.
    found: set[int] = set()
    for chapters in read_books(books).values():
        found |= runs("\n".join(p for c in chapters for p in c), n)
    for path in sorted(books.glob("*.txt")):
        found |= runs(path.read_text(encoding="utf-8-sig").replace("\u2019", "'").replace("_", ""), n)
    return found


def trim(text: str) -> str:
    """Keeps from the first sentence or paragraph start to the last full sentence."""
    if not re.match(r"[\"'(]?[A-Z]", text):  # half of the training windows began in mid-sentence
        start = re.search(r"(?:[.!?][\"')]? |\n)(?=[\"'(]?[A-Z])", text)
        text = text[start.end():] if start else ""
    ends = [m.end() for m in re.finditer(r"[.!?][\"')]?(?=\s|$)", text)]
    return text[: ends[-1]].strip() if ends else ""


def repeats_itself(text: str) -> bool:
    w = words(text)
    eight = [tuple(w[i: i + 8]) for i in range(len(w) - 7)]
    return len(set(eight)) < len(eight)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--books", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="text.jsonl")
    parser.add_argument("--bytes", type=int, default=2_300_000)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--top-p", type=float, default=0.95)
    parser.add_argument("--batch", type=int, default=120)
    parser.add_argument("--least", type=int, default=400, help="characters")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    set_seed(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    known = book_runs(args.books)
    context = model.config.max_position_embeddings
    begin, kept, size, drawn = time.time(), [], 0, 0
    dropped = {"book": 0, "short": 0, "repeats": 0, "unwanted": 0}
    seen: set[str] = set()
    while size < args.bytes:
        for openings in ([""] * args.batch, [OPENINGS[i % len(OPENINGS)] for i in range(args.batch)]):
            # Equal lengths need no padding: openings of one length in tokens go together.
            groups: dict[int, list[list[int]]] = {}
            for o in openings:
                ids = tokenizer(o)["input_ids"]
                groups.setdefault(len(ids), []).append(ids)
            for ids in groups.values():
                x = torch.tensor(ids)
                y = model.generate(
                    x, attention_mask=torch.ones_like(x), do_sample=True, temperature=args.temperature, top_k=0,
                    top_p=args.top_p, max_new_tokens=context - x.shape[1], pad_token_id=tokenizer.eos_token_id)
                for row in y:
                    drawn += 1
                    row = row[1:]
                    end = (row == tokenizer.eos_token_id).nonzero()
                    row = row[: end[0, 0]] if len(end) else row
                    text = trim(tokenizer.decode(row, skip_special_tokens=True))
                    if len(text) < args.least or text in seen:
                        dropped["short"] += 1
                    elif unwanted(text):
                        dropped["unwanted"] += 1
                    elif repeats_itself(text):
                        dropped["repeats"] += 1
                    elif runs(text) & known:
                        dropped["book"] += 1
                    else:
                        seen.add(text)
                        line = json.dumps({"text": text}, ensure_ascii=False)
                        kept.append(line)
                        size += len(line.encode()) + 1
        print(f"{drawn} drawn, {len(kept)} kept, {size} bytes, dropped {dropped}, {time.time() - begin:.0f} s", flush=True)

    lines, total = [], 0
    for line in kept:
        total += len(line.encode()) + 1
        if total > args.bytes:
            break
        lines.append(line)
    # The check proper, on what is written, and a control: a book's own words must fail it.
    texts = [json.loads(line)["text"] for line in lines]
    assert not any(runs(t) & known for t in texts)
    book = next(iter(read_books(args.books).values()))
    assert runs(" ".join(book[0])[:400]) & known
    args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for n in (8, 10, 12):
        known_n = book_runs(args.books, n)
        shared = sum(bool(runs(t, n) & known_n) for t in texts)
        print(f"{shared} of {len(texts)} samples share a run of {n} words with a book")


if __name__ == "__main__":
    main()
