"""What a layer of a finished run makes of images: as a file, and as the input of a linear classifier."""

import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import data
from alexnet_tf.classical import FEWEST, LinearSVM, fit_best_svm
from alexnet_tf.config import (
    Config,
    ConfigError,
    check_features_file,
    compose,
    from_dict,
    override_key,
    to_dict,
)
from alexnet_tf.evaluation import wilson
from alexnet_tf.inference import Run
from alexnet_tf.model import end_of, one_pass_scope, part_names
from alexnet_tf.runs import WriteError, replacing

FOLDER = "features"
"""Of a run, where its features go by default."""
CARVING = ("split_seed", "validation_fraction")
"""Keys of `data` that say which examples are held out of the training split."""
ROWS = 1024
"""Examples that are read back at once."""
Told = Callable[[int, int], object]
"""Called with the images done and their total."""


@dataclass(frozen=True)
class Block:
    """Some examples of a split: features float32 `[n, F]`, labels int32 `[n]`, ids int64 `[n]` as `data.Split` has them."""

    split: str
    features: np.ndarray
    labels: np.ndarray
    ids: np.ndarray


@dataclass(frozen=True)
class Extraction:
    """A request that has been checked, with everything loaded.

    Attributes:
        run: Whose network and preprocessing.
        config: The run's, with the data that were asked for.
        source: These data.
        layer: The part of the network whose output is taken.
        network: From preprocessed images to that output, flattened: `[N, F]`.
    """

    run: Run
    config: Config
    source: data.DataSource
    layer: str
    network: keras.Model

    @property
    def total(self) -> int:
        """Images of all splits."""
        return sum(split.num_examples for split in self.source.splits.values())

    @property
    def width(self) -> int:
        """Features of an image."""
        return int(self.network.output_shape[-1])

    def blocks(self, batch_size: int) -> Iterator[Block]:
        """All splits one after the other, the training split first, in batches.

        Raises:
            DataError: If an image cannot be read.
        """

        @tf.function(reduce_retracing=True)
        def step(images: tf.Tensor) -> tf.Tensor:
            with one_pass_scope():
                return self.network(images, training=False)

        with data.explained(self.source):
            for name, split in self.source.splits.items():
                ids = np.arange(split.num_examples) if split.ids is None else split.ids
                begin = 0
                for images, labels, weights in self._batches(name, batch_size):
                    count = int(tf.reduce_sum(weights))  # what is padded stands at the end
                    rows = step(images).numpy()[:count].astype(np.float32)
                    yield Block(name, rows, labels.numpy()[:count], ids[begin : begin + count])
                    begin += count

    def check_preprocessing(self) -> None:
        """Raise `ConfigError` where the run's statistics do not fit the operations, such as a mean image of other size."""
        try:
            self._batches("train", 1)
        except (ConfigError, data.DataError):
            raise
        except ValueError as error:
            raise ConfigError(f"{self.run.path}: {' '.join(str(error).split())}") from error

    def _batches(self, split: str, batch_size: int) -> tf.data.Dataset:
        statistics = self.run.statistics()
        return data.eval_batches(self.source, split, self.config.augment, statistics, batch_size=batch_size)


def prepare_extraction(run: Run, overrides: Sequence[str] = (), layer: str | None = None) -> Extraction:
    """Load a run's network and the images.

    Args:
        run: Finished, of a network.
        overrides: `data=NAME` and `data.KEY=VALUE` for other images than the run's; `augment...` for another
            preprocessing, such as a resize where images have other sizes. A set of the run's name is carved as the run's
            was, unless its `CARVING` is given.
        layer: A stage or another part (see `model.is_in`), whose last layer's output is taken: `fc7` after its
            activation, `conv5` after its pooling. None: the one before the last.

    Raises:
        ConfigError: If there is no such layer, or the images do not fit the network.
        DataError: If the images are not there.
        RunError: If the run has not finished.
    """
    network = run.model()
    *before, _ = part_names(network)
    layer = layer or (before or part_names(network))[-1]
    output = network.layers[end_of(network, layer, "--layer")].output
    config = _with_overrides(run.config, overrides)
    source = data.load_source(config.data) if overrides else run.load_source()
    if source.channels != config.model.input_channels:
        raise ConfigError(
            f"data.channels={source.channels}: expected {config.model.input_channels}, as {run.path} was trained with"
        )
    flat = keras.Model(network.inputs[0], keras.layers.Flatten(dtype=output.dtype, name="features")(output))
    extraction = Extraction(run, config, source, layer, flat)
    extraction.check_preprocessing()
    return extraction


