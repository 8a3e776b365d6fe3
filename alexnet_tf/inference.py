"""A finished run as something to use: its model, its preprocessing, its predictions."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import data, runs
from alexnet_tf.config import Config, ConfigError, from_run, view_crop
from alexnet_tf.config.schema import ClassicalConfig

# Importing the package also registers the names by which Keras finds our layers.
from alexnet_tf.model import one_pass_scope
from alexnet_tf.runs import RunError, RunFolder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run(RunFolder):
    """A run folder with what needs TensorFlow.

    Example:
        >>> import alexnet_tf as at
        >>> run = at.load_run("runs/relu")
        >>> run
        Run('runs/relu', finished, step 3, best validation error ... %)
        >>> run.config.model.activation
        <Activation.relu: 'relu'>
        >>> run.metrics()[["epoch", "step", "split"]]
           epoch  step       split
        0      1     3       train
        1      1     3  validation
        >>> run.model().output_shape
        (None, 10)
        >>> import numpy as np
        >>> images = np.zeros((2, 8, 8, 1), np.uint8)
        >>> run.predict(images).shape
        (2, 10)
        >>> run.class_names[:3]
        ['0', '1', '2']
    """

    def __repr__(self) -> str:
        try:
            status = self.status()
        except RunError:  # to look at a run must not fail
            return f"Run({str(self.path)!r}, {runs.STATUS} is damaged)"
        best = status.get("best_error")
        error = f", best validation error {100 * best:.1f} %" if best is not None else ""
        return f"Run({str(self.path)!r}, {status['state']}, step {status.get('step', 0)}{error})"

    @cached_property
    def config(self) -> Config:
        """The resolved config."""
        return from_run(self.path / runs.CONFIG, self.config_dict())

    @cached_property
    def class_names(self) -> list[str]:
        """The names of the classes, in the order of the logits."""
        return list(self.dataset()["class_names"])

    def statistics(self) -> data.Statistics | None:
        """Mean image and colour covariance of the training split, if the run's preprocessing needs any.

        Raises:
            DataError: If the file is damaged.
        """
        path = self.path / runs.STATISTICS
        return data.Statistics.load(path) if path.exists() else None

    def load_source(self) -> data.DataSource:
        """The run's data as they are now; a warning is logged if their splits are not those of the training.

        Raises:
            DataError: If they are not there or not readable.
            ConfigError: If their classes are others than the run's, or in another order.
            RunError: If the run's `dataset.json` is missing or damaged.
        """
        known = self.dataset()
        source = data.load_source(self.config.data)
        if source.class_names != known["class_names"]:
            raise ConfigError(
                f"{self.path}: expected the run's classes {_differing(known['class_names'], source.class_names)} "
                f"in data={source.name}, found {_differing(source.class_names, known['class_names'])}"
            )
        if known["fingerprint"] not in (None, source.fingerprint):  # None: the run was not trained here
            logger.warning(
                "%s: data=%s has changed since the training: the splits are not those of the run",
                self.path,
                source.name,
            )
        return source

    def model_path(self) -> Path:
        """The file of the final network.

        Raises:
            RunError: If the run has not finished.
            ConfigError: If it is none of a network.
        """
        if isinstance(self.config.model, ClassicalConfig):
            raise ConfigError(
                f"{self.path}: model={self.config.model.name} is no network but an SVM on features. Expected a network"
            )
        path = self.path / runs.MODEL
        state = self.status()["state"]
        if state != runs.State.finished or not path.exists():  # a file may be left from an earlier end
            raise RunError(
                f"{self.path}: has no {runs.MODEL}: the run is {state}; go on with alexnet train resume={self.path}"
            )
        return path

    def model(self) -> keras.Model:
        """The final model: preprocessed float images `[N, S, S, C]` to logits `[N, classes]`.

        Raises:
            RunError: If the run has not finished, or the file is damaged.
        """
        path = self.model_path()
        try:
            return keras.models.load_model(path, compile=False, safe_mode=True)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise RunError(f"{path}: cannot be loaded ({' '.join(str(error).split())[:200]})") from error

    @cached_property
    def _loaded(self) -> keras.Model:
        """The model of `predict`, loaded once; `model` gives a new one that its owner may train on."""
        return self.model()

    def predict(self, images: Any, batch_size: int = 64, *, views: int = 1) -> np.ndarray:
        """Class probabilities of images of one size.

        Args:
            images: uint8 `[N, H, W, C]`, values 0-255, of any height and width that the run's preprocessing takes.
            batch_size: Images at once, or crops of them where there are several views.
            views: Crops of each image to average over: 1 (the evaluation crop), 5 (four corners and centre) or 10
                (these and their mirror images; paper, section 4.1).

        Returns:
            float32 `[N, classes]`, the softmax of the logits, averaged over the views.

        Raises:
            ValueError: If the images are of another dtype, shape or number of channels, or `batch_size` is below 1.
            ConfigError: If the run's preprocessing cannot cut several views.
            RunError: If the run has not finished.
        """
        images = np.asarray(images)
        _check_images(images, self.config.model.input_channels)
        if batch_size < 1:
            raise ValueError(f"Expected a batch_size of at least 1. Received: {batch_size}")
        view_crop(self.config.augment, views)
        model, statistics = self._loaded, self.statistics()
        rows = [np.zeros((0, model.output_shape[-1]), np.float32)]
        at_once = max(1, batch_size // views)
        for start in range(0, len(images), at_once):
            some = images[start : start + at_once]
            inputs = data.preprocess_images(some, self.config.augment, statistics, views=views)
            rows.append(tf.exp(log_probabilities(model, inputs)).numpy().astype(np.float32))
        return np.concatenate(rows)


def log_probabilities(model: keras.Model, images: tf.Tensor) -> tf.Tensor:
    """Log of the softmax probabilities, averaged over an image's views where it has several.

    They are logits too: their softmax is the averaged probabilities. In float64, where taking the logarithm neither
    makes ties nor runs into zero.

    Args:
        model: Preprocessed float images to logits.
        images: `[N, S, S, C]`, or `[N, views, S, S, C]`.

    Returns:
        float64 `[N, classes]`.
    """

    def one_view(images: tf.Tensor) -> tf.Tensor:
        with one_pass_scope():
            return tf.nn.log_softmax(tf.cast(model(images, training=False), tf.float64))

    def log_mean(rows: tf.Tensor) -> tf.Tensor:
        return tf.reduce_logsumexp(rows, axis=1) - tf.math.log(tf.cast(rows.shape[1], tf.float64))

    return over_views(one_view, images, log_mean)


def over_views(
    answer: Callable[[tf.Tensor], tf.Tensor], images: tf.Tensor, mean: Callable[[tf.Tensor], tf.Tensor]
) -> tf.Tensor:
    """Answers to images, averaged over the views of each where it has several.

    Args:
        answer: From `[N, S, S, C]` to `[N, classes]`.
        images: `[N, S, S, C]`, or `[N, views, S, S, C]`.
        mean: From `[N, views, classes]` to `[N, classes]`.
    """
    if len(images.shape) == 4:
        return answer(images)
    rows = answer(tf.reshape(images, [-1, *images.shape[2:]]))
    return mean(tf.reshape(rows, [-1, images.shape[1], rows.shape[-1]]))


def class_labels(run: Run, outputs: int) -> list[str]:
    """A label of one line for each output; outputs beyond the data's classes (`model.num_classes`) are `class <i>`."""
    names = [" ".join(name.splitlines()) for name in run.class_names]
    return [*names, *(f"class {index}" for index in range(len(names), outputs))]


def _check_images(images: np.ndarray, channels: int | None) -> None:
    """Raise `ValueError` for what is no batch of images of so many channels (None: any)."""
    shape = images.shape
    fits = images.dtype == np.uint8 and len(shape) == 4 and channels in (None, shape[-1])
    if not fits or 0 in shape[1:]:
        raise ValueError(
            f"Expected uint8 images [N, H, W, {channels or 'C'}] of at least one pixel. "
            f"Received: {images.dtype} {list(shape)}"
        )


def _differing(names: list[str], others: list[str], most: int = 5) -> str:
    """The first few of `names` that are at another place in `others` or not there, for an error's one line."""
    places = dict(enumerate(others))
    found = [f"{index}: {name!r}" for index, name in enumerate(names) if places.get(index) != name]
    more = [f"{len(found) - most} more"] if len(found) > most else []
    return f"[{', '.join([*found[:most], *more])}] of {len(names)}"


def load_run(path: str | os.PathLike[str]) -> Run:
    """The run in a folder, finished or not.

    Example:
        >>> import alexnet_tf as at
        >>> at.load_run("runs/relu").name
        'relu'

    Raises:
        WrongPathError: If there is none; a `RunError`.
    """
    return Run(RunFolder.open(path).path)
