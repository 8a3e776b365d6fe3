"""Image classification sets that TFDS has prepared on the local disk.

TFDS itself looks for what it does not find on the network, and retries for minutes where there is none. So the
prepared data are looked for here, by folder, and what is missing is an error at once.
"""

import difflib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from alexnet_tf.config.schema import DataConfig, InMemory, OnError
from alexnet_tf.data.classes import choose_classes
from alexnet_tf.data.splits import DataSource, make_splits, split_fingerprint
from alexnet_tf.data.stores import (
    AUTOTUNE,
    UNREADABLE,
    ArrayStore,
    DataError,
    EncodedStore,
    RecordStore,
    Store,
    StreamStore,
    damaged,
    decode,
    traced,
)

MANUAL_ARCHIVES = {"imagenet2012": ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar")}
"""Archives that users must fetch themselves and place in `downloads/manual` of the data_dir."""
MULTI_LABEL = ("voc",)
"""Sets of TFDS's whose images have several labels."""
NAME = re.compile(r"(?P<name>[\w-]+)(/(?P<config>[\w.+-]+))?(:(?P<version>[\d.]+))?")


@dataclass(frozen=True)
class PreparedSet:
    """A prepared set: TFDS's read-only builder and what of its features is used."""

    builder: Any
    keys: tuple[str, str]
    class_names: list[str]
    stored_shape: tuple[int, int, int] | None
    config: DataConfig

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """Shape of the images as they are delivered, in `config.channels`, or None where they vary."""
        side = self.config.image_size
        if self.stored_shape is not None:
            return (*self.stored_shape[:2], self.config.channels)
        return None if side is None else (side, side, self.config.channels)

    @property
    def random_access(self) -> bool:
        """Whether single records can be read (ArrayRecord)."""
        return self.builder.info.file_format.value == "array_record"

    def info(self, split: str, key: str) -> Any:
        """Return TFDS's facts on a split (a name, a slice or a sum); raise `DataError` if there is none such."""
        try:
            return self.builder.info.splits[split]
        except (KeyError, ValueError) as error:
            choices = ", ".join(self.builder.info.splits)
            raise DataError(
                f"data.{key}={split} is not a split of {self.config.name}. Expected one of {choices}."
            ) from error


def load_prepared(config: DataConfig) -> DataSource:
    """Open a TFDS set: in memory if it is small enough, else by random access, else as a stream.

    Raises:
        DataError: The set is unknown or not prepared (the message has the command), has no images with
            labels, lacks a split, or does not have the configured size; or images are to be skipped.
    """
    return source_of(open_prepared(config))


def source_of(prepared: PreparedSet, *identity: Any) -> DataSource:
    """The source of a set that is open; see `load_prepared`.

    Args:
        prepared: The set.
        identity: What else decides its examples, for the fingerprint.
    """
    config = prepared.config
    if config.on_error is OnError.skip:
        raise DataError(
            f"data.on_error=skip: expected fail with data={config.name}; only data=folder can leave images out"
        )
    holds = {"train": prepared.info(config.train_split, "train_split")}
    names = {"train": config.train_split}
    if config.validation_split is not None:
        holds["validation"] = prepared.info(config.validation_split, "validation_split")
        names["validation"] = config.validation_split
    if config.test_split is not None and config.test_split in prepared.builder.info.splits:
        holds["test"] = prepared.info(config.test_split, "test_split")
        names["test"] = config.test_split
    make = _store_maker(prepared, holds)
    all_of = {name: make(prepared, names[name], info.num_examples) for name, info in holds.items()}
    class_names, stores = choose_classes(config, prepared.class_names, all_of)
    splits = make_splits(config, stores["train"], stores.get("validation"), stores.get("test"))
    version = f"{prepared.builder.info.config_name or ''}:{prepared.builder.info.version}"
    streamed = isinstance(stores["train"], StreamStore)
    return DataSource(
        name=config.name,
        class_names=class_names,
        image_shape=prepared.image_shape,
        channels=config.channels,
        splits=splits,
        fingerprint=split_fingerprint(config, splits, version, streamed, *identity),
    )


# ------------------------------------------------------------------------------------ finding what is there


def data_root(config: DataConfig) -> Path:
    """The folder of data: `data.dir`, else `$ALEXNET_DATA_DIR`, else TFDS's own."""
    import tensorflow_datasets as tfds

    data_dir = config.dir or os.environ.get("ALEXNET_DATA_DIR") or str(tfds.core.constants.DATA_DIR)
    return Path(data_dir).expanduser()


def is_prepared(config: DataConfig) -> bool:
    """Whether TFDS has prepared the set in `data_root`."""
    return bool(_versions(config.name, data_root(config)))


def open_prepared(config: DataConfig, folder: Path | None = None) -> PreparedSet:
    """Open a set that TFDS has prepared, whatever its splits.

    Args:
        config: Its name says which.
        folder: Where it is, if not where TFDS would put it.

    Raises:
        DataError: As `load_prepared`, but for the splits.
    """
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(folder or _find(config.name, data_root(config))))
    image, label = _features(config.name, builder)
    features = builder.info.features
    shape = features[image].shape
    stored_shape = None if None in shape else tuple(shape)
    side = config.image_size
    if side is not None and stored_shape is not None and stored_shape[:2] != (side, side):
        raise DataError(f"data.image_size={side}, but the images of {config.name} are {stored_shape[:2]}.")
    return PreparedSet(builder, (image, label), list(features[label].names), stored_shape, config)