def _with_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """A run's config with other data or preprocessing; a group that is chosen anew takes the place of the run's."""
    sections = {text: override_key(text).partition(".")[0] for text in overrides}
    if wrong := [text for text, section in sections.items() if section not in ("data", "augment")]:
        raise ConfigError(
            f"{wrong[0]}: expected data=NAME, data.KEY=VALUE, augment=NAME or augment.KEY=VALUE"
        )
    anew = {section for text, section in sections.items() if override_key(text) == section}
    composed = compose(
        [
            f"seed={config.seed}",
            f"model.input_size={config.model.input_size}",
            *([] if "augment" in anew else ["augment=center"]),  # of which nothing is taken
            *(text for text, section in sections.items() if section in anew),
        ]
    )
    chosen = {section: to_dict(getattr(composed, section)) for section in anew}
    # What was trained on must not come to be held out.
    if "data" in anew and composed.data.name == config.data.name:
        typed = {override_key(text) for text in overrides}
        kept = [key for key in CARVING if f"data.{key}" not in typed]
        chosen["data"] |= {key: getattr(config.data, key) for key in kept}
    changed = [text.lstrip("+") for text, section in sections.items() if section not in anew]
    return from_dict({**to_dict(config), **chosen}, changed)


# ------------------------------------------------------------------------------------------------- the file


def write_features(
    extraction: Extraction, out: Path, *, batch_size: int = 128, told: Told = lambda *_: None
) -> None:
    """Write the features of all splits, block by block, so that memory holds one; atomic.

    `.npz`: `features` float32 `[N, F]`, `labels` int32 `[N]`, `ids` int64 `[N]`, `split` and `class_names` strings.
    `.parquet`: the columns `split`, `id`, `label`, `class_name` and `features` (lists of F floats), a row group a block.

    Args:
        extraction: From `prepare_extraction`.
        out: Ends in one of `KINDS`; its folder is made.
        batch_size: Images at once.
        told: Hears of the progress.

    Raises:
        ConfigError: As `check_features_file`.
        WriteError: If the file cannot be written.
        DataError: If an image cannot be read.
    """
    check_features_file(out)

    def blocks() -> Iterator[Block]:
        done = 0
        for block in extraction.blocks(batch_size):
            yield block
            done += len(block.labels)
            told(done, extraction.total)

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(out, error) from error
    with replacing(out) as temporary:
        KINDS[out.suffix].write(temporary, extraction, blocks())


def read_features(path: Path) -> Iterator[Block]:
    """Yield what `write_features` wrote, split by split, with a part in memory at a time."""
    return KINDS[path.suffix].read(path)


def _write_npz(path: Path, extraction: Extraction, blocks: Iterator[Block]) -> None:
    """An archive whose largest array is written while it comes, behind a header that knows its shape."""
    shape = (extraction.total, extraction.width)
    rest: list[Block] = []
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("features.npy", "w", force_zip64=True) as entry:
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(entry, header)
            for block in blocks:
                entry.write(np.ascontiguousarray(block.features, "<f4").tobytes())
                rest.append(Block(block.split, block.features[:0], block.labels, block.ids))
        columns: dict[str, np.ndarray] = {
            "labels": np.concatenate([block.labels for block in rest]).astype(np.int32),
            "ids": np.concatenate([block.ids for block in rest]).astype(np.int64),
            "split": np.repeat([block.split for block in rest], [len(block.ids) for block in rest]),
            "class_names": np.array(extraction.source.class_names),
        }
        for name, array in columns.items():
            with archive.open(f"{name}.npy", "w") as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


def _read_npz(path: Path) -> Iterator[Block]:
    with np.load(path, allow_pickle=False) as content:
        labels, ids, splits = content["labels"], content["ids"], content["split"]
    begins = np.flatnonzero(np.append(True, splits[1:] != splits[:-1]))
    with zipfile.ZipFile(path) as archive, archive.open("features.npy") as entry:
        np.lib.format.read_magic(entry)
        (_, width), _, dtype = np.lib.format.read_array_header_1_0(entry)
        for begin, end in pairwise([*begins, len(splits)]):
            for start in range(begin, end, ROWS):
                part = slice(start, min(start + ROWS, end))
                rows = np.frombuffer(entry.read((part.stop - start) * width * dtype.itemsize), dtype)
                yield Block(str(splits[start]), rows.reshape(-1, width), labels[part], ids[part])


