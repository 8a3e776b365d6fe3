"""State dicts and NumPy's files: what is read, what is refused, and that no code of a file runs unasked."""

import io
import os
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import safetensors
from safetensors.numpy import save, save_file

from alexnet_tf.config import ConfigError
from alexnet_tf.model.weights import CAFFE_TENSORFLOW, TORCH, WRITERS, WeightsError, read_weights

ARRAYS = {
    "conv1.weight": np.random.default_rng(0).normal(size=[2, 3, 4, 4]).astype(np.float32),
    "conv1.bias": np.float32([0.1, -0.0]),
}


def same(weights, expected=ARRAYS) -> bool:
    return weights.arrays.keys() == expected.keys() and all(
        weights.arrays[name].dtype == np.float32 and weights.arrays[name].tobytes() == array.tobytes()
        for name, array in expected.items()
    )


# ----------------------------------------------------------------------------------------------- safetensors


def test_safetensors(tmp_path):
    path = tmp_path / "net.safetensors"
    counter = {"n.num_batches_tracked": np.array(5)}
    save_file({f"module.{name}": array for name, array in ARRAYS.items()} | counter, path)
    weights = read_weights(path)
    assert weights.layout == TORCH
    assert same(weights)


def test_halves_are_widened_exactly(tmp_path):
    values = [1.0, -2.5, 2.0**-14, 0.0]
    bfloat16 = (np.float32(values).view(np.uint32) >> 16).astype(np.uint16)  # all of them fit
    tensors = {
        "a.weight": safetensors.TensorSpec(
            dtype="bfloat16", shape=[4], data_ptr=bfloat16.ctypes.data, data_len=8
        )
    }
    half = np.float16(values)
    tensors["a.bias"] = safetensors.TensorSpec(
        dtype="float16", shape=[4], data_ptr=half.ctypes.data, data_len=8
    )
    safetensors.serialize_file(tensors, tmp_path / "net.safetensors")
    weights = read_weights(tmp_path / "net.safetensors")
    assert weights.arrays["a.weight"].tolist() == weights.arrays["a.bias"].tolist() == values


def test_damaged_safetensors(tmp_path):
    content = save(ARRAYS)
    path = tmp_path / "net.safetensors"
    for damaged in (content[:-9], content[:20], b"", b"a text that is no tensor file"):
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match=r"damaged, or no safetensors file \("):
            read_weights(path)
    path.write_bytes(save({"a.weight": np.arange(3)}))
    with pytest.raises(WeightsError, match=r"a.weight: expected one of F64, F32, F16, BF16, found I64"):
        read_weights(path)


def test_writing_is_the_reverse(tmp_path):
    path = tmp_path / "net.safetensors"
    with path.open("wb") as stream:
        WRITERS[".safetensors"](ARRAYS, stream)
    assert same(read_weights(path))


# --------------------------------------------------------------------------------------------------- PyTorch


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="the extra torch is not installed")


@pytest.mark.parametrize("wrap", ["plain", "module", "features.module", "state_dict"])
def test_torch(torch, tmp_path, wrap):
    tensors = OrderedDict((name, torch.from_numpy(array)) for name, array in ARRAYS.items())
    if wrap == "module":  # DataParallel
        tensors = {f"module.{name}": tensor for name, tensor in tensors.items()}
    if (
        wrap == "features.module"
    ):  # DataParallel around a part, as PyTorch's ImageNet example does with AlexNet
        tensors = {name.replace(".", ".module."): tensor for name, tensor in tensors.items()}
    if wrap == "state_dict":
        tensors = {"epoch": 90, "arch": "alexnet", "state_dict": tensors}
    torch.save(tensors, tmp_path / "net.pth")
    assert same(read_weights(tmp_path / "net.pth"))


def test_torchs_halves(torch, tmp_path):
    values = [1.0, -2.5, 2.0**-14, 0.0]
    kinds = {"a.weight": torch.bfloat16, "a.bias": torch.float16, "b.bias": torch.float64}
    torch.save({name: torch.tensor(values, dtype=kind) for name, kind in kinds.items()}, tmp_path / "net.pt")
    arrays = read_weights(tmp_path / "net.pt").arrays
    assert [array.tolist() for array in arrays.values()] == [values] * 3


def test_torchs_parameters(torch, tmp_path):
    parameters = {name: torch.nn.Parameter(torch.from_numpy(array)) for name, array in ARRAYS.items()}
    torch.save(parameters, tmp_path / "net.pth")
    assert same(read_weights(tmp_path / "net.pth"))


def test_torchs_pickle_runs_nothing(torch, tmp_path):
    ran = tmp_path / "ran"
    torch.save({"a.weight": Evil(ran)}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=r"refused, as it holds other objects than tensors") as caught:
        read_weights(tmp_path / "net.pth")
    assert "\n" not in str(caught.value)
    assert not ran.exists()


