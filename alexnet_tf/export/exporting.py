"""From a run to a file that others load: written, loaded back in a fresh process, compared, described, then kept."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from alexnet_tf import runs
from alexnet_tf.config import ConfigError, check_export
from alexnet_tf.data import DataError
from alexnet_tf.export import reload
from alexnet_tf.export.card import size, write_card
from alexnet_tf.export.comparison import Comparison, Reference, compare, make_reference
from alexnet_tf.export.job import FRAMED, Job, LoadedRun
from alexnet_tf.export.keras_file import check_keras, write_keras
from alexnet_tf.export.litert import check_litert, write_litert
from alexnet_tf.export.onnx_file import check_onnx, write_onnx
from alexnet_tf.export.savedmodel import check_savedmodel, write_savedmodel
from alexnet_tf.inference import Run
from alexnet_tf.runs import RunError


class Format(NamedTuple):
    """How a format is made.

    Attributes:
        write: Writes into a folder, with another for scratch, and returns what there is to load.
        check: Raises `RunError` if what is not a probability is wrong, from what a fresh process got and the export.
    """

    write: Callable[[Job, Path, Path], Path]
    check: Callable[[Job, Mapping[str, list[np.ndarray]], Path], None]


FORMATS = {
    "savedmodel": Format(write_savedmodel, check_savedmodel),
    "litert": Format(write_litert, check_litert),
    "onnx": Format(write_onnx, check_onnx),
    "keras": Format(write_keras, check_keras),
}


@dataclass(frozen=True)
class ExportResult:
    """What was exported and how far it is from the run; its `str` is for the terminal.

    Attributes:
        path: The folder of the export.
        job: What was asked for.
        comparison: With the run's model.
        reference: The images that it was compared on.
        bytes: Size of the model itself.
        seconds: For one image, in memory and of the frame's size, on the CPU: the median.
    """

    path: Path
    job: Job
    comparison: Comparison
    reference: Reference
    bytes: int
    seconds: float

    def __str__(self) -> str:
        own, reference = self.comparison, self.reference
        images = f"{own.images} images of the {reference.origin} split"
        if reference.note:
            images = f"{own.images} random images (the data cannot be read: {reference.note})"
        lines = [
            f"{self.path}: {self.job.name}, {self.bytes:,} bytes, reloaded in a fresh process",
            f"compared with the run{self.job.computing} on {images}: probabilities differ by at most {own.max_difference:.1e} "
            f"(allowed {own.tolerance:g}), top-1 agrees on {100 * own.top1_agreement:.1f} %",
        ]
        if own.run_error is not None and own.export_error is not None:
            lines.append(
                f"top-1 error on these: {100 * own.export_error:.1f} %, the run's {100 * own.run_error:.1f} %"
            )
        lines.append(
            f"one image: {1000 * self.seconds:.2g} ms, {self.seconds / reference.seconds:.2g} times the run's predict"
        )
        return "\n".join(lines)


def export_run(
    run: Run, kind: str = "savedmodel", *, quantize: str = "none", views: int = 1, out: Path | None = None
) -> ExportResult:
    """Save a finished run for other programs.

    `savedmodel` takes pictures of any size, decoded or not, see `ServedModel`. `litert` and `onnx` take frames: images
    float32 `[N, size, size, C]` of 0-255 that are resized and cut already, and give `probabilities` `[N, classes]`; they
    compute in float32, also of a run in another precision, and are compared with its weights in float32.
    `keras` is the network alone, from preprocessed images to logits. The folder appears only after a fresh process
    has loaded the export and agreed with the run; a model card is in it.

    Args:
        run: A run with its final model.
        kind: `savedmodel`, `litert`, `onnx` or `keras`.
        quantize: `none`; for `litert` and `onnx` also `float16`, `dynamic` (weights in int8) or `int8` (activations too,
            their scales found on training images).
        views: Crops of each image to average over: 1, 5 or 10.
        out: The folder to make; by default `export/<name>/<version>` in the run, versions counting from 1.

    Raises:
        WrongPathError: If `out` exists.
        RunError: If the run has no model, the folder cannot be written, or the export differs from the run.
        ConfigError: If there is no such format, a package that it needs is missing, the data has other classes than the
            run, or the preprocessing cannot cut the views.
        DataError: If an image of the data, or the run's statistics, is damaged, or int8 has no data to calibrate on.
    """
    check_export(kind, quantize, views)
    if out is not None:
        runs.check_new(out)
    job = Job(LoadedRun(run.path, in_float32=kind in FRAMED), kind, quantize, views)
    parent = run.path / "export" / job.name if out is None else out.parent
    try:
        job.network, job.frame  # noqa: B018 - what is wrong with them is found before anything is written
        reference = make_reference(job)
        with runs.temporary_folder(parent) as folder, tempfile.TemporaryDirectory() as scratch:
            made = _write(job, folder, Path(scratch))
            outputs = run_fresh(job, made, _inputs(job, reference), Path(scratch))
            comparison = compare(job, reference, outputs["probabilities"][: len(reference.batches)])
            FORMATS[kind].check(job, outputs, made)
            seconds, length = float(outputs["seconds"][0]), size(made)
            numbered = out is None or out.name.isdecimal()
            write_card(job, reference, comparison, seconds, folder, made, numbered=numbered)
            target = parent / _next_version(parent) if out is None else out
            folder.rename(target)
    except OSError as error:
        raise RunError(f"{parent}: the export cannot be written ({error.strerror or error})") from error
    except (ConfigError, DataError):
        raise
    except (ValueError, tf.errors.OpError) as error:
        raise RunError(f"{run.path}: cannot be exported ({' '.join(str(error).split())[:300]})") from error
    return ExportResult(target, job, comparison, reference, length, seconds)


def _write(job: Job, folder: Path, scratch: Path) -> Path:
    """Write the export; whatever class of its own a converter raises, the user gets a line."""
    try:
        with tf.device("/CPU:0"):
            return FORMATS[job.kind].write(job, folder, scratch)
    except (ConfigError, DataError, RunError, OSError):
        raise
    except Exception as error:
        raise RunError(
            f"{job.run.path}: cannot be exported to {job.name} ({' '.join(str(error).split())[:300]})"
        ) from error


def _inputs(job: Job, reference: Reference) -> list[np.ndarray]:
    """The images of a reference as an export takes them, an empty batch, and last one image whose time is taken."""
    parts = [job.prepare(batch) for batch in reference.batches]
    empty = [parts[0][:0]] if job.kind == "savedmodel" else []
    return [*parts, *empty, job.prepare(job.one(reference.batches[0]))]


def run_fresh(job: Job, made: Path, inputs: list[np.ndarray], scratch: Path) -> dict[str, list[np.ndarray]]:
    """The outputs of an export, by name and a batch each, from a process without our package.

    Args:
        job: What was exported.
        made: The export.
        inputs: Batches, and last the one whose time is taken.
        scratch: A folder for the arrays.

    Raises:
        RunError: If that process fails.
    """
    arrays, results = scratch / "images.npz", scratch / "outputs.npz"
    keys = [*map(str, range(len(inputs) - 1)), reload.ONE]
    np.savez(arrays, **dict(zip(keys, inputs, strict=True)))  # type: ignore[arg-type]
    _run_script(job.kind, str(made.resolve()), str(arrays), str(results))
    outputs: dict[str, list[np.ndarray]] = {}
    with np.load(results) as content:
        for key in content.files:  # in the order of the batches
            outputs.setdefault(key.partition(".")[0], []).append(content[key])
    return outputs


def _run_script(*arguments: str) -> None:
    """Run `reload.py` without GPUs, which round otherwise."""
    command = [sys.executable, "-P", reload.__file__, *arguments]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if process.returncode:
        lines = process.stderr.strip().splitlines() or [f"exit status {process.returncode}"]
        raise RunError(f"the export fails in a fresh process ({lines[-1][:300]}); nothing was exported")


def _next_version(parent: Path) -> str:
    """The number after the highest folder of a number, from 1, as TensorFlow Serving counts."""
    return str(1 + max((int(path.name) for path in parent.iterdir() if path.name.isdecimal()), default=0))
