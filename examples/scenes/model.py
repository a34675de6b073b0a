"""The two models, module by module under the names their tensors have in the checkpoints.

Both see the picture with the same CLIP tower and speak with the same GPT-2. They differ in how the
picture reaches the text: Llava (method A) puts the projected patches into the text's own sequence,
VisionEncoderDecoder (method B) lets every block of the decoder look at them by cross-attention.

Several texts about one picture share its prefix in one packed sequence: a mask keeps them from
seeing each other and positions restart, so each gets what it would get alone.
"""
import math

import torch
from torch import nn
from torch.nn import functional as F

WIDTH, HEADS, LAYERS, INNER = 128, 4, 4, 512
SIDE, PATCH = 64, 8
TOKENS = (SIDE // PATCH) ** 2 + 1  # the class token first
POSITIONS = 128


def split(x):   # [B, T, WIDTH] -> [B, HEADS, T, WIDTH / HEADS]
    return x.view(*x.shape[:2], HEADS, -1).transpose(1, 2)


def attend(q, k, v, mask=None):
    scores = (split(q) * (WIDTH // HEADS) ** -0.5) @ split(k).transpose(-1, -2)
    if mask is not None:
        scores = scores + mask
    return (torch.softmax(scores, -1) @ split(v)).transpose(1, 2).flatten(2)


# --- CLIP's vision tower ---------------------------------------------------------------------

class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x):
        return self.out_proj(attend(self.q_proj(x), self.k_proj(x), self.v_proj(x)))


class VisionMLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class VisionLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.self_attn, self.mlp = Attention(), VisionMLP()

    def forward(self, x):
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class VisionEmbeddings(nn.Module):
    def __init__(self):
        super().__init__()
        self.class_embedding = nn.Parameter(torch.zeros(WIDTH))
        self.patch_embedding = nn.Conv2d(3, WIDTH, PATCH, PATCH, bias=False)
        self.position_embedding = nn.Embedding(TOKENS, WIDTH)

    def forward(self, pixels):
        grid = SIDE // PATCH   # patches as rows in (channel, row, column) order: one product
        rows = pixels.view(-1, 3, grid, PATCH, grid, PATCH).permute(0, 2, 4, 1, 3, 5)
        patches = rows.reshape(-1, grid * grid, 3 * PATCH * PATCH) @ \
            self.patch_embedding.weight.flatten(1).T
        first = self.class_embedding.expand(len(patches), 1, -1)
        return torch.cat([first, patches], 1) + self.position_embedding.weight


class VisionTransformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embeddings = VisionEmbeddings()
        self.pre_layrnorm, self.post_layernorm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(
            VisionLayer() for _ in range(LAYERS))})

    def forward(self, pixels):
        x = self.pre_layrnorm(self.embeddings(pixels))
        for layer in self.encoder["layers"]:
            x = layer(x)
        return x   # post_layernorm belongs to the pooled output, which neither model uses


class CLIPVisionModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.vision_model = VisionTransformer()

    def forward(self, pixels):
        return self.vision_model(pixels)


# --- GPT-2 -----------------------------------------------------------------------------------

class Conv1D(nn.Module):
    """GPT-2's linear layer: the weight is stored [in, out]."""
    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x):
        return torch.addmm(self.bias, x.flatten(0, -2), self.weight).view(*x.shape[:-1], -1)


class SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.c_attn, self.c_proj = Conv1D(WIDTH, 3 * WIDTH), Conv1D(WIDTH, WIDTH)

    def forward(self, x, mask, cache=None):
        q, k, v = self.c_attn(x).split(WIDTH, 2)
        if cache is not None:
            if cache:
                k, v = torch.cat([cache[0], k], 1), torch.cat([cache[1], v], 1)
            cache[:] = k, v
        return self.c_proj(attend(q, k, v, mask))


class CrossAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.c_attn, self.q_attn = Conv1D(WIDTH, 2 * WIDTH), Conv1D(WIDTH, WIDTH)
        self.c_proj = Conv1D(WIDTH, WIDTH)

    def forward(self, x, picture):
        k, v = self.c_attn(picture).split(WIDTH, 2)
        return self.c_proj(attend(self.q_attn(x), k, v))


class TextMLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.c_fc, self.c_proj = Conv1D(WIDTH, INNER), Conv1D(INNER, WIDTH)

    def forward(self, x):
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))


class Block(nn.Module):
    def __init__(self, cross):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attn, self.mlp = SelfAttention(), TextMLP()
        if cross:
            self.ln_cross_attn, self.crossattention = nn.LayerNorm(WIDTH), CrossAttention()

    def forward(self, x, mask, picture, cache, wanted=None):
        x = x + self.attn(self.ln_1(x), mask, cache)
        if picture is not None:
            x = x + self.crossattention(self.ln_cross_attn(x), picture)
        if wanted is not None:
            x = x[wanted]
        return x + self.mlp(self.ln_2(x))


