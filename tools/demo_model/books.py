"""Reads plain-text books: strips boilerplate, headings, notes and verse, and undoes hard line wraps."""

import re
from pathlib import Path

START = re.compile(r"\*\*\*\s*START OF (THE|THIS) PROJECT GUTENBERG.*?\*\*\*")
END = re.compile(r"\*\*\*\s*END OF (THE|THIS) PROJECT GUTENBERG|^\s*End of (the )?Project Gutenberg", re.M)
UNWANTED = re.compile(
    r"gutenberg|etext|e-text|produced by|transcriber|\[illustration|copyright|\(return\)|all rights reserved|"
    r"www\.|http|proofread|^chapter\b.{0,80}$|^book\b.{0,60}$|^\*|^footnote|=>|\{pg", re.I)
PUNCTUATION = str.maketrans({
    "\u201c": '"', "\u201d": '"', "\u2018": "'", "\u2019": "'", "\u2032": "'", "\u00a0": " ", "\ufeff": "",
    "_": "", "\u2013": "-", "\u2026": "...", "\u2014": "\u2014",
})


def clean_paragraph(block: str) -> str | None:
    """Joins the lines of one paragraph; None if it is a heading, a note, verse or a contents entry."""
    lines = block.split("\n")
    if len(lines) > 1 and all(line.startswith("    ") for line in lines):
        return None  # verse, title pages, letterheads
    text = " ".join(line.strip() for line in lines).translate(PUNCTUATION)
    text = re.sub(r"\s*\[\d+\]|\{\d+\}", "", text)  # note marks
    text = re.sub(r"\s*(-{2,}|\u2014)\s*", "\u2014", text)
    text = re.sub(r"``|''", '"', text)
    text = re.sub(r"\. \. \.( \.)?", "...", text)
    text = re.sub(r"\s+", " ", text).strip()
    if len(text) < 12 or UNWANTED.search(text):
        return None
    if not re.search(r"[.!?:;,\u2014\"')]$", text):
        return None
    letters = [c for c in text if c.isalpha()]
    if len(letters) < 0.6 * len(text) or sum(c.isupper() for c in letters) > 0.3 * len(letters):
        return None
    return text


def read_book(path: Path) -> list[list[str]]:
    """Chapters of one book, each a list of paragraphs. A dropped heading ends a chapter."""
    raw = path.read_text(encoding="utf-8-sig").replace("\r\n", "\n")
    if (m := START.search(raw)) is None:
        raise SystemExit(f"{path.name}: no START line; not a Project Gutenberg text?")
    raw = raw[m.end():]
    if m := END.search(raw):
        raw = raw[: m.start()]
    for m in re.finditer(r"^\s*(the end\b|footnotes\b).{0,40}$", raw, re.I | re.M):
        if m.start() > 0.9 * len(raw):  # what follows is notes and advertisements
            raw = raw[: m.start()]
            break
    chapters: list[list[str]] = [[]]
    for block in re.split(r"\n[ \t]*\n+", raw):
        block = block.strip("\n")
        if re.match(r"\s*(chapter|book|part|volume|letter|epilogue)\b.{0,80}$", block.split("\n")[0], re.I):
            chapters.append([])
        if (text := clean_paragraph(block)) is not None:
            chapters[-1].append(text)
    # Front matter and contents leave short stubs behind; a chapter is at least a page.
    return [c for c in chapters if sum(map(len, c)) >= 1500]


def read_books(folder: Path) -> dict[str, list[list[str]]]:
    paths = sorted(folder.glob("*.txt"))
    if not paths:
        raise SystemExit(f"{folder}: no .txt files")
    return {p.stem: read_book(p) for p in paths}
