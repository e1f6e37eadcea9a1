#!/usr/bin/env python3
"""Writes src/text/unicode_table.inc: Unicode properties as the `tokenizers` package sees them.

The package mixes several Unicode versions (Oniguruma for split patterns, Rust's own tables, two old
crates for punctuation and normalization), so its answers are asked for, code point by code point,
instead of being taken from one version of the standard. What utf8proc (Unicode 14) and PCRE2 10.42
(Unicode 14) answer differently is printed, and the table makes up for it.

Grapheme clusters only show in the Precompiled normalizer, which is asked with a charsmap that rewrites
every short cluster as one X; the names of the classes come from the `regex` package.

    pip install tokenizers==0.23.3 regex    (Python 3.11: its unicodedata is Unicode 14.0)
    python3 tools/reference/tokenizer_unicode.py src/text/unicode_table.inc
"""
import sys
import unicodedata

import regex
from tokenizers import Regex, normalizers, pre_tokenizers
import tokenizers

from tokenizer_charsmap import charsmap

CATEGORIES = ("Cn Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf "
              "Co").split()
FLAGS = ["kSpace", "kWord", "kRustWord", "kNumeric", "kPunctuation", "kCombining", "kBertOther",
         "kBertMark", "kNfcInert", "kNfkcInert", "kNfdInert", "kNfkdInert", "kNewSince14"]
BIT = {name: 1 << (5 + i) for i, name in enumerate(FLAGS)}
# Grapheme classes stand in four bits behind the flags; LV stands for LVT too, which is arithmetic.
GRAPHEMES = "Other CR LF Control Extend ZWJ Regional_Indicator Prepend SpacingMark L V T LV".split()
GRAPHEME_SHIFT = 5 + len(FLAGS)
MORE_FLAGS = {"kPictographic": r"\p{Extended_Pictographic}", "kConjunctConsonant": r"\p{InCB=Consonant}",
              "kConjunctLinker": r"\p{InCB=Linker}", "kConjunctExtend": r"\p{InCB=Extend}"}
for i, name in enumerate(MORE_FLAGS):
    BIT[name] = 1 << (GRAPHEME_SHIFT + 4 + i)

CODES = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
ALL = "".join(map(chr, CODES))


def keep(pattern):
    """Code points left when everything the pattern matches is removed."""
    return set(map(ord, normalizers.Replace(Regex(pattern), "").normalize_str(ALL)))


def isolated(pre_tokenizer):
    """Code points that the pre-tokenizer cuts off a preceding letter a."""
    out = set()
    for block in range(0, len(CODES), 4096):
        text = "".join("a" + chr(c) for c in CODES[block:block + 4096])
        for piece, _ in pre_tokenizer.pre_tokenize_str(text):
            if piece[0] != "a":
                out.add(ord(piece))
    return out


def rust_word():
    out = set()
    pre = pre_tokenizers.Whitespace()
    for block in range(0, len(CODES), 4096):
        text = "".join("a" + chr(c) + " " for c in CODES[block:block + 4096])
        out.update(ord(p[1]) for p, _ in pre.pre_tokenize_str(text) if len(p) == 2 and p[0] == "a")
    return out


def graphemes():
    """Class of every code point, by name, that is not Other."""
    crosses = normalizers.Precompiled(charsmap({bytes([b]): b"X" for b in range(1, 256)})).normalize_str
    out = {}
    for name in GRAPHEMES[1:] + ["LVT"]:
        pattern = regex.compile(r"\p{Grapheme_Cluster_Break=%s}" % name)
        out.update((c, name.replace("LVT", "LV")) for c in CODES if pattern.match(chr(c)))
    follows = {c for c in CODES if c and crosses("a" + chr(c)) == "X"}
    for c in CODES:
        known = out.get(c) in ("Extend", "ZWJ", "SpacingMark")
        if known != (c in follows):
            print(f"grapheme class differs: U+{c:04X} {out.get(c)}")
            if known:
                del out[c]
            else:
                out[c] = "Extend"
    for c in CODES:
        size = len(chr(c).encode())
        if c and (out.get(c) == "Prepend") != (crosses(chr(c) + "a") == "X"):
            print(f"grapheme class differs: U+{c:04X} {out.get(c)}, Prepend")
        if c and size <= 3 and (out.get(c) in ("CR", "LF", "Control")) != (crosses(chr(c) + "\u0301") != "X"):
            print(f"grapheme class differs: U+{c:04X} {out.get(c)}, Control")
    return out


