#!/usr/bin/env python3
"""Writes tests/data/text: small tokenizers trained on the text below, and golden.json, what the
`tokenizers` package makes of nasty strings with them and with a probe model.

The probe's vocabulary is the 256 byte-fallback tokens, with a continuing-subword prefix: its ids spell
the normalized text byte by byte with a # before every character that does not begin a piece, so that
every normalizer and pre-tokenizer shows its whole result.

    pip install tokenizers==0.23.3
    python3 tools/reference/tokenizer_golden.py tests/data/text
"""
import base64
import json
import os
import sys

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import AddedToken, trainers

from tokenizer_charsmap import charsmap

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

CORPUS = """The lighthouse keeper counted the ships every evening, and every evening there were fewer.
He didn't mind; ships are noisy, and the sea isn't. "It's only numbers," he'd say, "and I've got all
the numbers I'll ever need: 1, 2, 3, 12, 144, 1728, 20736."
    def count(ships):
        return sum(1 for ship in ships if ship.is_visible())
On the 14th of March the lamp went out. They're slow to answer letters, the people in the harbour, so
he wrote to them twice, then three times, then he rowed across himself with the broken glass in his
pocket. What the harbour master said was short: "We're out of lamps. We've been out of lamps since
winter." The keeper thought about the winter, about the ships that had stopped coming, and about the
price of lamps (37.50 each, plus carriage).
So he lit a fire instead. The fire was smaller than the lamp, but it was warmer, and the sea, which had
never cared for the lamp, came a little closer to look. Naïve café owners, señoras y niños, Straßen,
Ελλάδα, Москва, 東京の灯台、灯台守は毎晩船を数えた。 البحر هادئ. שלום. 🙂🚢🚢
In the morning the keeper counted the ships again. There was one more than there had been, and in the
evening there were two. "They're counting too," he told the fire; the fire didn't answer, because it
was a fire, but it burned a little higher, and that was the answer the keeper wanted.
"""

STRINGS = [
    "", " ", "  ", "a", " a", "a ", "Hello, world!", "The lighthouse keeper counted 1728 ships.",
    "I'll, I'LL, we've, WE'VE, don't, DON'T, it's, IT'S, they're, I'd, I'm 'tis 'S 's'",
    "it'\u017f \u017f'\u017f 'K '\u212a", "\n", "\r\n", "a\r\nb\r\n\r\nc", "a\n\n\n b", "tab\tand\t\ttabs\t",
    "   leading", "trailing   ", "in    between", " " * 37 + "x" + " " * 40, "\n" * 9 + "x", " \n \n  \n x",
    "\u00a0nbsp\u00a0\u00a0x", "\u3000ideographic\u3000space\u3000", "\u2003em \u200bzw\ufeffbom \u180e",
    "\u0085nel\u2028ls\u2029ps", "na\u00efve na\u0069\u0308ve", "e\u0301\u0301\u0316\u0334x \u1e69 s\u0307\u0323",
    "\u0344 \u0958 \u2126 \u212b \ufb01 \u00bd \u2460 \uff21", "\uac00 \u1100\u1161 \u1100\u1161\u11a8 \uac00\u11a8",
    "\u304b\u3099 \uff76\uff9e \u30ab\u3099", "ABC \u00c9 \u0130 \u03a3\u03c3\u03c2 \u01c5 STRASSE \u1e9e",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f44d\U0001f3fd \U0001f1e9\U0001f1ea \u2764\ufe0f",
    "1234567890 12 3.14159 1,000,000 \u0661\u0662\u0663 \u00b2\u00b3 \u2167 \u00bc", "x1y22z333w4444",
    "\u0627\u0644\u0633\u0644\u0627\u0645 \u05e9\u05dc\u05d5\u05dd \u202eRTL\u202c", "\u6771\u4eac\u306e\u706f\u53f0\u3001\u706f\u53f0\u5b88\u306f\u3002",
    "snake_case camelCase kebab-case path/to/file.txt a+b=c <tag> {x: [1, 2]}", "!!!???...,,,;;;:::\u2026\u2014\u00bf\u00a1",
    "$\u20ac\u00a3\u00a5 ^~`|<>= \u2208\u2200", "<s>", "</s>", "<s>text</s>", "a<mask>b", "a  <mask>  b", " <mask>",
    "<|endoftext|>", "x<|endoftext|>y<|endoftext|>", "<|endoftext", "Day day DAY today Monday", "word wordy sword word",
    "<unk><pad>", "\u2581", "\u2581\u2581a \u2581b", " \u2581 ", "\ufffd", "\ufffd\ufffd \ufffdx", "\u0000nul\u0001\u007f",
    "\U0010ffff\U000e0001\ue000", "\u0378\u0379 \U0001c400", "a" * 70, "ab" * 60, "\u3042" * 50, "\U00010400\U00010428",
    "def f(x):\n\treturn x  # comment\n\n\n\nclass A:\n    pass\n", "Mr. O'Neil's \u2018quotes\u2019 \u201cand\u201d rock'n'roll",
    "a\u0300b\u0327c\u0335", "\U00011070\u093c\u0301 \U0001fbf0\u0301", "\u0e01\u0e33 \u0ba8\u0bbf \u0915\u094d\u0937", "https://example.org/?q=1&r=2#frag", "\t \t\n \t",
]


