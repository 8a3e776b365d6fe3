"""Original pictures, as they were published, in a fixed order: from ILSVRC's archives, class folders, or TFDS.

Nothing is unpacked: a picture in an archive is read from its place in it. So a name in an archive is never a path on
the disk, and any part of the order can be read without what comes before it.
"""

import contextlib
import json
import logging
import re
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from alexnet_tf.config.schema import DataConfig, OnError
from alexnet_tf.data.folder import list_folder
from alexnet_tf.data.prepared import MANUAL_ARCHIVES, data_root, is_prepared, open_prepared, stream_prepared
from alexnet_tf.data.splits import fingerprint
from alexnet_tf.data.statistics import ARCHIVE_DAMAGES
from alexnet_tf.data.stores import DataError
from alexnet_tf.runs import WriteError, locked, write_atomic

ILSVRC = "imagenet2012"
SPLITS = ("train", "validation")
"""What the two archives hold."""
VALIDATION_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")
LOOK_SECONDS = 4 * 3600.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Original:
    """One picture.

    Attributes:
        name: Its file name, for messages and for the record.
        label: Its class.
        data: The file's bytes.
        problem: Why it cannot be read; then there are none.
    """

    name: str
    label: int
    data: bytes
    problem: str | None = None


class Listing(ABC):
    """The pictures of one split in a fixed order."""

    def __init__(self, count: int) -> None:
        self.count = count

    @abstractmethod
    def read(self, start: int, end: int) -> Iterator[Original]:
        """Yield the pictures from position `start` to `end`, one after the other."""


@dataclass(frozen=True, eq=False)
class Originals:
    """A set as it was published.

    Attributes:
        name: As in `data.name`.
        class_names: One per label, in label order.
        splits: `train`, and `validation` and `test` where there are such.
        fingerprint: Hash of what decides the pictures and their order.
    """

    name: str
    class_names: list[str]
    splits: dict[str, Listing]
    fingerprint: str


def find_originals(config: DataConfig, cache: Path) -> Originals:
    """Find the pictures of a set: ILSVRC's archives in `data.dir`, class folders, or what TFDS has prepared.

    Args:
        config: Its name, and where it is.
        cache: Where the first process writes what it finds in archives, for the others: to look through them takes
            minutes.

    Raises:
        DataError: They are not there, or not laid out as expected.
    """
    if config.name == "folder":
        return _folder(config)
    if config.name in ("digits", "prepared"):
        raise DataError(
            f"data={config.name}: expected a set of original pictures, such as imagenet2012, folder or one of TFDS"
        )
    root = data_root(config)
    if config.name == ILSVRC and not is_prepared(config):
        for folder in (root, root / "downloads" / "manual"):
            train, validation = (folder / name for name in MANUAL_ARCHIVES[ILSVRC])
            if train.is_file() and validation.is_file():
                return _ilsvrc(config, (train, validation), cache)
        if (root / "train").is_dir():
            return _ilsvrc_folder(replace(config, name="folder", validation_split=None))
    return _tfds(config)


# ------------------------------------------------------------------------------------------- class folders


class _Files(Listing):
    def __init__(self, root: Path, files: list[tuple[Path, int]]) -> None:
        super().__init__(len(files))
        self._root, self._files = root, files

    def read(self, start: int, end: int) -> Iterator[Original]:
        for path, label in self._files[start:end]:
            name = path.relative_to(self._root).as_posix()
            try:
                yield Original(name, label, path.read_bytes())
            except OSError as error:
                yield Original(name, label, b"", error.strerror or str(error))


def _folder(config: DataConfig) -> Originals:
    root, class_names, listed = list_folder(config)
    files = {
        split: [(path, label) for label, name in enumerate(class_names) for path in classes[name]]
        for split, classes in listed.items()
    }
    identity = {
        split: [[path.relative_to(root).as_posix(), _size(path)] for path, _ in found]
        for split, found in files.items()
    }
    splits: dict[str, Listing] = {split: _Files(root, found) for split, found in files.items()}
    return Originals(config.name, class_names, splits, fingerprint(class_names, identity))


def _ilsvrc_folder(config: DataConfig) -> Originals:
    originals = _folder(config)
    expected = _ilsvrc_classes()
    differing = sorted(set(expected) ^ set(originals.class_names))
    if differing:
        found = "is missing" if differing[0] in expected else "is none of them"
        raise DataError(
            f"data={ILSVRC}: expected a class folder for each of the {len(expected)} WordNet ids in {data_root(config)}, "
            f"{differing[0]} {found}; data=folder takes any classes"
        )
    return originals


def _size(path: Path) -> int | None:
    """A file's bytes; None where it cannot be read."""
    try:
        return path.stat().st_size
    except OSError:
        return None


