"""Scenes as training batches: pixels, packed texts and the targets of the helper loss."""
from typing import NamedTuple

import numpy as np
import torch

import scenes

DESCRIBE = "Describe the image."
IGNORE = -100
ANSWER_WEIGHT = 2.0   # an answer has few tokens, a caption many
# Late in a training, what is hard is asked more often than what is easy; from the start that would starve the easy.
OFTEN = {"size": 2, "position": 3, "count": 2, "relation": 3, "compare": 3}


class Batch(NamedTuple):
    pixels: torch.Tensor     # [B, 3, 64, 64] in -1 .. 1
    ids: torch.Tensor        # [B, T] texts of one picture one after another
    positions: torch.Tensor  # [B, T] restarting with every text
    segments: torch.Tensor   # [B, T] which text a token belongs to
    targets: torch.Tensor    # [B, T] next token, IGNORE outside answers
    weights: torch.Tensor    # [B, T]
    patches: torch.Tensor    # [B, 64, 4] colour, shape, size of the object there; -1: none
    centres: torch.Tensor    # [B, 64, 2] and its centre, 0 .. 1


def prefix_ids(method, tokenizer):
    """Tokens before and after the picture that all texts share."""
    if method == "a":
        return tokenizer.encode("USER: "), tokenizer.encode("\n")
    return [], []


def prompt_ids(method, tokenizer, question):
    """A question (DESCRIBE asks for a caption) as the tokens behind the shared prefix."""
    if method == "a":
        return tokenizer.encode(f"{question} ASSISTANT:")
    return [tokenizer.end] + tokenizer.encode("" if question == DESCRIBE else question)


def texts(scene, count=None, rng=None, often=None):
    """[(kind, question, answer)]: the caption first, then all questions or `count` of them, drawn by the
    weights of their kinds in `often`."""
    asked = scenes.questions(scene)
    if count is not None and len(asked) > count:
        share = np.array([(often or {}).get(kind, 1) for kind, _, _ in asked], float)
        chosen = rng.choice(len(asked), count, replace=False, p=share / share.sum())
        asked = [asked[i] for i in sorted(chosen)]
    return [("caption", DESCRIBE, scenes.canonical_caption(scene))] + asked


def pack(method, tokenizer, several):
    """Texts of several pictures -> ids, positions, segments, targets, weights, all [B, T]."""
    rows = []
    for listed in several:
        row = []
        for n, (kind, question, answer) in enumerate(listed):
            prompt = prompt_ids(method, tokenizer, question)
            ids = prompt + tokenizer.encode(" " + answer) + [tokenizer.end]
            weight = 1.0 if kind == "caption" else ANSWER_WEIGHT
            row += [(ids[i], i, n, ids[i + 1] if i + 1 >= len(prompt) else IGNORE, weight)
                    for i in range(len(ids) - 1)]
        rows.append(row)
    longest = max(map(len, rows))
    filled = np.array([r + [(0, 0, 99, IGNORE, 0.0)] * (longest - len(r)) for r in rows])
    return [torch.from_numpy(filled[..., i].astype(np.float32 if i == 4 else np.int64))
            for i in range(5)]


def to_pixels(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def patch_truth(several, cover):
    """Which object covers most of each patch, if any covers a tenth of it."""
    share = cover.reshape(len(several), 3, 8, 8, 8, 8).sum((3, 5)).reshape(len(several), 3, 64)
    owner = share.argmax(1)
    table = np.zeros((len(several), 3, 5), np.float32)
    for i, scene in enumerate(several):
        for k, o in enumerate(scene.objects):
            table[i, k] = (list(scenes.COLOURS).index(o.colour), scenes.SHAPES.index(o.shape),
                           o.size == "large", o.x / scenes.SIDE, o.y / scenes.SIDE)
    rows = np.take_along_axis(table, owner[..., None], 1)
    kinds = np.where(share.max(1)[..., None] >= 6, rows[..., :3], -1).astype(np.int64)
    return torch.from_numpy(kinds), torch.from_numpy(rows[..., 3:])


def batch(method, tokenizer, seed, indices, count=None, often=None):
    several = [scenes.sample(seed, i) for i in indices]
    cover = scenes.coverage(several)
    rng = np.random.default_rng([seed, indices[0], 2])
    packed = pack(method, tokenizer, [texts(s, count, rng, often) for s in several])
    return several, Batch(to_pixels(scenes.render(several, cover)), *packed,
                          *patch_truth(several, cover))
