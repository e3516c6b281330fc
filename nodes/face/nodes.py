"""ComfyUI nodes that load face engines, and find and choose faces; and the list of all nodes of the face stage."""

from __future__ import annotations

import json
import math
from typing import Any, Literal

import torch
from comfy_api.latest import io, ui

from ..sockets import Engine, Faces, Identities
from .engines import FaceEngine, classic_engine
from .identity import Identity
from .identity_nodes import (
    FluxFaceCombineIdentities,
    FluxFaceFaceIdentity,
    FluxFaceLoadIdentity,
    FluxFaceSaveIdentity,
)
from .model_files import AUTOMATIC, Precision, Runtime, detector_files, load_engine, recogniser_files, swapper_files
from .option_nodes import FluxFaceFaceMask, FluxFaceSwapOptions
from .overlay import box_masks, draw_faces
from .picker import selection_view
from .picker_ui import FACES, saved, with_pictures
from .progress import progress
from .runtime.session import Device
from .select import ORDERS, Order, SelectionRule, check_faces, select_faces, standings
from .swap import three_channels
from .swap_nodes import FluxFaceFaceSimilarity, FluxFaceSwapFace
from .types import FaceSet, numbers_of


class FluxFaceLoadFaceEngine(io.ComfyNode):
    """Chooses what finds and swaps faces."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FluxFaceLoadFaceEngine",
            display_name="Load Face Engine",
            category="Flux Face/face",
            description="Chooses what finds and swaps faces. classic needs no model and has no licence limits; onnx "
            "runs the usual face-swap models, which you provide, through onnxruntime or PyTorch.",
            search_aliases=[
                "insightface",
                "inswapper",
                "reactor",
                "face analysis",
                "buffalo_l",
                "hyperswap",
                "antelopev2",
                "arcface",
                "face swap model",
                "load insightface",
                "换脸模型",
                "人脸引擎",
                "顔交換モデル",
            ],
            inputs=[
                io.Combo.Input(
                    "engine",
                    options=["auto", "classic", "onnx"],
                    default="auto",
                    tooltip="auto takes onnx if all three models are there, else classic; the report says which.",
                ),
                io.Combo.Input(
                    "device",
                    options=["auto", "gpu", "cpu"],
                    default="auto",
                    advanced=True,
                    tooltip="Where the onnx engine runs. gpu is an error if it cannot be used; auto then says in the "
                    "report that it runs on the CPU.",
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
                    tooltip="Model that draws the face, e.g. inswapper_128.onnx, in models/insightface. Mind its "
                    "licence: most released weights are for non-commercial use.",
                ),
                io.Combo.Input(
                    "runtime",
                    options=["auto", "onnxruntime", "torch"],
                    default="auto",
                    optional=True,
                    advanced=True,
                    tooltip="What runs the models: the package onnxruntime, or PyTorch, which ComfyUI always has. The "
                    "report says which auto chose.",
                ),
                io.Combo.Input(
                    "precision",
                    options=["float32", "float16"],
                    default="float32",
                    optional=True,
                    advanced=True,
                    tooltip="What torch computes in on a GPU; float16 halves the memory and is faster. onnxruntime "
                    "keeps the file's own.",
                ),
                io.Boolean.Input(
                    "attributes",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Also read sex and age, for Select Faces, with genderage.onnx in models/insightface; and "
                    "the contour, for Swap Options, where 2d106det.onnx is there.",
                ),
            ],
            outputs=[
                Engine.Output("engine", tooltip="For all nodes that find, compare or swap faces."),
                io.String.Output("report", tooltip="Which engine was chosen, where it runs, and why."),
            ],
        )

    @classmethod
    def execute(
        cls,
        engine: Literal["auto", "classic", "onnx"],
        device: Device,
        detector: str,
        recogniser: str,
        swapper: str,
        runtime: Runtime = "auto",
        precision: Precision = "float32",
        attributes: bool = False,
    ) -> io.NodeOutput:
        loaded, report = load_engine(engine, runtime, device, precision, detector, recogniser, swapper, attributes)
        return io.NodeOutput(loaded, report)


class FluxFaceDetectFaces(io.ComfyNode):
    """Finds the faces of a batch of images."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FluxFaceDetectFaces",
            display_name="Detect Faces",
            category="Flux Face/face",
            description="Finds faces and their landmarks, the largest first, and draws numbered boxes.",
            search_aliases=[
                "face detection",
                "bounding box",
                "landmarks",
                "analyze faces",
                "face detector",
                "face recognition",
                "scrfd",
                "retinaface",
                "人脸检测",
                "人脸识别",
                "顔検出",
                "顔認識",
            ],
            has_intermediate_output=True,
            inputs=[
                io.Image.Input("images", tooltip="The images to search."),
                Engine.Input("engine", optional=True, tooltip="Left open, the classic engine searches."),
            ],
            outputs=[
                Faces.Output("faces", tooltip="The faces of every image, the largest first."),
                io.Image.Output("overlay", tooltip="The images with numbered boxes, scores and landmarks."),
                io.Mask.Output("mask", tooltip="White inside every face's box."),
                io.Int.Output("count", tooltip="How many faces there are in all images together."),
                io.BoundingBox.Output("boxes", tooltip="The boxes, per image, for ComfyUI's own nodes."),
            ],
        )

    @classmethod
    def execute(cls, images: torch.Tensor, engine: FaceEngine | None = None) -> io.NodeOutput:
        images = three_channels(images)
        faces = (engine or classic_engine()).detect(images, progress(len(images)))
        overlay = draw_faces(images, faces)
        preview = ui.PreviewImage(overlay, cls=cls)
        return io.NodeOutput(faces, overlay, box_masks(faces), _count(faces), _boxes(faces), ui=preview)


