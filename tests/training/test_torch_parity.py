"""Five training steps of Caffe's and torchvision's AlexNet against the same nets and recipes written in PyTorch.

The nets are written here from their sources, `bvlc_alexnet`'s prototxt and torchvision's `alexnet.py`; both sides start
from the same random weights, dropout is off. With `-s` the largest differences are printed.
"""

import math
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.config import compose, compose_model
from alexnet_tf.model import build
from alexnet_tf.training.optimizer import make_optimizer
from alexnet_tf.training.step import make_train_step

torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")

STEPS, BATCH = 5, 2
TOLERANCE = {"float64": 1e-9, "float32": 1e-4}


# ------------------------------------------------------------------------------------------ their nets


def caffe_net(width: int, classes: int) -> torch.nn.Module:
    """`models/bvlc_alexnet/train_val.prototxt` at 1/width of its channels; Caffe rounds pooled sizes up."""
    nn, units = torch.nn, [count // width for count in (96, 256, 384, 384, 256, 4096, 4096)]

    def norm() -> torch.nn.Module:
        return nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)  # alpha is divided by n, as Caffe does

    def pool() -> torch.nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    layers = {
        "conv1": nn.Conv2d(3, units[0], 11, stride=4),
        "relu1": nn.ReLU(),
        "norm1": norm(),
        "pool1": pool(),
        "conv2": nn.Conv2d(units[0], units[1], 5, padding=2, groups=2),
        "relu2": nn.ReLU(),
        "norm2": norm(),
        "pool2": pool(),
        "conv3": nn.Conv2d(units[1], units[2], 3, padding=1),
        "relu3": nn.ReLU(),
        "conv4": nn.Conv2d(units[2], units[3], 3, padding=1, groups=2),
        "relu4": nn.ReLU(),
        "conv5": nn.Conv2d(units[3], units[4], 3, padding=1, groups=2),
        "relu5": nn.ReLU(),
        "pool5": pool(),
    }
    return nn.Sequential(OrderedDict({**layers, **dense_layers(units[4:], classes)}))


def owt_net(width: int, classes: int) -> torch.nn.Module:
    """torchvision's `alexnet` at 1/width of its channels."""
    nn, units = torch.nn, [count // width for count in (64, 192, 384, 256, 256, 4096, 4096)]
    layers = {
        "conv1": nn.Conv2d(3, units[0], 11, stride=4, padding=2),
        "relu1": nn.ReLU(),
        "pool1": nn.MaxPool2d(3, 2),
        "conv2": nn.Conv2d(units[0], units[1], 5, padding=2),
        "relu2": nn.ReLU(),
        "pool2": nn.MaxPool2d(3, 2),
        "conv3": nn.Conv2d(units[1], units[2], 3, padding=1),
        "relu3": nn.ReLU(),
        "conv4": nn.Conv2d(units[2], units[3], 3, padding=1),
        "relu4": nn.ReLU(),
        "conv5": nn.Conv2d(units[3], units[4], 3, padding=1),
        "relu5": nn.ReLU(),
        "pool5": nn.MaxPool2d(3, 2),
        "avgpool": nn.AdaptiveAvgPool2d((6, 6)),
    }
    return nn.Sequential(OrderedDict({**layers, **dense_layers(units[4:], classes)}))


def dense_layers(units: list[int], classes: int) -> dict[str, torch.nn.Module]:
    """What follows the last map of `units[0]` channels: both sources have it alike."""
    nn = torch.nn
    return {
        "flatten": nn.Flatten(),
        "fc6": nn.Linear(6 * 6 * units[0], units[1]),
        "relu6": nn.ReLU(),
        "fc7": nn.Linear(units[1], units[2]),
        "relu7": nn.ReLU(),
        "fc8": nn.Linear(units[2], classes),
    }


# -------------------------------------------------------------------------------------- their recipes


def caffe_sgd(net: torch.nn.Module) -> torch.optim.Optimizer:
    """The solver's base_lr 0.01, momentum 0.9, decay 5e-4; lr_mult 2 and decay_mult 0 of every bias."""
    weights = [value for name, value in net.named_parameters() if name.endswith("weight")]
    biases = [value for name, value in net.named_parameters() if name.endswith("bias")]
    groups = [{"params": weights, "weight_decay": 5e-4}, {"params": biases, "weight_decay": 0.0, "lr": 0.02}]
    return torch.optim.SGD(groups, lr=0.01, momentum=0.9)


def owt_sgd(net: torch.nn.Module) -> torch.optim.Optimizer:
    """torchvision's references/classification, `--lr 1e-2` for AlexNet: momentum 0.9, decay 1e-4 on everything."""
    return torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)


NETS: dict[str, tuple[Callable[..., torch.nn.Module], Callable[..., torch.optim.Optimizer], str]] = {
    "alexnet_caffe": (caffe_net, caffe_sgd, "caffe"),
    "alexnet_owt": (owt_net, owt_sgd, "owt"),
}


# ----------------------------------------------------------------------------------- the same weights


