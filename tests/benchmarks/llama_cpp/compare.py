#!/usr/bin/env python3
"""Duet and llama.cpp side by side, on the same shapes with random weights, in the same formats, in one run.

Both run in turns, each time in a process of its own; of each the best counts. Prefill reads a prompt at once, decode
adds tokens one by one after a short prompt; both make the last token's logits, and take no samples. llama.cpp comes
from npm (node-llama-cpp's libraries for x86-64), is called through its C interface, and quantizes its own weights;
memory mapping, repacking, flash attention and the variant for this processor are its own choices, and its threads live
through all passes, as in llama-bench."""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import library
import random_gguf

ROOT = pathlib.Path(__file__).resolve().parents[3]


def run_json(command, error):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{error} failed: {done.stderr.strip()}")
    return json.loads(done.stdout)


def lengths(options):
    return ["--prefill", options.prefill, "--decode", options.decode, "--context", options.context]


def peer(path, options, threads):
    return run_json([sys.executable, __file__, "--measure-peer", path, "--threads", threads, *lengths(options),
                     "--build", options.build], "llama.cpp")


def duet(shape, weights, options, threads):
    kv = ["--kv", options.kv] if options.kv else []
    result = run_json([options.duet, "bench", "--shape", shape, "--weights", weights, "--threads", threads,
                       *lengths(options), *kv, "--json"], "duet bench")
    return {"prefill": result["prefill"]["tokens_per_s"], "decode": result["decode"]["tokens_per_s"],
            "kernels": result["kernels"], "fraction_of_fma_peak": result["prefill"]["fraction_of_fma_peak"],
            "fraction_of_bandwidth": result["decode"]["fraction_of_bandwidth"], "machine": result["machine"]}


def best(runs, key):
    return max(run[key] for run in runs)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--shapes", nargs="+", choices=random_gguf.SHAPES, default=list(random_gguf.SHAPES))
    args.add_argument("--weights", nargs="+", choices=library.FILE_TYPES, default=list(library.FILE_TYPES))
    args.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    args.add_argument("--prefill", type=int, default=512, help="prompt tokens (512)")
    args.add_argument("--decode", type=int, default=64, help="tokens to decode (64)")
    args.add_argument("--context", type=int, default=32, help="positions read before decoding begins (32)")
    args.add_argument("--rounds", type=int, default=3, help="how often both run in turns (3)")
    args.add_argument("--kv", choices=["f32", "bf16", "f16", "q8"],
                      help="Duet's keys and values (f32); llama.cpp's are f16")
    args.add_argument("--duet", type=pathlib.Path, default=ROOT / "build/release/examples/duet",
                      help="the duet program")
    args.add_argument("--build", type=pathlib.Path, default=ROOT / "build/llama_cpp",
                      help="folder for llama.cpp and the files")
    args.add_argument("--json", action="store_true", help="print one JSON object")
    args.add_argument("--measure-peer", type=pathlib.Path, help=argparse.SUPPRESS)  # one run, in a process of its own
    options = args.parse_args()

    libraries = library.download(options.build)
    if options.measure_peer:
        peer_library = library.Library(libraries)
        print(json.dumps(peer_library.measure(options.measure_peer, options.prefill, options.decode, options.context,
                                              options.threads[0], repeats=3)))
        return
    if not options.duet.is_file():
        raise SystemExit(f"{options.duet}: no such program; "
                         "cmake --preset release && cmake --build --preset release --target duet")

    def say(text):
        print(text, file=sys.stderr, flush=True)

    rows, described, quantizer = [], False, library.Library(libraries)
    for shape in options.shapes:
        with tempfile.TemporaryDirectory(dir=options.build) as folder:
            source = pathlib.Path(folder) / "f32.gguf"
            say(f"{shape}: writing random weights")
            random_gguf.write(source, random_gguf.SHAPES[shape])
            for weights in options.weights:
                path = pathlib.Path(folder) / f"{weights}.gguf"
                if weights != "f32":
                    quantizer.quantize(source, path, weights)
                os.sync()  # what is written must not disturb what is measured
                for threads in options.threads:
                    say(f"{shape} {weights}, {threads} thread{'s' * (threads > 1)}: {options.rounds} rounds")
                    theirs, ours = [], []
                    for _ in range(options.rounds):
                        theirs.append(peer(path, options, threads))
                        ours.append(duet(shape, weights, options, threads))
                    if not described and not options.json:
                        print(f"llama.cpp of node-llama-cpp {library.VERSION}, variant {theirs[0]['variant']}: "
                              f"{theirs[0]['system_info']}\nDuet, {ours[0]['kernels']} kernels; "
                              f"tokens per second, best of {options.rounds} rounds\n")
                        print(f"| shape and weights | threads | prefill {options.prefill}: Duet | llama.cpp | ratio "
                              f"| decode {options.decode}: Duet | llama.cpp | ratio |")
                        print("|---|---|---|---|---|---|---|---|")
                        described = True
                    row = {"shape": shape, "weights": weights, "threads": threads}
                    for stage in ("prefill", "decode"):
                        row[stage] = {"duet": best(ours, stage), "llama_cpp": best(theirs, stage)}
                        row[stage]["ratio"] = row[stage]["duet"] / row[stage]["llama_cpp"]
                    rows.append(row | {"runs": {"duet": ours, "llama_cpp": theirs}})
                    if not options.json:
                        cells = [f"{v['duet']:.4g} | {v['llama_cpp']:.4g} | {v['ratio']:.2f}"
                                 for v in (row["prefill"], row["decode"])]
                        print(f"| `{shape} {weights}` | {threads} | {cells[0]} | {cells[1]} |", flush=True)
                if path != source:
                    path.unlink()
    if options.json:
        print(json.dumps({"llama_cpp": {"package": library.PACKAGE, "version": library.VERSION},
                          "prefill": options.prefill, "decode": options.decode, "context": options.context,
                          "rows": rows}))


if __name__ == "__main__":
    main()
