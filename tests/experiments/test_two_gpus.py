"""The two columns on two devices; TensorFlow divides its CPU only before it starts, so in a process of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "experiments" / "two_gpus"
SMALL = {"conv1": 12, "conv2": 32, "conv3": 48, "conv4": 48, "conv5": 16, "fc6": 64, "fc7": 96}
UNITS = [f"model.stages.{name}.units={units}" for name, units in SMALL.items()] + ["model.num_classes=7"]


def python(*arguments):
    done = subprocess.run(
        [sys.executable, *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=240, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def crossed(output):
    """Bytes per image by place: forward to the second and to the first device, backward to the second and the first."""
    rows = [line.replace(",", "").split() for line in output.splitlines()]
    return {row[0]: [int(cell) for cell in row[1:5]] for row in rows if len(row) == 6 and row[1].isdigit()}


def megabytes(output):
    """The three totals of a step of 128 images."""
    lines = output.split("Megabytes")[1].splitlines()[1:4]
    return [float(line.split()[-1]) for line in lines]


@pytest.mark.parametrize(
    ("model", "dtype", "itemsize"),
    [("alexnet", "float64", 8), ("alexnet_code2012", "float32", 4)],
)
@pytest.mark.slow
def test_two_devices_equal_one_and_only_three_places_cross(model, dtype, itemsize):
    done = python("two_gpus.py", "--model", model, "--dtype", dtype, "--batch-size", "3", *UNITS)
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "equal"
    conv3, fc6, fc7, fc8 = (itemsize * half for half in (13 * 13 * 16, 6 * 6 * 8, 32, 48))
    assert crossed(done.stdout) == {
        "conv3": [conv3] * 4,
        "fc6": [fc6] * 4,
        "fc7": [fc7] * 4,
        "fc8": [0, fc8, fc8, 0],  # stands on the first device
    }


@pytest.mark.slow
def test_the_network_of_the_paper():
    done = python("two_gpus.py", "--batch-size", "2")
    assert done.returncode == 0, done.stdout
    places = {"conv3": 13 * 13 * 128, "fc6": 6 * 6 * 128, "fc7": 2048, "fc8": 2048}
    found = crossed(done.stdout)
    assert {place: max(counts) for place, counts in found.items()} == {
        place: 4 * half for place, half in places.items()
    }
    # By hand: 2 passes of 2 halves of 28,288 and one of 2,048; with all of conv2's, conv4's and conv5's inputs besides
    # (27 * 27 * 48 and twice 13 * 13 * 192); and the gradients of 60,965,224 parameters both ways.
    columns = 2 * (2 * 28_288 + 2048)
    everything = columns + 2 * 2 * (27 * 27 * 48 + 2 * 13 * 13 * 192)
    expected = [128 * 4 * columns, 128 * 4 * everything, 2 * 4 * 60_965_224]
    assert megabytes(done.stdout) == [round(count / 1e6, 1) for count in expected]


@pytest.mark.slow
def test_nothing_crosses_unseen_and_what_crosses_matters():
    program = """
import tensorflow as tf
import sys
import columns
from alexnet_tf.config import ConfigError
from two_gpus import choose_devices, compare, network

try:
    choose_devices(["cpu:0", "/CPU:7"])
except ConfigError as error:
    print(error)
devices = choose_devices(None)
with tf.device(devices[1]):
    there = tf.ones(3)
try:
    with tf.device(devices[0]):
        there + there
except tf.errors.InvalidArgumentError as error:
    print("refused:", "conflicting devices" in str(error))

class Broken(columns.Wire):
    def send(self, tensor, to, *place):
        with tf.device(self.devices[to]):
            return tf.zeros_like(super().send(tensor, to, *place))

columns.Wire = Broken
*_, differences = compare(network("alexnet", sys.argv[1:]), devices, "float64", 2)
print("differ:", all(differences[kind] > 1e-6 for kind in ("logits", "gradients")))
"""
    done = python("-c", program, *UNITS)
    assert done.stdout.splitlines() == [
        "--devices CPU:7: expected two of CPU:0, CPU:1",
        "refused: True",
        "differ: True",
    ], done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--devices", "/CPU:0"], "--devices CPU:0: expected two different ones"),
        (["--devices", "CPU:1", "/cpu:1"], "--devices CPU:1 CPU:1: expected two different ones"),
        (["--model", "alexnt"], "model=alexnt: no such choice. Expected one of: alexnet, "),
        (
            ["--model", "alexnet_owt"],
            "--model alexnet_owt: expected a network of 2 columns, such as alexnet, came 1",
        ),
        (["--model", "vgg16"], "--model vgg16: expected a network of 2 columns, such as alexnet, came 1"),
        (["model.stages.fc6.units=65"], "model.stages.fc6.units=65: expected an even number"),
        (["--batch-size", "0"], "--batch-size 0: expected at least 1"),
    ],
)
def test_wrong_use_is_one_line(arguments, said, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(FOLDER))
    import two_gpus

    monkeypatch.setattr(sys, "argv", ["two_gpus.py", *arguments])
    assert two_gpus.main() == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith(f"two_gpus: {said}")
    assert len(err.splitlines()) == 1
