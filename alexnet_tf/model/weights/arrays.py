"""NumPy's files: the `bvlc_alexnet.npy` dictionary, which is a pickle, and its safe form, an `.npz` of plain arrays.

Both have TensorFlow's axes and Caffe's BGR, as the converter caffe-tensorflow wrote them, under layers called conv1 to
fc8. The `.npz` names its arrays `conv1/weights`, `conv1/biases` and so on.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from alexnet_tf.config import ConfigError
from alexnet_tf.model.weights.content import Weights, WeightsError, make_weights
from alexnet_tf.model.weights.layouts import CAFFE_TENSORFLOW

PARTS = {"weights": "weight", "biases": "bias"}
"""Our names for the two arrays of a layer, by the file's."""


def read_npz(path: Path) -> Weights:
    """Read an `.npz` of `<layer>/weights` and `<layer>/biases`.

    Raises:
        WeightsError: If it is damaged, holds objects, or has other names.
    """
    try:
        # Opened here, because np.load leaves a damaged file open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            content = {name: archive[name] for name in archive.files}
    except Exception as error:  # NumPy and zipfile raise what comes: BadZipFile, TypeError, EOFError, ...
        raise WeightsError(
            f"{path}: damaged, or no .npz of plain arrays ({' '.join(str(error).split())})"
        ) from error
    arrays = {}
    for name, array in content.items():
        layer, _, part = name.rpartition("/")
        if not layer or part not in PARTS:
            raise WeightsError(f"{path}: {name}: expected names like conv1/weights and conv1/biases")
        arrays[f"{layer}.{PARTS[part]}"] = array
    return make_weights(str(path), arrays, CAFFE_TENSORFLOW)


def read_npy(path: Path, *, allow_pickle: bool = False) -> Weights:
    """Read a dictionary `{layer: [weights, biases]}`, or of dictionaries with these names, that `np.save` pickled.

    Args:
        path: The file.
        allow_pickle: Whether to run the pickle, and with it whatever code its maker put into it.

    Raises:
        ConfigError: If it is a pickle and `allow_pickle` is not set.
        WeightsError: If it is damaged or holds something else.
    """
    try:
        with path.open("rb") as stream:
            pickled = _holds_objects(stream)
    except Exception as error:  # ValueError, EOFError, tokenize.TokenError, ...
        raise WeightsError(f"{path}: damaged, or no .npy file ({' '.join(str(error).split())})") from error
    if not pickled:
        raise WeightsError(f"{path}: expected a dictionary of layers, found one plain array")
    if not allow_pickle:
        raise ConfigError(
            f"{path}: is a pickle, which can run any code when it is opened. Expected an .npz of plain arrays "
            f"(conv1/weights, conv1/biases, ...), or the flag --allow-pickle-which-can-run-any-code if you trust "
            f"whoever made it"
        )
    try:
        # latin1 reads what Python 2 wrote, as the file in circulation is.
        content = np.load(path, allow_pickle=True, encoding="latin1").item()
    except Exception as error:  # a pickle raises anything
        raise WeightsError(f"{path}: cannot be unpickled ({' '.join(str(error).split())[:120]})") from error
    return make_weights(str(path), _layers(path, content), CAFFE_TENSORFLOW)


def _holds_objects(stream: IO[bytes]) -> bool:
    """Whether the array of an `.npy` file is of Python objects, by its header."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    _, _, dtype = read(stream)
    return dtype.hasobject


def _layers(path: Path, content: Any) -> dict[str, np.ndarray]:
    """`<layer>.weight` and `<layer>.bias` of the unpickled dictionary."""
    arrays: dict[str, np.ndarray] = {}
    for layer, parts in content.items() if isinstance(content, dict) else [(None, None)]:
        named = dict(zip(PARTS, parts, strict=False)) if isinstance(parts, list | tuple) else parts
        if not isinstance(layer, str) or not isinstance(named, Mapping) or named.keys() != PARTS.keys():
            raise WeightsError(
                f"{path}: expected {{layer: [weights, biases]}} or {{layer: {{'weights': ..., 'biases': ...}}}}"
            )
        arrays |= {f"{layer}.{PARTS[part]}": np.asarray(array) for part, array in named.items()}
    return arrays