def test_damaged_torch(torch, tmp_path):
    stream, path = io.BytesIO(), tmp_path / "net.pth"
    torch.save({"a.weight": torch.ones(1000)}, stream)
    for damaged in (stream.getvalue()[:900], b"", b"a text that is no tensor file"):
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match=r"net.pth: damaged, or not written by torch.save \("):
            read_weights(path)
    for content in ([torch.ones(2)], {"epoch": 3}, torch.ones(2), {0: torch.ones(2)}):
        torch.save(content, path)
        with pytest.raises(WeightsError, match=r"expected a state dict, tensors by their names"):
            read_weights(path)
    torch.save({"a.weight": torch.eye(2).to_sparse()}, path)
    with pytest.raises(WeightsError, match=r"a.weight: expected a dense tensor \("):
        read_weights(path)
    torch.save({"a.weight": torch.tensor([1.0, float("nan")])}, path)
    with pytest.raises(WeightsError, match=r"a.weight: expected finite numbers, found NaN or infinity"):
        read_weights(path)


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    path = tmp_path / "net.pth"
    path.write_bytes(b"")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigError, match=r"needs the package torch, .* pip install 'alexnet_tf\[torch\]'"):
        read_weights(path)


# ----------------------------------------------------------------------------------------------------- NumPy


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


LAYERS = {"conv1": [ARRAYS["conv1.weight"], ARRAYS["conv1.bias"]]}
NAMED = {"conv1": {"weights": ARRAYS["conv1.weight"], "biases": ARRAYS["conv1.bias"]}}


def test_npz(tmp_path):
    path = tmp_path / "net.npz"
    np.savez(path, **{"conv1/weights": ARRAYS["conv1.weight"], "conv1/biases": ARRAYS["conv1.bias"]})
    weights = read_weights(path)
    assert weights.layout == CAFFE_TENSORFLOW
    assert same(weights)


@pytest.mark.parametrize("content", [LAYERS, NAMED], ids=["lists", "dictionaries"])
def test_npy_with_the_flag(tmp_path, content):
    path = tmp_path / "net.npy"
    np.save(path, np.array(content, dtype=object), allow_pickle=True)
    assert same(read_weights(path, allow_pickle=True))


def test_a_pickle_is_refused_without_the_flag(tmp_path):
    ran = tmp_path / "ran"
    np.save(tmp_path / "net.npy", np.array({"conv1": Evil(ran)}, dtype=object), allow_pickle=True)
    with pytest.raises(ConfigError) as caught:
        read_weights(tmp_path / "net.npy")
    message = str(caught.value)
    assert "is a pickle, which can run any code when it is opened" in message
    assert "--allow-pickle-which-can-run-any-code" in message
    assert "npz" in message
    assert "\n" not in message
    assert not ran.exists()
    with pytest.raises(WeightsError, match=r"expected {layer: "):  # the flag says what it does
        read_weights(tmp_path / "net.npy", allow_pickle=True)
    assert ran.exists()


def test_an_archive_of_pickles_is_refused(tmp_path):
    ran = tmp_path / "ran"
    np.savez(tmp_path / "net.npz", **{"conv1/weights": np.array([Evil(ran)], dtype=object)})
    with pytest.raises(WeightsError, match=r"damaged, or no .npz of plain arrays"):
        read_weights(tmp_path / "net.npz", allow_pickle=True)
    assert not ran.exists()


def test_other_npy_and_npz(tmp_path):
    path = tmp_path / "net.npy"
    np.save(path, np.ones(3))
    with pytest.raises(WeightsError, match=r"expected a dictionary of layers, found one plain array"):
        read_weights(path)
    for content in (b"", b"a text that is no array"):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=r"damaged, or no .npy file"):
            read_weights(path)
    for number, content in enumerate((["a"], {"conv1": [1]}, {"conv1": 3}, {3: LAYERS["conv1"]})):
        path = tmp_path / f"{number}.npy"
        np.save(path, np.array(content, dtype=object), allow_pickle=True)
        with pytest.raises(WeightsError, match=r"expected {layer: \[weights, biases\]}|cannot be unpickled"):
            read_weights(path, allow_pickle=True)
    archive = tmp_path / "net.npz"
    np.savez(archive, conv1=np.ones(3))
    with pytest.raises(WeightsError, match=r"conv1: expected names like conv1/weights and conv1/biases"):
        read_weights(archive)
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(WeightsError, match=r"damaged"):
        read_weights(archive)
    with archive.open("wb") as stream:
        np.save(stream, np.ones(3))
    with pytest.raises(WeightsError, match=r"damaged, or no .npz of plain arrays"):
        read_weights(archive)
    np.savez(archive, **{"conv1/weights": np.arange(3)})
    with pytest.raises(WeightsError, match=r"conv1.weight: expected floating-point numbers, found int64"):
        read_weights(archive)


def test_other_names_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"net.h5: expected a file that ends in .pth, .pt, .safetensors, "):
        read_weights(tmp_path / "net.h5")
    with pytest.raises(WeightsError, match=r"cannot be read \(No such file"):
        read_weights(tmp_path / "net.caffemodel")