def _versions(name: str, root: Path) -> list[Path]:
    """Return the folders `<root>/<name>/[<config>/]<version>` that the name may mean."""
    parts = NAME.fullmatch(name)
    if parts is None:
        raise DataError(
            f"data.name={name} must be digits, folder or a TFDS name like cifar10 or imagenette/160px-v2."
        )
    if parts["name"] in MULTI_LABEL:
        raise DataError(
            f"data.name={name}: its images have several labels each, which is out of scope for now. Expected a set with "
            f"one label for each image, such as caltech101"
        )
    base = root / parts["name"]
    wanted = parts["config"] or "*"
    found = [path.parent for path in (*base.glob("*/dataset_info.json"), *base.glob("*/*/dataset_info.json"))]
    found = [path for path in found if re.fullmatch(r"\d+\.\d+\.\d+", path.name)]
    if parts["config"]:
        found = [path for path in found if path.parent == base / wanted]
    if parts["version"]:
        found = [path for path in found if path.name == parts["version"]]
    return found


def _find(name: str, root: Path) -> Path:
    """Return the folder of a prepared set, the newest version."""
    found, base_name = _versions(name, root), name.partition("/")[0].partition(":")[0]
    if not found:
        raise _missing(name, base_name, root)
    configs = sorted({path.parent for path in found})
    if len(configs) > 1:
        choices = ", ".join(f"{base_name}/{path.name}" for path in configs)
        raise DataError(
            f"data.name={name}: several configs of it are prepared in {root}. Expected one of {choices}."
        )
    return max(found, key=lambda path: [int(number) for number in path.name.split(".")])


def _missing(name: str, base_name: str, root: Path) -> DataError:
    """Return the error for data that are not there: a name that TFDS does not know, or how to prepare them."""
    import tensorflow_datasets as tfds

    known = tfds.list_builders(with_community_datasets=False)
    if base_name not in known:
        near = difflib.get_close_matches(base_name, [*known, "digits", "folder"], n=5, cutoff=0.5)
        hint = f"Near matches: {', '.join(near)}." if near else "Expected digits, folder or a TFDS name."
        return DataError(f"data.name={name} is neither prepared in {root} nor known to TFDS. {hint}")
    # Not `tfds build`: TFDS 4.9.10's command fails without apache_beam.
    call = f"tfds.builder('{name}', data_dir='{root}', file_format='array_record').download_and_prepare()"
    return DataError(
        f"{name} is not prepared in {root} (data.dir or ALEXNET_DATA_DIR says where). To prepare it, "
        f'{_archives_first(name, base_name, root)}run: python -c "import tensorflow_datasets as tfds; {call}"'
    )


def _archives_first(name: str, base_name: str, root: Path) -> str:
    """Where archives are expected that users must fetch themselves, and the shorter way from them."""
    if base_name not in MANUAL_ARCHIVES:
        return ""
    archives, place = MANUAL_ARCHIVES[base_name], root / "downloads" / "manual"
    there = [
        str(path) for folder in (root, place) for path in map(folder.joinpath, archives) if path.is_file()
    ]
    return (
        f"place {' and '.join(archives)} in {place}, found {' and '.join(there) or 'neither'}, then run: "
        f"alexnet prepare data={name} data.dir={root} --out PREPARED, and train with data=prepared data.dir=PREPARED; "
        "or for a set of TFDS's with the original sizes "
    )


