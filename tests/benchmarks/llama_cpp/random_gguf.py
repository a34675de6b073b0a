"""Language models of random weights as GGUF files (version 3), in F32."""
import array
import random
import struct

ALIGNMENT = 32
TYPES = {int: (4, "<I"), float: (6, "<f")}  # a metadata value's type, as GGUF numbers and stores it
STRING, F32 = 8, 0


class Shape:
    """A decoder's sizes, named as config.json names them; the same as those of `duet bench --shape`."""

    def __init__(self, architecture, vocab_size, hidden_size, intermediate_size, layers, heads, key_value_heads,
                 context, rope_theta=None):
        self.architecture, self.vocab_size, self.hidden_size = architecture, vocab_size, hidden_size
        self.intermediate_size, self.layers, self.heads = intermediate_size, layers, heads
        self.key_value_heads, self.context, self.rope_theta = key_value_heads, context, rope_theta

    def metadata(self):
        sizes = {"context_length": self.context, "embedding_length": self.hidden_size, "block_count": self.layers,
                 "feed_forward_length": self.intermediate_size, "attention.head_count": self.heads}
        if self.architecture == "llama":
            sizes |= {"attention.head_count_kv": self.key_value_heads, "attention.layer_norm_rms_epsilon": 1e-5,
                      "rope.freq_base": self.rope_theta, "rope.dimension_count": self.hidden_size // self.heads}
        else:
            sizes["attention.layer_norm_epsilon"] = 1e-5
        sizes["vocab_size"] = self.vocab_size
        general = {"general.architecture": self.architecture, "general.file_type": 0,
                   "tokenizer.ggml.model": "no_vocab"}
        return general | {f"{self.architecture}.{key}": value for key, value in sizes.items()}

    def tensors(self):
        """Names and dimensions, the fastest first: a matrix [out, in] is (in, out). The head is the embedding, tied."""
        hidden, wide = self.hidden_size, self.intermediate_size
        narrow = hidden // self.heads * self.key_value_heads
        if self.architecture == "llama":
            layer = {"attn_norm": (hidden,), "attn_q": (hidden, hidden), "attn_k": (hidden, narrow),
                     "attn_v": (hidden, narrow), "attn_output": (hidden, hidden), "ffn_norm": (hidden,),
                     "ffn_gate": (hidden, wide), "ffn_up": (hidden, wide), "ffn_down": (wide, hidden)}
            yield from {"token_embd.weight": (hidden, self.vocab_size), "output_norm.weight": (hidden,)}.items()
        else:
            layer = {"attn_norm": (hidden,), "attn_qkv": (hidden, 3 * hidden), "attn_output": (hidden, hidden),
                     "ffn_norm": (hidden,), "ffn_up": (hidden, wide), "ffn_down": (wide, hidden)}
            yield from {"token_embd.weight": (hidden, self.vocab_size), "position_embd.weight": (hidden, self.context),
                        "output_norm.weight": (hidden,), "output_norm.bias": (hidden,)}.items()
        for i in range(self.layers):
            for name, dimensions in layer.items():
                yield f"blk.{i}.{name}.weight", dimensions
                if self.architecture == "gpt2":
                    yield f"blk.{i}.{name}.bias", dimensions[-1:]


SHAPES = {
    "gpt2": Shape("gpt2", 50257, 768, 3072, 12, 12, 12, 1024),
    "smollm2-135m": Shape("llama", 49152, 576, 1536, 30, 9, 3, 8192, 100000.0),
    "llama-3.2-1b": Shape("llama", 128256, 2048, 8192, 16, 32, 8, 131072, 500000.0),
}


def elements(dimensions):
    count = 1
    for extent in dimensions:
        count *= extent
    return count


def padded(size):
    return -size % ALIGNMENT + size


def write(path, shape):
    """Weights are one run of normal numbers, over and over; its length is prime, so that rows differ."""
    def string(text):
        return struct.pack("<Q", len(text)) + text.encode()

    tensors, metadata = list(shape.tensors()), shape.metadata()
    header = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    for key, value in metadata.items():
        if isinstance(value, str):
            header += [string(key), struct.pack("<I", STRING), string(value)]
        else:
            number, spelling = TYPES[type(value)]
            header += [string(key), struct.pack("<I", number), struct.pack(spelling, value)]
    offset = 0
    for name, dimensions in tensors:
        header += [string(name), struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, F32, offset)]
        offset += padded(4 * elements(dimensions))

    source = random.Random(1)
    run = memoryview(array.array("f", (source.gauss(0.0, 0.02) for _ in range(1_000_003))).tobytes())
    ones = memoryview(array.array("f", [1.0] * shape.hidden_size).tobytes())
    with open(path, "wb") as file:
        head = b"".join(header)
        file.write(head + bytes(padded(len(head)) - len(head)))
        begin = 0  # of the next number in the run
        for name, dimensions in tensors:
            left = 4 * elements(dimensions)
            padding = padded(left) - left
            if name.endswith("norm.weight"):
                file.write(ones)
                left = 0
            while left > 0:
                piece = run[begin:begin + left]
                file.write(piece)
                left -= len(piece)
                begin = (begin + len(piece)) % len(run)
            file.write(bytes(padding))