def scripts():
    """First code points of runs with one script, as the UnicodeScripts pre-tokenizer tells them apart, and the
    number of the script; 0 goes with every script."""
    pieces = pre_tokenizers.UnicodeScripts().pre_tokenize_str
    anything = set()
    for block in range(0, len(CODES), 4096):
        codes = CODES[block:block + 4096]
        text = "".join("a" + chr(c) + "\u044f" + chr(c) for c in codes)
        starts = {begin for _, (begin, _) in pieces(text)}
        anything.update(c for i, c in enumerate(codes) if 4 * i + 1 not in starts and 4 * i + 3 not in starts)
    others = [c for c in CODES if c not in anything]
    text = "".join(map(chr, others))
    heads = [others[begin] for _, (begin, _) in pieces(text)]
    representatives = []
    number = {}
    for head in heads:
        # A representative, the head, and so on: no boundary between the two where they are of one script.
        probe = "".join(chr(r) + chr(head) for r in representatives)
        starts = {begin for _, (begin, _) in pieces(probe)}
        same = [i for i in range(len(representatives)) if 2 * i + 1 not in starts]
        assert len(same) <= 1, hex(head)
        if not same:
            representatives.append(head)
        number[head] = same[0] + 1 if same else len(representatives)
    print(f"{len(representatives)} scripts, {len(anything)} code points of any")
    runs = []
    heads = set(heads)
    current = 0
    for c in CODES:
        if c in heads:
            current = number[c]
        now = 0 if c in anything else current
        if not runs or runs[-1][1] != now:
            runs.append((c, now))
    return runs