# ---------------------------------------------------------------------------------------- ILSVRC's archives


class _Member(NamedTuple):
    name: str
    label: int
    offset: int
    size: int


Table = dict[str, np.ndarray]
"""The members of an archive in the order of the split: their names (bytes), labels, offsets and sizes."""


class _Archive(Listing):
    def __init__(self, path: Path, table: Table) -> None:
        super().__init__(len(table["name"]))
        self._path, self._table = path, table

    def read(self, start: int, end: int) -> Iterator[Original]:
        columns = (self._table[field][start:end].tolist() for field in _Member._fields)
        with self._path.open("rb") as file:
            for name, label, offset, size in zip(*columns, strict=True):
                file.seek(offset)
                yield Original(name.decode(), label, file.read(size))


def _ilsvrc(config: DataConfig, paths: tuple[Path, Path], cache: Path) -> Originals:
    """The 1000 classes in the order of their WordNet ids, which is that of every published network.

    The training archive holds an archive for each class; the validation archive holds pictures alone, whose labels
    TFDS brings as a file: a line for each number in a picture's name.
    """
    class_names, truth = _ilsvrc_classes(), _ilsvrc_truth()
    labels = {name: label for label, name in enumerate(class_names)}
    train, validation = paths

    def look() -> dict[str, Table]:
        return {
            "train": _table(train, _train_members(train, labels)),
            "validation": _table(validation, _validation_members(validation, truth, labels)),
        }

    tables = _cached(cache, paths) or _looked_through(cache, paths, look)
    _check_complete(config, paths, tables, class_names, len(truth))
    splits: dict[str, Listing] = {
        split: _Archive(path, tables[split]) for split, path in zip(SPLITS, paths, strict=True)
    }
    identity = [[path.name, path.stat().st_size] for path in paths]
    return Originals(ILSVRC, class_names, splits, fingerprint(ILSVRC, identity))


def _ilsvrc_classes() -> list[str]:
    """The 1000 WordNet ids in the order of the labels."""
    return _of_tfds("labels.txt")


def _ilsvrc_truth() -> list[str]:
    """The WordNet id of each of the 50,000 validation pictures."""
    return _of_tfds("validation_labels.txt")


def _of_tfds(file: str) -> list[str]:
    import tensorflow_datasets as tfds

    return (Path(tfds.core.tfds_path("datasets/imagenet2012")) / file).read_text().split()


def _check_complete(
    config: DataConfig,
    paths: tuple[Path, Path],
    tables: dict[str, Table],
    class_names: list[str],
    validation: int,
) -> None:
    """Refuse archives that lack something, or with `data.on_error=skip` say what."""
    gaps = []
    counts = np.bincount(tables["train"]["label"], minlength=len(class_names))
    missing = np.flatnonzero(counts == 0)
    if len(missing):
        gaps.append(
            f"{paths[0]}: {len(missing)} of the {len(class_names)} classes have no pictures, the first is "
            f"{class_names[missing[0]]}"
        )
    found = len(tables["validation"]["name"])
    if found < validation:
        gaps.append(f"{paths[1]}: expected {validation} pictures, found {found}")
    if gaps and config.on_error is OnError.fail:
        raise DataError(f"{'; '.join(gaps)}. Prepare what there is with data.on_error=skip")
    for gap in gaps:
        logger.warning("Incomplete: %s", gap)


def _table(path: Path, members: Iterator[_Member]) -> Table:
    """The members sorted by class and name, as far as the archive is sound."""
    try:
        found = sorted(members, key=lambda member: (member.label, member.name))
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{path}: expected an archive of ILSVRC-2012, cannot read it: {error}") from error
    if not found:
        raise DataError(f"{path}: expected an archive of ILSVRC-2012, found no pictures in it")
    for one, other in pairwise(found):
        if one.name == other.name:
            raise DataError(f"{path}: expected every picture once, found {one.name} twice")
    names, labels, offsets, sizes = zip(*found, strict=True)
    columns = ([name.encode() for name in names], labels, offsets, sizes)
    return {field: np.array(column) for field, column in zip(_Member._fields, columns, strict=True)}


def _identity(paths: tuple[Path, Path]) -> str:
    """What changes when an archive does."""
    stats = [path.stat() for path in paths]
    return json.dumps(
        [[path.name, stat.st_size, stat.st_mtime_ns] for path, stat in zip(paths, stats, strict=True)]
    )


