"""Raw images of a run's data, with their labels, from all over a split."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from alexnet_tf.data import DataSource, explained, raw_examples

MOST_BYTES = 2**28
"""Images are read until they have so many bytes: some of those of a camera, all of those of a set for training."""
BATCH_BYTES = 2**26
"""Images of one size are in one batch up to here: what looks at a batch has it in float32 too, in several copies."""


@dataclass(frozen=True)
class Pictures:
    """Images uint8 `[H, W, C]` as they are stored, and their labels int `[n]`."""

    images: list[np.ndarray]
    labels: np.ndarray

    def batches(self) -> list[np.ndarray]:
        """The images `[N, H, W, C]`, all in one batch if they are small and have one size, else each in its own."""
        total = sum(image.nbytes for image in self.images)
        if len({image.shape for image in self.images}) == 1 and total <= BATCH_BYTES:
            return [np.stack(self.images)]
        return [image[np.newaxis] for image in self.images]


def read_pictures(source: DataSource, split_name: str, most: int) -> Pictures:
    """At most so many images of a split, and one at least, but no more when they have `MOST_BYTES`.

    Raises:
        DamagedError: If an image is damaged.
    """
    images, labels, size = [], [], 0
    for image, label in each_picture(source, split_name, most):
        images.append(image)
        labels.append(label)
        size += image.nbytes
        if size >= MOST_BYTES:
            break
    return Pictures(images, np.array(labels))


def each_picture(source: DataSource, split_name: str, most: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yield at most so many images of a split and their labels; the first ones where it can only be read in order.

    Else they are evenly spread over it, and so are, roughly, those of any beginning.

    Raises:
        DamagedError: If an image is damaged.
    """
    split = source.split(split_name)
    places = split.spread(most)
    if split.ids is not None:
        places = split.ids[np.random.default_rng(0).permutation(places)]
    with explained(source):
        for image, label, *_ in raw_examples(source, split_name, places):
            yield image.numpy(), int(label)
