"""ComfyUI nodes of skin-tone QA."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import comfy.model_management
import torch
from comfy_api.latest import io, ui
from comfy_execution.graph_utils import ExecutionBlocker

from ..errors import UserInputError
from ..face.engines import FaceEngine, Placement, classic_engine
from ..face.swap import photo_identity
from ..face.types import FaceSet
from ..retry.copies import shows_itself
from ..sockets import Engine, Faces, Verdicts
from ..thumbnails import save_thumbnails
from .card import inspection_card, skin_card
from .measure import SkinMeasurement
from .mend import Aim, Towards, mend_images
from .overlay import draw_overlay
from .qa import Inspection, check_images, inspect_images, measure_photo
from .regions import face_mask
from .thresholds import PRESETS, thresholds_for
from .verdict import Verdict

CATEGORY = "Flux Face/quality"


def _engine_input() -> io.Input:
    return Engine.Input(
        "engine",
        optional=True,
        tooltip="Finds the faces where none are connected, and compares them with the photo. Left open, the classic "
        "engine does.",
    )


def _preset_input() -> io.Combo.Input:
    return io.Combo.Input(
        "preset",
        options=list(PRESETS),
        default="standard",
        tooltip="How much to forgive. Lenient rejects plain defects only; strict also rejects doubtful images.",
    )


class FluxFaceSkinToneQA(io.ComfyNode):
    """Judges the skin of every face and says why it rejects an image."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FluxFaceSkinToneQA",
            display_name="Check Skin Tone",
            category=CATEGORY,
            description="Measures the skin of every face (colour cast, exposure, agreement with neck and photo) and "
            "gives each image a verdict with named reasons. Fair to every skin tone: colours are judged relative to "
            "the eye whites, so warm or cool light over the whole picture is no defect.",
            search_aliases=[
                "qa",
                "skin",
                "quality",
                "colour cast",
                "complexion",
                "verdict",
                "color cast",
                "deepfake detection",
                "fake face",
                "skin color",
                "肤色检测",
                "换脸检测",
                "质检",
                "肌の色",
                "ディープフェイク検出",
                "品質チェック",
            ],
            has_intermediate_output=True,
            inputs=[
                io.Image.Input("images", tooltip="The images to judge."),
                Faces.Input(
                    "faces",
                    optional=True,
                    tooltip="The faces of these images, from Swap Face or Detect Faces. "
                    "Left open, the classic engine finds them.",
                ),
                io.Image.Input(
                    "photo",
                    optional=True,
                    tooltip="The user's photo. Presets that limit the difference to it need it.",
                ),
                _preset_input(),
                io.Int.Input(
                    "expected_faces", default=1, min=1, max=16, tooltip="An image with more or fewer faces fails."
                ),
                io.Float.Input(
                    "min_score",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip="Also reject images that score less. 0.5 is the edge of the limits.",
                ),
                io.Int.Input(
                    "min_face_size",
                    default=0,
                    min=0,
                    max=4096,
                    advanced=True,
                    tooltip="Least width and height of a face in pixels. 0 takes the preset's.",
                ),
                io.Float.Input(
                    "min_similarity",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="Also reject images whose largest face is less like the photo than this; 0 does not "
                    "compare. With the onnx engine 0.4 is usual for the same person. With the classic engine it tells "
                    "whether the photo's own pixels are there, which proves no identity.",
                ),
                _engine_input(),
                io.Boolean.Input(
                    "preview",
                    default=True,
                    optional=True,
                    advanced=True,
                    tooltip="Show a thumbnail of every image beside its verdict on this node. Over the API, left out "
                    "means off.",
                ),
            ],
            outputs=[
                io.Image.Output("images", tooltip="All images, unchanged."),
                Verdicts.Output("verdicts", tooltip="One verdict per image, for Retry Failed Images or the gate."),
                io.Float.Output("score", tooltip="The lowest score of the batch, 0 to 1."),
                io.String.Output("report", tooltip="The verdicts for people."),
                io.String.Output("report_json", tooltip="The verdicts with every measured value."),
                io.Image.Output("overlay", tooltip="The images with measured zones, swatches and reasons drawn in."),
                io.Image.Output("passed", tooltip="The images that passed; nothing runs behind it if none did."),
                io.Image.Output("failed", tooltip="The images that failed; nothing runs behind it if none did."),
                io.Mask.Output("mask", tooltip="White over the faces of failed images, for painting them again."),
            ],
        )

    @classmethod
    def execute(
        cls,
        images: torch.Tensor,
        faces: FaceSet | None = None,
        photo: torch.Tensor | None = None,
        preset: str = "standard",
        expected_faces: int = 1,
        min_score: float = 0.0,
        min_face_size: int = 0,
        min_similarity: float = 0.0,
        engine: FaceEngine | None = None,
        # A graph from elsewhere than the web page names what it wants, and no picture is written behind its back.
        preview: bool = False,
    ) -> io.NodeOutput:
        check_images(images)
        changes: dict[str, float | None] = {"min_score": min_score}
        if min_face_size:
            changes["min_face_size"] = float(min_face_size)
        if min_similarity:
            changes["min_similarity"] = min_similarity
        thresholds = thresholds_for(preset, **changes)
        chosen = engine or classic_engine()
        skin = None if photo is None else _photo_skin(photo, chosen)
        found = _find_faces(images, chosen) if faces is None else faces
        similarities = None
        if min_similarity:
            similarities = _similarities(images, found, photo, chosen)
        inspections = inspect_images(images, found, thresholds, expected_faces, skin, similarities)
        verdicts = tuple(inspection.verdict for inspection in inspections)
        overlay = torch.stack(
            [
                draw_overlay(image, seen.faces, seen.measurements, seen.verdict)
                for image, seen in zip(images, inspections, strict=True)
            ]
        )
        report = describe(verdicts)
        document = {
            "preset": preset,
            "faces": found.engine,
            "passed": sum(verdict.passed for verdict in verdicts),
            "items": [{"item": i, **verdict.to_json()} for i, verdict in enumerate(verdicts)],
        }
        return io.NodeOutput(
            images,
            verdicts,
            min(verdict.score for verdict in verdicts),
            report,
            json.dumps(document, allow_nan=False),
            overlay,
            _chosen(images, [verdict.passed for verdict in verdicts]),
            _chosen(images, [not verdict.passed for verdict in verdicts]),
            _failed_faces(images, inspections),
            ui={"text": [report], "flux_face_verdicts": [_shown(inspections, skin, images if preview else None)]}
            if shows_itself()
            else None,
        )


