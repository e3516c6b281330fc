"""The tables of released models: no name twice, nothing that points nowhere; normalisation."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from flux_face.nodes.face import contracts
from flux_face.nodes.face.contracts import Converted, ModelFile, Normalisation

TABLES: tuple[tuple[ModelFile, ...], ...] = (
    contracts.DETECTORS,
    contracts.RECOGNISERS,
    contracts.ATTRIBUTES,
    contracts.SWAPPERS,
    contracts.CONVERTERS,
    contracts.OCCLUDERS,
    contracts.PARSERS,
    contracts.RESTORERS,
)


def test_a_file_name_means_one_model() -> None:
    names = Counter(name for table in TABLES for row in table for name in row.names)
    assert [name for name, count in names.items() if count > 1] == []
    assert all(name.endswith(".onnx") for name in names)


def test_every_row_says_who_publishes_it_and_under_what_terms() -> None:
    for row in (row for table in TABLES for row in table):
        assert row.publisher
        assert row.licence
        assert ("non-commercial" in row.licence) <= (row.commercial == "no"), row.name


def test_converters_and_spaces_that_swappers_need_are_known() -> None:
    converters = {row.name for row in contracts.CONVERTERS}
    spaces = {row.space for row in contracts.RECOGNISERS}
    for row in contracts.SWAPPERS:
        if isinstance(row.source, Converted):
            assert row.source.converter in converters
        assert row.space in ("", *spaces)


@pytest.mark.parametrize(
    ("normalisation", "levels"),
    [
        (contracts.LEVELS, lambda x: 255.0 * x),
        (contracts.SIGNED, lambda x: 2.0 * x - 1.0),
        (contracts.CENTRED, lambda x: (255.0 * x - 127.5) / 128.0),
        (contracts.AS_IS, lambda x: x),
    ],
)
def test_normalisations_are_what_publishers_write_in_levels(normalisation: Normalisation, levels: object) -> None:
    assert callable(levels)
    pictures = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(normalisation.apply(pictures), levels(pictures))
    torch.testing.assert_close(normalisation.undo(normalisation.apply(pictures)), pictures)


def test_imagenet_goes_by_channel() -> None:
    grey = torch.full((1, 3, 1, 1), 0.5)
    expected = torch.tensor([(0.5 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, (0.5 - 0.406) / 0.225])
    torch.testing.assert_close(contracts.IMAGENET.apply(grey).flatten(), expected)
