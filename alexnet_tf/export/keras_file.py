"""A run as a .keras file: the network alone, to go on training or to look into; its layers are those of alexnet_tf."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from alexnet_tf.export.job import Job

NAME = "model.keras"


def write_keras(job: Job, folder: Path, scratch: Path) -> Path:
    """Write preprocessed images to logits, with labels and preprocessing as files beside it."""
    del scratch
    job.write_notes(folder)
    job.network.save(folder / NAME)
    return folder / NAME


def check_keras(job: Job, outputs: Mapping[str, list[np.ndarray]], made: Path) -> None:
    """There is nothing but probabilities."""
    del job, outputs, made
