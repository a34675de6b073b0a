"""llama.cpp's C library through ctypes, as npm's node-llama-cpp ships it for x86-64 Linux.

Parameters are structures passed by value, whose layout changes from version to version. Here they are opaque, and
longer than any of them: the library fills in its own defaults, and only what has stood at their beginning for years is
set, and checked."""
import base64
import ctypes
import hashlib
import os
import pathlib
import platform
import re
import shutil
import subprocess
import tarfile
import time

PACKAGE, VERSION = "@node-llama-cpp/linux-x64", "3.22.1"
SHA512 = "5uCCDNqWCNfaAm8aR/Uzxbo4HBpKgNF91kCHPepKhgMgV2OAmatoefbOlMihsqCiH2Od35E/eUHQCFbfRBJuOg=="
FILE_TYPES = {"f32": 0, "bf16": 32, "f16": 1, "q8": 7, "q4": 2}  # llama_ftype: F32, BF16, F16, Q8_0, Q4_0


class Params(ctypes.Structure):
    _fields_ = [("words", ctypes.c_int32 * 128)]


class Batch(ctypes.Structure):  # llama_batch: a count and six pointers
    _fields_ = [("n_tokens", ctypes.c_int32), ("pointers", ctypes.c_void_p * 6)]


def download(folder):
    """The package's libraries in `folder`, fetched with npm once, without running anything of it."""
    libraries = folder / f"llama.cpp-{VERSION}" / "package" / "bins" / "linux-x64"
    if libraries.is_dir():
        return libraries
    if platform.system() != "Linux" or platform.machine() != "x86_64" or not shutil.which("npm"):
        raise SystemExit(f"{PACKAGE}: needs npm (Debian: npm) on x86-64 Linux")
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["npm", "pack", "--silent", f"{PACKAGE}@{VERSION}"], cwd=folder, check=True,
                   stdout=subprocess.DEVNULL)
    archive = folder / f"node-llama-cpp-linux-x64-{VERSION}.tgz"
    if base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode() != SHA512:
        raise SystemExit(f"{archive}: not the package that was measured before; its SHA-512 differs")
    with tarfile.open(archive) as tar:
        tar.extractall(folder / f"llama.cpp-{VERSION}")
    archive.unlink()
    return libraries


