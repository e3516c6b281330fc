"""ComfyUI nodes of the face stage.

FLUXFACE_ENGINE: ``nodes.face.engines.FaceEngine``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Literal

import comfy.model_management
import comfy.utils
import torch
from comfy_api.latest import io, ui

from ..sockets import Faces
from .engines import FaceEngine, Placement, SwapSettings, classic_engine
from .model_files import AUTOMATIC, detector_files, load_onnx_engine, recogniser_files, swapper_files
from .overlay import box_masks, draw_faces
from .swap import SeveralFaces, Target, photo_identity, swap_faces, three_channels

CATEGORY = "Flux Face/face"

Engine = io.Custom("FLUXFACE_ENGINE")


def _progress(total: int) -> Callable[[], None]:
    """Moves the node's progress bar one step and stops where the user has cancelled."""
    bar = comfy.utils.ProgressBar(total)

    def step() -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update(1)

    return step


class FluxFaceLoadFaceEngine(io.ComfyNode):
    """Chooses what finds and swaps faces."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FluxFaceLoadFaceEngine",
            display_name="Load Face Engine",
            category=CATEGORY,
            description="Chooses what finds and swaps faces. classic needs no model and has no licence limits; onnx "
            "runs SCRFD, ArcFace and inswapper models through onnxruntime.",
            search_aliases=["insightface", "inswapper", "reactor", "face analysis", "buffalo_l"],
            inputs=[
                io.Combo.Input(
                    "engine",
                    options=["auto", "classic", "onnx"],
                    default="auto",
                    tooltip="auto takes onnx if onnxruntime and all three models are there, else classic; the report "
                    "says which.",
                ),
                io.Combo.Input(
                    "device",
                    options=["auto", "gpu", "cpu"],
                    default="auto",
                    advanced=True,
                    tooltip="Where the onnx engine runs. gpu is an error if onnxruntime cannot use it; auto then says "
                    "in the report that it runs on the CPU.",
                ),
                io.Combo.Input(
                    "detector",
                    options=[AUTOMATIC, *detector_files()],
                    default=AUTOMATIC,
                    advanced=True,
                    tooltip="SCRFD model, e.g. det_10g.onnx, in models/insightface.",
                ),
                io.Combo.Input(
                    "recogniser",
                    options=[AUTOMATIC, *recogniser_files()],
                    default=AUTOMATIC,
                    advanced=True,
                    tooltip="ArcFace model, e.g. w600k_r50.onnx, in models/insightface.",
                ),
                io.Combo.Input(
                    "swapper",
                    options=[AUTOMATIC, *swapper_files()],
                    default=AUTOMATIC,
                    advanced=True,
                    tooltip="inswapper model, e.g. inswapper_128.onnx, in models/insightface. Mind its licence: the "
                    "released weights are for non-commercial use.",
                ),
            ],
            outputs=[
                Engine.Output("engine", tooltip="For Swap Face and Detect Faces."),
                io.String.Output("report", tooltip="Which engine was chosen, where it runs, and why."),
            ],
        )

    @classmethod
    def execute(
        cls,
        engine: Literal["auto", "classic", "onnx"],
        device: Literal["auto", "gpu", "cpu"],
        detector: str,
        recogniser: str,
        swapper: str,
    ) -> io.NodeOutput:
        if engine == "classic":
            return io.NodeOutput(classic_engine(), "classic: chosen")
        loaded, report = load_onnx_engine(device, detector, recogniser, swapper, required=engine == "onnx")
        return io.NodeOutput(loaded or classic_engine(), report)


class FluxFaceDetectFaces(io.ComfyNode):
    """Finds the faces of a batch of images."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FluxFaceDetectFaces",
            display_name="Detect Faces",
            category=CATEGORY,
            description="Finds faces and their landmarks, the largest first, and draws numbered boxes.",
            search_aliases=["face detection", "bounding box", "landmarks", "analyze faces"],
            inputs=[
                io.Image.Input("images", tooltip="The images to search."),
                Engine.Input("engine", optional=True, tooltip="Left open, the classic engine searches."),
            ],
            outputs=[
                Faces.Output("faces", tooltip="The faces of every image, the largest first."),
                io.Image.Output("overlay", tooltip="The images with numbered boxes, scores and landmarks."),
                io.Mask.Output("mask", tooltip="White inside every face's box."),
                io.Int.Output("count", tooltip="How many faces there are in all images together."),
            ],
        )

    @classmethod
    def execute(cls, images: torch.Tensor, engine: FaceEngine | None = None) -> io.NodeOutput:
        images = three_channels(images)
        faces = (engine or classic_engine()).detect(images, _progress(len(images)))
        overlay = draw_faces(images, faces)
        count = sum(len(found) for found in faces.faces)
        return io.NodeOutput(faces, overlay, box_masks(faces), count, ui=ui.PreviewImage(overlay, cls=cls))


