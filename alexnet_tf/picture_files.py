"""The pictures that a command names: files, folders of them, or `-` for paths from standard input. Imports no TensorFlow."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from alexnet_tf.runs import WrongPathError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")
"""How names of pictures end, in any case."""
STDIN = "-"


@dataclass(frozen=True)
class Failure:
    """Why a picture, or a folder of them, could not be read."""

    path: Path
    reason: str


def check_inputs(inputs: Sequence[str]) -> None:
    """Find what is no file, folder or `-`.

    Raises:
        WrongPathError: If there is such, or a folder has no pictures.
    """
    for name in inputs:
        if name == STDIN:
            continue
        path = Path(name)
        if found := _no_input(path):
            raise WrongPathError(
                f"{name}: {found}. Expected pictures, folders of them, or - for paths from standard input"
            )
        if path.is_file():
            continue
        first = next(_walk(path), None)
        if first is None:
            raise WrongPathError(
                f"{name}: no pictures in this folder or below it. Expected names that end in {', '.join(EXTENSIONS)}"
            )
        if isinstance(first, Failure) and first.path == path:
            raise WrongPathError(f"{name}: {first.reason}")


def _no_input(path: Path) -> str:
    """Why a path is neither a file nor a folder; empty if it is one."""
    try:
        path.stat()
    except FileNotFoundError:
        return "no such file or folder"
    except OSError as error:
        return error.strerror or str(error)
    return "" if path.is_file() or path.is_dir() else "neither a file nor a folder"


def count_pictures(inputs: Sequence[str]) -> int | None:
    """How many pictures there are; None where standard input has to say."""
    if STDIN in inputs:
        return None
    return sum(1 if Path(name).is_file() else sum(1 for _ in _walk(Path(name))) for name in inputs)


def find_pictures(inputs: Sequence[str], stdin: BinaryIO) -> Iterator[Path | Failure]:
    """Yield every picture: folders with all below them, sorted by name; of standard input a path from each line.

    A folder that cannot be read is a failure among them.

    Only the names of one folder at a time are in memory.
    """
    for name in inputs:
        if name == STDIN:
            for line in stdin:
                if path := os.fsdecode(line.rstrip(b"\r\n")):
                    yield Path(path)
        elif (folder := Path(name)).is_dir():
            yield from _walk(folder)
        else:
            yield folder


def _walk(folder: Path) -> Iterator[Path | Failure]:
    """Pictures below a folder; hidden names are left out, and links to folders, which may lead round in circles."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(
                (entry.name, entry.is_dir(follow_symlinks=False))
                for entry in entries
                if not entry.name.startswith(".")
            )
    except OSError as error:
        yield Failure(folder, f"this folder cannot be read ({error.strerror})")
        return
    for name, is_folder in names:
        if is_folder:
            yield from _walk(folder / name)
        elif name.lower().endswith(EXTENSIONS):
            yield folder / name
