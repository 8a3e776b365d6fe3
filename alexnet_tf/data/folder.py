"""A user's own images in class folders, with or without train and validation folders around them."""

import contextlib
import hashlib
import logging
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from alexnet_tf.config.schema import DataConfig, OnError
from alexnet_tf.data.classes import chosen_names
from alexnet_tf.data.splits import DataSource, make_splits, split_fingerprint
from alexnet_tf.data.stores import DamagedError, DataError, FileStore
from alexnet_tf.picture_files import EXTENSIONS

VALIDATION_NAMES = ("val", "valid", "validation")
LAYOUTS = "Expected class folders of images, or train/, val/ and test/ folders of class folders."
LISTED = 3

logger = logging.getLogger(__name__)


class UnreadableImageError(DamagedError):
    """Images of the folder are damaged; the message names the first."""


def load_folder(config: DataConfig) -> DataSource:
    """Find the images of `data.dir`, else of `$ALEXNET_DATA_DIR`, in class folders.

    The class names are the sorted folder names of the training split, or those that `data.classes` chooses, and other
    folders are not looked at. Only files with one of `EXTENSIONS` count, in any case; hidden files and folders do not.
    Of a file with the wrong one of them the bytes count. What the headers tell (see `header_problem`) is an error here
    and now, and what is truncated when it is read; with `on_error=skip` every file is decoded once and the unreadable
    ones are left out, up to `max_skipped` of a split's, so that the sizes of the splits are exact.

    Raises:
        DataError: The folder is missing, empty or laid out differently; there are fewer than two classes; classes
            differ between splits; a name is not UTF-8.
        UnreadableImageError: An image is unreadable, or too many are.
    """
    root, class_names, listed = list_folder(config)
    stores: dict[str, FileStore] = {}
    skipped: dict[str, str] = {}
    for name, classes in listed.items():
        stores[name], left_out = _store(config, class_names, classes)
        skipped |= {str(Path(path).absolute()): reason for path, reason in left_out.items()}
    counts = np.bincount(stores["train"].labels, minlength=len(class_names)).tolist()
    _check_filled(root, dict(zip(class_names, counts, strict=True)))
    splits = make_splits(config, stores["train"], stores.get("validation"), stores.get("test"))
    identity = [class_names, {name: _contents(root, store) for name, store in stores.items()}]
    return DataSource(
        name=config.name,
        class_names=class_names,
        image_shape=stores["train"].image_shape,
        channels=config.channels,
        splits=splits,
        fingerprint=split_fingerprint(config, splits, *identity),
        skipped=skipped,
    )


def list_folder(config: DataConfig) -> tuple[Path, list[str], dict[str, dict[str, list[Path]]]]:
    """Find the files of `load_folder` without opening them.

    Returns:
        The folder, the class names, and for each split the sorted files of each class.

    Raises:
        DataError: As `load_folder`, but for what the files hold.
    """
    try:
        return _list_folder(config)
    except OSError as error:
        raise DataError(f"data.dir: cannot read {error.filename}: {error.strerror}") from error


def _list_folder(config: DataConfig) -> tuple[Path, list[str], dict[str, dict[str, list[Path]]]]:
    root = _root(config)
    folders = _split_folders(config, root)
    listed = {name: _class_files(folder) for name, folder in folders.items()}
    class_names = chosen_names(config, sorted(listed["train"]))
    if config.classes is not None:
        listed = {
            split: {name: files for name, files in classes.items() if name in class_names}
            for split, classes in listed.items()
        }
    _check_filled(folders["train"], {name: len(files) for name, files in listed["train"].items()})
    for name, classes in listed.items():
        _check_classes(name, folders[name], sorted(classes), sorted(class_names))
    return root, class_names, listed


@contextlib.contextmanager
def explained(source: DataSource) -> Iterator[None]:
    """Within it, an error of TensorFlow's that `explain_error` can name is raised as that."""
    try:
        yield
    except tf.errors.OpError as error:
        if known := explain_error(error, source):
            raise known from error
        raise


def explain_error(error: BaseException, source: DataSource) -> DataError | None:
    """Name the files behind an error that TensorFlow raised while reading images.

    TensorFlow's decoding error does not say which file of a folder it was. This looks for it, by decoding the files until
    unreadable ones are found. What `RecordStore` says of its records stands in the error itself.

    Returns:
        An error that names the unreadable files, or None if they are all fine or the source has no files.
    """
    if not isinstance(error, tf.errors.OpError):
        return None
    if found := re.search(rf"{DamagedError.__name__}: (.+)", str(error)):
        return DamagedError(found[1])
    stores = {id(split.store): split.store for split in source.splits.values()}  # splits may share one
    for store in stores.values():
        if not isinstance(store, FileStore):
            continue
        problems = store.unreadable()
        if problems:
            return _unreadable_error({str(store.paths[index]): reason for index, reason in problems.items()})
    return None


def _root(config: DataConfig) -> Path:
    own = os.environ.get("ALEXNET_DATA_DIR")
    key, path = ("data.dir", config.dir) if config.dir is not None else ("ALEXNET_DATA_DIR", own)
    if not path:
        raise DataError(
            f"data.dir is not set, nor is ALEXNET_DATA_DIR: data=folder needs the folder of your images. {LAYOUTS}"
        )
    root = Path(path).expanduser()
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing"
        raise DataError(f"{key}={path} must be a folder, found {found} there. {LAYOUTS}")
    return root


def _subfolders(folder: Path) -> dict[str, Path]:
    return {
        entry.name: Path(entry.path)
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name)
        if entry.is_dir() and not entry.name.startswith(".")
    }


