"""Original pictures, as they were published, in a fixed order: from ILSVRC's archives, class folders, or TFDS.

Nothing is unpacked: a picture in an archive is read from its place in it. So a name in an archive is never a path on
the disk, and any part of the order can be read without what comes before it.
"""

import re
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alexnet_tf.config.schema import DataConfig
from alexnet_tf.data.folder import list_folder
from alexnet_tf.data.prepared import MANUAL_ARCHIVES, data_root, is_prepared, open_prepared, stream_prepared
from alexnet_tf.data.splits import fingerprint
from alexnet_tf.data.stores import DataError

ILSVRC = "imagenet2012"
VALIDATION_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")


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


def find_originals(config: DataConfig) -> Originals:
    """Find the pictures of a set: ILSVRC's archives in `data.dir`, class folders, or what TFDS has prepared.

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
            paths = [folder / name for name in MANUAL_ARCHIVES[ILSVRC]]
            if all(path.is_file() for path in paths):
                return _ilsvrc(*paths)
        if (root / "train").is_dir():
            return _folder(replace(config, name="folder", validation_split=None))
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


def _size(path: Path) -> int | None:
    """A file's bytes; None where it cannot be read."""
    try:
        return path.stat().st_size
    except OSError:
        return None


# ---------------------------------------------------------------------------------------- ILSVRC's archives


@dataclass(frozen=True)
class _Member:
    name: str
    label: int
    offset: int
    size: int


class _Archive(Listing):
    def __init__(self, path: Path, members: list[_Member]) -> None:
        super().__init__(len(members))
        self._path, self._members = path, members

    def read(self, start: int, end: int) -> Iterator[Original]:
        with self._path.open("rb") as file:
            for member in self._members[start:end]:
                file.seek(member.offset)
                yield Original(member.name, member.label, file.read(member.size))


def _ilsvrc(train: Path, validation: Path) -> Originals:
    """The 1000 classes in the order of their WordNet ids, which is that of every published network.

    The training archive holds an archive for each class; the validation archive holds pictures alone, whose labels
    TFDS brings as a file: a line for each number in a picture's name.
    """
    import tensorflow_datasets as tfds

    folder = Path(tfds.core.tfds_path("datasets/imagenet2012"))
    class_names = (folder / "labels.txt").read_text().split()
    truth = (folder / "validation_labels.txt").read_text().split()
    labels = {name: label for label, name in enumerate(class_names)}
    splits: dict[str, Listing] = {
        "train": _Archive(train, _checked(train, _train_members(train, labels))),
        "validation": _Archive(
            validation, _checked(validation, _validation_members(validation, truth, labels))
        ),
    }
    identity = [[path.name, path.stat().st_size] for path in (train, validation)]
    return Originals(ILSVRC, class_names, splits, fingerprint(ILSVRC, identity))


def _checked(path: Path, members: Iterator[_Member]) -> list[_Member]:
    """The members sorted by class and name, as far as the archive is sound."""
    try:
        found = sorted(members, key=lambda member: (member.label, member.name))
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{path}: expected an archive of ILSVRC-2012, cannot read it: {error}") from error
    if not found:
        raise DataError(f"{path}: expected an archive of ILSVRC-2012, found no pictures in it")
    return found


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
                    if not image.isfile() or not image.name.startswith(stem):
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