class FluxFaceSwapFace(io.ComfyNode):
    """Puts the face of a photo into images."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FluxFaceSwapFace",
            display_name="Swap Face",
            category=CATEGORY,
            description="Puts the face of a photo on the faces of the images. Outside the swapped faces every pixel "
            "stays exactly as it was. An image without a face passes through unchanged, and the report says so.",
            search_aliases=["faceswap", "face swap", "reactor", "roop", "inswapper", "deepfake"],
            inputs=[
                io.Image.Input("images", tooltip="The images whose faces are replaced."),
                io.Image.Input("photo", tooltip="A photo that shows the face to put in; only the first is used."),
                Engine.Input("engine", optional=True, tooltip="Left open, the classic engine swaps: no model needed."),
                io.Combo.Input(
                    "target",
                    options=["largest", "all"],
                    default="largest",
                    tooltip="Replace the largest face of each image, or all of them.",
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
        photo: torch.Tensor,
        target: Target,
        colour_match: float,
        blend: float,
        several_faces_in_photo: SeveralFaces,
        engine: FaceEngine | None = None,
    ) -> io.NodeOutput:
        chosen = engine or classic_engine()
        comfy.model_management.throw_exception_if_processing_interrupted()
        identity = photo_identity(chosen, photo, several_faces_in_photo)
        # One step for an image's detection and one for its usual single face.
        result = swap_faces(
            chosen,
            images,
            identity,
            target,
            SwapSettings(colour_match=colour_match, blend=blend),
            _progress(2 * len(images)),
        )
        return io.NodeOutput(result.images, result.faces, result.mask, json.dumps(result.to_json()))


class FluxFaceFaceSimilarity(io.ComfyNode):
    """Compares the largest faces of two images."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FluxFaceFaceSimilarity",
            display_name="Face Similarity",
            category=CATEGORY,
            description="How alike the largest face of each image and the largest face of a photo are. With the onnx "
            "engine the cosine of their embeddings; with the classic engine the correlation of the aligned pixels, "
            "which tells the same photograph from another but is no proof of identity.",
            search_aliases=["face distance", "compare faces", "cosine", "face analysis"],
            inputs=[
                io.Image.Input("images", tooltip="The images to compare."),
                io.Image.Input("photo", tooltip="The photo to compare with; only the first is used."),
                Engine.Input("engine", optional=True, tooltip="Left open, the classic engine compares."),
            ],
            outputs=[
                io.Float.Output("lowest", tooltip="The batch's lowest similarity; -1 for an image without a face."),
                io.String.Output("report", tooltip="JSON: the engine, and the similarity of each image."),
            ],
        )

    @classmethod
    def execute(cls, images: torch.Tensor, photo: torch.Tensor, engine: FaceEngine | None = None) -> io.NodeOutput:
        chosen = engine or classic_engine()
        images = three_channels(images)
        identity = photo_identity(chosen, photo, "largest")
        found = chosen.detect(images, _progress(len(images)))
        placements = [Placement(index, faces[0], identity) for index, faces in enumerate(found.faces) if faces]
        alike = dict(zip((item.image for item in placements), chosen.compare(images, placements), strict=True))
        values = [round(alike[index], 4) if index in alike else None for index in range(len(images))]
        report = json.dumps({"engine": chosen.name, "provider": chosen.provider, "similarity": values})
        return io.NodeOutput(min(-1.0 if value is None else value for value in values), report)


NODES: tuple[type[io.ComfyNode], ...] = (
    FluxFaceLoadFaceEngine,
    FluxFaceDetectFaces,
    FluxFaceSwapFace,
    FluxFaceFaceSimilarity,
)
