"""Texts and ids that tokenizers stumble over; the same ones for the same seed and tokenizer."""
import random

BLANKS = [" ", "  ", "   ", "\t", "\n", "\r\n", "\r", "\n\n", "\u00a0", "\u1680", "\u2003", "\u2009", "\u200a", "\u2028",
          "\u2029", "\u202f", "\u205f", "\u3000", "\u0085", "\x0b", "\x0c", "\u200b", "\u2060", "\ufeff", "\u180e", "\x1c", "\x1f"]
BLOCKS = [(0x20, 0x7F), (0x20, 0x7F), (0x41, 0x7B), (0x30, 0x3A), (0xA0, 0x250), (0x250, 0x300), (0x300, 0x370), (0x370, 0x530),
          (0x590, 0x600), (0x600, 0x700), (0x900, 0x980), (0xB80, 0xC00), (0xE00, 0xE80), (0x1000, 0x10A0), (0x10A0, 0x1200),
          (0x1100, 0x1200), (0x1E00, 0x2000), (0x2000, 0x2070), (0x2070, 0x2190), (0x2190, 0x2400), (0x2460, 0x2600), (0x2600, 0x2800),
          (0x2E80, 0x3040), (0x3040, 0x3100), (0x3130, 0x3190), (0x3400, 0x3500), (0x4E00, 0xA000), (0xAC00, 0xD7A4), (0xE000, 0xE100),
          (0xF900, 0xFB00), (0xFB00, 0xFE00), (0xFE00, 0xFE70), (0xFE70, 0xFF00), (0xFF00, 0x10000), (0x10000, 0x10100), (0x10400, 0x10450),
          (0x11000, 0x11080), (0x1D165, 0x1D200), (0x1D400, 0x1D800), (0x1F000, 0x1F200), (0x1F1E6, 0x1F200), (0x1F300, 0x1FAFF),
          (0x20000, 0x20100), (0x2F800, 0x2FA20), (0xE0000, 0xE0200), (0x10FF00, 0x110000), (0, 0x20), (0x7F, 0xA0)]
MARKS = ["\u0301", "\u0308", "\u0327", "\u0323", "\u0345", "\u05b0", "\u064b", "\u0651", "\u093c", "\u094d", "\u3099", "\u309a", "\u20d0",
         "\ufe0f", "\u200d", "\u1160", "\u11a8", "\U0001f3fd", "\U0001d165", "\u0334", "\u0f71", "\U000e0061"]
EMOJI = ["\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f44d\U0001f3fd", "\U0001f1e9\U0001f1ea", "\u2764\ufe0f", "\U0001f642",
         "\u00a9\u200d\u00a9", "#\ufe0f\u20e3", "\U0001f3f4\U000e0067\U000e0062\U000e007f"]
WORDS = ("the of and to in that was is I'll I'LL we've don't it's IT'S they're can't O'Neil Hello world naïve café Straße ΣΑΣ İstanbul "
         "don\u2019t 1 12 123 1234 12345 3.14 1,000 x1y22 snake_case camelCase HTTPServer foo.bar(a,b) <s> </s> [CLS] ▁the ▁ ▁▁ Ġthe "
         "## ##ing <0x41> <0xE3> <unk> [UNK] \u6771\u4eac\u306e \u706f\u53f0 \u0915\u094d\u0937 \uac00\u1100\u1161 \ufb01 \u00bd \u2460 "
         "do not n't 's 've 're don t").split(" ")


class Texts:
    """Draws texts for one tokenizer: `added` are its added tokens, `vocabulary` some tokens of its model."""

    def __init__(self, seed, added, vocabulary, corpus):
        self.rng = random.Random(seed)
        self.added = added or ["<none>"]
        self.vocabulary = vocabulary or ["x"]
        self.corpus = corpus or "The quick brown fox jumps over the lazy dog. "

    def character(self):
        while True:
            low, high = self.rng.choice(BLOCKS) if self.rng.random() < 0.97 else (0, 0x110000)
            code = self.rng.randrange(low, high)
            if not 0xD800 <= code < 0xE000:
                return chr(code)

    def token(self):
        token = self.rng.choice(self.added)
        kind = self.rng.random()
        if kind < 0.25:
            token = token[:self.rng.randrange(len(token) + 1)]
        elif kind < 0.4:
            token = token[self.rng.randrange(len(token) + 1):]
        elif kind < 0.5:
            token = token.swapcase()
        return token

    def bit(self):
        rng = self.rng
        kind = rng.randrange(12)
        if kind == 0:
            return rng.choice(BLANKS)
        if kind == 1:
            return self.token()
        if kind == 2:
            return rng.choice(EMOJI)
        if kind == 3:
            return self.character() + "".join(rng.choice(MARKS) for _ in range(rng.randrange(4)))
        if kind == 4:
            return rng.choice(self.vocabulary)
        if kind == 5:
            unit = rng.choice([self.character(), rng.choice(BLANKS), rng.choice(WORDS)])
            return unit * (rng.randrange(1, 120) if rng.random() < 0.1 else rng.randrange(1, 9))
        if kind == 6:
            at = rng.randrange(len(self.corpus))
            return self.corpus[at:at + rng.randrange(40)]
        if kind in (7, 8):
            return rng.choice(WORDS) + rng.choice(["", " ", " ", " "])
        if kind == 9:
            low, high = rng.choice(BLOCKS)
            return "".join(chr(rng.randrange(low, high)) for _ in range(rng.randrange(1, 8)))
        return self.character()

    def text(self):
        return "".join(self.bit() for _ in range(self.rng.choice([0, 1, 2, 3, 5, 8, 13])))

    def texts(self, count):
        """`count` texts and, when they are many, every code point between letters, spaces and itself."""
        out = [self.text() for _ in range(count)]
        if count < 10000:
            return out
        codes = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
        forms = ["a{0} ", " {0}{0}", "{0}\u0301", "1{0}b"]
        for i, at in enumerate(range(0, len(codes), 48)):
            form = forms[i % len(forms)]
            out.append("".join(form.format(chr(c)) for c in codes[at:at + 48]))
        return out


def random_ids(seed, count, end):
    rng = random.Random(seed)
    return [[rng.randrange(min(end, rng.choice([300, end]))) for _ in range(rng.choice([1, 2, 3, 8, 21]))] for _ in range(count)]
