"""AlexNet's two columns on two devices, as in 2012: equal to one device, and every byte between them counted.

    python experiments/two_gpus/two_gpus.py                           # two GPUs, else two halves of the CPU
    python experiments/two_gpus/two_gpus.py --model alexnet_code2012 --batch-size 8 --dtype float64

The paper tells of it in its sections 3.2 and 3.5 and its Figure 2; README.md has what came out.
"""

import argparse
import math
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from alexnet_tf.config import ConfigError, compose, compose_model
from alexnet_tf.config.schema import ModelConfig, StagedModelConfig

if TYPE_CHECKING:  # wrong use is found before TensorFlow is imported
    import keras
    from columns import TwoDevices

PAPER_BATCH = 128
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
"""Largest relative difference from one device, where sums are taken in another order."""


def main() -> int:
    """Run the comparison and print it; 0 if both are equal, 1 if not, 2 for wrong use."""
    parser = argparse.ArgumentParser(description="AlexNet's two columns on two devices.")
    parser.add_argument("--model", default="alexnet", help="a network with two columns (default: alexnet)")
    parser.add_argument("--batch-size", type=int, default=4, help="images (default: 4)")
    parser.add_argument("--dtype", choices=TOLERANCE, default="float32")
    parser.add_argument("--devices", nargs="+", help="two, such as /GPU:0 /GPU:1")
    parser.add_argument("overrides", nargs="*", help="of the network's config: model.stages.fc6.units=512")
    arguments = parser.parse_args()
    try:
        if arguments.batch_size < 1:
            raise ConfigError(f"--batch-size {arguments.batch_size}: expected at least 1")
        config = network(arguments.model, arguments.overrides)
        devices = choose_devices(arguments.devices)
        two, model, differences = compare(config, devices, arguments.dtype, arguments.batch_size)
    except ConfigError as error:
        print(f"two_gpus: {error}", file=sys.stderr)
        return error.exit_status
    print(f"{config.name}, batch {arguments.batch_size}, {arguments.dtype}, on {' and '.join(devices)}")
    print(traffic(two, model, arguments.batch_size))
    print("\nLargest relative difference from one device")
    for kind, value in differences.items():
        print(f"  {kind:<42}{value:>8.1e}")
    equal = all(value < TOLERANCE[arguments.dtype] for value in differences.values())
    print("equal" if equal else f"NOT equal: expected less than {TOLERANCE[arguments.dtype]:g}")
    return 0 if equal else 1


def network(name: str, overrides: list[str]) -> ModelConfig:
    """The config of a network whose columns need nothing of each other but where a layer reads both.

    Raises:
        ConfigError: If it has no two columns, or a stage that two devices cannot share evenly.
    """
    choice = [f"model={name}", *overrides]
    found = compose_model(choice)
    stages = found.stages if isinstance(found, StagedModelConfig) else {}
    columns = max((stage.columns for stage in stages.values()), default=1)
    if columns != 2:
        raise ConfigError(f"--model {name}: expected a network of 2 columns, such as alexnet, came {columns}")
    for key, stage in list(stages.items())[:-1]:
        if stage.units % 2:
            raise ConfigError(
                f"model.stages.{key}.units={stage.units}: expected an even number, half for a device"
            )
    # Across columns, LRN would read two maps of the other column at the edge; the 2012 code normalises within a column.
    # Dropout would not change the traffic: each device would draw its half of the mask.
    changes: dict[str, Any] = {"stages": {key: {"dropout": 0.0} for key in stages}}
    if found.lrn is not None:
        changes["lrn"] = {"scope": "column"}
    return compose_model(choice, changes)


def choose_devices(names: list[str] | None) -> list[str]:
    """Two devices, `["GPU:0", "GPU:1"]` where there are, between which TensorFlow copies nothing by itself.

    Raises:
        ConfigError: If those named are not two, or not there.
    """
    chosen = [name.strip("/").upper() for name in names or []]
    if names and (len(chosen) != 2 or len(set(chosen)) != 2):
        raise ConfigError(f"--devices {' '.join(chosen)}: expected two different ones")

    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    tf.config.set_soft_device_placement(False)
    # An input that is not where the operation runs is an error then, but for int32 such as the axis of a sum.
    tf.config.experimental.set_device_policy("silent_for_int32")
    there = [device.name.removeprefix("/device:") for device in tf.config.list_logical_devices()]
    if missing := sorted(set(chosen) - set(there)):
        raise ConfigError(f"--devices {' '.join(missing)}: expected two of {', '.join(there)}")
    return chosen or (["GPU:0", "GPU:1"] if "GPU:1" in there else ["CPU:0", "CPU:1"])