class FluxFaceSelectFaces(io.ComfyNode):
    """Keeps some of the faces that were found."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FluxFaceSelectFaces",
            display_name="Select Faces",
            category="Flux Face/face",
            description="Keeps the faces that meet every rule, in the order you choose: by number, place, size, score, "
            "age, sex, or likeness to a person.",
            search_aliases=[
                "filter faces",
                "face index",
                "gender",
                "age",
                "faces order",
                "reference face",
                "face picker",
                "choose face",
                "which face",
                "多人",
                "挑选人脸",
                "顔選択",
            ],
            has_intermediate_output=True,
            inputs=[
                Faces.Input("faces", tooltip="The faces, from Detect Faces."),
                io.Image.Input(
                    "images", optional=True, tooltip="The images they are in, to click on the faces on this node."
                ),
                Identities.Input(
                    "identity",
                    optional=True,
                    tooltip="Keep only faces like this person, or like one of a group. Needs the onnx engine.",
                ),
                io.String.Input(
                    "numbers",
                    default="",
                    tooltip="The numbers that Detect Faces draws, such as 1,3-4. Empty for all, none for none. A list "
                    "for each image: 1,3; 2; none. Clicking on faces below writes it.",
                ),
                io.Combo.Input(
                    "order",
                    options=list(ORDERS),
                    default="largest",
                    tooltip="Which face comes first; at_most counts in this order, and so does Swap Face with several "
                    "people.",
                ),
                io.Int.Input("at_most", default=0, min=0, max=64, tooltip="Faces to keep in each image. 0 for all."),
                io.Combo.Input(
                    "sex",
                    options=["any", "female", "male"],
                    default="any",
                    advanced=True,
                    tooltip="As the attribute model reads it. Needs attributes in Load Face Engine.",
                ),
                io.Int.Input(
                    "min_age",
                    default=0,
                    min=0,
                    max=120,
                    advanced=True,
                    tooltip="Least age in years. Needs attributes in Load Face Engine.",
                ),
                io.Int.Input(
                    "max_age",
                    default=0,
                    min=0,
                    max=120,
                    advanced=True,
                    tooltip="Greatest age in years; 0 for no limit. Needs attributes in Load Face Engine.",
                ),
                io.Int.Input(
                    "min_size",
                    default=0,
                    min=0,
                    max=8192,
                    advanced=True,
                    tooltip="Least width and height of a face in pixels.",
                ),
                io.Float.Input(
                    "min_share",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip="Least width and height of a face as a share of the image's shorter side.",
                ),
                io.Float.Input(
                    "min_score",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip="Least score of the detector.",
                ),
                io.Float.Input(
                    "min_similarity",
                    default=0.4,
                    min=-1.0,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip="Least likeness to identity, -1 to 1. Raise it when strangers are kept.",
                ),
            ],
            outputs=[
                Faces.Output("faces", tooltip="The chosen faces, for Swap Face and Face Mask."),
                io.Mask.Output("mask", tooltip="White inside the chosen faces' boxes."),
                io.BoundingBox.Output("boxes", tooltip="The boxes, per image, for ComfyUI's own nodes."),
                io.Int.Output("count", tooltip="How many faces were chosen in all images together."),
                io.String.Output("report", tooltip="JSON: per image how many faces there are, and the chosen numbers."),
            ],
        )

    @classmethod
    def execute(
        cls,
        faces: FaceSet,
        numbers: str,
        order: Order,
        at_most: int,
        sex: Literal["any", "female", "male"] = "any",
        min_age: int = 0,
        max_age: int = 0,
        min_size: int = 0,
        min_share: float = 0.0,
        min_score: float = 0.0,
        min_similarity: float = 0.4,
        images: torch.Tensor | None = None,
        identity: tuple[Identity, ...] = (),
    ) -> io.NodeOutput:
        rule = SelectionRule(
            numbers=numbers,
            sex=None if sex == "any" else sex,
            min_age=min_age,
            max_age=max_age or math.inf,
            min_size=min_size,
            min_share=min_share,
            min_score=min_score,
            people=identity,
            min_similarity=min_similarity,
            order=order,
            at_most=at_most,
        )
        chosen = select_faces(faces, rule)
        report = [
            {"faces": len(found), "chosen": numbers_of(kept)}
            for found, kept in zip(faces.faces, chosen.faces, strict=True)
        ]
        pictures = None
        if images is not None:
            check_faces(images, faces)
            pictures = saved(three_channels(images), cls)
        views = selection_view(faces, chosen, standings(faces, chosen, rule), identity)
        return io.NodeOutput(
            chosen,
            box_masks(chosen),
            _boxes(chosen),
            _count(chosen),
            json.dumps({"images": report}),
            ui={FACES: with_pictures(views, pictures)},
        )


def _count(faces: FaceSet) -> int:
    return sum(len(found) for found in faces.faces)


def _boxes(faces: FaceSet) -> list[list[dict[str, Any]]]:
    """The boxes as core's detectors give them: per image a list of BOUNDING_BOX values with label and score."""
    return [
        [
            {
                "x": float(face.box[0]),
                "y": float(face.box[1]),
                "width": float(face.width),
                "height": float(face.height),
                "label": "face",
                "score": float(face.score),
            }
            for face in found
        ]
        for found in faces.faces
    ]


NODES: tuple[type[io.ComfyNode], ...] = (
    FluxFaceLoadFaceEngine,
    FluxFaceDetectFaces,
    FluxFaceSelectFaces,
    FluxFaceFaceIdentity,
    FluxFaceCombineIdentities,
    FluxFaceSaveIdentity,
    FluxFaceLoadIdentity,
    FluxFaceSwapOptions,
    FluxFaceSwapFace,
    FluxFaceFaceMask,
    FluxFaceFaceSimilarity,
)
