"""PyTorch's state dicts, in its own format (extra `torch`) and in safetensors' (needs no PyTorch)."""

import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import numpy as np

from alexnet_tf.config import ConfigError
from alexnet_tf.model.weights.content import Weights, WeightsError, make_weights
from alexnet_tf.model.weights.layouts import TORCH

SAFE_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""NumPy's types for safetensors'; bfloat16, which NumPy has not, is the upper half of a float32."""
COUNTER = re.compile(r"num_batches_tracked$")
"""An integer of PyTorch's batch normalisation, which nothing here needs."""


def read_torch(path: Path) -> Weights:
    """Read a `.pth` or `.pt` file; PyTorch takes nothing from it but tensors (`weights_only=True`).

    A `state_dict` entry around the tensors and the `module` that DataParallel puts into their names are taken off;
    floats of 16 bits become float32.

    Raises:
        ConfigError: If PyTorch is not installed.
        WeightsError: If the file is damaged, or holds other objects than tensors.
    """
    torch = _import("torch", path)
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path}: refused, as it holds other objects than tensors, which could run any code. Expected a "
            f"state dict, saved by torch.save(model.state_dict(), ...)"
        ) from error
    except Exception as error:  # PyTorch raises what comes: RuntimeError, EOFError, KeyError, ...
        raise WeightsError(f"{path}: damaged, or not written by torch.save ({_one_line(error)})") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and torch.is_tensor(value) for name, value in content.items()
    ):
        raise WeightsError(f"{path}: expected a state dict, tensors by their names")
    return _weights(path, {name: _numpy(path, name, tensor) for name, tensor in content.items()})


def read_safetensors(path: Path) -> Weights:
    """Read a `.safetensors` file; floats of 16 bits become float32.

    Raises:
        ConfigError: If safetensors is not installed.
        WeightsError: If the file is damaged, or a tensor is of no floating-point type.
    """
    safetensors = _import("safetensors", path)
    try:
        content = safetensors.deserialize(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{path}: damaged, or no safetensors file ({_one_line(error)})") from error
    return _weights(
        path, {name: _array(path, name, view) for name, view in content if not COUNTER.search(name)}
    )


def write_torch(arrays: Mapping[str, np.ndarray], stream: IO[bytes]) -> None:
    """Write arrays as `torch.save` writes a state dict."""
    torch = _import("torch", None)
    torch.save({name: torch.from_numpy(array.copy()) for name, array in arrays.items()}, stream)


def write_safetensors(arrays: Mapping[str, np.ndarray], stream: IO[bytes]) -> None:
    """Write arrays, which must be contiguous, as safetensors."""
    _import("safetensors", None)
    from safetensors.numpy import save

    stream.write(save(dict(arrays)))


WRITERS: dict[str, Callable[[Mapping[str, np.ndarray], IO[bytes]], None]] = {
    ".pth": write_torch,
    ".pt": write_torch,
    ".safetensors": write_safetensors,
}
"""What writes a state dict, by the end of the file's name."""


def _weights(path: Path, arrays: Mapping[str, np.ndarray]) -> Weights:
    kept = {name: array for name, array in arrays.items() if not COUNTER.search(name)}
    plain = {".".join(part for part in name.split(".") if part != "module"): kept[name] for name in kept}
    return make_weights(str(path), plain, TORCH)


def _numpy(path: Path, name: str, tensor: Any) -> np.ndarray:
    plain = tensor.detach()  # a saved parameter asks for gradients
    try:
        return (plain.float() if plain.is_floating_point() else plain).numpy()
    except (TypeError, RuntimeError) as error:  # sparse, quantised, without data
        raise WeightsError(f"{path}: {name}: expected a dense tensor ({_one_line(error)})") from error


def _array(path: Path, name: str, view: Mapping[str, Any]) -> np.ndarray:
    if view["dtype"] not in SAFE_DTYPES:
        raise WeightsError(f"{path}: {name}: expected one of {', '.join(SAFE_DTYPES)}, found {view['dtype']}")
    array = np.frombuffer(view["data"], SAFE_DTYPES[view["dtype"]]).reshape(view["shape"])
    if view["dtype"] == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array


def _import(name: str, path: Path | None) -> Any:
    """A package of the extra `torch`."""
    import importlib

    try:
        module: ModuleType = importlib.import_module(name)
    except ImportError as error:
        where = f"{path}: " if path else ""
        raise ConfigError(
            f"{where}needs the package {name}, which is not installed: pip install 'alexnet_tf[torch]'"
        ) from error
    return module


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