def sweep():
    """Every code point of the first two planes and some, each after a letter and before a space."""
    codes = [c for c in list(range(0x20000)) + list(range(0x2F800, 0x2FA20)) if not 0xD800 <= c < 0xE000]
    return "".join("a" + chr(c) + " " for c in codes)


def digest(ids, value=0xCBF29CE484222325):
    """64-bit FNV-1a over the ids as little-endian 32-bit words."""
    for i in ids:
        for shift in (0, 8, 16, 24):
            value = ((value ^ (i >> shift & 255)) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


def counted(ids):
    return [len(ids)] + ids


def train_byte_level(pre_tokenizer, ignore_merges):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator([CORPUS], trainers.BpeTrainer(
        vocab_size=440, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"]))
    return tokenizer


def gpt2():
    tokenizer = train_byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_tokens([AddedToken("    ", normalized=True), AddedToken("Day", single_word=True)])
    return tokenizer


def llama3():
    tokenizer = train_byte_level(pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]), True)
    tokenizer.add_special_tokens([AddedToken("<s>"), AddedToken("<mask>", lstrip=True),
                                  AddedToken("</s>", rstrip=True)])
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=True),
        processors.TemplateProcessing(single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[
            ("<s>", tokenizer.token_to_id("<s>")), ("</s>", tokenizer.token_to_id("</s>"))])])
    return tokenizer


