#!/usr/bin/env python3
"""Writes scenes as PNG files with their lines of truth: render.py --seed S --count N OUT"""
import argparse
import json
import pathlib
import struct
import zlib

import scenes


def png(image):
    """An RGB image (uint8 [height, width, 3]) as the bytes of a PNG file."""
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
    height, width, _ = image.shape
    rows = b"".join(b"\0" + row.tobytes() for row in image)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b""))


def line(name, scene):
    return {
        "file": name,
        "objects": [{"shape": o.shape, "colour": o.colour, "size": o.size,
                     "centre": [o.x, o.y], "bbox": o.bbox} for o in scene.objects],
        "captions": scenes.captions(scene),
        "questions": [{"type": t, "question": q, "answer": a}
                      for t, q, a in scenes.questions(scene)],
    }


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--seed", type=int, default=scenes.HELD_OUT_SEEDS[0],
                      help="0-999 training, 1000-1999 validation, 2000 bundled, above: held out")
    args.add_argument("--count", type=int, default=12)
    args.add_argument("out", type=pathlib.Path)
    args = args.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with open(args.out / "scenes.jsonl", "w") as truth:
        for i in range(args.count):
            scene = scenes.sample(args.seed, i)
            name = f"{i:05d}.png"
            (args.out / name).write_bytes(png(scenes.render([scene])[0]))
            truth.write(json.dumps(line(name, scene)) + "\n")


if __name__ == "__main__":
    main()