def _write_parquet(path: Path, extraction: Extraction, blocks: Iterator[Block]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    names, width = extraction.source.class_names, extraction.width
    schema = pa.schema(
        {
            "split": pa.string(),
            "id": pa.int64(),
            "label": pa.int32(),
            "class_name": pa.string(),
            "features": pa.list_(pa.float32(), width),
        },
        metadata={"class_names": json.dumps(names), "layer": extraction.layer},
    )
    with parquet.ParquetWriter(path, schema) as writer:
        for block in blocks:
            columns: list[Any] = [
                [block.split] * len(block.ids),
                block.ids,
                block.labels,
                [names[label] for label in block.labels],
                pa.FixedSizeListArray.from_arrays(pa.array(block.features.ravel()), width),
            ]
            writer.write_table(pa.table(columns, schema=schema))


def _read_parquet(path: Path) -> Iterator[Block]:
    """A row group is of one block, and so of one split."""
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            labels, ids = (table[name].to_numpy() for name in ("label", "id"))
            rows = table["features"].combine_chunks().flatten().to_numpy().reshape(len(labels), -1)
            yield Block(table["split"][0].as_py(), rows, labels, ids)


class Kind(NamedTuple):
    """How features are written to a kind of file, and read."""

    write: Callable[[Path, Extraction, Iterator[Block]], None]
    read: Callable[[Path], Iterator[Block]]


KINDS = {".npz": Kind(_write_npz, _read_npz), ".parquet": Kind(_write_parquet, _read_parquet)}
"""By the end of a file's name."""


# ------------------------------------------------------------------------------------------- the classifier


def check_fit(extraction: Extraction) -> None:
    """Raise `ConfigError` if there are too few training examples for a classifier, before features are made of them."""
    count = extraction.source.split("train").num_examples
    if count < FEWEST:
        raise ConfigError(
            f"data.train_examples: expected at least {FEWEST} for a classifier, {extraction.source.name} has {count}; "
            "leave the classifier out with --no-fit"
        )


def fit_probe(path: Path, classes: int, seed: int = 0) -> "LinearProbe":
    """A classifier fitted on the features of a file's training split, and measured on those of all.

    Args:
        path: What `write_features` wrote.
        classes: How many there are.
        seed: Of the choice of C and the solver.

    Raises:
        ConfigError: If the training split is too small.
    """
    probe = LinearProbe(classes, seed)
    for block in read_features(path):
        probe.add(block)
    probe.finish()
    return probe


@dataclass
class LinearProbe:
    """A linear classifier on features, fitted when the training split is there and measured on what follows.

    Only the training split's features are kept. The other splits have no part in the choice of C.

    Args:
        classes: How many there are.
        seed: Of the choice of C and the solver.
    """

    classes: int
    seed: int = 0
    c: float | None = None
    """What was chosen, once it is fitted."""
    svm: LinearSVM | None = None
    errors: dict[str, int] = field(default_factory=dict)
    examples: dict[str, int] = field(default_factory=dict)
    train: list[Block] = field(default_factory=list)

    def add(self, block: Block) -> None:
        """See some examples."""
        if block.split == "train":
            self.train.append(block)
        else:
            self._measure(block)

    def finish(self) -> None:
        """Measure the training split too; nothing comes any more.

        Raises:
            ConfigError: If the training split is too small.
        """
        self._fitted()
        for block in self.train:
            self._measure(block)
        self.train.clear()

    def _measure(self, block: Block) -> None:
        wrong = self._fitted().scores(block.features).argmax(axis=1) != block.labels
        self.errors[block.split] = self.errors.get(block.split, 0) + int(wrong.sum())
        self.examples[block.split] = self.examples.get(block.split, 0) + len(wrong)

    def _fitted(self) -> LinearSVM:
        if self.svm is None:
            features = np.concatenate([block.features for block in self.train])
            labels = np.concatenate([block.labels for block in self.train])
            try:
                self.svm, self.c = fit_best_svm(features, labels, self.classes, seed=self.seed)
            except ValueError as error:
                raise ConfigError(f"{error}; leave the classifier out with --no-fit") from error
        return self.svm

    def rows(self) -> list[list[str]]:
        """For each split its name, examples, and error in per cent with its 95 % Wilson interval."""
        found = []
        for split, count in sorted(self.examples.items()):
            wrong = self.errors[split]
            low, high = wilson(wrong, count)
            found.append(
                [split, f"{count:,}", f"{100 * wrong / count:.2f} [{100 * low:.2f}, {100 * high:.2f}]"]
            )
        return found