def main(path):
    table = [0] * 0x110000
    for index, name in enumerate(CATEGORIES):
        if index:
            for c in keep(r"\P{%s}+" % name):
                assert table[c] == 0, hex(c)
                table[c] = index
    new = changed = 0
    for c in CODES:
        old = unicodedata.category(chr(c))
        now = CATEGORIES[table[c]]
        if old != now:
            if old == "Cn":
                table[c] |= BIT["kNewSince14"]
                new += 1
            else:
                changed += 1
                print(f"category changed since Unicode 14: U+{c:04X} {old} {now}")
    print(f"{new} code points assigned since Unicode 14, {changed} changed")

    def mark(name, codes):
        for c in codes:
            table[c] |= BIT[name]
        print(f"{name}: {len(codes)}")

    mark("kSpace", keep(r"\S+"))
    mark("kWord", keep(r"\W+"))
    mark("kRustWord", rust_word())
    mark("kNumeric", isolated(pre_tokenizers.Digits(individual_digits=True)))
    mark("kPunctuation", isolated(pre_tokenizers.Punctuation("isolated")))
    mark("kCombining", set(CODES) - set(map(ord, normalizers.StripAccents().normalize_str(ALL))))
    clean = normalizers.BertNormalizer(True, False, False, False)
    accents = normalizers.BertNormalizer(False, False, True, False)
    mark("kBertOther", {c for c in CODES if not clean.normalize_str(chr(c))})
    mark("kBertMark", {c for c in CODES if not accents.normalize_str(chr(c))})

    forms = {f: getattr(normalizers, f)() for f in ("NFC", "NFKC", "NFD", "NFKD")}
    nfd = forms["NFD"].normalize_str
    ccc = set()
    for c in CODES:
        s = chr(c)
        if nfd(s) == s and (nfd("a" + s + "\u0334") != "a" + s + "\u0334" or
                            nfd("a\u0327" + s) != "a\u0327" + s):
            ccc.add(c)
    for c in CODES:
        if (c in ccc) != (unicodedata.combining(chr(c)) != 0) and nfd(chr(c)) == chr(c):
            print(f"combining class differs: U+{c:04X} {unicodedata.combining(chr(c))}")
    # Characters that compose with one before them.
    seconds = set(range(0x1161, 0x1176)) | set(range(0x11A8, 0x11C3))
    for c in CODES:
        parts = unicodedata.decomposition(chr(c)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            pair = chr(int(parts[0], 16)) + chr(int(parts[1], 16))
            if forms["NFC"].normalize_str(pair) == chr(c):
                seconds.add(ord(pair[1]))
                if unicodedata.normalize("NFC", pair) != chr(c):
                    print(f"composition differs: U+{c:04X}")
            elif unicodedata.normalize("NFC", pair) == chr(c):
                print(f"composition differs: U+{c:04X} is not composed by the package")
    for form, normalizer in forms.items():
        inert = set()
        for c in CODES:
            got = normalizer.normalize_str(chr(c))
            if got != unicodedata.normalize(form, chr(c)):
                print(f"{form} differs: U+{c:04X} {got!a} {unicodedata.normalize(form, chr(c))!a}")
            if got == chr(c) and c not in ccc and not (form.endswith("C") and c in seconds):
                inert.add(c)
        mark({"NFC": "kNfcInert", "NFKC": "kNfkcInert", "NFD": "kNfdInert", "NFKD": "kNfkdInert"}[form],
             inert)

    for c, name in graphemes().items():
        table[c] |= GRAPHEMES.index(name) << GRAPHEME_SHIFT
    for name, pattern in MORE_FLAGS.items():
        matches = regex.compile(pattern).match
        mark(name, [c for c in CODES if matches(chr(c))])

    lower = []
    lowercase = normalizers.Lowercase()
    for c in CODES:
        got = lowercase.normalize_str(chr(c))
        if got != chr(c):
            assert len(got) == 1 or c == 0x130, hex(c)
            lower.append((c, ord(got[0])))
    runs = []  # first, last, step, delta
    for c, l in lower:
        if runs and runs[-1][3] == l - c:
            first, last, step, delta = runs[-1]
            if (first == last and c - last in (1, 2)) or (first != last and c - last == step):
                runs[-1] = (first, c, c - last, delta)
                continue
        runs.append((c, c, 1, l - c))

    for c in range(0xD800, 0xE000):
        table[c] = table[0xE000] & ~0x1F
    script_runs = scripts()
    with open(path, "w", encoding="ascii") as f:
        f.write("// Written by tools/reference/tokenizer_unicode.py from tokenizers "
                f"{tokenizers.__version__}; not to be edited.\n// clang-format off\n")
        f.write("enum Category : std::uint8_t { " + ", ".join("k" + c for c in CATEGORIES) + " };\n")
        f.write("enum Flag : std::uint32_t {\n")
        for name in FLAGS + list(MORE_FLAGS):
            f.write(f"  {name} = {BIT[name]}u,\n")
        f.write("};\n")
        f.write("enum class Grapheme : std::uint8_t { " +
                ", ".join("k" + name.replace("_", "") for name in GRAPHEMES) + " };\n")
        f.write(f"constexpr int kGraphemeShift = {GRAPHEME_SHIFT};\n")
        f.write("struct Run { std::uint32_t first; std::uint32_t properties; };\n")
        entries = [(0, table[0])] + [(c, table[c]) for c in range(1, 0x110000) if table[c] != table[c - 1]]
        emit(f, "Run", "kRuns", [f"{{{a:#x},{b:#x}}}" for a, b in entries])
        f.write("// 0: goes with every script\n")
        f.write("struct ScriptRun { std::uint32_t first; std::uint32_t script; };\n")
        emit(f, "ScriptRun", "kScriptRuns", [f"{{{a:#x},{b}}}" for a, b in script_runs])
        f.write("// first, last, step, distance to the lower-case letter\n")
        f.write("struct LowerRun { std::uint32_t first, last, step; std::int32_t delta; };\n")
        emit(f, "LowerRun", "kLowerRuns", [f"{{{a:#x},{b:#x},{s},{d}}}" for a, b, s, d in runs])


def emit(f, kind, name, items):
    f.write(f"constexpr {kind} {name}[] = {{\n")
    line = ""
    for item in items:
        if len(line) + len(item) > 98:
            f.write(line + "\n")
            line = ""
        line += item + ","
    f.write(line + "\n};\n")


if __name__ == "__main__":
    main(sys.argv[1])
