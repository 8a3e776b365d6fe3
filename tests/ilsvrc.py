"""A miniature of ILSVRC-2012 in the layout of the original archives: an archive of archives, and one of pictures."""

import io
import tarfile
from pathlib import Path

import numpy as np
import tensorflow as tf

SYNSETS = ("n01440764", "n02119789", "n15075141")
TRAIN, VALIDATION = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"


def picture(generator: np.random.Generator) -> np.ndarray:
    """Blocks of noise, as big as small originals are: uint8 [height, width, 3]."""
    height, width = (int(side) for side in generator.integers(260, 330, 2))
    blocks = generator.integers(0, 256, (height // 10, width // 10, 3), np.uint8)
    return np.repeat(np.repeat(blocks, 10, 0), 10, 1)


def jpeg(generator: np.random.Generator) -> bytes:
    return tf.io.encode_jpeg(picture(generator)).numpy()


def write_archives(
    folder: Path,
    *,
    seed: int = 0,
    per_class: int = 6,
    validation: int = 8,
    others: dict[str, bytes] | None = None,
) -> None:
    """Write both archives.

    Args:
        folder: It is made.
        seed: Of the pictures.
        per_class: Training pictures of each of `SYNSETS`.
        validation: Their number.
        others: The bytes of pictures that are no such noise, by name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    others = others or {}
    with tarfile.open(folder / TRAIN, "w") as archive:
        for synset in SYNSETS:
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as images:
                for number in range(per_class):
                    name = f"{synset}_{number}.JPEG"
                    add(images, name, others.get(name) or jpeg(generator))
            add(archive, f"{synset}.tar", inner.getvalue())
    with tarfile.open(folder / VALIDATION, "w") as archive:
        for number in reversed(range(1, validation + 1)):  # they are in no order there either
            name = f"ILSVRC2012_val_{number:08d}.JPEG"
            add(archive, name, others.get(name) or jpeg(generator))


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))