def compare(
    config: ModelConfig, devices: list[str], dtype: str, batch_size: int
) -> "tuple[TwoDevices, keras.Model, dict[str, float]]":
    """A training step on one device and on two, and the largest ||two - one|| / ||one|| of each kind of tensor."""
    import tensorflow as tf
    from columns import Part, TwoDevices, Wire, loss_of, on

    from alexnet_tf.model import build

    generator = np.random.default_rng(0)
    size = (batch_size, config.input_size, config.input_size, config.input_channels)
    images = generator.normal(0, 60, size).astype(dtype)
    labels = generator.integers(0, config.num_classes, batch_size).astype(np.int32)
    first = devices[0]
    with tf.device(first):
        model = build(config, dtype=dtype)
    two = TwoDevices(model, Wire(devices))
    one = Part(model.layers[1:], first)  # without the input

    one_logits = one.forward(on(first, images))
    one_loss, gradient = loss_of(one_logits, labels, first)
    one.backward(gradient)
    two_logits, two_loss = two.step(images, labels)
    update([one])
    for column in range(2):
        update([parts[column] for parts in two.parts if column < len(parts)])
    return (
        two,
        model,
        {
            "logits": largest([two_logits], [one_logits]),
            "loss": largest([two_loss], [one_loss]),
            "gradients": largest(two.joined(lambda part: part.gradients), one.gradients),
            "weights after the step": largest(two.joined(lambda part: part.variables), one.variables),
        },
    )


def update(parts: list[Any]) -> None:
    """One step of the paper's SGD for the variables of one device, which needs nothing of the other."""
    import tensorflow as tf

    from alexnet_tf.training.optimizer import make_optimizer

    variables = [variable for part in parts for variable in part.variables]
    gradients = [gradient for part in parts for gradient in part.gradients]
    with tf.device(parts[0].device):
        optimizer = make_optimizer(compose(["optimizer=paper"]).optimizer)
        optimizer.build(variables)
        optimizer.apply(gradients, variables)


def largest(two: list[Any], one: list[Any]) -> float:
    """The largest relative difference of two lists of tensors; NaN if there is one."""
    pairs = [(np.asarray(ours), np.asarray(theirs)) for ours, theirs in zip(two, one, strict=True)]
    return float(np.max([np.linalg.norm(ours - theirs) / np.linalg.norm(theirs) for ours, theirs in pairs]))


def traffic(two: "TwoDevices", model: "keras.Model", batch_size: int) -> str:
    """What crossed, beside what the shapes say and what other divisions of the work would send."""
    weighted = [layer for layer in model.layers if hasattr(layer, "kernel")][
        1:
    ]  # both devices have the images
    itemsize = np.dtype(model.output.dtype).itemsize
    halves = {layer.name: math.prod(layer.input.shape[1:]) // 2 * itemsize for layer in weighted}
    lines = [
        "",
        "Bytes per image          forward               backward        half of the",
        "that cross for     1 -> 2    2 -> 1      1 -> 2    2 -> 1   layer's input",
    ]
    for place in two.places[1:]:
        counts = [
            two.wire.bytes[place, direction, to] // batch_size
            for direction in ("forward", "backward")
            for to in (1, 0)
        ]
        lines.append("{:<15}{:>10,}{:>10,}{:>12,}{:>10,}{:>16,}".format(place, *counts, halves[place]))
    # Forward and backward, each half is sent once; of what the last layer reads, only the second device's.
    *inner, last = halves.values()
    steps = {
        "two columns, as counted": sum(two.wire.bytes.values()) / batch_size * PAPER_BATCH,
        "halves without columns, every layer reads all": 2 * (2 * sum(inner) + last) * PAPER_BATCH,
        "data parallel, all gradients both ways": 2 * model.count_params() * itemsize,
    }
    lines += ["", f"Megabytes in a training step of {PAPER_BATCH} images"]
    return "\n".join(lines + [f"  {name:<46}{count / 1e6:>6.1f}" for name, count in steps.items()])


if __name__ == "__main__":
    sys.exit(main())