def metaspace():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"),
                                                 normalizers.Replace(" ", "\u2581")])
    trainer = trainers.BpeTrainer(vocab_size=520, show_progress=False, limit_alphabet=90, special_tokens=[
        "<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)])
    # Words as SentencePiece would cut them; the file itself has no pre-tokenizer.
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.train_from_iterator([CORPUS], trainer)
    data = json.loads(tokenizer.to_str())
    data["pre_tokenizer"] = None
    data["added_tokens"] = data["added_tokens"][:3]
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(),
                                           decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    return tokenizer


def wordpiece():
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=20))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator([CORPUS], trainers.WordPieceTrainer(
        vocab_size=300, limit_alphabet=60, show_progress=False,
        special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[
            (token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")])
    return tokenizer


# Keys of one and of two characters, one that is a prefix of another, and replacements of every kind.
CHARSMAP = charsmap({k.encode(): v.encode() for k, v in {
    "\ufb01": "fi", "\u00e9": "E", "e\u0301": "\u00e9", "\uff21": "A", "\u00a0": " ", "\u3000": " ", "\u200b": "", "\n": " ", "\t": " ",
    "\r\n": "\r", "\u00bd": "1\u20442", "\u0130": "i\u0307", "\u304b\u3099": "\u304c", "\u304b": "ka", "\u2167": "VIII", "Z": "",
    "\u00e8": "\u00e8\u00e8", "\U0001f642": ":)", "\x01": "", "\u0301": "'", "\u0308": "", "\u2581": " "}.items()})
# Rewrites every cluster of less than six bytes, and every character of longer ones, as one X.
CLUSTERS = charsmap({bytes([b]): b"X" for b in range(1, 256)})


def precompiled(blob):
    return t("Precompiled", precompiled_charsmap=base64.b64encode(blob).decode())


def unigram():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.Precompiled(CHARSMAP), normalizers.Strip(False, True),
                                                 normalizers.Replace(Regex(" {2,}"), "\u2581")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator([CORPUS], trainers.UnigramTrainer(
        vocab_size=220, show_progress=False, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>"))
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>",
                                                             special_tokens=[("</s>", 1)])
    return tokenizer


def wordlevel():
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.UnicodeScripts(), pre_tokenizers.Whitespace()])
    tokenizer.train_from_iterator([CORPUS], trainers.WordLevelTrainer(show_progress=False, special_tokens=["[UNK]", "[PAD]"]))
    return tokenizer


def probe(**members):
    base = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
            "pre_tokenizer": None, "post_processor": None, "decoder": None,
            "model": {"type": "BPE", "continuing_subword_prefix": "#", "byte_fallback": True,
                      "vocab": {f"<0x{b:02X}>": b for b in range(256)}, "merges": []}}
    base.update(members)
    return base


def t(kind, **members):
    return {"type": kind, **members}


def split(pattern, behavior="Isolated", invert=False):
    kind = "Regex"
    if isinstance(pattern, tuple):
        kind, pattern = "String", pattern[0]
    return {"pre_tokenizer": t("Split", pattern={kind: pattern}, behavior=behavior, invert=invert)}


def added(*tokens):
    out = []
    for i, (content, flags) in enumerate(tokens):
        entry = {"id": 256 + i, "content": content, "single_word": "w" in flags, "lstrip": "l" in flags,
                 "rstrip": "r" in flags, "normalized": "n" in flags, "special": "s" in flags}
        out.append(entry)
    return out


WORDPIECE = {"unk_token": "u", "continuing_subword_prefix": "#", "max_input_chars_per_word": 30,
             "vocab": {token: i for i, token in enumerate(
                 ["u", "a", "the", "#s", "#a", "b", "#b", "#ab", "ab", "#", "wor", "#d", "#dy", "day", "#bab", "\u3042", "#\u3042"])}}
# Ties (ab = a + b), a token that stands twice, one that costs more than being unknown, scores that the package's
# JSON reader rounds, tokens of several words, the text of the unknown token.
UNIGRAM = {"unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -2.0122928619384766], ["b", -3.9598512649536133], ["ab", -5.97214412689209],
                                  ["th", -7.4370903968811035], ["e", -3.1], ["the", -8.2], ["\u2581", -2.5], ["\u2581the", -9.1],
                                  ["e\u2581k", -4.3], [" ", -1.7], ["e", -3.3], ["\u3042\u3042", -5.1], ["\u3042", -2.55], ["x", -40.0],
                                  ["wor", -6.01], ["d", -4.4], ["or", -3.2], ["word", -9.61], ["w", -5.0], ["r", -4.05], ["o", -1e-7],
                                  ["ababab", -17.91643238067627], ["\u00e9", -1.0]]}
BERT = dict(clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True)
VARIANTS = {
    **{name: {"normalizer": t(name)} for name in
       "NFC NFD NFKC NFKD Lowercase StripAccents Nmt ByteLevel".split()},
    "NFD, StripAccents": {"normalizer": t("Sequence", normalizers=[t("NFD"), t("StripAccents")])},
    **{f"Strip {l} {r}": {"normalizer": t("Strip", strip_left=l, strip_right=r)}
       for l in (False, True) for r in (False, True)},
    "Prepend": {"normalizer": t("Prepend", prepend="ab")},
    "Replace string": {"normalizer": t("Replace", pattern={"String": "the"}, content="<>")},
    "Replace regex": {"normalizer": t("Replace", pattern={"Regex": " {2,}|\\d+"}, content="_")},
    "Replace nothing": {"normalizer": t("Replace", pattern={"Regex": "[aeiou]*"}, content="-")},
    "Bert": {"normalizer": t("BertNormalizer", **BERT)},
    "Bert cased": {"normalizer": t("BertNormalizer", **{**BERT, "lowercase": False})},
    "Bert accents": {"normalizer": t("BertNormalizer", **{**BERT, "strip_accents": False})},
    "pre ByteLevel": {"pre_tokenizer": t("ByteLevel", add_prefix_space=False, trim_offsets=True)},
    "pre ByteLevel prefix": {"pre_tokenizer": t("ByteLevel", add_prefix_space=True, trim_offsets=True)},
    "pre ByteLevel whole": {"pre_tokenizer": t("ByteLevel", add_prefix_space=True, trim_offsets=True,
                                               use_regex=False)},
    "Digits then ByteLevel": {"pre_tokenizer": t("Sequence", pretokenizers=[
        t("Digits", individual_digits=True),
        t("ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True)])},
    "Falcon": {"pre_tokenizer": t("Sequence", pretokenizers=[
        t("Punctuation", behavior="Contiguous"), t("ByteLevel", add_prefix_space=False, trim_offsets=True),
        t("Digits", individual_digits=False),
        t("Split", pattern={"Regex": "[0-9][0-9][0-9]"}, behavior="Isolated", invert=False)])},
    **{f"Metaspace {s} {c}": {"pre_tokenizer": t("Metaspace", replacement="\u2581", prepend_scheme=s, split=c)}
       for s in ("always", "first", "never") for c in (True, False)},
    "Metaspace legacy": {"pre_tokenizer": t("Metaspace", replacement="_", add_prefix_space=True)},
    "Metaspace first, stripped": {
        "normalizer": t("Strip", strip_left=True, strip_right=False),
        "pre_tokenizer": t("Metaspace", replacement="\u2581", prepend_scheme="first", split=True)},
    "Whitespace": {"pre_tokenizer": t("Whitespace")},
    "WhitespaceSplit": {"pre_tokenizer": t("WhitespaceSplit")},
    "BertPreTokenizer": {"pre_tokenizer": t("BertPreTokenizer")},
    "FixedLength": {"pre_tokenizer": t("FixedLength", length=3)},
    "CharDelimiterSplit": {"pre_tokenizer": t("CharDelimiterSplit", delimiter="e")},
    **{f"Punctuation {b}": {"pre_tokenizer": t("Punctuation", behavior=b)} for b in
       ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")},
    **{f"Digits {i}": {"pre_tokenizer": t("Digits", individual_digits=i)} for i in (False, True)},
    **{f"Split {b} {i}": split("\\s|e+", b, i) for i in (False, True) for b in
       ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")},
    "Split string": split((" (?a.b",), "MergedWithPrevious"),
    "Split space": split((" ",), "MergedWithPrevious"),
    "GPT-2": split(GPT2), "Llama 3": split(LLAMA3), "Qwen 2": split(QWEN2),
    # The same through PCRE2: an empty alternative that can never be taken hides the pattern.
    "GPT-2 by regex": split(GPT2 + "|(?!)"), "Llama 3 by regex": split(LLAMA3 + "|(?!)"),
    "Qwen 2 by regex": split(QWEN2 + "|(?!)"),
    "GPT-2 removed": split(GPT2, "Removed", True),
    "Llama 3 merged": split(LLAMA3, "MergedWithNext"),
    "cl100k": split(r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*"
                    r"|\s*[\r\n]|\s+(?!\S)|\s+"),
    "Bloom": split(r" ?[^(\s|[.,!?…。，、।۔،])]+"),
    "Tekken": split(r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
                    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}|"
                    r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"),
    "DeepSeek": split(r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"
                      r" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"),
    "CJK": split("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"),
    "GPT-4o": split(r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
                    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
                    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}|"
                    r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"),
    "words": split(r"\w+"), "not words": split(r"\W"), "digits": split(r"\d+|\D"), "spaces": split(r"\s"),
    "not letters": split(r"\P{L}+"), "not in class": split(r"[\P{L}a]+"), "intersection": split(r"[\p{L}&&[^a-m]]+"),
    "two intersections": split(r"[^\s&&\S]|[\w&&\d&&[^5]]"), "lookbehind": split(r"(?<=[a-z])(?=[A-Z0-9])|(?<!\S)\p{Lu}"),
    "anchors": split(r"^\s+|\s+$|\A.|.\z"), "dot all": split(r"(?m:a.)|e.", "MergedWithPrevious"),
    "braces": split(r"e{,2}t|o{2}+|l{1,}?|{|}|x{a}"), "escapes": split(r"\x41|\x{1F600}|\u3042|\t|[\x{300}-\x{36F}\-\]]"),
    "posix": split(r"[[:digit:][:space:]]+|[[:^word:]]"), "classes": split(r"[]a-c]|[d\-f-]|[^\]x]g|[\]h]+"),
    "caseless": split(r"(?i)[a-f]+|s\u00e9|k"), "alternation": split(r"(the|he|(l(o)*)+)(?=r|\b)"),
    "word classes": split(r"[\w]+|[\W]"), "not word or a": split(r"[^\wa]+"),
    "categories": split(r"\p{Mn}|\p{Zs}|\p{Cf}|\p{Sk}|\p{No}|\p{Letter}"), "all classes": split(r"\p{Cn}|\p{Co}|\p{Pd}|\p{Ps}"),
    "added": {"added_tokens": added(("<s>", "s"), ("</s>", "sr"), ("<mask>", "sl"), ("word", "w"), ("<|endoftext|>", "s"),
                                    ("    ", "n"), ("Day", "n"), ("ab", "lr"), ("abab", ""), ("the", "nw")),
              "normalizer": t("Lowercase"), "pre_tokenizer": t("WhitespaceSplit")},
    "added and prepended": {"added_tokens": added(("<s>", "s"), ("Day", "n"), ("<mask>", "slr")),
                            "normalizer": t("Sequence", normalizers=[
                                t("Prepend", prepend="\u2581"),
                                t("Replace", pattern={"String": " "}, content="\u2581")])},
    "added, metaspace first": {"added_tokens": added(("<s>", "s"), ("Day", "n"), ("a", "")),
                               "pre_tokenizer": t("Metaspace", replacement="\u2581", prepend_scheme="first")},
    "added single letters": {"added_tokens": added(("a", "w"), (" ", "r"), ("e", "l"), ("er", "n"), ("\n", "lr"))},
    "roberta": {"post_processor": t("RobertaProcessing", sep=["x", 7], cls=["y", 8], trim_offsets=True,
                                    add_prefix_space=False)},
    "bert": {"post_processor": t("BertProcessing", sep=["x", 7], cls=["y", 8])},
    "Precompiled": {"normalizer": precompiled(CHARSMAP)}, "clusters": {"normalizer": precompiled(CLUSTERS)},
    "Precompiled, metaspace first": {"normalizer": precompiled(CHARSMAP),
                                     "pre_tokenizer": t("Metaspace", replacement="\u2581", prepend_scheme="first", split=True)},
    "UnicodeScripts": {"pre_tokenizer": t("UnicodeScripts")},
    "WhitespaceSplit, UnicodeScripts": {"pre_tokenizer": t("Sequence", pretokenizers=[t("WhitespaceSplit"), t("UnicodeScripts")])},
    "dropout": {"model": {"type": "BPE", "dropout": None, "unk_token": "u", "vocab": {"u": 0, "a": 1, "b": 2, "ab": 3},
                          "merges": ["a b"]}},
    # Models without a type, recognised by their members.
    "untyped BPE": {"model": {"vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}},
    "untyped WordPiece": {"model": WORDPIECE, "pre_tokenizer": t("WhitespaceSplit")},
    "untyped WordLevel": {"model": {"unk_token": "u", "vocab": {"u": 0, "a": 1, "the": 2, "word": 3}},
                          "pre_tokenizer": t("WhitespaceSplit")},
    "untyped Unigram": {"model": UNIGRAM},
    "Unigram, bytes": {"model": {**UNIGRAM, "type": "Unigram", "byte_fallback": True, "vocab": UNIGRAM["vocab"] + [
        [f"<0x{b:02X}>", -20.0] for b in range(256)]}},
    "Unigram, words": {"model": {"type": "Unigram", **UNIGRAM},
                       "pre_tokenizer": t("Metaspace", replacement="\u2581", prepend_scheme="always", split=True)},
    "Unigram, scripts": {"model": {"type": "Unigram", **UNIGRAM}, "pre_tokenizer": t("UnicodeScripts")},
}
# Normalizers and pre-tokenizers that go by character classes are also run over the sweep.
SWEPT = ("NFC NFD NFKC NFKD Lowercase StripAccents Nmt Bert Whitespace WhitespaceSplit BertPreTokenizer Tekken DeepSeek "
         "words spaces digits").split() + ["Bert cased", "Punctuation Isolated", "Digits True", "GPT-2", "Llama 3", "posix",
                                           "GPT-2 by regex", "Llama 3 by regex", "not letters", "all classes", "caseless",
                                           "Strip True True", "Precompiled", "clusters", "UnicodeScripts", "categories", "not in class", "word classes", "not word or a"]

DECODERS = {
    "none": None,
    "ByteLevel": t("ByteLevel", add_prefix_space=True, trim_offsets=True, use_regex=True),
    "ByteFallback": t("ByteFallback"),
    "Fuse": t("Fuse"),
    "Llama": t("Sequence", decoders=[t("Replace", pattern={"String": "\u2581"}, content=" "), t("ByteFallback"),
                                     t("Fuse"), t("Strip", content=" ", start=1, stop=0)]),
    "Replace": t("Replace", pattern={"Regex": "[aeiou]+|\\d"}, content="<>"),
    "Strip": t("Strip", content=" ", start=2, stop=1),
    "Metaspace": t("Metaspace", replacement="\u2581", prepend_scheme="always", split=True),
    "Metaspace never": t("Metaspace", replacement="\u2581", prepend_scheme="never", split=True),
    "WordPiece": t("WordPiece", prefix="##", cleanup=True),
    "WordPiece raw": t("WordPiece", prefix="##", cleanup=False),
    "BPEDecoder": t("BPEDecoder", suffix="</w>"),
    "CTC": t("CTC", pad_token="<pad>", word_delimiter_token="|", cleanup=True),
}
DECODE_TOKENS = ["\u2581Hello", "\u2581", "world", "##ly", "n't", ".", "!", ",", "<0xE3>", "<0x81>", "<0x82>", "<0xFF>",
                 "<0x41>", "\u0120the", "\u0120", "\u010a", "\u00e3", "\u0123", "\u0124", "low</w>", "er", "<pad>", "<pad>", "|",
                 "  two  ", "do", " do not", "'s", "'", "<s>", "\u6771", "a", "\u00e9\u2603", "<0x4G>", "<0x4a>"]


def main(folder):
    os.makedirs(folder, exist_ok=True)
    golden = {"strings": STRINGS, "tokenizers": [], "variants": [], "probe": probe(), "decode": {}}
    for name, make in (("bytes_gpt2", gpt2), ("bytes_llama3", llama3), ("metaspace", metaspace),
                       ("wordpiece", wordpiece), ("unigram", unigram), ("wordlevel", wordlevel)):
        path = os.path.join(folder, name + ".tokenizer.json")
        make().save(path, pretty=False)
        tokenizer = Tokenizer.from_file(path)
        cases = []
        for s in STRINGS:
            ids = tokenizer.encode(s).ids
            case = {"ids": ids, "plain": tokenizer.encode(s, add_special_tokens=False).ids,
                    "decoded": tokenizer.decode(ids), "all": tokenizer.decode(ids, skip_special_tokens=False)}
            if case["plain"] == ids:
                del case["plain"]
            for key in ("decoded", "all"):
                if case[key] == s:
                    del case[key]
            cases.append(case)
        golden["tokenizers"].append({"file": name + ".tokenizer.json", "cases": cases,
                                     "sweep": str(digest(tokenizer.encode(sweep()).ids))})
    for name, members in VARIANTS.items():
        tokenizer = Tokenizer.from_str(json.dumps(probe(**members)))
        entry = {"name": name, "members": members,
                 "strings": str(digest(x for s in STRINGS for x in counted(tokenizer.encode(s).ids)))}
        if name in SWEPT:
            entry["sweep"] = str(digest(tokenizer.encode(sweep()).ids))
        golden["variants"].append(entry)
    vocab = {token: i for i, token in enumerate(dict.fromkeys(DECODE_TOKENS))}
    n = len(vocab)
    sequences = [[(i * a + b) % n for i in range(length)] for a, b, length in
                 [(1, 0, n), (7, 3, 20), (5, 1, 9), (0, 8, 3), (1, 8, 3), (1, 8, 4), (0, 1, 1), (0, 21, 4), (11, 2, 40)]] + [[]]
    model = {"type": "BPE", "vocab": vocab, "merges": []}
    special = [{"id": vocab["<s>"], "content": "<s>", "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False, "special": True}]
    golden["decode"] = {"model": model, "added_tokens": special, "sequences": sequences, "decoders": []}
    for name, decoder in DECODERS.items():
        tokenizer = Tokenizer.from_str(json.dumps(probe(model=model, decoder=decoder, added_tokens=special)))
        texts = []
        for sequence in sequences:
            for skip in (True, False):
                try:
                    texts.append(tokenizer.decode(sequence, skip_special_tokens=skip))
                except BaseException:  # the package panics on some; drrik gives a text
                    texts.append(None)
        golden["decode"]["decoders"].append({"name": name, "decoder": decoder, "texts": texts})
    with open(os.path.join(folder, "golden.json"), "w", encoding="utf-8") as f:
        json.dump(golden, f, ensure_ascii=True, separators=(",", ":"))
        f.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