def _split_folders(config: DataConfig, root: Path) -> dict[str, Path]:
    """Return the folder of each split; a folder without a training folder is itself the training split."""
    found = _subfolders(root)
    if config.train_split not in found:
        if config.validation_split is not None:
            raise DataError(
                f"data.validation_split={config.validation_split} needs the folders {config.train_split} and "
                f"{config.validation_split} in {root}. Found {_some(list(found))}."
            )
        if not found:
            raise DataError(f"data.dir={root} has no folders in it, found {_found_files(root)}. {LAYOUTS}")
        return {"train": root}
    folders = {"train": found[config.train_split]}
    if config.validation_split is not None:
        if config.validation_split not in found:
            raise DataError(
                f"data.validation_split={config.validation_split} is not a folder of {root}. "
                f"Expected one of {', '.join(found)}."
            )
        folders["validation"] = found[config.validation_split]
    else:
        names = [name for name in VALIDATION_NAMES if name in found]
        if names:
            folders["validation"] = found[names[0]]
    if config.test_split is not None and config.test_split in found:
        folders["test"] = found[config.test_split]
    return folders


def _class_files(folder: Path) -> dict[str, list[Path]]:
    """Return the sorted image files of each class folder."""
    folders = _subfolders(folder)
    _check_names(folders.values())
    classes = {
        name: sorted(
            Path(entry.path)
            for entry in os.scandir(path)
            if entry.name.lower().endswith(EXTENSIONS) and not entry.name.startswith(".")
        )
        for name, path in folders.items()
    }
    _check_names(path for files in classes.values() for path in files)
    if not classes:
        raise DataError(f"data.dir: {folder} has no class folders, found {_found_files(folder)}. {LAYOUTS}")
    return classes


def _check_names(paths: Iterable[Path]) -> None:
    """Refuse names that are not UTF-8: neither TensorFlow nor JSON takes them."""
    for path in paths:
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise DataError(
                f"data.dir: expected names in UTF-8, found {os.fsencode(path)!r}. Rename it."
            ) from None


def _check_filled(folder: Path, counts: dict[str, int]) -> None:
    """Check the numbers of readable images of the training split's class folders."""
    empty = [name for name, count in counts.items() if not count]
    if empty:
        raise DataError(
            f"No images in the class folders {_some(empty)} of {folder}. "
            f"Expected files ending in {', '.join(EXTENSIONS)}, and readable ones."
        )
    if len(counts) < 2:
        raise DataError(f"Expected at least 2 class folders in {folder}. Found 1: {_some(list(counts))}.")


def _found_files(folder: Path) -> str:
    return _some(sorted(entry.name for entry in os.scandir(folder)))


def _some(names: list[str]) -> str:
    """Return the first few names and how many more there are."""
    if not names:
        return "nothing"
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _check_classes(split: str, folder: Path, classes: list[str], expected: list[str]) -> None:
    if classes == expected:
        return
    missing = sorted(set(expected) - set(classes))
    extra = sorted(set(classes) - set(expected))
    raise DataError(
        f"The classes of the {split} folder {folder} differ from those of the training folder: "
        f"missing {_some(missing)}, additional {_some(extra)}."
    )


def _store(
    config: DataConfig, class_names: list[str], classes: dict[str, list[Path]]
) -> tuple[FileStore, dict[str, str]]:
    """Check the files; return the store of the good ones, and the paths and reasons of those that are left out."""
    paths = [path for name in class_names for path in classes[name]]
    labels = [label for label, name in enumerate(class_names) for _ in classes[name]]
    side = config.image_size
    shape = None if side is None else (side, side, config.channels)
    store = FileStore(paths, labels, shape, config.channels, config.max_pixels)
    skip = config.on_error is OnError.skip
    problems = store.unreadable(headers_only=not skip)
    if not problems:
        return store, {}
    named = {str(paths[index]): reason for index, reason in problems.items()}
    if not skip:
        raise _unreadable_error(named)
    _check_skipped(config, named, len(paths))
    kept = [index for index in range(len(paths)) if index not in problems]
    good, their_labels = [paths[index] for index in kept], [labels[index] for index in kept]
    return FileStore(good, their_labels, shape, config.channels, config.max_pixels), named


def _check_skipped(config: DataConfig, problems: dict[str, str], total: int) -> None:
    """Say how many images are left out; refuse more than `max_skipped` of them."""
    count = len(problems)
    if count > config.max_skipped * total:
        raise UnreadableImageError(
            f"data.max_skipped={config.max_skipped:g}: {count} of {total} images ({count / total:.1%}) cannot be read: "
            f"{_some([f'{path} ({reason})' for path, reason in problems.items()])}. Repair or remove them, or raise "
            f"data.max_skipped."
        )
    first, reason = next(iter(problems.items()))
    logger.warning(
        "Left out %d of %d images that cannot be read (data.on_error=skip; dataset.json of a run lists them), "
        "the first %s: %s",
        count,
        total,
        first,
        reason,
    )


def _unreadable_error(problems: dict[str, str]) -> UnreadableImageError:
    path, reason = next(iter(problems.items()))
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return UnreadableImageError(
        f"Cannot read the image {path}: {reason}{more}. Repair or remove it, or set data.on_error=skip."
    )


def _contents(root: Path, store: FileStore) -> str:
    """Hash the names (relative, so that the folder may move) and sizes of a store's files."""
    lines = [f"{path.relative_to(root).as_posix()} {path.stat().st_size}\n" for path in store.paths]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
