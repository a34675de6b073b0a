"""A byte-level BPE: learning, encoding and the `tokenizer.json` of Hugging Face's tokenizers."""
import collections
import json
import re

# GPT-2's pattern with ASCII classes: the scenes' texts hold nothing else.
PIECES = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+")
END, IMAGE = "<|endoftext|>", "<image>"


def byte_symbols():
    """GPT-2's printable stand-in for every byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {**{b: chr(b) for b in printable}, **{b: chr(256 + i) for i, b in enumerate(others)}}


SYMBOLS = byte_symbols()
BYTES = {s: b for b, s in SYMBOLS.items()}


def merge(word, pair):
    out, i = [], 0
    while i < len(word):
        step = 2 if tuple(word[i:i + 2]) == pair else 1
        out.append("".join(word[i:i + step]))
        i += step
    return out


def learn(texts):
    """Merges, the most frequent pair first, until every word of the texts is one token."""
    counts = collections.Counter(p for t in texts for p in PIECES.findall(t))
    words = {p: [SYMBOLS[b] for b in p.encode()] for p in counts}
    merges = []
    while True:
        pairs = collections.Counter()
        for piece, word in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += counts[piece]
        if not pairs:
            return merges
        best = max(pairs, key=lambda p: (pairs[p], p))
        merges.append(best)
        words = {piece: merge(word, best) for piece, word in words.items()}


class Tokenizer:
    def __init__(self, merges):
        self.ranks = {tuple(m): i for i, m in enumerate(merges)}
        tokens = [*SYMBOLS.values(), *("".join(m) for m in merges), END, IMAGE]
        self.ids = {t: i for i, t in enumerate(dict.fromkeys(tokens))}
        self.tokens = list(self.ids)
        self.end, self.image = self.ids[END], self.ids[IMAGE]
        self.cache = {}

    @classmethod
    def load(cls, path):
        with open(path) as file:
            data = json.load(file)
        self = cls([m.split(" ") for m in data["model"]["merges"]])
        added = {t["content"]: t["id"] for t in data["added_tokens"]}
        assert self.ids == {**data["model"]["vocab"], **added}
        return self

    def piece(self, piece):
        if piece not in self.cache:
            word = [SYMBOLS[b] for b in piece.encode()]
            while len(word) > 1:
                best = min(zip(word, word[1:]), key=lambda p: self.ranks.get(p, len(self.ranks)))
                if best not in self.ranks:
                    break
                word = merge(word, best)
            self.cache[piece] = [self.ids[s] for s in word]
        return self.cache[piece]

    def encode(self, text):
        ids = []
        for part in re.split(f"({re.escape(END)}|{re.escape(IMAGE)})", text):
            if part in (END, IMAGE):
                ids.append(self.ids[part])
            else:
                ids += [i for p in PIECES.findall(part) for i in self.piece(p)]
        return ids

    def decode(self, ids):
        text = "".join(self.tokens[i] for i in ids if i not in (self.end, self.image))
        return bytes(BYTES[c] for c in text).decode(errors="replace")

    def files(self, positions):
        """tokenizer.json and tokenizer_config.json."""
        added = [{"id": self.ids[t], "content": t, "single_word": False, "lstrip": False,
                  "rstrip": False, "normalized": False, "special": True} for t in (END, IMAGE)]
        level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                 "use_regex": True}
        vocab = {t: i for t, i in self.ids.items() if t not in (END, IMAGE)}
        model = {"type": "BPE", "dropout": None, "unk_token": None,
                 "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": False,
                 "byte_fallback": False, "vocab": vocab,
                 "merges": [" ".join(m) for m in self.ranks]}
        whole = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
                 "normalizer": None, "pre_tokenizer": level, "post_processor": None,
                 "decoder": level, "model": model}
        config = {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False,
                  "bos_token": END, "eos_token": END, "pad_token": END, "unk_token": END,
                  "additional_special_tokens": [IMAGE], "clean_up_tokenization_spaces": False,
                  "model_max_length": positions}
        return {"tokenizer.json": whole, "tokenizer_config.json": config}
