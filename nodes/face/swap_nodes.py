"""ComfyUI nodes that put people into images, and tell how alike they are."""

from __future__ import annotations

import json
from dataclasses import replace

import comfy.model_management
import torch
from comfy_api.latest import io

from ..errors import UserInputError
from ..retry.copies import shows_itself
from ..sockets import Engine, Faces, Identities, SwapOptions
from .assign import Assignment, parse_by_hand
from .engines import FaceEngine, Placement, SwapSettings, classic_engine
from .identity import Identity
from .picker import swap_view
from .picker_ui import FACES, PEOPLE, people_view, saved, with_pictures
from .progress import progress
from .swap import SeveralFaces, Target, photo_identity, swap_faces, three_channels
from .types import FaceSet


class FluxFaceSwapFace(io.ComfyNode):
    """Puts a person's face into images."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FluxFaceSwapFace",
            display_name="Swap Face",
            category="Flux Face/face",
            description="Puts the face of a photo or an identity on the faces of the images. Outside the swapped faces "
            "every pixel stays exactly as it was. An image without a face passes through unchanged, and the report "
            "says so.",
            search_aliases=[
                "faceswap",
                "face swap",
                "reactor",
                "roop",
                "inswapper",
                "deepfake",
                "deep fake",
                "facefusion",
                "replace face",
                "换脸",
                "ai换脸",
                "人脸替换",
                "顔交換",
                "顔入れ替え",
                "フェイススワップ",
                "ディープフェイク",
            ],
            has_intermediate_output=True,
            inputs=[
                io.Image.Input("images", tooltip="The images whose faces are replaced."),
                io.Image.Input(
                    "photo",
                    optional=True,
                    tooltip="A photo that shows the face to put in; only the first is used. Leave it open when you "
                    "connect identity.",
                ),
                Engine.Input("engine", optional=True, tooltip="Left open, the classic engine swaps: no model needed."),
                io.Combo.Input(
                    "target",
                    options=["largest", "all"],
                    default="largest",
                    tooltip="Replace the largest face of each image, or all of them. Has no effect when faces is "
                    "connected.",
                ),
                io.Float.Input(
                    "colour_match",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="1 gives the new face the skin colour of the one it replaces; 0 keeps the photo's "
                    "colours. Lower it when the face looks too pale or too dark.",
                ),
                io.Float.Input(
                    "blend",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    advanced=True,
                    tooltip="Opacity of the new face. Lower it to let the old face show through.",
                ),
                io.Combo.Input(
                    "several_faces_in_photo",
                    options=["error", "largest"],
                    default="error",
                    advanced=True,
                    tooltip="What to do when the photo shows several people: stop and say so, or take the largest.",
                ),
                Identities.Input(
                    "identity",
                    optional=True,
                    tooltip="Who is put in, instead of photo: from Face Identity, Load Face Identity or Group "
                    "Identities.",
                ),
                Faces.Input(
                    "faces",
                    optional=True,
                    tooltip="The faces to replace, all of them, from Select Faces. Left open, target decides.",
                ),
                SwapOptions.Input("options", optional=True, tooltip="Masks, resolution, restoration, colour method."),
                io.Combo.Input(
                    "assignment",
                    options=["first", "order", "similarity"],
                    default="first",
                    optional=True,
                    advanced=True,
                    tooltip="Who goes where when identity is a group: the first person everywhere; one after the other "
                    "in the order of the faces; or each face the person it is most like.",
                ),
                io.Float.Input(
                    "lowest_similarity",
                    default=-1.0,
                    min=-1.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    advanced=True,
                    tooltip="With assignment similarity, a face less like everybody than this stays as it is.",
                ),
                io.Boolean.Input(
                    "preview",
                    default=True,
                    optional=True,
                    advanced=True,
                    tooltip="Show every image before and after on this node. Over the API, left out means off.",
                ),
                io.String.Input(
                    "by_hand",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="Who goes on which face, instead of target and assignment: 1:2, 3:Anna puts the second "
                    "person on face 1 and Anna on face 3; none for nobody. A list for each image: 1:1; 2:1. Clicking "
                    "on faces below writes it.",
                ),
            ],
            outputs=[
                io.Image.Output("images", tooltip="The images with the new faces."),
                Faces.Output("faces", tooltip="The faces of these images, the largest first."),
                io.Mask.Output("mask", tooltip="How much each pixel was changed."),
                io.String.Output(
                    "report", tooltip="JSON: engine, provider, and per image the faces, similarity and time."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        images: torch.Tensor,
        target: Target,
        colour_match: float,
        blend: float,
        several_faces_in_photo: SeveralFaces,
        photo: torch.Tensor | None = None,
        engine: FaceEngine | None = None,
        identity: tuple[Identity, ...] | None = None,
        faces: FaceSet | None = None,
        options: SwapSettings | None = None,
        assignment: Assignment = "first",
        lowest_similarity: float = -1.0,
        # A graph from elsewhere than the web page names what it wants, and no picture is written behind its back.
        preview: bool = False,
        by_hand: str = "",
    ) -> io.NodeOutput:
        chosen = engine or classic_engine()
        comfy.model_management.throw_exception_if_processing_interrupted()
        people = _people(chosen, photo, identity, several_faces_in_photo)
        result = swap_faces(
            chosen,
            images,
            people,
            faces=faces,
            target=target,
            assignment=assignment,
            lowest_similarity=lowest_similarity,
            by_hand=parse_by_hand(by_hand, people, len(images)),
            settings=replace(options or SwapSettings(), colour_match=colour_match, blend=blend),
            # One step for an image's detection and one for its usual single face.
            on_progress=progress(2 * len(images)),
        )
        shown = None
        if preview and shows_itself():
            both = torch.stack([three_channels(images.float().cpu()), three_channels(result.images)], dim=1)
            pictures = saved(both.flatten(0, 1), cls)
            faces_shown = with_pictures(swap_view(result.faces, result.report), pictures[::2])
            shown = {"images": pictures, FACES: faces_shown, PEOPLE: people_view(people, cls)}
        return io.NodeOutput(result.images, result.faces, result.mask, json.dumps(result.to_json()), ui=shown)


class FluxFaceFaceSimilarity(io.ComfyNode):
    """Compares the largest faces of two images."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FluxFaceFaceSimilarity",
            display_name="Face Similarity",
            category="Flux Face/face",
            description="How alike the largest face of each image and a person are. With the onnx engine the cosine of "
            "their embeddings; with the classic engine the correlation of the aligned pixels, which tells the same "
            "photograph from another but is no proof of identity.",
            search_aliases=[
                "face distance",
                "compare faces",
                "cosine",
                "face analysis",
                "face verification",
                "same person",
                "arcface",
                "人脸比对",
                "相似度",
                "顔照合",
                "類似度",
            ],
            inputs=[
                io.Image.Input("images", tooltip="The images to compare."),
                io.Image.Input(
                    "photo",
                    optional=True,
                    tooltip="The photo to compare with; only the first is used. Leave it open when you connect "
                    "identity.",
                ),
                Engine.Input("engine", optional=True, tooltip="Left open, the classic engine compares."),
                Identities.Input(
                    "identity",
                    optional=True,
                    tooltip="The person to compare with, instead of photo; of a group, the one most alike counts.",
                ),
            ],
            outputs=[
                io.Float.Output("lowest", tooltip="The batch's lowest similarity; -1 for an image without a face."),
                io.String.Output("report", tooltip="JSON: the engine, and the similarity of each image."),
            ],
        )

    @classmethod
    def execute(
        cls,
        images: torch.Tensor,
        photo: torch.Tensor | None = None,
        engine: FaceEngine | None = None,
        identity: tuple[Identity, ...] | None = None,
    ) -> io.NodeOutput:
        chosen = engine or classic_engine()
        images = three_channels(images)
        people = _people(chosen, photo, identity, "largest")
        found = chosen.detect(images, progress(len(images)))
        placements = [
            Placement(index, faces[0], person) for index, faces in enumerate(found.faces) if faces for person in people
        ]
        alike: dict[int, float] = {}
        for item, value in zip(placements, chosen.compare(images, placements), strict=True):
            alike[item.image] = max(value, alike.get(item.image, -1.0))
        values = [round(alike[index], 4) if index in alike else None for index in range(len(images))]
        report = json.dumps({"engine": chosen.name, "provider": chosen.provider, "similarity": values})
        return io.NodeOutput(min(-1.0 if value is None else value for value in values), report)


def _people(
    engine: FaceEngine,
    photo: torch.Tensor | None,
    identity: tuple[Identity, ...] | None,
    several: SeveralFaces,
) -> tuple[Identity, ...]:
    """Who is meant: the identity, or the person in the photo."""
    if photo is not None and identity is None:
        return (photo_identity(engine, photo, several),)
    if identity is not None and photo is None:
        return identity
    problem = "neither photo nor identity is connected" if photo is None else "both photo and identity are connected"
    raise UserInputError("photo_or_identity", "photo", problem, "Connect exactly one of them")
