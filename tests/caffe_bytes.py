"""Caffe's files byte by byte, after the public caffe.proto and without the protobuf library, which the reader uses."""

import struct

import numpy as np


def varint(number: int) -> bytes:
    head = bytearray()
    while number > 127:
        head.append(number & 127 | 128)
        number >>= 7
    return bytes([*head, number])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def block(field: int, content: bytes | str) -> bytes:
    content = content.encode() if isinstance(content, str) else content
    return varint(field << 3 | 2) + varint(len(content)) + content


def blob(array: np.ndarray, *, legacy: bool = False, double: bool = False) -> bytes:
    """A BlobProto: legacy num, channels, height, width = 1 to 4, else shape = 7; data = 5 or double_data = 8."""
    if legacy:
        shape = [1] * (4 - array.ndim) + list(array.shape)
        dimensions = b"".join(number(field, side) for field, side in enumerate(shape, 1))
    else:
        dimensions = block(7, block(1, b"".join(varint(side) for side in array.shape)))
    values = struct.pack(f"<{array.size}{'d' if double else 'f'}", *array.ravel().tolist())
    return dimensions + block(8 if double else 5, values)


def layer(name: str, kind: str, *arrays: np.ndarray, **options: bool) -> bytes:
    """A LayerParameter: name = 1, type = 2, bottom = 3, blobs = 7; in NetParameter.layer = 100."""
    head = block(1, name) + block(2, kind) + block(3, "below")
    return block(100, head + b"".join(block(7, blob(array, **options)) for array in arrays))


def old_layer(name: str, kind: int, *arrays: np.ndarray) -> bytes:
    """A V1LayerParameter: bottom = 2, name = 4, type = 5, blobs = 6; in NetParameter.layers = 2."""
    head = block(2, "below") + block(4, name) + number(5, kind)
    return block(2, head + b"".join(block(6, blob(array, legacy=True)) for array in arrays))
