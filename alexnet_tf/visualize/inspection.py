"""What a data set looks like before a network sees it: a contact sheet, classes, sizes, duplicates."""

import dataclasses
import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from alexnet_tf import data
from alexnet_tf.config import Config
from alexnet_tf.config.schema import AugmentConfig
from alexnet_tf.pages import (
    COLOURS,
    GREY,
    LITERAL,
    STYLE,
    WIDTH,
    Page,
    Picture,
    TextTable,
    short,
    write_page,
)
from alexnet_tf.runs import RunError
from alexnet_tf.visualize.drawing import draw_image

NAMED_CLASSES = 30
"""With more classes their counts are a curve and not bars with names."""
SMALLEST = 32
"""Pixels of the shorter side below which pictures are alike too easily."""
LISTED = 50


@dataclass(eq=False)
class _Split:
    """What one pass over a split found."""

    name: str
    num_examples: int
    labels: list[int] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    grey: int = 0
    exact: dict[bytes, list[int]] = field(default_factory=lambda: defaultdict(list))
    near: dict[bytes, list[int]] = field(default_factory=lambda: defaultdict(list))

    def add(self, image: np.ndarray, label: int, index: int, hashed: np.ndarray) -> None:
        self.labels.append(label)
        self.sizes.append((image.shape[1], image.shape[0]))
        self.grey += bool((image == image[..., :1]).all())
        content = hashlib.blake2b(np.array(image.shape).tobytes() + image.tobytes(), digest_size=16).digest()
        self.exact[content].append(index)
        if hashed.any() and min(image.shape[:2]) >= SMALLEST:  # a picture of one colour is like every other
            self.near[np.packbits(hashed).tobytes()].append(index)


def inspect_data(
    config: Config,
    out: Path,
    *,
    samples: int = 8,
    draws: int = 7,
    limit: int = 20_000,
    told: Callable[[int, int], None] = lambda *_: None,
) -> Page:
    """Read a data set once and write `index.html` with pictures into a folder.

    Args:
        config: Its data, its augmentation and its seed.
        out: The folder.
        samples: Training images on the contact sheet.
        draws: Epochs of each.
        limit: Images of each split that are read, spread evenly over it.
        told: Called with (images done, images in all).

    Raises:
        DataError: The data are not there or cannot be read.
        RunError: The folder cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{out}: cannot be written ({error.strerror})") from error
    source = data.load_source(config.data)
    with data.explained(source):
        page = _inspect(config, source, samples, draws, limit, told)
    write_page(page, out / "index.html")
    return page


def _inspect(
    config: Config,
    source: data.DataSource,
    samples: int,
    draws: int,
    limit: int,
    told: Callable[[int, int], None],
) -> Page:
    splits = [_Split(name, split.num_examples) for name, split in source.splits.items()]
    total, done = sum(min(limit, split.num_examples) for split in splits), 0
    for split in splits:
        for image, label, index, hashed in _examples(source, split.name, limit):
            split.add(image, int(label), int(index), hashed)
            done += 1
            told(done, total)
    exact, near = _groups(splits, "exact"), _groups(splits, "near")
    alike = near if any(split.near for split in splits) else None
    return Page(
        title=f"The data set {_title(config)}",
        answers=[
            *(_sentence(split, source.class_names) for split in splits),
            *_duplicate_sentences(exact, alike),
        ],
        pictures=[
            contact_sheet(source, config.augment, seed=config.seed, samples=samples, draws=draws),
            _class_picture(splits, source.class_names),
            *_size_picture(splits),
        ],
        results=[_split_table(splits)],
        details=[
            table
            for table in (_class_table(splits, source.class_names), _duplicate_table(source, exact, near))
            if table.rows
        ],
    )


def _title(config: Config) -> str:
    """The set's name; of a folder that too."""
    folder = config.data.dir if config.data.name in ("folder", "prepared") else None
    return Path(folder).resolve().name if folder else config.data.name