def _features(name: str, builder: Any) -> tuple[str, str]:
    """Return the names of the image and the label feature."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    top = dict(features.items()) if isinstance(features, tfds.features.FeaturesDict) else {}
    images = [key for key, feature in top.items() if isinstance(feature, tfds.features.Image)]
    labels = [key for key, feature in top.items() if isinstance(feature, tfds.features.ClassLabel)]
    if not images or not labels:
        raise DataError(
            f"{name} is no image classification set. Expected an image and a class label among its features, "
            f"found {', '.join(top) or type(features).__name__}."
        )
    supervised = [key for key in builder.info.supervised_keys or () if isinstance(key, str)]
    image = next((key for key in (*supervised, "image") if key in images), images[0])
    label = next((key for key in (*supervised, "label") if key in labels), labels[0])
    return image, label


# ------------------------------------------------------------------------------------------- ways of access


def _store_maker(prepared: PreparedSet, infos: dict[str, Any]) -> Callable[[PreparedSet, str, int], Store]:
    """Decide how the set is held, from its decoded size, its size on disk and `data.in_memory`."""
    config = prepared.config
    limit = config.memory_limit_mb * 2**20
    if config.in_memory is not InMemory.never:
        total = sum(info.num_examples for info in infos.values())
        always = config.in_memory is InMemory.always
        shape = prepared.stored_shape and prepared.image_shape
        if shape and (always or total * int(np.prod(shape)) <= limit):
            return _array_store
        if always or sum(info.num_bytes for info in infos.values()) <= limit:
            return _encoded_store
    return _record_store if prepared.random_access else _stream_store


def _array_store(prepared: PreparedSet, split: str, count: int) -> ArrayStore:
    shape = prepared.image_shape
    assert shape is not None  # _store_maker has seen to it

    def load() -> tuple[tf.Tensor, Any]:
        data, labels = _read_all(prepared, split)
        images = tf.data.Dataset.from_tensor_slices(data).map(
            traced(lambda image: decode(image, prepared.config.channels, shape)),
            num_parallel_calls=AUTOTUNE,
            deterministic=True,
        )
        return images.batch(count).get_single_element(), labels

    return ArrayStore(count, shape, load)


def _encoded_store(prepared: PreparedSet, split: str, count: int) -> EncodedStore:
    channels = prepared.config.channels
    return EncodedStore(count, prepared.image_shape, channels, lambda: _read_all(prepared, split))


def _record_store(prepared: PreparedSet, split: str, count: int) -> RecordStore:  # noqa: ARG001
    records = prepared.builder.as_data_source(split=split, decoders=_skip_decoding(prepared.keys[0]))
    return RecordStore(records, prepared.keys, prepared.image_shape, prepared.config.channels)


def _stream_store(prepared: PreparedSet, split: str, count: int) -> StreamStore:
    if split not in prepared.builder.info.splits:
        raise DataError(
            f"data split {split}: a set that is streamed takes whole splits, one of "
            f"{', '.join(prepared.builder.info.splits)}. Prepare it as array_record for slices and sums."
        )
    image, label = prepared.keys

    def open_stream(start: int, end: int, seed: int | None) -> tf.data.Dataset:
        examples = prepared.builder.as_dataset(
            split=f"{split}[{start}:{end}]",
            decoders=_skip_decoding(image),
            shuffle_files=seed is not None,
            read_config=_read_config(seed, ids=True),
        )
        return examples.map(traced(lambda example: (example[image], example[label], example["tfds_id"])))

    config = prepared.config
    return StreamStore(
        count, prepared.image_shape, config.channels, config.shuffle_window, config.stream_parts, open_stream
    )


def _read_config(seed: int | None, *, ids: bool) -> Any:
    """Return how files are read: one after the other, or interleaved from a seeded shuffle, never at random."""
    import tensorflow_datasets as tfds

    options = tf.data.Options()
    options.deterministic = True
    return tfds.ReadConfig(
        options=options,
        try_autocache=False,
        add_tfds_id=ids,
        shuffle_seed=seed,
        interleave_cycle_length=1 if seed is None else 16,
    )


def _skip_decoding(image: str) -> dict[str, Any]:
    import tensorflow_datasets as tfds

    return {image: tfds.decode.SkipDecoding()}


def stream_prepared(
    prepared: PreparedSet, split: str, start: int, end: int
) -> Iterator[tuple[str, int, bytes]]:
    """Yield (name, label, the image's bytes) of the examples from `start` to `end` as they were prepared."""
    image, label = prepared.keys
    decoders = _skip_decoding(image)
    if prepared.random_access:
        records = prepared.builder.as_data_source(split=split, decoders=decoders)
        for index in range(start, end):
            example = records[index]
            name = example.get("file_name", b"example %d" % index).decode()
            yield name, int(example[label]), bytes(example[image])
        return
    examples = prepared.builder.as_dataset(
        split=f"{split}[{start}:{end}]",
        decoders=decoders,
        shuffle_files=False,
        read_config=_read_config(None, ids=True),
    )
    for example in examples.as_numpy_iterator():
        name = example.get("file_name", example["tfds_id"]).decode()
        yield name, int(example[label]), example[image]


def _read_all(prepared: PreparedSet, split: str) -> tuple[Any, np.ndarray]:
    """Read a split into memory: the images' bytes (string [N]) and labels (int32 [N]), in prepared order.

    Raises:
        DamagedError: If a record cannot be read.
        DataError: If one has no valid label.
    """
    try:
        data, labels = _columns(prepared, split)
    except (*UNREADABLE, tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        raise damaged(f"the split {split} of {prepared.config.name}", error) from error
    wrong = np.flatnonzero((labels < 0) | (labels >= len(prepared.class_names)))
    if len(wrong):
        raise DataError(
            f"{len(wrong)} examples of the split {split} of {prepared.config.name} have no valid label."
        )
    return data, labels


def _columns(prepared: PreparedSet, split: str) -> tuple[Any, np.ndarray]:
    image, label = prepared.keys
    decoders = _skip_decoding(image)
    if prepared.random_access:
        records = prepared.builder.as_data_source(split=split, decoders=decoders)
        examples = records.__getitems__(range(len(records)))
        data = [example[image] for example in examples]
        return data, np.array([example[label] for example in examples], np.int32)
    columns = prepared.builder.as_dataset(
        split=split, decoders=decoders, read_config=_read_config(None, ids=False), batch_size=-1
    )
    return columns[image], columns[label].numpy().astype(np.int32)
