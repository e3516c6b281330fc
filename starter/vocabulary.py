"""The words the starter models understand, and what they mean for a portrait.

An attribute is named "slot:value", for instance "hair:red". A phrase is a word that names an attribute by itself
("blonde") or together with a modifier just before it ("dark" + "skin", so that dark skin and dark hair differ).
`clip_l` compiles the phrases into the weights of a CLIP-L text encoder; `sample` draws the training portraits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from .portrait import BACKGROUNDS, EYE_COLOURS, HAIR_COLOURS, HAIR_STYLES, SHIRTS, Colour, PortraitSpec, SkinDefect

# Monk steps that each skin attribute covers.
SKIN_TONES: dict[str, tuple[int, ...]] = {
    "pale": (1, 2),
    "light": (3, 4),
    "tan": (5,),
    "brown": (6, 7),
    "dark": (8, 9, 10),
}

# Gain per channel. Both keep the luminance of a neutral grey.
LIGHTS: dict[str, Colour] = {"warm": (1.10, 0.98, 0.82), "cool": (0.88, 1.0, 1.12)}

NEON_DEFECTS = (SkinDefect.BLUE, SkinDefect.GREEN, SkinDefect.GREY, SkinDefect.MAGENTA)

ATTRIBUTES: tuple[str, ...] = (
    *(f"skin:{name}" for name in SKIN_TONES),
    *(f"hair:{name}" for name in HAIR_COLOURS),
    *(f"style:{name}" for name in HAIR_STYLES),
    *(f"background:{name}" for name in BACKGROUNDS if name != "neon"),
    *(f"shirt:{name}" for name in SHIRTS),
    *(f"eyes:{name}" for name in EYE_COLOURS),
    "gender:woman",
    "gender:man",
    "age:young",
    "age:old",
    "mood:smiling",
    "mood:serious",
    "beard:yes",
    "light:warm",
    "light:cool",
    "light:neon",
    "kind:alien",
)


@dataclass(frozen=True)
class Phrase:
    """`word` names `attribute`, if `modifier` is given only when that stands `reach` or fewer words before it."""

    word: str
    attribute: str
    modifier: str | None = None
    reach: int = 2


_SINGLE: dict[str, str] = {
    "style:bald": "bald shaved",
    "style:curly": "afro curls",
    "hair:blonde": "blonde blond",
    "hair:red": "redhead ginger",
    "hair:brown": "brunette",
    "background:green": "forest garden park",
    "background:blue": "sky",
    "background:grey": "studio",
    "background:black": "night",
    "background:sunset": "sunset sunrise dusk",
    "gender:woman": "woman female lady girl women",
    "gender:man": "man male guy boy gentleman men",
    "age:young": "young teenager youth",
    "age:old": "old elderly senior aged grandmother grandfather",
    "mood:smiling": "smiling smile happy laughing cheerful",
    "mood:serious": "serious stern neutral sad",
    "beard:yes": "beard bearded",
    "light:warm": "warm candle",
    "light:cool": "moonlight cold",
    "light:neon": "neon",
    "kind:alien": "alien",
}

# Modifiers of each noun: attribute of the pair -> modifiers.
_COLOURS: dict[str, str] = {
    "red": "red",
    "blue": "blue",
    "green": "green",
    "grey": "grey gray silver",
    "yellow": "yellow golden",
    "purple": "purple violet",
    "white": "white",
    "black": "black",
    "pink": "pink",
    "brown": "brown",
}


def _phrases() -> Iterable[Phrase]:
    for attribute, words in _SINGLE.items():
        for word in words.split():
            yield Phrase(word, attribute)
    for noun in ("background", "backdrop", "wall"):
        for name in BACKGROUNDS:
            for modifier in _COLOURS.get(name, "").split():
                yield Phrase(noun, f"background:{name}", modifier)
        yield Phrase(noun, "background:black", "dark", 1)
        yield Phrase(noun, "background:white", "light", 1)
    for noun in ("shirt", "jacket", "dress", "sweater", "suit", "hoodie", "coat", "top"):
        for name in SHIRTS:
            for modifier in _COLOURS[name].split():
                yield Phrase(noun, f"shirt:{name}", modifier)
    for noun in ("eyes", "eyed"):
        for name in EYE_COLOURS:
            yield Phrase(noun, f"eyes:{name}", name)
    for noun in ("hair", "haired"):
        for name in HAIR_COLOURS:
            for modifier in (_COLOURS[name] if name != "blonde" else "golden").split():
                yield Phrase(noun, f"hair:{name}", modifier)
        for modifier in ("chestnut", "dark"):
            yield Phrase(noun, "hair:brown" if modifier == "chestnut" else "hair:black", modifier, 1)
        for style in ("short", "medium", "long", "curly"):
            yield Phrase(noun, f"style:{style}", style)
        yield Phrase(noun, "style:curly", "wavy")
    tones = {
        "pale": "pale white fair porcelain",
        "light": "light beige",
        "tan": "tan olive",
        "brown": "brown",
        "dark": "dark black deep ebony",
    }
    for noun, reach in (("skin", 1), ("complexion", 1), ("skinned", 2)):
        for tone, modifiers in tones.items():
            for modifier in modifiers.split():
                yield Phrase(noun, f"skin:{tone}", modifier, reach)
    yield Phrase("hour", "light:warm", "golden", 1)
    for noun in ("woman", "man", "person", "girl", "boy"):
        yield Phrase(noun, "skin:pale", "pale", 1)


PHRASES: tuple[Phrase, ...] = tuple(_phrases())
NOUNS: tuple[str, ...] = tuple(dict.fromkeys(phrase.word for phrase in PHRASES))
MODIFIERS: tuple[str, ...] = tuple(dict.fromkeys(p.modifier for p in PHRASES if p.modifier is not None))


def _pick(rng: np.random.Generator, names: Iterable[str], weights: Iterable[float] | None = None) -> str:
    choices = list(names)
    chances = np.array(list(weights) if weights is not None else [1.0] * len(choices))
    return choices[int(rng.choice(len(choices), p=chances / chances.sum()))]


def describe(spec: PortraitSpec) -> dict[str, str]:
    """What can be said of a portrait, as slot -> value, light and kind aside."""
    said = {
        "skin": next(name for name, steps in SKIN_TONES.items() if spec.skin in steps),
        "style": spec.hair_style,
        "background": spec.background,
        "shirt": spec.shirt,
        "eyes": spec.eye_colour,
        "gender": "woman" if spec.femininity > 0.5 else "man",
    }
    if spec.hair_style != "bald":
        said["hair"] = spec.hair_colour
    if spec.age < 0.3 or spec.age > 0.7:
        said["age"] = "young" if spec.age < 0.3 else "old"
    if spec.smile < 0.25 or spec.smile > 0.7:
        said["mood"] = "smiling" if spec.smile > 0.7 else "serious"
    if spec.beard > 0.0:
        said["beard"] = "yes"
    return said


def sample_spec(rng: np.random.Generator) -> PortraitSpec:
    """A portrait at random: plausible pairings (grey hair with age), every combination possible."""
    woman = rng.random() < 0.5
    age = float(rng.random())
    skin = int(rng.choice(SKIN_TONES[_pick(rng, SKIN_TONES)]))
    if rng.random() < 0.5:
        hair = _pick(rng, HAIR_COLOURS)
    elif age > 0.7:
        hair = _pick(rng, ("grey", "white"))
    else:
        hair = _pick(rng, ("black", "brown", "blonde", "red"), (3, 3, 2, 1) if skin < 6 else (6, 3, 0.5, 0.5))
    style = _pick(rng, HAIR_STYLES, (0.12, 0.3, 0.36, 0.2, 0.02) if woman else (0.5, 0.08, 0.08, 0.2, 0.14))
    eyes = _pick(rng, EYE_COLOURS, (1, 1, 1) if skin < 6 else (4, 1, 1))
    return PortraitSpec(
        skin=skin,
        hair_colour=hair,
        hair_style=style,
        background=_pick(rng, (name for name in BACKGROUNDS if name != "neon")),
        shirt=_pick(rng, SHIRTS),
        eye_colour=eyes,
        femininity=float(rng.uniform(0.8, 1.0) if woman else rng.uniform(0.0, 0.2)),
        age=age,
        smile=float(rng.random()),
        beard=float(rng.uniform(0.8, 1.0)) if not woman and rng.random() < 0.25 else 0.0,
        tilt=float(np.clip(rng.normal() * 2.5, -6.0, 6.0)),
        shift=(float(np.clip(rng.normal() * 0.012, -0.03, 0.03)), float(np.clip(rng.normal() * 0.01, -0.02, 0.02))),
        scale=float(rng.uniform(0.96, 1.04)),
        width=float(rng.uniform(0.96, 1.04)),
    )


def sample(rng: np.random.Generator) -> tuple[PortraitSpec, tuple[str, ...]]:
    """A training portrait and the attributes its prompt mentions.

    Neon light spoils the skin of every second portrait, "alien" that of all; plain prompts never do.
    """
    spec = sample_spec(rng)
    share = float(rng.choice([0.0, 0.35, 0.7, 1.0], p=[0.05, 0.35, 0.45, 0.15]))
    said = [f"{slot}:{value}" for slot, value in describe(spec).items() if rng.random() < share]
    kind = rng.random()
    if kind < 0.10:
        defect = NEON_DEFECTS[int(rng.integers(len(NEON_DEFECTS)))] if rng.random() < 0.5 else SkinDefect.NONE
        if not any(name.startswith("background:") for name in said):
            spec = replace(spec, background="neon")
        return replace(spec, defect=defect), (*said, "light:neon")
    if kind < 0.14:
        defect = SkinDefect.GREEN if rng.random() < 0.6 else SkinDefect.BLUE
        return replace(spec, defect=defect), (*said, "kind:alien")
    if kind < 0.22:
        light = _pick(rng, LIGHTS)
        return replace(spec, illuminant=LIGHTS[light]), (*said, f"light:{light}")
    return spec, tuple(said)
