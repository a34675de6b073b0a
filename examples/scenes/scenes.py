"""Rendered scenes: sampling, pixels, captions and questions.

A scene is a pure function of (seed, index): scene 7 of seed 3 is the same whether ten or ten
thousand scenes are made. Pixel coordinates: x to the right, y downwards, centre of the first pixel
at (0.5, 0.5).
"""
import itertools
from typing import NamedTuple

import numpy as np

SIDE = 64

# Seeds are split once and for all; train.py and render.py only take seeds of their own range.
TRAINING_SEEDS = range(0, 1000)
VALIDATION_SEEDS = range(1000, 2000)
BUNDLED_SEED = 2000                      # the dozen pictures in bundled/
HELD_OUT_SEEDS = range(2001, 1_000_000)  # never seen by train.py in any way

COLOURS = {
    "red": (215, 35, 35),
    "green": (40, 165, 55),
    "blue": (45, 85, 235),
    "yellow": (240, 220, 45),
    "purple": (150, 45, 190),
    "orange": (245, 135, 25),
    "cyan": (60, 210, 220),
    "white": (242, 242, 242),
}
SHAPES = ("circle", "square", "triangle", "star", "ring", "cross")
PLURALS = {"circle": "circles", "square": "squares", "triangle": "triangles",
           "star": "stars", "ring": "rings", "cross": "crosses"}
EXTENT = {  # how far a shape reaches from its centre to the left, up, right and down, in radii
    "circle": (1, 1, 1, 1), "ring": (1, 1, 1, 1), "cross": (1, 1, 1, 1),
    "square": (0.86, 0.86, 0.86, 0.86), "triangle": (1, 0.95, 1, 0.85),
    "star": (0.9986, 1.05, 0.9986, 0.8495),
}
SIZES = {"small": (6.5, 7.5), "large": (11.0, 12.5)}  # radius in pixels, from and to
NUMBERS = ("zero", "one", "two", "three")

MARGIN = 8.0   # a relation holds when the centres are at least this far apart along its axis
LEVEL = 2.0    # "not above at all": what the other objects must satisfy for a unique answer

RELATIONS = {  # name -> how far the first object lies in that direction from the second
    "left of": lambda a, b: b.x - a.x,
    "right of": lambda a, b: a.x - b.x,
    "above": lambda a, b: b.y - a.y,
    "below": lambda a, b: a.y - b.y,
}
SIDES = {"at the left": "left of", "at the right": "right of",
         "at the top": "above", "at the bottom": "below"}


class Object(NamedTuple):
    shape: str
    colour: str
    size: str
    x: float
    y: float
    r: float

    @property
    def name(self):
        return f"{self.colour} {self.shape}"

    @property
    def bbox(self):
        """Left, top, right, bottom of the outline."""
        left, top, right, bottom = EXTENT[self.shape]
        return [round(v, 2) for v in (self.x - left * self.r, self.y - top * self.r,
                                      self.x + right * self.r, self.y + bottom * self.r)]


class Scene(NamedTuple):
    objects: tuple
    paint: np.ndarray       # [objects, 3] the colours as painted, after jitter
    ground: np.ndarray      # [2, 3] two dull colours
    blend: np.ndarray       # [64, 64] how much of the second one
    gain: float             # brightness
    noise: np.ndarray       # [64, 64, 3]
    truth: tuple            # seed of the choice of questions


# --- sampling --------------------------------------------------------------------------------

