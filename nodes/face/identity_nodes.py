"""ComfyUI nodes that make, group, save and load identities."""

from __future__ import annotations

import json
from dataclasses import replace

import torch
from comfy_api.latest import io

from ..errors import UserInputError
from ..sockets import Engine, Identities
from .engines import FaceEngine, classic_engine
from .identities import Combine, Outliers, build_identity
from .identity import Identity
from .identity_file import load_identity, save_identity
from .identity_folders import identity_files, identity_path, new_identity_path
from .progress import progress
from .swap import SeveralFaces

_GROUPED = 4


class FluxFaceFaceIdentity(io.ComfyNode):
    """Makes one person of one or several photos."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FluxFaceFaceIdentity",
            display_name="Face Identity",
            category="Flux Face/face",
            description="Makes one person of one or several photos. With the onnx engine several photos make the face "
            "steadier than one; the classic engine takes the best of them.",
            search_aliases=[
                "face model",
                "build face model",
                "average face",
                "blend faces",
                "embedding",
                "reactor build face model",
                "mix photos",
                "人脸模型",
                "顔モデル",
            ],
            is_input_list=True,
            inputs=[
                io.Image.Input("photos", tooltip="Photos of one person: a batch, or a list of pictures of any sizes."),
                Engine.Input("engine", optional=True, tooltip="The engine that Swap Face uses. Left open, classic."),
                io.Combo.Input(
                    "combine",
                    options=["mean", "median"],
                    default="mean",
                    tooltip="How the photos are joined. median is less moved by a photo that does not fit.",
                ),
                io.Combo.Input(
                    "outliers",
                    options=["keep", "leave out"],
                    default="keep",
                    advanced=True,
                    tooltip="What happens to photos that are less like the others than outlier_limit. The report names "
                    "them either way.",
                ),
                io.Float.Input(
                    "outlier_limit",
                    default=0.3,
                    min=-1.0,
                    max=1.0,
                    step=0.05,
                    advanced=True,
                    tooltip="Least likeness of a photo to the others together, -1 to 1. Raise it to be stricter.",
                ),
                io.Combo.Input(
                    "several_faces_in_photo",
                    options=["error", "largest"],
                    default="error",
                    advanced=True,
                    tooltip="What to do when a photo shows several people: stop and say so, or take the largest.",
                ),
                io.String.Input(
                    "name",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="What you call this person, for by_hand in Swap Face. Names from Load Face Identity are "
                    "those of the files.",
                ),
            ],
            outputs=[
                Identities.Output("identity", tooltip="For Swap Face, Select Faces and Save Face Identity."),
                io.String.Output("report", tooltip="JSON: which photos were used, and how alike they are."),
            ],
        )

    @classmethod
    def execute(
        cls,
        photos: list[torch.Tensor],
        combine: list[Combine],
        outliers: list[Outliers],
        outlier_limit: list[float],
        several_faces_in_photo: list[SeveralFaces],
        engine: list[FaceEngine] | None = None,
        name: list[str] | None = None,
    ) -> io.NodeOutput:
        pictures = [picture for batch in photos for picture in batch]
        identity, report = build_identity(
            engine[0] if engine else classic_engine(),
            pictures,
            combine=combine[0],
            outliers=outliers[0],
            lowest_similarity=outlier_limit[0],
            several=several_faces_in_photo[0],
            on_progress=progress(len(pictures)),
        )
        named = replace(identity, name=name[0].strip() if name else "")
        return io.NodeOutput((named,), json.dumps(report.to_json()))


class FluxFaceCombineIdentities(io.ComfyNode):
    """Puts several people in one list."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FluxFaceCombineIdentities",
            display_name="Group Identities",
            category="Flux Face/face",
            description="Puts several people in one list, in this order, so that Swap Face gives each of them a face. "
            "It does not mix them: for one person of several photos use Face Identity.",
            search_aliases=[
                "several people",
                "identity list",
                "multiple faces",
                "combine identities",
                "multiple people",
                "group photo",
                "多人换脸",
                "合照",
                "複数人",
                "集合写真",
            ],
            inputs=[
                Identities.Input(
                    f"identity_{number}",
                    optional=True,
                    tooltip=f"Person {number}, or another group, whose people follow one another.",
                )
                for number in range(1, _GROUPED + 1)
            ],
            outputs=[
                Identities.Output("identity", tooltip="All of them, in order, for Swap Face and Select Faces."),
                io.Int.Output("count", tooltip="How many people there are."),
            ],
        )

    @classmethod
    def execute(
        cls,
        identity_1: tuple[Identity, ...] = (),
        identity_2: tuple[Identity, ...] = (),
        identity_3: tuple[Identity, ...] = (),
        identity_4: tuple[Identity, ...] = (),
    ) -> io.NodeOutput:
        people = (*identity_1, *identity_2, *identity_3, *identity_4)
        if not people:
            raise UserInputError("no_identity", "identity_1", "nobody is connected", "Connect at least one identity")
        return io.NodeOutput(people, len(people))


