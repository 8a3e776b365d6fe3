"""Checkpoints: one `.npz` file with the arrays of all variables, the rest of the state as JSON, and a checksum.

A plain archive of arrays is safe to read (`allow_pickle=False`) and complete or absent (written under a temporary name,
flushed, renamed). The checksum is of what is read, not of the file's bytes: the zip format's own CRCs do not cover the
archive's directory, nor an array whose damaged header claims fewer bytes than there are.
"""

import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from alexnet_tf.data import ARCHIVE_DAMAGES
from alexnet_tf.runs import GO_ON, RunError, RunFolder, WriteError, write_atomic

STATE = "state"
SHA256 = "sha256"
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
    arrays[SHA256] = np.frombuffer(_sha256(arrays), np.uint8)
    write_atomic(path, lambda stream: np.savez(stream, **arrays))


def _sha256(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The checksum of names, dtypes, shapes and values."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.digest()


def load(path: Path) -> Checkpoint:
    """Read one file.

    Raises:
        RunError: If it is damaged.
    """
    try:
        # Opened here, because np.load leaves a damaged file open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        if arrays.pop(SHA256, np.empty(0, np.uint8)).tobytes() != _sha256(arrays):
            raise ValueError("its checksum does not fit")
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


def kept(run: RunFolder) -> str:
    """What to tell the user of a run that failed: where it can go on."""
    paths = run.checkpoints()
    if not paths:
        return "there is no checkpoint yet"
    return f"the last good checkpoint is {paths[-1]}; {GO_ON}{run.path}"


class Keeper:
    """Writes the checkpoints of a run in the background and keeps the newest few and the best.

    At most one write is in flight; the next waits for it. Leaving its context waits too, so that whoever is told that
    the run has ended finds its last checkpoint on the disk.

    Args:
        run: The run.
        keep: How many of the newest to keep.
    """

    def __init__(self, run: RunFolder, keep: int) -> None:
        self.run = run
        self.keep = keep
        self.folder = run.path / "checkpoints"
        self._thread = futures.ThreadPoolExecutor(1, "checkpoint")
        self._writing: futures.Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.wait()
        except WriteError as second:
            if error is None:
                raise
            logging.getLogger(__name__).warning("%s", second)  # what ended the run says more
        finally:
            self._thread.shutdown()

    def save(self, step: int, content: Checkpoint, *, best: bool) -> None:
        """Begin to write the checkpoint of a step; `best` makes it the best as well.

        Args:
            step: Finished steps.
            content: Belongs to the writer from now on; nobody may change it.
            best: Whether it is the best so far.

        Raises:
            WriteError: If the write before this one failed.
        """
        self.wait()
        self._writing = self._thread.submit(self._write, step, content, best)

    def wait(self) -> None:
        """Wait until nothing is being written.

        Raises:
            WriteError: If it could not be written; the checkpoints before it are kept.
        """
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def settle(self) -> None:
        """Wait until nothing is being written; what failed is still to be raised."""
        if self._writing is not None:
            futures.wait([self._writing])

    def check(self) -> None:
        """Raise the error of a write that has ended; do not wait for one that has not."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def follow(self, path: Path, *, best: bool) -> None:
        """Finish what the writer of the checkpoint that a run was restored from may have been killed before.

        Newer ones, which were damaged, go: else they would count among those to keep.
        """
        try:
            for newer in self.run.checkpoints():
                if newer.name > path.name:
                    newer.unlink()
            self._complete(path, best=best)
        except OSError as error:
            raise _write_error(path, error) from error

    def _write(self, step: int, content: Checkpoint, best: bool) -> None:
        path = self.folder / f"step-{step:09d}.npz"
        try:
            self.folder.mkdir(exist_ok=True)
            save(path, content)
            self._complete(path, best=best)
        except OSError as error:
            raise _write_error(path, error) from error

    def _complete(self, path: Path, *, best: bool) -> None:
        """What comes after a file is written."""
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
            write_atomic(self.folder / BEST, lambda stream: stream.write(path.read_bytes()))
        else:
            temporary.replace(self.folder / BEST)
            temporary.unlink(missing_ok=True)  # where both are names of one file, renaming does nothing


def _write_error(path: Path, error: OSError) -> WriteError:
    return error if isinstance(error, WriteError) else WriteError(path, error)


def _named(variables: Mapping[str, list[Any]]) -> dict[str, Any]:
    """The variables by name, without the numbers that Keras gives to what a process makes a second time."""
    return {
        f"{group}/{index:03d}/{NUMBERED.sub('', variable.path)}": variable
        for group, members in variables.items()
        for index, variable in enumerate(members)
    }
