"""A run as a SavedModel: raw uint8 images to probabilities, classes and labels, with preprocessing inside."""

import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import runs
from alexnet_tf.config import ConfigError
from alexnet_tf.data import DataError, preprocess_images
from alexnet_tf.export import reload
from alexnet_tf.export.comparison import Comparison, LoadedRun, Reference, compare, make_reference
from alexnet_tf.inference import Run
from alexnet_tf.runs import RunError, WrongPathError

SIGNATURE = "serving_default"
FACTS = "export.json"
LABELS = "labels.txt"


@dataclass(frozen=True)
class ExportResult:
    """What was exported and how far it is from the run; its `str` is for the terminal.

    Attributes:
        path: The folder of the saved model.
        images: How many images were compared.
        origin: Where they are from: `validation`, `train` or `random`.
        note: Why they are random; empty if they are real.
        max_difference: The largest difference of a probability.
        top1_agreement: Fraction of images (0-1) with the same most probable class.
        tolerance: What `max_difference` could have been.
    """

    path: Path
    images: int
    origin: str
    note: str
    max_difference: float
    top1_agreement: float
    tolerance: float

    def __str__(self) -> str:
        images = f"{self.images} images of the {self.origin} split"
        if self.note:
            images = f"{self.images} random images (the data cannot be read: {self.note})"
        return (
            f"{self.path}: a SavedModel, reloaded in a fresh process without alexnet_tf\n"
            f"compared with the run on {images}: probabilities differ by at most {self.max_difference:.1e} "
            f"(allowed {self.tolerance:g}), top-1 agrees on {100 * self.top1_agreement:.1f} %"
        )


class ServedModel(tf.Module):
    """What is saved: constants, the network's variables, and one function that plain TensorFlow can run.

    It holds variables, not the Keras model: a saved Keras model would want its classes back.

    Args:
        run: The run.
        network: Its model.
        labels_file: The class names, a line each; it becomes an asset.
    """

    def __init__(self, run: Run, network: keras.Model, labels_file: Path) -> None:
        super().__init__(name="alexnet")
        augment, statistics = run.config.augment, run.statistics()
        labels = tf.constant(class_labels(run, network))
        shape = [None, None, None, network.input_shape[-1]]
        self.weights = [variable.value for variable in network.weights]
        self.labels_file = tf.saved_model.Asset(str(labels_file))

        @tf.function(input_signature=[tf.TensorSpec(shape, tf.uint8, name="images")], autograph=False)
        def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
            count = tf.shape(images)[0]
            # oneDNN's convolutions fail on an empty batch: it gets a black image, whose row is cut off again.
            filler = tf.zeros(tf.concat([[tf.cast(count == 0, tf.int32)], tf.shape(images)[1:]], 0), tf.uint8)
            filled = tf.ensure_shape(tf.concat([images, filler], axis=0), shape)
            logits = network(preprocess_images(filled, augment, statistics), training=False)[:count]
            probabilities = tf.nn.softmax(tf.cast(logits, tf.float32))
            classes = tf.argmax(probabilities, axis=-1, output_type=tf.int64)
            return {"probabilities": probabilities, "classes": classes, "labels": tf.gather(labels, classes)}

        self.serve = serve


def export_savedmodel(run: Run, out: Path | None = None) -> ExportResult:
    """Save a finished run for TensorFlow Serving and anyone with plain TensorFlow.

    The signature `serving_default` takes `images`, uint8 `[N, H, W, C]` of any N and any size that the run's
    preprocessing takes, and gives `probabilities` float32 `[N, classes]`, `classes` int64 `[N]` (the most probable)
    and `labels` string `[N]`. The folder appears only after a fresh process has loaded it and agreed with the run.

    Args:
        run: A run with its final model.
        out: The folder to make; by default `export/savedmodel/<version>` in the run, versions counting from 1.

    Raises:
        WrongPathError: If `out` exists.
        RunError: If the run has no model, the folder cannot be written, or the saved model differs from the run's.
        ConfigError: If the data has other classes than the run.
        DataError: If an image of the data, or the run's statistics, is damaged.
    """
    if out is not None and os.path.lexists(out):
        raise WrongPathError(f"{out}: exists already. Expected the name of a new folder.")
    parent = run.path / "export" / "savedmodel" if out is None else out.parent
    loaded = LoadedRun(run.path)
    network = loaded.model()
    try:
        reference = make_reference(loaded)
        with runs.temporary_folder(parent) as folder, tempfile.TemporaryDirectory() as scratch:
            _save(loaded, network, folder, Path(scratch))
            comparison = _reload_and_compare(loaded, network, reference, folder, Path(scratch))
            runs.write_json(folder / FACTS, _facts(loaded, network, reference, comparison))
            target = parent / _next_version(parent) if out is None else out
            folder.rename(target)
    except OSError as error:
        raise RunError(f"{parent}: the export cannot be written ({error.strerror or error})") from error
    except (ConfigError, DataError):
        raise
    except (ValueError, tf.errors.OpError) as error:
        raise RunError(f"{run.path}: cannot be exported ({' '.join(str(error).split())[:300]})") from error
    return ExportResult(target, origin=reference.origin, note=reference.note, **asdict(comparison))


