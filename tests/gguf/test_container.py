"""The container reader on sound, damaged and hostile files."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as GType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flux_face.nodes.errors import UserInputError
from flux_face.nodes.gguf.container import Container
from flux_face.nodes.gguf.tensor_types import TensorType

MATRIX = np.arange(64 * 32, dtype=np.float32).reshape(32, 64)
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write_sample(path: Path) -> Path:
    writer = gguf.GGUFWriter(str(path), "flux")
    writer.add_string("general.name", "sample – ünïcode")
    writer.add_array("numbers", [1, 2, 3])
    writer.add_array("words", ["a", "bc", ""])
    writer.add_float32("half", 0.5)
    writer.add_bool("yes", True)
    writer.add_tensor("matrix", MATRIX)
    writer.add_tensor("packed", gguf.quantize(MATRIX, GType.Q8_0), raw_dtype=GType.Q8_0)
    writer.add_tensor("vector", MATRIX[0].astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_sample(tmp_path_factory.mktemp("gguf") / "sample.gguf").read_bytes()


def string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def tensor(name: str, sizes: list[int], type_id: int = 0, offset: int = 0) -> bytes:
    return string(name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, type_id, offset)


def header(tensors: int = 0, pairs: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs)


def problem(path: Path, content: bytes) -> str:
    """What the reader says about a file that it must refuse."""
    path.write_bytes(content)
    with pytest.raises(UserInputError) as caught:
        Container(path)
    assert caught.value.code == "gguf_invalid"
    assert path.name in str(caught.value)
    return caught.value.problem


def test_reads_what_gguf_py_wrote(tmp_path: Path) -> None:
    container = Container(write_sample(tmp_path / "sample.gguf"))
    assert container.version == 3
    assert container.metadata["general.architecture"] == "flux"
    assert container.metadata["general.name"] == "sample – ünïcode"
    assert container.metadata["numbers"] == [1, 2, 3]
    assert container.metadata["words"] == ["a", "bc", ""]
    assert container.metadata["half"] == 0.5
    assert container.metadata["yes"] is True
    by_name = {info.name: info for info in container.tensors}
    assert by_name["matrix"].shape == (32, 64)
    assert by_name["packed"].tensor_type is TensorType.Q8_0
    assert by_name["packed"].shape == (32, 64)
    assert by_name["packed"].parameters == 2048
    for read in (container.packed, container.read):
        assert np.array_equal(read(by_name["matrix"]).numpy().view(np.float32).reshape(32, 64), MATRIX)
        assert np.array_equal(read(by_name["packed"]).numpy(), gguf.quantize(MATRIX, GType.Q8_0).reshape(-1))


def test_version_2(tmp_path: Path, sample: bytes) -> None:
    path = tmp_path / "v2.gguf"
    path.write_bytes(sample[:4] + struct.pack("<I", 2) + sample[8:])
    assert Container(path).version == 2


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserInputError) as caught:
        Container(tmp_path / "none.gguf")
    assert caught.value.code == "gguf_missing"
    assert "none.gguf" in str(caught.value)


def test_folder(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="cannot be opened"):
        Container(tmp_path)


HOSTILE = {
    "empty": (b"", "empty"),
    "not gguf": (b"PK\x03\x04" + bytes(60), "not a GGUF"),
    "short": (b"GGUF\x03", "truncated"),
    "version": (header(version=1), "version 1"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "tensor count": (header(tensors=2**63), "tensors"),
    "pair count": (header(pairs=2**40), "metadata entries"),
    "key length": (header(pairs=1) + struct.pack("<Q", 2**62) + bytes(64), "claims"),
    "key encoding": (header(pairs=1) + struct.pack("<Q", 2) + b"\xff\xfe" + bytes(64), "UTF-8"),
    "value type": (header(pairs=1) + string("k") + struct.pack("<I", 99) + bytes(64), "unknown type id 99"),
    "string value": (header(pairs=1) + string("k") + struct.pack("<IQ", 8, 2**50) + bytes(64), "claims"),
    "array length": (header(pairs=1) + string("k") + struct.pack("<IIQ", 9, 4, 2**60) + bytes(64), "items"),
    "array of arrays": (header(pairs=1) + string("k") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 9, "deep"),
    "same key": (header(pairs=2) + (string("k") + struct.pack("<IB", 0, 1)) * 2 + bytes(64), "twice"),
    "alignment": (header(pairs=1) + string("general.alignment") + struct.pack("<II", 4, 24), "power of two"),
    "alignment type": (header(pairs=1) + string("general.alignment") + struct.pack("<I", 8) + string("32"), "power"),
    "no dimensions": (header(tensors=1) + tensor("t", []) + bytes(64), "0 dimensions"),
    "dimensions": (header(tensors=1) + tensor("t", [1] * 9) + bytes(64), "9 dimensions"),
    "zero size": (header(tensors=1) + tensor("t", [8, 0]) + bytes(64), "size 0"),
    "huge size": (header(tensors=1) + tensor("t", [2**62, 2**62]) + bytes(64), "truncated"),
    "type": (header(tensors=1) + tensor("t", [32], type_id=4) + bytes(64), "unknown type id 4"),
    "block": (header(tensors=1) + tensor("t", [33], type_id=8) + bytes(64), "Q8_0"),
    "offset": (header(tensors=1) + tensor("t", [1], offset=3) + bytes(64), "alignment"),
    "far offset": (header(tensors=1) + tensor("t", [1], offset=2**63) + bytes(64), "truncated"),
    "empty name": (header(tensors=1) + tensor("", [1]) + bytes(64), "empty name"),
    "name length": (header(tensors=1) + tensor("t" * 2000, [1]) + bytes(64), "claims 2000"),
    "same name": (header(tensors=2) + tensor("t", [8]) + tensor("t", [8], offset=32) + bytes(200), "twice"),
    "overlap": (header(tensors=2) + tensor("a", [16]) + tensor("b", [8], offset=32) + bytes(200), "overlap"),
}


@pytest.mark.parametrize(("content", "says"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_files_are_named(tmp_path: Path, content: bytes, says: str) -> None:
    assert says in problem(tmp_path / "bad.gguf", content)


def test_every_truncation_is_refused(tmp_path: Path, sample: bytes) -> None:
    path = tmp_path / "cut.gguf"
    table_end = sample.index(b"vector") + 100
    # The last tensor's 128 bytes are followed by nothing: 64 values of 2 bytes, padded to the alignment.
    for length in [*range(table_end), *range(table_end, len(sample) - 1, 997)]:
        assert problem(path, sample[:length])


def refuses_or_reads(path: Path, content: bytes) -> None:
    """Damage may leave a sound file; then its data must be readable to the last byte."""
    path.write_bytes(content)
    try:
        container = Container(path)
    except UserInputError:
        return
    for info in container.tensors:
        assert container.packed(info).numel() == info.bytes
        assert container.packed(info)[-1] >= 0


@FUZZ
@given(data=st.data())
def test_damaged_bytes(tmp_path: Path, sample: bytes, data: st.DataObject) -> None:
    damaged = bytearray(sample)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, 700))] = data.draw(st.integers(0, 255))
    refuses_or_reads(tmp_path / "damaged.gguf", bytes(damaged))


@FUZZ
@given(position=st.integers(8, 700), value=st.sampled_from([0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, 2**40]))
def test_extreme_numbers(tmp_path: Path, sample: bytes, position: int, value: int) -> None:
    damaged = sample[:position] + struct.pack("<Q", value) + sample[position + 8 :]
    refuses_or_reads(tmp_path / "extreme.gguf", damaged)


@FUZZ
@given(tail=st.binary(max_size=400))
def test_arbitrary_bytes_after_the_magic(tmp_path: Path, tail: bytes) -> None:
    refuses_or_reads(tmp_path / "noise.gguf", b"GGUF\x03\x00\x00\x00" + tail)


@pytest.mark.parametrize("content", [HOSTILE["tensor count"][0], HOSTILE["array length"][0], HOSTILE["key length"][0]])
def test_claims_cost_no_memory(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "claims.gguf"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(UserInputError):
            Container(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