class FluxFaceMendSkin(io.ComfyNode):
    """Shifts the skin of a face towards the neck or the photo, within bounds."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FluxFaceMendSkin",
            display_name="Mend Skin Tone",
            category=CATEGORY,
            description="Mends what needs no new sampling: a face whose colour is off as a whole is shifted towards "
            "the neck or the photo, within a bound, and judged again. The shift is kept only where the verdict gets "
            "no worse. Pixels outside the faces stay exactly as they were.",
            search_aliases=[
                "skin tone",
                "colour correction",
                "color match",
                "fix skin",
                "neck mismatch",
                "skin color",
                "偏色",
                "肤色校正",
                "肌色補正",
            ],
            inputs=[
                io.Image.Input("images", tooltip="The images to mend."),
                Faces.Input("faces", optional=True, tooltip="Their faces. Left open, the engine finds them."),
                io.Image.Input("photo", optional=True, tooltip="The user's photo, as another aim than the neck."),
                io.Combo.Input(
                    "towards",
                    options=["auto", "neck", "photo"],
                    default="auto",
                    tooltip="Whose colour the face takes. auto: the neck's where it is seen, else the photo's.",
                ),
                io.Combo.Input(
                    "apply_to",
                    options=["failed", "all"],
                    default="failed",
                    tooltip="failed mends images that fail for their colour; all evens out every face.",
                ),
                io.Float.Input(
                    "strength", default=1.0, min=0.0, max=1.0, step=0.05, tooltip="Share of the difference to make up."
                ),
                io.Float.Input(
                    "max_shift",
                    default=20.0,
                    min=0.0,
                    max=60.0,
                    step=1.0,
                    advanced=True,
                    tooltip="The greatest shift in Lab units; 2 is just visible. A face that is further off keeps the "
                    "rest of its difference.",
                ),
                _preset_input(),
                _engine_input(),
            ],
            outputs=[
                io.Image.Output("images", tooltip="All images, mended where it helped."),
                Verdicts.Output("verdicts", tooltip="Their verdicts now."),
                io.String.Output(
                    "report", tooltip="JSON: per image what was done, and score and reasons before/after."
                ),
                io.Mask.Output("mask", tooltip="White over the faces that were changed."),
            ],
        )

    @classmethod
    def execute(
        cls,
        images: torch.Tensor,
        faces: FaceSet | None = None,
        photo: torch.Tensor | None = None,
        towards: Towards = "auto",
        apply_to: str = "failed",
        strength: float = 1.0,
        max_shift: float = 20.0,
        preset: str = "standard",
        engine: FaceEngine | None = None,
    ) -> io.NodeOutput:
        check_images(images)
        if towards == "photo" and photo is None:
            raise UserInputError("photo_missing", "photo", "there is none to shift towards", "Connect the user's photo")
        chosen = engine or classic_engine()
        thresholds = thresholds_for(preset)
        skin = None if photo is None else _photo_skin(photo, chosen)
        found = _find_faces(images, chosen) if faces is None else faces
        aim = Aim(towards, strength, max_shift, everyone=apply_to == "all")
        interrupted = comfy.model_management.throw_exception_if_processing_interrupted
        mended = mend_images(images, found, thresholds, aim, skin, interrupted)
        verdicts = tuple(item.verdict for item in mended)
        document = {
            "preset": preset,
            "faces": found.engine,
            "items": [{"item": i, **item.to_json()} for i, item in enumerate(mended)],
        }
        return io.NodeOutput(
            torch.stack([item.image for item in mended]),
            verdicts,
            json.dumps(document, allow_nan=False),
            torch.stack([item.mask for item in mended]),
            ui=ui.PreviewText(describe(verdicts)) if shows_itself() else None,
        )


class FluxFaceSkinGate(io.ComfyNode):
    """Lets a batch through only if every image passed."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FluxFaceSkinGate",
            display_name="Stop on Failed Images",
            category=CATEGORY,
            description="Passes the images on if all of them passed, else stops the run and names those that failed "
            "and why. Put it after Retry Failed Images where a bad image must never leave the graph.",
            search_aliases=[
                "gate",
                "strict",
                "assert",
                "qa",
                "quality gate",
                "stop on fail",
                "质量门",
                "停止",
                "品質ゲート",
            ],
            inputs=[
                io.Image.Input("images", tooltip="The judged images."),
                Verdicts.Input("verdicts", tooltip="Their verdicts."),
            ],
            outputs=[io.Image.Output("images", tooltip="The images, all of which passed.")],
        )

    @classmethod
    def execute(cls, images: torch.Tensor, verdicts: Sequence[Verdict]) -> io.NodeOutput:
        failed = [i for i, verdict in enumerate(verdicts) if not verdict.passed]
        if failed:
            raise UserInputError(
                "qa_failed",
                "images",
                f"{len(failed)} of {len(verdicts)} failed\n{describe(verdicts, failed)}\n",
                "Change the prompt or the seed, allow more attempts, or choose a more lenient preset",
            )
        return io.NodeOutput(images)


