"""ComfyUI nodes of skin-tone QA."""

from __future__ import annotations

import json
from collections.abc import Sequence

import comfy.model_management
import torch
from comfy_api.latest import io, ui

from ..errors import UserInputError
from ..face.engines import classic_engine
from ..face.types import FaceSet
from ..sockets import Faces, Verdicts
from .overlay import draw_overlay
from .qa import check_images, inspect_images, measure_photo
from .thresholds import PRESETS, thresholds_for
from .verdict import Verdict

CATEGORY = "Flux Face/quality"


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
            search_aliases=["qa", "skin", "quality", "colour cast", "complexion", "verdict"],
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
                io.Combo.Input(
                    "preset",
                    options=list(PRESETS),
                    default="standard",
                    tooltip="How much to forgive. Lenient rejects plain defects only; strict also rejects "
                    "doubtful images.",
                ),
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
            ],
            outputs=[
                io.Image.Output("images", tooltip="All images, unchanged."),
                Verdicts.Output("verdicts", tooltip="One verdict per image, for Retry Failed Images or the gate."),
                io.Float.Output("score", tooltip="The lowest score of the batch, 0 to 1."),
                io.String.Output("report", tooltip="The verdicts for people."),
                io.String.Output("report_json", tooltip="The verdicts with every measured value."),
                io.Image.Output("overlay", tooltip="The images with measured zones, swatches and reasons drawn in."),
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
    ) -> io.NodeOutput:
        check_images(images)
        changes = {"min_face_size": float(min_face_size)} if min_face_size else {}
        thresholds = thresholds_for(preset, min_score=min_score, **changes)
        skin = None
        if photo is not None:
            check_images(photo, "photo")
            skin = measure_photo(photo[:1], _find_faces(photo[:1]))
        found = _find_faces(images) if faces is None else faces
        inspections = inspect_images(images, found, thresholds, expected_faces, skin)
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
            ui=ui.PreviewText(report),
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
            search_aliases=["gate", "strict", "assert", "qa"],
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


def _find_faces(images: torch.Tensor) -> FaceSet:
    check_interruption = comfy.model_management.throw_exception_if_processing_interrupted
    return classic_engine().detect(images[..., :3].nan_to_num().clamp(0.0, 1.0), check_interruption)


def describe(verdicts: Sequence[Verdict], items: Sequence[int] | None = None) -> str:
    """One line per image, numbered from 1 as people count."""
    chosen = range(len(verdicts)) if items is None else items
    return "\n".join(_describe_one(i, verdicts[i]) for i in chosen)


def _describe_one(item: int, verdict: Verdict) -> str:
    state = "passed" if verdict.passed else "failed"
    reasons = "; ".join(reason.message for reason in verdict.reasons)
    return f"image {item + 1}: {state}, score {verdict.score:.2f}" + (f": {reasons}" if reasons else "")


NODES: tuple[type[io.ComfyNode], ...] = (FluxFaceSkinToneQA, FluxFaceSkinGate)
