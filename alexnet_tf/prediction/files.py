"""The pictures that a command names: files, folders of them, or `-` for paths from standard input."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from alexnet_tf.data.folder import EXTENSIONS
from alexnet_tf.runs import WrongPathError

STDIN = "-"


def check_inputs(inputs: Sequence[str]) -> None:
    """Find what is no file, folder or `-`.

    Raises:
        WrongPathError: If there is such, or a folder has no pictures.
    """
    for name in inputs:
        path = Path(name)
        if name == STDIN or path.is_file():
            continue
        if not path.is_dir():
            found = "no such file or folder" if not path.exists() else "neither a file nor a folder"
            raise WrongPathError(
                f"{name}: {found}. Expected pictures, folders of them, or - for paths from standard input"
            )
        if next(_walk(path), None) is None:
            raise WrongPathError(
                f"{name}: no pictures in this folder or below it. Expected names that end in {', '.join(EXTENSIONS)}"
            )


def count_pictures(inputs: Sequence[str]) -> int | None:
    """How many pictures there are; None where standard input has to say."""
    if STDIN in inputs:
        return None
    return sum(1 if Path(name).is_file() else sum(1 for _ in _walk(Path(name))) for name in inputs)


def find_pictures(inputs: Sequence[str], stdin: BinaryIO) -> Iterator[Path]:
    """Yield every picture: folders with all below them, sorted by name; of standard input a path from each line.

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


def _walk(folder: Path) -> Iterator[Path]:
    """Pictures below a folder; hidden names are left out, and links to folders, which may lead round in circles.

    Raises:
        WrongPathError: If a folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            names = sorted(
                (entry.name, entry.is_dir(follow_symlinks=False))
                for entry in entries
                if not entry.name.startswith(".")
            )
    except OSError as error:
        raise WrongPathError(f"{folder}: cannot be read ({error.strerror})") from error
    for name, is_folder in names:
        if is_folder:
            yield from _walk(folder / name)
        elif name.lower().endswith(EXTENSIONS):
            yield folder / name
