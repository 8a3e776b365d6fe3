"""A run as a LiteRT model (.tflite), by TensorFlow's converter."""

import contextlib
import os
import sys
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from alexnet_tf.export.job import LABELS, Job
from alexnet_tf.runs import RunError

NAME = "model.tflite"


def write_litert(job: Job, folder: Path, scratch: Path) -> Path:
    """Convert frames to probabilities, and append labels and preprocessing as LiteRT's associated files: a ZIP archive."""
    module, saved = job.framed(), str(scratch / "savedmodel")
    tf.saved_model.save(module, saved, signatures=module.serve)
    converter = tf.lite.TFLiteConverter.from_saved_model(saved, signature_keys=["serving_default"])
    if job.quantize != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if job.quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if job.quantize == "int8":
        frames = job.calibration()
        converter.representative_dataset = lambda: ({"images": frame[None]} for frame in frames)
        # Where there is no kernel in int8, such as for a power, one in float32 serves.
        operations = tf.lite.OpsSet
        converter.target_spec.supported_ops = [operations.TFLITE_BUILTINS_INT8, operations.TFLITE_BUILTINS]
    path = folder / NAME
    with _held_back(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TensorFlow's own old interpreter, with which it calibrates
        content = converter.convert()
    path.write_bytes(content)
    with zipfile.ZipFile(path, "a") as archive:
        for note in job.write_notes(scratch):
            archive.write(note, note.name)
    return path


def check_litert(job: Job, outputs: Mapping[str, list[np.ndarray]], made: Path) -> None:
    """Check the class names in the file.

    Raises:
        RunError: If they differ.
    """
    del outputs
    with zipfile.ZipFile(made) as archive:
        found = archive.read(LABELS).decode().splitlines()
    if found != job.labels:
        raise RunError(f"{job.run.path}: the labels in {made.name} are wrong; nothing was exported")


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """Keep what the converter's C++ prints off the terminal; what went wrong stands in its exception."""
    sys.stderr.flush()
    terminal = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), 2)
            yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
