"""How a request enters and leaves the graph: the photo in, the pictures out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import folder_paths
import torch
from comfy_api.latest import io, ui

from ..errors import UserInputError
from ..sockets import Verdicts
from .handoff import HANDOFF, JobResult, parse_photo_reference
from .photo import PhotoLimits, decode_photo, decode_with_mask

if TYPE_CHECKING:
    from ..skin.verdict import Verdict

# For files that somebody put into the input folder; the HTTP API has checked a request's photo against its own limits.
_FILE_LIMITS = PhotoLimits(max_bytes=200_000_000, max_pixels=100_000_000)


class FluxFaceLoadPhoto(io.ComfyNode):
    """Loads the photo whose face is to be swapped in."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        folder = Path(folder_paths.get_input_directory())
        files = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
        return io.Schema(
            node_id="FluxFaceLoadPhoto",
            display_name="Load Face Photo",
            category="Flux Face/job",
            description="Loads the photo whose face is swapped in: turned upright by its EXIF data, "
            "transparency flattened on mid grey. PNG, JPEG or WebP.",
            search_aliases=[
                "load image",
                "face photo",
                "reference face",
                "user photo",
                "source face",
                "upload photo",
                "人脸照片",
                "上传照片",
                "顔写真",
            ],
            inputs=[
                io.Combo.Input(
                    "photo",
                    options=folder_paths.filter_files_content_types(files, ["image"]),
                    upload=io.UploadType.image,
                    tooltip="Choose or upload a photo that shows exactly one face, well lit and from the front. "
                    "The HTTP API puts a reference to the request's photo here.",
                )
            ],
            outputs=[io.Image.Output("photo", tooltip="The upright photo, one image without alpha.")],
        )

    @classmethod
    def validate_inputs(cls, photo: str) -> bool | str:
        reference = parse_photo_reference(photo)
        if reference is not None:
            return HANDOFF.has_photo(*reference) or "the photo of this job is no longer in memory; send the job again"
        if not folder_paths.exists_annotated_filepath(photo):
            return f"the file {photo!r} is not in the input folder; upload it or choose another"
        return True

    @classmethod
    def fingerprint_inputs(cls, photo: str) -> str:
        if parse_photo_reference(photo) is not None:
            return photo
        stat = Path(folder_paths.get_annotated_filepath(photo)).stat()
        return f"{stat.st_mtime_ns}:{stat.st_size}"

    @classmethod
    def execute(cls, photo: str) -> io.NodeOutput:
        reference = parse_photo_reference(photo)
        if reference is not None:
            data = HANDOFF.photo(*reference)
        else:
            data = Path(folder_paths.get_annotated_filepath(photo)).read_bytes()
        return io.NodeOutput(decode_photo(data, _FILE_LIMITS, field="photo"))


class FluxFaceRequestImage(io.ComfyNode):
    """Stands for LoadImage in a graph that came with a request; the picture is read from memory."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FluxFaceRequestImage",
            display_name="Request Image",
            category="Flux Face/job",
            description="Used by the HTTP API in place of Load Image, for the pictures of a request's own graph.",
            inputs=[io.String.Input("photo", tooltip="A reference to one of the request's pictures.")],
            outputs=[
                io.Image.Output("image", tooltip="The upright picture, one image."),
                io.Mask.Output("mask", tooltip="White where the picture is transparent."),
            ],
            is_dev_only=True,
        )

    @classmethod
    def validate_inputs(cls, photo: str) -> bool | str:
        reference = parse_photo_reference(photo)
        return (reference is not None and HANDOFF.has_photo(*reference)) or "it is not a picture of an open job"

    @classmethod
    def execute(cls, photo: str) -> io.NodeOutput:
        reference = parse_photo_reference(photo)
        assert reference is not None, "validated"
        return io.NodeOutput(*decode_with_mask(HANDOFF.photo(*reference), _FILE_LIMITS, field=reference[1]))


class FluxFaceJobOutput(io.ComfyNode):
    """Hands the finished pictures to the HTTP API, or previews them in the web UI."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FluxFaceJobOutput",
            display_name="Job Output",
            category="Flux Face/job",
            description="The end of a Flux Face graph. Run from the HTTP API it hands the pictures and reports back in "
            "memory, without writing a file; run from the web UI it previews the pictures, before and after the swap "
            "where generated is connected.",
            search_aliases=[
                "api output",
                "return image",
                "preview image",
                "runpod",
                "serverless",
                "api输出",
                "api出力",
            ],
            inputs=[
                io.Image.Input("images", tooltip="The finished pictures."),
                io.Image.Input(
                    "generated",
                    optional=True,
                    tooltip="The pictures before the swap: returned when the request asks for them, compared with the "
                    "others in the web UI.",
                ),
                Verdicts.Input("verdicts", optional=True, tooltip="The skin-tone verdicts, one per picture."),
                io.String.Input(
                    "retry_report", optional=True, force_input=True, tooltip="The report of the retry node."
                ),
                io.String.Input("swap_report", optional=True, force_input=True, tooltip="The report of the swap node."),
                io.String.Input(
                    "job_id",
                    default="",
                    advanced=True,
                    tooltip="Filled in by the HTTP API. Leave empty to preview the pictures here.",
                ),
            ],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, job_id: str, **_: object) -> float | str:
        # ComfyUI asks for this before it runs the first node; not at all with --cache-none.
        HANDOFF.start(job_id)
        # Not-a-number equals nothing, so a job is never answered from the cache.
        return float("nan") if job_id else ""

    @classmethod
    def execute(
        cls,
        images: torch.Tensor,
        job_id: str,
        generated: torch.Tensor | None = None,
        verdicts: tuple[Verdict, ...] | None = None,
        retry_report: str | None = None,
        swap_report: str | None = None,
    ) -> io.NodeOutput:
        if not job_id:
            return io.NodeOutput(ui=_preview(cls, images, generated))
        if verdicts is not None and len(verdicts) != len(images):
            raise UserInputError(
                "verdict_count",
                "verdicts",
                f"there are {len(verdicts)} verdicts for {len(images)} images",
                "Connect images and verdicts from the same node",
            )
        HANDOFF.deliver(
            job_id,
            JobResult(
                images=images,
                generated=generated,
                verdicts=None if verdicts is None else tuple(verdict.to_json() for verdict in verdicts),
                retry_report=retry_report,
                swap_report=swap_report,
            ),
        )
        return io.NodeOutput()


def _preview(
    cls: type[io.ComfyNode], images: torch.Tensor, generated: torch.Tensor | None
) -> dict[str, list[ui.SavedResult]]:
    """Pictures for the web page, and those before the swap, which are not among the results that ComfyUI lists."""
    shown: dict[str, list[ui.SavedResult]] = {"images": ui.PreviewImage(images, cls=cls).as_dict()["images"]}
    if generated is not None:
        shown["flux_face_before"] = ui.PreviewImage(generated, cls=cls).as_dict()["images"]
    return shown


NODES: tuple[type[io.ComfyNode], ...] = (FluxFaceLoadPhoto, FluxFaceRequestImage, FluxFaceJobOutput)
