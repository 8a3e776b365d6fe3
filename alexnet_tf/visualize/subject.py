"""The run that is looked at, with what several pictures need: its model, its examples, one pass over them."""

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import data
from alexnet_tf.config import ConfigError
from alexnet_tf.config.look import Look
from alexnet_tf.config.schema import AugmentConfig
from alexnet_tf.inference import Run, class_labels, log_probabilities
from alexnet_tf.model import head
from alexnet_tf.visualize.image_file import read_image
from alexnet_tf.visualize.network import (
    NotApplicableError,
    activated,
    batch_rows,
    find_layer,
    parents,
    tap,
    weighted_layers,
)

PROBE = 256
"""Examples of a gradient or of a statistic of activations at most."""
Batch = tuple[np.ndarray, np.ndarray]
"""Images and labels."""


@dataclass(frozen=True, eq=False)
class Example:
    """One image.

    Attributes:
        title: Which it is.
        pixels: uint8 `[S, S, C]`, what the network sees before normalisation.
        inputs: float32 `[S, S, C]`, preprocessed.
        label: Its class; None for a file.
    """

    title: str
    pixels: np.ndarray
    inputs: np.ndarray
    label: int | None


@dataclass(frozen=True, eq=False)
class Answers:
    """What the network makes of examples.

    Attributes:
        places: int64 `[N]`, their places in the split.
        log_probabilities: float64 `[N, classes]`.
        features: float32 `[N, D]`, the inputs of the last layer.
        labels: int32 `[N]`.
    """

    places: np.ndarray
    log_probabilities: np.ndarray
    features: np.ndarray
    labels: np.ndarray