def sample(seed, index):
    """Scene `index` of `seed`: 1-3 objects, no two of the same colour and shape."""
    look = np.random.default_rng([seed, index, 0])
    count = 1 + int(look.choice(3, p=[0.15, 0.40, 0.45]))
    kinds = look.choice(len(COLOURS) * len(SHAPES), size=count, replace=False)
    sizes = look.integers(0, 2, size=count)
    radii = [look.uniform(*SIZES[("small", "large")[s]]) for s in sizes]
    centres = place(look, radii)
    colours = list(COLOURS)
    objects = tuple(
        Object(SHAPES[k % len(SHAPES)], colours[k // len(SHAPES)], ("small", "large")[s],
               round(float(x), 3), round(float(y), 3), round(r, 3))
        for k, s, r, (x, y) in zip(kinds, sizes, radii, centres))
    objects = tuple(sorted(objects, key=order))
    paint = np.array([COLOURS[o.colour] for o in objects], np.float32)
    paint = paint * look.uniform(0.94, 1.06) + look.uniform(-8, 8, paint.shape)
    return Scene(objects, paint, dull(look), blend_field(look), look.uniform(0.85, 1.12),
                 look.uniform(2, 7) * look.standard_normal((SIDE, SIDE, 3), np.float32),
                 (seed, index, 1))


def place(rng, radii):
    """Centres well inside the picture; corners of neighbours may just touch."""
    while True:
        centres = []
        for r in radii:
            for _ in range(20):
                x, y = rng.uniform(r + 1, SIDE - 1 - r, size=2)
                if all((x - u) ** 2 + (y - v) ** 2 > (r + q + 1) ** 2
                       for (u, v), q in zip(centres, radii)):
                    centres.append((x, y))
                    break
        if len(centres) == len(radii):
            return centres


def dull(rng):
    """Two dark, hardly saturated colours: no object has such a colour."""
    value = rng.uniform(35, 110, size=(2, 1))
    tint = 1 - rng.uniform(0, 0.35, size=(2, 3))
    return (value * tint).astype(np.float32)


def blend_field(rng):
    kind = rng.integers(0, 3)
    if kind == 0:                                       # plain
        return np.zeros((SIDE, SIDE), np.float32)
    if kind == 1:                                       # gradient in any direction
        angle = rng.uniform(0, 2 * np.pi)
        ramp = np.cos(angle) * (GRID_X - SIDE / 2) + np.sin(angle) * (GRID_Y - SIDE / 2)
        return np.clip(0.5 + ramp / SIDE, 0, 1)
    coarse = rng.uniform(0, 1, (9, 9)).astype(np.float32)  # smooth noise
    return UPSAMPLE @ coarse @ UPSAMPLE.T


GRID_Y, GRID_X = (np.mgrid[0:SIDE, 0:SIDE] + 0.5).astype(np.float32)
_at = np.arange(SIDE)[:, None] * 8 / (SIDE - 1)
UPSAMPLE = np.maximum(0, 1 - np.abs(_at - np.arange(9)[None])).astype(np.float32)  # bilinear 9 -> 64


# --- pixels ----------------------------------------------------------------------------------

def distance(shape, x, y, r):
    """Signed distance in pixels to the outline (negative inside); exact enough near the edge."""
    if shape == "circle":
        return np.hypot(x, y) - r
    if shape == "ring":
        return np.abs(np.hypot(x, y) - 0.76 * r) - 0.24 * r
    if shape == "square":
        return np.maximum(np.abs(x), np.abs(y)) - 0.86 * r
    if shape == "cross":
        long, wide = np.maximum(np.abs(x), np.abs(y)), np.minimum(np.abs(x), np.abs(y))
        return np.maximum(long - r, wide - 0.32 * r)
    if shape == "triangle":                             # apex up
        slope = np.hypot(1.8, 1.0)
        return np.maximum(y - 0.85 * r, (1.8 * np.abs(x) - y - 0.95 * r) / slope)
    # A five-pointed star: fold the plane into half a point, then one straight edge is left.
    tenth = np.pi / 5
    angle = np.abs((np.arctan2(x, -y) + tenth) % (2 * tenth) - tenth)
    length = np.hypot(x, y)
    u, v = length * np.cos(angle), length * np.sin(angle)
    inner = 0.46 * np.array([np.cos(tenth), np.sin(tenth)], np.float32)
    du, dv = inner[0] - 1.0, inner[1]
    return (dv * (u - r * 1.05) - du * v) / np.hypot(du, dv)


def coverage(scenes):
    """How much of each pixel each object covers: [scenes, 3, 64, 64], 0 to 1."""
    cover = np.zeros((len(scenes), 3, SIDE, SIDE), np.float32)
    for shape in SHAPES:
        which = [(i, k) for i, s in enumerate(scenes)
                 for k, o in enumerate(s.objects) if o.shape == shape]
        if which:
            x, y, r = (np.array([getattr(scenes[i].objects[k], f) for i, k in which],
                                np.float32)[:, None, None] for f in "xyr")
            i, k = np.array(which).T
            cover[i, k] = np.clip(0.5 - distance(shape, GRID_X - x, GRID_Y - y, r), 0, 1)
    return cover


def render(scenes, cover=None):
    """Pixels of many scenes at once: uint8 [scenes, 64, 64, 3]."""
    cover = coverage(scenes) if cover is None else cover
    ground = np.stack([s.ground for s in scenes])
    blend = np.stack([s.blend for s in scenes])[..., None]
    image = ground[:, 0, None, None] * (1 - blend) + ground[:, 1, None, None] * blend
    for k in range(3):
        paint = np.stack([s.paint[k] if k < len(s.objects) else np.zeros(3) for s in scenes])
        alpha = cover[:, k, :, :, None]
        image = image * (1 - alpha) + paint[:, None, None].astype(np.float32) * alpha
    image *= np.array([s.gain for s in scenes], np.float32)[:, None, None, None]
    image += np.stack([s.noise for s in scenes])
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


# --- captions --------------------------------------------------------------------------------

def order(o):
    """The order in which training captions name objects: by colour, then by shape."""
    return list(COLOURS).index(o.colour), SHAPES.index(o.shape)


def holds(relation, a, b):
    return RELATIONS[relation](a, b) >= MARGIN


def phrase(o):
    return f"a {o.size} {o.colour} {o.shape}"


def canonical_caption(scene):
    """The one caption that training uses: relations along the axis of the larger distance."""
    first, *others = sorted(scene.objects, key=order)
    parts = [f"{max(RELATIONS, key=lambda r: RELATIONS[r](first, o))} {phrase(o)}" for o in others]
    return " ".join([phrase(first), " and ".join(parts)]).strip()


def captions(scene):
    """Every true caption of the grammar; the canonical one is among them."""
    true = []
    for first, *others in itertools.permutations(scene.objects):
        options = [[f"{r} {phrase(o)}" for r in RELATIONS if holds(r, first, o)] for o in others]
        true += [" ".join([phrase(first), " and ".join(parts)]).strip()
                 for parts in itertools.product(*options)]
    return true


# --- questions -------------------------------------------------------------------------------

def article(word):
    return ("an " if word[0] in "aeiou" else "a ") + word


def pick(rng, items):
    return items[int(rng.integers(0, len(items)))]


def alone(objects, *fields):
    """Objects that no other one equals in the given fields."""
    key = lambda o: tuple(getattr(o, f) for f in fields)
    keys = [key(o) for o in objects]
    return [o for o in objects if keys.count(key(o)) == 1]


def ask_colour(objects, rng):
    options = [(f"What colour is the {o.shape}?", o.colour) for o in alone(objects, "shape")]
    options = options or [(f"What colour is the {o.size} {o.shape}?", o.colour)
                          for o in alone(objects, "size", "shape")]
    return pick(rng, options) if options else None


def ask_shape(objects, rng):
    options = [(f"What shape is the {o.colour} object?", o.shape) for o in alone(objects, "colour")]
    return pick(rng, options) if options else None


def ask_size(objects, rng):
    o = pick(rng, objects)
    return f"What size is the {o.name}?", o.size


def ask_position(objects, rng):
    options = [(f"What shape is {side}?", o.shape)
               for side, relation in SIDES.items() for o in objects
               if len(objects) > 1 and all(holds(relation, o, p) for p in objects if p is not o)]
    return pick(rng, options) if options else None


def ask_count(objects, rng):
    """All objects, one colour, one shape or one size; every answer as likely as it can be."""
    kind = int(rng.integers(0, 4))
    if kind == 0:
        return "How many objects are there?", NUMBERS[len(objects)]
    field, values, text = [("colour", list(COLOURS), "{} objects"), ("shape", SHAPES, "{}"),
                           ("size", list(SIZES), "{} objects")][kind - 1]
    by_answer = {}
    for v in values:
        by_answer.setdefault(sum(getattr(o, field) == v for o in objects), []).append(v)
    number = pick(rng, sorted(by_answer))
    value = pick(rng, by_answer[number])
    return f"How many {text.format(PLURALS.get(value, value))} are there?", NUMBERS[number]


def ask_exist(objects, rng):
    """Half yes; half of the noes mix the colour and the shape of two objects that are there."""
    present = {(o.colour, o.shape) for o in objects}
    if rng.integers(0, 2):
        colour, shape = pick(rng, sorted(present))
        return f"Is there {article(colour)} {shape}?", "yes"
    absent = [(c, s) for c in COLOURS for s in SHAPES if (c, s) not in present]
    familiar = [[(c, s) for c, s in absent if (any(c == o.colour for o in objects)
                                               + any(s == o.shape for o in objects)) >= level]
                for level in (2, 1, 0)]
    level = int(rng.choice(3, p=[0.5, 0.3, 0.2]))
    colour, shape = pick(rng, next(f for f in familiar[level:] if f))
    return f"Is there {article(colour)} {shape}?", "no"


def ask_relation(objects, rng):
    """Asked only when one object qualifies and every other one clearly does not."""
    options = []
    for ref in objects:
        for relation, offset in RELATIONS.items():
            there = [o for o in objects if o is not ref and offset(o, ref) > LEVEL]
            if len(there) == 1 and holds(relation, there[0], ref):
                options.append((f"What is {relation} the {ref.name}?", article(there[0].name)))
    return pick(rng, options) if options else None


def ask_compare(objects, rng):
    """Half about equality, half about larger or smaller; yes as likely as no."""
    pairs = list(itertools.permutations(objects, 2))
    if rng.integers(0, 2):
        if not pairs:
            return None
        a, b = pick(rng, pairs)
        return (f"Are the {a.name} and the {b.name} the same size?",
                "yes" if a.size == b.size else "no")
    pairs = [(a, b) for a, b in pairs if a.size != b.size]
    if not pairs:
        return None
    a, b = pick(rng, pairs)
    word = pick(rng, ["larger", "smaller"])
    return (f"Is the {a.name} {word} than the {b.name}?",
            "yes" if (a.size == "large") == (word == "larger") else "no")


ASKERS = {"colour": ask_colour, "shape": ask_shape, "size": ask_size, "position": ask_position,
          "count": ask_count, "exist": ask_exist, "relation": ask_relation,
          "compare": ask_compare}


def questions(scene):
    """One question of each type that has a unique answer here: [(type, question, answer)]."""
    rng = np.random.default_rng(scene.truth)
    asked = [(kind, ask(scene.objects, rng)) for kind, ask in ASKERS.items()]
    return [(kind, *qa) for kind, qa in asked if qa]
