"""What an export is measured against: the run's own predictions on raw images of its data."""

from dataclasses import dataclass
from functools import cached_property
from typing import cast

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.config.schema import Precision
from alexnet_tf.data import DataError, DataSource, explain_error
from alexnet_tf.data.folder import UnreadableImageError
from alexnet_tf.data.splits import Split
from alexnet_tf.data.stores import StreamStore
from alexnet_tf.inference import Run
from alexnet_tf.runs import RunError

IMAGES = 64
"""Images to compare on, or all there are."""
SIDE = 256
"""Side of a made-up image, where the real ones are gone and had no common size: the paper's."""

TOLERANCES = {
    Precision.float32: 1e-5,
    Precision.float64: 1e-5,
    Precision.float16: 4e-3,
    Precision.bfloat16: 3e-2,
}
"""Largest difference of a probability.

In float32 and float64 only the order of additions differs: noise near 1e-7. In 16 bits a saved graph fuses convolution,
bias and activation and so skips roundings that the run's model makes, each of one unit in the last place (2**-11 in
float16, 2**-8 in bfloat16, relative). Measured in bfloat16 over four trained layers: 5e-3; AlexNet has eight. The limits
are eight units in the last place.
"""
EXACT_TOP1 = (Precision.float32, Precision.float64)
"""Where top-1 must be identical. In 16 bits close classes tie, and the order of a tie is not the export's fault."""


@dataclass(frozen=True)
class LoadedRun(Run):
    """A run that loads its model once, on the CPU, where the export is run too: GPUs round otherwise."""

    @cached_property
    def _model(self) -> keras.Model:
        with tf.device("/CPU:0"):
            return super().model()

    def model(self) -> keras.Model:
        """The final model: preprocessed float images `[N, S, S, C]` to logits `[N, classes]`."""
        return self._model


@dataclass(frozen=True)
class Reference:
    """Raw images and what the run says of them.

    Attributes:
        batches: uint8 `[N, H, W, C]`; each has images of one size.
        probabilities: The run's `[N, classes]`, a batch each.
        origin: Where the images are from: `validation`, `train` or `random`.
        note: Why they are random; empty if they are real.
    """

    batches: list[np.ndarray]
    probabilities: list[np.ndarray]
    origin: str
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """How far an export is from the run.

    Attributes:
        images: How many were compared.
        max_difference: The largest difference of a probability.
        top1_agreement: Fraction of images (0-1) with the same most probable class.
        tolerance: What `max_difference` may be.
    """

    images: int
    max_difference: float
    top1_agreement: float
    tolerance: float


def make_reference(run: Run) -> Reference:
    """Predict the first images of the run's validation split, or of training where there is none.

    Where the data is not there any more, seeded random images of the stored shape stand in.

    Raises:
        RunError: If the run's model gives no usable probabilities.
        ConfigError: If the data has other classes than the run.
        UnreadableImageError: If an image is damaged.
    """
    try:
        origin, batches = _raw_images(run.load_source())
        note = ""
    except UnreadableImageError:
        raise
    except (DataError, tf.errors.OpError) as error:
        origin, batches, note = "random", [_random_images(run)], " ".join(str(error).split())[:300]
    with tf.device("/CPU:0"):
        probabilities = [np.asarray(run.predict(batch), np.float64) for batch in batches]
    if not all(np.isfinite(rows).all() for rows in probabilities):
        raise RunError(
            f"{run.path}: its model gives probabilities that are not numbers; nothing was exported"
        )
    return Reference(batches, probabilities, origin, note)


def compare(run: Run, reference: Reference, outputs: list[np.ndarray]) -> Comparison:
    """Compare an export's probabilities, a batch each, with the run's.

    Raises:
        RunError: If they differ.
    """
    precision = run.config.training.precision
    tolerance = TOLERANCES[precision]
    if [rows.shape for rows in outputs] != [rows.shape for rows in reference.probabilities]:
        raise RunError(
            f"{run.path}: the export gives other shapes than the run's model; nothing was exported"
        )
    expected, received = np.concatenate(reference.probabilities), np.concatenate(outputs)
    difference = float(np.abs(expected - received).max())
    agreement = float((expected.argmax(axis=1) == received.argmax(axis=1)).mean())
    if not difference <= tolerance or (agreement < 1 and precision in EXACT_TOP1):  # `not <=` catches NaN
        raise RunError(
            f"{run.path}: the export differs from the run's model: probabilities by up to {difference:.2g} "
            f"(allowed {tolerance:g}), top-1 agrees on {100 * agreement:.1f} % of {len(expected)} images; "
            "nothing was exported"
        )
    return Comparison(len(expected), difference, agreement, tolerance)


def _raw_images(source: DataSource) -> tuple[str, list[np.ndarray]]:
    """The split's name, and batches of its first images before any preprocessing."""
    split = source.split("validation" if "validation" in source.splits else "train")
    try:
        images = [image.numpy() for image, *_ in _first_examples(split)]
    except tf.errors.OpError as error:
        if known := explain_error(error, source):
            raise known from error
        raise
    if len({image.shape for image in images}) == 1:
        return split.name, [np.stack(images)]
    return split.name, [image[np.newaxis] for image in images]


def _first_examples(split: Split) -> tf.data.Dataset:
    """The first `IMAGES` (image, label, id) of a split."""
    if split.ids is None:
        start = split.start
        return cast("StreamStore", split.store).stream(start, start + min(IMAGES, split.num_examples))
    assert not isinstance(split.store, StreamStore)  # it has no ids
    return split.store.examples(tf.data.Dataset.from_tensor_slices(split.ids[:IMAGES]))


def _random_images(run: Run) -> np.ndarray:
    side = max(SIDE, run.config.model.input_size)
    shape = run.dataset()["image_shape"] or [side, side, run.config.data.channels]
    return np.random.default_rng(0).integers(0, 256, [IMAGES, *shape], np.uint8)