def _examples(source: data.DataSource, split: str, limit: int) -> tf.data.NumpyIterator:
    """Yield (image, label, id, difference hash) of a split."""
    part, ids = source.split(split), None
    if limit < part.num_examples:
        places = part.spread(limit)
        ids = places if part.ids is None else part.ids[places]
    examples = data.raw_examples(source, split, ids)
    hashed = examples.map(
        tf.autograph.experimental.do_not_convert(
            lambda image, label, index: (image, label, index, difference_hash(image))
        ),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    return hashed.prefetch(8).as_numpy_iterator()


def difference_hash(image: tf.Tensor) -> tf.Tensor:
    """Return bool [8, 8]: where the grey image of 8x9 pixels becomes brighter to the right.

    The "dHash" of Neal Krawetz (2013): it stays the same when a picture is made smaller or saved again.

    Args:
        image: uint8 [height, width, channels].
    """
    grey = tf.reduce_mean(tf.cast(image, tf.float32), axis=-1, keepdims=True)
    small = tf.image.resize(grey, [8, 9], antialias=True)[..., 0]
    return small[:, 1:] > small[:, :-1] + 0.5  # by half a level at least, so that rounding does not decide


# ------------------------------------------------------------------------------------------------- pictures


def contact_sheet(
    source: data.DataSource, augment: AugmentConfig, *, seed: int, samples: int = 8, draws: int = 7
) -> Picture:
    """Draw training images as they are stored, and beside each what its first epochs make of it.

    Args:
        source: The data set.
        augment: The operations; those of `data.NORMALISING` are left out.
        seed: The run's seed: the images are those that training with it would see.
        samples: Images.
        draws: Epochs.
    """
    names = [name for name in augment.order if name not in data.NORMALISING]
    shown = dataclasses.replace(augment, order=names)
    statistics = data.compute_statistics(source, augment)  # of the order with all, as training has them
    ids = np.sort(data.probe_ids(source, samples, seed))
    stored = data.raw_examples(source, "train", ids).as_numpy_iterator()
    views = [
        data.augmented_images(source, shown, statistics, seed=seed, epoch=epoch, ids=ids)
        for epoch in range(draws)
    ]
    with mpl.rc_context(LITERAL):
        figure = Figure(figsize=(draws + 1, len(ids) * 1.15))
        axes = figure.subplots(
            len(ids), draws + 1, squeeze=False, gridspec_kw={"wspace": 0.06, "hspace": 0.25}
        )
        for row, (image, label, _) in enumerate(stored):
            for column in range(draws + 1):
                ax = axes[row, column]
                draw_image(ax, image if column == 0 else views[column - 1][row])
                if row == 0:
                    ax.set_title("stored" if column == 0 else f"epoch {column}", fontsize=8)
            axes[row, 0].set_xlabel(short(source.class_names[label]), fontsize=8, labelpad=2)
    done = ", ".join(names) or "none"
    return Picture(
        "contact_sheet",
        figure,
        f"{len(ids)} training images in rows: as stored, then as epochs 1 to {draws} show them to the network.",
        f"Training images as stored and as their first epochs show them (seed {seed}). Operations: {done}; left out: "
        f"{', '.join(name for name in augment.order if name in data.NORMALISING) or 'none'}.",
        photographs=True,
    )


def _class_picture(splits: list[_Split], class_names: list[str]) -> Picture:
    """How many images each class has."""
    counts = {split.name: np.bincount(split.labels, minlength=len(class_names)) for split in splits}
    with mpl.rc_context(LITERAL):
        if len(class_names) <= NAMED_CLASSES:
            figure = Figure(figsize=(WIDTH, 1.3 + 0.3 * len(class_names)), layout="constrained")
            ax = figure.subplots()
            height = 0.8 / len(splits)
            for index, (name, values) in enumerate(counts.items()):
                places = np.arange(len(class_names)) + index * height
                ax.barh(places, values, height, color=COLOURS[index], label=name)
            ax.set_yticks(
                np.arange(len(class_names)) + 0.4 - height / 2, [short(name, 24) for name in class_names]
            )
            ax.invert_yaxis()
            ax.grid(visible=False, axis="y")
            ax.set_xlabel("Images")
        else:
            figure = Figure(figsize=(WIDTH, 3), layout="constrained")
            ax = figure.subplots()
            for index, (name, values) in enumerate(counts.items()):
                ax.plot(
                    np.arange(1, len(values) + 1), np.sort(values)[::-1], color=COLOURS[index], label=name
                )
            ax.set_xlabel("Classes, the largest first")
            ax.set_ylabel("Images")
            ax.set_ylim(0)
        figure.legend(loc="outside upper center", ncols=len(splits))
    numbers = "; ".join(f"{name}: {values.min():,} to {values.max():,}" for name, values in counts.items())
    return Picture(
        "classes", figure, f"Images of each class. {numbers} of each.", f"Images of each class. {numbers}."
    )


def _size_picture(splits: list[_Split]) -> list[Picture]:
    """Widths against heights, where they differ."""
    sizes = [size for split in splits for size in split.sizes]
    if len(set(sizes)) < 2:
        return []
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, WIDTH), layout="constrained")
        ax = figure.subplots()
        for index, split in enumerate(splits):
            widths, heights = zip(*split.sizes, strict=True)
            ax.plot(widths, heights, ".", color=COLOURS[index], alpha=0.5, markersize=4, label=split.name)
        limit = max(max(size) for size in sizes) * 1.05
        ax.plot([0, limit], [0, limit], color=GREY, linewidth=0.8)
        ax.set(
            xlim=(0, limit),
            ylim=(0, limit),
            xlabel="Width in pixels",
            ylabel="Height in pixels",
            aspect="equal",
        )
        figure.legend(loc="outside upper center", ncols=len(splits))
    widths, heights = np.transpose(sizes)
    text = (
        f"Sizes of the images as stored: {widths.min():,} to {widths.max():,} pixels wide, "
        f"{heights.min():,} to {heights.max():,} high; on the line they are square."
    )
    return [Picture("sizes", figure, f"A point for each image. {text}", text)]


