"""Weights and gradients layer by layer: their distributions over the training, and what the nonlinearity does to depth."""

import dataclasses
import gc
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.config.schema import Activation, StagedModelConfig
from alexnet_tf.evaluation import cross_entropy
from alexnet_tf.model import build
from alexnet_tf.visualize.network import batch_rows, weighted_layers

COMPARED = (Activation.sigmoid, Activation.tanh, Activation.relu)
BINS = 60


def kernel_gradients(
    model: keras.Model, images: tf.Tensor, labels: tf.Tensor, rows: int | None = None
) -> list[np.ndarray]:
    """The gradients of the mean loss with respect to each kernel, without dropout, in the order of the layers.

    Args:
        model: Images to logits.
        images: `[N, H, W, C]`, preprocessed.
        labels: int32 `[N]`.
        rows: Images at once, by default `batch_rows`; what they add up to depends on it by rounding alone.
    """
    rows = rows or batch_rows(model)
    kernels = [layer.kernel for layer in weighted_layers(model)]
    sums = [np.zeros(kernel.shape, np.float32) for kernel in kernels]
    for start in range(0, len(labels), rows):
        part = slice(start, start + rows)
        with tf.GradientTape() as tape:
            logits = model(images[part], training=False)
            loss = tf.reduce_sum(cross_entropy(logits, labels[part])) / len(labels)
        for total, gradient in zip(sums, tape.gradient(loss, kernels), strict=True):
            total += gradient.numpy()
    return sums


def depth_norms(
    config: StagedModelConfig, images: tf.Tensor, labels: tf.Tensor, *, seed: int
) -> tuple[list[str], dict[str, list[float]]]:
    """The gradient's norm in each layer before training, with each of `COMPARED` as the network's nonlinearity.

    The networks have the same seed, and so the same initial weights, and see the same batch. A stage that has a
    nonlinearity of its own keeps it.

    Args:
        config: With its number of classes.
        images: `[N, H, W, C]`, preprocessed.
        labels: int32 `[N]`.
        seed: Of the initial weights.

    Returns:
        The names of the layers, and for each nonlinearity the L2 norms of the kernels' gradients.
    """
    names: list[str] = []
    norms = {}
    for activation in COMPARED:
        model = build(dataclasses.replace(config, activation=activation), seed=seed)
        names = [layer.name for layer in weighted_layers(model)]
        norms[str(activation)] = [
            float(np.linalg.norm(each)) for each in kernel_gradients(model, images, labels)
        ]
        del model
        gc.collect()  # a Keras model is in cycles, and the next one wants its memory
    return names, norms


@dataclass(frozen=True, eq=False)
class Histograms:
    """Distributions of one layer's weights and gradients at several steps.

    Attributes:
        layer: Its name.
        weights: Shares `[steps, BINS]` of the weights between `weight_edges`; what lies outside is in the outer bins.
        weight_edges: `[BINS + 1]`.
        gradients: Shares `[steps, BINS]` of log10 of the gradients' absolute values; those that are 0 do not count.
        gradient_edges: `[BINS + 1]`, as powers of ten.
        zeros: The share of gradients that are exactly 0, `[steps]`.
    """

    layer: str
    weights: np.ndarray
    weight_edges: np.ndarray
    gradients: np.ndarray
    gradient_edges: np.ndarray
    zeros: np.ndarray


@dataclass(eq=False)
class Snapshots:
    """What is kept of each step's kernels and gradients until the ranges of all are known."""

    layers: Sequence[str]
    steps: list[int] = dataclasses.field(default_factory=list)
    weights: list[list[np.ndarray]] = dataclasses.field(default_factory=list)
    gradients: list[list[np.ndarray]] = dataclasses.field(default_factory=list)
    most: int = 100_000
    """Values of a layer; of more, a fixed spread of them counts."""

    def add(self, step: int, kernels: Sequence[np.ndarray], gradients: Sequence[np.ndarray]) -> None:
        """Keep the values of one step."""
        self.steps.append(step)
        self.weights.append([self._some(kernel) for kernel in kernels])
        self.gradients.append([self._some(gradient) for gradient in gradients])

    def _some(self, values: np.ndarray) -> np.ndarray:
        return values.reshape(-1)[:: max(1, -(-values.size // self.most))].astype(np.float64)

    def histograms(self) -> list[Histograms]:
        """One for each layer."""
        return [
            histograms(name, [step[i] for step in self.weights], [step[i] for step in self.gradients])
            for i, name in enumerate(self.layers)
        ]


def histograms(layer: str, weights: Sequence[np.ndarray], gradients: Sequence[np.ndarray]) -> Histograms:
    """Count a layer's weights and gradients, one array of each for each step, between edges that all steps share.

    The edges hold 99.8 % of the weights of every step, and all gradients but the smallest 0.2 % that are not 0.
    """
    reach = max(float(np.quantile(np.abs(each), 0.998)) for each in weights) or 1.0
    weight_edges = np.linspace(-reach, reach, BINS + 1)
    logs = [np.log10(np.abs(each[each != 0])) for each in gradients]
    present = [each for each in logs if each.size]
    low = min((float(np.quantile(each, 0.002)) for each in present), default=-1.0)
    high = max((float(each.max()) for each in present), default=0.0)
    gradient_edges = np.linspace(low, max(high, low + 1e-6), BINS + 1)
    return Histograms(
        layer,
        np.stack([_shares(each, weight_edges) for each in weights]),
        weight_edges,
        np.stack([_shares(each, gradient_edges) for each in logs]),
        gradient_edges,
        np.array([float(np.mean(each == 0)) for each in gradients]),
    )


def _shares(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return counts / max(1, values.size)