def draw_weights(net: torch.nn.Module, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Random weights for which every part of the net and of the update matters.

    He's deviation keeps the size of activations from layer to layer. conv1 and conv2 get inputs of 30 (below), so that
    LRN's denominators, 1 + 2e-5 * (sum of squares), differ from 1. From conv3 to fc7 a fifth of it brings the
    activations down to 0.1 and the logits to order 1: the softmax is not saturated, and a rate of 0.01 changes the
    weights by up to a hundredth in a step and does not blow the net up.
    """
    weights = {}
    for name, value in net.named_parameters():
        deviation = 0.1 if name.endswith("bias") else math.sqrt(2 / math.prod(value.shape[1:]))
        if name.endswith("weight") and not name.startswith(("conv1", "conv2", "fc8")):
            deviation /= 5
        weights[name] = generator.normal(0, deviation, value.shape)
    return weights


def to_ours(name: str, theirs: np.ndarray) -> np.ndarray:
    """PyTorch's layout to TensorFlow's: OIHW to HWIO, and fc6 reads its maps as (H, W, C) and not as (C, H, W)."""
    if theirs.ndim == 4:
        return theirs.transpose(2, 3, 1, 0)
    if name == "fc6.weight":
        return theirs.reshape(len(theirs), -1, 6, 6).transpose(2, 3, 1, 0).reshape(-1, len(theirs))
    return theirs.T


def our_path(name: str) -> str:
    return name.replace(".weight", "/kernel").replace(".bias", "/bias")


# ------------------------------------------------------------------------------------- the comparison


class Differences:
    """The largest ||ours - theirs|| / ||theirs|| of each kind, and the tensor and step where it was."""

    def __init__(self) -> None:
        self.worst: dict[str, tuple[float, str]] = {}

    def add(self, kind: str, name: str, ours: np.ndarray, theirs: np.ndarray) -> None:
        assert ours.shape == theirs.shape, name
        difference = float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))
        assert math.isfinite(difference), f"{kind} {name}"
        self.worst[kind] = max(self.worst.get(kind, (0.0, "")), (difference, name))

    def __str__(self) -> str:
        return "\n".join(f"  {kind:<10}{value:9.1e}  {name}" for kind, (value, name) in self.worst.items())


def compare(name: str, dtype: str, width: int, input_size: int) -> Differences:
    """Take `STEPS` steps on both sides and compare everything after each."""
    make_net, make_sgd, recipe = NETS[name]
    classes = 1000 // width
    generator = np.random.default_rng(0)
    net = make_net(width, classes).to(getattr(torch, dtype))
    weights = draw_weights(net, generator)
    net.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
    sgd = make_sgd(net)

    config = compose([f"model={name}", f"optimizer={recipe}", f"training.batch_size={BATCH}"])
    model = build(our_config(name, width, classes, input_size), dtype=dtype)
    variables = {variable.path: variable for variable in model.trainable_variables}
    assert list(variables) == [our_path(key) for key in weights]
    for key, value in weights.items():
        variables[our_path(key)].assign(to_ours(key, value))
    del weights
    optimizer = make_optimizer(config.optimizer)
    optimizer.build(model.trainable_variables)
    step = make_train_step(model, optimizer, tf.distribute.get_strategy(), config.training, seed=0)

    found = Differences()
    for number in range(STEPS):
        images = generator.normal(0, 30, (BATCH, input_size, input_size, 3)).astype(dtype)
        labels = generator.integers(0, classes, BATCH)
        at = f"step {number + 1}"
        logits = net(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels))
        sgd.zero_grad()
        loss.backward()
        labels = tf.constant(labels, tf.int32)
        with tf.GradientTape() as tape:
            ours = model(images, training=True)
            our_loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, ours))
        gradients = dict(zip(variables, tape.gradient(our_loss, model.trainable_variables), strict=True))
        found.add("logits", at, ours.numpy(), logits.detach().numpy())
        found.add("loss", at, our_loss.numpy(), loss.detach().numpy())
        for key, value in net.named_parameters():
            found.add(
                "gradients",
                f"{key}, {at}",
                gradients[our_path(key)].numpy(),
                to_ours(key, value.grad.numpy()),
            )
        del gradients

        totals = step(images, labels, tf.constant(number), tf.zeros(4, tf.float64))
        sgd.step()
        found.add("loss", at, totals[0].numpy() / BATCH, loss.detach().numpy())
        velocities = [variable for variable in optimizer.variables if variable.path.endswith("velocity")]
        rates = {id(value): group["lr"] for group in sgd.param_groups for value in group["params"]}
        for (key, value), velocity in zip(net.named_parameters(), velocities, strict=True):
            found.add(
                "weights",
                f"{key}, {at}",
                variables[our_path(key)].numpy(),
                to_ours(key, value.detach().numpy()),
            )
            # Theirs is m b + (g + decay w), then w - rate b: ours times -1/rate, which is the same at a constant rate.
            theirs = -rates[id(value)] * sgd.state[value]["momentum_buffer"].numpy()
            found.add("momentum", f"{key}, {at}", velocity.numpy(), to_ours(key, theirs))
    return found


def our_config(name: str, width: int, classes: int, input_size: int):
    stages = compose_model([f"model={name}"]).stages
    changes = {
        key: {"units": stage.units // width, "dropout": 0.0} for key, stage in stages.items() if stage.units
    }
    return compose_model(
        [f"model={name}", f"model.input_size={input_size}"], {"num_classes": classes, "stages": changes}
    )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    ("name", "width", "input_size"),
    [
        ("alexnet_caffe", 8, 227),
        pytest.param("alexnet_caffe", 1, 227, marks=pytest.mark.slow),
    ],
)
def test_five_steps_equal_pytorch(name, width, input_size, dtype):
    found = compare(name, dtype, width, input_size)
    print(
        f"\n{name} at {input_size}, 1/{width} of its channels, {dtype}: largest relative differences\n{found}"
    )
    assert set(found.worst) == {"logits", "loss", "gradients", "weights", "momentum"}
    for kind, (value, tensor) in found.worst.items():
        assert value < TOLERANCE[dtype], f"{kind}: {tensor}"
