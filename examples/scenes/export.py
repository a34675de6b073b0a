"""Checkpoint folders as Hugging Face lays them out, and reading them back."""
import json
import os
import pathlib
import struct

import numpy as np
import torch

import model as models

CARD = pathlib.Path(__file__).with_name("card.md")
KINDS = {"a": models.Llava, "b": models.VisionEncoderDecoder}


# --- safetensors -----------------------------------------------------------------------------

def to_bf16(array):
    """float32 -> the upper 16 bits, rounded to nearest even."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def safetensors(tensors):
    header, blobs, at = {"__metadata__": {"format": "pt"}}, [], 0
    for name, tensor in sorted(tensors.items()):
        blob = to_bf16(tensor.numpy()).tobytes()
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape),
                        "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(blobs)


def read_safetensors(path):
    raw = pathlib.Path(path).read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + size])
    header.pop("__metadata__", None)
    out = {}
    for name, t in header.items():
        a, b = (8 + size + o for o in t["data_offsets"])
        bits = np.frombuffer(raw[a:b], "<u2").astype(np.uint32) << 16
        out[name] = torch.from_numpy(bits.view(np.float32).reshape(t["shape"]).copy())
    return out


def rounded(model):
    """The weights as the file will hold them."""
    return {k: v.detach().bfloat16().float() for k, v in model.state_dict().items()}


# --- the folder ------------------------------------------------------------------------------

def configs(method, tokenizer):
    end = tokenizer.end
    vision = {
        "model_type": "clip_vision_model", "hidden_size": models.WIDTH,
        "intermediate_size": models.INNER, "num_hidden_layers": models.LAYERS,
        "num_attention_heads": models.HEADS, "num_channels": 3, "image_size": models.SIDE,
        "patch_size": models.PATCH, "hidden_act": "gelu", "layer_norm_eps": 1e-5,
        "attention_dropout": 0.0, "projection_dim": models.WIDTH,
    }
    text = {
        "model_type": "gpt2", "vocab_size": len(tokenizer.ids), "n_positions": models.POSITIONS,
        "n_embd": models.WIDTH, "n_layer": models.LAYERS, "n_head": models.HEADS,
        "n_inner": models.INNER, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
        "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0, "scale_attn_weights": True,
        "tie_word_embeddings": True, "use_cache": True,
        "bos_token_id": end, "eos_token_id": end, "pad_token_id": end,
    }
    generation = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end,
                  "do_sample": False, "max_new_tokens": 40}
    if method == "a":
        config = {
            "architectures": ["LlavaForConditionalGeneration"], "model_type": "llava",
            "vision_config": vision, "text_config": text, "image_token_index": tokenizer.image,
            "image_seq_length": models.TOKENS, "vision_feature_layer": -1,
            "vision_feature_select_strategy": "full", "projector_hidden_act": "gelu",
            "multimodal_projector_bias": True, "tie_word_embeddings": True,
            "bos_token_id": end, "eos_token_id": end, "pad_token_id": end,
        }
    else:
        config = {
            "architectures": ["VisionEncoderDecoderModel"],
            "model_type": "vision-encoder-decoder", "is_encoder_decoder": True,
            "encoder": vision,
            "decoder": {**text, "is_decoder": True, "add_cross_attention": True},
            "decoder_start_token_id": end, "eos_token_id": end, "pad_token_id": end,
            "tie_word_embeddings": False,
        }
        generation["decoder_start_token_id"] = end
    pixels = {
        "image_processor_type": "CLIPImageProcessor", "do_convert_rgb": True,
        "do_resize": True, "size": {"shortest_edge": models.SIDE}, "resample": 3,
        "do_center_crop": True, "crop_size": {"height": models.SIDE, "width": models.SIDE},
        "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    }
    files = {"config.json": {**config, "torch_dtype": "bfloat16"},
             "generation_config.json": generation, "preprocessor_config.json": pixels,
             **tokenizer.files(models.POSITIONS)}
    if method == "a":
        files["processor_config.json"] = {
            "processor_class": "LlavaProcessor", "image_token": "<image>",
            "patch_size": models.PATCH, "vision_feature_select_strategy": "full",
            "num_additional_image_tokens": 1}
    return files


def card(method, model, result, facts):
    parts = {
        "a": ("LLaVA", "method A: the projected patches are tokens of the text's own sequence",
              "`USER: <image>\\n{question} ASSISTANT:`, for a caption with the question "
              "`Describe the image.`"),
        "b": ("VisionEncoderDecoder", "method B: the decoder looks at the patches by cross-attention",
              "`<|endoftext|>{question}`, for a caption `<|endoftext|>` alone"),
    }[method]
    rows = "\n".join(f"| {k} | {100 * v:.1f} % |" for k, v in result.items())
    size = sum(p.numel() for p in model.parameters())
    return CARD.read_text().format(name=f"scenes-{method}", layout=parts[0], fusion=parts[1],
                                   prompt=parts[2], rows=rows, millions=f"{size / 1e6:.2f}",
                                   **facts)


def write(folder, method, model, tokenizer, result, facts):
    """Writes every file beside its place and then moves it there."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"
             for name, value in configs(method, tokenizer).items()}
    files["model.safetensors"] = safetensors(model.state_dict())
    files["README.md"] = card(method, model, result, facts).encode()
    for name, content in files.items():
        (folder / f".{name}.new").write_bytes(content)
    for name in files:
        os.replace(folder / f".{name}.new", folder / name)


def read(folder, tokenizer):
    """The method and the model of a folder, from its files alone."""
    folder = pathlib.Path(folder)
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    method = {"llava": "a", "vision-encoder-decoder": "b"}[kind]
    model = KINDS[method](len(tokenizer.ids))
    model.load_state_dict(read_safetensors(folder / "model.safetensors"))
    return method, model.eval()