class GPT2(nn.Module):
    def __init__(self, vocabulary, cross):
        super().__init__()
        self.transformer = nn.ModuleDict({
            "wte": nn.Embedding(vocabulary, WIDTH), "wpe": nn.Embedding(POSITIONS, WIDTH),
            "h": nn.ModuleList(Block(cross) for _ in range(LAYERS)), "ln_f": nn.LayerNorm(WIDTH)})

    def embed(self, ids):
        return self.transformer["wte"](ids)

    def forward(self, x, positions, mask=None, picture=None, caches=None, wanted=None):
        """Hidden states of embedded tokens x, or of those that `wanted` [B, T] marks: [N, WIDTH].

        logits() turns them into logits. Nothing follows the last block's attention that looks at
        another token, so what is not wanted is left out from there on.
        """
        x = x + self.transformer["wpe"](positions)
        for i, block in enumerate(self.transformer["h"]):
            x = block(x, mask, picture, caches[i] if caches else None,
                      wanted if i == LAYERS - 1 else None)
        return self.transformer["ln_f"](x)

    def logits(self, hidden):
        return hidden @ self.transformer["wte"].weight.T   # tied head


# --- the two models --------------------------------------------------------------------------

def additive(visible):
    return torch.zeros(visible.shape).masked_fill_(~visible, -1e9)[:, None]


class Llava(nn.Module):
    """Method A: [prefix with the picture's tokens in it] [text] [text] ... in one sequence."""
    def __init__(self, vocabulary):
        super().__init__()
        self.vision_tower = CLIPVisionModel()
        self.multi_modal_projector = nn.ModuleDict({
            "linear_1": nn.Linear(WIDTH, WIDTH), "linear_2": nn.Linear(WIDTH, WIDTH)})
        self.language_model = GPT2(vocabulary, cross=False)

    def prefix(self, features, before, after):
        """Embeddings of `before`, the projected picture and `after`."""
        p = self.multi_modal_projector
        rows = p["linear_2"](F.gelu(p["linear_1"](features)))
        words = [self.language_model.embed(torch.tensor(t)).expand(len(rows), -1, -1)
                 for t in (before, after)]
        return torch.cat([words[0], rows, words[1]], 1)

    def pack(self, prompt, ids, positions, segments, wanted):
        """Hidden states of the wanted tokens of texts packed behind the shared prefix."""
        x = torch.cat([prompt, self.language_model.embed(ids)], 1)
        size = prompt.shape[1]
        where = torch.cat([torch.arange(size).expand(len(ids), -1), positions + size], 1)
        whose = F.pad(segments, (size, 0), value=-1)
        visible = ((whose[:, :, None] == whose[:, None, :]) | (whose == -1)[:, None, :]).tril()
        return self.language_model(x, where, additive(visible),
                                   wanted=F.pad(wanted, (size, 0), value=False))


class VisionEncoderDecoder(nn.Module):
    """Method B: the decoder's texts look at the picture through cross-attention."""
    def __init__(self, vocabulary):
        super().__init__()
        self.encoder, self.decoder = CLIPVisionModel(), GPT2(vocabulary, cross=True)

    def pack(self, features, ids, positions, segments, wanted):
        visible = (segments[:, :, None] == segments[:, None, :]).tril()
        return self.decoder(self.decoder.embed(ids), positions, additive(visible), features,
                            wanted=wanted)


def initialise(model, generator):
    """Small normal weights (residual outputs smaller still), positions that start as a 2-d grid."""
    for name, p in model.named_parameters():
        if p.dim() == 1:
            nn.init.constant_(p, float(name.endswith("weight") and "bias" not in name))
        elif "wte" in name or "wpe" in name:
            p.data.normal_(0, 0.05, generator=generator)
        else:
            fan_in = p.shape[0] if ".h." in name else p[0].numel()
            last = name.endswith(("c_proj.weight", "out_proj.weight", "fc2.weight"))
            p.data.normal_(0, 0.7 * fan_in ** -0.5 / (math.sqrt(2 * LAYERS) if last else 1),
                           generator=generator)
    embeddings = next(m for m in model.modules() if isinstance(m, VisionEmbeddings))
    embeddings.class_embedding.data.normal_(0, 0.1, generator=generator)
    embeddings.position_embedding.weight.data.normal_(0, 0.02, generator=generator)
    embeddings.position_embedding.weight.data[1:] += 0.3 * grid_waves()


def grid_waves():
    """Sines and cosines of the patch's row and column: [64, WIDTH]."""
    grid = SIDE // PATCH
    turn = torch.arange(grid)[:, None] * (math.pi / grid) * 2.0 ** torch.linspace(-1, 2, WIDTH // 4)
    wave = torch.cat([turn.sin(), turn.cos()], 1)
    rows, columns = wave[:, None].expand(-1, grid, -1), wave[None].expand(grid, -1, -1)
    return torch.cat([rows, columns], 2).flatten(0, 1)
