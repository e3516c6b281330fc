"""What is said of a model file that is not there."""

from __future__ import annotations

import pytest

from flux_face.catalogue.hints import page, where_to_get
from flux_face.catalogue.manifest import TRUSTED, load_manifest


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "flux1-schnell-Q4_K_S.gguf",
            (
                "https://huggingface.co/city96/FLUX.1-schnell-gguf/blob/main/flux1-schnell-Q4_K_S.gguf "
                "(6.8 GB, licence: Apache-2.0)"
            ),
        ),
        (
            "somewhere\\det_10g.onnx",
            (
                "https://github.com/deepinsight/insightface/releases/download/model-zoo/buffalo_l.zip "
                "(288.6 MB, licence: non-commercial research only)"
            ),
        ),
        (
            "reswapper/reswapper_128.onnx",
            (
                "https://huggingface.co/datasets/Gourieff/ReActor/blob/main/models/reswapper_128.onnx "
                "(size unknown, licence: not stated; trained on the output of inswapper)"
            ),
        ),
        ("mine.gguf", None),
    ],
)
def test_a_file_is_told_with_place_size_and_licence(name: str, told: str | None) -> None:
    assert where_to_get(name) == told


def test_a_file_is_known_by_its_other_names() -> None:
    told = where_to_get("GPEN-BFR-512.onnx")
    assert told is not None
    assert told == where_to_get("gpen_bfr_512.onnx")


def test_every_model_has_an_address() -> None:
    assert [model.id for model in load_manifest().models if not TRUSTED.match(page(model))] == []