@dataclass(eq=False)
class Subject:
    """A finished run and the options of the look at it."""

    run: Run
    look: Look
    _answers: dict[str, Answers] = dataclasses.field(default_factory=dict)

    @cached_property
    def model(self) -> keras.Model:
        """The trained network."""
        return self.run.model()

    @cached_property
    def source(self) -> data.DataSource:
        """The run's data.

        Raises:
            NotApplicableError: They are not there: others' weights may have come without any.
        """
        try:
            return self.run.load_source()
        except data.DataError as error:
            raise NotApplicableError(f"it needs the run's data: {error}") from error

    @cached_property
    def statistics(self) -> data.Statistics | None:
        """What its preprocessing needs."""
        return self.run.statistics()

    @cached_property
    def class_names(self) -> list[str]:
        """One for each output."""
        return class_labels(self.run, self.model.outputs[0].shape[-1])

    @cached_property
    def split(self) -> str:
        """The split that examples are taken from."""
        if self.look.split is None:
            return "validation" if "validation" in self.source.splits else "train"
        if self.look.split not in self.source.splits:
            raise ConfigError(
                f"split={self.look.split}: expected one of {', '.join(self.source.splits)}, the splits of {self.source.name}"
            )
        return self.look.split

    def check(self) -> None:
        """Raise `ConfigError` for an option that does not fit the run, whether or not a picture takes it."""
        if self.look.layer is not None or self.look.unit is not None:
            _ = self.layer
        if self.look.split is not None:
            _ = self.split
        if self.look.image is not None:
            _ = self.example
        if self.look.target is not None:
            _ = self.targets

    # ------------------------------------------------------------------------------------------------ layers

    @cached_property
    def layer(self) -> keras.layers.Layer:
        """The layer with weights that was asked for."""
        layer = find_layer(self.model, self.look.layer)
        units = layer.output.shape[-1]
        if self.look.unit is not None and self.look.unit >= units:
            raise ConfigError(f"unit={self.look.unit}: expected 0 to {units - 1}, the units of {layer.name}")
        return layer

    @cached_property
    def answering(self) -> keras.layers.Layer:
        """The nonlinearity of `layer`."""
        return activated(self.model, self.layer)

    @cached_property
    def feature_layer(self) -> keras.layers.Layer:
        """The layer that the last one reads."""
        last = head(self.model)
        if not isinstance(last, keras.layers.Dense) or len(last.input.shape) != 2:
            raise NotApplicableError(f"its last layer {last.name} does not read a row of features")
        return parents(self.model, last)[0]

    @cached_property
    def feature_name(self) -> str:
        """What the features are called: the last layer with weights before the last."""
        before = weighted_layers(self.model)[:-1]
        if not before:
            raise NotApplicableError("its only layer with weights reads the pixels: there are no features")
        return before[-1].name

    # ---------------------------------------------------------------------------------------------- examples

    @cached_property
    def example(self) -> Example:
        """The image that was asked for."""
        known = self.look.example()
        if known is None and self.look.image is not None:
            return self._file(Path(self.look.image))
        split, index = known or (self.split, 0)
        if split not in self.source.splits:
            raise ConfigError(
                f"image={self.look.image}: expected one of the splits {', '.join(self.source.splits)} of {self.source.name}"
            )
        examples = self.source.split(split).num_examples
        if index >= examples:
            raise ConfigError(
                f"image={split}:{index}: expected {split}:0 to {split}:{examples - 1}, the examples of {self.source.name}"
            )
        return self.examples(split, np.array([index]))[0]

    def examples(self, split: str, places: np.ndarray) -> list[Example]:
        """Some examples of a split."""
        pixels, labels = self._load(split, places, self._shown)
        inputs, _ = self._load(split, places, self.run.config.augment)
        shown = np.clip(np.round(pixels), 0, 255).astype(np.uint8)
        return [
            Example(f"{split}:{place}", shown[row], inputs[row], int(labels[row]))
            for row, place in enumerate(places)
        ]

    @cached_property
    def _shown(self) -> AugmentConfig:
        """The run's preprocessing without what makes no picture."""
        augment = self.run.config.augment
        return dataclasses.replace(
            augment, order=[name for name in augment.order if name not in data.NORMALISING]
        )

    def _load(self, split: str, places: np.ndarray, augment: AugmentConfig) -> tuple[np.ndarray, np.ndarray]:
        """Preprocessed images and labels; of a streamed split all up to the last place must be read."""
        if self.source.split(split).ids is not None:
            return _joined(self._batches(split, places, augment))
        wanted, order = np.unique(places, return_inverse=True)
        images, labels = _joined(_at(wanted, self._batches(split, np.arange(wanted[-1] + 1), augment)))
        return images[order], labels[order]

    def _batches(self, split: str, places: np.ndarray, augment: AugmentConfig) -> Iterator[Batch]:
        """Batches (images, labels) of the examples at some places, without padding."""
        ids = self.source.split(split).ids
        rows = data.eval_batches(
            self.source,
            split,
            augment,
            self.statistics,
            batch_size=batch_rows(self.model),
            ids=places if ids is None else ids[places],
        )
        for images, labels, weights in rows.as_numpy_iterator():
            kept = weights > 0
            yield images[kept], labels[kept]

    def _file(self, path: Path) -> Example:
        config = self.run.config
        channels = config.model.input_channels or 3
        raw = read_image(path, f"image={path}", channels=channels, max_pixels=config.data.max_pixels)
        try:
            shown, inputs = (
                data.preprocess_images(raw[None], augment, self.statistics)[0].numpy()
                for augment in (self._shown, config.augment)
            )
        except ValueError as error:  # too small for a crop
            raise ConfigError(f"image={path}: {error}") from error
        return Example(path.name, np.clip(np.round(shown), 0, 255).astype(np.uint8), inputs, None)

    def places(self, split: str, most: int | None = None) -> np.ndarray:
        """The places of the examples that are looked at, spread evenly; of a streamed split the first."""
        part = self.source.split(split)
        return part.spread(min(self.look.examples, most or self.look.examples))

    def inputs(self, split: str, most: int | None = None) -> Iterator[Batch]:
        """Batches (images float32 `[n, S, S, C]`, labels int32 `[n]`) of these examples."""
        return self._batches(split, self.places(split, most), self.run.config.augment)

    def probe(self) -> tuple[tf.Tensor, tf.Tensor]:
        """A fixed batch of training examples, preprocessed without randomness, for gradients."""
        images, labels = _joined(self.inputs("train", PROBE))
        return tf.constant(images), tf.constant(labels)

    # ----------------------------------------------------------------------------------------------- answers

    def answers(self, split: str) -> Answers:
        """The network's answers to the examples of a split, from one pass that is made once."""
        if split not in self._answers:
            inside = tap(self.model, [self.feature_layer.output, self.model.outputs[0]])
            found = []
            for images, labels in self.inputs(split):
                features, logits = inside(images)
                rows = tf.nn.log_softmax(tf.cast(logits, tf.float64)).numpy()
                found.append((rows, tf.cast(features, tf.float32).numpy(), labels))
            columns = (np.concatenate(column) for column in zip(*found, strict=True))
            self._answers[split] = Answers(self.places(split), *columns)
        return self._answers[split]

    def log_probabilities(self, example: Example) -> np.ndarray:
        """float64 `[classes]`."""
        return log_probabilities(self.model, tf.constant(example.inputs[None]))[0].numpy()

    @cached_property
    def targets(self) -> list[int]:
        """The classes whose evidence is looked for: the one that was asked for, or the three most probable."""
        if self.look.target is None:
            return [int(index) for index in np.argsort(-self.log_probabilities(self.example))[:3]]
        if self.look.target not in self.class_names:
            names = ", ".join(self.class_names[:12]) + (", ..." if len(self.class_names) > 12 else "")
            raise ConfigError(f"target={self.look.target}: expected a class, one of {names}")
        return [self.class_names.index(self.look.target)]


def _at(places: np.ndarray, batches: Iterable[Batch]) -> Iterator[Batch]:
    """What is at some places, in their order, of batches that begin at place 0; nothing else is kept."""
    start = 0
    for images, labels in batches:
        here = places[(places >= start) & (places < start + len(labels))] - start
        yield images[here], labels[here]
        start += len(labels)


def _joined(batches: Iterable[Batch]) -> Batch:
    images, labels = zip(*batches, strict=True)
    return np.concatenate(images), np.concatenate(labels)