def _find_faces(images: torch.Tensor, engine: FaceEngine) -> FaceSet:
    check_interruption = comfy.model_management.throw_exception_if_processing_interrupted
    return engine.detect(_finite(images), check_interruption)


def _finite(images: torch.Tensor) -> torch.Tensor:
    return images[..., :3].nan_to_num().clamp(0.0, 1.0)


def _photo_skin(photo: torch.Tensor, engine: FaceEngine) -> SkinMeasurement:
    check_images(photo, "photo")
    return measure_photo(photo[:1], _find_faces(photo[:1], engine))


def _similarities(
    images: torch.Tensor, faces: FaceSet, photo: torch.Tensor | None, engine: FaceEngine
) -> list[float | None]:
    """Of each image's largest face to the photo's."""
    if photo is None:
        raise UserInputError(
            "photo_missing", "photo", "min_similarity needs one to compare with", "Connect the user's photo"
        )
    identity = photo_identity(engine, _finite(photo[:1]), "largest")
    placements = [Placement(index, found[0], identity) for index, found in enumerate(faces.faces) if found]
    alike = dict(zip((item.image for item in placements), engine.compare(_finite(images), placements), strict=True))
    return [alike.get(index) for index in range(len(images))]


def _shown(
    inspections: Sequence[Inspection], photo: SkinMeasurement | None, images: torch.Tensor | None
) -> dict[str, Any]:
    """What the web page shows on the node; with thumbnails where the images are given."""
    pictures = [None] * len(inspections) if images is None else save_thumbnails(images)
    return {
        "photo": None if photo is None else skin_card(photo),
        "items": [
            {**inspection_card(seen), "picture": picture} for seen, picture in zip(inspections, pictures, strict=True)
        ],
    }


def _chosen(images: torch.Tensor, wanted: Sequence[bool]) -> torch.Tensor | ExecutionBlocker:
    """Some images of a batch. An IMAGE cannot be empty: where none is wanted, what lies behind is not run."""
    if not any(wanted):
        return ExecutionBlocker(None)
    return images[torch.tensor(wanted, device=images.device)]


def _failed_faces(images: torch.Tensor, inspections: Sequence[Inspection]) -> torch.Tensor:
    height, width = images.shape[1:3]
    return torch.stack([face_mask(() if seen.verdict.passed else seen.faces, height, width) for seen in inspections])


def describe(verdicts: Sequence[Verdict], items: Sequence[int] | None = None) -> str:
    """One line per image, numbered from 1 as people count."""
    chosen = range(len(verdicts)) if items is None else items
    return "\n".join(_describe_one(i, verdicts[i]) for i in chosen)


def _describe_one(item: int, verdict: Verdict) -> str:
    state = "passed" if verdict.passed else "failed"
    reasons = "; ".join(reason.message for reason in verdict.reasons)
    return f"image {item + 1}: {state}, score {verdict.score:.2f}" + (f": {reasons}" if reasons else "")


NODES: tuple[type[io.ComfyNode], ...] = (FluxFaceSkinToneQA, FluxFaceMendSkin, FluxFaceSkinGate)
