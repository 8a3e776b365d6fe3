"""A run as a SavedModel: pictures of any size, decoded or not, to probabilities; everything is inside."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from alexnet_tf.export.comparison import check_close
from alexnet_tf.export.job import Job
from alexnet_tf.export.served import TOP, ServedModel
from alexnet_tf.runs import RunError


def write_savedmodel(job: Job, folder: Path, scratch: Path) -> Path:
    """Write the saved model into `folder`, with labels and preprocessing as assets, and return `folder`."""
    module = ServedModel(job.run, job.network, job.views, job.write_notes(scratch))
    # The gradients of our LRN are saved as graphs too; without them TensorFlow warns whenever it loads the model.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=True)
    tf.saved_model.save(module, str(folder), signatures=dict(module.functions), options=options)
    return folder


def check_savedmodel(job: Job, outputs: Mapping[str, list[np.ndarray]], made: Path) -> None:
    """Check the other outputs and signatures, the empty batch too, against the probabilities of `serving_default`.

    Raises:
        RunError: If one differs.
    """
    del made
    labels, most = np.array(job.labels), min(TOP, len(job.labels))
    empty, probabilities = outputs["probabilities"][-1], np.concatenate(outputs["probabilities"])
    columns = {name: np.concatenate(arrays) for name, arrays in outputs.items() if name != "seconds"}
    classes, places = columns["classes"], columns["top_classes"]
    if (
        empty.shape != (0, len(labels))
        or not np.array_equal(classes, probabilities.argmax(axis=1))
        or not np.array_equal(columns["labels"], labels[classes])
        or places.shape != (len(probabilities), most)
        or not np.array_equal(places[:, 0], classes)
        or not np.array_equal(columns["top_labels"], labels[places])
        or not np.array_equal(columns["top_probabilities"], np.take_along_axis(probabilities, places, axis=1))
    ):
        raise RunError(f"{job.run.path}: the saved model's classes or labels are wrong; nothing was exported")
    for name in ("float_probabilities", "bytes_probabilities"):
        *first, none = outputs[name]
        for rows, other in zip(outputs["probabilities"], first, strict=False):
            check_close(job, rows[: len(other)], other)
        check_close(job, empty, none)
    if not np.isfinite(columns["features"]).all():
        raise RunError(f"{job.run.path}: the saved model's features are not numbers; nothing was exported")
