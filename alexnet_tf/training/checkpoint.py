"""Checkpoints: one `.npz` file with the arrays of all variables and the rest of the state as JSON.

A plain archive of arrays is safe to read (`allow_pickle=False`), complete or absent (written under a temporary name,
flushed, renamed) and carries a checksum of every array (the CRC of the zip format).
"""

import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_tf.data import ARCHIVE_DAMAGES
from alexnet_tf.runs import RunError, RunFolder, write_atomic

STATE = "state"
NUMBERED = re.compile(r"_\d+(?=/)")
BEST = "best.npz"


@dataclass(frozen=True)
class Checkpoint:
    """The content of one file: arrays by variable, and the state of everything that is not a variable."""

    arrays: dict[str, np.ndarray]
    state: dict[str, Any]


def capture(variables: Mapping[str, list[Any]]) -> dict[str, np.ndarray]:
    """The values of lists of Keras variables under the names `<list>/<index>/<path>`."""
    return {name: np.asarray(variable.numpy()) for name, variable in _named(variables).items()}


def restore(variables: Mapping[str, list[Any]], checkpoint: Checkpoint, source: Path) -> None:
    """Assign the values that `capture` took.

    Raises:
        RunError: If the variables are others than those of the checkpoint; nothing is assigned then.
    """
    named = _named(variables)
    theirs = {name: array.shape for name, array in checkpoint.arrays.items()}
    ours = {name: tuple(variable.shape) for name, variable in named.items()}
    if ours != theirs:
        name = next(iter(sorted(set(ours.items()) ^ set(theirs.items()))))[0]
        raise RunError(
            f"{source}: does not fit the model: expected {name} of shape {ours.get(name)}, found {theirs.get(name)}"
        )
    for name, variable in named.items():
        variable.assign(checkpoint.arrays[name])


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write one file."""
    state = np.frombuffer(json.dumps(checkpoint.state).encode(), np.uint8)
    arrays: dict[str, Any] = {**checkpoint.arrays, STATE: state}
    write_atomic(path, lambda stream: np.savez(stream, **arrays))


def load(path: Path) -> Checkpoint:
    """Read one file.

    Raises:
        RunError: If it is damaged.
    """
    try:
        # Opened here, because np.load leaves a damaged file open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        state = json.loads(arrays.pop(STATE).tobytes().decode())
    except ARCHIVE_DAMAGES as error:
        raise RunError(f"{path}: damaged ({error})") from error
    return Checkpoint(arrays, state)


def load_newest(run: RunFolder) -> tuple[Path, Checkpoint] | None:
    """The newest undamaged checkpoint of a run, or None where there is none at all.

    Raises:
        RunError: If there are some, but all are damaged: to start again must be the user's decision.
    """
    paths = run.checkpoints()
    for path in reversed(paths):
        try:
            return path, load(path)
        except RunError as error:
            logging.getLogger(__name__).warning("%s; going back to the one before it", error)
    if paths:
        raise RunError(
            f"{paths[-1].parent}: all {len(paths)} checkpoints are damaged; remove them to start from step 0"
        )
    return None


class Keeper:
    """Writes the checkpoints of a run and keeps the newest few and the best.

    Args:
        run: The run.
        keep: How many of the newest to keep.
    """

    def __init__(self, run: RunFolder, keep: int) -> None:
        self.run = run
        self.keep = keep
        self.folder = run.path / "checkpoints"

    def save(self, step: int, content: Checkpoint, *, best: bool) -> None:
        """Write the checkpoint of a step; `best` makes it the best as well."""
        self.folder.mkdir(exist_ok=True)
        path = self.folder / f"step-{step:09d}.npz"
        save(path, content)
        if best:
            self._mark_best(path)
        for old in self.run.checkpoints()[: -self.keep]:
            old.unlink()

    def _mark_best(self, path: Path) -> None:
        """Give the file a second name; a copy where the file system has no links."""
        temporary = self.folder / f".{BEST}.tmp"
        temporary.unlink(missing_ok=True)
        try:
            os.link(path, temporary)
        except OSError:
            write_atomic(temporary, lambda stream: stream.write(path.read_bytes()))
        temporary.replace(self.folder / BEST)


def _named(variables: Mapping[str, list[Any]]) -> dict[str, Any]:
    """The variables by name, without the numbers that Keras gives to what a process makes a second time."""
    return {
        f"{group}/{index:03d}/{NUMBERED.sub('', variable.path)}": variable
        for group, members in variables.items()
        for index, variable in enumerate(members)
    }
