"""What an export is measured against: the run's own predictions on raw images of its data."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from alexnet_tf.config.schema import Precision
from alexnet_tf.data import DamagedError, DataError
from alexnet_tf.export.job import Job
from alexnet_tf.export.pictures import read_pictures
from alexnet_tf.export.reload import median_seconds
from alexnet_tf.inference import Run
from alexnet_tf.runs import RunError

IMAGES = 256
"""Images to compare on, or all there are."""
SIDE = 256
"""Side of a made-up image, where the real ones are gone and had no common size: the paper's."""

TOLERANCES = {
    Precision.float32: 1e-5,
    Precision.float64: 1e-5,
    Precision.float16: 4e-3,
    Precision.bfloat16: 3e-2,
}
"""Largest difference of a probability where nothing is quantised.

In float32 and float64 only the order of additions differs: noise near 1e-7. In 16 bits a saved graph fuses convolution,
bias and activation and so skips roundings that the run's model makes, each of one unit in the last place (2**-11 in
float16, 2**-8 in bfloat16, relative). Measured in bfloat16 over four trained layers: 5e-3; AlexNet has eight. The limits
are eight units in the last place.
"""
QUANTIZED_TOLERANCES = {"float16": 2e-2, "dynamic": 1.0, "int8": 1.0}
"""The same where weights or activations are quantised: in 8 bits a single probability may change by much."""
AGREEMENTS = {"none": 0.0, "float16": 0.9, "dynamic": 0.9, "int8": 0.9}
"""Smallest fraction of images with the same most probable class: our choice. Where nothing is quantised the tolerance
alone decides, as then only classes that tie within twice the tolerance can change their order."""


@dataclass(frozen=True)
class Reference:
    """Raw images and what the run says of them.

    Attributes:
        batches: uint8 `[N, H, W, C]`; each has images of one size.
        classes: The true ones, int `[images]`; None for made-up images.
        probabilities: The run's `[N, classes]`, a batch each.
        origin: Where the images are from: `validation`, `train` or `random`.
        note: Why they are random; empty if they are real.
        seconds: For one image of the frame's size, the median.
    """

    batches: list[np.ndarray]
    classes: np.ndarray | None
    probabilities: list[np.ndarray]
    origin: str
    note: str
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """How far an export is from the run.

    Attributes:
        images: How many were compared.
        max_difference: The largest difference of a probability.
        tolerance: What `max_difference` may be.
        top1_agreement: Fraction of images (0-1) with the same most probable class.
        least_agreement: What `top1_agreement` has to be.
        run_error: Fraction of the images (0-1) that the run gives a wrong class; None for made-up images.
        export_error: The same of the export.
    """

    images: int
    max_difference: float
    tolerance: float
    top1_agreement: float
    least_agreement: float
    run_error: float | None
    export_error: float | None


def make_reference(job: Job) -> Reference:
    """Predict images of the run's validation split, or of training where there is none.

    Where the data is not there any more, seeded random images of the stored shape stand in.

    Raises:
        RunError: If the run's model gives no usable probabilities.
        ConfigError: If the data has other classes than the run, or its preprocessing cannot cut the views.
        DamagedError: If an image is damaged.
    """
    run, note, classes = job.run, "", None
    try:
        source = run.load_source()
    except DamagedError:
        raise
    except (DataError, tf.errors.OpError) as error:
        origin, batches, note = "random", [_random_images(run)], " ".join(str(error).split())[:300]
    else:
        origin = "validation" if "validation" in source.splits else "train"
        pictures = read_pictures(source, origin, IMAGES)
        batches, classes = pictures.batches(), pictures.labels
    with tf.device("/CPU:0"):
        probabilities = [np.asarray(run.predict(batch, views=job.views), np.float64) for batch in batches]
        one = job.one(batches[0])
        seconds = median_seconds(lambda: run.predict(one, views=job.views))
    if not all(np.isfinite(rows).all() for rows in probabilities):
        raise RunError(
            f"{run.path}: its model gives probabilities that are not numbers; nothing was exported"
        )
    return Reference(batches, classes, probabilities, origin, note, seconds)


def compare(job: Job, reference: Reference, outputs: list[np.ndarray]) -> Comparison:
    """Compare an export's probabilities, a batch each, with the run's.

    Raises:
        RunError: If they differ.
    """
    if [rows.shape for rows in outputs] != [rows.shape for rows in reference.probabilities]:
        raise RunError(
            f"{job.run.path}: the export gives other shapes than the run's model; nothing was exported"
        )
    tolerance = _tolerance(job)
    expected, received = np.concatenate(reference.probabilities), np.concatenate(outputs)
    difference = float(np.abs(expected - received).max())
    first, second = expected.argmax(axis=1), received.argmax(axis=1)
    agreement, least = float((first == second).mean()), AGREEMENTS[job.quantize]
    if not difference <= tolerance or agreement < least:  # `not <=` catches NaN
        raise RunError(
            f"{job.run.path}: the export differs from the run's model: probabilities by up to {difference:.2g} "
            f"(allowed {tolerance:g}), top-1 agrees on {100 * agreement:.1f} % of {len(expected)} images (expected "
            f"{100 * least:g} %); nothing was exported"
        )
    classes = reference.classes
    errors = [None if classes is None else float((found != classes).mean()) for found in (first, second)]
    return Comparison(len(expected), difference, tolerance, agreement, least, *errors)


def check_close(job: Job, expected: np.ndarray, received: np.ndarray) -> None:
    """Compare probabilities of one export with others of it.

    Raises:
        RunError: If they differ by more than the tolerance.
    """
    difference, tolerance = float(np.abs(expected - received).max(initial=0)), _tolerance(job)
    if not difference <= tolerance:
        raise RunError(
            f"{job.run.path}: the signatures of the export differ by up to {difference:.2g} (allowed {tolerance:g}); "
            "nothing was exported"
        )


def _tolerance(job: Job) -> float:
    own = TOLERANCES[job.run.precision]
    return max(own, QUANTIZED_TOLERANCES.get(job.quantize, 0.0))


def _random_images(run: Run) -> np.ndarray:
    side = max(SIDE, run.config.model.input_size)
    shape = run.dataset()["image_shape"] or [side, side, run.config.data.channels]
    return np.random.default_rng(0).integers(0, 256, [IMAGES // 4, *shape], np.uint8)
