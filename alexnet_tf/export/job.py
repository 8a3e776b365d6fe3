"""One export: what is exported, how, and what every format needs of the run."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import runs
from alexnet_tf.config import to_dict
from alexnet_tf.config.schema import AugmentConfig, Precision
from alexnet_tf.data import preprocess_images
from alexnet_tf.data.preprocessing import active_ops
from alexnet_tf.export.frame import Frame, make_frame
from alexnet_tf.export.pictures import each_picture
from alexnet_tf.export.served import classify
from alexnet_tf.inference import Run, class_labels
from alexnet_tf.model import build
from alexnet_tf.runs import write_json, write_text

LABELS = "labels.txt"
PREPROCESSING = "preprocessing.json"
FRAMED = ("litert", "onnx")
"""Formats that cannot resize, and whose kernels are of float32: they take frames and compute in float32 (see `LoadedRun`)."""
CALIBRATION = 128
"""Training images that the scales of activations are found on, or all there are."""


@dataclass(frozen=True)
class LoadedRun(Run):
    """A run that loads its model once, on the CPU, where the export is run too: GPUs round otherwise.

    Attributes:
        in_float32: Whether the model computes in float32, whatever precision the run was trained in.
    """

    in_float32: bool = False

    @property
    def precision(self) -> Precision:
        """What the model computes in."""
        return Precision.float32 if self.in_float32 else self.config.training.precision

    @cached_property
    def _model(self) -> keras.Model:
        with tf.device("/CPU:0"):
            network = super().model()
            if self.precision is self.config.training.precision:
                return network
            clone = build(self.config.model)
            clone.set_weights(network.get_weights())
            return clone

    def model(self) -> keras.Model:
        """The final model: preprocessed float images `[N, S, S, C]` to logits `[N, classes]`."""
        return self._model


@dataclass(frozen=True)
class Job:
    """What is to be exported.

    Attributes:
        run: The run.
        kind: `savedmodel`, `litert`, `onnx` or `keras`.
        quantize: `none`, `float16`, `dynamic` or `int8`.
        views: Crops of each image that the export averages over.
    """

    run: LoadedRun
    kind: str
    quantize: str
    views: int

    @property
    def network(self) -> keras.Model:
        """The run's model."""
        return self.run.model()

    @property
    def name(self) -> str:
        """The format, how it is quantised and its views where they are not the usual."""
        parts = [self.kind, *([self.quantize] if self.quantize != "none" else [])]
        return "_".join([*parts, *([f"{self.views}views"] if self.views > 1 else [])])

    @property
    def computing(self) -> str:
        """In words, what the run is compared in where that is not the precision that it was trained in."""
        return "" if self.run.precision is self.run.config.training.precision else f" in {self.run.precision}"

    @cached_property
    def labels(self) -> list[str]:
        """A label for each output."""
        return class_labels(self.run, self.network.output_shape[-1])

    def make_frame(self, views: int) -> Frame:
        """Where the run's preprocessing can be cut in two if so many views are cut after it."""
        run = self.run
        return make_frame(run.config.augment, run.statistics(), run.dataset()["image_shape"], views)

    @cached_property
    def frame(self) -> Frame | None:
        """What goes into formats that cannot resize; None for the others."""
        return self.make_frame(self.views) if self.kind in FRAMED else None

    def framed(self) -> tf.Module:
        """A module whose `serve` takes frames float32 `[N, size, size, C]` and gives `probabilities`."""
        frame, network, views = self.frame, self.network, self.views
        assert frame is not None
        shape = [None, frame.size, frame.size, network.input_shape[-1]]

        @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name="images")], autograph=False)
        def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"probabilities": classify(network, frame.preprocess(images, views))}

        module = tf.Module(name="alexnet")
        module.weights = [variable.value for variable in network.weights]
        module.serve = serve
        return module

    def prepare(self, images: np.ndarray) -> np.ndarray:
        """Images uint8 `[N, H, W, C]` as the export takes them."""
        if self.kind == "savedmodel":
            return images
        if self.frame is not None:
            return self.frame.cut(images)
        return preprocess_images(images, self.run.config.augment, self.run.statistics()).numpy()

    def one(self, images: np.ndarray) -> np.ndarray:
        """The first of images uint8 `[N, H, W, C]`, cut to its frame: what times are taken of, without any resizing."""
        frame = self.make_frame(1).cut(images[:1])
        return np.clip(np.rint(frame), 0, 255).astype(np.uint8)

    def calibration(self) -> np.ndarray:
        """Frames float32 `[n, size, size, C]` of training images, from all over the split."""
        assert self.frame is not None
        pictures = each_picture(self.run.load_source(), "train", CALIBRATION)
        return np.concatenate([self.frame.cut(image[np.newaxis]) for image, _ in pictures])

    def write_notes(self, folder: Path) -> tuple[Path, ...]:
        """Write the class names, a line each, and the preprocessing; with the network alone, its statistics too."""
        write_text(folder / LABELS, "".join(f"{label}\n" for label in self.labels))
        write_json(folder / PREPROCESSING, self.preprocessing())
        notes = [folder / LABELS, folder / PREPROCESSING]
        statistics = self.run.path / runs.STATISTICS
        if self.kind == "keras" and statistics.exists():
            notes.append(Path(shutil.copy(statistics, folder)))
        return tuple(notes)

    def preprocessing(self) -> dict[str, Any]:
        """What goes in, what has to be done before and what is done inside; operations in their order."""
        augment, channels = self.run.config.augment, self.network.input_shape[-1]
        sides: list[int | str]
        if self.kind == "savedmodel":
            dtype, sides, before, inside = "uint8", ["H", "W"], [], list(_operations(augment))
        elif self.frame is None:
            size = self.network.input_shape[1]
            dtype, sides, before, inside = "float32", [size, size], list(_operations(augment)), []
        else:
            dtype, sides = "float32", [self.frame.size, self.frame.size]
            before, inside = list(_operations(self.frame.before)), list(_operations(self.frame.inside))
        return {
            "input": {
                "dtype": dtype,
                "shape": ["N", *sides, channels],
                "channels": "RGB" if channels == 3 else "grey",
                "values": "preprocessed" if self.kind == "keras" else "0-255",
            },
            "before": before,
            "inside": inside,
            "views": self.views,
            "max_pixels": self.run.config.data.max_pixels,
            "note": "operations as in evaluation: random ones take the centre or do nothing, resizing is antialiased",
        }


def _operations(augment: AugmentConfig) -> Iterator[dict[str, Any]]:
    return ({"name": name, **to_dict(op)} for name, op in active_ops(augment))