def _looked_through(
    cache: Path, paths: tuple[Path, Path], look: Callable[[], dict[str, Table]]
) -> dict[str, Table]:
    """Look through the archives while the other processes wait, and write it down for them."""
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(cache.parent, error) from error
    try:
        with locked(
            cache.parent, "another process has been looking through the archives for hours", LOOK_SECONDS
        ):
            tables = _cached(cache, paths)  # now, if that is what was waited for
            if tables is None:
                logger.info("Looking through %s and %s", *paths)
                identity = _identity(paths)  # before: they may change meanwhile
                tables = look()
                _write_tables(cache, identity, tables)
            return tables
    except DataError:
        for place in (cache.parent, cache.parent.parent):  # nothing has begun
            with contextlib.suppress(OSError):
                place.rmdir()
        raise


def _write_tables(cache: Path, identity: str, tables: dict[str, Table]) -> None:
    arrays = {
        f"{split}.{field}": column for split, table in tables.items() for field, column in table.items()
    }
    content: dict[str, Any] = {"identity": np.array(identity), **arrays}
    write_atomic(cache, lambda stream: np.savez_compressed(stream, **content))


def _cached(cache: Path, paths: tuple[Path, Path]) -> dict[str, Table] | None:
    """What an earlier process has found in the same archives, if it is there and sound."""
    try:
        with cache.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if str(arrays["identity"]) != _identity(paths):
                return None
            return {
                split: {field: arrays[f"{split}.{field}"] for field in _Member._fields} for split in SPLITS
            }
    except ARCHIVE_DAMAGES:
        return None


def _files(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the entries, and then make sure that the archive ends as archives do.

    Python's tarfile takes the end of the file, or anything that is no header, for the end of the archive.
    """
    end = 0
    for entry in archive:
        yield entry
        end = entry.offset_data + -(-entry.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    assert archive.fileobj is not None
    archive.fileobj.seek(end)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.ReadError(f"it is cut off or damaged at byte {end:,}")


def _train_members(path: Path, labels: dict[str, int]) -> Iterator[_Member]:
    with tarfile.open(path, "r:") as outer:
        for entry in _files(outer):
            stem = Path(entry.name).stem
            if not entry.isfile() or stem not in labels:
                raise DataError(
                    f"{path}: expected archives named by the WordNet ids of the 1000 classes (n01440764.tar), "
                    f"found {entry.name}"
                )
            with outer.extractfile(entry) as content, tarfile.open(fileobj=content, mode="r:") as inner:  # type: ignore[union-attr]
                for image in _files(inner):
                    if not image.isfile() or not re.fullmatch(rf"{stem}_[\w.-]+", image.name, re.ASCII):
                        raise DataError(
                            f"{path}: expected pictures of {stem} in {entry.name}, found {image.name}"
                        )
                    place = entry.offset_data + image.offset_data
                    yield _Member(image.name, labels[stem], place, image.size)


def _validation_members(path: Path, truth: list[str], labels: dict[str, int]) -> Iterator[_Member]:
    with tarfile.open(path, "r:") as archive:
        for image in _files(archive):
            if not image.isfile():
                continue  # some copies hold the folder too
            parts = VALIDATION_NAME.fullmatch(Path(image.name).name)
            if parts is None or not 1 <= int(parts[1]) <= len(truth):
                raise DataError(
                    f"{path}: expected pictures named ILSVRC2012_val_00000001.JPEG to {len(truth)}, found {image.name}"
                )
            label = labels[truth[int(parts[1]) - 1]]
            yield _Member(parts[0], label, image.offset_data, image.size)


# ------------------------------------------------------------------------------------ what TFDS has prepared


class _Examples(Listing):
    def __init__(self, prepared: Any, split: str, count: int) -> None:
        super().__init__(count)
        self._prepared, self._split = prepared, split

    def read(self, start: int, end: int) -> Iterator[Original]:
        classes = len(self._prepared.class_names)
        for name, label, data in stream_prepared(self._prepared, self._split, start, end):
            problem = None if 0 <= label < classes else f"its label {label} is none of the {classes} classes"
            yield Original(name, label, data, problem)


def _tfds(config: DataConfig) -> Originals:
    prepared = open_prepared(config)
    wanted = {"train": config.train_split, "validation": config.validation_split, "test": config.test_split}
    for name, split in wanted.items():
        if split is not None and not re.fullmatch(r"\w+", split):
            raise DataError(f"data.{name}_split={split}: expected the name of a whole split")
    counts = {
        name: (split, prepared.info(split, f"{name}_split").num_examples)
        for name, split in wanted.items()
        if split is not None and (name != "test" or split in prepared.builder.info.splits)
    }
    splits: dict[str, Listing] = {
        name: _Examples(prepared, split, count) for name, (split, count) in counts.items()
    }
    version = f"{prepared.builder.info.config_name or ''}:{prepared.builder.info.version}"
    return Originals(
        config.name, prepared.class_names, splits, fingerprint(config.name, version, list(counts.items()))
    )