class Library:
    def __init__(self, folder):
        folder = pathlib.Path(folder)
        self.log = []  # what the library says
        base = ctypes.CDLL(str(folder / "libggml-base.so"), ctypes.RTLD_GLOBAL)
        backends = ctypes.CDLL(str(next(folder.glob("libggml.v*.so"))), ctypes.RTLD_GLOBAL)
        self.c = c = ctypes.CDLL(str(next(folder.glob("libllama.v*.so"))))
        self.keep = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(
            lambda level, text, data: self.log.append(text.decode(errors="replace")))
        c.llama_log_set(self.keep, None)
        for name in ("model", "context", "model_quantize"):
            getattr(c, f"llama_{name}_default_params").restype = Params
        for name, result, arguments in [
                ("llama_model_load_from_file", ctypes.c_void_p, [ctypes.c_char_p, Params]),
                ("llama_init_from_model", ctypes.c_void_p, [ctypes.c_void_p, Params]),
                ("llama_model_quantize", ctypes.c_uint32, [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p]),
                ("llama_batch_get_one", Batch, [ctypes.c_void_p, ctypes.c_int32]),
                ("llama_decode", ctypes.c_int32, [ctypes.c_void_p, Batch]),
                ("llama_synchronize", None, [ctypes.c_void_p]),
                ("llama_get_logits", ctypes.POINTER(ctypes.c_float), [ctypes.c_void_p]),
                ("llama_get_memory", ctypes.c_void_p, [ctypes.c_void_p]),
                ("llama_memory_seq_rm", ctypes.c_bool, [ctypes.c_void_p] + [ctypes.c_int32] * 3),
                ("llama_set_n_threads", None, [ctypes.c_void_p] + [ctypes.c_int32] * 2),
                ("llama_attach_threadpool", None, [ctypes.c_void_p] * 3),
                ("llama_n_ctx", ctypes.c_uint32, [ctypes.c_void_p]),
                ("llama_n_batch", ctypes.c_uint32, [ctypes.c_void_p]),
                ("llama_n_ubatch", ctypes.c_uint32, [ctypes.c_void_p]),
                ("llama_model_size", ctypes.c_uint64, [ctypes.c_void_p]),
                ("llama_print_system_info", ctypes.c_char_p, [])]:
            function = getattr(c, name)
            function.restype, function.argtypes = result, arguments
        backends.ggml_backend_load_all_from_path.argtypes = [ctypes.c_char_p]
        backends.ggml_backend_load_all_from_path(str(folder).encode())
        # The library has chosen the variant for this processor; threads are made by the same one.
        maps = pathlib.Path("/proc/self/maps").read_text()
        variant = re.search(r"\S+/libggml-cpu-(\S+)\.so", maps)
        if not variant:
            raise SystemExit("llama.cpp has loaded none of its CPU variants")
        self.variant, self.system_info = variant[1], c.llama_print_system_info().decode()
        self.cpu, self.base = ctypes.CDLL(variant[0]), base
        c.llama_backend_init()

    def quantize(self, source, target, weights):
        """As `llama-quantize SOURCE TARGET TYPE`: which tensor gets which type is llama.cpp's choice."""
        params = self.c.llama_model_quantize_default_params()
        params.words[0], params.words[1] = os.cpu_count(), FILE_TYPES[weights]  # nthread, ftype
        if self.c.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params)) != 0:
            raise SystemExit(f"{target}: llama.cpp does not quantize: {''.join(self.log[-5:])}")

    def measure(self, path, prompt, replies, before, threads, repeats):
        """Tokens per second of prefill and decode, the best of `repeats` after one that is not counted."""
        c = self.c
        model = c.llama_model_load_from_file(str(path).encode(), c.llama_model_default_params())
        if not model:
            raise SystemExit(f"{path}: llama.cpp does not load it: {''.join(self.log[-5:])}")
        params = c.llama_context_default_params()
        longest = max(prompt, before) + replies
        batch = max(prompt, before)  # a prompt is read at once
        params.words[:3] = [longest, batch, batch]  # n_ctx, n_batch, n_ubatch
        context = c.llama_init_from_model(model, params)
        if not context or c.llama_n_ctx(context) < longest or c.llama_n_ubatch(context) != batch:
            raise SystemExit(f"{path}: no context of {longest} tokens: {''.join(self.log[-5:])}")
        # One pool for all passes, as llama-bench has it: without, threads are made anew for every token.
        pool_params = ctypes.create_string_buffer(2048)
        self.base.ggml_threadpool_params_init(pool_params, threads)
        self.cpu.ggml_threadpool_new.restype = ctypes.c_void_p
        pool = ctypes.c_void_p(self.cpu.ggml_threadpool_new(pool_params))
        c.llama_attach_threadpool(context, pool, pool)
        c.llama_set_n_threads(context, threads, threads)
        memory, vocabulary = c.llama_get_memory(context), int(self.logged(r"n_vocab\s*=\s*(\d+)"))
        ids = (ctypes.c_int32 * longest)(*[(i * 7919 + 1) % vocabulary for i in range(longest)])

        def forward(first, count):
            if c.llama_decode(context, c.llama_batch_get_one(ctypes.byref(ids, 4 * first), count)) != 0:
                raise SystemExit(f"{path}: llama_decode fails: {''.join(self.log[-5:])}")
            c.llama_synchronize(context)
            return c.llama_get_logits(context)[vocabulary - 1]

        def seconds(work):
            start = time.perf_counter()
            work()
            return time.perf_counter() - start

        def prefill():
            c.llama_memory_seq_rm(memory, -1, -1, -1)
            return seconds(lambda: forward(0, prompt))

        def decode():
            c.llama_memory_seq_rm(memory, -1, before, -1)
            return seconds(lambda: [forward(i, 1) for i in range(replies)])

        prefill_seconds = min([prefill() for _ in range(repeats + 1)][1:])
        c.llama_memory_seq_rm(memory, -1, -1, -1)
        forward(0, before)
        decode_seconds = min([decode() for _ in range(repeats + 1)][1:])
        return {"prefill": prompt / prefill_seconds, "decode": replies / decode_seconds,
                "bytes": c.llama_model_size(model), "variant": self.variant, "system_info": self.system_info,
                "load_mode": self.logged(r"load_mode = (\w+)"),
                "flash_attention": self.logged(r"Flash Attention (\w+)")}

    def logged(self, pattern):
        found = re.search(pattern, "".join(self.log))
        if not found:
            raise SystemExit(f"llama.cpp's log has no {pattern}")
        return found[1]
