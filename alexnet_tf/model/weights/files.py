"""A file of weights by the end of its name."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from alexnet_tf.config import ConfigError
from alexnet_tf.model.weights.arrays import read_npy, read_npz
from alexnet_tf.model.weights.caffe import read_caffemodel
from alexnet_tf.model.weights.content import Weights, WeightsError
from alexnet_tf.model.weights.state_dict import read_safetensors, read_torch

READERS: dict[str, Callable[[Path], Weights]] = {
    ".pth": read_torch,
    ".pt": read_torch,
    ".safetensors": read_safetensors,
    ".caffemodel": read_caffemodel,
    ".npy": read_npy,
    ".npz": read_npz,
}
"""What reads a file, by the end of its name."""


def read_weights(path: Path, *, allow_pickle: bool = False) -> Weights:
    """Read the weights of a network from a file of any known format.

    Args:
        path: A file whose name ends in one of `READERS`.
        allow_pickle: Whether an `.npy` dictionary may be unpickled, which runs any code that its maker put into it.

    Raises:
        ConfigError: If the name has another end, a package is missing, or the file is a pickle and `allow_pickle` is
            not set.
        WeightsError: If the file cannot be read, is damaged, or holds something else.
    """
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise ConfigError(f"{path}: expected a file that ends in {', '.join(READERS)}")
    read = partial(read_npy, allow_pickle=True) if allow_pickle and suffix == ".npy" else READERS[suffix]
    try:
        return read(path)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from error
