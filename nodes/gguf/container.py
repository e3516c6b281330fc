"""Reading the GGUF container: header, metadata and tensor table, checked in full before anything is used.

The format is that of ggml's docs/gguf.md, versions 2 and 3, little-endian. Every count, length and offset in the file
is treated as hostile: parsing takes time and memory in proportion to the bytes that are really there, and any
inconsistency ends in one ``UserInputError`` that names the file.
"""

from __future__ import annotations

import mmap
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch

from ..errors import UserInputError
from .tensor_types import GEOMETRY, TensorType

MetadataValue = bool | int | float | str | list["MetadataValue"]

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_MAX_DIMENSIONS = 4
_MAX_NAME_BYTES = 1024
_MAX_KEY_BYTES = 65535
_MAX_ARRAY_DEPTH = 4
_MAX_ALIGNMENT = 1 << 20
_DEFAULT_ALIGNMENT = 32

_STRING, _ARRAY, _BOOL = 8, 9, 7
# Metadata value types by id (gguf.md, gguf_metadata_value_type).
_SCALARS: dict[int, struct.Struct] = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    _BOOL: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


@dataclass(frozen=True)
class TensorInfo:
    """One entry of the tensor table.

    ``shape`` is in torch's order (slowest dimension first), ``offset`` counts from the start of the file, ``bytes`` is
    the packed size.
    """

    name: str
    tensor_type: TensorType
    shape: tuple[int, ...]
    offset: int
    bytes: int

    @property
    def parameters(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count


class Container:
    """A validated GGUF file, mapped into memory.

    Args:
        path: the file.

    Raises:
        UserInputError: ``gguf_missing`` if the file cannot be opened, ``gguf_invalid`` if it is not a sound GGUF file.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            with self.path.open("rb") as file:
                self.file_bytes = self.path.stat().st_size
                if self.file_bytes == 0:
                    _fail(self.path, "the file is empty")
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise UserInputError(
                "gguf_missing", self.path.name, f"the file cannot be opened ({error.strerror})", "Check path and rights"
            ) from error
        self.version, self.metadata, self.tensors = _Parser(self.path, self._map, self.file_bytes).parse()

    def packed(self, info: TensorInfo) -> torch.Tensor:
        """The tensor's bytes as uint8 ``[info.bytes]``, a view of the mapped file: read it, never write it."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given buffer is not writable")
            return torch.frombuffer(self._map, dtype=torch.uint8, offset=info.offset, count=info.bytes)

    def read(self, info: TensorInfo) -> torch.Tensor:
        """The tensor's bytes as uint8 ``[info.bytes]`` in memory of its own.

        Raises:
            UserInputError: the file became shorter since it was opened.
        """
        out = torch.empty(info.bytes, dtype=torch.uint8)
        with self.path.open("rb") as file:
            file.seek(info.offset)
            if file.readinto(out.numpy()) != info.bytes:  # type: ignore[arg-type]  # numpy arrays are buffers
                _fail(self.path, f"the file ends inside the data of tensor {info.name!r}")
        return out


def _fail(path: Path, problem: str) -> NoReturn:
    raise UserInputError("gguf_invalid", path.name, problem, "Download the file again or convert the model anew")


class _Parser:
    """A cursor over the mapped file. Reads nothing beyond the end."""

    def __init__(self, path: Path, data: mmap.mmap, size: int) -> None:
        self._path = path
        self._data = data
        self._size = size
        self._position = 0

    def parse(self) -> tuple[int, dict[str, MetadataValue], tuple[TensorInfo, ...]]:
        if self._take(4, "magic") != _MAGIC:
            self._fail("not a GGUF file: it does not start with 'GGUF'")
        version = self._u32("version")
        if version not in _VERSIONS:
            if version & 0xFFFF == 0 and version:
                self._fail("the file is big-endian; only little-endian GGUF is supported")
            self._fail(f"GGUF version {version} is not supported (2 and 3 are)")
        tensor_count = self._u64("tensor count")
        pair_count = self._u64("metadata count")
        # The smallest possible entries: key length + type + one byte; name length + dimensions + type + offset.
        self._check_count(pair_count, 8 + 4 + 1, "metadata entries")
        self._check_count(tensor_count, 8 + 4 + 4 + 8, "tensors")
        metadata: dict[str, MetadataValue] = {}
        for _ in range(pair_count):
            key = self._string("metadata key", _MAX_KEY_BYTES)
            if key in metadata:
                self._fail(f"metadata key {key!r} appears twice")
            metadata[key] = self._value(self._u32(f"type of {key!r}"), key, 0)
        alignment = self._alignment(metadata)
        entries = [self._tensor_entry(alignment) for _ in range(tensor_count)]
        data_start = -(-self._position // alignment) * alignment
        tensors = tuple(self._placed(entry, data_start) for entry in entries)
        self._check_layout(tensors)
        return version, metadata, tensors

    def _alignment(self, metadata: dict[str, MetadataValue]) -> int:
        alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
        if (
            not isinstance(alignment, int)
            or isinstance(alignment, bool)
            or not 8 <= alignment <= _MAX_ALIGNMENT
            or alignment & (alignment - 1)
        ):
            self._fail(f"general.alignment is {alignment!r}; it must be a power of two from 8 to {_MAX_ALIGNMENT}")
        return alignment

    def _tensor_entry(self, alignment: int) -> TensorInfo:
        name = self._string("tensor name", _MAX_NAME_BYTES)
        if not name:
            self._fail("a tensor has an empty name")
        dimensions = self._u32(f"dimensions of {name!r}")
        if not 1 <= dimensions <= _MAX_DIMENSIONS:
            self._fail(f"tensor {name!r} has {dimensions} dimensions (1 to {_MAX_DIMENSIONS} are allowed)")
        sizes = [self._u64(f"shape of {name!r}") for _ in range(dimensions)]
        type_id = self._u32(f"type of {name!r}")
        try:
            tensor_type = TensorType(type_id)
        except ValueError:
            self._fail(f"tensor {name!r} has the unknown type id {type_id}")
        offset = self._u64(f"offset of {name!r}")
        if offset % alignment:
            self._fail(f"tensor {name!r} starts at {offset}, which is not a multiple of the alignment {alignment}")
        values = 1
        for size in sizes:
            if size == 0:
                self._fail(f"tensor {name!r} has a dimension of size 0")
            values *= size
        geometry = GEOMETRY[tensor_type]
        if sizes[0] % geometry.values:
            self._fail(
                f"tensor {name!r} has rows of {sizes[0]} values, not a multiple of "
                f"{tensor_type.name}'s block of {geometry.values}"
            )
        packed = values // geometry.values * geometry.bytes
        return TensorInfo(name, tensor_type, tuple(reversed(sizes)), offset, packed)

    def _placed(self, entry: TensorInfo, data_start: int) -> TensorInfo:
        return TensorInfo(entry.name, entry.tensor_type, entry.shape, entry.offset + data_start, entry.bytes)

    def _check_layout(self, tensors: tuple[TensorInfo, ...]) -> None:
        names: set[str] = set()
        end, previous = 0, ""
        for tensor in sorted(tensors, key=lambda t: t.offset):
            if tensor.name in names:
                self._fail(f"tensor {tensor.name!r} appears twice")
            names.add(tensor.name)
            if tensor.offset < end:
                self._fail(f"the data of tensors {previous!r} and {tensor.name!r} overlap")
            end, previous = tensor.offset + tensor.bytes, tensor.name
            if end > self._size:
                self._fail(
                    f"the file is truncated: tensor {tensor.name!r} ends at byte {end}, the file at {self._size}"
                )

    def _value(self, type_id: int, key: str, depth: int) -> MetadataValue:
        if type_id == _STRING:
            return self._string(key, self._size)
        if type_id != _ARRAY:
            return self._scalar(type_id, key)
        if depth == _MAX_ARRAY_DEPTH:
            self._fail(f"the arrays of {key!r} are nested too deep")
        item_type = self._u32(f"item type of {key!r}")
        count = self._u64(f"length of {key!r}")
        if item_type in _SCALARS:
            return self._scalar_array(_SCALARS[item_type], count, key)
        # The smallest string is its length; the smallest inner array its item type and length.
        self._check_count(count, 8 if item_type == _STRING else 12, f"items of {key!r}")
        return [self._value(item_type, key, depth + 1) for _ in range(count)]

    def _scalar(self, type_id: int, key: str) -> MetadataValue:
        layout = _SCALARS.get(type_id)
        if layout is None:
            self._fail(f"metadata {key!r} has the unknown type id {type_id}")
        value: MetadataValue = layout.unpack(self._take(layout.size, key))[0]
        return value

    def _scalar_array(self, layout: struct.Struct, count: int, key: str) -> list[MetadataValue]:
        self._check_count(count, layout.size, f"items of {key!r}")
        raw = self._take(count * layout.size, key)
        return [value for (value,) in layout.iter_unpack(raw)]

    def _string(self, what: str, limit: int) -> str:
        length = self._u64(f"length of {what}")
        if length > limit:
            self._fail(f"{what} at byte {self._position} claims {length} bytes (at most {limit} are allowed)")
        raw = self._take(length, what)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            self._fail(f"{what} at byte {self._position - length} is not UTF-8")

    def _check_count(self, count: int, smallest: int, what: str) -> None:
        if count * smallest > self._size - self._position:
            self._fail(f"it claims {count} {what}, more than the rest of the file can hold")

    def _u32(self, what: str) -> int:
        value: int = _U32.unpack(self._take(4, what))[0]
        return value

    def _u64(self, what: str) -> int:
        value: int = _U64.unpack(self._take(8, what))[0]
        return value

    def _take(self, count: int, what: str) -> bytes:
        end = self._position + count
        if end > self._size:
            self._fail(f"the file is truncated: it ends inside {what}")
        raw = self._data[self._position : end]
        self._position = end
        return raw

    def _fail(self, problem: str) -> NoReturn:
        _fail(self._path, problem)
