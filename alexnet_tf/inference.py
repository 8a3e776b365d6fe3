"""A finished run as something to use: its model, its preprocessing, its predictions."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import data, runs
from alexnet_tf import model as _layers  # noqa: F401 - Keras finds our layers by their registered names
from alexnet_tf.config import Config, from_dict
from alexnet_tf.runs import RunError, RunFolder


@dataclass(frozen=True)
class Run(RunFolder):
    """A run folder with what needs TensorFlow.

    Example:
        >>> run = load_run("runs/my_run")
        >>> run.metrics().tail()
        >>> run.predict(images)
    """

    def __repr__(self) -> str:
        status = self.status()
        best = status.get("best_error")
        error = f", best validation error {100 * best:.1f} %" if best is not None else ""
        return f"Run({str(self.path)!r}, {status['state']}, step {status.get('step', 0)}{error})"

    @cached_property
    def config(self) -> Config:
        """The resolved config."""
        return from_dict(self.config_dict())

    @cached_property
    def class_names(self) -> list[str]:
        """The names of the classes, in the order of the logits."""
        return list(self.dataset()["class_names"])

    def statistics(self) -> data.Statistics | None:
        """Mean image and colour covariance of the training split, if the run's preprocessing needs any."""
        path = self.path / runs.STATISTICS
        return data.Statistics.load(path) if path.exists() else None

    def model(self) -> keras.Model:
        """The final model: preprocessed float images `[N, S, S, C]` to logits `[N, classes]`.

        Raises:
            RunError: If the run has not finished, or the file is damaged.
        """
        path = self.path / runs.MODEL
        if not path.exists():
            state = self.status()["state"]
            raise RunError(
                f"{self.path}: has no {runs.MODEL}: the run is {state}; go on with alexnet train resume={self.path}"
            )

        try:
            return keras.models.load_model(path, compile=False)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise RunError(f"{path}: cannot be loaded ({' '.join(str(error).split())[:200]})") from error

    @cached_property
    def _loaded(self) -> keras.Model:
        """The model of `predict`, loaded once; `model` gives a new one that its owner may train on."""
        return self.model()

    def predict(self, images: Any, batch_size: int = 64) -> np.ndarray:
        """Class probabilities of images of one size.

        Args:
            images: uint8 `[N, H, W, C]`, values 0-255, of any height and width that the run's preprocessing takes.
            batch_size: Images at once.

        Returns:
            float32 `[N, classes]`, the softmax of the logits.
        """
        images = np.asarray(images)
        if images.ndim != 4 or images.dtype != np.uint8:
            raise ValueError(
                f"Expected uint8 images [N, H, W, C]. Received: {images.dtype} {list(images.shape)}"
            )
        model, statistics = self._loaded, self.statistics()
        rows = [
            tf.nn.softmax(
                model(data.preprocess_images(images[i : i + batch_size], self.config.augment, statistics))
            )
            for i in range(0, len(images), batch_size)
        ]
        return np.concatenate(rows) if rows else np.zeros((0, len(self.class_names)), np.float32)


def load_run(path: str | Path) -> Run:
    """The run in a folder.

    Raises:
        RunError: If there is none.
    """
    return Run(RunFolder.open(path).path)
