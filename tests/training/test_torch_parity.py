"""Five training steps of Caffe's and torchvision's AlexNet against the same nets and recipes written in PyTorch.

The nets are written here from their sources, `bvlc_alexnet`'s prototxt and torchvision's `alexnet.py`; both sides start
from the same random weights, dropout is off. With `-s` the largest differences are printed.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import chain

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.config import compose, compose_model
from alexnet_tf.config.schema import ModelConfig
from alexnet_tf.model import build
from alexnet_tf.training.optimizer import make_optimizer
from alexnet_tf.training.step import make_train_step

torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")

STEPS, BATCH = 5, 2
IMAGES = 20  # standard deviation of the pixels; see draw_weights
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

    He's deviation keeps the size of activations from layer to layer. conv1 and conv2 get inputs of 20, so that LRN's
    denominators, 1 + 2e-5 * (sum of squares), differ from 1. From conv3 to fc7 a fifth of it brings the activations down
    to 0.1 and the logits to order 1: the softmax is not saturated, and a rate of 0.01 changes the weights by up to a
    hundredth in a step and does not blow the net up.
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


def margin(net: torch.nn.Module, maps: torch.Tensor) -> float:
    """How near the net is to a tie, in standard deviations of a map.

    Where a ReLU's input is 0 to float32's precision, or two maxima of a pooling window are equal, rounding decides where
    the whole gradient of that unit goes, by which right implementations differ. Of the ReLUs below a pooling layer only
    the largest in a window count.
    """
    closest, layers = math.inf, list(net)
    with torch.no_grad():
        for number, layer in enumerate(layers):
            distances = torch.tensor([])
            if isinstance(layer, torch.nn.MaxPool2d):
                first, second = maps.unfold(2, 3, 2).unfold(3, 3, 2).flatten(-2).topk(2).values.unbind(-1)
                distances = (first - second)[first > 0]
            elif isinstance(layer, torch.nn.ReLU) and isinstance(
                layers[number + 1], torch.nn.Conv2d | torch.nn.Linear
            ):
                distances = maps.abs()
            if distances.numel():
                closest = min(closest, float(distances.min() / maps.std()))
            maps = layer(maps)
    return closest


# ------------------------------------------------------------------------------------- the comparison

Compared = Iterator[tuple[str, str, np.ndarray, np.ndarray]]
"""Kind, tensor, ours, theirs in our layout."""


class Pair:
    """The same net with the same weights and the same recipe on both sides."""

    def __init__(self, name: str, dtype: str, width: int, input_size: int, generator: np.random.Generator):
        make_net, make_sgd, recipe = NETS[name]
        self.classes = 1000 // width
        self.shape, self.dtype = (BATCH, input_size, input_size, 3), dtype
        self.net = make_net(width, self.classes).to(getattr(torch, dtype))
        weights = draw_weights(self.net, generator)
        self.net.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
        self.sgd = make_sgd(self.net)

        config = compose([f"model={name}", f"optimizer={recipe}", f"training.batch_size={BATCH}"])
        self.model = build(narrow(name, width, self.classes, input_size), dtype=dtype)
        self.variables = {variable.path: variable for variable in self.model.trainable_variables}
        assert list(self.variables) == [our_path(key) for key in weights]
        for key, value in weights.items():
            self.variables[our_path(key)].assign(to_ours(key, value))
        self.optimizer = make_optimizer(config.optimizer)
        self.optimizer.build(self.model.trainable_variables)
        strategy = tf.distribute.get_strategy()
        self.step = make_train_step(self.model, self.optimizer, strategy, config.training, seed=0)

    def draw_images(self, generator: np.random.Generator) -> np.ndarray:
        """Random images on which the last bits of a sum decide nothing; others are drawn again."""
        while True:
            images = generator.normal(0, IMAGES, self.shape).astype(self.dtype)
            if margin(self.net, torch.from_numpy(images.transpose(0, 3, 1, 2).copy())) > 2e-6:
                return images

    def passes(self, images: np.ndarray, labels: np.ndarray) -> Compared:
        """A forward and a backward pass."""
        logits = self.net(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
        self.loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels))
        self.sgd.zero_grad()
        self.loss.backward()
        with tf.GradientTape() as tape:
            ours = self.model(images, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.constant(labels), ours)
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, self.model.trainable_variables)
        yield "logits", "logits", ours.numpy(), logits.detach().numpy()
        yield "loss", "loss", loss.numpy(), self.loss.detach().numpy()
        for (key, value), gradient in zip(self.net.named_parameters(), gradients, strict=True):
            yield "gradients", key, gradient.numpy(), to_ours(key, value.grad.numpy())

    def update(self, images: np.ndarray, labels: np.ndarray, number: int) -> Compared:
        """A training step on the same batch, ours all in one."""
        self.sgd.step()
        labels = tf.constant(labels, tf.int32)
        totals = self.step(images, labels, tf.constant(number), tf.zeros(4, tf.float64))
        yield "loss", "training loss", totals[0].numpy() / BATCH, self.loss.detach().numpy()
        velocities = [value for value in self.optimizer.variables if value.path.endswith("velocity")]
        rates = {id(value): group["lr"] for group in self.sgd.param_groups for value in group["params"]}
        for (key, value), velocity in zip(self.net.named_parameters(), velocities, strict=True):
            ours = self.variables[our_path(key)].numpy()
            yield "weights", key, ours, to_ours(key, value.detach().numpy())
            # Theirs is b = m b + g + decay w and w = w - rate b: at a constant rate, ours is -rate b.
            momentum = -rates[id(value)] * self.sgd.state[value]["momentum_buffer"].numpy()
            yield "momentum", key, velocity.numpy(), to_ours(key, momentum)


def narrow(name: str, width: int, classes: int, input_size: int) -> ModelConfig:
    """Our network at 1/width of its channels, without dropout."""
    found = compose_model([f"model={name}", f"model.input_size={input_size}"])
    stages: dict[str, dict[str, float]] = {key: {"dropout": 0.0} for key in found.stages}
    for key, stage in found.stages.items():
        if stage.units is not None:
            stages[key]["units"] = stage.units // width
    return compose_model(
        [f"model={name}", f"model.input_size={input_size}"], {"num_classes": classes, "stages": stages}
    )


def compare(name: str, dtype: str, width: int, input_size: int) -> dict[str, tuple[float, str]]:
    """The largest ||ours - theirs|| / ||theirs|| of each kind in `STEPS` steps on as many batches, and where it was."""
    generator = np.random.default_rng(0)
    pair = Pair(name, dtype, width, input_size, generator)
    worst: dict[str, tuple[float, str]] = {}
    for number in range(STEPS):
        images = pair.draw_images(generator)
        labels = generator.integers(0, pair.classes, BATCH)
        for kind, tensor, ours, theirs in chain(
            pair.passes(images, labels), pair.update(images, labels, number)
        ):
            assert ours.shape == theirs.shape, tensor
            difference = float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))
            assert math.isfinite(difference), f"{kind}: {tensor}"
            worst[kind] = max(worst.get(kind, (0.0, "")), (difference, f"{tensor}, step {number + 1}"))
    return worst


@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("name", "width", "input_size"),
    [
        pytest.param("alexnet_caffe", 16, 227, marks=pytest.mark.slow),
        pytest.param("alexnet_owt", 8, 224, marks=pytest.mark.slow),
        ("alexnet_owt", 8, 192),  # adaptive pooling makes 6 x 6 of 5 x 5
        pytest.param("alexnet_caffe", 1, 227, marks=[pytest.mark.slow, pytest.mark.timeout(1200)]),
        pytest.param("alexnet_owt", 1, 224, marks=[pytest.mark.slow, pytest.mark.timeout(1200)]),
    ],
)
def test_five_steps_equal_pytorch(name, width, input_size, dtype):
    worst = compare(name, dtype, width, input_size)
    print(f"\n{name} at {input_size}, 1/{width} of its channels, {dtype}: largest relative differences")
    for kind, (value, tensor) in worst.items():
        print(f"  {kind:<10}{value:9.1e}  {tensor}")
    assert set(worst) == {"logits", "loss", "gradients", "weights", "momentum"}
    for kind, (value, tensor) in worst.items():
        assert value < TOLERANCE[dtype], f"{kind}: {tensor}"
