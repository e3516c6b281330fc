"""The protocol-buffers wire format, as far as ONNX files use it: fields in, fields out.

A message is a run of fields; each is a key (number * 8 + wire type) and a value: 0 a variable-length integer, 1 eight
bytes, 2 a length and that many bytes, 5 four bytes (protobuf.dev/programming-guides/encoding).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_FIXED = {FIXED64: 8, FIXED32: 4}
_LONGEST_VARINT = 10
_MASK = (1 << 64) - 1

Chunks = list[bytes | bytearray]


class OnnxFileError(ValueError):
    """The file is no ONNX model, is damaged, or is out of bounds."""


class OnnxUnsupportedError(OnnxFileError):
    """The file is sound but holds something that is not read here."""


@dataclass(frozen=True)
class Field:
    """One field of a message.

    Attributes:
        kind: wire type.
        integer: the value of a VARINT, as a signed 64-bit integer.
        data: the value of any other kind.
        raw: the whole field, with its key.
    """

    number: int
    kind: int
    integer: int
    data: memoryview
    raw: memoryview


def fields(message: memoryview) -> Iterator[Field]:
    """All fields of a message.

    Raises:
        OnnxFileError: it is no message, or is cut short.
    """
    at = 0
    while at < len(message):
        start = at
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise OnnxFileError("not an ONNX file: field number 0")
        if kind == VARINT:
            value, at = _varint(message, at)
            yield Field(number, kind, _signed(value), message[:0], message[start:at])
            continue
        if kind == BYTES:
            length, at = _varint(message, at)
        elif kind in _FIXED:
            length = _FIXED[kind]
        else:
            raise OnnxFileError(f"not an ONNX file: wire type {kind}")
        if at + length > len(message):
            raise OnnxFileError("not an ONNX file, or cut short")
        yield Field(number, kind, 0, message[at : at + length], message[start : at + length])
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 7 * _LONGEST_VARINT, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _MASK, at
    raise OnnxFileError("not an ONNX file: broken variable-length integer")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def unpack_varints(data: memoryview) -> npt.NDArray[np.int64]:
    """The integers of a packed repeated field."""
    stored = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(stored < 0x80)
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    lengths = ends - starts + 1
    if (len(stored) and (not len(ends) or ends[-1] != len(stored) - 1)) or np.any(lengths > _LONGEST_VARINT):
        raise OnnxFileError("not an ONNX file: broken variable-length integer")
    values = np.zeros(len(ends), dtype=np.uint64)
    for index in range(int(lengths.max(initial=0))):
        longer = lengths > index
        digit = (stored[starts[longer] + index] & 0x7F).astype(np.uint64)
        values[longer] |= digit << np.uint64(7 * index)
    return values.view(np.int64)


def varint(value: int) -> bytes:
    """A variable-length integer; negative ones as two's complement of 64 bits."""
    value &= _MASK
    digits = bytearray()
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def integer_field(number: int, value: int) -> bytes:
    """An integer, boolean or enumeration field."""
    return varint(number << 3 | VARINT) + varint(value)


def float_field(number: int, value: float) -> bytes:
    """A single-precision field."""
    return varint(number << 3 | FIXED32) + np.array(value, dtype="<f4").tobytes()


def bytes_field(number: int, data: bytes) -> Chunks:
    """A string, bytes or packed field."""
    return message_field(number, [data])


def array_field(number: int, values: npt.NDArray[Any]) -> Chunks:
    """A bytes field with an array's values in C order, little-endian."""
    ordered = np.ascontiguousarray(values)
    return bytes_field(number, ordered.astype(ordered.dtype.newbyteorder("<"), copy=False).tobytes())


def message_field(number: int, chunks: Sequence[bytes | bytearray]) -> Chunks:
    """A field whose value is a message of these parts."""
    return [varint(number << 3 | BYTES) + varint(sum(map(len, chunks))), *chunks]
