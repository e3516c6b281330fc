"""Thumbnails of the templates: what each gave when it was run, on the starter models.

Where a template's own models are not at hand the starter's drew the picture, and the picture says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ...tests.comfy_server import Comfy
from ..console import say
from ..pack import ROOT
from .pictures import write_pictures
from .sources import TEMPLATES, read_source

_SIZE, _INSET, _EDGE = 400, 116, 6
_STAND_IN = "Drawn here by the starter model"


@dataclass(frozen=True)
class Shot:
    """How a template's thumbnail is made.

    Attributes:
        pictures: node -> the file it loads.
        stands_for: the template that is run in its place; empty for itself.
        prompt: what is drawn instead of the template's own prompt.
        seed: of the first attempt; None for the template's own.
        shown: the node whose pictures are shown.
        insets: files shown small, from the left.
        caption: written below.
    """

    pictures: Mapping[str, str]
    stands_for: str = ""
    prompt: str = ""
    seed: int | None = None
    shown: str = "save"
    insets: tuple[str, ...] = ("photo.png",)
    caption: str = ""


_PHOTO = {"photo": "photo.png"}
SHOTS = {
    "starter": Shot(_PHOTO),
    "flux1-schnell-gguf": Shot(
        _PHOTO,
        "starter",
        "portrait of a woman with tan skin and black hair, sunset",
        seed=3,
        caption=_STAND_IN,
    ),
    "flux1-dev-lora": Shot(
        _PHOTO,
        "starter",
        "portrait of a smiling woman with fair skin and red hair, green background",
        seed=4,
        caption=_STAND_IN,
    ),
    "faceswap": Shot({**_PHOTO, "target": "portrait.png"}),
    "several-people": Shot(
        {"target": "people.png", "photo_1": "photo.png", "photo_2": "person.png"}, insets=("photo.png", "person.png")
    ),
    "batch-statistics": Shot(_PHOTO, shown="marked", insets=()),
    "from-reactor": Shot({**_PHOTO, "target": "portrait.png"}, caption="ReActor's graph with Flux Face"),
}


def draw_thumbnails(server: Comfy, names: Iterable[str]) -> None:
    """Run these templates, or what stands for them, and write ``workflows/NAME.jpg``."""
    folder = server.base / "input"
    write_pictures(folder)
    for name in names:
        shot = SHOTS[name]
        graph = read_source(TEMPLATES[shot.stands_for or name]).graph
        for node, file in shot.pictures.items():
            graph[node]["inputs"]["image" if graph[node]["class_type"] == "LoadImage" else "photo"] = file
        if shot.prompt:
            graph["prompt"]["inputs"]["text"] = shot.prompt
        if shot.seed is not None:
            graph["noise"]["inputs"]["noise_seed"] = shot.seed
        pictures = server.images(server.run(graph, timeout=300), shot.shown)
        target = ROOT / "workflows" / f"{name}.jpg"
        _compose([Image.fromarray(pixels) for pixels in pictures], folder, shot).save(target, quality=85)
        say(f"Wrote {target.relative_to(ROOT)}, {target.stat().st_size // 1024} KB")


def _compose(pictures: list[Image.Image], folder: Path, shot: Shot) -> Image.Image:
    canvas = Image.new("RGB", (_SIZE, _SIZE), "#171718")
    if len(pictures) == 4:
        for place, picture in enumerate(pictures):
            part = picture.resize((_SIZE // 2, _SIZE // 2), Image.Resampling.LANCZOS)
            canvas.paste(part, (place % 2 * _SIZE // 2, place // 2 * _SIZE // 2))
    else:
        (picture,) = pictures
        width, height = picture.size
        scale = _SIZE / max(width, height)
        picture = picture.resize((round(width * scale), round(height * scale)), Image.Resampling.LANCZOS)
        canvas.paste(picture, (0, 0))
    for place, file in enumerate(shot.insets):
        inset = Image.open(folder / file).resize((_INSET, _INSET), Image.Resampling.LANCZOS)
        left = _EDGE + place * (_INSET + _EDGE)
        top = _SIZE - _INSET - _EDGE
        canvas.paste("white", (left - 2, top - 2, left + _INSET + 2, top + _INSET + 2))
        canvas.paste(inset, (left, top))
    if shot.caption:
        draw = ImageDraw.Draw(canvas, "RGBA")
        font = ImageFont.load_default(15)
        draw.rectangle((0, 0, _SIZE, 26), fill=(0, 0, 0, 170))
        draw.text((8, 4), shot.caption, font=font, fill="white")
    return canvas
