"""Raw images of a run's data, with their labels, from all over a split."""

from dataclasses import dataclass

import numpy as np

from alexnet_tf.data import DataSource, explained, raw_examples


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
    places = split.spread(most)
    examples = raw_examples(source, split_name, places if split.ids is None else split.ids[places])
    with explained(source):
        found = [(image.numpy(), int(label)) for image, label, *_ in examples]
    return Pictures([image for image, _ in found], np.array([label for _, label in found]))