class FluxFaceSaveIdentity(io.ComfyNode):
    """Writes an identity to a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FluxFaceSaveIdentity",
            display_name="Save Face Identity",
            category="Flux Face/face",
            description="Saves an identity in models/flux_face/identities, without its photo unless you ask for it.",
            search_aliases=[
                "save face model",
                "export face",
                "face model",
                "reactor save face model",
                "保存人脸模型",
                "顔モデル保存",
            ],
            is_output_node=True,
            inputs=[
                Identities.Input("identity", tooltip="One person, from Face Identity."),
                io.String.Input("name", default="person", tooltip="The file's name, without folder or ending."),
                io.Boolean.Input(
                    "keep_photo",
                    default=False,
                    tooltip="Also stores the face as a picture, which the classic engine needs. Left off, the file "
                    "holds only numbers that a face can be recognised by.",
                ),
                io.Boolean.Input(
                    "overwrite", default=False, advanced=True, tooltip="Replace a file of this name that is there."
                ),
            ],
            outputs=[io.String.Output("file", tooltip="The file's name, for Load Face Identity.")],
        )

    @classmethod
    def execute(
        cls, identity: tuple[Identity, ...], name: str, keep_photo: bool, overwrite: bool = False
    ) -> io.NodeOutput:
        if len(identity) > 1:
            raise UserInputError(
                "several_identities",
                "identity",
                f"it is a group of {len(identity)} people, and a file holds one",
                "Save each person before Group Identities",
            )
        path = new_identity_path(name, overwrite=overwrite)
        save_identity(identity[0], path, keep_photo=keep_photo)
        return io.NodeOutput(path.name)


class FluxFaceLoadIdentity(io.ComfyNode):
    """Reads an identity from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FluxFaceLoadIdentity",
            display_name="Load Face Identity",
            category="Flux Face/face",
            description="Loads an identity that Save Face Identity has saved, or a face model of ReActor.",
            search_aliases=[
                "load face model",
                "reactor face model",
                "safetensors",
                "import face",
                "加载人脸模型",
                "顔モデル読み込み",
            ],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=identity_files(),
                    tooltip="A file in models/flux_face/identities, or a face model in models/reactor/faces or "
                    "models/insightface.",
                )
            ],
            outputs=[
                Identities.Output("identity", tooltip="For Swap Face and Select Faces."),
                io.String.Output("report", tooltip="What the file holds."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str) -> str:
        stat = identity_path(file).stat()
        return f"{stat.st_mtime_ns}:{stat.st_size}"

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        path = identity_path(file)
        identity = load_identity(path)
        return io.NodeOutput((replace(identity, name=path.stem),), f"{file}: {_describe(identity)}")


def _describe(identity: Identity) -> str:
    """What an identity holds, in words."""
    number = "one photo" if identity.photos == 1 else f"{identity.photos} photos"
    embedding = f"embedding of {identity.recogniser}" if identity.embedding is not None else "no embedding"
    picture = "with a photo" if identity.photo is not None else "without a photo"
    return f"{number}, {embedding}, {picture}"