# ---------------------------------------------------------------------------------------- sentences, tables


def _sentence(split: _Split, class_names: list[str]) -> str:
    counts = np.bincount(split.labels, minlength=len(class_names))
    read = "" if len(split.labels) == split.num_examples else f", of which {len(split.labels):,} were read"
    sizes = Counter(split.sizes)
    size = (
        f"all of {split.sizes[0][0]}x{split.sizes[0][1]} pixels"
        if len(sizes) == 1
        else f"of {len(sizes):,} sizes"
    )
    empty = f"; {(counts == 0).sum()} classes have none" if (counts == 0).any() else ""
    return (
        f"{split.name}: {split.num_examples:,} images{read}, {counts.min():,} to {counts.max():,} of each of "
        f"{len(class_names):,} classes{empty}, {size}, {split.grey:,} without colour."
    )


Group = list[tuple[str, int]]
"""Images that are alike, as (split, id)."""


def _groups(splits: list[_Split], kind: str) -> list[Group]:
    """The groups of more than one image by `exact` or `near` keys."""
    together: dict[bytes, list[tuple[str, int]]] = defaultdict(list)
    for split in splits:
        for key, ids in getattr(split, kind).items():
            together[key] += [(split.name, index) for index in ids]
    return [group for group in together.values() if len(group) > 1]


def _shared(groups: list[Group]) -> int:
    return sum(len({split for split, _ in group}) > 1 for group in groups)


def _duplicate_sentences(exact: list[Group], near: list[Group] | None) -> list[str]:
    """How many images repeat another one; `near` is None where no image was large enough to compare so."""
    said = []
    for groups, what in ((exact, "equal to the pixel"), (near, "nearly alike (equal difference hashes)")):
        if groups is None:
            continue
        surplus = sum(len(group) - 1 for group in groups)
        said.append(
            f"{surplus:,} images repeat another one, {what}; {_shared(groups):,} such groups are in several splits."
            if groups
            else f"No two images are {what}."
        )
    return said


def _split_table(splits: list[_Split]) -> TextTable:
    rows = [
        (
            split.name,
            f"{split.num_examples:,}",
            f"{len(split.labels):,}",
            f"{len(set(split.labels)):,}",
            f"{split.grey:,}",
        )
        for split in splits
    ]
    return TextTable("Splits", ("Split", "Images", "Read", "Classes", "Without colour"), rows, numeric=True)


def _class_table(splits: list[_Split], class_names: list[str]) -> TextTable:
    counts = [np.bincount(split.labels, minlength=len(class_names)) for split in splits]
    rows = [(name, *(f"{values[label]:,}" for values in counts)) for label, name in enumerate(class_names)]
    columns = ("Class", *(split.name for split in splits))
    return TextTable("Images of each class", columns, rows, numeric=True, wide=True)


def _duplicate_table(source: data.DataSource, exact: list[Group], near: list[Group]) -> TextTable:
    known = {member for group in exact for member in group}
    kinds = [("equal", group) for group in exact]
    kinds += [("alike", group) for group in near if not known.issuperset(group)]
    rows = [
        (
            kind,
            ", ".join(f"{split} {_name(source, split, index)}" for split, index in group[:6])
            + (", ..." if len(group) > 6 else ""),
        )
        for kind, group in kinds[:LISTED]
    ]
    more = f" (the first {LISTED} of {len(kinds):,} groups)" if len(kinds) > LISTED else ""
    return TextTable(f"Images that repeat{more}", ("Images are", "which"), rows, prose=True, wide=True)


def _name(source: data.DataSource, split: str, index: int) -> str:
    paths = getattr(source.split(split).store, "paths", None)
    return str(index) if paths is None else "/".join(paths[index].parts[-2:])
