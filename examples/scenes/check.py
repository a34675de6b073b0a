#!/usr/bin/env python3
"""Reads a checkpoint folder back and measures it: check.py FOLDER [--seed S] [--count N] [--show K]"""
import argparse
import pathlib

import data
import evaluate
import export
import scenes
import tokenizer


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("folder", type=pathlib.Path)
    args.add_argument("--seed", type=int, default=scenes.HELD_OUT_SEEDS[0])
    args.add_argument("--count", type=int, default=200)
    args.add_argument("--show", type=int, default=3, help="scenes to print in full")
    args = args.parse_args()
    tokens = tokenizer.Tokenizer.load(args.folder / "tokenizer.json")
    method, model = export.read(args.folder, tokens)
    for i in range(args.show):
        scene = scenes.sample(args.seed, i)
        seen = evaluate.features(model, data.to_pixels(scenes.render([scene])))
        for kind, question, answer in data.texts(scene):
            said = evaluate.generate(method, model, tokens, seen, question)[0]
            ok = said in scenes.captions(scene) if kind == "caption" else said == answer
            print(f"{'ok   ' if ok else 'WRONG'} {question} -> {said} (truth: {answer})")
    for name, share in evaluate.evaluate(method, model, tokens, args.seed, args.count).items():
        print(f"{name:10} {100 * share:6.2f} %")


if __name__ == "__main__":
    main()
