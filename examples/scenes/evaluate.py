"""How often a model is right: captions generated greedily, answers compared whole."""
import collections

import torch

import data
import scenes


def features(model, pixels):
    """What the texts attend to: the prompt's shared prefix is added by generate()."""
    return (model.vision_tower if hasattr(model, "vision_tower") else model.encoder)(pixels)


def logits(method, model, tokenizer, seen, batch):
    """Of the tokens that have a target, one row each."""
    first = seen
    if method == "a":
        first = model.prefix(seen, *data.prefix_ids(method, tokenizer))
    said = batch.targets != data.IGNORE
    return speaker(method, model).logits(
        model.pack(first, batch.ids, batch.positions, batch.segments, said))


def speaker(method, model):
    return model.language_model if method == "a" else model.decoder


@torch.no_grad()
def generate(method, model, tokenizer, seen, question, limit=40):
    """Greedy answers to one question about several pictures, with a key/value cache."""
    text = speaker(method, model)
    ids = torch.tensor(data.prompt_ids(method, tokenizer, question)).expand(len(seen), -1)
    x, picture = text.embed(ids), seen
    if method == "a":
        x, picture = torch.cat([model.prefix(seen, *data.prefix_ids(method, tokenizer)), x], 1), None
    caches = [[] for _ in text.transformer["h"]]
    mask = torch.full((x.shape[1], x.shape[1]), -1e9).triu(1)
    done, out, start = torch.zeros(len(seen), dtype=torch.bool), [], 0
    while not done.all() and len(out) < limit:
        positions = torch.arange(start, start + x.shape[1])
        start += x.shape[1]
        h = text(x, positions, mask, picture, caches)[:, -1]
        token = text.logits(h).argmax(-1).masked_fill(done, tokenizer.end)
        done |= token == tokenizer.end
        out.append(token)
        x, mask = text.embed(token[:, None]), None
    return [tokenizer.decode(row).strip() for row in torch.stack(out, 1).tolist()]


@torch.no_grad()
def evaluate(method, model, tokenizer, seed, count, size=50):
    """Share of right answers by type; `answers` is all questions together.

    An answer has one right form, so "every token is the most likely one after the right tokens
    before it" says the same as generating it; that needs one pass for all questions.
    """
    right, asked = collections.Counter(), collections.Counter()
    for first in range(0, count, size):
        several, b = data.batch(method, tokenizer, seed, range(first, min(first + size, count)))
        seen = features(model, b.pixels)
        best = b.targets.clone()
        best[b.targets != data.IGNORE] = logits(method, model, tokenizer, seen, b).argmax(-1)
        fits = best == b.targets
        said = generate(method, model, tokenizer, seen, data.DESCRIBE)
        for i, scene in enumerate(several):
            asked["caption"] += 1
            right["caption"] += said[i] in scenes.captions(scene)
            for n, (kind, _, _) in enumerate(data.texts(scene)[1:], start=1):
                ok = bool(fits[i][b.segments[i] == n].all())
                for key in (kind, "answers"):
                    asked[key] += 1
                    right[key] += ok
    return {key: right[key] / asked[key] for key in ("caption", "answers", *scenes.ASKERS)}
