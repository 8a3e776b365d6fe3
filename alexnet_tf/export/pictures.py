"""Raw images of a run's data, with their labels, from all over a split."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from alexnet_tf.data import DataSource, explain_error, raw_examples


@dataclass(frozen=True)
class Pictures:
    """Images uint8 `[H, W, C]` as they are stored, and their labels int `[n]`."""

    images: list[np.ndarray]
    labels: np.ndarray

    def batches(self) -> list[np.ndarray]:
        """The images `[N, H, W, C]`, all in one batch if they have one size, else each in its own."""
        if len({image.shape for image in self.images}) == 1:
            return [np.stack(self.images)]
        return [image[np.newaxis] for image in self.images]


def read_pictures(source: DataSource, split_name: str, most: int) -> Pictures:
    """At most so many images of a split, evenly spread over it; the first ones where it can only be read in order.

    Raises:
        UnreadableImageError: If an image is damaged.
    """
    split = source.split(split_name)
    count = min(most, split.num_examples)
    places = np.linspace(0, split.num_examples - 1, count).astype(int)
    examples = raw_examples(source, split_name, places if split.ids is None else split.ids[places])
    try:
        found = [(image.numpy(), int(label)) for image, label, *_ in examples]
    except tf.errors.OpError as error:
        if known := explain_error(error, source):
            raise known from error
        raise
    return Pictures([image for image, _ in found], np.array([label for _, label in found]))
