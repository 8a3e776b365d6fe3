"""Caffe's files: a `.caffemodel` (a `NetParameter`) and a mean image as `.binaryproto` (a `BlobProto`).

Both are protocol buffers, read with the protobuf library from the numbers of the fields in the public `caffe.proto`
(BVLC/caffe, `src/caffe/proto/caffe.proto`); fields that hold no weights are not declared, and so are skipped.
"""

import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from alexnet_tf.model.weights.content import Weights, WeightsError, make_weights
from alexnet_tf.model.weights.layouts import CAFFE

FLOAT, DOUBLE, INT32, INT64, STRING = "float", "double", "int32", "int64", "string"
MESSAGES: dict[str, dict[str, tuple[int, str, bool]]] = {
    "BlobShape": {"dim": (1, INT64, True)},
    "BlobProto": {
        "num": (1, INT64, False),
        "channels": (2, INT64, False),
        "height": (3, INT64, False),
        "width": (4, INT64, False),
        "data": (5, FLOAT, True),
        "shape": (7, "BlobShape", False),
        "double_data": (8, DOUBLE, True),
    },
    "LayerParameter": {
        "name": (1, STRING, False),
        "type": (2, STRING, False),
        "blobs": (7, "BlobProto", True),
    },
    "V1LayerParameter": {
        "name": (4, STRING, False),
        "type": (5, INT32, False),
        "blobs": (6, "BlobProto", True),
    },
    "NetParameter": {"layers": (2, "V1LayerParameter", True), "layer": (100, "LayerParameter", True)},
}
"""Fields by message: number, type, whether repeated. The type of an old layer is an enumeration, an int32 on the wire."""
CONVOLUTION, DENSE = ("Convolution", 4), ("InnerProduct", 14)
"""The types of layers, new and old, that a network of ours has weights for."""
LEGACY_DIMENSIONS = ("num", "channels", "height", "width")


def read_caffemodel(path: Path) -> Weights:
    """Read the weights of a `.caffemodel`, with its layers in the new form or that of before 2015.

    Raises:
        WeightsError: If it is damaged, has no weights, or has weights of other layers than convolutions and dense ones.
    """
    net = _parse(path, "NetParameter")
    arrays = {}
    for layer in [*net.layer, *net.layers]:
        if not layer.blobs:
            continue
        if layer.type not in (*CONVOLUTION, *DENSE):
            raise WeightsError(
                f"{path}: the layer {layer.name} has weights of the type {layer.type}. Expected those of "
                f"convolutions and dense layers (InnerProduct)"
            )
        rank = 4 if layer.type in CONVOLUTION else 2
        for part, blob, axes in zip(("weight", "bias"), layer.blobs, (rank, 1), strict=False):
            name = f"{layer.name}.{part}"
            arrays[name] = _drop_leading(_array(path, name, blob), axes)
    return make_weights(str(path), arrays, CAFFE)


def read_mean_blob(path: Path) -> np.ndarray:
    """Read a mean image in Caffe's `.binaryproto`: float32 `[channels, height, width]`, BGR.

    Raises:
        WeightsError: If it is damaged or cannot be read.
    """
    return _drop_leading(_array(path, "the mean image", _parse(path, "BlobProto")), 3)


@cache
def _message_class(name: str) -> Any:
    """The class of a message, made from `MESSAGES`."""
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    fields = descriptor_pb2.FieldDescriptorProto
    for message, members in MESSAGES.items():
        declared = file.message_type.add(name=message)
        for member, (number, kind, repeated) in members.items():
            label = fields.LABEL_REPEATED if repeated else fields.LABEL_OPTIONAL
            field = declared.field.add(name=member, number=number, label=label)
            if kind in MESSAGES:
                field.type, field.type_name = fields.TYPE_MESSAGE, f".caffe.{kind}"
            else:
                field.type = fields.Type.Value(f"TYPE_{kind.upper()}")
                field.options.packed = repeated and kind != STRING
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}"))


def _parse(path: Path, message: str) -> Any:
    try:
        return _message_class(message).FromString(path.read_bytes())
    except DecodeError as error:
        raise WeightsError(f"{path}: damaged, or no {message} of Caffe's") from error
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from error


def _array(path: Path, name: str, blob: Any) -> np.ndarray:
    """The numbers of a blob in its shape; old blobs have four dimensions, whatever they hold."""
    numbers = np.array(blob.double_data, np.float64) if blob.double_data else np.array(blob.data, np.float32)
    shape = list(blob.shape.dim) if blob.HasField("shape") else [getattr(blob, d) for d in LEGACY_DIMENSIONS]
    if not numbers.size or min(shape, default=0) < 1 or math.prod(shape) != numbers.size:
        raise WeightsError(
            f"{path}: {name}: damaged: expected as many numbers as its shape {shape} has, found {numbers.size}"
        )
    return numbers.reshape(shape)


def _drop_leading(array: np.ndarray, axes: int) -> np.ndarray:
    """The array without axes of one entry in front of its last `axes`."""
    extra = array.ndim - axes
    return array.reshape(array.shape[extra:]) if extra > 0 and set(array.shape[:extra]) == {1} else array