def class_labels(run: Run, network: keras.Model) -> list[str]:
    """A label for each output; outputs beyond the data's classes (`model.num_classes`) are called `class <i>`."""
    names = run.class_names
    return [*names, *(f"class {index}" for index in range(len(names), network.output_shape[-1]))]


def _save(run: Run, network: keras.Model, folder: Path, scratch: Path) -> None:
    """Write the saved model into `folder`."""
    labels_file = scratch / LABELS
    labels_file.write_text("".join(f"{label}\n" for label in class_labels(run, network)), encoding="utf-8")
    module = ServedModel(run, network, labels_file)
    # The gradients of our LRN are saved as graphs too; without them TensorFlow warns whenever it loads the model.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=True)
    tf.saved_model.save(module, str(folder), signatures={SIGNATURE: module.serve}, options=options)


def _reload_and_compare(
    run: Run, network: keras.Model, reference: Reference, folder: Path, scratch: Path
) -> Comparison:
    """Run the saved model in a process of its own, on an empty batch too, and compare.

    Raises:
        RunError: If it fails there or differs.
    """
    batches = [*reference.batches, reference.batches[0][:0]]
    outputs = _run_fresh(folder, batches, scratch)
    *probabilities, empty = outputs["probabilities"]
    labels, classes = np.array(class_labels(run, network)), np.concatenate(outputs["classes"])
    comparison = compare(run, reference, probabilities)
    if (
        empty.shape != (0, len(labels))
        or not np.array_equal(classes, np.concatenate(probabilities).argmax(axis=1))
        or not np.array_equal(np.concatenate(outputs["labels"]), labels[classes])
    ):
        raise RunError(f"{run.path}: the saved model's classes or labels are wrong; nothing was exported")
    return comparison


def _run_fresh(folder: Path, batches: list[np.ndarray], scratch: Path) -> dict[str, list[np.ndarray]]:
    """The outputs of the saved model, by name and a batch each, from a process without our package.

    Raises:
        RunError: If that process fails.
    """
    inputs, results = scratch / "images.npz", scratch / "outputs.npz"
    np.savez(inputs, **{str(index): batch for index, batch in enumerate(batches)})  # type: ignore[arg-type]
    command = [sys.executable, "-I", reload.__file__, *map(str, (folder.resolve(), inputs, results))]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if process.returncode:
        lines = process.stderr.strip().splitlines() or [f"exit status {process.returncode}"]
        raise RunError(f"the saved model fails in a fresh process ({lines[-1][:300]}); nothing was exported")
    with np.load(results) as arrays:
        return {
            name: [arrays[f"{name}.{index}"] for index in range(len(batches))]
            for name in ("probabilities", "classes", "labels")
        }


def _facts(run: Run, network: keras.Model, reference: Reference, comparison: Comparison) -> dict[str, Any]:
    """The content of `export.json`."""
    labels, dataset = class_labels(run, network), run.dataset()
    return {
        "format": "savedmodel",
        "created": runs.now(),
        "run": {
            "name": run.name,
            "step": run.status().get("step"),
            "model": run.config.model.name,
            "precision": str(run.config.training.precision),
            "data": dataset["name"],
            "data_fingerprint": dataset["fingerprint"],
        },
        "signature": SIGNATURE,
        "input": {
            "images": {
                "dtype": "uint8",
                "shape": ["N", "H", "W", network.input_shape[-1]],
                "values": "0-255, not preprocessed",
                "preprocessing": list(run.config.augment.order),
            }
        },
        "outputs": {
            "probabilities": {"dtype": "float32", "shape": ["N", len(labels)]},
            "classes": {"dtype": "int64", "shape": ["N"]},
            "labels": {"dtype": "string", "shape": ["N"]},
        },
        "classes": labels,
        "comparison": {**asdict(comparison), "origin": reference.origin},
        "versions": {name: version(name) for name in ("alexnet_tf", "tensorflow", "keras", "numpy")},
    }


def _next_version(parent: Path) -> str:
    """The number after the highest folder of a number, from 1, as TensorFlow Serving counts."""
    return str(1 + max((int(path.name) for path in parent.iterdir() if path.name.isdecimal()), default=0))
