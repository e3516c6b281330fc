"""ComfyUI nodes for how a swap is done: its options, and the masks that they make."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..sockets import Faces, SwapOptions
from .engines import ColourMethod, SwapSettings
from .frame_masks import frame_masks
from .mask_models import FACE_REGIONS
from .masks import MaskSettings, MaskShape
from .model_files import (
    NONE,
    Precision,
    Runtime,
    load_occluder,
    load_parser,
    load_restorer,
    occluder_files,
    parser_files,
    restorer_files,
)
from .progress import progress
from .runtime.session import Device
from .select import check_faces
from .swap import three_channels
from .types import FaceSet


class FluxFaceSwapOptions(io.ComfyNode):
    """Gathers what the swap can be tuned by."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        padding = [
            io.Float.Input(
                f"padding_{side}",
                default=0.0,
                min=0.0,
                max=0.9,
                step=0.01,
                advanced=True,
                tooltip=f"Share of the box that stays as it was at the {side}.",
            )
            for side in ("top", "right", "bottom", "left")
        ]
        return io.Schema(
            node_id="FluxFaceSwapOptions",
            display_name="Swap Options",
            category="Flux Face/face",
            description="Masks, resolution, restoration and colour of a swap with the onnx engine. Everything left as "
            "it is equals Swap Face without options.",
            search_aliases=[
                "face mask",
                "occlusion",
                "pixel boost",
                "gfpgan",
                "codeformer",
                "face restore",
                "xseg",
                "face boost",
                "face enhancer",
                "restore face",
                "reactor options",
                "人脸修复",
                "高清修复",
                "顔補正",
                "顔復元",
            ],
            inputs=[
                io.Boolean.Input(
                    "box", default=True, tooltip="Replace inside a soft square round the face. Off: no such limit."
                ),
                io.Boolean.Input(
                    "ellipse", default=False, tooltip="Replace only inside an oval, which keeps hair and background."
                ),
                io.Boolean.Input(
                    "outline",
                    default=False,
                    tooltip="Replace only inside the face's outline, from its contour or else its five landmarks.",
                ),
                io.Float.Input(
                    "softness",
                    default=0.15,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="How wide the masks fade out, as a share of the face's square. Raise it against edges.",
                ),
                *padding,
                io.Combo.Input(
                    "occluder",
                    options=[NONE, *occluder_files()],
                    default=NONE,
                    tooltip="Model that keeps hands, hair and glasses in front of the face, such as xseg_1.onnx.",
                ),
                io.Combo.Input(
                    "parser",
                    options=[NONE, *parser_files()],
                    default=NONE,
                    tooltip="Model that tells the parts of a face apart, such as bisenet_resnet_34.onnx.",
                ),
                io.String.Input(
                    "regions",
                    default="",
                    advanced=True,
                    tooltip="Parts to replace, such as skin, nose, mouth, with a parser. Empty for the whole face.",
                ),
                io.Int.Input(
                    "pixel_boost",
                    default=1,
                    min=1,
                    max=8,
                    tooltip="Draws the face this many times larger, in tiles: 4 makes 512 pixels of 128. Slower.",
                ),
                io.Combo.Input(
                    "restorer",
                    options=[NONE, *restorer_files()],
                    default=NONE,
                    tooltip="Model that sharpens the new face, such as gfpgan_1.4.onnx.",
                ),
                io.Float.Input(
                    "restore_strength",
                    default=0.8,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="How much of the restored face is taken. Lower it when the skin looks like plastic.",
                ),
                io.Combo.Input(
                    "colour_method",
                    options=["mean_std", "histogram"],
                    default="mean_std",
                    advanced=True,
                    tooltip="How colour_match of Swap Face works: by mean and spread, or by the whole histogram, which "
                    "follows uneven light more closely.",
                ),
                io.Combo.Input(
                    "runtime",
                    options=["auto", "onnxruntime", "torch"],
                    default="auto",
                    advanced=True,
                    tooltip="What runs the models chosen here, as in Load Face Engine.",
                ),
                io.Combo.Input(
                    "device",
                    options=["auto", "gpu", "cpu"],
                    default="auto",
                    advanced=True,
                    tooltip="Where they run, as in Load Face Engine.",
                ),
                io.Combo.Input(
                    "precision",
                    options=["float32", "float16"],
                    default="float32",
                    advanced=True,
                    tooltip="How precisely they run, as in Load Face Engine.",
                ),
            ],
            outputs=[SwapOptions.Output("options", tooltip="For Swap Face and Face Mask.")],
        )

    @classmethod
    def execute(
        cls,
        box: bool,
        ellipse: bool,
        outline: bool,
        softness: float,
        occluder: str,
        parser: str,
        pixel_boost: int,
        restorer: str,
        restore_strength: float,
        padding_top: float = 0.0,
        padding_right: float = 0.0,
        padding_bottom: float = 0.0,
        padding_left: float = 0.0,
        regions: str = "",
        colour_method: ColourMethod = "mean_std",
        runtime: Runtime = "auto",
        device: Device = "auto",
        precision: Precision = "float32",
    ) -> io.NodeOutput:
        wanted: dict[MaskShape, bool] = {"box": box, "ellipse": ellipse, "landmarks": outline}
        names = frozenset(filter(None, (name.strip() for name in regions.split(","))))
        mask = MaskSettings(
            softness=softness,
            shapes=tuple(shape for shape, chosen in wanted.items() if chosen),
            padding=(padding_top, padding_right, padding_bottom, padding_left),
            occluder=None if occluder == NONE else load_occluder(occluder, runtime, device, precision),
            parser=None if parser == NONE else load_parser(parser, runtime, device, precision),
            regions=names or FACE_REGIONS,
        )
        settings = SwapSettings(
            colour_method=colour_method,
            mask=mask,
            pixel_boost=pixel_boost,
            restorer=None if restorer == NONE else load_restorer(restorer, runtime, device, precision),
            restore_strength=restore_strength,
        )
        return io.NodeOutput(settings)


class FluxFaceFaceMask(io.ComfyNode):
    """Draws the masks of a swap in the images' own pixels."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FluxFaceFaceMask",
            display_name="Face Mask",
            category="Flux Face/face",
            description="A mask of the faces, made as Swap Face with the onnx engine makes its own, for inpainting and "
            "compositing.",
            search_aliases=[
                "inpaint face",
                "segment face",
                "face parsing",
                "mask",
                "face segmentation",
                "bisenet",
                "人脸分割",
                "脸部遮罩",
                "顔マスク",
            ],
            inputs=[
                io.Image.Input("images", tooltip="The images with the faces."),
                Faces.Input("faces", tooltip="The faces to mask, from Detect Faces or Select Faces."),
                SwapOptions.Input("options", optional=True, tooltip="Which masks, from Swap Options."),
            ],
            outputs=[io.Mask.Output("mask", tooltip="1 on the faces, 0 elsewhere, soft between; one per image.")],
        )

    @classmethod
    def execute(cls, images: torch.Tensor, faces: FaceSet, options: SwapSettings | None = None) -> io.NodeOutput:
        check_faces(images, faces)
        count = sum(len(found) for found in faces.faces)
        settings = (options or SwapSettings()).mask
        return io.NodeOutput(frame_masks(three_channels(images), faces, settings, progress(max(count, 1))))
